"""An intent as a person writes and reads it: YAML, strict, bounded.

task: answer-mail
agent: spiffe://remit.local/agent/mailer
purpose: answer the question of order 4711
instruction: |
  Read the mail "4711" and send the answer to bob@example.com.
ceiling: confidential
tools:
  mail/read_mail:
    arguments: {id: {pattern: "[0-9]+"}}
    calls: 5
  mail/send_mail:
    arguments:
      to: {pattern: "[a-z.]+@example[.]com", origins: [instruction, user]}
      body: {maxLength: 4000, origins: [any]}
    required: [to, body]
    clearance: internal
sequence:
  start: open
  states:
    open: {"read@confidential": sealed, read: open, external: open}
    sealed: {read: sealed}
budget: {calls: 20, bytes: 1000000, seconds: 600}
seconds: 3600
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec
import yaml

from remit.access.intent.model import ANY, INSTRUCTION, TOOL, USER, Automaton, Budget, Constraint, Intent, ToolRule
from remit.access.intent.pattern import check_pattern
from remit.inventory.model import Sensitivity
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected

MAX_BYTES: Final = 64 << 10
MAX_TOOLS: Final = 64
MAX_LIFE: Final = timedelta(hours=12)
_MAX_DEPTH: Final = 4
_MAX_STATES: Final = 64
_KINDS: Final = frozenset({"", "string", "integer", "number", "boolean", "null", "object", "array"})


class WireConstraint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The part of JSON Schema that an argument may have, and the origins that it may come from."""

    type: str = ""
    const: str | int | bool | None | msgspec.UnsetType = msgspec.UNSET
    enum: list[str | int | bool | None] = []
    pattern: str = ""
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = msgspec.field(default=None, name="maxLength")
    max_items: int | None = msgspec.field(default=None, name="maxItems")
    items: WireConstraint | None = None
    properties: dict[str, WireConstraint] = {}
    required: list[str] = []
    additional: bool = msgspec.field(default=False, name="additionalProperties")
    origins: list[str] | None = None


class WireTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    arguments: dict[str, WireConstraint] = {}
    required: list[str] = []
    calls: int | None = None
    clearance: Sensitivity | None = None
    amount: str = ""


class WireSequence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    start: str
    states: dict[str, dict[str, str]]


class WireBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    calls: int = 50
    bytes: int = 4_000_000
    seconds: int = 3600
    rows: int | None = None
    amount: int | None = None


class WireIntent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document."""

    task: str
    agent: str
    purpose: str
    instruction: str
    tools: dict[str, WireTool]
    on_behalf_of: str = ""
    inputs: dict[str, str] = {}
    ceiling: Sensitivity = Sensitivity.INTERNAL
    sequence: WireSequence | None = None
    budget: WireBudget = WireBudget()
    seconds: int = 3600
    risk: int = 100
    parent: str = ""


class _Loader(yaml.SafeLoader):
    """No aliases (a short text could mean a huge one), no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if len({str(key) for key in keys}) != len(keys):
            raise yaml.YAMLError("a key stands twice")
        return super().construct_mapping(node, deep)


def parse_document(text: str) -> WireIntent:
    """Read a document; nothing of it is trusted yet. Raises `Rejected` (`access.intent.document`)."""
    if len(text) > MAX_BYTES:
        _wrong(f"it is longer than {MAX_BYTES} characters")
    try:
        plain = yaml.load(text, _Loader)  # noqa: S506  (a safe loader)
        return msgspec.convert(plain, WireIntent)
    except msgspec.ValidationError as error:
        _wrong(str(error))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        _wrong(f"it is no YAML that is taken here: {str(error).splitlines()[0][:200] if str(error) else 'too deep'}")


def make_intent(wire: WireIntent, *, id: str, agent: str, on_behalf_of: str, now: datetime) -> Intent:
    """Check a document and make the intent of it; `agent` is the identity that its name means.

    Raises `Rejected` (`access.intent.document`, `.pattern`).
    """
    _bounds(wire)
    return Intent(
        id=id,
        task=wire.task,
        agent=agent,
        on_behalf_of=wire.on_behalf_of or on_behalf_of,
        purpose=wire.purpose,
        instruction=wire.instruction,
        inputs=dict(wire.inputs),
        tools={name: _rule(name, each) for name, each in wire.tools.items()},
        ceiling=wire.ceiling,
        sequence=None if wire.sequence is None else _automaton(wire.sequence),
        budget=Budget(**msgspec.structs.asdict(wire.budget)),
        expires=now + timedelta(seconds=wire.seconds),
        parent=wire.parent,
        risk=wire.risk,
    )


