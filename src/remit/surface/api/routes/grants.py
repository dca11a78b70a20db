"""Grants and elevation: asking, answering, taking back, emergencies, and what is elevated all the time.

People sign what they ask and answer with their own keys. A workload asks for itself, by the listener that its SVID
opens, for tasks of its own identity; it reads and withdraws what it asked for, and approves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from remit.access.grants import approval_content
from remit.access.leases.model import LeaseFilter
from remit.access.model import Approval, Grant, GrantKind, GrantState
from remit.access.ports import StoredGrant
from remit.access.targets import parse_need
from remit.access.tasks.model import TaskDefinition
from remit.governance.approvals import evidence_of
from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.surface.api.route import Call, Route, seconds_of
from remit.wiring.grants import is_emergency

if TYPE_CHECKING:
    from remit.governance.signatures import Approver
    from remit.storage.ledger import EntryRow
    from remit.wiring import ControlPlane

_TAG = "access"
MAX_NEEDS = 32
_OPEN = (GrantState.REQUESTED, GrantState.APPROVED, GrantState.VOIDED)
_HISTORY = 200


class NewGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task asks for, why, for how long from its approval, and how long it may wait for that."""

    task: str
    needs: list[str]
    reason: str
    seconds: int = 3600
    pending_seconds: int = 86_400


