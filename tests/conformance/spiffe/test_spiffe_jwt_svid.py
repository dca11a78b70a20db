"""JWT-SVID, clause by clause (spiffe/spiffe standards/JWT-SVID.md); forgeries are made by joserfc."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey
from spiffe_issued import issued

from remit.kernel.errors import Rejected
from remit.trust.authority.jwt import subject_of, verify_token

KEY = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
P384, P521 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
KEYS = {"k": KEY.public_key(), "rsa": RSA.public_key(), "p384": P384.public_key(), "p521": P521.public_key()}
SIGNERS: dict[str, tuple[str, Any]] = {
    "ES256": ("k", KEY), "ES384": ("p384", P384), "ES512": ("p521", P521),
    **{f"{family}{bits}": ("rsa", RSA) for family in ("RS", "PS") for bits in ("256", "384", "512")},
}  # fmt: skip


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"sub": "spiffe://remit.test/job", "aud": ["orders"], "exp": now + 300, "iat": now, **changes}
    return {name: value for name, value in made.items() if value is not None}


def signed(body: Any = None, *, alg: str = "ES256", key: Any = None, **header: Any) -> str:
    kid, private = SIGNERS.get(alg, ("k", KEY))
    head = {"alg": alg, "kid": kid, "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not None}
    if key is None:
        key = (RSAKey if private is RSA else ECKey).import_key(private)
    payload = body if isinstance(body, bytes) else json.dumps(claims() if body is None else body)
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    return jws.serialize_compact(head, payload, key, algorithms=[alg], registry=registry)


def verified(token: str, audience: str = "orders") -> Any:
    return verify_token(token, KEYS, audience=audience, now=datetime.now(UTC))


def refused(token: str, audience: str = "orders") -> bool:
    try:
        verified(token, audience)
    except Rejected as error:
        return error.code.startswith(("trust.jwt_svid.", "trust.spiffe_id."))
    return False


# What we issue.


def test_2_the_header_has_alg_kid_and_typ_alone() -> None:
    header = issued().header
    assert set(header) == {"alg", "kid", "typ"}
    assert (header["alg"], header["typ"]) == ("ES256", "JWT")
    assert header["kid"] in issued().bundle.jwt_keys


def test_3_the_claims_name_subject_audience_and_expiry() -> None:
    body = issued().claims
    assert (body["sub"], body["aud"]) == ("spiffe://remit.test/job", ["orders"])
    assert body["exp"] > body["iat"]


def test_what_we_issue_we_accept() -> None:
    then = datetime.fromtimestamp(issued().claims["iat"], UTC)
    found = verify_token(issued().jwt.token, issued().bundle.jwt_keys, audience="orders", now=then)
    assert str(found.spiffe_id) == "spiffe://remit.test/job"


# What we accept.


@pytest.mark.parametrize("alg", SIGNERS)
def test_2_1_every_algorithm_of_the_table_is_accepted(alg: str) -> None:
    assert str(verified(signed(alg=alg)).spiffe_id) == "spiffe://remit.test/job"


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_2_1_a_shared_secret_is_refused_even_when_it_is_the_public_key(alg: str) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refused(signed(alg=alg, key=OctKey.import_key(urlsafe_b64encode(public))))


def by_hand(header: dict[str, Any], key: Any) -> str:
    """A token that no library would sign: whatever header, and a true signature by `key`."""
    signed_text = ".".join(
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims())
    )
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(signed_text.encode())
    else:
        r, s = decode_dss_signature(key.sign(signed_text.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{signed_text}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_2_1_eddsa_is_refused() -> None:
    assert refused(by_hand({"alg": "EdDSA", "kid": "k", "typ": "JWT"}, Ed25519PrivateKey.generate()))


def test_2_1_none_is_refused() -> None:
    def part(value: Any) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for signature in ("", "x"):
        assert refused(f"{part({'alg': 'none', 'kid': 'k'})}.{part(claims())}.{signature}")


def test_2_1_the_algorithm_must_be_the_keys_own() -> None:
    assert refused(signed(alg="RS256", kid="k"))
    assert refused(signed(alg="ES256", kid="p384"))


@pytest.mark.parametrize("kind", ["JWT", "JOSE", None])
def test_2_3_typ_is_jwt_or_jose_or_absent(kind: str | None) -> None:
    assert not refused(signed(typ=kind))


@pytest.mark.parametrize("kind", ["at+jwt", "txntoken+jwt", "jwt+x", ""])
def test_2_3_another_typ_is_refused(kind: str) -> None:
    assert refused(signed(typ=kind))


@pytest.mark.parametrize(
    "header", [{"jku": "https://evil.test"}, {"jwk": {"kty": "EC"}}, {"x5u": "u"}, {"crit": ["b64"]}, {"cty": "x"}]
)
def test_2_another_header_is_refused(header: dict[str, Any]) -> None:
    plain = {"alg": "ES256", "kid": "k", "typ": "JWT"}
    assert not refused(by_hand(plain, KEY))
    assert refused(by_hand({**plain, **header}, KEY))


def test_2_2_a_token_without_a_key_id_or_with_an_unknown_one_is_refused() -> None:
    assert refused(signed(kid=None))
    assert refused(signed(kid="another"))


@pytest.mark.parametrize(
    "subject", [None, "", "job", "https://remit.test/job", "spiffe://remit.test", 1, ["spiffe://remit.test/job"]]
)
def test_3_1_the_subject_is_a_spiffe_id(subject: Any) -> None:
    assert refused(signed(claims(sub=subject)))


@pytest.mark.parametrize("audience", [None, [], "", [""], ["other"], "other", [1], {"orders": 1}])
def test_3_2_the_audience_is_present_and_matches(audience: Any) -> None:
    assert refused(signed(claims(aud=audience)))


def test_3_2_an_audience_may_be_a_string_or_one_of_several() -> None:
    assert not refused(signed(claims(aud="orders")))
    assert not refused(signed(claims(aud=["other", "orders"])))


@pytest.mark.parametrize("expires", [None, 0, -1, 1.5e300, "tomorrow", True])
def test_3_3_the_expiry_is_present_and_a_number(expires: Any) -> None:
    assert refused(signed(claims(exp=expires)))


def test_3_3_an_expired_token_is_refused() -> None:
    assert refused(signed(claims(exp=int(time.time()) - 3600)))


def test_4_only_the_compact_form_is_accepted() -> None:
    token = signed()
    head, body, signature = token.split(".")
    general = json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})
    flattened = json.dumps({"payload": body, "protected": head, "signature": signature})
    for form in (
        general,
        flattened,
        f"{token}.",
        f"{head}.{body}",
        f"{token}.x.y",
        f" {token}",
        f"{token}\n",
        f"{token}=",
    ):
        assert refused(form)


def test_5_a_token_changed_anywhere_is_refused() -> None:
    head, body, signature = signed().split(".")
    other = signed(claims(sub="spiffe://remit.test/admin")).split(".")[1]
    assert refused(f"{head}.{other}.{signature}")
    assert refused(f"{head}.{body}.{signature[:-4]}AAAA")


def test_5_a_forged_token_of_a_published_kid_is_refused() -> None:
    assert refused(signed(key=ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))))


def test_6_the_subjects_trust_domain_chooses_the_bundle() -> None:
    assert subject_of(signed(claims(sub="spiffe://partner.test/a"))).trust_domain.name == "partner.test"


HOSTILE = {
    "a name twice": b'{"sub":"spiffe://remit.test/job","aud":"orders","exp":4102444800,"sub":"spiffe://remit.test/admin"}',
    "deep nesting": b'{"sub":"spiffe://remit.test/job","aud":"orders","exp":4102444800,"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "no object": b'["spiffe://remit.test/job"]',
    "no JSON": b"spiffe",
    "a number without end": b'{"sub":"spiffe://remit.test/job","aud":"orders","exp":4102444800,"x":' + b"9" * 5000 + b"}",
    "too long": json.dumps({"sub": "spiffe://remit.test/job", "aud": "orders", "exp": 4102444800, "x": "y" * 20_000}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_payload_is_refused_though_it_is_signed(body: bytes) -> None:
    assert refused(signed(body))