def _bounds(wire: WireIntent) -> None:
    for what, text, most in (
        ("task", wire.task, 128),
        ("purpose", wire.purpose, 1000),
        ("instruction", wire.instruction, 16_000),
    ):
        if not text.strip() or len(text) > most:
            _wrong(f"`{what}` takes 1 to {most} characters")
    if not 1 <= len(wire.tools) <= MAX_TOOLS:
        _wrong(f"`tools` has 1 to {MAX_TOOLS} tools")
    if not timedelta(0) < timedelta(seconds=wire.seconds) <= MAX_LIFE:
        _wrong("`seconds` is from 1 to 43200")
    budget = wire.budget
    if not (0 < budget.calls <= 100_000 and 0 < budget.bytes <= 1 << 32 and 0 < budget.seconds <= 43_200):
        _wrong("`budget` has a number that is not positive, or too large")
    if any(each is not None and not 0 <= each <= 10**12 for each in (budget.rows, budget.amount)):
        _wrong("`budget` has rows or an amount that is negative, or too large")
    if not 0 <= wire.risk <= 100:
        _wrong("`risk` is from 0 to 100")
    if any(len(name) > 64 or len(text) > 4000 for name, text in wire.inputs.items()) or len(wire.inputs) > 64:
        _wrong("`inputs` has at most 64 values of at most 4000 characters")


def _rule(name: str, wire: WireTool) -> ToolRule:
    server, slash, tool = name.partition("/")
    if not server or not slash or not tool or len(name) > 200:
        _wrong(f"`{name[:80]}` is no SERVER/TOOL")
    if wire.calls is not None and not 0 < wire.calls <= 100_000:
        _wrong(f"`{name}` has a number of calls that is not positive, or too large")
    if wire.amount and wire.amount not in wire.arguments:
        _wrong(f"`{name}` is charged by `{wire.amount[:60]}`, which it does not list")
    whole = WireConstraint(type="object", properties=wire.arguments, required=wire.required)
    arguments = _constraint(whole, name, 0)
    return ToolRule(arguments=arguments, calls=wire.calls, clearance=wire.clearance, amount=wire.amount)


def _constraint(wire: WireConstraint, where: str, depth: int) -> Constraint:
    if depth > _MAX_DEPTH or len(wire.properties) > 64 or len(wire.enum) > 1000:
        _wrong(f"`{where}` is too deep or too large")
    if wire.additional:
        _wrong(f"`{where}` lets in arguments that it does not list: `additionalProperties` is false")
    if wire.type not in _KINDS:
        _wrong(f"`{where}` has an unknown type `{wire.type[:40]}`")
    if wire.pattern:
        check_pattern(wire.pattern)
    if unknown := [each for each in wire.required if each not in wire.properties]:
        _wrong(f"`{where}` requires `{unknown[0][:60]}`, which it does not list")
    const = () if wire.const is msgspec.UNSET else (wire.const,)
    most = [each for each in (wire.max_length, wire.max_items) if each is not None]
    return Constraint(
        kind=wire.type,
        enum=(*const, *wire.enum),
        pattern=wire.pattern,
        minimum=wire.minimum,
        maximum=wire.maximum,
        max_length=min(most) if most else None,
        items=None if wire.items is None else _constraint(wire.items, f"{where}[]", depth + 1),
        properties={name: _constraint(each, f"{where}.{name}", depth + 1) for name, each in wire.properties.items()},
        required=tuple(wire.required),
        origins=None if wire.origins is None else frozenset(_origin(each, where) for each in wire.origins),
    )


def _origin(text: str, where: str) -> str:
    if text in (INSTRUCTION, USER, ANY) or (text.startswith(TOOL) and "/" in text and len(text) <= 210):
        return text
    return _wrong(f"`{where}` has an unknown origin `{text[:60]}`: instruction, user, tool:SERVER/TOOL or any")


