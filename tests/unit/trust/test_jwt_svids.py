"""JWT-SVIDs: others verify ours, and we refuse what the standard has us refuse."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from platform_tokens import RSA_KEY, by_joserfc, signed_raw
from remit.kernel.errors import Rejected
from remit.trust.authority.jwt import TokenSigner, subject_of, verify_token
from remit.trust.authority.x509 import private_bytes
from remit.trust.testing import NOON

KEY = ec.generate_private_key(ec.SECP256R1())
KEYS = {"k1": KEY.public_key()}
CLAIMS = {
    "sub": "spiffe://remit.test/job",
    "aud": ["db", "api"],
    "exp": int((NOON + timedelta(minutes=5)).timestamp()),
    "jti": "1",
}


def refusal(token: str, *, audience: str = "db", later: timedelta = timedelta(0)) -> str:
    with pytest.raises(Rejected) as refused:
        verify_token(token, KEYS, audience=audience, now=NOON + later)
    return refused.value.code


def foreign(header: dict[str, object], claims: dict[str, object] | None = None) -> str:
    """A token of that header with a true signature of our key, made by joserfc."""
    key = ECKey.import_key(private_bytes(KEY))
    return jwt.encode({"alg": "ES256", **header}, claims or CLAIMS, key, algorithms=["ES256"])


def test_ours_is_verified_by_another_library() -> None:
    token = TokenSigner("k1", KEY).sign(CLAIMS)
    read = jwt.decode(token, ECKey.import_key(private_bytes(KEY)), algorithms=["ES256"])
    assert (read.header, read.claims) == ({"alg": "ES256", "kid": "k1", "typ": "JWT"}, CLAIMS)


def test_another_librarys_is_verified_by_us() -> None:
    claims = verify_token(foreign({"kid": "k1", "typ": "JWT"}), KEYS, audience="api", now=NOON)
    assert (str(claims.spiffe_id), claims.audience) == ("spiffe://remit.test/job", ("db", "api"))


def test_another_audience_is_refused() -> None:
    token = TokenSigner("k1", KEY).sign(CLAIMS)
    assert refusal(token, audience="d") == refusal(token, audience="") == "trust.jwt_svid.audience"


def test_it_is_refused_from_the_second_of_its_expiry() -> None:
    token = TokenSigner("k1", KEY).sign(CLAIMS)
    assert refusal(token, later=timedelta(minutes=5)) == "trust.jwt_svid.expired"


def test_an_unpublished_key_is_refused() -> None:
    assert refusal(TokenSigner("k2", KEY).sign(CLAIMS)) == "trust.jwt_svid.unknown_key"


def test_another_key_under_a_published_name_is_refused() -> None:
    forger = ec.generate_private_key(ec.SECP256R1())
    assert refusal(TokenSigner("k1", forger).sign(CLAIMS)) == "trust.jwt_svid.forged"


@pytest.mark.parametrize("more", [{"typ": "at+jwt"}, {"typ": ["JWT"]}, {"cty": "x"}, {"crit": ["exp"]}])
def test_a_header_beyond_the_standard_is_refused(more: dict[str, object]) -> None:
    assert refusal(handmade({"alg": "ES256", "kid": "k1", **more})) == "trust.jwt_svid.malformed"


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512"])
def test_a_partners_algorithm_of_the_standard_is_verified(alg: str) -> None:
    curves = {"ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    key = ec.generate_private_key(curves.get(alg, ec.SECP256R1())) if alg.startswith("E") else RSA_KEY
    claims = verify_token(by_joserfc(CLAIMS, key=key, alg=alg), {"k1": key.public_key()}, audience="db", now=NOON)
    assert str(claims.spiffe_id) == "spiffe://remit.test/job"


def test_a_key_of_another_kind_under_a_published_name_is_refused() -> None:
    assert refusal(by_joserfc(CLAIMS, key=RSA_KEY)) == "trust.jwt_svid.malformed"


def test_a_token_that_begins_later_is_refused_beyond_a_minute_of_skew() -> None:
    begins = int((NOON + timedelta(minutes=2)).timestamp())
    token = TokenSigner("k1", KEY).sign({**CLAIMS, "nbf": begins})
    assert refusal(token) == "trust.jwt_svid.not_yet_valid"
    assert verify_token(token, KEYS, audience="db", now=NOON + timedelta(minutes=1)).claims["nbf"] == begins


def test_a_name_that_stands_twice_is_refused() -> None:
    assert refusal(signed_raw(b'{"alg":"RS256","kid":"k1"}', b'{"sub":"a","sub":"b"}')) == "trust.jwt_svid.malformed"


def test_eddsa_is_no_algorithm_of_the_standard() -> None:
    assert refusal(handmade({"alg": "EdDSA", "kid": "k1"})) == "trust.jwt_svid.malformed"


def test_shared_secrets_and_no_signature_are_not_understood() -> None:
    shared = jwt.encode({"alg": "HS256", "kid": "k1"}, CLAIMS, OctKey.import_key("k" * 32), algorithms=["HS256"])
    unsigned = handmade({"alg": "none", "kid": "k1"})
    assert refusal(shared) == refusal(unsigned) == "trust.jwt_svid.malformed"


@pytest.mark.parametrize("left_out", ["sub", "exp"])
def test_a_required_claim_left_out_is_refused(left_out: str) -> None:
    claims = {name: value for name, value in CLAIMS.items() if name != left_out}
    assert refusal(TokenSigner("k1", KEY).sign(claims)) == "trust.jwt_svid.malformed"


@pytest.mark.parametrize(
    "text", ["", ".", "a.b", "a.b.c.d", "é.b.c", "a" * 20_000, "e30.e30.AA", "e30=.e30.AA", "!!.!!.!!"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refusal(text) == "trust.jwt_svid.malformed"


def test_a_second_spelling_of_the_same_signature_is_refused() -> None:
    token = TokenSigner("k1", KEY).sign(CLAIMS)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    respelled = token[:-1] + last[last.index(token[-1]) ^ 1]
    assert refusal(respelled) == "trust.jwt_svid.malformed"


def test_the_subject_is_read_for_choosing_a_bundle() -> None:
    assert str(subject_of(TokenSigner("k1", KEY).sign(CLAIMS))) == "spiffe://remit.test/job"


def handmade(header: dict[str, object]) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signature = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
    return f"{part(header)}.{part(CLAIMS)}.{signature}"
