"""A grant is what was approved, or nothing: each thing that can change afterwards, one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from elevation_stage import NEED, Stage, play
from remit.access.model import GrantState
from remit.governance import people
from remit.inventory.records import CredentialRecord
from remit.kernel.errors import Denied
from remit.storage.schema.access import access_grant, access_task


async def _wider(stage: Stage) -> None:
    await stage.tamper(needs=[str(NEED), "postgres://orders?role=admin"])


async def _other_target(stage: Stage) -> None:
    await stage.tamper(needs=["postgres://payroll?role=write"])


async def _longer(stage: Stage) -> None:
    await stage.tamper(expires=stage.control.clock.now() + timedelta(hours=11))


async def _longer_terms(stage: Stage) -> None:
    row: Any = await stage.control.store.read(lambda unit: unit.conn.execute(select(access_grant.c.terms)).scalar())
    await stage.tamper(terms={**row, "life": 40_000})


async def _other_reason(stage: Stage) -> None:
    await stage.tamper(reason="something else")


async def _other_identity(stage: Stage) -> None:
    await stage.tamper(identity="id_01K00000000000000000000000")


async def _other_approver(stage: Stage) -> None:
    row: Any = await stage.control.store.read(lambda unit: unit.conn.execute(select(access_grant.c.approvals)).scalar())
    await stage.tamper(approvals=[{**row[0], "approver": "person:cho"}])


async def _forged_signature(stage: Stage) -> None:
    row: Any = await stage.control.store.read(lambda unit: unit.conn.execute(select(access_grant.c.approvals)).scalar())
    forged = {**row[0]["evidence"], "signature": "00" * 64}
    await stage.tamper(approvals=[{**row[0], "evidence": forged}])


async def _other_program(stage: Stage) -> None:
    await stage.task(sha256="b" * 64)


async def _tampered_program(stage: Stage) -> None:
    program = {"executable": "/bin/sh", "sha256": "c" * 64, "script": "", "script_sha256": "", "arguments": None}
    await stage.control.store.write(lambda unit: unit.conn.execute(update(access_task).values(program=program)))


async def _other_policies(stage: Stage) -> None:
    await stage.policies("approval: anyone")


async def _another_key(stage: Stage) -> None:
    def work(unit: Any) -> None:
        key = CredentialRecord(
            fingerprint="sha256:" + "d" * 64, identity=stage.identity, kind="ssh-key", title="key", state="active",
            first_seen=unit.now, last_seen=unit.now,
        )  # fmt: skip
        unit.inventory.put_credentials([key])

    await stage.control.store.write(work)


async def _approver_gone(stage: Stage) -> None:
    by = await stage.sign("ana", "/leave", b"")
    await stage.control.store.write(lambda unit: people.deactivate(unit, "ben", by=by, reason="left"))


CHANGES = (
    _wider, _other_target, _longer, _longer_terms, _other_reason, _other_identity, _other_approver, _forged_signature,
    _other_program, _tampered_program, _other_policies, _another_key, _approver_gone,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_whatever_changes_after_the_approval_the_decision_point_refuses_it(
    change: Callable[[Stage], Awaitable[None]],
) -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.approve(await stage.ask())
        assert (await stage.decide(grant)).allowed
        await change(stage)
        await stage.control.synchronise()
        await stage.control.grant_keeper.look()
        definition = await stage.control.tasks.get("fix")
        if definition is not None:
            refused = await stage.decide(grant)
            assert not refused.allowed
            assert "the grant is not what was approved" in refused.reasons[0].text
            assert await stage.control.grants.usable(definition, (NEED,), stage.control.clock.now()) is None
        assert (await stage.control.grants.get(grant.id)).grant.state is GrantState.VOIDED

    play(scene)


def test_an_unchanged_grant_stays_what_it_is() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.approve(await stage.ask())
        assert not await stage.control.grant_keeper.look()
        assert (await stage.decide(grant)).allowed
        assert grant.expires == grant.approvals[0].time + timedelta(seconds=1800)  # the clock starts at approval

    play(scene)


def test_a_withdrawn_grant_is_not_brought_back_by_a_row() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.approve(await stage.ask())
        await stage.control.grants.withdraw(grant.id, actor="person:ana", reason="no need")
        await stage.tamper(state="approved", ended=None)
        stage.control.feed.reload()
        await stage.control.synchronise()
        assert not (await stage.decide(grant)).allowed

    play(scene)


def test_nobody_approves_in_another_one_s_name() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask()
        with pytest.raises(Denied, match="own signature"):
            await stage.approve(grant, "cho", signed_by="ben")

    play(scene)


def test_what_changed_while_it_waited_cannot_be_approved() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask()
        await stage.task(sha256="b" * 64)
        with pytest.raises(Denied, match="definition"):
            await stage.approve(grant)

    play(scene)


def test_a_row_that_says_approved_was_approved_by_nobody() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask()
        await stage.tamper(state="approved")
        stage.control.feed.reload()
        await stage.control.synchronise()
        refused = await stage.decide(grant)
        assert not refused.allowed
        assert "nobody approved it" in refused.reasons[0].text

    play(scene)
