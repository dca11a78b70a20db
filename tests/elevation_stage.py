"""A control plane in this process with people who hold keys of their own, a task, and policies that ask for approval."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remit.access.grants import approval_content, lease_request
from remit.access.model import Approval, Decision, Grant, GrantKind
from remit.access.policy import lifecycle
from remit.access.targets import parse_need
from remit.access.tasks.model import Program, TaskDefinition
from remit.governance import people
from remit.governance.approvals import evidence_of
from remit.governance.signatures import encode_signed, sign_command
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityRecord
from remit.wiring import ControlPlane, open_control_plane, settings_from

NEED = parse_need("postgres://orders?role=write")
PERMIT = """
@id("write") @reason("writing needs somebody's approval") @obligation("{owed}")
permit (principal, action in Remit::Action::"lease", resource)
when {{ context.attested && context has role && context.role == "write" }};
"""


@dataclass
class Stage:
    """Who and what there is."""

    control: ControlPlane
    identity: str = ""
    seeds: dict[str, bytes] = field(default_factory=dict)

    async def enrol(self, *names: str) -> None:
        for name in names:
            seed = self.seeds[name] = secrets.token_bytes(32)
            public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
            by = people.LocalOwner() if len(self.seeds) == 1 else await self.sign(next(iter(self.seeds)), "/enrol", b"")

            def work(unit: Any, name: str = name, public: str = public, by: Any = by) -> object:
                return people.enroll(unit, name=name, email=f"{name}@example.test", public_key=public, by=by)

            await self.control.store.write(work)

    async def sign(self, name: str, path: str, body: bytes) -> Any:
        signed = sign_command(
            self.seeds[name], person=name, method="POST", path=path, body=body, audience=self.control.instance,
            now=self.control.clock.now(), nonce=secrets.token_urlsafe(24),
        )  # fmt: skip
        return await self.control.verify_person(encode_signed(signed), method="POST", path=path, body=body)

    async def policies(self, owed: str) -> None:
        def work(unit: Any) -> None:
            staged = lifecycle.stage(unit, PERMIT.format(owed=owed), by="person:ana")
            lifecycle.activate(unit, staged.id, by="person:ben", attester=self.control.keys)

        await self.control.store.write(work)
        await self.control.synchronise()

    async def task(self, sha256: str = "a" * 64) -> TaskDefinition:
        program = Program(executable="/bin/true", sha256=sha256)
        return await self.control.tasks.register("fix", identity=self.identity, program=program, actor="person:ben")

    async def own(self, owner: str) -> None:
        from remit.governance import ownership

        await self.control.store.write(lambda unit: ownership.claim(unit, self.identity, owner))

    async def ask(self, by: str = "ana", *, life: int = 1800, kind: GrantKind = GrantKind.USUAL) -> Grant:
        definition = await self.control.tasks.get("fix")
        assert definition is not None
        actor = f"person:{by}" if by in self.seeds else by
        grant = await self.control.grants.request(
            definition, (NEED,), life=timedelta(seconds=life), reason="order 17", actor=actor, kind=kind
        )
        await self.control.synchronise()
        return grant

    async def approve(self, grant: Grant, by: str = "ben", *, signed_by: str = "") -> Grant:
        """As `remit approve` does, with the person's own signature over the digest."""
        body = json.dumps({"digest": grant.digest}).encode()
        approver = await self.sign(signed_by or by, f"/api/v1/grants/{grant.id}/approve", body)
        now = self.control.clock.now()
        name = f"person:{by}"
        approval = Approval(
            approver=name, time=now, digest=grant.digest, evidence=evidence_of(approver.evidence(), body),
            signature=self.control.keys.sign("approval", approval_content(name, now, grant.digest)),
        )  # fmt: skip
        done = await self.control.grants.approve(grant.id, approval)
        await self.control.synchronise()
        return done

    async def decide(self, grant: Grant) -> Decision:
        """What the decision point says when the task's process asks under the grant."""
        definition = await self.control.tasks.get("fix")
        assert definition is not None
        proven: dict[str, Any] = {
            "attested": True, "attested_at": int(self.control.clock.now().timestamp()), "task": "fix",
            "task_digest": definition.digest, "grant": grant.id,
        }  # fmt: skip
        return await self.control.decisions.decide(lease_request(definition, NEED, proven))

    async def tamper(self, **columns: Any) -> None:
        """Change the rows of grants as somebody who writes into the database."""
        from sqlalchemy import update

        from remit.storage.schema.access import access_grant

        await self.control.store.write(lambda unit: unit.conn.execute(update(access_grant).values(**columns)))


async def _identity(control: ControlPlane, *, privileged: bool) -> str:
    def work(unit: Any) -> str:
        name = str(unit.new_id("id"))
        record = IdentityRecord(
            id=name, name="urn:remit:test:host:task:fix", kind=IdentityKind.TASK, title="fix", system="test",
            instance="host", state=State.ACTIVE, first_seen=unit.now, last_seen=unit.now, privileged=privileged,
        )  # fmt: skip
        unit.inventory.put_identities([record])
        unit.record("inventory.identities.found", actor="system:test", subject=name,
                    data={"identities": {name: record.name}})  # fmt: skip
        return name

    return await control.store.write(work)


def play(
    scene: Callable[[Stage], Awaitable[None]], *, owed: str = "approval", privileged: bool = False, **settings: Any
) -> None:
    """Play a scene with ana, ben and cho; ana asks."""

    async def whole() -> None:
        folder = Path(tempfile.mkdtemp(prefix="remit-g-", dir="/tmp"))
        made = settings_from(folder / "d", environ={}, flags={})
        if settings:
            made = replace(made, grants=replace(made.grants, **settings))
        control = await open_control_plane(made)
        try:
            stage = Stage(control)
            await stage.enrol("ana", "ben", "cho")
            stage.identity = await _identity(control, privileged=privileged)
            await stage.task()
            await stage.policies(owed)
            await scene(stage)
        finally:
            await control.close()
            shutil.rmtree(folder, ignore_errors=True)

    asyncio.run(whole())
