"""One call against its intent: pure, deterministic, by a state of fixed size.

    1  expiry, wall clock, and the agent's risk
    2  the tool is one of the intent's, approved, and still what was approved
    3  arguments fit
    4  each value comes from where it may come from
    5  what would be read is within the ceiling
    6  what was read may flow into what is called
    7  the order allows it
    8  the budget allows it

An intent with a parent is asked together with it: a call is allowed only if every intent of the chain allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from remit.access.intent.constraint import violation
from remit.access.intent.model import (
    ANY,
    INSTRUCTION,
    RANK,
    USER,
    ApprovedTool,
    Constraint,
    Intent,
    SessionState,
    ToolCall,
    ToolClass,
    ToolRule,
    Verdict,
    higher,
)
from remit.access.intent.origin import leaves
from remit.kernel.clock import rfc3339

MILLION: Final = 1_000_000
_MOST_AMOUNT: Final = 10**12
_TRUSTED: Final = frozenset({INSTRUCTION, USER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A clause that does not hold, why, and what would help."""

    clause: str
    text: str
    needed: str = ""


def begin(intent: Intent, now: datetime) -> SessionState:
    """The state of a session before its first call."""
    return SessionState(started=now, state=intent.sequence.start if intent.sequence is not None else "")


def decide(
    intent: Intent, state: SessionState, call: ToolCall, approved: ApprovedTool | None, now: datetime
) -> Verdict:
    """Decide one call. The state after it is raised already by what its answer will be: before it is read."""
    refusal = (
        _in_time(intent, state, now)
        or _bearable(intent, call)
        or _known_tool(intent, call, approved)
        or _fitting(intent.tools[call.tool], call)
        or _from_where_it_may(intent.tools[call.tool], call, approved)
        or _may_be_read(intent, approved)
        or _may_flow(intent.tools[call.tool], state, call, approved)
        or _in_order(intent, state, call, approved)
        or _in_budget(intent, state, call)
    )
    if refusal is not None:
        return Verdict(allowed=False, clause=refusal.clause, text=refusal.text, needed=refusal.needed, after=state)
    assert approved is not None, "a tool that nobody approved was refused"
    return Verdict(allowed=True, clause="", text="", after=_after(intent, state, call, approved, now))


def decide_chain(
    chain: Sequence[tuple[Intent, SessionState]], call: ToolCall, approved: ApprovedTool | None, now: datetime
) -> tuple[Verdict, ...]:
    """Decide by an intent and all above it, itself first; the last verdict is the one that refused, if any did."""
    found: list[Verdict] = []
    for intent, state in chain:
        found.append(decide(intent, state, call, approved, now))
        if not found[-1].allowed:
            break
    return tuple(found)


def _in_time(intent: Intent, state: SessionState, now: datetime) -> Refusal | None:
    if now >= intent.expires:
        return Refusal(
            clause="expiry", text=f"the intent expired at {rfc3339(intent.expires)}", needed="a new intent, approved"
        )
    if now >= state.started + timedelta(seconds=intent.budget.seconds):
        return Refusal(
            clause="budget",
            text=f"the session has lasted the {intent.budget.seconds} seconds that the intent gives it",
            needed="an intent with more time",
        )
    return None


def _bearable(intent: Intent, call: ToolCall) -> Refusal | None:
    if call.risk <= intent.risk:
        return None
    return Refusal(
        clause="risk",
        text=f"the agent's risk is {call.risk}, and the intent bears {intent.risk}",
        needed="an agent of less risk: `remit findings` says what raises it",
    )


def _known_tool(intent: Intent, call: ToolCall, approved: ApprovedTool | None) -> Refusal | None:
    if call.tool not in intent.tools:
        return Refusal(
            clause="tool",
            text=f"the tool `{call.tool[:200]}` is not part of the task `{intent.task}`",
            needed=f"an intent that lists `{call.tool[:200]}`",
        )
    if approved is None or approved.name != call.tool:
        return Refusal(
            clause="tool.approval",
            text=f"nobody has approved the definition of `{call.tool}`",
            needed=f"`remit gateway tools approve {call.tool}`",
        )
    if approved.definition != call.definition:
        return Refusal(
            clause="tool.definition",
            text=f"the description or schema of `{call.tool}` is not the one that was approved",
            needed=f"a person who reads it again: `remit gateway tools approve {call.tool}`",
        )
    return None


def _fitting(rule: ToolRule, call: ToolCall) -> Refusal | None:
    found = violation(rule.arguments, call.arguments)
    if not found:
        return None
    return Refusal(clause="argument", text=f"the argument {found}", needed="arguments as the intent has them")


def _from_where_it_may(rule: ToolRule, call: ToolCall, approved: ApprovedTool | None) -> Refusal | None:
    assert approved is not None
    usual = frozenset({ANY}) if approved.kind is ToolClass.READ else _TRUSTED
    for pointer, _ in leaves(call.arguments):
        seen = call.origins.get(pointer, frozenset())
        may = _admitted(rule.arguments, pointer, usual)
        if ANY in may or seen & may:
            continue
        where = f"was seen only in the output of {_sources(seen)}" if seen else "was seen nowhere"
        return Refusal(
            clause="origin",
            text=f"the argument `{pointer}` may come from {_words(may)}, and {where}",
            needed="a value of the signed instruction or of the user",
        )
    return None


