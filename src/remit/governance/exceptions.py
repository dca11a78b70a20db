"""Exceptions: temporary, documented, approved by somebody else, and over when their time is.

    requested ──► approved ──► expired        an approved one can be renewed twice, each time by another person
        │            └───────► revoked
        └──► refused, expired (nobody answered)

INVARIANT: an exception holds at the decision point only while it is approved, its signature verifies over what was
approved, and `now < expires`. No job has to run for it to end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from remit.governance.lifecycle import require_identity, require_reason
from remit.governance.model import ExceptionDraft, ExceptionFact, ExceptionStatus, PolicyException
from remit.governance.owners import require_human
from remit.governance.ports import GovernanceUnit
from remit.governance.signatures import Approver, confirm
from remit.inventory.model import State
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.kernel.unit import Attester

MAX_LIFE: Final = timedelta(days=180)
"""The longest that one approval lasts."""
MAX_RENEWALS: Final = 2
ANSWER_WITHIN: Final = timedelta(days=14)
"""A request that nobody answers lapses after this."""
SIGNED_AS: Final = "governance.exception"

_MAX_SCOPE = 1000
_MAX_ACTIONS = 50
_MAX_TEXT = 2000
_REQUESTERS = ("person:", "id_")


def request(unit: GovernanceUnit, draft: ExceptionDraft, *, requester: str) -> PolicyException:
    """Ask for an exception. `requester` is `person:NAME` or an identity's id: machines may ask, never approve.

    Raises `Rejected` (`governance.exception.invalid`), `NotFound` (`governance.identity.unknown`).
    """
    identities = _checked(draft, unit.now)
    if not requester.startswith(_REQUESTERS):
        raise _invalid("its requester is neither a person nor an identity")
    for identity in identities:
        if require_identity(unit, identity).state is State.RETIRED:
            raise _invalid(f"`{identity}` is retired")
    exception = PolicyException(
        id=unit.new_id("ex"),
        rule=draft.rule,
        identities=identities,
        actions=tuple(sorted(set(draft.actions))),
        resource=draft.resource,
        reason=require_reason(draft.reason),
        compensating=tuple(text.strip() for text in draft.compensating),
        requester=requester,
        created=unit.now,
        expires=draft.expires.astimezone(UTC),
        status=ExceptionStatus.REQUESTED,
    )
    unit.governance.add_exception(exception)
    unit.record(
        "governance.exception.requested",
        actor=requester,
        subject=exception.id,
        data={**exception.terms(), "identities": list(identities), "digest": exception.digest},
    )
    return exception


def approve(
    unit: GovernanceUnit, exception_id: str, *, by: Approver, digest: str, attester: Attester
) -> PolicyException:
    """Let it hold, on the word of a person who did not ask for it. `digest` is of what that person was shown.

    Raises `Denied` (`governance.exception.self_approval`), `Conflict` (`governance.exception.changed`, `.not_open`).
    """
    exception = _require_status(unit, exception_id, ExceptionStatus.REQUESTED)
    _require_other(unit, exception, by, digest)
    if unit.now >= exception.created + ANSWER_WITHIN or unit.now >= exception.expires:
        raise _not_open(exception_id, "its time to be answered is over")
    return _grant(unit, exception, by, attester, "governance.exception.approved")


def refuse(unit: GovernanceUnit, exception_id: str, *, by: Approver, reason: str) -> PolicyException:
    """Answer a request with no."""
    confirm(unit, by)
    exception = _require_status(unit, exception_id, ExceptionStatus.REQUESTED)
    return _end(unit, exception, ExceptionStatus.REFUSED, by=f"person:{by.name}", reason=reason)


def revoke(unit: GovernanceUnit, exception_id: str, *, by: str, reason: str) -> PolicyException:
    """End an approved exception now. Taking rights away needs no signature, only somebody who is no machine."""
    require_human(unit, by)
    exception = _require_status(unit, exception_id, ExceptionStatus.APPROVED)
    return _end(unit, exception, ExceptionStatus.REVOKED, by=by, reason=reason)


def renew(
    unit: GovernanceUnit, exception_id: str, *, by: Approver, digest: str, expires: datetime, attester: Attester
) -> PolicyException:
    """Prolong an exception that still holds, at most twice, each time on the word of somebody new.

    `digest` is of the exception as it holds now. Raises `Conflict` (`governance.exception.renewals`) after two.
    """
    exception = _require_status(unit, exception_id, ExceptionStatus.APPROVED)
    if unit.now >= exception.expires:
        raise _not_open(exception_id, "it has expired")
    if exception.renewals >= MAX_RENEWALS:
        raise Conflict(
            "governance.exception.renewals",
            f"`{exception_id}` was renewed {MAX_RENEWALS} times: mend what it excuses",
            next_step="request a new exception, with what was done since",
        )
    _require_other(unit, exception, by, digest)
    if f"person:{by.name}" in exception.approvers:
        raise Denied(
            "governance.exception.same_approver",
            f"`{by.name}` approved it before; each renewal needs another person",
            next_step="let somebody else renew it",
        )
    _check_expiry(expires, unit.now)
    prolonged = replace(exception, expires=expires.astimezone(UTC), renewals=exception.renewals + 1)
    return _grant(unit, prolonged, by, attester, "governance.exception.renewed")


def expire(unit: GovernanceUnit, *, limit: int = 500) -> tuple[PolicyException, ...]:
    """Write down what time has ended already, and requests that nobody answered. Run it until it is empty."""
    lapsed = unit.governance.exceptions_lapsed(unit.now, requested_before=unit.now - ANSWER_WITHIN, limit=limit)
    return tuple(
        _end(unit, exception, ExceptionStatus.EXPIRED, by="system:governance", reason="its time is over")
        for exception in lapsed
    )


def facts_for_pdp(unit: GovernanceUnit, now: datetime, *, attester: Attester) -> tuple[ExceptionFact, ...]:
    """The exceptions that hold at `now`. A row whose signature does not verify over its own terms is left out.

    The caller keeps `ExceptionFact`s in its snapshot and asks `covers` at each decision: that checks the time again.
    """
    return tuple(
        ExceptionFact(
            id=row.id,
            rule=row.rule,
            identities=frozenset(row.identities),
            actions=frozenset(row.actions),
            resource=row.resource,
            expires=row.expires,
        )
        for row in unit.governance.exceptions_in_force(now)
        if holds(row, now, attester)
    )


def holds(exception: PolicyException, now: datetime, attester: Attester) -> bool:
    """Tell whether an exception is approved, genuine and not over."""
    return (
        exception.status is ExceptionStatus.APPROVED
        and now < exception.expires
        and exception.approved is not None
        and exception.expires <= exception.approved + MAX_LIFE
        and exception.approver != exception.requester
        and attester.verify(SIGNED_AS, exception.authority(), exception.signature)
    )


def excepting(
    facts: Iterable[ExceptionFact], *, identity: str, action: str, resource: str, now: datetime
) -> tuple[ExceptionFact, ...]:
    """Those of `facts` that cover this request now: what a policy sees under `context.exception`."""
    return tuple(f for f in facts if f.covers(identity=identity, action=action, resource=resource, now=now))


def _grant(
    unit: GovernanceUnit, exception: PolicyException, by: Approver, attester: Attester, type: str
) -> PolicyException:
    actor = f"person:{by.name}"
    approved = replace(
        exception,
        status=ExceptionStatus.APPROVED,
        approver=actor,
        approved=unit.now,
        approvers=(*exception.approvers, actor),
    )
    signed = replace(approved, signature=attester.sign(SIGNED_AS, approved.authority()))
    unit.governance.update_exception(signed)
    unit.record(
        type,
        actor=actor,
        subject=signed.id,
        data={
            "digest": signed.digest,
            "expires": rfc3339(signed.expires),
            "renewals": signed.renewals,
            "signature": signed.signature,
            "approval": by.evidence(),
        },
    )
    return signed


def _end(
    unit: GovernanceUnit, exception: PolicyException, status: ExceptionStatus, *, by: str, reason: str
) -> PolicyException:
    text = require_reason(reason)
    ended = replace(exception, status=status, ended=unit.now, ended_by=by, ended_reason=text)
    unit.governance.update_exception(ended)
    unit.record(f"governance.exception.{status.value}", actor=by, subject=exception.id, data={"reason": text})
    return ended


def _require_status(unit: GovernanceUnit, exception_id: str, status: ExceptionStatus) -> PolicyException:
    exception = unit.governance.exception(exception_id)
    if exception is None:
        raise NotFound(
            "governance.exception.unknown", f"no exception `{exception_id[:64]}`", next_step="`remit exception ls`"
        )
    if exception.status is not status:
        raise _not_open(exception_id, f"it is `{exception.status.value}`, not `{status.value}`")
    return exception


def _require_other(unit: GovernanceUnit, exception: PolicyException, by: Approver, digest: str) -> None:
    confirm(unit, by)
    if exception.requester == f"person:{by.name}":
        raise Denied(
            "governance.exception.self_approval",
            f"`{by.name}` asked for it and cannot approve it",
            next_step="let another registered person approve it",
        )
    if digest != exception.digest:
        raise Conflict(
            "governance.exception.changed",
            "what was shown to the approver is not what would be approved",
            next_step="read the exception again, and approve its present digest",
        )


def _checked(draft: ExceptionDraft, now: datetime) -> tuple[str, ...]:
    identities = tuple(sorted(set(draft.identities)))
    if not 1 <= len(identities) <= _MAX_SCOPE:
        raise _invalid(f"its scope is 1–{_MAX_SCOPE} identities")
    if not draft.rule or len(draft.rule) > 200:
        raise _invalid("it names no rule")
    if not 1 <= len(draft.actions) <= _MAX_ACTIONS or any(not a or "*" in a or len(a) > 200 for a in draft.actions):
        raise _invalid("it names 1–50 actions exactly, without wildcards")
    prefix = draft.resource.removesuffix("*")
    if not prefix or "*" in prefix or len(prefix) > 1000:
        raise _invalid("its resource is a name, or the beginning of names followed by `*`")
    texts = [text.strip() for text in draft.compensating]
    if not 1 <= len(texts) <= 20 or any(not text or len(text) > _MAX_TEXT for text in texts):
        raise _invalid("it says what limits the harm meanwhile: 1–20 compensating controls")
    _check_expiry(draft.expires, now)
    return identities


def _check_expiry(expires: datetime, now: datetime) -> None:
    if expires.tzinfo is None or not now < expires <= now + MAX_LIFE:
        raise _invalid(f"it ends in the future, at most {MAX_LIFE.days} days from now")


def _invalid(why: str) -> Rejected:
    return Rejected("governance.exception.invalid", f"this exception cannot be requested: {why}")


def _not_open(exception_id: str, why: str) -> Conflict:
    return Conflict(
        "governance.exception.not_open",
        f"`{exception_id[:64]}` cannot be changed so: {why}",
        next_step="look at it again",
    )
