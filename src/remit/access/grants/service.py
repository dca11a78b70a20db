"""Makes, requests, approves, withdraws and checks grants.

requested ──► approved ──► ended            the clock runs from the last approval that was needed
    │            ├──────► expired           nobody used it in time
    │            ├──────► withdrawn         by who asked, an owner, or an approver: its leases go at once
    │            └──────► voided            something changed: it is not what was approved
    └──► denied, expired (nobody answered), withdrawn
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from remit.access.grants.content import approval_content, content_of, life_of, pending_of, review_content
from remit.access.grants.ports import GrantJudge
from remit.access.model import Approval, Decision, Grant, GrantKind, GrantState, GrantTerms, Need
from remit.access.ports import AccessUnit, StoredGrant
from remit.access.tasks.model import TaskDefinition
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Store

MAX_WAITING = 20
"""Requests of one task that may be open and unused at once: a machine that asks in a loop fills no table."""
MAX_AN_HOUR = 60
"""Requests of one task within an hour, whatever became of them: nor does one that withdraws what it asked for."""
AUTOMATIC = "policy:"
"""Begins the `decision` of a grant that policy approved; the digest of the policies follows."""
_OPEN = (GrantState.REQUESTED, GrantState.APPROVED)
_ACTOR = "system:grants"
_SETTLED = "settled"
_LOOKED_AT = 5000
_AT_ONCE = 300


class Grants:
    """Makes, requests, approves and checks grants. Without a `judge` any person other than the asker approves."""

    def __init__(self, *, store: Store[AccessUnit], attester: Attester, judge: GrantJudge | None = None) -> None:
        self._store = store
        self._attester = attester
        self._judge = judge
        self._turn = 0

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

    # Asking and answering.

    async def request(
        self,
        definition: TaskDefinition,
        needs: Sequence[Need],
        *,
        life: timedelta | None,
        reason: str,
        actor: str,
        pending: timedelta | None = None,
        kind: GrantKind = GrantKind.USUAL,
    ) -> Grant:
        """Ask for a grant of `life`, which runs from its approval; it can be answered for `pending`.

        `actor` is `person:NAME` or the identity's own id: machines may ask. Policy may approve at once. Raises
        `Rejected` (`access.grant.reason`, `.life`, `.pending`) and `Conflict` (`access.grant.many`).
        """
        lasting, waiting = life_of(life, kind), pending_of(pending)
        reason = _readable(reason)

        def work(unit: AccessUnit) -> Grant:
            self._require_few(unit, definition.name, kind)
            drafted = self.draft(definition, needs, (), now=unit.now, life=waiting, reason=reason)
            terms = GrantTerms(life=lasting, pending=drafted.expires, asker=actor, kind=kind)
            grant = self._weighed(unit, replace(drafted, state=GrantState.REQUESTED, terms=terms), definition, needs)
            unit.access.insert_grant(StoredGrant(grant=grant, signature=self.sign(grant), requested_by=actor))
            unit.record("access.grant.requested", actor=actor, subject=grant.id, data=_told(grant))
            if grant.state is GrantState.APPROVED:
                told: dict[str, Json] = {"digest": grant.digest, "by": "policy", "expires": rfc3339(grant.expires)}
                unit.record("access.grant.approved", actor=_ACTOR, subject=grant.id, data=told)
            return grant

        return await self._store.write(work)

    def _require_few(self, unit: AccessUnit, task: str, kind: GrantKind) -> None:
        """Emergencies are counted by themselves: who asks by the dozen keeps nobody from breaking the glass."""
        lately = unit.access.grants(task=task, kind=kind, limit=MAX_AN_HOUR)
        if len(lately) == MAX_AN_HOUR and lately[-1].grant.created > unit.now - timedelta(hours=1):
            raise Conflict(
                "access.grant.many",
                f"the task `{task}` asked {MAX_AN_HOUR} times within an hour",
                next_step="let policy give what it needs so often: `remit request constant`",
            )
        open_ = unit.access.grants(task=task, states=_OPEN, kind=kind, limit=_LOOKED_AT)
        if len([each for each in open_ if each.grant.expires > unit.now and each.process is None]) >= MAX_WAITING:
            raise Conflict(
                "access.grant.many",
                f"{MAX_WAITING} requests of the task `{task}` wait already, or were approved and not used",
                next_step="have them answered or withdraw them: `remit request ls`",
            )

    def _weighed(self, unit: AccessUnit, grant: Grant, definition: TaskDefinition, needs: Sequence[Need]) -> Grant:
        """The request bound to what is in force, with who must answer; approved where policy does."""
        assert grant.terms is not None
        if self._judge is None:
            return grant
        subject, policies = self._judge.subject(unit, grant.identity), self._judge.policies()
        bound = replace(grant, terms=replace(grant.terms, subject=subject, policies=policies))
        outlook = self._judge.outlook(unit, bound, definition, needs)
        terms = replace(grant.terms, subject=subject, policies=policies, requires=outlook.requires)
        asked = replace(bound, terms=terms)
        if not outlook.automatic or terms.kind is not GrantKind.USUAL:
            return asked
        decision = f"{AUTOMATIC}{policies}"
        return replace(asked, state=GrantState.APPROVED, decision=decision, expires=grant.created + terms.life)

    async def approve(self, grant_id: str, approval: Approval) -> Grant:
        """Take a person's word for exactly this grant; it is approved when all who must have given theirs.

        Raises `NotFound`, `Conflict` (`access.grant.state`: not requested, or past its time to be answered;
        `access.approval.twice`) and `Denied`: `access.approval.void` (another digest, no valid signature, or something
        changed since it was asked for), `access.approval.self` (the asker, or a machine identity), and what
        `GrantJudge.admit` raises.
        """

        def work(unit: AccessUnit) -> Grant:
            stored = self._waiting(unit, grant_id)
            self._check_approval(unit, stored, approval)
            grant = replace(stored.grant, approvals=(*stored.grant.approvals, approval))
            if self._judge is None or self._judge.complete(unit, grant):
                life = grant.terms.life if grant.terms is not None else grant.expires - grant.created
                grant = replace(grant, state=GrantState.APPROVED, expires=approval.time + life)
            unit.access.change_grant(replace(stored, grant=grant, signature=self.sign(grant)))
            done = grant.state is GrantState.APPROVED
            unit.record(
                f"access.grant.{'approved' if done else 'answered'}",
                actor=approval.approver,
                subject=grant.id,
                data={"digest": grant.digest} | ({"expires": rfc3339(grant.expires)} if done else {}),
            )
            return grant

        return await self._store.write(work)

    async def deny(self, grant_id: str, *, actor: str, reason: str) -> Grant:
        """Refuse a request for good."""
        return await self._store.write(
            lambda unit: self._close(unit, self._waiting(unit, grant_id), GrantState.DENIED, actor, reason)
        )

    async def withdraw(self, grant_id: str, *, actor: str, reason: str) -> Grant:
        """Take a request or an approval back, used or not; whoever calls ends its leases then.

        Raises `NotFound` and `Conflict` (`access.grant.state`: it has ended already).
        """

        def work(unit: AccessUnit) -> Grant:
            stored = self._known(unit, grant_id)
            if stored.grant.state not in (*_OPEN, GrantState.VOIDED):
                raise Conflict("access.grant.state", f"the grant `{grant_id}` is {stored.grant.state.value} already")
            return self._close(unit, stored, GrantState.WITHDRAWN, actor, reason)

        return await self._store.write(work)

    # What holds.

    async def usable(self, definition: TaskDefinition, needs: Sequence[Need], now: datetime) -> Grant | None:
        """An approved, unused grant that covers these needs of this very definition; `None` without one."""
        asked = {str(need) for need in needs}

        def look(unit: AccessUnit) -> Grant | None:
            for stored in unit.access.grants(task=definition.name, states=(GrantState.APPROVED,), asked=True):
                grant = stored.grant
                if (
                    self._unused(stored)
                    and grant.terms is not None
                    and grant.expires > now
                    and grant.identity == definition.identity
                    and grant.task_digest == definition.digest
                    and asked <= set(grant.needs)
                    and not self.changed(unit, stored)
                ):
                    return grant
            return None

        return await self._store.read(look)

    def _unused(self, stored: StoredGrant) -> bool:
        """Whether no run has it, nor had it: its row says so, and our journal does not say otherwise."""
        return stored.process is None and not (self._judge is not None and self._judge.spent(stored.grant.id))

    async def voided(self, definition: TaskDefinition, now: datetime) -> Grant | None:
        """A grant of this task that was approved, could still be used, and is not what was approved any more."""

        def look(unit: AccessUnit) -> Grant | None:
            states = (GrantState.APPROVED, GrantState.VOIDED)
            for stored in unit.access.grants(task=definition.name, states=states, limit=50, asked=True):
                grant = stored.grant
                unused = self._unused(stored) and grant.terms is not None and grant.expires > now
                other = grant.task_digest != definition.digest or grant.identity != definition.identity
                if unused and (grant.state is GrantState.VOIDED or other or self.changed(unit, stored)):
                    return grant
            return None

        return await self._store.read(look)

    def changed(self, unit: AccessUnit, stored: StoredGrant) -> str:
        """What is not as it was approved; empty when everything is. Meant for grants that are, or were, approved."""
        why, terms = self.changed_of_itself(unit, stored), stored.grant.terms
        if why or terms is None or self._judge is None or terms.policies == self._judge.policies():
            return why
        return "the policies in force are others"

    def changed_of_itself(self, unit: AccessUnit, stored: StoredGrant) -> str:
        """The same but for the policies in force: the decision point compares those itself."""
        grant = stored.grant
        if grant.state is GrantState.VOIDED:
            return "something changed after its approval"
        if not self.holds(stored):
            return "its row is not the one that was signed"
        terms = grant.terms
        if terms is None:
            return ""
        if not all(self._signed(grant, approval) for approval in grant.approvals):
            return "an approval is of something else"
        if not grant.approvals and not grant.decision.startswith(AUTOMATIC):
            return "nobody approved it"
        since = max((approval.time for approval in grant.approvals), default=grant.created)
        if grant.expires != since + terms.life:
            return "its duration is another"
        if terms.kind is GrantKind.USUAL and any(one.approver == terms.asker for one in grant.approvals):
            return "who asked for it approved it"
        return self._judge.changed(unit, grant) if self._judge is not None else ""

    async def lapse(self) -> Sequence[Grant]:
        """Write down what time has ended: requests that nobody answered, approvals that nobody used."""

        def late(unit: AccessUnit) -> list[StoredGrant]:
            found = unit.access.grants(states=(*_OPEN, GrantState.VOIDED), asked=True, limit=_LOOKED_AT)
            return [each for each in found if each.grant.expires <= unit.now and each.process is None]

        def work(unit: AccessUnit) -> list[Grant]:
            why = {GrantState.REQUESTED: "nobody answered it in time"}
            return [
                self._close(unit, stored, GrantState.EXPIRED, _ACTOR, why.get(stored.grant.state, "it was not used"))
                for stored in late(unit)
            ]

        return await self._store.write(work) if await self._store.read(late) else ()

    async def audit(self) -> Sequence[tuple[Grant, str]]:
        """Look at approved grants again, some hundreds at each turn, and void what is not what was approved.

        Returns those, and why.
        """

        def look(unit: AccessUnit) -> list[str]:
            held = unit.access.grants(states=(GrantState.APPROVED,), asked=True, limit=_LOOKED_AT)
            first, self._turn = self._turn, 0 if self._turn + _AT_ONCE >= len(held) else self._turn + _AT_ONCE
            live = [each for each in held[first : first + _AT_ONCE] if each.grant.expires > unit.now]
            return [each.grant.id for each in live if self.changed(unit, each)]

        suspects = await self._store.read(look)
        if not suspects:
            return ()

        def work(unit: AccessUnit) -> list[tuple[Grant, str]]:
            voided = []
            for suspect in suspects:
                stored = unit.access.grant(suspect)
                why = self.changed(unit, stored) if stored is not None else ""
                if stored is not None and stored.grant.state is GrantState.APPROVED and why:
                    text = f"it is not what was approved: {why}"
                    voided.append((self._close(unit, stored, GrantState.VOIDED, _ACTOR, text), why))
            return voided

        return await self._store.write(work)

    # Reading.

    async def list(
        self, *, states: Sequence[GrantState] = (), task: str = "", limit: int = 1000, asked: bool = False
    ) -> Sequence[StoredGrant]:
        """Grants, newest first; with `asked` those alone that somebody asked for beforehand."""
        return await self._store.read(
            lambda unit: unit.access.grants(task=task, states=states, limit=limit, asked=asked)
        )

    async def review(self, grant_id: str, *, by: str, finding: str) -> StoredGrant:
        """Note what a person found about an emergency after it was over.

        Raises `Rejected` (`access.grant.reason`), `Conflict` (`access.grant.review`: no emergency, not over yet, or
        reviewed already) and `Denied` (`access.approval.self`: by who broke the glass).
        """
        if not finding.strip():
            raise Rejected("access.grant.reason", "a review says what was found", next_step="`--finding TEXT`")

        def work(unit: AccessUnit) -> StoredGrant:
            stored = self._known(unit, grant_id)
            terms = stored.grant.terms
            if terms is None or terms.kind is not GrantKind.BREAK_GLASS or not stored.grant.approvals:
                raise Conflict("access.grant.review", f"the grant `{grant_id}` is no emergency that took place")
            if stored.grant.state is GrantState.APPROVED and stored.grant.expires > unit.now:
                raise Conflict("access.grant.review", f"the emergency `{grant_id}` is not over yet")
            if self.reviewed(stored):
                raise Conflict("access.grant.review", f"the emergency `{grant_id}` was reviewed already")
            if by == terms.asker or not by.startswith("person:"):
                raise Denied(
                    "access.approval.self",
                    "an emergency is reviewed by a person other than the one who declared it",
                    next_step="ask somebody else",
                )
            content = review_content(grant_id, by, rfc3339(unit.now), finding[:1000])
            signed = {**content, "signature": self._attester.sign("grant.review", content)}
            done = replace(stored, review={**stored.review, **signed})
            unit.access.change_grant(done)
            unit.record("access.grant.reviewed", actor=by, subject=grant_id, data={"finding": finding[:1000]})
            return done

        return await self._store.write(work)

    def reviewed(self, stored: StoredGrant) -> bool:
        """Whether a review that we signed is there."""
        content = {key: value for key, value in stored.review.items() if key not in ("signature", _SETTLED)}
        genuine = self._attester.verify("grant.review", content, str(stored.review.get("signature", "")))
        return bool(content) and content.get("grant") == stored.grant.id and genuine

    async def get(self, grant_id: str) -> StoredGrant:
        """One grant; `NotFound` (`access.grant.unknown`)."""
        return await self._store.read(lambda unit: self._known(unit, grant_id))

    async def settle(self, grant_id: str, *, rotated: Sequence[str]) -> None:
        """Note that what follows an emergency by itself was done: its leases ended, and these plans rotate."""

        def work(unit: AccessUnit) -> None:
            stored = self._known(unit, grant_id)
            if not self.settled(stored):
                unit.access.change_grant(replace(stored, review={**stored.review, _SETTLED: rfc3339(unit.now)}))
                data: dict[str, Json] = {"rotated": list(rotated)}
                unit.record("access.grant.settled", actor=_ACTOR, subject=grant_id, data=data)

        await self._store.write(work)

    def settled(self, stored: StoredGrant) -> bool:
        """Whether that was noted."""
        return _SETTLED in stored.review

    def sign(self, grant: Grant) -> str:
        return self._attester.sign("grant", content_of(grant))

    def holds(self, stored: StoredGrant) -> bool:
        """Whether the grant is still what was signed."""
        return self._attester.verify("grant", content_of(stored.grant), stored.signature)

    # Parts.

    def _known(self, unit: AccessUnit, grant_id: str) -> StoredGrant:
        stored = unit.access.grant(grant_id)
        if stored is None:
            raise NotFound(
                "access.grant.unknown", f"no grant `{grant_id[:40]}` is known", next_step="`remit request ls`"
            )
        return stored

    def _waiting(self, unit: AccessUnit, grant_id: str) -> StoredGrant:
        stored = self._known(unit, grant_id)
        if stored.grant.state is not GrantState.REQUESTED or stored.grant.expires <= unit.now:
            raise Conflict("access.grant.state", f"the grant `{grant_id}` does not wait for an approval")
        return stored

    def _close(self, unit: AccessUnit, stored: StoredGrant, state: GrantState, actor: str, reason: str) -> Grant:
        grant = replace(stored.grant, state=state)
        unit.access.change_grant(replace(stored, grant=grant, ended=unit.now))
        unit.record(f"access.grant.{state.value}", actor=actor, subject=grant.id, data={"reason": reason[:1000]})
        return grant

    def _check_approval(self, unit: AccessUnit, stored: StoredGrant, approval: Approval) -> None:
        grant = stored.grant
        void = "" if self.holds(stored) and self._signed(grant, approval) else "its digest or a signature is another"
        if not void and self._judge is not None:
            # The definition, the identity and the policies are still those of the request.
            void = self._judge.changed(unit, replace(grant, approvals=()))
            if grant.terms is not None and grant.terms.policies != self._judge.policies():
                void = void or "the policies in force are others"
        if void:
            raise Denied(
                "access.approval.void",
                f"the approval is not for this grant as it stands: {void}",
                next_step=f"look at it again: `remit request show {grant.id}`",
            )
        own = grant.terms is not None and grant.terms.kind is GrantKind.BREAK_GLASS
        asked = approval.approver == stored.requested_by and not own
        if not approval.approver.startswith("person:") or asked or approval.approver == grant.identity:
            raise Denied(
                "access.approval.self",
                "a grant is approved by a person other than the one who asked",
                next_step="ask somebody else",
            )
        if any(one.approver == approval.approver for one in grant.approvals):
            raise Conflict("access.approval.twice", f"`{approval.approver}` approved it already")
        if self._judge is not None:
            self._judge.admit(unit, grant, approval)

    def _signed(self, grant: Grant, approval: Approval) -> bool:
        content = approval_content(approval.approver, approval.time, approval.digest)
        return approval.digest == grant.digest and self._attester.verify("approval", content, approval.signature)


def _readable(reason: str) -> str:
    """On one line, without what moves a terminal's cursor: who approves reads it, and who asks may be a machine."""
    words = " ".join(reason.split())
    if not words or not words.isprintable():
        raise Rejected(
            "access.grant.reason",
            "a request needs a reason, in printable characters",
            next_step="say why with `--reason TEXT`",
        )
    return words


def _told(grant: Grant) -> dict[str, Json]:
    assert grant.terms is not None
    return {
        "identity": grant.identity,
        "task": grant.task,
        "task_digest": grant.task_digest,
        "needs": list(grant.needs),
        "digest": grant.digest,
        "reason": grant.reason,
        **grant.terms.as_json(),
    }
