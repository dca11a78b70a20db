"""Approvals by teams on a control plane: any two of those who belong to it, as the journal has it, today."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, update

from elevation_stage import Stage, play
from remit.access.model import Grant, GrantState
from remit.governance import teams
from remit.governance.ownership import assign
from remit.kernel.errors import Denied
from remit.storage.schema.governance import governance_team

OWED = "approval: 2 of team/payments"


async def say(stage: Stage, lead: str, *members: str, by: str) -> teams.TeamMove:
    approver = await stage.sign(by, "/api/v1/teams", b"")

    def work(unit: Any) -> teams.TeamMove:
        return teams.set_team(
            unit, "payments", lead=lead, members=members, by=approver, reason="they pay",
            judgement=stage.control.standing, attester=stage.control.keys,
        )  # fmt: skip

    move = await stage.control.store.write(work)
    await stage.control.synchronise()
    return move


async def both_say(stage: Stage, lead: str, *members: str) -> None:
    assert (await say(stage, lead, *members, by="ana")).waits is not None
    assert (await say(stage, lead, *members, by="ben")).waits is None


async def state_of(stage: Stage, grant: Grant) -> GrantState:
    return (await stage.control.grants.get(grant.id)).grant.state


def test_two_of_a_team_approve_and_whoever_asks_counts_for_none() -> None:
    async def scene(stage: Stage) -> None:
        await both_say(stage, "ana", "ben", "cho")
        grant = await stage.ask()  # by ana
        assert (await stage.approve(grant, "ben")).state is GrantState.REQUESTED
        assert (await stage.approve(grant, "cho")).state is GrantState.APPROVED
        assert (await stage.decide(grant)).allowed

    play(scene, owed=OWED)


def test_nobody_approves_for_a_team_that_waits_for_a_second_person() -> None:
    async def scene(stage: Stage) -> None:
        await say(stage, "ben", "cho", by="ben")
        with pytest.raises(Denied, match="none of those"):
            await stage.approve(await stage.ask(), "ben")

    play(scene, owed=OWED)


def test_who_is_let_go_approved_nothing_any_more() -> None:
    async def scene(stage: Stage) -> None:
        await both_say(stage, "ana", "ben", "cho")
        grant = await stage.ask()
        await stage.approve(grant, "ben")
        await stage.approve(grant, "cho")
        await say(stage, "ana", "ben", by="ana")
        ((voided, why),) = await stage.control.grants.audit()
        assert (voided.id, "not enough any more" in why) == (grant.id, True)
        await stage.control.synchronise()
        assert not (await stage.decide(grant)).allowed

    play(scene, owed=OWED)


def test_a_writer_of_the_database_lets_nobody_approve() -> None:
    async def scene(stage: Stage) -> None:
        await both_say(stage, "ana", "ben")
        changed = {"lead": "cho", "members": ["cho"]}
        await stage.control.store.write(lambda unit: unit.conn.execute(update(governance_team).values(**changed)))
        grant = await stage.ask()
        with pytest.raises(Denied, match="none of those"):
            await stage.approve(grant, "cho")
        row = {"name": "ops", "lead": "cho", "members": [], "active": True, "registered_by": "person:ana"}
        await stage.control.store.write(
            lambda unit: unit.conn.execute(insert(governance_team).values(**row, registered=unit.now))
        )
        assert stage.control.standing.people_of("ops") is None

    play(scene, owed="approval: team/payments or team/ops")


def test_the_owner_of_a_teams_identity_is_its_lead_and_no_other_member() -> None:
    async def scene(stage: Stage) -> None:
        await both_say(stage, "ben", "cho")
        await stage.control.store.write(lambda unit: assign(unit, stage.identity, "team:payments", by="person:ana"))
        await stage.control.changed(stage.identity)
        grant = await stage.ask()
        with pytest.raises(Denied, match="none of those"):
            await stage.approve(grant, "cho")
        assert (await stage.approve(grant, "ben")).state is GrantState.APPROVED

    play(scene, owed="approval: owner")


def test_the_teams_are_known_again_after_a_restart() -> None:
    async def scene(stage: Stage) -> None:
        await both_say(stage, "ana", "ben", "cho")
        before = stage.control.standing.people_of("payments")
        reread = type(stage.control.standing)(
            stage.control.store, stage.control.store.authority_key or b"", stage.control.settings.data.root / "mark"
        )
        await reread.open()
        await reread.close()
        assert reread.people_of("payments") == before == ("ana", "ben", "cho")

    play(scene, owed=OWED)
