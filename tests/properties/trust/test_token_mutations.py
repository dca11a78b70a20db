"""A token that was changed anywhere never verifies, and reading one never fails in another way than by refusing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_tokens import EC_KEY, RSA_KEY, at, by_joserfc
from remit.kernel.errors import Rejected
from remit.trust import jose
from remit.trust.testing import NOON

CLAIMS = {"iss": "https://i.example", "sub": "a", "aud": "x", "exp": at(minutes=5), "iat": at(), "n": {"b": [1, 2]}}
TOKENS = {
    alg: by_joserfc(CLAIMS, key=key, alg=alg)
    for alg, key in (("RS256", RSA_KEY), ("PS256", RSA_KEY), ("ES256", EC_KEY))
}
KEYS: dict[str, Any] = {"RS256": RSA_KEY.public_key(), "PS256": RSA_KEY.public_key(), "ES256": EC_KEY.public_key()}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0é"
SPOTS = st.lists(
    st.tuples(st.integers(0, 5000), st.sampled_from(LETTERS), st.sampled_from("rid")), min_size=1, max_size=6
)


def verify(alg: str, token: str) -> jose.Verified:
    return jose.verify(token, KEYS[alg], jose.Profile(), now=NOON, issuer="https://i.example", audience="x")


@pytest.mark.parametrize("alg", sorted(TOKENS))
def test_the_token_itself_verifies(alg: str) -> None:
    assert verify(alg, TOKENS[alg]).claims == CLAIMS


@settings(max_examples=300, deadline=None)
@given(alg=st.sampled_from(sorted(TOKENS)), spots=SPOTS)
def test_a_changed_token_never_verifies(alg: str, spots: list[tuple[int, str, str]]) -> None:
    letters = list(TOKENS[alg])
    for where, letter, how in spots:
        spot = where % (len(letters) or 1)
        letters[spot : spot + (how != "i")] = [letter] if how != "d" else []
    changed = "".join(letters)
    if changed == TOKENS[alg]:
        return
    with pytest.raises(Rejected):
        verify(alg, changed)


@settings(max_examples=300, deadline=None)
@given(head=st.binary(max_size=60), body=st.binary(max_size=60), signature=st.binary(max_size=80))
def test_reading_anything_refuses_or_reads(head: bytes, body: bytes, signature: bytes) -> None:
    text = b".".join(jose.encode_base64url(one) for one in (head, body, signature)).decode()
    try:
        jose.read(text, jose.Profile())
    except Rejected as refused:
        assert refused.code in ("trust.jose.malformed", "trust.jose.algorithm")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    header=st.fixed_dictionaries({}, optional=dict.fromkeys(("alg", "kid", "typ"), JSON)),
    claims=st.fixed_dictionaries({}, optional=dict.fromkeys(("iss", "sub", "aud", "exp", "nbf", "iat", "jti"), JSON)),
)
def test_members_of_any_kind_are_refused_in_one_way(header: dict[str, Any], claims: dict[str, Any]) -> None:
    import json

    parts = (json.dumps({"alg": "ES256", **header}), json.dumps(claims), "x" * 64)
    text = ".".join(jose.encode_base64url(one.encode("utf-8", "surrogatepass")).decode() for one in parts)
    with pytest.raises(Rejected):
        verify("ES256", text)
    checked = {name: value for name, value in claims.items() if value == value}
    try:
        jose.check_claims(checked, jose.Profile(), now=NOON, issuer=None, audience="x")
    except Rejected as refused:
        assert refused.code.startswith("trust.jose.")
