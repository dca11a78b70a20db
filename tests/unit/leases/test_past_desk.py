"""What the state at a past moment must say, and must not, of each kind of thing: on a real store of each engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, update

from past_house import PastHouse, past_house
from remit.access.model import Target
from remit.access.ports import StoredTarget
from remit.inventory import joins
from remit.kernel.errors import Conflict, NotFound, RemitError
from remit.storage.schema.access import access_grant, access_lease
from remit.storage.schema.core import ledger_body
from remit.surface.cli.commands.past import _print
from stores import postgres, url

__all__ = ["postgres", "url"]

Scene = Callable[[PastHouse], Awaitable[None]]


def play(url: str, scene: Scene) -> None:
    async def run() -> None:
        async with past_house(url) as house:
            await scene(house)

    asyncio.run(run())


@pytest.fixture
def lite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'remit.db'}"


async def approved(house: PastHouse, identity: str) -> Any:
    grant = await house.asked(identity)
    await house.approved(grant)
    return grant


def test_a_grant_of_the_token_service_is_found_before_in_and_after_its_life(url: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        before = house.now
        grant = await house.token_grant(identity)
        given = house.now
        assert [await house.held(grant, each) for each in (before, given)] == [False, True]
        house.clock.advance(timedelta(hours=1))
        assert not await house.held(grant)
        found = await house.past(grant, given)
        assert (found["identity"].id, found["thing"]["given"]["decisions"]) == (identity, ["dc_1"])

    play(url, scene)


def test_a_token_of_one_without_a_registry_row_is_dead_once_it_was_revoked(url: str) -> None:
    async def scene(house: PastHouse) -> None:
        token = await house.token("spiffe://acme.example/x")
        alive = house.now
        await house.revoked(f"jti:{token}")
        assert [await house.held(token, each) for each in (alive, house.now)] == [True, False]
        listed = await house.past("spiffe://acme.example/x", alive)
        assert [each["id"] for each in listed["issued"]] == [token]

    play(url, scene)


def test_what_a_withdrawn_authority_signed_counts_no_more(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        token = await house.token(await house.identity())
        alive = house.now
        await house.write(
            lambda unit: unit.record("trust.authority.revoked", actor="p", subject="acme", data={"id": "au_1"})
        )
        assert [await house.held(token, each) for each in (alive, house.now)] == [True, False]

    play(lite, scene)


def test_what_fell_with_an_identity_stays_fallen_after_it_was_restored(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        grant = await approved(house, identity)
        token = await house.token(identity)
        alive = house.now
        made = await house.revoked(identity)
        revoked = house.now
        await house.restored(made)
        assert [await house.held(token, each) for each in (alive, revoked, house.now)] == [True, False, False]
        assert [await house.held(grant.id, each) for each in (alive, revoked, house.now)] == [True, False, True]
        assert [each["id"] for each in (await house.past(identity, revoked))["revocations"]] == [made.id]

    play(lite, scene)


def test_a_grant_that_was_revoked_before_it_was_used_does_not_hold(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        grant, other = await approved(house, identity), await approved(house, identity)
        made = await house.revoked(f"grant:{grant.id}")
        assert [await house.held(each.id) for each in (grant, other)] == [False, True]
        shown = {each["id"]: each["revoked"] for each in (await house.past(identity))["grants"]}
        assert shown == {grant.id: made.id, other.id: None}

    play(lite, scene)


def test_a_token_is_found_among_more_than_an_identity_may_list(lite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.wiring.past_issued.MOST_ISSUED", 2)

    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        tokens = [await house.token(identity) for _ in range(4)]
        assert [await house.held(each) for each in tokens] == [True] * 4

    play(lite, scene)


def test_a_lease_keeps_its_approvers_when_its_grant_ended_before_it(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        target = Target(name="orders", system="redis", host="h", port=1, database="", user="", roles={}, options={})

        def plant(unit: Any) -> None:
            unit.access.insert_target(
                StoredTarget(target=target, sealed=b"s", created=unit.now, created_by="p", signature="s")
            )
            data = {"name": "orders", "system": "redis", "host": "h", "port": 1, "database": "", "user": "",
                    "roles": {}, "options": {}, "instance": ""}  # fmt: skip
            unit.record("access.target.added", actor="p", subject="target:orders", data=data)

        await house.write(plant)
        grant = await approved(house, identity)
        held = await house.leased(grant.id, identity)
        await house.write(
            lambda unit: unit.conn.execute(update(access_lease).values(role="read").where(access_lease.c.id == held.id))
        )
        await house.withdrawn(grant)
        found = await house.past(held.lease.principal)
        assert found["thing"]["held"] is True
        assert found["grants"] == []
        (reached,) = found["reach"]["things"]
        assert reached["grants"] == [{"id": grant.id, "approved_by": ["person:ben"], "given_by": "persons"}]

    play(lite, scene)


def test_a_spare_is_the_credential_of_whom_it_was_given_to_and_only_then(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        spare = await house.spare()
        parked = house.now
        held = await house.assigned(spare, "gr_x", identity)
        given = house.now
        await house.ended(await house.ending(held))
        assert [await house.held(spare.id, each) for each in (parked, given, house.now)] == [False, True, False]

    play(lite, scene)


def test_a_row_that_was_deleted_or_changed_is_named_not_believed(url: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity, other = await house.identity("one"), await house.identity("two")
        changed, gone = await approved(house, identity), await approved(house, identity)
        held = await house.leased(gone.id, identity)

        def tamper(unit: Any) -> None:
            unit.conn.execute(update(access_grant).where(access_grant.c.id == changed.id).values(identity=other))
            unit.conn.execute(delete(access_grant).where(access_grant.c.id == gone.id))
            unit.conn.execute(update(access_lease).where(access_lease.c.id == held.id).values(identity=other))

        before = house.now
        await house.write(tamper)
        for each in (changed, gone):
            with pytest.raises(Conflict, match="is gone or is not what the ledger tells of"):
                await house.past(each.id, before)
        assert (await house.past(held.id, before))["identity"].id == identity
        assert (await house.past(other, before))["leases"] == []

    play(url, scene)


def test_an_end_that_the_row_was_given_in_the_database_ends_nothing(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        grant = await approved(house, identity)
        before = house.now
        await house.write(lambda unit: unit.conn.execute(update(access_grant).values(ended=before, expires=before)))
        assert await house.held(grant.id, before)

    play(lite, scene)


def test_what_was_committed_late_counts_by_its_own_time(lite: str) -> None:
    """A transaction bears the moment at which it began: others may lie before it in the log."""

    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        first = await house.token(identity)
        house.clock.advance(timedelta(seconds=-90))
        late = await house.token(identity)
        at = house.now + timedelta(seconds=10)
        house.clock.advance(timedelta(minutes=5))
        assert [each["id"] for each in (await house.past(identity, at))["issued"]] == [late]
        assert {each["id"] for each in (await house.past(identity))["issued"]} == {first, late}

    play(lite, scene)


@pytest.mark.parametrize("form", ["0a1b2c", "a1b2c", "0x0A1B2C", "0A:1B:2C", "serial:0a:1b:2c"])
def test_a_serial_is_read_as_other_programs_write_it(lite: str, form: str) -> None:
    async def scene(house: PastHouse) -> None:
        said = {
            "kind": "x509-svid", "serial": "a1b2c", "spiffe_id": "spiffe://acme.example/x", "entry": "en_1",
            "authority": "au_1", "evidence": "e", "expires": "2026-03-03T13:00:00.000000Z", "audience": [],
        }  # fmt: skip
        named = "spiffe://acme.example/x"
        await house.write(lambda unit: unit.record("trust.svid.issued", actor="s", subject=named, data=said))
        assert await house.held(form)

    play(lite, scene)


def test_a_token_says_when_the_approved_grant_under_it_had_ended(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        anchor = await approved(house, identity)
        token = await house.token(identity, grant=await house.token_grant(identity, anchor.id))
        before = house.now
        await house.withdrawn(anchor)
        found = [(await house.past(token, each))["thing"]["given"]["in_force"] for each in (before, house.now)]
        assert found == [True, False]

    play(lite, scene)


def test_an_id_is_its_own_before_it_was_joined_and_after_it_was_split(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        older, younger = await house.identity("old"), await house.identity("young")
        own, token = await approved(house, younger), await house.token(younger)
        apart = house.now
        await house.write(lambda unit: joins.join(unit, older, younger, by="person:ana", reason="same"))
        joined = house.now
        young = "urn:remit:test:one:user:young"
        await house.write(lambda unit: joins.split(unit, older, young, by="person:ana", reason="not so"))
        split = house.now
        for moment, has in ((apart, younger), (joined, older), (split, younger)):
            for asked in (younger, young, own.id, token):
                found = await house.past(asked, moment)
                assert (found["identity"].id, [each["id"] for each in found["grants"]]) == (has, [own.id])
                assert [each["id"] for each in found["issued"]] == [token]
        assert [len((await house.past(older, each))["grants"]) for each in (apart, joined, split)] == [0, 1, 0]
        assert [len((await house.past(older, each))["issued"]) for each in (apart, joined, split)] == [0, 1, 0]

    play(lite, scene)


def test_entries_too_large_for_a_leaf_are_read_from_beside_it(url: str) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        token = await house.token(identity, details=[{"type": "x" * 70_000}])
        assert [each["id"] for each in (await house.past(identity))["issued"]] == [token]
        await house.write(lambda unit: unit.conn.execute(update(ledger_body).values(body=b"{}")))
        with pytest.raises(Conflict, match="lies beside the log"):
            await house.past(identity)

    play(url, scene)


def test_the_grant_of_another_is_not_taken_from_what_a_system_says(lite: str) -> None:
    """A system's own evidence that spells one of our grants is no approval."""
    from remit.access.edges import OwnEdges
    from remit.inventory.graph.model import Edge
    from remit.inventory.model import Relation
    from remit.kernel.ids import new_id
    from remit.wiring.past import _named

    grant = new_id("gr", datetime(2026, 3, 3, tzinfo=UTC))
    until = f"lease ls_1 under grant {grant}, until then"
    own = OwnEdges((), (Edge(source="a", relation=Relation.ASSUME, target="b", evidence=until),))
    assert _named(own, [until, f"GRANT ON grant {grant}"]) == {until: grant}


