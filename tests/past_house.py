"""A store in which things happen minute by minute through the services' own verbs, to be asked about afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MethodType, SimpleNamespace
from typing import Any

from remit.access.grants import Grants, approval_content
from remit.access.leases import outcome
from remit.access.leases.model import HeldLease
from remit.access.leases.testing import HmacAttester
from remit.access.model import Approval, Entity, Grant, Lease, LeaseState, Proved, Request, Revocation
from remit.access.targets import parse_need
from remit.access.tasks.model import Program, TaskDefinition
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityRecord
from remit.kernel.clock import ManualClock, rfc3339
from remit.kernel.ids import name, new_id
from remit.storage.database import Database
from remit.trust.model import Issued
from remit.trust.revocation import cascade
from remit.trust.revocation.model import Subject, SubjectKind
from remit.wiring.control import ControlPlane
from remit.wiring.graph import Graphs
from remit.wiring.past import PastDesk
from stores import opened

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
ATTESTER = HmacAttester()
NEED = parse_need("postgres://orders?role=read")


class PastHouse:
    """One minute passes before each thing that happens."""

    def __init__(self, store: Database, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.grants = Grants(store=store, attester=ATTESTER)
        control = SimpleNamespace(store=store, instance="test0001")
        control.graphs = Graphs(control)  # type: ignore[arg-type]
        control.resolve = MethodType(ControlPlane.resolve, control)
        self.desk = PastDesk(control)  # type: ignore[arg-type]

    @property
    def now(self) -> datetime:
        return self.clock.now()

    async def write(self, work: Any) -> Any:
        self.clock.advance(timedelta(minutes=1))
        return await self.store.write(work)

    async def past(self, of: str, at: datetime | None = None) -> Any:
        return await self.desk.look(of, at or self.now)

    async def held(self, of: str, at: datetime | None = None) -> bool:
        return bool((await self.past(of, at))["thing"]["held"])

    async def identity(self, title: str = "fix") -> str:
        record = IdentityRecord(
            id=new_id("id", self.now), name=name("test", "one", "user", title), kind=IdentityKind.BOT, title=title,
            system="test", instance="one", state=State.ACTIVE, first_seen=self.now, last_seen=self.now,
        )  # fmt: skip

        def work(unit: Any) -> None:
            unit.inventory.put_identities([record])
            unit.inventory.put_aliases({record.name: record.id}, "its own", unit.now)

        await self.write(work)
        return record.id

    async def asked(self, identity: str, life: timedelta | None = None) -> Grant:
        self.clock.advance(timedelta(minutes=1))
        program = Program(executable="/bin/true", sha256="a" * 64)
        task = TaskDefinition(name=f"t-{identity}", identity=identity, program=program, created=NOON, created_by="p")
        return await self.grants.request(task, (NEED,), life=life, reason="month end", actor="person:ana")

    async def approved(self, grant: Grant, by: str = "person:ben") -> None:
        self.clock.advance(timedelta(minutes=1))
        signature = ATTESTER.sign("approval", approval_content(by, self.now, grant.digest))
        word = Approval(approver=by, time=self.now, digest=grant.digest, signature=signature)
        await self.grants.approve(grant.id, word)

    async def withdrawn(self, grant: Grant) -> None:
        self.clock.advance(timedelta(minutes=1))
        await self.grants.withdraw(grant.id, actor="person:ana", reason="not needed")

    def a_lease(self, grant: str, identity: str, state: LeaseState = LeaseState.ISSUING) -> HeldLease:
        lease = Lease(
            id=new_id("ls", self.now), grant=grant, identity=identity, task="fix", target="orders", need=str(NEED),
            principal=f"remit_{new_id('p', self.now).lower()}", state=state, process=None, created=self.now,
            expires=self.now + timedelta(hours=1),
        )  # fmt: skip
        asked = Request(subject=Entity(type="I", id="x"), action="use", resource=Entity(type="R", id="x"))
        return HeldLease(lease=lease, sealed=b"", role="", database="", holder="en", epoch=1, request=asked)

    async def leased(self, grant: str, identity: str) -> HeldLease:
        held = self.a_lease(grant, identity)
        await self.write(lambda unit: outcome.insert_issuing(unit, held, "dc_1"))
        active = await self.write(lambda unit: outcome.activated(unit, held))
        assert isinstance(active, HeldLease)
        return active

    async def spare(self) -> HeldLease:
        held = self.a_lease("", "")
        await self.write(lambda unit: outcome.insert_spare(unit, held))
        spare = await self.write(lambda unit: outcome.shelved(unit, held))
        assert isinstance(spare, HeldLease)
        return spare

    async def assigned(self, spare: HeldLease, grant: str, identity: str) -> HeldLease:
        lease = replace(spare.lease, grant=grant, identity=identity, state=LeaseState.ACTIVE)
        held = replace(spare, lease=lease)
        assert await self.write(lambda unit: outcome.assigned(unit, held, "dc_1"))
        return held

    async def ending(self, held: HeldLease) -> HeldLease:
        found = await self.write(
            lambda unit: outcome.withdrawn(unit, [held], holder="en", reason="over", actor="person:ana")
        )
        return found[0]  # type: ignore[no-any-return]

    async def ended(self, held: HeldLease) -> None:
        answer = Revocation(
            principal=held.lease.principal, gone=True, sessions_ended=0, duration=timedelta(0), left_behind=(),
            proof=Proved(refusal="no", control="yes"),
        )  # fmt: skip
        assert await self.write(lambda unit: outcome.concluded(unit, held, answer))

    async def token(
        self, subject: str, *, grant: str = "", authority: str = "au_1", minutes: int = 30, **more: Any
    ) -> str:
        jti = new_id("t", self.now)[2:].lower()
        expires = self.now + timedelta(minutes=minutes + 1)
        data = {
            "jti": jti, "kind": "access-token", "sub": subject, "act": [], "aud": ["https://api"], "scope": "read",
            "client": "c", "method": "m", "proof": "p", "cnf": "none", "grant": grant, "authority": authority,
            "expires": rfc3339(expires), **more,
        }  # fmt: skip

        def work(unit: Any) -> None:
            unit.record("trust.token.issued", actor="c", subject=subject, data=data)
            issued = Issued(
                id=jti, kind="access-token", spiffe_id=subject, identity=subject, authority=authority, grant=grant,
                issued=unit.now, expires=expires,
            )  # fmt: skip
            unit.trust.note_issued([issued])

        await self.write(work)
        return jti

    async def token_grant(self, identity: str, anchor: str = "") -> str:
        grant = new_id("gr", self.now)
        data = {
            "id": grant, "identity": identity, "subject": identity, "actors": [], "resources": ["https://api"],
            "scopes": ["read"], "details": [], "anchor": anchor, "decisions": ["dc_1"],
            "expires": rfc3339(self.now + timedelta(hours=1)), "digest": "sha256:x",
        }  # fmt: skip
        await self.write(lambda unit: unit.record("trust.token.granted", actor="c", subject=identity, data=data))
        return grant

    async def revoked(self, subject: str, *, returned: bool = False) -> Any:
        parsed = Subject(SubjectKind.IDENTITY, subject) if subject.startswith("id_") else Subject.parse(subject)
        order = cascade.Order(subject=parsed, reason="lost", actor="person:ana", returned=returned)
        made, _ = await self.write(lambda unit: cascade.make(unit, order, lambda _, one: [one], known=(), least=0))
        return made

    async def restored(self, made: Any) -> None:
        await self.write(
            lambda unit: cascade.restore(
                unit, [made], by="person:ben", reason="found", attester=ATTESTER, known=(), least=0
            )
        )


@asynccontextmanager
async def past_house(url: str) -> AsyncIterator[PastHouse]:
    clock = ManualClock(NOON)
    async with opened(url, clock=clock) as store:
        yield PastHouse(store, clock)
