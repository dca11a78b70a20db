"""The life of a scream test: an identity is held back for a moment, and who cries out depends on it.

    proposed ──► holding ──► held ──► restoring ──► restored
        │           └──────────────────────▲
        └──► withdrawn

The way back is kept before anything is touched, and may be gone again: a kill at any instant leaves what is restored,
by whoever starts next, and where the target can, by the target itself.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339, rfc3339

MOST_SECONDS: Final = 900
LEAST_SECONDS: Final = 2
MOST_HEARD: Final = 100
STRICT_TIERS: Final = (None, 0, 1)
"""A scream of one of these ends the test at once; a tier that nobody set counts as the strictest."""


class Phase(enum.Enum):
    """Where a test stands: the step that is under way, or the last that was finished."""

    PROPOSED = "proposed"
    """A second person begins it."""
    HOLDING = "holding"
    HELD = "held"
    RESTORING = "restoring"
    RESTORED = "restored"
    WITHDRAWN = "withdrawn"


STEPS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PROPOSED: frozenset({Phase.HOLDING, Phase.WITHDRAWN}),
    Phase.HOLDING: frozenset({Phase.HELD, Phase.RESTORING}),
    Phase.HELD: frozenset({Phase.RESTORING}),
    Phase.RESTORING: frozenset({Phase.RESTORED}),
    Phase.RESTORED: frozenset(),
    Phase.WITHDRAWN: frozenset(),
}
UNDER_WAY: Final = frozenset({Phase.HOLDING, Phase.HELD, Phase.RESTORING})
OPEN: Final = UNDER_WAY | {Phase.PROPOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One consumer that was refused, and tried: it depends on the identity."""

    who: str
    words: str
    """What the target or the decision point said."""
    count: int
    first: str
    last: str
    tier: int | None = None
    """Of the identity that it uses."""

    def as_json(self) -> dict[str, Json]:
        return {
            "who": self.who, "words": self.words, "count": self.count, "first": self.first, "last": self.last,
            "tier": self.tier,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scream:
    """One test."""

    id: str
    identity: str
    means: str
    """By what it is held back: `decision`, `postgres` or `redis`."""
    target: str
    login: str
    environment: str
    tier: int | None
    phase: Phase
    revision: int
    started: datetime
    moved: datetime
    share: int
    """Percent."""
    seconds: int
    reason: str
    actor: str
    proposed_by: str
    ends: str = ""
    before: Mapping[str, Json] = field(default_factory=dict)
    """What is restored: how it was on the target."""
    log: Mapping[str, Json] = field(default_factory=dict)
    """From where on screams are looked for."""
    heard: tuple[Heard, ...] = ()
    beyond: int = 0
    """Consumers that screamed besides."""
    tries: int = 0
    """Attempts that were seen, refused or not, where that is known."""
    outcome: str = ""
    trouble: str = ""
    approval: Mapping[str, Json] = field(default_factory=dict)
    signature: str = ""

    @property
    def strict(self) -> Heard | None:
        """A consumer for whose sake the test ends at once."""
        return next((each for each in self.heard if each.tier in STRICT_TIERS), None)

    def is_over(self, now: datetime) -> bool:
        return bool(self.ends) and now >= parse_rfc3339(self.ends)

    def step(self, to: Phase, now: datetime, **changes: Any) -> Scream:
        """The same test in phase `to`; an illegal step is a bug."""
        assert to is self.phase or to in STEPS[self.phase], f"{self.phase} → {to}"
        return replace(self, phase=to, moved=now, revision=self.revision + 1, **changes)

    def as_json(self) -> dict[str, Json]:
        """What is signed and kept, and what is shown."""
        return {
            "id": self.id, "identity": self.identity, "means": self.means, "target": self.target, "login": self.login,
            "environment": self.environment, "tier": self.tier, "phase": self.phase.value, "revision": self.revision,
            "started": rfc3339(self.started), "moved": rfc3339(self.moved), "share": self.share,
            "seconds": self.seconds, "reason": self.reason, "actor": self.actor, "proposed_by": self.proposed_by,
            "ends": self.ends, "before": dict(self.before), "log": dict(self.log),
            "heard": [each.as_json() for each in self.heard], "beyond": self.beyond, "tries": self.tries,
            "outcome": self.outcome, "trouble": self.trouble, "approval": dict(self.approval),
        }  # fmt: skip

    @classmethod
    def read(cls, content: Mapping[str, Any], signature: str) -> Scream:
        """The inverse of `as_json`."""
        return cls(
            **{
                **content, "phase": Phase(content["phase"]), "signature": signature,
                "heard": tuple(Heard(**each) for each in content["heard"]),
                "started": parse_rfc3339(content["started"]), "moved": parse_rfc3339(content["moved"]),
            }
        )  # fmt: skip


def together(known: Iterable[Heard], news: Iterable[Heard]) -> tuple[tuple[Heard, ...], int]:
    """Screams by consumer, the first that screamed first; and how many consumers are too many to keep."""
    found = {each.who: each for each in known}
    beyond = 0
    for each in news:
        if (before := found.get(each.who)) is not None:
            found[each.who] = replace(
                before, count=before.count + each.count, last=max(before.last, each.last), words=each.words
            )
        elif len(found) < MOST_HEARD:
            found[each.who] = each
        else:
            beyond += 1
    return tuple(found.values()), beyond


def outcome_of(test: Scream) -> str:
    """What a test that ran to its end says."""
    if test.heard:
        return f"{len(test.heard) + test.beyond} screamed"
    if test.means == "decision" and not test.tries:
        return "nobody asked: a longer window, or a larger share, would tell more"
    return "nobody screamed"