class Emergency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is needed now, and why nobody can be asked."""

    task: str
    needs: list[str]
    reason: str
    seconds: int = 1800


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The digest of the grant that the approver was shown; or why it is denied or withdrawn."""

    digest: str = ""
    reason: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the review of an emergency found."""

    finding: str


# -- asking


async def request_grant(call: Call) -> Any:
    body: NewGrant = call.body
    control = call.control
    definition, actor = await _definition_and_asker(call, body.task)
    grant = await control.grants.request(
        definition, [parse_need(each) for each in _few(body.needs)], life=seconds_of(body.seconds),
        pending=seconds_of(body.pending_seconds), reason=body.reason, actor=actor,
    )  # fmt: skip
    await control.synchronise()
    control.grant_keeper.announce(grant)
    return await grant_view(control, await control.grants.get(grant.id))


async def _definition_and_asker(call: Call, task: str) -> tuple[TaskDefinition, str]:
    definition = await call.control.tasks.get(task)
    if definition is None:
        raise NotFound(
            "access.task.missing", f"no task `{task[:80]}` is registered", next_step="`remit task add NAME -- CMD`"
        )
    if call.caller.svid is None:
        return definition, f"person:{call.require_person('asking for a grant').name}"
    identity = _machine(call)
    if definition.identity != identity:
        raise Denied(
            "access.grant.foreign_task",
            f"the task `{task[:80]}` is another identity's",
            next_step="ask for a task that is registered for the identity that calls",
        )
    return definition, identity


def _machine(call: Call) -> str:
    """The identity of the workload that calls, by its SVID alone; it must be in service."""
    spiffe_id = str(call.require_svid().spiffe_id)
    facts = call.control.feed.cell.current().identity(spiffe_id)
    if facts is None or str(facts.state) not in ("active", "rotating"):
        raise Denied("access.grant.asker", f"no identity in service is called `{spiffe_id[:200]}`")
    return facts.id


def _few(needs: Sequence[str]) -> Sequence[str]:
    if not 0 < len(needs) <= MAX_NEEDS:
        raise Rejected("access.need.count", f"a task has between 1 and {MAX_NEEDS} needs, not {len(needs)}")
    return list(dict.fromkeys(needs))


async def break_glass(call: Call) -> Any:
    """Write an emergency down; it holds once its own asker has signed its digest, and the alert was heard."""
    body: Emergency = call.body
    by = call.require_person("breaking the glass")
    definition, actor = await _definition_and_asker(call, body.task)
    grant = await call.control.grants.request(
        definition, [parse_need(each) for each in _few(body.needs)], life=seconds_of(body.seconds),
        pending=timedelta(minutes=10), reason=body.reason, actor=actor, kind=GrantKind.BREAK_GLASS,
    )  # fmt: skip
    assert actor == f"person:{by.name}"
    return await grant_view(call.control, await call.control.grants.get(grant.id))


# -- reading


async def list_grants(call: Call) -> Any:
    states = _OPEN if not call.flag("all") else tuple(GrantState)
    task, limit = call.query.get("task", ""), call.integer("limit", 100, most=1000)
    found = await call.control.grants.list(states=states, task=task, limit=limit, asked=not call.flag("all"))
    return [grant_row(each) for each in found]


async def show_grant(call: Call) -> Any:
    stored = await call.control.grants.get(call.path["grant"])
    if call.caller.svid is not None:
        _require_own(stored, _machine(call))
    return await grant_view(call.control, stored)


async def constant(call: Call) -> Any:
    found = await call.control.grant_keeper.constant()
    return {"more_than": call.control.settings.grants.weekly, "tasks": [msgspec.to_builtins(each) for each in found]}


def _require_own(stored: StoredGrant, identity: str) -> None:
    if stored.grant.identity != identity:
        raise NotFound("access.grant.unknown", f"no grant `{stored.grant.id}` is known")


async def grant_view(control: ControlPlane, stored: StoredGrant) -> dict[str, Any]:
    """A grant with who must still approve it, what it would meet, what changed, and its history."""
    grant = stored.grant

    def read(unit: Any) -> dict[str, Any]:
        live = grant.state in (GrantState.APPROVED, GrantState.VOIDED)
        history = unit.ledger.latest(_HISTORY, subject=grant.id)
        definition = unit.access.task(grant.task)
        open_ = grant.state is GrantState.REQUESTED and definition is not None and grant.terms is not None
        outlook = (
            control.approvals.outlook(unit, grant, definition, [parse_need(n) for n in grant.needs]) if open_ else None
        )
        return {
            "missing": list(control.approvals.missing(unit, grant)) if grant.state is GrantState.REQUESTED else [],
            "changed": (_voided_by(history) or control.grants.changed(unit, stored)) if live else "",
            "outlook": "" if outlook is None or outlook.allowed else outlook.why,
            "history": [
                {"time": each.time, "type": each.type, "actor": each.actor, "data": each.data} for each in history
            ],
            "leases": [
                {"id": held.id, "target": held.lease.target, "principal": held.lease.principal,
                 "state": held.lease.state.value}
                for held in unit.access.leases(LeaseFilter(grant=grant.id), 100)
            ],
        }  # fmt: skip

    return {**grant_row(stored), **await control.store.read(read), "link": control.grant_keeper.link(grant.id)}


def _voided_by(history: Sequence[EntryRow]) -> str:
    """What of a voided grant was not as it was approved, as the ledger has it; empty where it was not voided."""
    reasons = (str(each.data.get("reason", "")) for each in history if each.type == "access.grant.voided")
    return next(reasons, "").removeprefix("it is not what was approved: ")


def grant_row(stored: StoredGrant) -> dict[str, Any]:
    grant = stored.grant
    row: dict[str, Any] = msgspec.to_builtins(grant)
    row["approvals"] = [
        {"approver": each.approver, "time": each.time, "digest": each.digest} for each in grant.approvals
    ]
    terms = grant.terms
    row["terms"] = None if terms is None else terms.as_json()
    return {
        **row,
        "digest": grant.digest,
        "requested_by": stored.requested_by,
        "used": stored.process is not None,
        "ended": stored.ended,
        "kind": "usual" if terms is None else terms.kind.value,
        "life_seconds": None if terms is None else int(terms.life.total_seconds()),
        "review": dict(stored.review) if "finding" in stored.review else None,
    }


# -- answering


async def approve_grant(call: Call) -> Any:
    """Take the signature of this very request as the person's word; GET approves nothing, for links are followed."""
    body: Answer = call.body
    by = call.require_person("approving a grant")
    return await take_approval(call.control, call.path["grant"], body.digest, by, call.raw)


