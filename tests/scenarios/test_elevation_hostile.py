"""Elevation under people and machines who lie: one approval for one thing, once, read as it was written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from elevation_stage import NEED, Stage, play
from remit.access.grants import lease_request
from remit.access.grants.service import MAX_AN_HOUR, MAX_WAITING
from remit.access.leases.model import IssueOrder
from remit.access.leases.outcome import store_grant
from remit.access.model import GrantKind
from remit.access.targets import parse_need
from remit.access.tasks.kinds import ProcessTask
from remit.kernel.errors import Conflict, Rejected


async def decided(stage: Stage, grant: str, need: str) -> bool:
    """What the decision point says when somebody names the grant for `need`."""
    definition = await stage.control.tasks.get("fix")
    assert definition is not None
    proven: dict[str, Any] = {
        "attested": True, "attested_at": int(stage.control.clock.now().timestamp()), "task": "fix",
        "task_digest": definition.digest, "grant": grant,
    }  # fmt: skip
    decision = await stage.control.decisions.decide(lease_request(definition, parse_need(need), proven))
    return decision.allowed


@pytest.mark.parametrize("owed", ["approval", "approval: person/ben"])
def test_what_was_approved_for_one_target_is_no_approval_of_another(owed: str) -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.approve(await stage.ask())
        assert await decided(stage, grant.id, str(NEED))
        assert not await decided(stage, grant.id, "postgres://payroll?role=write")

    play(scene, owed=owed)


def test_an_approval_that_a_run_used_is_not_used_again_when_its_row_is_set_back() -> None:
    async def scene(stage: Stage) -> None:
        control, grant = stage.control, await stage.approve(await stage.ask())
        definition = await control.tasks.get("fix")
        assert definition is not None
        found = await control.grants.usable(definition, [NEED], control.clock.now())
        assert found is not None
        process = ProcessTask(boot_id="b", pid=1, start_ticks=1)
        order = IssueOrder(grant=found, process=process, plans=(), proven={}, changes=0)
        await control.store.write(lambda unit: store_grant(unit, order, control.grants.sign(found)))
        await stage.tamper(process=None, state="approved", ended=None)
        assert await control.grants.usable(definition, [NEED], control.clock.now()) is None
        assert grant.id == found.id

    play(scene)


def test_a_machine_that_asks_by_the_dozen_keeps_nobody_from_breaking_the_glass() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(MAX_WAITING):
            await stage.ask(stage.identity)
        with pytest.raises(Conflict):
            await stage.ask(stage.identity)
        assert (await stage.ask(kind=GrantKind.BREAK_GLASS)).terms is not None

    play(scene)


def test_asking_and_withdrawing_in_a_loop_ends() -> None:
    async def scene(stage: Stage) -> None:
        grants = stage.control.grants
        with pytest.raises(Conflict) as refused:
            for _ in range(MAX_AN_HOUR + 1):
                asked = await stage.ask(stage.identity)
                await grants.withdraw(asked.id, actor=stage.identity, reason="again")
        assert "within an hour" in refused.value.message

    play(scene)


@pytest.mark.parametrize("reason", ["fine\x1b[2K\x1b[1A", "fine \u202e dezilop", "\x00", " \n "])
def test_a_reason_that_would_deceive_who_reads_it_is_refused(reason: str) -> None:
    async def scene(stage: Stage) -> None:
        definition = await stage.control.tasks.get("fix")
        assert definition is not None
        with pytest.raises(Rejected) as refused:
            await stage.control.grants.request(
                definition, (NEED,), life=timedelta(minutes=5), reason=reason, actor="person:ana"
            )
        assert refused.value.code == "access.grant.reason"

    play(scene)


def test_a_reason_of_many_lines_is_told_on_one() -> None:
    async def scene(stage: Stage) -> None:
        definition = await stage.control.tasks.get("fix")
        assert definition is not None
        grant = await stage.control.grants.request(
            definition, (NEED,), life=None, reason="order 17\nfor: 1 s\nhttp://evil.test/requests/1", actor="person:ana"
        )
        assert grant.reason == "order 17 for: 1 s http://evil.test/requests/1"

    play(scene)


def test_emergencies_are_found_among_any_number_of_requests() -> None:
    async def scene(stage: Stage) -> None:
        emergency = await stage.ask(kind=GrantKind.BREAK_GLASS)
        usual = [await stage.ask() for _ in range(3)]

        def look(unit: Any) -> list[str]:
            return [one.grant.id for one in unit.access.grants(kind=GrantKind.BREAK_GLASS, limit=1)]

        assert await stage.control.store.read(look) == [emergency.id]
        assert emergency.id not in {one.id for one in usual}

    play(scene)
