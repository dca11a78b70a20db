"""What of a grant is signed, how long it may live, and what the decision point is asked for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from remit.access.model import Entity, Grant, GrantKind, Need, Request
from remit.access.tasks.model import TaskDefinition
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected

DEFAULT_LIFE = timedelta(hours=1)
LONGEST_LIFE = timedelta(hours=12)
SHORTEST_LIFE = timedelta(seconds=1)
LONGEST_EMERGENCY = timedelta(hours=1)
"""The hard cap of what is given by breaking the glass."""
DEFAULT_PENDING = timedelta(hours=24)
LONGEST_PENDING = timedelta(days=7)
LEASE_ACTION = "lease:issue"
"""The action that policies name for a credential on a target."""


def life_of(asked: timedelta | None, kind: GrantKind = GrantKind.USUAL) -> timedelta:
    """How long a grant holds from its start; `Rejected` (`access.grant.life`) outside 1 s to 12 h (emergency: 1 h)."""
    longest = LONGEST_EMERGENCY if kind is GrantKind.BREAK_GLASS else LONGEST_LIFE
    if asked is None:
        return min(DEFAULT_LIFE, longest)
    if not SHORTEST_LIFE <= asked <= longest:
        raise Rejected(
            "access.grant.life",
            f"a grant lives between 1 s and {longest.total_seconds() / 3600:g} h, not {asked.total_seconds():g} s",
            next_step="ask for less time, and run the task again when it needs more",
        )
    return asked


def pending_of(asked: timedelta | None) -> timedelta:
    """How long a request can be answered; `Rejected` (`access.grant.pending`) outside 1 s to 7 days."""
    if asked is None:
        return DEFAULT_PENDING
    if not SHORTEST_LIFE <= asked <= LONGEST_PENDING:
        raise Rejected(
            "access.grant.pending",
            f"a request waits between 1 s and 7 days, not {asked.total_seconds():g} s",
            next_step="ask again when somebody is there to answer",
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
    return {
        "id": grant.id,
        "digest": grant.digest,
        "decision": grant.decision,
        "created": rfc3339(grant.created),
        "expires": rfc3339(grant.expires),
    }


def approval_content(approver: str, time: datetime, digest: str) -> dict[str, Json]:
    """What is signed of an approval: who answers, when, for exactly what."""
    return {"approver": approver, "time": rfc3339(time), "digest": digest}


def review_content(grant_id: str, by: str, time: str, finding: str) -> dict[str, Json]:
    """What is signed of the review of an emergency."""
    return {"grant": grant_id, "by": by, "time": time, "finding": finding}
