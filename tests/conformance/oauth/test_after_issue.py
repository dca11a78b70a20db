"""RFC 7662, 7009, 8414, 8705 §5, 9728 and OpenID discovery: what is said of tokens once they are out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from judge import in_house, refused

from remit.trust.tokens import Places, Presented
from remit.trust.tokens.metadata import openid_configuration, resource_metadata, server_metadata
from remit.trust.tokens.testing import ALICE, API, BOB, CAROL, PLACES, TokenHouse

DEAD = {"active": False}


async def sent_to_bob(house: TokenHouse) -> str:
    await house.server(BOB, API)
    return (await house.ask(svid=house.certificate(ALICE))).token


# RFC 7662


def test_7662_2_2_the_service_that_the_token_is_for_learns_what_it_says() -> None:
    async def work(house: TokenHouse) -> Any:
        return await house.look(await sent_to_bob(house), svid=house.certificate(BOB))

    said = in_house(work)
    assert said["active"] is True
    assert (said["sub"], said["aud"], said["scope"], said["token_type"]) == (ALICE, API, "read", "Bearer")
    assert "cnf" in said


@pytest.mark.parametrize("who", [ALICE, CAROL, "spiffe://remit.test/eve"])
def test_7662_4_everybody_else_learns_nothing_not_even_the_client_itself(who: str) -> None:
    async def work(house: TokenHouse) -> Any:
        return await house.look(await sent_to_bob(house), svid=house.certificate(who))

    assert in_house(work) == DEAD


def test_7662_2_1_who_does_not_prove_itself_is_refused() -> None:
    async def work(house: TokenHouse) -> Any:
        return await refused(house.look(await sent_to_bob(house)))

    assert in_house(work) == "trust.client.invalid"


def test_an_administrator_looks_at_any_token() -> None:
    async def work(house: TokenHouse) -> Any:
        return await house.look(await sent_to_bob(house), administrates=True)

    assert in_house(work)["active"] is True


@pytest.mark.parametrize("how", ["revoked", "ended", "expired", "other issuer", "svid", "garbage", "empty"])
def test_7662_2_2_what_counts_no_more_is_dead_and_nothing_says_why(how: str) -> None:
    async def work(house: TokenHouse) -> Any:
        token = await sent_to_bob(house)
        told = house.store.told("trust.token.issued")[0]
        match how:
            case "revoked":
                house.revocations.revoked.add(str(told["jti"]))
            case "ended":
                house.grants.ended.add(str(told["grant"]))
            case "expired":
                house.clock.advance(timedelta(minutes=5))
            case "svid":
                token = house.jwt_svid(ALICE, API)
            case "garbage":
                token = "a.b.c"
            case "empty":
                token = ""
            case _:
                other = Places(issuer="https://other.test", base="http://x")
                raw = f"token={token}".encode()
                return await house.tokens.introspect(Presented(raw=raw, svid=house.certificate(BOB)), other)
        return await house.look(token, svid=house.certificate(BOB))

    assert in_house(work) == DEAD


def test_an_introspecting_clients_assertion_counts_once() -> None:
    async def work(house: TokenHouse) -> Any:
        client = await house.keyed_client(resources=["https://keyed.test"])
        token = (await house.ask(svid=house.certificate(ALICE), resource="https://keyed.test")).token
        form = {"token": token, "client_assertion": house.assertion(client),
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}  # fmt: skip
        from urllib.parse import urlencode

        presented = Presented(raw=urlencode(form).encode())
        first = await house.tokens.introspect(presented, PLACES)
        house.tokens._window._until.clear()
        return first["active"], await refused(house.tokens.introspect(presented, PLACES))

    assert in_house(work) == (True, "trust.token.replayed")


# RFC 7009


def test_7009_2_1_the_client_gives_its_token_back() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await sent_to_bob(house)
        presented = Presented(raw=f"token={token}".encode(), svid=house.certificate(ALICE))
        await house.tokens.revoke(presented, PLACES)
        await house.tokens.revoke(presented, PLACES)  # again is no error
        return await house.look(token, svid=house.certificate(BOB)), [by for _, by in house.revocations.by]

    assert in_house(work) == (DEAD, [ALICE])


def test_7009_2_1_nobody_gives_back_what_is_anothers() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await sent_to_bob(house)
        presented = Presented(raw=f"token={token}".encode(), svid=house.certificate(BOB))
        code = await refused(house.tokens.revoke(presented, PLACES))
        return code, (await house.look(token, svid=house.certificate(BOB)))["active"]

    assert in_house(work) == ("trust.token.foreign", True)


def test_7009_2_2_what_is_no_token_is_no_error() -> None:
    async def work(house: TokenHouse) -> Any:
        return await house.tokens.revoke(Presented(raw=b"token=a.b.c", svid=house.certificate(BOB)), PLACES)

    assert in_house(work) is None


# Metadata


def test_8414_2_the_endpoints_are_below_the_issuer() -> None:
    found = server_metadata(PLACES)
    assert found["issuer"] == PLACES.issuer
    assert found["token_endpoint"] == f"{PLACES.issuer}/oauth2/token"
    assert {"private_key_jwt", "spiffe_jwt", "tls_client_auth"} <= set(found["token_endpoint_auth_methods_supported"])  # type: ignore[arg-type]
    assert not {"none", "client_secret_basic", "client_secret_post"} & set(
        found["token_endpoint_auth_methods_supported"]
    )  # type: ignore[arg-type]


def test_status_list_9_1_verifiers_find_every_list() -> None:
    assert server_metadata(PLACES)["status_list_aggregation_endpoint"] == f"{PLACES.issuer}/statuslists"


def test_8705_5_the_mutual_tls_endpoints_are_aliases_where_there_are_any() -> None:
    aliases = server_metadata(PLACES)["mtls_endpoint_aliases"]
    assert aliases == {
        "token_endpoint": f"{PLACES.mtls}/oauth2/token",
        "introspection_endpoint": f"{PLACES.mtls}/oauth2/introspect",
        "revocation_endpoint": f"{PLACES.mtls}/oauth2/revoke",
    }
    plain = server_metadata(Places(issuer="https://a.test", base="http://b"))
    assert "mtls_endpoint_aliases" not in plain
    assert plain["tls_client_certificate_bound_access_tokens"] is False


def test_9728_2_the_resource_names_its_authorization_server() -> None:
    found = resource_metadata(PLACES, ("introspect",))
    assert (found["resource"], found["authorization_servers"]) == (PLACES.issuer, [PLACES.issuer])


def test_openid_discovery_leads_to_the_keys_of_jwt_svids_and_to_no_others() -> None:
    found = openid_configuration(PLACES)
    assert found["jwks_uri"] == f"{PLACES.issuer}/keys"
    assert found["jwks_uri"] != server_metadata(PLACES)["jwks_uri"]
