"""The life of a change to what an identity may do.

    shadow ──► canarying ──► canary ──► enforcing ──► enforced
      │            │            │           ▲             │
      ├────────────┼────────────┼───────────┘             │
      └────────────┴─────┬──────┴─────────────────────────┘
                         ▼
                     restoring ──► restored

Each phase with an effect is kept before the effect, and each effect may be done again: a kill at any instant leaves
what goes on, or what takes it back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Misconfigured


class Phase(enum.Enum):
    """Where a change stands: the step that is under way, or the last that was finished."""

    SHADOW = "shadow"
    """Nothing is changed; what it would refuse of new acts is counted."""
    CANARYING = "canarying"
    CANARY = "canary"
    """In force until `ends`, then taken back by itself."""
    ENFORCING = "enforcing"
    ENFORCED = "enforced"
    RESTORING = "restoring"
    RESTORED = "restored"


STEPS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.SHADOW: frozenset({Phase.CANARYING, Phase.ENFORCING, Phase.RESTORED}),
    Phase.CANARYING: frozenset({Phase.CANARY, Phase.RESTORING}),
    Phase.CANARY: frozenset({Phase.ENFORCING, Phase.RESTORING}),
    Phase.ENFORCING: frozenset({Phase.ENFORCED, Phase.RESTORING}),
    Phase.ENFORCED: frozenset({Phase.RESTORING}),
    Phase.RESTORING: frozenset({Phase.RESTORED}),
    Phase.RESTORED: frozenset(),
}
IN_FORCE: Final = frozenset({Phase.CANARYING, Phase.CANARY, Phase.ENFORCING, Phase.ENFORCED})
UNDER_WAY: Final = frozenset({Phase.CANARYING, Phase.CANARY, Phase.ENFORCING, Phase.ENFORCED, Phase.RESTORING})
"""Phases in which something is to be looked after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One proposal on its way into force."""

    id: str
    identity: str
    language: str
    target: str
    """The target by which it is enforced; empty where a person applies it."""
    login: str
    phase: Phase
    revision: int
    started: datetime
    moved: datetime
    actor: str
    digest: str
    """Of the proposal that was shown."""
    commands: tuple[str, ...]
    inverse: tuple[str, ...]
    """What takes it back. Before it comes into force it is what the target's own rights of that moment say."""
    proposed_by: str = ""
    ends: str = ""
    """When a canary ends by itself."""
    share: int = 100
    """Per cent of its consumers for whom a canary is in force, always the same ones."""
    replay: Mapping[str, Json] = field(default_factory=dict)
    approval: Mapping[str, Json] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    """What was refused since it is in force, in sentences."""
    log: Mapping[str, Json] = field(default_factory=dict)
    """From where on the target's log is looked at."""
    trouble: str = ""
    taken: tuple[str, ...] = ()
    """What it takes, as `ACTION: schema.thing`: no more than that is ever given back."""
    signature: str = ""

    def step(self, to: Phase, now: datetime, **changes: Any) -> Change:
        """The same change in phase `to`; an illegal step is a bug."""
        assert to is self.phase or to in STEPS[self.phase], f"{self.phase} → {to}"
        return replace(self, phase=to, moved=now, revision=self.revision + 1, **changes)

    def as_json(self) -> dict[str, Json]:
        """What is signed and kept, and what is shown."""
        return {
            "id": self.id, "identity": self.identity, "language": self.language, "target": self.target,
            "login": self.login, "phase": self.phase.value, "revision": self.revision,
            "started": rfc3339(self.started), "moved": rfc3339(self.moved), "actor": self.actor, "digest": self.digest,
            "commands": list(self.commands), "inverse": list(self.inverse), "proposed_by": self.proposed_by,
            "ends": self.ends, "share": self.share, "replay": dict(self.replay), "approval": dict(self.approval),
            "refused": list(self.refused), "log": dict(self.log), "trouble": self.trouble,
            "taken": list(self.taken),
        }  # fmt: skip

    @classmethod
    def read(cls, content: Mapping[str, Any], signature: str) -> Change:
        """The inverse of `as_json`. `Misconfigured` (`governance.rightsizing.forged`) for what never was written."""
        try:
            listed = {name: tuple(content[name]) for name in ("commands", "inverse", "refused", "taken")}
            return cls(
                **{
                    **content, **listed, "phase": Phase(content["phase"]), "signature": signature,
                    "started": datetime.fromisoformat(content["started"]),
                    "moved": datetime.fromisoformat(content["moved"]),
                }
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            raise forged("a change") from None


def forged(what: str) -> Misconfigured:
    """The error for a row that is not as it was signed."""
    return Misconfigured(
        "governance.rightsizing.forged", f"the record of `{what[:60]}` was changed outside Remit",
        next_step="restore the database, or take the change back by hand",
    )  # fmt: skip