def _admitted(constraint: Constraint, pointer: str, usual: frozenset[str]) -> frozenset[str]:
    """The origins that a value may have: by the innermost constraint on its way that names any."""
    at: Constraint | None = constraint
    found = constraint.origins
    for part in pointer.split("/")[1:]:
        if at is None:
            break
        name = part.replace("~1", "/").replace("~0", "~")
        at = at.items if at.items is not None and name.isdigit() and not at.properties else at.properties.get(name)
        if at is not None and at.origins is not None:
            found = at.origins
    return usual if found is None else found


def _may_be_read(intent: Intent, approved: ApprovedTool | None) -> Refusal | None:
    assert approved is not None
    if RANK[approved.label] <= RANK[intent.ceiling]:
        return None
    return Refusal(
        clause="label.ceiling",
        text=f"`{approved.name}` answers with {approved.label} data, above the ceiling {intent.ceiling}",
        needed=f"an intent whose ceiling is {approved.label}",
    )


def _may_flow(rule: ToolRule, state: SessionState, call: ToolCall, approved: ApprovedTool | None) -> Refusal | None:
    assert approved is not None
    clearance = approved.clearance
    if rule.clearance is not None and RANK[rule.clearance] < RANK[clearance]:
        clearance = rule.clearance
    if approved.kind is ToolClass.READ or RANK[state.label] <= RANK[clearance]:
        return None
    return Refusal(
        clause="label.flow",
        text=f"the session has read {state.label} data, and `{call.tool}` is cleared for {clearance}",
        needed="a call made before such data is read",
    )


def _in_order(intent: Intent, state: SessionState, call: ToolCall, approved: ApprovedTool | None) -> Refusal | None:
    assert approved is not None
    if intent.sequence is None or step(intent, state, approved) is not None:
        return None
    return Refusal(
        clause="order",
        text=f"in the state `{state.state}` of the task the tool `{call.tool}` may not be called",
        needed="the order that the intent declares",
    )


def step(intent: Intent, state: SessionState, approved: ApprovedTool) -> str | None:
    """The state that the automaton goes to; `None` where it has none."""
    if intent.sequence is None:
        return ""
    return aim(intent.sequence.states.get(state.state, {}), approved.name, approved.kind, approved.label.value)


def aim(transitions: Mapping[str, str], tool: str, kind: str, label: str) -> str | None:
    """Where the first fitting transition leads: by the tool, its class with its label, its class, or `*`."""
    for symbol in (tool, f"{kind}@{label}", kind, "*"):
        if symbol in transitions:
            return transitions[symbol]
    return None


def _in_budget(intent: Intent, state: SessionState, call: ToolCall) -> Refusal | None:
    budget, rule = intent.budget, intent.tools[call.tool]
    if state.calls >= budget.calls:
        return _spent(f"all {budget.calls} calls of the intent are used")
    if rule.calls is not None and state.by_tool.get(call.tool, 0) >= rule.calls:
        return _spent(f"all {rule.calls} calls of `{call.tool}` are used")
    if state.bytes + call.size > budget.bytes:
        return _spent(f"the call would pass the {budget.bytes} bytes of the intent")
    if budget.rows is not None and state.rows + call.rows > budget.rows:
        return _spent(f"more than the {budget.rows} rows of the intent were read")
    charge = charged(rule, call)
    if charge is None:
        return Refusal(
            clause="argument",
            text=f"the argument `/{rule.amount}` is no amount",
            needed="a number that is not negative, with at most six decimals",
        )
    if budget.amount is not None and state.amount + charge > budget.amount * MILLION:
        return _spent(f"the call would pass the amount {budget.amount} of the intent")
    return None


def charged(rule: ToolRule, call: ToolCall) -> int | None:
    """What a call costs, in millionths; `None` for an argument that is no amount: it must not count as nothing."""
    if not rule.amount:
        return 0
    given = call.arguments.get(rule.amount)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= _MOST_AMOUNT:
        return None
    exact = Decimal(str(given)) * MILLION
    return int(exact) if exact == exact.to_integral_value() else None


def _spent(text: str) -> Refusal:
    return Refusal(clause="budget", text=text, needed="an intent with a larger budget")


def _after(intent: Intent, state: SessionState, call: ToolCall, approved: ApprovedTool, now: datetime) -> SessionState:
    return replace(
        state,
        label=higher(state.label, approved.label),
        tainted=state.tainted if state.tainted is not None or approved.trusted else now,
        state=step(intent, state, approved) or "",
        calls=state.calls + 1,
        bytes=state.bytes + call.size,
        by_tool={**state.by_tool, call.tool: state.by_tool.get(call.tool, 0) + 1},
        rows=state.rows + call.rows,
        amount=state.amount + (charged(intent.tools[call.tool], call) or 0),
    )


def _sources(seen: frozenset[str]) -> str:
    return ", ".join(f"`{each.removeprefix('tool:')}`" for each in sorted(seen))


def _words(origins: frozenset[str]) -> str:
    names = {INSTRUCTION: "the signed instruction", USER: "the user"}
    ordered = sorted(origins, key=lambda each: (each != INSTRUCTION, each != USER, each))
    return " or ".join(names.get(each, f"`{each}`") for each in ordered) or "nowhere"
