"""RFC 7523, RFC 8705 and the SPIFFE client authentication draft: who the client is, by proof that counts once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from judge import in_house, refused

from remit.trust import jose
from remit.trust.testing import NOON
from remit.trust.tokens.authenticate import JWT_BEARER, JWT_SPIFFE
from remit.trust.tokens.testing import ALICE, BOB, PLACES, TokenHouse, example_entry_of

NOW = int(NOON.timestamp())
KEYED = {"client_assertion_type": JWT_BEARER}
SPIFFE = {"client_assertion_type": JWT_SPIFFE}


def keyed(**changed: Any) -> str:
    """The code by which a client assertion with other claims is refused; `ok` when it is not."""

    async def work(house: TokenHouse) -> str:
        client = await house.keyed_client()
        asked = house.ask(**KEYED, client_assertion=house.assertion(client, **changed))
        try:
            return await refused(asked)
        except AssertionError:
            return "ok"

    return in_house(work)


def by_svid(audience: Any = PLACES.issuer, **changed: Any) -> str:
    async def work(house: TokenHouse) -> str:
        asked = house.ask(**SPIFFE, client_assertion=house.jwt_svid(ALICE, audience, **changed))
        try:
            return await refused(asked)
        except AssertionError:
            return "ok"

    return in_house(work)


@pytest.mark.parametrize("audience", [PLACES.issuer, f"{PLACES.issuer}/oauth2/token", f"{PLACES.mtls}/oauth2/token"])
def test_rfc7523_3_an_assertion_is_for_the_issuer_or_the_token_endpoint(audience: str) -> None:
    assert keyed(aud=audience) == "ok"
    assert keyed(aud=[audience]) == "ok"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.test"}, {"aud": f"{PLACES.issuer}/"}, {"aud": [PLACES.issuer, "https://other.test"]},
        {"aud": None}, {"aud": []}, {"iss": "cl_other"}, {"sub": ALICE}, {"iss": None}, {"sub": None},
        {"exp": None}, {"exp": NOW}, {"exp": NOW - 1}, {"exp": NOW + 3601}, {"exp": "tomorrow"}, {"exp": 1e20},
        {"nbf": NOW + 120}, {"iat": NOW + 120}, {"iat": NOW - 400, "exp": NOW + 1}, {"iat": None}, {"jti": None},
        {"jti": 7}, {"jti": ""},
    ],
)  # fmt: skip
def test_rfc7523_3_every_other_assertion_is_refused_in_the_same_words(changed: dict[str, Any]) -> None:
    assert keyed(**changed) == "trust.client.invalid"


@pytest.mark.parametrize(
    "headers", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256"}, {"kid": "other"}, {"jwk": {}}, {"crit": ["x"]},
                {"typ": "at+jwt"}, {"typ": "dpop+jwt"}],
)  # fmt: skip
def test_rfc8725_3_a_header_chooses_nothing(headers: Any) -> None:
    async def work(house: TokenHouse) -> str:
        client = await house.keyed_client()
        assertion = house.assertion(client, headers=headers)
        return await refused(house.ask(**KEYED, client_assertion=assertion))

    assert in_house(work) == "trust.client.invalid"


def test_an_assertion_counts_once_here_and_after_a_restart() -> None:
    async def work(house: TokenHouse) -> Any:
        client = await house.keyed_client()
        one = house.assertion(client)
        await house.ask(**KEYED, client_assertion=one)
        again = await refused(house.ask(**KEYED, client_assertion=one))
        house.tokens._window._until.clear()  # what a restart forgets; the rows do not
        return again, await refused(house.ask(**KEYED, client_assertion=one))

    assert in_house(work) == ("trust.token.replayed", "trust.token.replayed")


def test_an_assertion_of_a_client_that_is_gone_is_nothing() -> None:
    async def work(house: TokenHouse) -> str:
        client = await house.keyed_client()
        await house.tokens.remove_client(client.id, actor="person:ann")
        return await refused(house.ask(**KEYED, client_assertion=house.assertion(client)))

    assert in_house(work) == "trust.client.invalid"


def test_a_client_row_that_was_not_signed_here_is_not_loaded() -> None:
    async def work(house: TokenHouse) -> Any:
        client = await house.keyed_client()
        house.store.tokens.put_client(replace(client, identity="id_01K00000000000000000000009"))
        await house.tokens.refresh()
        return house.tokens.clients(), house.tokens.problems

    clients, problems = in_house(work)
    assert clients == () and "was not registered by this installation" in problems[0]


def test_a_key_that_somebody_stored_attests_nothing() -> None:
    async def work(house: TokenHouse) -> Any:
        client = await house.keyed_client()
        await house.ask(**KEYED, client_assertion=house.assertion(client))
        await house.ask(svid=house.certificate(ALICE))
        return [(one.proof.method, one.proof.attested) for one in house.grants.asked]

    assert in_house(work) == [("private_key_jwt", False), ("x509-svid", True)]


# draft-ietf-oauth-spiffe-client-auth


def test_spiffe_client_auth_a_jwt_svid_for_us_alone_is_a_client() -> None:
    assert by_svid() == "ok"
    assert by_svid(f"{PLACES.issuer}/oauth2/token") == "ok"


@pytest.mark.parametrize("audience", ["https://other.test", [PLACES.issuer, "https://other.test"], []])
def test_spiffe_client_auth_one_that_somebody_else_could_show_is_none(audience: Any) -> None:
    assert by_svid(audience) == "trust.client.invalid"


@pytest.mark.parametrize("changed", [{"exp": NOW}, {"exp": NOW + 7200}, {"exp": None}, {"nbf": NOW + 120}])
def test_spiffe_client_auth_the_times_are_sane(changed: Any) -> None:
    assert by_svid(**changed) == "trust.client.invalid"


def test_spiffe_client_auth_a_jwt_svid_counts_once_with_and_without_a_jti() -> None:
    async def work(house: TokenHouse) -> Any:
        found = []
        for changed in ({}, {"jti": None}):
            one = house.jwt_svid(ALICE, **changed)
            await house.ask(**SPIFFE, client_assertion=one)
            found.append(await refused(house.ask(**SPIFFE, client_assertion=one)))
        return found

    assert in_house(work) == ["trust.token.replayed"] * 2


def test_an_access_token_is_no_client_assertion() -> None:
    async def work(house: TokenHouse) -> Any:
        token = (await house.ask(svid=house.certificate(ALICE))).token
        return [
            await refused(house.ask(client_assertion_type=kind, client_assertion=token))
            for kind in (JWT_BEARER, JWT_SPIFFE)
        ]

    assert in_house(work) == ["trust.client.invalid"] * 2


def test_a_client_id_that_is_not_the_proven_one_is_refused() -> None:
    async def work(house: TokenHouse) -> Any:
        await house.ask(svid=house.certificate(ALICE), client_id=ALICE)
        return await refused(house.ask(svid=house.certificate(ALICE), client_id=BOB))

    assert in_house(work) == "trust.client.invalid"


def test_rfc6749_2_3_two_proofs_of_two_clients_are_none() -> None:
    async def work(house: TokenHouse) -> Any:
        return await refused(house.ask(svid=house.certificate(BOB), **SPIFFE, client_assertion=house.jwt_svid(ALICE)))

    assert in_house(work) == "trust.client.invalid"


# RFC 8705


def test_rfc8705_3_a_token_asked_for_by_mutual_tls_is_bound_to_the_certificate() -> None:
    async def work(house: TokenHouse) -> Any:
        svid = house.certificate(ALICE)
        return house.claims(await house.ask(svid=svid))["cnf"], svid.thumbprint

    bound, thumbprint = in_house(work)
    assert bound == {"x5t#S256": thumbprint}


def test_rfc8705_3_a_token_ends_with_the_certificate_that_it_is_bound_to() -> None:
    async def work(house: TokenHouse) -> Any:
        svid = replace(house.certificate(ALICE), expires=NOON + timedelta(seconds=90))
        return (await house.ask(svid=svid)).expires - NOON

    assert in_house(work) == timedelta(seconds=90)


def test_a_revoked_svid_is_no_proof() -> None:
    async def work(house: TokenHouse) -> Any:
        svid = house.certificate(ALICE, serial=0xABC)
        house.revocations.revoked.add("abc")
        first = await refused(house.ask(svid=svid))
        house.revocations.revoked = {BOB}
        return first, await refused(house.ask(**SPIFFE, client_assertion=house.jwt_svid(BOB)))

    assert in_house(work) == ("trust.client.invalid", "trust.client.invalid")


def test_a_blocked_subject_gets_nothing() -> None:
    async def work(house: TokenHouse) -> Any:
        house.revocations.blocked.add(ALICE)
        return await refused(house.ask(svid=house.certificate(ALICE)))

    assert in_house(work) == "trust.token.revoked"


# A platform's own token.


def test_a_platforms_token_is_a_client_through_the_entry_that_names_its_bearer() -> None:
    async def work(house: TokenHouse) -> Any:
        key = ec.generate_private_key(ec.SECP256R1())
        token = jose.sign(
            {"iss": "https://ci.test", "sub": "job", "aud": PLACES.issuer, "exp": NOW + 60}, key, {"kid": "1"}
        )
        house.proofs.known[token] = example_entry_of(ALICE)
        answer = await house.ask(**KEYED, client_assertion=token)
        again = await refused(house.ask(**KEYED, client_assertion=token))
        return house.claims(answer)["sub"], house.grants.asked[0].proof, again

    subject, proof, again = in_house(work)
    assert (subject, proof.method, proof.attested) == (ALICE, "oidc", True)
    assert again == "trust.client.invalid"


@pytest.mark.parametrize(
    "given",
    [
        {"client_assertion_type": JWT_BEARER},
        {"client_assertion": "x"},
        {"client_assertion": "a.b.c", "client_assertion_type": "urn:x"},
        {"client_assertion": "x" * 20_000, "client_assertion_type": JWT_BEARER},
    ],
)
def test_half_a_proof_is_none(given: dict[str, str]) -> None:
    async def work(house: TokenHouse) -> Any:
        return await refused(house.ask(**given))

    assert in_house(work) == "trust.client.invalid"