async def take_approval(control: ControlPlane, grant_id: str, digest: str, by: Approver, raw: bytes) -> Any:
    """Count the word of a person whose signature over the approval's very request, `raw` its body, was verified."""
    approver = f"person:{by.name}"
    stored = await control.grants.get(grant_id)
    if is_emergency(stored.grant):
        await _alert(control, stored.grant, approver, digest)
    now = control.clock.now()
    signature = control.keys.sign("approval", approval_content(approver, now, digest))
    approval = Approval(
        approver=approver, time=now, digest=digest, signature=signature, evidence=evidence_of(by.evidence(), raw)
    )
    grant = await control.grants.approve(grant_id, approval)
    # The person's own signature beside ours: it can be checked years later against the key that was enrolled.
    evidence: dict[str, Json] = {"digest": digest, "approval": by.evidence()}
    await control.store.write(
        lambda unit: unit.record("governance.approval.signed", actor=approver, subject=grant.id, data=evidence)
    )
    await control.synchronise()
    return await grant_view(control, await control.grants.get(grant.id))


async def _alert(control: ControlPlane, grant: Grant, approver: str, digest: str) -> None:
    if grant.terms is None or approver != grant.terms.asker:
        raise Denied(
            "access.break_glass.own", "the glass is broken by who declared the emergency, with their own signature"
        )
    if grant.state is not GrantState.REQUESTED or digest != grant.digest:
        return  # `approve` says so
    try:
        await control.grant_keeper.alert(grant)
    except Denied as unheard:
        await control.grants.deny(grant.id, actor="system:grants", reason=unheard.message)
        raise


async def deny_grant(call: Call) -> Any:
    body: Answer = call.body
    by = call.require_person("denying a grant")
    grant = await call.control.grants.deny(call.path["grant"], actor=f"person:{by.name}", reason=body.reason)
    return await grant_view(call.control, await call.control.grants.get(grant.id))


async def withdraw_grant(call: Call) -> Any:
    """Take it back, and end the leases of a run that uses it."""
    body: Answer = call.body
    control = call.control
    stored = await control.grants.get(call.path["grant"])
    if call.caller.svid is not None:
        actor = _machine(call)
        _require_own(stored, actor)
    else:
        actor = f"person:{call.require_person('withdrawing a grant').name}"
    if not await control.store.read(lambda unit: control.approvals.may_withdraw(unit, stored.grant, actor)):
        raise Denied(
            "access.grant.not_yours",
            "a grant is withdrawn by who asked for it, who approved it, or the owner of its identity",
            next_step="`remit revoke` ends leases; `remit quarantine` stops the identity",
        )
    reason = body.reason or f"withdrawn by {actor}"
    grant = await control.grants.withdraw(stored.grant.id, actor=actor, reason=reason)
    await control.synchronise()
    await control.engine.end(grant.id, reason=f"the grant was withdrawn: {reason}", wait=timedelta(seconds=30))
    return await grant_view(control, await control.grants.get(grant.id))


async def review_grant(call: Call) -> Any:
    body: Finding = call.body
    by = call.require_person("reviewing an emergency")
    stored = await call.control.grants.review(call.path["grant"], by=f"person:{by.name}", finding=body.finding)
    return await grant_view(call.control, stored)


def _answer(verb: str, summary: str, handler: Any, body: type[Any] = Answer, *, mtls: bool = False) -> Route:
    path = f"/api/v1/grants/{{grant}}/{verb}"
    return Route(method="POST", path=path, summary=summary, handler=handler, body=body, tag=_TAG, mtls=mtls)


ROUTES = [
    Route(
        method="POST",
        path="/api/v1/grants",
        summary="Ask for a grant",
        handler=request_grant,
        body=NewGrant,
        tag=_TAG,
        mtls=True,
    ),
    Route(
        method="GET",
        path="/api/v1/grants",
        summary="Grants that wait or hold",
        handler=list_grants,
        query={"all": "1: ended ones and those of policy alone too", "task": "of this task", "limit": "at most 1000"},
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/grants/{grant}",
        summary="One grant with its history",
        handler=show_grant,
        tag=_TAG,
        mtls=True,
    ),
    Route(
        method="GET",
        path="/api/v1/elevation/constant",
        summary="Tasks that are elevated all the time",
        handler=constant,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/break-glass",
        summary="Declare an emergency",
        handler=break_glass,
        body=Emergency,
        tag=_TAG,
    ),
    _answer("approve", "Approve exactly this grant", approve_grant),
    _answer("deny", "Deny a grant", deny_grant),
    _answer("withdraw", "Take a grant back", withdraw_grant, mtls=True),
    _answer("review", "Review an emergency", review_grant, Finding),
]