def _automaton(wire: WireSequence) -> Automaton:
    if len(wire.states) > _MAX_STATES or any(len(each) > 256 for each in wire.states.values()):
        _wrong("`sequence` has too many states or transitions")
    aims = {wire.start, *(aim for each in wire.states.values() for aim in each.values())}
    if missing := sorted(aims - set(wire.states)):
        _wrong(f"`sequence` leads to a state `{missing[0][:60]}` that it does not have")
    return Automaton(start=wire.start, states={name: dict(each) for name, each in wire.states.items()})


def intent_json(intent: Intent) -> dict[str, Json]:
    """All of an intent but its id, agent and expiry, as JSON that a digest is made of."""
    sequence = intent.sequence
    return {
        "task": intent.task,
        "on_behalf_of": intent.on_behalf_of,
        "purpose": intent.purpose,
        "instruction": intent.instruction,
        "inputs": dict(intent.inputs),
        "tools": {name: _rule_json(rule) for name, rule in intent.tools.items()},
        "ceiling": intent.ceiling.value,
        "sequence": None
        if sequence is None
        else {"start": sequence.start, "states": {name: dict(each) for name, each in sequence.states.items()}},
        "budget": _budget_json(intent.budget),
        "parent": intent.parent,
        **({"risk": intent.risk} if intent.risk < 100 else {}),
    }


def _budget_json(budget: Budget) -> dict[str, Json]:
    found: dict[str, Json] = {"calls": budget.calls, "bytes": budget.bytes, "seconds": budget.seconds}
    more: dict[str, Json] = {"rows": budget.rows, "amount": budget.amount}
    return found | {name: each for name, each in more.items() if each is not None}


def _rule_json(rule: ToolRule) -> dict[str, Json]:
    clearance = None if rule.clearance is None else rule.clearance.value
    found: dict[str, Json] = {
        "arguments": _constraint_json(rule.arguments),
        "calls": rule.calls,
        "clearance": clearance,
    }
    return {**found, "amount": rule.amount} if rule.amount else found


def _constraint_json(one: Constraint) -> dict[str, Json]:
    found: dict[str, Json] = {
        "type": one.kind,
        "enum": list(one.enum),
        "pattern": one.pattern,
        "minimum": one.minimum,
        "maximum": one.maximum,
        "max_length": one.max_length,
        "items": None if one.items is None else _constraint_json(one.items),
        "properties": {name: _constraint_json(each) for name, each in one.properties.items()},
        "required": list(one.required),
    }
    kept: dict[str, Json] = {name: value for name, value in found.items() if value not in (None, "", [], {})}
    if one.origins is not None:
        kept["origins"] = sorted(one.origins)
    return kept


def read_intent(stored: Mapping[str, Any], *, expires: datetime) -> Intent:
    """The inverse of `Intent.as_json`, for rows of our own."""
    sequence, budget = stored["sequence"], stored["budget"]
    return Intent(
        id=stored["id"],
        task=stored["task"],
        agent=stored["agent"],
        on_behalf_of=stored["on_behalf_of"],
        purpose=stored["purpose"],
        instruction=stored["instruction"],
        inputs=stored["inputs"],
        tools={
            name: ToolRule(
                arguments=_read_constraint(rule["arguments"]),
                calls=rule["calls"],
                clearance=None if rule["clearance"] is None else Sensitivity(rule["clearance"]),
                amount=rule.get("amount", ""),
            )
            for name, rule in stored["tools"].items()
        },
        ceiling=Sensitivity(stored["ceiling"]),
        sequence=None if sequence is None else Automaton(start=sequence["start"], states=sequence["states"]),
        budget=Budget(**budget),
        expires=expires,
        parent=stored["parent"],
        risk=stored.get("risk", 100),
    )


def _read_constraint(stored: Mapping[str, Any]) -> Constraint:
    items, origins = stored.get("items"), stored.get("origins")
    return Constraint(
        kind=stored.get("type", ""),
        enum=tuple(stored.get("enum", ())),
        pattern=stored.get("pattern", ""),
        minimum=stored.get("minimum"),
        maximum=stored.get("maximum"),
        max_length=stored.get("max_length"),
        items=None if items is None else _read_constraint(items),
        properties={name: _read_constraint(each) for name, each in stored.get("properties", {}).items()},
        required=tuple(stored.get("required", ())),
        origins=None if origins is None else frozenset(origins),
    )


def _wrong(why: str) -> NoReturn:
    raise Rejected("access.intent.document", f"the intent cannot be taken: {why}", next_step="see `docs/gateways.md`")
