"""Intents in records: what a task declares, what a session has done so far, and what is said of one call.

A tool is named `SERVER/TOOL`. Labels are the sensitivities of the inventory, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from remit.inventory.model import Sensitivity
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339

RANK: Final[Mapping[Sensitivity, int]] = {
    Sensitivity.PUBLIC: 0,
    Sensitivity.INTERNAL: 1,
    Sensitivity.CONFIDENTIAL: 2,
    Sensitivity.RESTRICTED: 3,
}


def higher(one: Sensitivity, other: Sensitivity) -> Sensitivity:
    """The stricter of two labels."""
    return one if RANK[one] >= RANK[other] else other


class ToolClass(StrEnum):
    """What a tool does to the world."""

    READ = "read"
    WRITE = "write"
    """Changes something within the installation's own systems."""
    EXTERNAL = "external"
    """Sends something to others."""


INSTRUCTION, USER, TOOL, ANY = "instruction", "user", "tool:", "any"
"""Origins: the signed instruction, a value that the user gave with it, the output of a tool (`tool:SERVER/TOOL`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What a value may be: an empty one admits any text, number or array; an object has the names listed, no others."""

    kind: str = ""
    """`string`, `integer`, `number`, `boolean`, `null`, `object` or `array`."""
    enum: tuple[Json, ...] = ()
    pattern: str = ""
    """Of the whole text: see `pattern`."""
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    """Characters of a text, or items of an array."""
    items: Constraint | None = None
    properties: Mapping[str, Constraint] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    origins: frozenset[str] | None = None
    """Where the value may come from; `None` is what the tool's class asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRule:
    """One tool of an intent."""

    arguments: Constraint
    calls: int | None = None
    clearance: Sensitivity | None = None
    """The highest label that may have been read before it is called; stricter than the tool's own, or nothing."""
    amount: str = ""
    """The argument whose number is charged to the budget's amount; empty for a tool that costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Automaton:
    """Which call may follow which: a state without a transition for a call refuses it.

    A transition names a tool, a class with the label of the tool's output (`read@confidential`), a class, or `*`: the
    first of them that the state has is taken.
    """

    start: str
    states: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much in all."""

    calls: int
    bytes: int
    """Of arguments and results together."""
    seconds: int
    """Wall clock, from the first call of a session."""
    rows: int | None = None
    """Records that may be read in all (`rows_of` counts them)."""
    amount: int | None = None
    """The sum of what tools charge (`ToolRule.amount`), in whatever unit their arguments have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What one task may do with tools; its `digest` is what a person approves."""

    id: str
    task: str
    agent: str
    """The identity's id (`id_…`)."""
    on_behalf_of: str
    purpose: str
    instruction: str
    inputs: Mapping[str, str]
    """What the user gave with the instruction, by name."""
    tools: Mapping[str, ToolRule]
    ceiling: Sensitivity
    """The highest label that may be read at all."""
    sequence: Automaton | None
    budget: Budget
    expires: datetime
    parent: str = ""
    risk: int = 100
    """The highest risk of the agent (0-100) at which it goes on."""

    def as_json(self) -> dict[str, Json]:
        """All that is approved."""
        from remit.access.intent.document import intent_json

        return {"id": self.id, "agent": self.agent, "expires": rfc3339(self.expires), **intent_json(self)}

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of what an approver answers for."""
        return digest(self.as_json())


class IntentState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIntent:
    """An intent with what became of it; it counts only while `signature` verifies and it is approved."""

    intent: Intent
    state: IntentState
    requested_by: str
    created: datetime
    approver: str = ""
    approved: datetime | None = None
    signature: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Json]:
        """What the installation signs: the approval of exactly this."""
        return {
            "id": self.intent.id,
            "digest": self.intent.digest,
            "requested_by": self.requested_by,
            "approver": self.approver,
            "approved": rfc3339(self.approved) if self.approved is not None else "",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedTool:
    """A tool's definition as a person read and approved it, with what its output is and what it may be given."""

    name: str
    """`SERVER/TOOL`."""
    definition: str
    """`sha256:<hex>` of the definition: name, description, schemas, annotations."""
    kind: ToolClass
    label: Sensitivity
    """Of what it answers."""
    clearance: Sensitivity
    """The highest label that may flow into it."""
    trusted: bool
    """Whether what it answers was written by people whom we trust; else reading it taints the session."""
    approved: datetime
    approved_by: str
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "name": self.name,
            "definition": self.definition,
            "kind": self.kind.value,
            "label": self.label.value,
            "clearance": self.clearance.value,
            "trusted": self.trusted,
            "approved": rfc3339(self.approved),
            "approved_by": self.approved_by,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """What a session has done: all that a decision needs to know of the past, of a fixed size."""

    started: datetime
    label: Sensitivity = Sensitivity.PUBLIC
    """The highest label that was read."""
    tainted: datetime | None = None
    """When something untrusted was read first."""
    state: str = ""
    """Of the automaton."""
    calls: int = 0
    bytes: int = 0
    by_tool: Mapping[str, int] = field(default_factory=dict)
    """Calls of each tool: only names of the intent's tools."""
    rows: int = 0
    amount: int = 0
    """In millionths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What an intent has used up, whoever serves it: one for each intent, for ever, so that nothing starts anew."""

    intent: str
    state: SessionState
    gateways: Mapping[str, int]
    """Server → how often a gateway took it over: only the newest one's calls count."""
    ended: datetime | None = None
    why: str = ""
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        state = self.state
        return {
            "intent": self.intent,
            "gateways": dict(self.gateways),
            "ended": rfc3339(self.ended) if self.ended is not None else "",
            "why": self.why,
            "started": rfc3339(state.started),
            "label": state.label.value,
            "tainted": rfc3339(state.tainted) if state.tainted is not None else "",
            "state": state.state,
            "calls": state.calls,
            "bytes": state.bytes,
            "by_tool": dict(state.by_tool),
            **({"rows": state.rows} if state.rows else {}),
            **({"amount": state.amount} if state.amount else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call as the gateway saw it."""

    tool: str
    definition: str
    """Digest of the definition that the server shows now."""
    arguments: Mapping[str, Json]
    origins: Mapping[str, frozenset[str]]
    """JSON pointer of each text or number in the arguments → where it was seen; none: nowhere."""
    size: int
    """Bytes of the arguments, and of results since the call before."""
    rows: int = 0
    """Records in results since the call before."""
    risk: int = 0
    """Of the agent now, by the inventory (0-100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the intent says of a call."""

    allowed: bool
    clause: str
    """The clause that refused: `origin`, `budget`, … ; empty for an allowed one."""
    text: str
    """The same in words."""
    after: SessionState
    """The state after an allowed call; as before for a refused one."""
    needed: str = ""
    """What would have allowed it."""
