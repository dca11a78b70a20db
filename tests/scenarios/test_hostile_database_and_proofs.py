"""Path proof against somebody who writes into the database: what no signature of ours covers decides nothing."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remit.access.leases.model import HeldLease, principal_name
from remit.access.model import Entity, Grant, GrantState, Lease, LeaseState, Request, Target
from remit.access.ports import StoredGrant, StoredTarget
from remit.access.targets import _content
from remit.governance.pathproof.model import Policy, Report, Status
from remit.inventory import registry
from remit.inventory.model import EdgeFact, Fact, IdentityFact, IdentityKind, Place, Relation, ResourceFact, Sensitivity
from remit.kernel.errors import Conflict, Unavailable
from remit.kernel.ids import name
from remit.wiring import ControlPlane, open_control_plane, settings_from
from remit.wiring.paths import Queue

PLACE = Place(system="postgres", path="pg_class")
AT = "10.0.0.5:5432"
TABLE = name("postgres", AT, "table", "app.public.cards")
NEED = "postgres://orders/app?role=write"


async def weigh(text: str, *, invariants: str) -> Any:
    raise Unavailable("access.policy.prover", "not asked here")


def login(local: str) -> Any:
    return name("postgres", AT, "role", local)


async def scan(control: ControlPlane, *logins: str, also: tuple[Fact, ...] = ()) -> None:
    facts: list[Fact] = [
        ResourceFact(name=TABLE, kind="table", title="cards", place=PLACE, sensitivity=Sensitivity.RESTRICTED), *also,
    ]  # fmt: skip
    for each in logins:
        facts.append(IdentityFact(name=login(each), kind=IdentityKind.DATABASE_ROLE, title=each, place=PLACE))
        facts.append(
            EdgeFact(source=login(each), relation=Relation.CAN_REACH, target=TABLE, evidence="relacl", place=PLACE,
                     actions=("SELECT",), cut="REVOKE")
        )  # fmt: skip

    def work(unit: Any) -> None:
        run = registry.begin_run(unit, "postgres", AT, "all")
        registry.reconcile(unit, run, facts)
        registry.finish_run(unit, run, {}, ())

    await control.store.write(work)
    control.graphs.outdated()


def play(scene: Callable[[ControlPlane], Awaitable[None]]) -> None:
    @asynccontextmanager
    async def plane() -> AsyncIterator[ControlPlane]:
        folder = Path(tempfile.mkdtemp(prefix="remit-p-", dir="/tmp"))
        control = await open_control_plane(settings_from(folder / "d", environ={}, flags={}))
        try:
            yield control
        finally:
            await control.close()
            shutil.rmtree(folder)

    async def run() -> None:
        async with plane() as control:
            await scene(control)

    asyncio.run(run())


TARGET = Target(name="orders", system="postgres", host="10.0.0.5", port=5432, user="remit_admin", database="app",
                roles={"write": "app_rw"})  # fmt: skip


def put_target(unit: Any, target: Target, signature: str = "forged") -> None:
    unit.access.insert_target(
        StoredTarget(target=target, sealed=b"", created=unit.now, created_by="person:eve", signature=signature)
    )
    if signature != "forged":
        unit.record("access.target.added", actor="person:ann", subject="target:orders", data={"name": "orders"})


def put_lease(unit: Any, control: ControlPlane, principal: str, *, signed: bool) -> None:
    grant = Grant(
        id=unit.new_id("gr"), identity="id_app", task="report", task_digest="sha256:0", needs=(NEED,),
        state=GrantState.APPROVED, created=unit.now, expires=unit.now + timedelta(hours=1), decision="policy:x",
    )  # fmt: skip
    from remit.access.grants import content_of

    signature = control.keys.sign("grant", content_of(grant)) if signed else "forged"
    unit.access.insert_grant(StoredGrant(grant=grant, signature=signature, requested_by="x"))
    lease = Lease(
        id=unit.new_id("ls"), grant=grant.id, identity="id_app", task="report", target="orders", need=NEED,
        principal=principal, state=LeaseState.ACTIVE, process=None, created=unit.now,
        expires=unit.now + timedelta(hours=1),
    )  # fmt: skip
    request = Request(subject=Entity(type="identity", id="id_app"), action="x", resource=Entity(type="t", id="t"))
    unit.access.insert_lease(
        HeldLease(lease=lease, sealed=b"", role="app_rw", database="app", request=request, holder="", epoch=0)
    )


async def proved(control: ControlPlane) -> Report:
    control.graphs.outdated()
    return await control.path_proofs.prove(TABLE, "", weigh=weigh)


async def status_of(control: ControlPlane) -> tuple[Status, set[str]]:
    report = await proved(control)
    return report.verdicts[0].status, {each.title for each in report.verdicts[0].openings}


def test_a_target_that_somebody_wrote_into_the_database_makes_no_login_ours() -> None:
    async def scene(control: ControlPlane) -> None:
        await scan(control, "eve")
        await control.store.write(lambda unit: put_target(unit, replace(TARGET, user="eve")))
        assert await status_of(control) == (Status.OPEN, {"eve"})

    play(scene)


@pytest.mark.parametrize(("signed", "expected"), [(False, Status.OPEN), (True, Status.UNMEASURED)])
def test_a_lease_decides_only_by_a_grant_that_is_signed(signed: bool, expected: Status) -> None:
    async def scene(control: ControlPlane) -> None:
        await control.store.write(lambda unit: put_target(unit, TARGET, control.keys.sign("target", _content(TARGET))))

        def work(unit: Any) -> str:
            made = principal_name(control.instance, unit.now, b"0123456789")
            put_lease(unit, control, made, signed=signed)
            return made

        principal = await control.store.write(work)
        await scan(control, principal)
        found = (await proved(control)).verdicts[0]
        assert (found.status is Status.OPEN) == (expected is Status.OPEN), found

    play(scene)


def test_an_answer_is_given_again_until_something_is_recorded() -> None:
    async def scene(control: ControlPlane) -> None:
        await scan(control, "eve")
        first = await proved(control)
        again = await control.path_proofs.prove(TABLE, "", weigh=weigh)
        await scan(control, "eve", "mallory")
        assert again is first
        assert (await proved(control)).verdicts[0].open == 2

    play(scene)


def test_what_changed_while_it_was_proved_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(control: ControlPlane) -> None:
        await scan(control)
        proofs = control.path_proofs
        report = await proved(control)
        policy = Policy(digest=report.policy.digest, version="", proved=("x",), failed=(), solver="z3")
        closed = replace(report, policy=policy, verdicts=(replace(report.verdicts[0], status=Status.UNREACHED),))
        assert not closed.obstacles and not await proofs._moved(closed)

        async def meanwhile(*given: Any) -> Report:
            await scan(control, "eve")
            return closed

        monkeypatch.setattr(proofs, "_prove", meanwhile)
        with pytest.raises(Conflict) as caught:
            await proofs.certify(TABLE, "", weigh=weigh, actor="person:ann")
        assert caught.value.code == "governance.proof.moved"

        same = {**report.graph, "digest": await _digest(control)}
        stale = replace(closed, graph=same, policy=replace(policy, digest="sha256:another"))

        async def other(*given: Any) -> Report:
            return stale

        monkeypatch.setattr(proofs, "_prove", other)
        with pytest.raises(Conflict):
            await proofs.certify(TABLE, "", weigh=weigh, actor="person:ann")
        assert await proofs.certificates() == []

    play(scene)


async def _digest(control: ControlPlane) -> str:
    from remit.governance.pathproof.examine import scope_digest

    return scope_digest(await control.paths.graph(), [TABLE])[0]


def test_a_certificate_that_stands_in_the_database_alone_is_not_listed() -> None:
    async def scene(control: ControlPlane) -> None:
        await scan(control)
        from sqlalchemy import update

        from remit.governance.pathproof import certificate
        from remit.storage.schema.core import ledger_entry

        data = {"digest": "sha256:0", "scope": f"resource:{TABLE}", "expires": "2030-01-01T00:00:00Z", "counts": {},
                "graph": {"digest": await _digest(control)}, "policy": {"digest": ""}, "solver": "", "exceptions": [],
                "guards": []}  # fmt: skip

        def record(unit: Any) -> None:
            unit.record(certificate.ENTRY, actor="person:ann", subject="x", data=data)

        await control.store.write(record)
        assert len(await control.path_proofs.certificates()) == 1

        def forge(unit: Any) -> None:
            row = unit.ledger.latest(1, type_prefix=certificate.ENTRY)[0]
            body = row.body.replace(b"2030", b"2039")
            unit.conn.execute(update(ledger_entry).where(ledger_entry.c.leaf_index == row.leaf_index).values(body=body))

        await control.store.write(forge)
        assert await control.path_proofs.certificates() == []

    play(scene)


def test_more_who_ask_than_may_wait_are_told_to_come_again() -> None:
    async def scene() -> None:
        queue, entered, done = Queue(1, 1), asyncio.Event(), asyncio.Event()

        async def ask() -> None:
            async with queue.turn():
                entered.set()
                await done.wait()

        asking = [asyncio.create_task(ask()) for _ in range(2)]
        await entered.wait()
        with pytest.raises(Unavailable):
            await ask()
        done.set()
        await asyncio.gather(*asking)
        await ask()

    asyncio.run(scene())