@pytest.mark.parametrize(
    "given",
    ["\x00", "gr_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "gr_00000000000000000000000000", "ls_00000000000000000000000000",
     "sha256:", "hmac:\x1b[2J", "x" * 2000, "%_\\", "spiffe://nobody/x", "🦀" * 500, "id_00000000000000000000000000",
     "serial:", "0x", "jti:" + "a" * 64, "';--"],
)  # fmt: skip
@pytest.mark.parametrize("at", [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 3, 3, 12, tzinfo=UTC)])
def test_odd_names_and_moments_are_refused_by_our_own_errors(url: str, given: str, at: datetime) -> None:
    async def scene(house: PastHouse) -> None:
        await house.identity()
        with pytest.raises(RemitError):
            await house.past(given, at)

    play(url, scene)


def test_an_exception_holds_from_its_approval_with_what_was_asked_until_the_end_that_was_granted_last(
    lite: str,
) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity()
        hour = timedelta(hours=1)
        asked = {"identities": [identity], "rule": "r", "actions": ["connect"], "resource": "*", "reason": "x",
                 "requester": "person:ana"}  # fmt: skip
        moments = []
        for past, by, data in (
            ("requested", "ana", asked), ("approved", "ben", {"expires": house.now + hour, "signature": "s"}),
            ("renewed", "cem", {"expires": house.now + 3 * hour, "signature": "s"}), ("revoked", "ana", {}),
        ):  # fmt: skip
            told = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in data.items()}
            await house.write(
                lambda unit, past=past, by=by, told=told: unit.record(
                    f"governance.exception.{past}", actor=f"person:{by}", subject="ex_1", data=told
                )
            )
            moments.append(house.now)
        found = [(await house.past(identity, each))["exceptions"] for each in moments]
        assert [[each["approved_by"] for each in row] for row in found] == [
            [], [["person:ben"]], [["person:ben", "person:cem"]], []
        ]  # fmt: skip

    play(lite, scene)


def test_what_a_terminal_is_shown_cannot_move_its_cursor_nor_draw_pictures(
    lite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(house: PastHouse) -> None:
        identity = await house.identity("x\x1b[2J[bold]\u202e")
        grant = await approved(house, identity)
        await house.token(identity, grant=await house.token_grant(identity, grant.id), scope="\x9b2J [/red]")
        await house.leased(grant.id, identity)
        for asked in (identity, grant.id):
            _print(msgspec.json.decode(msgspec.json.encode(await house.past(asked))))

    play(lite, scene)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "[bold]" in shown and "urn:remit:test:one:user" in shown


def test_nothing_that_never_was_is_found(lite: str) -> None:
    async def scene(house: PastHouse) -> None:
        with pytest.raises(NotFound):
            await house.past("nobody")

    play(lite, scene)
