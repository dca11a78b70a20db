"""The life of a rotation, as a table of legal steps, and what is kept of it.

    planned ──► publishing ──► switching ──► verifying ──► revoking ──► done
       │            │              │             │             └──► stuck ──► revoking
       └────────────┴──────┬───────┴─────────────┘
                           ▼
                     rolling_back ──► rolled_back
                           └──► stuck ──► rolling_back

INVARIANT: from `revoking` on nothing is rolled back: the old credential may be gone. Before it, both versions count.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339


class Phase(enum.Enum):
    """Where a rotation stands."""

    PLANNED = "planned"
    PUBLISHING = "publishing"
    SWITCHING = "switching"
    VERIFYING = "verifying"
    REVOKING = "revoking"
    DONE = "done"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    STUCK = "stuck"


_BACK: Final = frozenset({Phase.ROLLING_BACK})
STEPS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PLANNED: _BACK | {Phase.PUBLISHING},
    Phase.PUBLISHING: _BACK | {Phase.SWITCHING},
    Phase.SWITCHING: _BACK | {Phase.VERIFYING},
    Phase.VERIFYING: _BACK | {Phase.REVOKING},
    Phase.REVOKING: frozenset({Phase.DONE, Phase.STUCK}),
    Phase.ROLLING_BACK: frozenset({Phase.ROLLED_BACK, Phase.STUCK}),
    Phase.STUCK: frozenset({Phase.REVOKING, Phase.ROLLING_BACK}),
    Phase.DONE: frozenset(),
    Phase.ROLLED_BACK: frozenset(),
}
FORWARD: Final = frozenset({Phase.PLANNED, Phase.PUBLISHING, Phase.SWITCHING, Phase.VERIFYING})
"""Phases from which it can be rolled back."""
FINAL: Final = frozenset({Phase.DONE, Phase.ROLLED_BACK})


class Mode(enum.Enum):
    """How two versions live side by side."""

    TWO_LOGINS = "two-logins"
    """Two principals with the same memberships, in turn `app_a` and `app_b`."""
    TWO_SECRETS = "two-secrets"
    """One principal that has two secrets for a while."""
    IN_PLACE = "in-place"
    """One principal, one secret: programs that have not switched yet are refused meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One version of the credential, as programs need it."""

    user: str
    secret: str = field(repr=False)
    host: str = ""
    port: int = 0
    database: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSpec:
    """One place from which programs take the credential: its kind and its options, which hold no secret."""

    kind: str
    options: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A credential that is rotated. It counts only while `signature` verifies."""

    name: str
    target: str
    principal: str
    """The login that counts now."""
    mode: Mode
    consumers: tuple[ConsumerSpec, ...]
    identity: str = ""
    health: tuple[str, ...] = ()
    """A program and its arguments; exit status 0 says that the consumers work."""
    deadline_seconds: int = 60
    """How long the old credential may stay in use after the switch before everything is rolled back."""
    observe: bool = True
    """Whether the target is watched for use of the new login and for use of the old."""
    automatic: bool = False
    tier: int = 2
    max_age_days: int = 0
    """0: what the settings say for its tier."""
    version: int = 0
    """How often it was rotated."""
    rotated: datetime | None = None
    known: tuple[str, ...] = ()
    """Logins that earlier rotations made or used: these may be used again."""
    created: datetime
    created_by: str
    approval: Mapping[str, Json] = field(default_factory=dict)
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers: everything but the signature."""
        return {
            "name": self.name,
            "target": self.target,
            "principal": self.principal,
            "mode": self.mode.value,
            "consumers": [{"kind": each.kind, "options": dict(each.options)} for each in self.consumers],
            "identity": self.identity,
            "health": list(self.health),
            "deadline_seconds": self.deadline_seconds,
            "observe": self.observe,
            "automatic": self.automatic,
            "tier": self.tier,
            "max_age_days": self.max_age_days,
            "version": self.version,
            "rotated": rfc3339(self.rotated) if self.rotated else None,
            "known": list(self.known),
            "created": rfc3339(self.created),
            "created_by": self.created_by,
            "approval": dict(self.approval),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rotation of one plan. `revision` grows with every write: a write under an older one changes nothing."""

    id: str
    plan: str
    phase: Phase
    revision: int
    old: str
    new: str
    """Logins; the same where one principal has two secrets."""
    places: tuple[str, ...]
    """What became of each consumer, in the order of the plan: `waiting`, `publishing`, `published`, `restored`."""
    started: datetime
    actor: str
    reason: str
    moved: datetime
    """When it came into its phase."""
    published: datetime | None = None
    """When the new credential was about to be made: sessions from before it cannot be of the new."""
    trouble: str = ""
    turning: str = ""
    """Why it is rolled back."""
    seen: Mapping[str, Json] = field(default_factory=dict)
    """What was observed: probe, use of the new, use of the old, health."""
    proof: Mapping[str, Json] = field(default_factory=dict)
    ended: datetime | None = None
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers, and what is told of it: it holds no secret."""
        return {
            "id": self.id,
            "plan": self.plan,
            "phase": self.phase.value,
            "revision": self.revision,
            "old": self.old,
            "new": self.new,
            "places": list(self.places),
            "started": rfc3339(self.started),
            "actor": self.actor,
            "reason": self.reason,
            "moved": rfc3339(self.moved),
            "published": rfc3339(self.published) if self.published else None,
            "trouble": self.trouble,
            "turning": self.turning,
            "seen": dict(self.seen),
            "proof": dict(self.proof),
            "ended": rfc3339(self.ended) if self.ended else None,
        }

    def step(self, to: Phase, **changes: object) -> Run:
        """The same rotation in phase `to`; an illegal step is a bug."""
        assert to is self.phase or to in STEPS[self.phase], f"{self.phase} → {to}"
        return replace(self, phase=to, **changes)  # type: ignore[arg-type]

    def with_place(self, number: int, what: str) -> Run:
        """The same rotation, one consumer further."""
        return replace(self, places=(*self.places[:number], what, *self.places[number + 1 :]))


def next_login(principal: str, mode: Mode) -> str:
    """The login of the next version: `app_a` and `app_b` in turn, or the same."""
    if mode is not Mode.TWO_LOGINS:
        return principal
    if principal.endswith("_b"):
        return principal[:-2] + "_a"
    return (principal[:-2] if principal.endswith("_a") else principal) + "_b"
