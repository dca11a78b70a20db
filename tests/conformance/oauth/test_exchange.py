"""RFC 8693 and the transaction tokens draft: who may exchange what, who acts for whom, and what never grows."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from judge import in_house, refused

from remit.trust import jose
from remit.trust.testing import NOON
from remit.trust.tokens.testing import ALICE, API, BOB, CAROL, OTHER, TokenHouse, example_entry_of

TXN = "urn:ietf:params:oauth:token-type:txn_token"


async def received(house: TokenHouse, scope: str = "read write", **settings: Any) -> str:
    """A token that alice sent to bob, who serves `API`."""
    await house.server(BOB, API, **settings)
    return (await house.ask(svid=house.certificate(ALICE), scope=scope)).token


# Who acts for whom.


def test_4_1_who_exchanges_anothers_token_acts_for_its_subject() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        claims = house.claims(await house.exchange(token, svid=house.certificate(BOB), resource=OTHER))
        return claims["sub"], claims["act"], claims["aud"]

    assert in_house(work) == (ALICE, {"sub": BOB}, OTHER)


def test_4_1_each_hop_nests_the_chain_newest_first() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        await house.server(CAROL, OTHER)
        second = await house.exchange(token, svid=house.certificate(BOB), resource=OTHER)
        third = await house.exchange(second.token, svid=house.certificate(CAROL), resource="https://third.test")
        return house.claims(third)["act"], house.store.told("trust.token.issued")[-1]["act"]

    assert in_house(work) == ({"sub": CAROL, "act": {"sub": BOB}}, [CAROL, BOB])


def test_4_1_a_chain_has_an_end() -> None:
    async def work(house: TokenHouse) -> Any:
        token = (await house.ask(svid=house.certificate(ALICE), resource="https://0.test")).token
        for number in range(5):
            who = f"spiffe://remit.test/hop{number}"
            await house.server(who, f"https://{number}.test")
            asked = house.exchange(token, svid=house.certificate(who), resource=f"https://{number + 1}.test")
            if number == 4:
                return await refused(asked)
            token = (await asked).token
        return None

    assert in_house(work) == "trust.token.actor"


def test_4_4_may_act_names_the_only_one_who_may() -> None:
    async def work(house: TokenHouse) -> Any:
        await house.server(ALICE, "https://alice.test", may_act=CAROL)
        await house.server(BOB, API)
        answer = await house.ask(svid=house.certificate(ALICE))
        return (
            house.claims(answer)["may_act"],
            await refused(house.exchange(answer.token, svid=house.certificate(BOB), resource=OTHER)),
        )

    assert in_house(work) == ({"sub": CAROL}, "trust.token.actor")


def test_2_1_an_actor_token_is_the_clients_own_or_none() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        kind = "urn:ietf:params:oauth:token-type:jwt-svid"
        mine = {"actor_token": house.jwt_svid(BOB), "actor_token_type": kind, "resource": OTHER}
        other = {"actor_token": house.jwt_svid(CAROL), "actor_token_type": kind, "resource": OTHER}
        good = house.claims(await house.exchange(token, svid=house.certificate(BOB), **mine))
        return good["act"], await refused(house.exchange(token, svid=house.certificate(BOB), **other))

    assert in_house(work) == ({"sub": BOB}, "trust.exchange.actor")


@pytest.mark.parametrize(
    "given", [{"subject_token": ""}, {"subject_token_type": ""}, {"actor_token": "x"}, {"actor_token_type": "x"}]
)
def test_2_1_what_belongs_together_comes_together(given: dict[str, str]) -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        return await refused(house.exchange(token, svid=house.certificate(BOB), resource=OTHER, **given))

    assert in_house(work) == "trust.exchange.request"


# Who may present it.


def test_a_token_that_was_sent_to_somebody_else_is_of_no_use() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        await house.server(CAROL, OTHER)
        return await refused(house.exchange(token, svid=house.certificate(CAROL), resource=OTHER))

    assert in_house(work) == "trust.exchange.bearer"


def test_a_client_narrows_its_own_token_and_nobody_acts() -> None:
    async def work(house: TokenHouse) -> Any:
        svid = house.certificate(ALICE)
        wide = await house.ask(svid=svid, scope="read write", resource=[API, OTHER])
        claims = house.claims(await house.exchange(wide.token, svid=svid, scope="read", resource=API))
        return claims["scope"], claims["aud"], claims.get("act")

    assert in_house(work) == ("read", API, None)


def test_rfc8705_3_a_bound_token_is_narrowed_with_its_own_key_alone() -> None:
    async def work(house: TokenHouse) -> Any:
        token = (await house.ask(svid=house.certificate(ALICE))).token
        return await refused(house.exchange(token, svid=house.certificate(ALICE, serial=99)))

    assert in_house(work) == "trust.token.sender"


# What never grows.


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"scope": "read write admin"}, "trust.token.scope"),
        ({"scope": "admin"}, "trust.token.scope"),
        ({"resource": OTHER}, "trust.token.resource"),
        ({"resource": [API, OTHER]}, "trust.token.resource"),
        ({"authorization_details": '[{"type":"payment"}]'}, "trust.token.details"),
        ({"requested_token_type": TXN, "audience": "remit.test"}, "trust.token.resource"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "trust.token.type"),
    ],
)
def test_a_client_never_gets_more_out_of_its_token_than_is_in_it(form: dict[str, Any], code: str) -> None:
    async def work(house: TokenHouse) -> Any:
        house.grants.allowed[ALICE] = frozenset({"read", "write", "admin"})
        svid = house.certificate(ALICE)
        token = (await house.ask(svid=svid)).token
        return await refused(house.exchange(token, svid=svid, **form))

    assert in_house(work) == code


def test_details_get_fewer_and_never_more() -> None:
    async def work(house: TokenHouse) -> Any:
        svid = house.certificate(ALICE)
        held = json.dumps([{"type": "payment", "actions": ["pay", "list"], "amount": 7}])
        token = (await house.ask(svid=svid, scope="", authorization_details=held)).token
        part = json.dumps([{"type": "payment", "actions": ["list"], "amount": 7}])
        more = json.dumps([{"type": "payment", "actions": ["list"], "amount": 8}])
        kept = await house.exchange(token, svid=svid)
        less = await house.exchange(token, svid=svid, authorization_details=part)
        return kept.details, less.details, await refused(house.exchange(token, svid=svid, authorization_details=more))

    kept, less, code = in_house(work)
    assert kept[0]["actions"] == ["pay", "list"] and less[0]["actions"] == ["list"]
    assert code == "trust.token.details"


def test_a_token_ends_with_the_one_that_it_came_of_and_with_its_grant() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        house.clock.advance(timedelta(minutes=4))
        answer = await house.exchange(token, svid=house.certificate(BOB), resource=OTHER)
        house.grants.life = timedelta(seconds=20)
        short = await house.exchange(token, svid=house.certificate(BOB), resource=OTHER)
        return answer.expires - NOON, short.lifetime_seconds

    assert in_house(work) == (timedelta(minutes=5), 20)


@pytest.mark.parametrize("how", ["revoked", "ended", "expired", "blocked actor", "tainted key", "forged"])
def test_what_counts_no_more_is_not_exchanged(how: str) -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        told = house.store.told("trust.token.issued")[0]
        match how:
            case "revoked":
                house.revocations.revoked.add(str(told["jti"]))
            case "ended":
                house.grants.ended.add(str(told["grant"]))
            case "expired":
                house.clock.advance(timedelta(minutes=5))
            case "blocked actor":
                house.revocations.blocked.add(BOB)
            case "tainted key":
                await house.trust.rotate_authority(house.trust.keeper.keyring.token_authority.kind, actor="person:ann")
                await house.trust.taint_authority(str(told["authority"]), actor="person:ann")
            case _:
                head, _, tail = token.rpartition(".")
                token = head + "." + ("A" if tail[0] != "A" else "B") + tail[1:]
        return await refused(house.exchange(token, svid=house.certificate(BOB), resource=OTHER))

    assert in_house(work) in ("trust.exchange.subject", "trust.token.revoked")


def test_what_an_old_key_signed_stays_valid_after_a_rotation() -> None:
    async def work(house: TokenHouse) -> Any:
        token = await received(house)
        before = house.tokens.keys.kid
        await house.trust.rotate_authority(house.trust.keeper.keyring.token_authority.kind, actor="person:ann")
        answer = await house.exchange(token, svid=house.certificate(BOB), resource=OTHER)
        return before != house.tokens.keys.kid, house.claims(answer)["sub"]

    assert in_house(work) == (True, ALICE)


# Proofs of identity as subject tokens.


def test_a_jwt_svid_is_exchanged_for_a_token_of_its_bearer_and_once() -> None:
    async def work(house: TokenHouse) -> Any:
        svid = house.jwt_svid(ALICE)
        answer = await house.exchange(svid, kind="jwt-svid", scope="read", resource=API)
        again = await refused(house.exchange(svid, kind="jwt-svid", scope="read", resource=API))
        return house.claims(answer)["sub"], house.claims(answer).get("act"), again

    assert in_house(work) == (ALICE, None, "trust.token.replayed")


def test_a_service_that_was_sent_a_jwt_svid_acts_for_its_bearer() -> None:
    async def work(house: TokenHouse) -> Any:
        await house.server(BOB, API)
        sent = house.jwt_svid(ALICE, API)
        answer = await house.exchange(sent, svid=house.certificate(BOB), kind="jwt", scope="read", resource=OTHER)
        stolen = house.jwt_svid(ALICE, API)
        await house.server(CAROL, OTHER)
        thief = house.exchange(stolen, svid=house.certificate(CAROL), kind="jwt", scope="read", resource=OTHER)
        return house.claims(answer)["act"], await refused(thief)

    assert in_house(work) == ({"sub": BOB}, "trust.exchange.subject")


def test_a_platforms_token_is_exchanged_without_another_secret() -> None:
    async def work(house: TokenHouse) -> Any:
        key = ec.generate_private_key(ec.SECP256R1())
        token = jose.sign({"iss": "https://ci.test", "sub": "job", "exp": 9e9}, key, {"kid": "1"})
        house.proofs.known[token] = example_entry_of(ALICE)
        answer = await house.exchange(token, kind="id_token", scope="read", resource=API)
        return house.claims(answer)["sub"]

    assert in_house(work) == ALICE


@pytest.mark.parametrize(
    "kind", ["access_token", "txn_token", "jwt", "jwt-svid", "jwt-spiffe", "saml2", "refresh_token"]
)
@pytest.mark.parametrize("token", ["x", "a.b.c", "x" * 20_000, "..", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token_is_refused_and_named_by_no_more(kind: str, token: str) -> None:
    async def work(house: TokenHouse) -> Any:
        return await refused(house.exchange(token, svid=house.certificate(BOB), kind=kind, scope="read", resource=API))

    assert in_house(work) == "trust.exchange.subject"


@pytest.mark.parametrize(
    "change", [{"typ": "txntoken+jwt"}, {"typ": "JWT"}, {"alg": "none"}, {"kid": "other"}, {"jwk": {}}]
)
def test_rfc8725_3_11_one_kind_of_token_is_never_taken_for_another(change: Any) -> None:
    async def work(house: TokenHouse) -> Any:
        await house.server(BOB, API)
        claims = house.claims(await house.ask(svid=house.certificate(ALICE)))
        keyring = house.trust.keeper.keyring
        forged = jose.sign(claims, keyring.token_key, {"kid": keyring.token_authority.id, "typ": "at+jwt", **change})
        return await refused(house.exchange(forged, svid=house.certificate(BOB), resource=OTHER))

    assert in_house(work) == "trust.exchange.subject"


def test_a_token_under_the_key_of_jwt_svids_is_none_of_ours() -> None:
    async def work(house: TokenHouse) -> Any:
        await house.server(BOB, API)
        claims = house.claims(await house.ask(svid=house.certificate(ALICE)))
        forged = house.trust.keeper.keyring.jwt.sign(dict(claims))
        return await refused(house.exchange(forged, svid=house.certificate(BOB), resource=OTHER))

    assert in_house(work) == "trust.exchange.subject"


# draft-ietf-oauth-transaction-tokens


async def transaction(house: TokenHouse, **more: str) -> Any:
    token = await received(house)
    form = {"requested_token_type": TXN, "audience": "remit.test", "scope": "read", **more}
    return await house.exchange(token, svid=house.certificate(BOB), **form)


def test_txn_5_2_a_transaction_token_is_for_the_trust_domain_for_minutes() -> None:
    async def work(house: TokenHouse) -> Any:
        answer = await transaction(house, request_details='{"order":7}', request_context="eyJpcCI6IjEuMi4zLjQifQ")
        return (
            house.claims(answer),
            answer.token_type,
            jose.read(answer.token, jose.Profile(types=frozenset({"txntoken+jwt"}), required=frozenset())).header[
                "typ"
            ],
        )

    claims, shown, typ = in_house(work)
    assert (claims["aud"], claims["sub"], claims["scope"]) == ("remit.test", ALICE, "read")
    assert (claims["tctx"], claims["rctx"], claims["req_wl"]) == ({"order": 7}, {"ip": "1.2.3.4"}, [BOB])
    assert claims["exp"] - claims["iat"] <= 120 and claims["txn"]
    assert (shown, typ) == ("N_A", "txntoken+jwt")


def test_txn_a_replacement_keeps_the_transaction_and_narrows_it() -> None:
    async def work(house: TokenHouse) -> Any:
        first = await transaction(house, request_details='{"order":7}')
        form = {"requested_token_type": TXN, "request_details": '{"step":2}'}
        second = await house.exchange(first.token, svid=house.certificate(CAROL), kind="txn_token", **form)
        changed = {"requested_token_type": TXN, "request_details": '{"order":8}'}
        code = await refused(house.exchange(first.token, svid=house.certificate(CAROL), kind="txn_token", **changed))
        return house.claims(first), house.claims(second), code

    first, second, code = in_house(work)
    assert (second["txn"], second["sub"]) == (first["txn"], ALICE)
    assert second["tctx"] == {"order": 7, "step": 2}
    assert second["req_wl"] == [BOB, CAROL] and second["act"] == {"sub": CAROL, "act": {"sub": BOB}}
    assert code == "trust.exchange.transaction"


def test_txn_a_transaction_does_not_leave_the_trust_domain() -> None:
    async def work(house: TokenHouse) -> Any:
        first = await transaction(house)
        out = house.exchange(first.token, svid=house.certificate(CAROL), kind="txn_token", resource=API)
        elsewhere = transaction_of(house, first.token, audience="other.test")
        return await refused(out), await refused(elsewhere)

    assert in_house(work) == ("trust.token.resource", "trust.token.resource")


def transaction_of(house: TokenHouse, token: str, **form: str) -> Any:
    return house.exchange(
        token, svid=house.certificate(CAROL), kind="txn_token", requested_token_type=TXN, **form
    )  # fmt: skip


def test_txn_what_did_not_prove_a_workload_does_not_carry_it_on() -> None:
    async def work(house: TokenHouse) -> Any:
        first = await transaction(house)
        client = await house.keyed_client()
        return await refused(
            house.exchange(
                first.token, kind="txn_token", requested_token_type=TXN, client_assertion=house.assertion(client),
                client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            )
        )  # fmt: skip

    assert in_house(work) == "trust.exchange.bearer"
