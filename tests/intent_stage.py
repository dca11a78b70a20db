"""Intents, tools and calls for tests, and strategies that make small ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from remit.access.intent.model import (
    ApprovedTool,
    Automaton,
    Budget,
    Constraint,
    Intent,
    SessionState,
    ToolCall,
    ToolClass,
    ToolRule,
)
from remit.inventory.model import Sensitivity

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
NAMES = ("s/read", "s/send")
VALUES: tuple[Any, ...] = ("a", "bb", 1, 7, True, None)


def rule(**properties: Constraint) -> ToolRule:
    return ToolRule(arguments=Constraint(kind="object", properties=properties))


def intent(**changes: Any) -> Intent:
    """An intent that allows both tools everything, changed."""
    usual: dict[str, Any] = {
        "id": "in_1",
        "task": "t",
        "agent": "id_1",
        "on_behalf_of": "person:ana",
        "purpose": "p",
        "instruction": "i",
        "inputs": {},
        "tools": {name: rule(x=Constraint()) for name in NAMES},
        "ceiling": Sensitivity.RESTRICTED,
        "sequence": None,
        "budget": Budget(calls=10, bytes=1000, seconds=600),
        "expires": NOW + timedelta(hours=1),
    }
    return Intent(**{**usual, **changes})


def tool(name: str = "s/read", **changes: Any) -> ApprovedTool:
    usual: dict[str, Any] = {
        "name": name,
        "definition": DIGEST,
        "kind": ToolClass.READ if name == "s/read" else ToolClass.EXTERNAL,
        "label": Sensitivity.INTERNAL,
        "clearance": Sensitivity.INTERNAL,
        "trusted": False,
        "approved": NOW,
        "approved_by": "person:ana",
    }
    return ApprovedTool(**{**usual, **changes})


def call(name: str = "s/read", arguments: Mapping[str, Any] | None = None, **changes: Any) -> ToolCall:
    usual: dict[str, Any] = {
        "tool": name,
        "definition": DIGEST,
        "arguments": arguments or {},
        "origins": {},
        "size": 10,
    }
    return ToolCall(**{**usual, **changes})


SENSITIVITY = st.sampled_from(list(Sensitivity))
ORIGIN = st.sampled_from(["instruction", "user", "tool:s/read"])
CONSTRAINT = st.builds(
    Constraint,
    kind=st.sampled_from(["", "", "string", "integer"]),
    enum=st.sampled_from([(), (), ("a",), ("a", 1), (True,)]),
    pattern=st.sampled_from(["", "", "[ab]+", "a|bb"]),
    minimum=st.sampled_from([None, None, 2]),
    maximum=st.sampled_from([None, None, 5]),
    max_length=st.sampled_from([None, None, 1]),
    origins=st.none() | st.frozensets(st.sampled_from(["instruction", "user", "tool:s/read", "any"]), max_size=2),
)
RULE = st.builds(
    ToolRule,
    arguments=st.builds(
        Constraint,
        kind=st.just("object"),
        properties=st.dictionaries(st.sampled_from(["x", "y"]), CONSTRAINT, max_size=2),
        required=st.sampled_from([(), (), ("x",)]),
    ),
    calls=st.sampled_from([None, 1, 3]),
    amount=st.sampled_from(["", "", "", "x"]),
    clearance=st.none() | SENSITIVITY,
)
SYMBOL = st.sampled_from(["s/read", "read", "external", "read@confidential", "*"])
STATES = ("one", "two")
SEQUENCE = st.none() | st.builds(
    Automaton,
    start=st.sampled_from(STATES),
    states=st.fixed_dictionaries({name: st.dictionaries(SYMBOL, st.sampled_from(STATES)) for name in STATES}),
)
INTENT = st.builds(
    intent,
    tools=st.dictionaries(st.sampled_from(NAMES), RULE, min_size=1),
    ceiling=SENSITIVITY,
    sequence=SEQUENCE,
    budget=st.builds(
        Budget,
        calls=st.sampled_from([1, 3]),
        bytes=st.sampled_from([15, 100]),
        seconds=st.just(600),
        rows=st.sampled_from([None, None, 1]),
        amount=st.sampled_from([None, None, 7]),
    ),
    risk=st.sampled_from([100, 100, 40]),
)
TOOLS = st.fixed_dictionaries(
    {
        name: st.builds(tool, st.just(name), label=SENSITIVITY, clearance=SENSITIVITY, trusted=st.booleans())
        for name in NAMES
    }
)
CALL = st.builds(
    call,
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(VALUES), max_size=2),
    origins=st.dictionaries(st.sampled_from(["/x", "/y"]), st.frozensets(ORIGIN, max_size=2), max_size=2),
    size=st.sampled_from([1, 10]),
    rows=st.sampled_from([0, 0, 1, 2]),
    risk=st.sampled_from([0, 0, 0, 50]),
)


def begun(one: Intent) -> SessionState:
    from remit.access.intent.decide import begin

    return begin(one, NOW)
