"""RFC 9449: a proof for this request, by this key, now, once."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from judge import in_house, refused

from remit.trust import jose
from remit.trust.testing import NOON
from remit.trust.tokens import Presented
from remit.trust.tokens.dpop import NONCE_SECONDS, Nonces, verify_dpop
from remit.trust.tokens.testing import ALICE, PLACES, TokenHouse

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = int(NOON.timestamp())


def proof_refused(headers: Any = None, **changed: Any) -> str:
    async def work(house: TokenHouse) -> str:
        proof = house.dpop(KEY, headers=headers, **changed)
        return await refused(house.ask(svid=house.certificate(ALICE), dpop=[proof]))

    return in_house(work)


def test_5_the_token_is_bound_to_the_key_of_the_proof() -> None:
    async def work(house: TokenHouse) -> Any:
        answer = await house.ask(svid=house.certificate(ALICE), dpop=[house.dpop(KEY)])
        return answer.token_type, house.claims(answer)["cnf"]["jkt"]  # type: ignore[index,call-overload]

    assert in_house(work) == ("DPoP", jose.thumbprint(KEY.public_key()))


@pytest.mark.parametrize(
    "url", [f"{PLACES.issuer}/oauth2/token?x=1", f"{PLACES.base}/oauth2/token", f"{PLACES.mtls}/oauth2/token#x"]
)
def test_4_3_9_the_url_is_compared_without_query_and_fragment(url: str) -> None:
    async def work(house: TokenHouse) -> Any:
        return (await house.ask(svid=house.certificate(ALICE), dpop=[house.dpop(KEY, url=url)])).token_type

    assert in_house(work) == "DPoP"


@pytest.mark.parametrize(
    "changed",
    [
        {"htm": "GET"}, {"htm": "post"}, {"htm": None}, {"htu": "https://evil.test/oauth2/token"}, {"htu": None},
        {"htu": f"{PLACES.issuer}/oauth2/revoke"}, {"htu": 7}, {"iat": NOW - 61}, {"iat": NOW + 61}, {"iat": None},
        {"iat": "now"}, {"jti": None}, {"jti": ""}, {"jti": "x" * 300}, {"jti": 7}, {"exp": NOW - 1},
    ],
)  # fmt: skip
def test_4_3_a_proof_of_another_request_or_moment_is_none(changed: dict[str, Any]) -> None:
    assert proof_refused(**changed) == "trust.dpop.invalid"


@pytest.mark.parametrize(
    "headers",
    [{"typ": "JWT"}, {"typ": "at+jwt"}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}, {"jwk": None}, {"jwk": {}},
     {"jwk": {"kty": "oct", "k": "AA"}}, {"kid": "x"}, {"crit": ["x"]},
     {"jwk": {**jose.jwk_of(KEY.public_key()), "d": "AA"}},
     {"jwk": jose.jwk_of(ec.generate_private_key(ec.SECP256R1()).public_key())}],
)  # fmt: skip
def test_4_3_the_header_is_that_of_a_proof_with_a_public_key(headers: dict[str, Any]) -> None:
    assert proof_refused(headers) == "trust.dpop.invalid"


def test_4_3_1_there_is_one_proof() -> None:
    async def work(house: TokenHouse) -> Any:
        two = [house.dpop(KEY), house.dpop(KEY)]
        return await refused(house.ask(svid=house.certificate(ALICE), dpop=two))

    assert in_house(work) == "trust.dpop.invalid"


def test_8_a_proof_without_our_nonce_is_told_so_and_costs_no_assertion() -> None:
    async def work(house: TokenHouse) -> Any:
        client = await house.keyed_client()
        assertion = {"client_assertion": house.assertion(client),
                     "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}  # fmt: skip
        first = await refused(house.ask(dpop=[house.dpop(KEY, nonce=None)], **assertion))
        return first, (await house.ask(dpop=[house.dpop(KEY)], **assertion)).token_type

    assert in_house(work) == ("trust.dpop.nonce", "DPoP")


@pytest.mark.parametrize("nonce", ["", "guess", 7, "ä"])
def test_8_a_nonce_that_is_not_ours_is_none(nonce: Any) -> None:
    assert proof_refused(nonce=nonce) == "trust.dpop.nonce"


def test_8_a_nonce_lasts_for_minutes_and_for_this_installation() -> None:
    ours, others = Nonces(b"ours"), Nonces(b"others")
    nonce = ours.current(NOON)
    later = [NOON + timedelta(seconds=NONCE_SECONDS * times) for times in (0, 1, 2)]
    assert [ours.accepts(nonce, at) for at in later] == [True, True, False]
    assert not others.accepts(nonce, NOON)


def test_11_1_a_proof_counts_once() -> None:
    async def work(house: TokenHouse) -> Any:
        proof = house.dpop(KEY)
        await house.ask(svid=house.certificate(ALICE), dpop=[proof])
        again = await refused(house.ask(svid=house.certificate(ALICE), dpop=[proof]))
        house.tokens._window._until.clear()
        return again, await refused(house.ask(svid=house.certificate(ALICE), dpop=[proof]))

    assert in_house(work) == ("trust.token.replayed", "trust.token.replayed")


def test_7_a_bound_token_is_narrowed_with_its_own_key_alone() -> None:
    async def work(house: TokenHouse) -> Any:
        svid, other = house.certificate(ALICE), ec.generate_private_key(ec.SECP256R1())
        token = (await house.ask(svid=svid, dpop=[house.dpop(KEY)])).token
        good = await house.exchange(token, svid=svid, dpop=[house.dpop(KEY)])
        codes = [await refused(house.exchange(token, svid=svid, dpop=dpop)) for dpop in ([house.dpop(other)], [])]
        return good.token_type, codes

    assert in_house(work) == ("DPoP", ["trust.token.sender", "trust.token.sender"])


def test_4_2_any_good_key_will_do() -> None:
    for key, alg in (
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
    ):
        proof = signed_by_another_library(key, alg)
        shown = verify_dpop(proof, method="POST", urls=["https://a.test/"], now=NOON)
        assert shown.thumbprint == jose.thumbprint(key.public_key())


def signed_by_another_library(key: Any, alg: str) -> str:
    claims = {"jti": "a1", "htm": "POST", "htu": "https://a.test/", "iat": NOW}
    headers = {"typ": "dpop+jwt", "jwk": jose.jwk_of(key.public_key())}
    return jwt.encode(claims, key, algorithm=alg, headers=headers)


def test_7_at_our_own_endpoint_the_proof_names_the_token() -> None:
    async def work(house: TokenHouse) -> Any:
        house.grants.allowed[ALICE] = frozenset({"introspect"})
        svid = None
        client = await house.keyed_client()
        house.grants.allowed[client.subject] = frozenset({"introspect"})
        answer = await house.ask(
            svid=svid, scope="introspect", resource=PLACES.issuer, dpop=[house.dpop(KEY)],
            client_assertion=house.assertion(client),
            client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        )  # fmt: skip
        ath = base64.urlsafe_b64encode(hashlib.sha256(answer.token.encode()).digest()).rstrip(b"=").decode()
        url = f"{PLACES.issuer}/oauth2/introspect"

        def look(**changed: Any) -> Any:
            proof = house.dpop(KEY, url=url, **{"ath": ath, **changed})
            presented = Presented(raw=b"token=x", authorization=f"DPoP {answer.token}", dpop=(proof,))
            return house.tokens.introspect(presented, PLACES)

        good = await look()
        bad = [await refused(look(ath=None)), await refused(look(ath="x"))]
        bearer = Presented(raw=b"token=x", authorization=f"Bearer {answer.token}")
        bare = Presented(raw=b"token=x", authorization=f"DPoP {answer.token}")
        bad += [await refused(house.tokens.introspect(one, PLACES)) for one in (bearer, bare)]
        return good, bad

    good, bad = in_house(work)
    assert good == {"active": False}
    assert bad == ["trust.dpop.invalid", "trust.dpop.invalid", "trust.client.token", "trust.token.sender"]
