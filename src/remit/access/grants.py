"""Grants: the authority given for one run of one task, signed, with a hard expiry; approvals as values.

Either a run is allowed by policy alone and gets a grant of its own, or somebody asked beforehand (`request`), a
person answered for that very digest (`approve`), and one run may use it until its expiry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from remit.access.model import Approval, Decision, Entity, Grant, GrantState, Need, Request
from remit.access.ports import AccessUnit, StoredGrant
from remit.access.tasks.model import TaskDefinition
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Store

DEFAULT_LIFE = timedelta(hours=1)
LONGEST_LIFE = timedelta(hours=12)
SHORTEST_LIFE = timedelta(seconds=1)
LEASE_ACTION = "lease:issue"
"""The action that policies name for a credential on a target."""


def life_of(asked: timedelta | None) -> timedelta:
    """The hard expiry of a grant from its start; `Rejected` (`access.grant.life`) outside 1 s to 12 h."""
    if asked is None:
        return DEFAULT_LIFE
    if not SHORTEST_LIFE <= asked <= LONGEST_LIFE:
        raise Rejected(
            "access.grant.life",
            f"a grant lives between 1 s and 12 h, not {asked.total_seconds():g} s",
            next_step="ask for less time, and run the task again when it needs more",
        )
    return asked


def lease_request(definition: TaskDefinition, need: Need, proven: dict[str, Json]) -> Request:
    """What the decision point is asked for one need: may this identity lease this role of this target?

    The resource is the target; role, database and what was attested come as proven context.
    """
    return Request(
        subject=Entity(type="identity", id=definition.identity),
        action=LEASE_ACTION,
        resource=Entity(type="target", id=need.target, properties={"system": need.system, "name": need.target}),
        proven={**proven, "role": need.role, "database": need.database, "target": need.target},
    )


def content_of(grant: Grant) -> dict[str, Json]:
    """What the installation signs of a grant."""
    return {"digest": grant.digest, "decision": grant.decision, "created": rfc3339(grant.created)}


def approval_content(approver: str, time: datetime, digest: str) -> dict[str, Json]:
    """What is signed of an approval: who answers, when, for exactly what."""
    return {"approver": approver, "time": rfc3339(time), "digest": digest}


class Grants:
    """Makes, requests, approves and checks grants."""

    def __init__(self, *, store: Store[AccessUnit], attester: Attester) -> None:
        self._store = store
        self._attester = attester

    def draft(
        self,
        definition: TaskDefinition,
        needs: Sequence[Need],
        decisions: Sequence[Decision],
        *,
        now: datetime,
        life: timedelta,
        reason: str = "",
    ) -> Grant:
        """A grant for one run that policy allows by itself; stored by the lease engine with its leases."""
        return Grant(
            id=new_id("gr", now),
            identity=definition.identity,
            task=definition.name,
            task_digest=definition.digest,
            needs=tuple(str(need) for need in needs),
            decision=",".join(decision.id for decision in decisions),
            created=now,
            expires=now + life,
            state=GrantState.APPROVED,
            reason=reason[:1000],
        )

    async def request(
        self, definition: TaskDefinition, needs: Sequence[Need], *, life: timedelta | None, reason: str, actor: str
    ) -> Grant:
        """Ask for a grant that a person must approve; its expiry runs from now. Raises `Rejected` without a reason."""
        lasting = life_of(life)
        if not reason.strip():
            raise Rejected("access.grant.reason", "a request needs a reason", next_step="say why with `--reason TEXT`")

        def work(unit: AccessUnit) -> Grant:
            drafted = self.draft(definition, needs, (), now=unit.now, life=lasting, reason=reason)
            grant = replace(drafted, state=GrantState.REQUESTED)
            unit.access.insert_grant(StoredGrant(grant=grant, signature=self.sign(grant), requested_by=actor))
            unit.record("access.grant.requested", actor=actor, subject=grant.id, data=_told(grant))
            return grant

        return await self._store.write(work)

    async def approve(self, grant_id: str, approval: Approval) -> Grant:
        """Take a person's word for exactly this grant.

        Raises `NotFound`, `Conflict` (`access.grant.state`: not requested, or past its expiry) and `Denied`:
        `access.approval.void` (another digest, or no valid signature), `access.approval.self` (the asker, or a
        machine identity).
        """

        def work(unit: AccessUnit) -> Grant:
            stored = unit.access.grant(grant_id)
            if stored is None:
                raise _unknown(grant_id)
            if stored.grant.state is not GrantState.REQUESTED or stored.grant.expires <= unit.now:
                raise Conflict("access.grant.state", f"the grant `{grant_id}` does not wait for an approval")
            self._check_approval(stored, approval)
            grant = replace(stored.grant, state=GrantState.APPROVED, approvals=(*stored.grant.approvals, approval))
            unit.access.change_grant(replace(stored, grant=grant))
            unit.record(
                "access.grant.approved", actor=approval.approver, subject=grant.id, data={"digest": grant.digest}
            )
            return grant

        return await self._store.write(work)

    async def deny(self, grant_id: str, *, actor: str, reason: str) -> Grant:
        """Refuse a request for good."""

        def work(unit: AccessUnit) -> Grant:
            stored = unit.access.grant(grant_id)
            if stored is None:
                raise _unknown(grant_id)
            if stored.grant.state is not GrantState.REQUESTED:
                raise Conflict("access.grant.state", f"the grant `{grant_id}` does not wait for an approval")
            grant = replace(stored.grant, state=GrantState.DENIED)
            unit.access.change_grant(replace(stored, grant=grant, ended=unit.now))
            unit.record("access.grant.denied", actor=actor, subject=grant.id, data={"reason": reason[:1000]})
            return grant

        return await self._store.write(work)

    async def usable(self, definition: TaskDefinition, needs: Sequence[Need], now: datetime) -> Grant | None:
        """An approved, unused grant that covers these needs of this very definition; `None` without one."""
        asked = {str(need) for need in needs}
        states = (GrantState.APPROVED,)
        for stored in await self._store.read(lambda unit: unit.access.grants(task=definition.name, states=states)):
            grant = stored.grant
            if (
                stored.process is None
                and grant.expires > now
                and grant.identity == definition.identity
                and grant.task_digest == definition.digest
                and asked <= set(grant.needs)
                and grant.approvals
                and self.holds(stored)
                and all(self._signed(grant, approval) for approval in grant.approvals)
            ):
                return grant
        return None

    async def list(self, *, states: Sequence[GrantState] = (), limit: int = 1000) -> Sequence[StoredGrant]:
        """Grants, newest first."""
        return await self._store.read(lambda unit: unit.access.grants(states=states, limit=limit))

    def sign(self, grant: Grant) -> str:
        return self._attester.sign("grant", content_of(grant))

    def holds(self, stored: StoredGrant) -> bool:
        """Whether the grant is still what was signed."""
        return self._attester.verify("grant", content_of(stored.grant), stored.signature)

    def _check_approval(self, stored: StoredGrant, approval: Approval) -> None:
        if not self.holds(stored) or not self._signed(stored.grant, approval):
            raise Denied(
                "access.approval.void",
                "the approval is not for this grant as it stands, or its signature does not verify",
                next_step=f"look at it again: `remit request show {stored.grant.id}`",
            )
        if not approval.approver.startswith("person:") or approval.approver == stored.requested_by:
            raise Denied(
                "access.approval.self",
                "a grant is approved by a person other than the one who asked",
                next_step="ask somebody else",
            )

    def _signed(self, grant: Grant, approval: Approval) -> bool:
        content = approval_content(approval.approver, approval.time, approval.digest)
        return approval.digest == grant.digest and self._attester.verify("approval", content, approval.signature)


def _told(grant: Grant) -> dict[str, Json]:
    return {
        "identity": grant.identity,
        "task": grant.task,
        "task_digest": grant.task_digest,
        "needs": list(grant.needs),
        "expires": rfc3339(grant.expires),
        "digest": grant.digest,
        "reason": grant.reason,
    }


def _unknown(grant_id: str) -> NotFound:
    return NotFound("access.grant.unknown", f"no grant `{grant_id[:40]}` is known", next_step="`remit request ls`")
