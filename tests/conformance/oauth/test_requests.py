"""RFC 6749, 8707, 9396, 9068: what a request may say, and what a token says.

| clause | from |
|---|---|
| §3.2, §4.4, §5.1 | RFC 6749 |
| §2 | RFC 8707 |
| §2, §5 | RFC 9396 |
| §2 | RFC 9068 |
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from judge import in_house, refused

from remit.kernel.errors import RemitError
from remit.trust.tokens import Presented
from remit.trust.tokens.form import parse_details, parse_form, parse_resources, parse_scopes
from remit.trust.tokens.present import kind_of
from remit.trust.tokens.testing import ALICE, API, OTHER, PLACES, TokenHouse

# RFC 6749


@pytest.mark.parametrize(
    "raw",
    [b"scope=a&scope=b", b"grant_type=x&grant_type=x", b"a=%ff", b"a=\xff", b"nothing", b"a=" + b"x" * 70_000,
     b"&".join(b"a%d=1" % n for n in range(65))],
)  # fmt: skip
def test_rfc6749_3_2_a_parameter_stands_once_in_a_bounded_form(raw: bytes) -> None:
    with pytest.raises(RemitError, match="no request of a client"):
        parse_form(raw)


def test_rfc6749_3_2_an_unknown_or_empty_parameter_is_ignored() -> None:
    assert parse_form(b"scope=&colour=red&resource=a&resource=b") == {"colour": ("red",), "resource": ("a", "b")}


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a  b", " a", "a\tb", "ä", " ".join(map(str, range(17))), "x" * 201])
def test_rfc6749_3_3_a_scope_is_a_list_of_few_plain_words(text: str) -> None:
    with pytest.raises(RemitError):
        parse_scopes(text)


def test_rfc6749_4_4_a_client_without_proof_gets_nothing() -> None:
    async def work(house: TokenHouse) -> str:
        return await refused(house.ask())

    assert in_house(work) == "trust.client.invalid"


@pytest.mark.parametrize("name", ["authorization_code", "password", "refresh_token", "implicit", ""])
def test_rfc6749_5_2_another_grant_type_is_not_served(name: str) -> None:
    async def work(house: TokenHouse) -> str:
        return await refused(house.ask(svid=house.certificate(ALICE), grant_type=name))

    assert in_house(work) == "trust.token.grant_type"


def test_a_secret_in_a_header_is_no_way_to_prove_oneself() -> None:
    async def work(house: TokenHouse) -> str:
        presented = Presented(raw=b"grant_type=client_credentials&scope=read&resource=https://a.test",
                              authorization="Basic YTpi", svid=house.certificate(ALICE))  # fmt: skip
        return await refused(house.tokens.token(presented, PLACES))

    assert in_house(work) == "trust.client.invalid"


def test_scope_is_what_the_grant_says_and_never_what_the_client_asks_for() -> None:
    async def work(house: TokenHouse) -> Any:
        answer = await house.ask(svid=house.certificate(ALICE), scope="read admin write root")
        return answer.scopes, house.claims(answer)["scope"]

    assert in_house(work) == (("read", "write"), "read write")


def test_no_grant_no_token_and_nothing_in_the_ledger_but_the_refusal() -> None:
    async def work(house: TokenHouse) -> Any:
        code = await refused(house.ask(svid=house.certificate("spiffe://remit.test/eve")))
        await house.tokens.close()
        return code, house.store.told("trust.token.issued"), house.store.told("trust.token.refused")

    code, issued, told = in_house(work)
    assert (code, issued) == ("trust.token.denied", [])
    assert told[0]["refused"][0]["client"] == "spiffe://remit.test/eve"


# RFC 8707


@pytest.mark.parametrize(
    "text", ["https://a.test/#part", "https://", "http:///x", "a b", "ä", "x" * 2049, "https://[1"]
)
def test_rfc8707_2_a_resource_is_a_uri_without_a_fragment(text: str) -> None:
    with pytest.raises(RemitError):
        parse_resources((text,))


@pytest.mark.parametrize("text", ["https://a.test/x?y=1", "urn:remit:x:y", "spiffe://remit.test/orders"])
def test_rfc8707_2_urls_urns_and_spiffe_ids_name_resources(text: str) -> None:
    assert parse_resources((text,)) == (text,)


def test_rfc8707_2_the_resource_becomes_the_audience() -> None:
    async def work(house: TokenHouse) -> Any:
        one = await house.ask(svid=house.certificate(ALICE))
        two = await house.ask(svid=house.certificate(ALICE), resource=[API, OTHER])
        return house.claims(one)["aud"], house.claims(two)["aud"]

    assert in_house(work) == (API, [API, OTHER])


@pytest.mark.parametrize(
    "resource", [[], [f"https://{n}.test" for n in range(5)], ["remit.test"], [PLACES.issuer, API]]
)
def test_rfc8707_2_a_token_is_for_somebody_and_not_for_everybody(resource: list[str]) -> None:
    async def work(house: TokenHouse) -> str:
        return await refused(house.ask(svid=house.certificate(ALICE), resource=resource))

    assert in_house(work) == "trust.token.resource"


# RFC 9396


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "[1]", '[{"a":1}]', '[{"type":1}]', '[{"type":"a","type":"a"}]', '[{"type":"a","n":1.5}]', "[", "null",
     '[{"type":""}]', json.dumps([{"type": "a"}] * 9), '[{"type":"a","x":' + "[" * 9 + "]" * 9 + "}]",
     json.dumps([{"type": "a", "x": "y" * 9000}]), '[{"type":"a"}],"more":[{}]', '[{"type":"a"}]}{'],
)  # fmt: skip
def test_rfc9396_2_details_are_few_typed_bounded_objects(text: str) -> None:
    with pytest.raises(RemitError):
        parse_details(text)


def test_rfc9396_7_granted_details_are_in_the_token_and_the_answer() -> None:
    async def work(house: TokenHouse) -> Any:
        asked = [{"type": "payment", "actions": ["pay"], "amount": 7}, {"type": "root"}]
        answer = await house.ask(svid=house.certificate(ALICE), scope="", authorization_details=json.dumps(asked))
        return answer.details, house.claims(answer)["authorization_details"], asked[:1]

    shown, said, wanted = in_house(work)
    assert list(shown) == said == wanted


# RFC 9068


def test_rfc9068_2_an_access_token_has_its_type_and_every_required_claim() -> None:
    async def work(house: TokenHouse) -> Any:
        answer = await house.ask(svid=house.certificate(ALICE))
        return kind_of(answer.token), house.claims(answer), house.tokens.keys.kid

    kind, claims, _ = in_house(work)
    assert kind == "access-token"
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "scope"} <= set(claims)
    assert (claims["sub"], claims["client_id"]) == (ALICE, ALICE)


def test_tokens_have_keys_of_their_own() -> None:
    async def work(house: TokenHouse) -> Any:
        ours = {key["kid"] for key in house.tokens.keys.jwks()["keys"]}  # type: ignore[index,union-attr]
        svids = {key["kid"] for key in house.tokens.svid_jwks()["keys"]}  # type: ignore[index,union-attr]
        return ours, svids

    ours, svids = in_house(work)
    assert ours and svids and not ours & svids


def test_every_token_is_in_the_ledger_with_its_grant_and_never_itself() -> None:
    async def work(house: TokenHouse) -> Any:
        answer = await house.ask(svid=house.certificate(ALICE))
        (told,) = house.store.told("trust.token.issued")
        return answer.token, told, house.claims(answer), house.store.trust.issued_rows

    token, told, claims, rows = in_house(work)
    assert told["jti"] == claims["jti"] and told["grant"] == claims["grant"] and told["sub"] == ALICE
    assert token.split(".")[2] not in json.dumps(dict(told))
    assert rows[claims["jti"]].kind == "access-token" and rows[claims["jti"]].grant == claims["grant"]


def test_what_cannot_be_recorded_is_not_handed_out() -> None:
    from remit.kernel.errors import Unavailable

    async def work(house: TokenHouse) -> str:
        house.store.fail = Unavailable("storage.disk.full", "the disk is full")
        code = await refused(house.ask(svid=house.certificate(ALICE)))
        house.store.fail = None
        return code

    assert in_house(work) == "storage.disk.full"
