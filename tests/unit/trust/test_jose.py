"""JOSE: what others sign we verify, by the key and the algorithm that fit, and nothing besides."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from platform_tokens import EC_KEY, OTHER_KEY, RSA_KEY, at, by_joserfc, part, pem, public_jwk, signed_raw
from remit.kernel.errors import Rejected
from remit.trust import jose
from remit.trust.testing import NOON

CURVES = {"256": ec.SECP256R1(), "384": ec.SECP384R1(), "512": ec.SECP521R1()}
EC_KEYS = {bits: ec.generate_private_key(curve) for bits, curve in CURVES.items()}
PROFILE = jose.Profile()
CLAIMS = {"iss": "https://i.example", "sub": "a", "aud": ["x", "y"], "exp": at(minutes=5), "iat": at()}


def key_for(alg: str) -> Any:
    return EC_KEYS[alg[2:]] if alg.startswith("ES") else RSA_KEY


def verify(token: str, key: Any, profile: jose.Profile = PROFILE, **more: Any) -> jose.Verified:
    return jose.verify(token, key.public_key(), profile, **{"now": NOON, "issuer": None, "audience": "x", **more})


def refusal(token: str, key: Any = RSA_KEY, profile: jose.Profile = PROFILE, **more: Any) -> str:
    with pytest.raises(Rejected) as refused:
        verify(token, key, profile, **more)
    return refused.value.code


@pytest.mark.parametrize("alg", sorted(jose.ALGORITHMS))
def test_another_librarys_token_is_verified(alg: str) -> None:
    found = verify(by_joserfc(CLAIMS, key=key_for(alg), alg=alg), key_for(alg))
    assert (found.claims, found.audiences, found.expires) == (CLAIMS, ("x", "y"), NOON + timedelta(minutes=5))


@pytest.mark.parametrize("alg", sorted(jose.ALGORITHMS))
def test_a_token_is_refused_under_every_other_name_of_an_algorithm(alg: str) -> None:
    _, body, signature = by_joserfc(CLAIMS, key=key_for(alg), alg=alg).split(".")
    for other in sorted(jose.ALGORITHMS - {alg}):
        token = f"{part({'alg': other, 'kid': 'k1', 'typ': 'JWT'})}.{body}.{signature}"
        assert refusal(token, key_for(alg)) in ("trust.jose.algorithm", "trust.jose.forged", "trust.jose.malformed")


def test_a_curve_belongs_to_one_algorithm() -> None:
    text = f"{part({'alg': 'ES256'})}.{part(CLAIMS)}"
    assert refusal(f"{text}.{part(bytes(64))}", EC_KEYS["384"]) == "trust.jose.algorithm"


def test_a_short_rsa_key_is_refused() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    assert refusal(signed_raw(b'{"alg":"RS256"}', json.dumps(CLAIMS).encode(), short), short) == "trust.jose.algorithm"


def test_eddsa_is_for_those_who_name_it() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    token = joserfc_jwt.encode(
        {"alg": "Ed25519"}, CLAIMS, joserfc_jwk.OKPKey.import_key(pem(key)), algorithms=["Ed25519"]
    )
    _, body, _ = token.split(".")
    text = f"{part({'alg': 'EdDSA'})}.{body}"
    token = f"{text}.{part(key.sign(text.encode()))}"
    assert refusal(token, key) == "trust.jose.algorithm"
    assert verify(token, key, replace(PROFILE, algorithms=frozenset({"EdDSA"}))).claims["sub"] == "a"


def test_a_signed_text_of_our_own_making_is_taken_when_it_is_good() -> None:
    """So that the forgeries which are made the same way fail for what is wrong with them."""
    assert verify(signed_raw(b'{"alg":"RS256","kid":"k1"}', json.dumps(CLAIMS).encode()), RSA_KEY).claims == CLAIMS


def test_a_key_is_chosen_by_its_name_alone() -> None:
    keys = {"k1": RSA_KEY.public_key(), "k2": OTHER_KEY.public_key()}
    whole: dict[str, Any] = {"now": NOON, "issuer": None, "audience": "x"}
    assert jose.verify(by_joserfc(CLAIMS, kid="k1"), keys, PROFILE, **whole).claims == CLAIMS
    for kid in ("k2", "k3"):
        with pytest.raises(Rejected) as refused:
            jose.verify(by_joserfc(CLAIMS, kid=kid), keys, PROFILE, **whole)
        assert refused.value.code in ("trust.jose.forged", "trust.jose.unknown_key")


@pytest.mark.parametrize("header", ["crit", "jwk", "jku", "x5u", "x5c", "cty", "b64", "zip", "enc"])
def test_a_header_that_the_profile_does_not_name_is_refused(header: str) -> None:
    raw = json.dumps({"alg": "RS256", header: "x"}).encode()
    assert refusal(signed_raw(raw, json.dumps(CLAIMS).encode())) == "trust.jose.malformed"


def test_a_header_that_it_names_is_the_callers() -> None:
    proof = jose.Profile(headers=frozenset({"alg", "typ", "jwk"}), types=frozenset({"dpop+jwt"}), required=frozenset())
    header = json.dumps({"alg": "ES256", "typ": "dpop+jwt", "jwk": public_jwk(EC_KEY, "")}).encode()
    found = jose.read(f"{part(header)}.{part({'htm': 'POST'})}.{part(bytes(64))}", proof)
    assert (
        jose.thumbprint(jose.key_of_jwk(found.header["jwk"])) == joserfc_jwk.ECKey.import_key(pem(EC_KEY)).thumbprint()
    )


@pytest.mark.parametrize(
    ("kind", "accepted"), [("JWT", True), ("jwt", True), ("application/jwt", True), ("at+jwt", False), ("", True)]
)
def test_the_type_is_one_of_the_profiles(kind: str, accepted: bool) -> None:
    raw = json.dumps({"alg": "RS256", **({"typ": kind} if kind else {})}).encode()
    token = signed_raw(raw, json.dumps(CLAIMS).encode())
    assert (verify(token, RSA_KEY).claims == CLAIMS) if accepted else (refusal(token) == "trust.jose.malformed")


def test_issuer_and_audience_are_compared_exactly() -> None:
    token = by_joserfc(CLAIMS)
    assert verify(token, RSA_KEY, issuer="https://i.example", audience=["q", "y"]).claims == CLAIMS
    assert refusal(token, issuer="https://i.example/") == "trust.jose.issuer"
    for audience in ("", "X", "xy", [], [""]):
        assert refusal(token, audience=audience) == "trust.jose.audience"


def test_one_audience_may_be_demanded() -> None:
    single = replace(PROFILE, single_audience=True)
    assert refusal(by_joserfc(CLAIMS), profile=single) == "trust.jose.audience"
    assert verify(by_joserfc({**CLAIMS, "aud": ["x"]}), RSA_KEY, single).audiences == ("x",)


@pytest.mark.parametrize(
    ("seconds", "code"), [(299, ""), (300, "trust.jose.expired"), (-60, ""), (-61, "trust.jose.not_yet_valid")]
)
def test_the_end_is_exact_and_the_beginning_allows_for_skew(seconds: int, code: str) -> None:
    token, now = by_joserfc(CLAIMS), NOON + timedelta(seconds=seconds)
    assert (refusal(token, now=now) if code else verify(token, RSA_KEY, now=now) and "") == code


def test_grace_and_age_and_lifetime_are_as_the_profile_has_them() -> None:
    required = frozenset({"exp", "iat"})
    late = replace(PROFILE, grace=timedelta(seconds=30))
    assert verify(by_joserfc(CLAIMS), RSA_KEY, late, now=NOON + timedelta(seconds=329)).claims == CLAIMS
    young = replace(PROFILE, required=required, max_age=timedelta(seconds=10))
    assert refusal(by_joserfc(CLAIMS), profile=young, now=NOON + timedelta(seconds=11)) == "trust.jose.expired"
    short = replace(PROFILE, required=required, max_lifetime=timedelta(seconds=299))
    assert refusal(by_joserfc(CLAIMS), profile=short) == "trust.jose.claim"


def test_a_required_claim_left_out_is_refused() -> None:
    asked = replace(PROFILE, required=frozenset({"exp", "jti"}))
    assert refusal(by_joserfc(CLAIMS), profile=asked) == "trust.jose.claim"


def test_the_digest_is_of_what_is_signed_whatever_the_signature() -> None:
    token = by_joserfc(CLAIMS, key=EC_KEYS["256"], alg="ES256")
    again = by_joserfc(CLAIMS, key=EC_KEYS["256"], alg="ES256")
    assert token != again
    assert verify(token, EC_KEYS["256"]).digest == verify(again, EC_KEYS["256"]).digest


def test_ours_is_verified_by_another_library() -> None:
    token = jose.sign(CLAIMS, EC_KEYS["256"], {"kid": "s", "typ": "at+jwt"})
    read = joserfc_jwt.decode(token, joserfc_jwk.ECKey.import_key(pem(EC_KEYS["256"])), algorithms=["ES256"])
    assert (read.header, read.claims) == ({"alg": "ES256", "kid": "s", "typ": "at+jwt"}, CLAIMS)


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """RFC 7638 §3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
        "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
        "nqDKgw"
    )
    key = jose.key_of_jwk({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    assert jose.thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "key", [RSA_KEY, *EC_KEYS.values(), ed25519.Ed25519PrivateKey.generate()], ids=lambda k: type(k).__name__
)
def test_a_key_comes_back_from_its_jwk(key: Any) -> None:
    members = jose.jwk_of(key.public_key())
    assert jose.jwk_of(jose.key_of_jwk({**members, "kid": "a"})) == members


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": ["RSA"], "n": {}, "e": 1},
        {**public_jwk(RSA_KEY, "a"), "d": "AQAB"},
        {**public_jwk(RSA_KEY, "a"), "e": "AQAAAAAAAAAB"},
        {**public_jwk(RSA_KEY, "a"), "e": "AQ"},
    ],
)
def test_what_is_no_public_key_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        jose.key_of_jwk(entry)
    assert refused.value.code == "trust.jose.key"


def test_a_profile_cannot_name_what_is_never_accepted() -> None:
    for algorithm in ("none", "HS256", "RS1"):
        with pytest.raises(AssertionError):
            jose.Profile(algorithms=frozenset({algorithm}))
