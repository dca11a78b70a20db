"""What an intent says of a call, added to what policy says: it only ever takes away, and is told to who explains."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import msgspec

from remit.access.intent.model import Intent, SessionState, ToolCall, Verdict
from remit.access.model import Decision, Effect, Reason
from remit.kernel.canonical import Json

_RECORDED: Final = 64
"""Arguments whose origins a decision's record tells."""


class Narrow:
    """Adds to a decision of policy what the intent says."""

    def __init__(self, intent: Intent, call: ToolCall, state: SessionState, verdict: Verdict) -> None:
        self._intent = intent
        self._call = call
        self._state = state
        self._verdict = verdict

    def __call__(self, decision: Decision) -> Decision:
        verdict = self._verdict
        facts = {**decision.facts, "intent": self._facts()}
        if verdict.allowed:
            return replace(decision, facts=facts)
        reason = Reason(id=f"remit:intent.{verdict.clause}", effect=Effect.FORBID, text=verdict.text)
        others = () if decision.allowed else decision.reasons
        needed = tuple(text for text in (verdict.needed, *decision.needed) if text)
        return replace(decision, allowed=False, reasons=(reason, *others), needed=needed, obligations=(), facts=facts)

    def _facts(self) -> dict[str, Json]:
        """What a person needs to see why; of the arguments themselves only a digest."""
        call, state = self._call, self._state
        origins = {pointer: sorted(seen) for pointer, seen in list(call.origins.items())[:_RECORDED]}
        return {
            "id": self._intent.id,
            "digest": self._intent.digest,
            "task": self._intent.task,
            "clause": self._verdict.clause,
            "tool": call.tool,
            "definition": call.definition,
            "arguments_sha256": hashlib.sha256(msgspec.json.encode(call.arguments, order="sorted")).hexdigest(),
            "origins": origins,
            "label": state.label.value,
            "tainted": state.tainted is not None,
            "state": state.state,
            "calls": state.calls,
            "bytes": state.bytes,
            "rows": state.rows,
            "risk": call.risk,
        }
