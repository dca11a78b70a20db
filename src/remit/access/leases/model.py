"""The life of a lease, as a table of legal steps, and what the engine keeps beside the public record.

    issuing ──► active ──► revoking ──► revoked
    │    │         ▲       ▲
    │    └► spare ─┴───────┤                        (made ahead, parked until a task gets it)
       │                    │  ▲  ├────► unproved ──► revoked
       └────────────────────┘  │  └────► failed        (never came to exist on the target)
                               └ stays here, and is tried again, while the target does not answer

INVARIANT: no step leads back to `active`, and `revoked` and `failed` are final: a revocation is never undone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from remit.access.model import Grant, Lease, LeaseState, Request
from remit.access.tasks.kinds import Task
from remit.kernel.canonical import Json
from remit.kernel.ids import ulid

STEPS: Mapping[LeaseState, frozenset[LeaseState]] = {
    LeaseState.ISSUING: frozenset({LeaseState.ACTIVE, LeaseState.SPARE, LeaseState.REVOKING}),
    LeaseState.SPARE: frozenset({LeaseState.ACTIVE, LeaseState.REVOKING}),
    LeaseState.ACTIVE: frozenset({LeaseState.REVOKING}),
    LeaseState.REVOKING: frozenset({LeaseState.REVOKED, LeaseState.UNPROVED, LeaseState.FAILED}),
    LeaseState.UNPROVED: frozenset({LeaseState.REVOKED}),
    LeaseState.REVOKED: frozenset(),
    LeaseState.FAILED: frozenset(),
}

LIVE = frozenset(state for state, following in STEPS.items() if following)
"""States in which a credential of that name may exist on the target."""

_INSTANCE = re.compile(r"[0-9a-z]{8}")
_PRINCIPAL = re.compile(r"remit_([0-9a-z]{8})_[0-7][0-9a-hjkmnp-tv-z]{25}")


def principal_name(instance: str, now: datetime, entropy: bytes) -> str:
    """`remit_<instance>_<ulid>`: a name that is used once and that a sweep recognises. `entropy` is 10 bytes."""
    assert _INSTANCE.fullmatch(instance), "an installation is named by 8 lower-case letters or digits"
    return f"remit_{instance}_{ulid(now, entropy=entropy).lower()}"


def is_ours(instance: str, principal: str) -> bool:
    """Whether the full pattern holds and the name is of this installation; nothing else is ever swept."""
    match = _PRINCIPAL.fullmatch(principal)
    return match is not None and match[1] == instance


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A lease with what only the engine reads: its sealed secret, who acts on it, and what was decided."""

    lease: Lease
    sealed: bytes
    """The secret under context `access_lease/<id>/secret`; empty once the lease is revoked."""
    role: str
    """The group role on the target."""
    database: str
    request: Request
    """What was asked of the decision point; asked again at every renewal."""
    holder: str
    """The engine that acts on it."""
    epoch: int
    """Fencing: grows with every taking-over; a write under an older epoch changes nothing."""
    issued: datetime | None = None
    """When the target confirmed it; `None` while it may never have come to exist."""
    trouble: str = ""
    """Why the last attempt failed, for a person."""

    @property
    def id(self) -> str:
        return self.lease.id

    @property
    def state(self) -> LeaseState:
        return self.lease.state

    def step(self, to: LeaseState, **changes: object) -> HeldLease:
        """The same lease in state `to`; an illegal step is a bug."""
        assert to is self.lease.state or to in STEPS[self.lease.state], f"{self.lease.state} → {to}"
        return replace(self, lease=replace(self.lease, state=to, **changes))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFilter:
    """Which leases; an empty field asks nothing. `after` is the last id of the page before, upwards or `before` it."""

    ids: tuple[str, ...] = ()
    grant: str = ""
    identity: str = ""
    target: str = ""
    task: str = ""
    states: frozenset[LeaseState] = frozenset()
    holder: str = ""
    after: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePlan:
    """One need, allowed: where the credential is minted, and the request that allowed it."""

    need: str
    target: str
    role: str
    database: str
    request: Request
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueOrder:
    """Everything to be issued for one run of a task."""

    grant: Grant
    process: Task
    plans: tuple[LeasePlan, ...]
    proven: Mapping[str, Json]
    changes: int
    """`LeaseEngine.changes` before the decisions were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A lease whose credential works. The secret is here for its one delivery and nowhere else in clear."""

    lease: Lease
    settings: Mapping[str, str]
    secret: str

    def __repr__(self) -> str:
        return f"Issued(lease={self.lease.id!r}, principal={self.lease.principal!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """How the engine keeps time. Every duration is an upper bound of what it does, not a promise of the target."""

    native_ttl: timedelta = timedelta(minutes=5)
    """How long a credential outlives a dead Remit."""
    renew_at: float = 0.4
    """The share of `native_ttl` after which a lease is renewed."""
    batch_window: timedelta = timedelta(milliseconds=4)
    """How long a revocation waits for others of the same target."""
    batch_size: int = 256
    target_timeout: timedelta = timedelta(seconds=30)
    backoff: timedelta = timedelta(milliseconds=500)
    """The first wait after a failure; it doubles up to `backoff_ceiling`."""
    backoff_ceiling: timedelta = timedelta(minutes=1)
    proof_attempts: int = 5
    """How often the proof of a revocation is tried before the lease stays `unproved`."""
    sweep_every: timedelta = timedelta(minutes=5)
    late_sweep: timedelta = timedelta(seconds=30)
    """A second look after a start or a failed mint: a statement in flight may land after the first."""
    heartbeat: timedelta = timedelta(seconds=5)
    holder_ttl: timedelta = timedelta(seconds=30)
    """A holder that has not been heard of for so long is dead, and others take its leases."""
    mints_at_once: int = 16

    def __post_init__(self) -> None:
        assert timedelta(0) < self.native_ttl <= timedelta(minutes=5), "a native expiry is at most 5 minutes"
        assert 0 < self.renew_at < 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """Where the leases stand. `not_contained` are those whose revocation the target has not yet carried out."""

    counts: Mapping[LeaseState, int]
    not_contained: tuple[HeldLease, ...]
    unproved: tuple[HeldLease, ...]
    tasks: int
    """Running tasks that this engine watches."""
