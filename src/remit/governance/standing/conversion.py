"""The life of a conversion, from a login that stands to a role that tasks lease.

    planned ──► prepared ──► removing ──► done
       │           │            │           │
       └───────────┴──────┬─────┴───────────┘
                          ▼
                       undoing ──► undone

Each phase is kept before its effect, and each effect may be done again: a kill at any instant leaves what `apply` goes
on with and what `undo` takes back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339


class Phase(enum.Enum):
    """Where a conversion stands: the step that is under way, or the last that was finished."""

    PLANNED = "planned"
    """The group role is being made on the target."""
    PREPARED = "prepared"
    """The role exists and is mapped; the login still stands. A run under a lease must prove that it serves."""
    REMOVING = "removing"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"


STEPS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PLANNED: frozenset({Phase.PREPARED, Phase.UNDOING}),
    Phase.PREPARED: frozenset({Phase.REMOVING, Phase.UNDOING}),
    Phase.REMOVING: frozenset({Phase.DONE, Phase.UNDOING}),
    Phase.DONE: frozenset({Phase.UNDOING}),
    Phase.UNDOING: frozenset({Phase.UNDONE}),
    Phase.UNDONE: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One login on its way to a grant."""

    id: str
    identity: str
    target: str
    login: str
    role: str
    """As needs name it."""
    group: str
    """The NOLOGIN role on the target."""
    task: str
    phase: Phase
    revision: int
    started: datetime
    moved: datetime
    actor: str
    statements: tuple[str, ...] = ()
    """What gives the group its rights, in the target's language."""
    approval: Mapping[str, Json] = field(default_factory=dict)
    """The person's own signed request."""
    evidence: Mapping[str, Json] = field(default_factory=dict)
    """The lease that showed that the role serves."""
    proof: Mapping[str, Json] = field(default_factory=dict)
    """How the old login was refused."""
    left: tuple[str, ...] = ()
    """What undoing could not take away, in sentences."""
    trouble: str = ""
    signature: str = ""

    def step(self, to: Phase, now: datetime, **changes: Any) -> Conversion:
        """The same conversion in phase `to`; an illegal step is a bug."""
        assert to is self.phase or to in STEPS[self.phase], f"{self.phase} → {to}"
        return replace(self, phase=to, moved=now, revision=self.revision + 1, **changes)

    @property
    def need(self) -> str:
        """What a task asks for in its place."""
        return f"postgres://{self.target}?role={self.role}"

    def as_json(self) -> dict[str, Json]:
        """What is signed and kept, and what is shown."""
        return {
            "id": self.id,
            "identity": self.identity,
            "target": self.target,
            "login": self.login,
            "role": self.role,
            "group": self.group,
            "task": self.task,
            "phase": self.phase.value,
            "revision": self.revision,
            "started": rfc3339(self.started),
            "moved": rfc3339(self.moved),
            "actor": self.actor,
            "statements": list(self.statements),
            "approval": dict(self.approval),
            "evidence": dict(self.evidence),
            "proof": dict(self.proof),
            "left": list(self.left),
            "trouble": self.trouble,
        }

    @classmethod
    def read(cls, content: Mapping[str, Any], signature: str) -> Conversion:
        """The inverse of `as_json`."""
        return cls(
            **{
                **content,
                "phase": Phase(content["phase"]),
                "started": datetime.fromisoformat(content["started"]),
                "moved": datetime.fromisoformat(content["moved"]),
                "statements": tuple(content["statements"]),
                "left": tuple(content["left"]),
                "signature": signature,
            }
        )
