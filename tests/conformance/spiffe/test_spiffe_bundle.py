"""SPIFFE Trust Domain and Bundle, clause by clause (spiffe/spiffe standards/SPIFFE_Trust_Domain_and_Bundle.md)."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe_issued import issued

from certificates import root
from remit.kernel.errors import Rejected
from remit.trust import Bundle, TrustDomain
from remit.trust.bundle import jwk_of
from remit.trust.federation.document import read_bundle

DOMAIN = TrustDomain("partner.test")
ROOT, OTHER = root("partner.test"), root("partner.test")
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def x509_entry(*certificates: Any, **more: Any) -> dict[str, Any]:
    shown = {"x5c": [b64encode(one.der).decode() for one in certificates]} if certificates else {}
    return {"use": "x509-svid", **jwk_of(ROOT.key.public_key()), **shown, **more}


def jwt_entry(kid: Any = "k", **more: Any) -> dict[str, Any]:
    made = {"use": "jwt-svid", **jwk_of(KEY), "kid": kid, **more}
    return {name: value for name, value in made.items() if value is not None}


def read(*keys: Any, **more: Any) -> Bundle:
    return Bundle.parse(DOMAIN, json.dumps({"keys": list(keys), **more}).encode())


def document() -> dict[str, Any]:
    found = json.loads(issued().bundle.document())
    assert isinstance(found, dict)
    return found


# What we publish.


def test_4_1_1_it_has_a_sequence_number() -> None:
    assert document()["spiffe_sequence"] == issued().bundle.sequence > 0


def test_4_1_2_it_has_a_refresh_hint_in_seconds() -> None:
    assert document()["spiffe_refresh_hint"] == 300


def test_4_1_3_every_key_has_kty_and_use() -> None:
    assert {(one["kty"], one["use"]) for one in document()["keys"]} == {("EC", "x509-svid"), ("EC", "jwt-svid")}


def test_x509_6_2_an_x509_entry_has_one_certificate_and_no_kid() -> None:
    for one in document()["keys"]:
        if one["use"] == "x509-svid":
            assert len(one["x5c"]) == 1
            assert "kid" not in one


def test_jwt_6_2_a_jwt_entry_has_a_kid_and_no_certificate() -> None:
    for one in document()["keys"]:
        if one["use"] == "jwt-svid":
            assert one["kid"]
            assert "x5c" not in one


def test_it_holds_public_keys_alone() -> None:
    assert not any({"d", "p", "q", "dp", "dq", "qi", "k"} & one.keys() for one in document()["keys"])


def test_what_we_publish_we_read() -> None:
    ours = issued().bundle
    assert Bundle.parse(ours.trust_domain, ours.document()) == ours


# What we read.


def test_4_1_3_no_keys_mean_that_all_are_revoked() -> None:
    found = read()
    assert (found.x509_roots, dict(found.jwt_keys)) == ((), {})


def test_4_1_3_a_document_without_keys_is_malformed() -> None:
    with pytest.raises(Rejected):
        Bundle.parse(DOMAIN, b'{"spiffe_sequence": 1}')


@pytest.mark.parametrize(
    "more", [{"kty": "OKP"}, {"kty": "oct"}, {"kty": None}, {"use": "wit-svid"}, {"use": "sig"}, {"use": None}]
)
def test_4_2_an_entry_of_unknown_kty_or_use_is_ignored(more: dict[str, Any]) -> None:
    found = read(x509_entry(OTHER, **more), jwt_entry("other", **more), x509_entry(ROOT), jwt_entry())
    assert found.x509_roots == (ROOT.der,)
    assert set(found.jwt_keys) == {"k"}


def test_4_1_unknown_members_are_ignored() -> None:
    found = read(x509_entry(ROOT, extra=1), jwt_entry(extra=[1]), another={"a": 1})
    assert (len(found.x509_roots), len(found.jwt_keys)) == (1, 1)


def test_x509_6_2_values_after_the_first_of_x5c_are_ignored() -> None:
    assert read(x509_entry(ROOT, OTHER)).x509_roots == (ROOT.der,)


@pytest.mark.parametrize("chain", [None, [], "text", [1]])
def test_x509_6_2_an_entry_without_a_certificate_is_ignored(chain: Any) -> None:
    assert read(x509_entry(x5c=chain), x509_entry(ROOT)).x509_roots == (ROOT.der,)


@pytest.mark.parametrize(
    "text", ["AAAA", "!!!!", "MIIB", b64encode(ROOT.der[:-4]).decode(), b64encode(ROOT.der + b"x").decode()]
)
def test_x509_6_2_a_certificate_that_cannot_be_read_is_malformed(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        read(x509_entry(x5c=[text]))
    assert refused.value.code == "trust.bundle.malformed"


@pytest.mark.parametrize("kid", [None, "", 1])
def test_jwt_6_2_an_entry_without_a_kid_is_ignored(kid: Any) -> None:
    assert set(read(jwt_entry(kid), jwt_entry("k")).jwt_keys) == {"k"}


def test_jwt_6_2_a_kid_twice_is_malformed() -> None:
    with pytest.raises(Rejected):
        read(jwt_entry("k"), jwt_entry("k"))


@pytest.mark.parametrize(
    "more", [{"x": "AAAA"}, {"y": ""}, {"x": 1}, {"crv": "P-999"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]
)
def test_a_key_that_is_none_is_malformed(more: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        read(jwt_entry(**more))
    assert refused.value.code == "trust.bundle.malformed"


@pytest.mark.parametrize(
    ("value", "sequence"), [(0, 0), (2**64 - 1, 2**64 - 1), (2**64, 0), (-1, 0), (1.5, 0), ("1", 0), (True, 0)]
)
def test_4_1_1_a_sequence_is_an_unsigned_number_of_64_bits(value: Any, sequence: int) -> None:
    assert read(spiffe_sequence=value).sequence == sequence


@pytest.mark.parametrize(("value", "seconds"), [(60, 60), (0, 300), (None, 300), (-5, 300), ("60", 300), (10**9, 300)])
def test_4_1_2_a_hint_that_is_missing_or_absurd_is_five_minutes(value: Any, seconds: int) -> None:
    assert read(spiffe_refresh_hint=value).refresh_hint == timedelta(seconds=seconds)


def test_4_3_a_map_of_bundles_gives_each_domain_its_own_alone() -> None:
    bundles = {"partner.test": {"keys": [x509_entry(ROOT)]}, "other.test": {"keys": [x509_entry(OTHER)]}}
    whole = json.dumps({"trust_domains": bundles}).encode()
    assert read_bundle(DOMAIN, whole).x509_roots == (ROOT.der,)
    assert read_bundle(TrustDomain("other.test"), whole).x509_roots == (OTHER.der,)
    with pytest.raises(Rejected):
        read_bundle(TrustDomain("absent.test"), whole)


def test_4_3_a_domain_twice_in_a_map_is_malformed() -> None:
    one, two = (json.dumps({"keys": [x509_entry(each)]}) for each in (ROOT, OTHER))
    with pytest.raises(Rejected):
        read_bundle(DOMAIN, f'{{"trust_domains": {{"partner.test": {one}, "partner.test": {two}}}}}'.encode())


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b"{", b'{"keys": {}}', b"\xff", b"[" * 100_000, b'{"keys": [' + b" " * 1_100_000 + b"]}"],
)
def test_a_hostile_document_is_malformed(text: bytes) -> None:
    for reader in (Bundle.parse, read_bundle):
        with pytest.raises(Rejected) as refused:
            reader(DOMAIN, text)
        assert refused.value.code == "trust.bundle.malformed"


def test_the_number_of_keys_is_bounded() -> None:
    with pytest.raises(Rejected):
        read(*(jwt_entry(f"k{number}") for number in range(257)))


def test_an_entry_that_is_no_object_is_ignored() -> None:
    assert read(1, None, "x", [], x509_entry(ROOT)).x509_roots == (ROOT.der,)
