"""An incident raises the identity's risk in the snapshot, and the starter policies refuse it: on a control plane."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from remit.access.model import Decision, Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.snapshot import Delta
from remit.defense import incidents
from remit.defense.model import Detection
from remit.inventory.model import IdentityKind, Severity, State
from remit.inventory.records import IdentityRecord
from remit.wiring import ControlPlane, open_control_plane, settings_from

STARTER = Path(incidents.__file__).parents[1] / "access/policy/starter/10-guardrails.cedar"
OPEN = '@id("open") permit (principal, action, resource);\n'


@asynccontextmanager
async def plane() -> AsyncIterator[ControlPlane]:
    folder = Path(tempfile.mkdtemp(prefix="remit-i-", dir="/tmp"))
    control = await open_control_plane(settings_from(folder / "d", environ={}, flags={}))
    try:
        yield control
    finally:
        await control.close()
        shutil.rmtree(folder)


async def known(control: ControlPlane) -> str:
    """An identity in the inventory, and the starter's guardrails, owners aside, beside a permit of everything."""

    def work(unit: object) -> str:
        name = str(unit.new_id("id"))  # type: ignore[attr-defined]
        record = IdentityRecord(
            id=name, name="urn:remit:files:host:workload:job", kind=IdentityKind.WORKLOAD, title="job", system="files",
            instance="host", state=State.ACTIVE, first_seen=unit.now, last_seen=unit.now,  # type: ignore[attr-defined]
        )  # fmt: skip
        unit.inventory.put_identities([record])  # type: ignore[attr-defined]
        unit.record("inventory.identities.found", actor="system:test", subject=name,  # type: ignore[attr-defined]
                    data={"identities": {name: record.name}})  # fmt: skip
        return name

    found = await control.store.write(work)
    await control.feed.settle()
    now = control.feed.cell.current()
    policies = compile_policies(OPEN + STARTER.read_text().replace("principal.owner_active", "true", 1))
    control.feed.cell.apply(
        Delta(epoch=now.epoch, sequence=now.sequence + 1, policies=policies), at=control.clock.monotonic()
    )
    return found


async def decided(control: ControlPlane, identity: str) -> Decision:
    asked = Request(
        subject=Entity(type="identity", id=identity), action="read", resource=Entity(type="service", id="orders"),
        proven={"attested": True},
    )  # fmt: skip
    return await control.decisions.decide(asked)


def detection(identity: str, severity: Severity, number: int, control: ControlPlane) -> Detection:
    now = control.clock.now()
    return Detection(
        id=f"dt_{number}", rule="stolen", identity=identity, title="used from another country", severity=severity,
        confidence=90, evidence={}, event_id=f"e{number}", happened=now, detected=now, suggested="",
    )  # fmt: skip


def by(decision: Decision) -> list[str]:
    return [reason.id for reason in decision.reasons]


def test_an_incident_raises_the_risk_and_the_risk_is_refused_until_it_is_closed() -> None:
    async def steps() -> None:
        async with plane() as control:
            identity = await known(control)
            before = await decided(control, identity)
            assert (before.allowed, by(before)) == (True, ["open"])
            found = detection(identity, Severity.CRITICAL, 1, control)
            taken = await control.store.write(lambda unit: incidents.take(unit, found))
            assert taken is not None
            await control.feed.settle()
            facts = control.feed.cell.current().identity(identity)
            assert facts is not None and facts.risk >= 80
            after = await decided(control, identity)
            assert (after.allowed, "risk-ceiling" in by(after)) == (False, True)
            recorded = await control.decision(after.id)
            assert recorded["facts"]["principal"]["attributes"]["risk"] == facts.risk
            incident = taken[1].id
            await control.store.write(
                lambda unit: incidents.close(unit, incident, by="person:ann", reason="it was a drill")
            )
            await control.feed.settle()
            closed = await decided(control, identity)
            assert (closed.allowed, by(closed)) == (True, ["open"])

    asyncio.run(steps())


def test_a_small_incident_is_no_reason_to_refuse() -> None:
    async def steps() -> None:
        async with plane() as control:
            identity = await known(control)
            found = detection(identity, Severity.LOW, 1, control)
            await control.store.write(lambda unit: incidents.take(unit, found))
            await control.feed.settle()
            facts = control.feed.cell.current().identity(identity)
            assert facts is not None and 0 < facts.risk < 80
            assert "risk-ceiling" not in by(await decided(control, identity))

    asyncio.run(steps())
