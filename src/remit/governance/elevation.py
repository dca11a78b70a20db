"""After elevation: emergencies that nobody reviewed, and tasks that are elevated so often that they should not be.

An emergency is reviewed by another person within some days; after that its identity is suspended, and is again at each
look, until the review is there. A task that asks again and again is automation to redesign: what would replace its
requests is drawn from what it asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from remit.access.model import Grant, GrantKind, GrantState
from remit.access.ports import StoredGrant
from remit.access.targets import parse_need
from remit.governance.lifecycle import transition
from remit.inventory.model import State
from remit.kernel.errors import RemitError

WEEK: Final = timedelta(days=7)
_STOPPED = (State.SUSPENDED, State.RETIRED, State.QUARANTINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A task that was elevated more often in a week than the settings allow for."""

    task: str
    identity: str
    count: int
    needs: tuple[str, ...]
    hours: tuple[int, ...]
    """Hours of the day (UTC) in which it asked, most often first."""
    reasons: tuple[str, ...]
    proposal: str
    """The policy that would replace its requests, in Cedar."""
    schedule: str


def emergency_over(grant: Grant, ended: datetime | None, now: datetime) -> datetime | None:
    """When an emergency that took place was over; `None` while it lasts, and for any other grant."""
    terms = grant.terms
    if terms is None or terms.kind is not GrantKind.BREAK_GLASS or not grant.approvals:
        return None
    if grant.state is GrantState.APPROVED and grant.expires > now:
        return None
    since = max(approval.time for approval in grant.approvals)
    return min(ended or now, since + terms.life)


def suspend_unreviewed(
    unit: Any, grants: Sequence[StoredGrant], reviewed: Callable[[StoredGrant], bool], *, within: timedelta
) -> tuple[str, ...]:
    """Suspend the identities of emergencies that were over longer ago than `within` and that nobody reviewed."""
    found: list[str] = []
    for stored in grants:
        grant = stored.grant
        over = emergency_over(grant, stored.ended, unit.now)
        if over is None or unit.now < over + within or reviewed(stored):
            continue
        record = unit.identities.get(grant.identity)
        if record is None or record.state in _STOPPED:
            continue
        reason = f"nobody reviewed the emergency {grant.id} within {within.days} days"
        try:
            transition(unit, grant.identity, State.SUSPENDED, by="system:governance", reason=reason)
        except RemitError:
            continue
        found.append(grant.identity)
    return tuple(found)


def constant_elevations(grants: Sequence[StoredGrant], now: datetime, *, more_than: int) -> tuple[Constant, ...]:
    """Tasks that were asked for, and given, more than so many times within the last week; the most frequent first."""
    by_task: dict[tuple[str, str], list[Grant]] = {}
    for stored in grants:
        grant = stored.grant
        given = grant.approvals or grant.decision
        if grant.terms is not None and given and grant.created > now - WEEK:
            by_task.setdefault((grant.task, grant.identity), []).append(grant)
    found = [_constant(task, identity, given) for (task, identity), given in by_task.items() if len(given) > more_than]
    return tuple(sorted(found, key=lambda each: (-each.count, each.task)))


def _constant(task: str, identity: str, grants: Sequence[Grant]) -> Constant:
    needs = tuple(sorted({need for grant in grants for need in grant.needs}))
    hours = tuple(hour for hour, _ in Counter(grant.created.hour for grant in grants).most_common())
    longest = max(int(grant.terms.life.total_seconds()) for grant in grants if grant.terms is not None)
    return Constant(
        task=task,
        identity=identity,
        count=len(grants),
        needs=needs,
        hours=hours,
        reasons=tuple(dict.fromkeys(grant.reason for grant in grants))[:5],
        proposal="\n".join(_permit(task, identity, need, longest, number) for number, need in enumerate(needs, 1)),
        schedule=_schedule(task, hours, len(grants)),
    )


def _permit(task: str, identity: str, text: str, seconds: int, number: int) -> str:
    need = parse_need(text)
    database = f' && context has database && context.database == "{need.database}"' if need.database else ""
    return (
        f'@id("{task}-{number}")\n'
        f'@reason("{task} may have {need.role} on {need.target} by itself")\n'
        f'@obligation("lifetime: {seconds}")\n'
        f'permit (principal == Remit::Identity::"{identity}", action in Remit::Action::"lease", resource)\n'
        f'when {{ resource in Remit::Resource::"target/{need.target}" && context.attested'
        f' && context has task && context.task == "{task}"'
        f' && context has role && context.role == "{need.role}"{database} }};'
    )


def _schedule(task: str, hours: Sequence[int], count: int) -> str:
    if len(hours) <= 3:
        when = ", ".join(f"{hour:02}:00" for hour in sorted(hours))
        return f"it asks around {when} UTC, {count} times a week: run `{task}` from a timer under this policy"
    return (
        f"it asks {count} times a week at {len(hours)} different hours: run `{task}` under this policy, not by request"
    )
