"""Decisions on calls against a plain oracle, and attenuation: a child never allows what its parent refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from intent_stage import CALL, INTENT, NOW, TOOLS, begun
from remit.access.intent.attenuate import excess
from remit.access.intent.constraint import violation
from remit.access.intent.decide import decide, decide_chain
from remit.access.intent.model import ApprovedTool, Intent, ToolCall, ToolClass
from remit.inventory.model import Sensitivity

ORDER = [Sensitivity.PUBLIC, Sensitivity.INTERNAL, Sensitivity.CONFIDENTIAL, Sensitivity.RESTRICTED]


def oracle(intent: Intent, past: Sequence[ToolCall], call: ToolCall, tools: Mapping[str, ApprovedTool]) -> bool:
    """Whether the call is allowed, from the whole history, in the plainest words."""
    rule = intent.tools.get(call.tool)
    if rule is None or violation(rule.arguments, call.arguments) or call.risk > intent.risk:
        return False
    tool = tools[call.tool]
    for name, value in call.arguments.items():
        if isinstance(value, bool) or value is None:
            continue
        may = rule.arguments.properties[name].origins
        if may is None:
            may = {"any"} if tool.kind is ToolClass.READ else {"instruction", "user"}
        if "any" not in may and not call.origins.get(f"/{name}", frozenset()) & may:
            return False
    if ORDER.index(tool.label) > ORDER.index(intent.ceiling):
        return False
    read = max([0, *(ORDER.index(tools[each.tool].label) for each in past)])
    cleared = min(ORDER.index(tool.clearance), ORDER.index(rule.clearance or Sensitivity.RESTRICTED))
    if tool.kind is not ToolClass.READ and read > cleared:
        return False
    if len(past) >= intent.budget.calls or sum(each.size for each in past) + call.size > intent.budget.bytes:
        return False
    if rule.calls is not None and sum(each.tool == call.tool for each in past) >= rule.calls:
        return False
    if intent.budget.rows is not None and sum(each.rows for each in [*past, call]) > intent.budget.rows:
        return False
    if rule.amount and type(call.arguments.get(rule.amount)) is not int:
        return False
    spent = sum(
        each.arguments[intent.tools[each.tool].amount] for each in [*past, call] if intent.tools[each.tool].amount
    )
    if intent.budget.amount is not None and spent > intent.budget.amount:
        return False
    return _walk(intent, [*past, call], tools)


def _walk(intent: Intent, calls: Sequence[ToolCall], tools: Mapping[str, ApprovedTool]) -> bool:
    if intent.sequence is None:
        return True
    state: str | None = intent.sequence.start
    for each in calls:
        tool = tools[each.tool]
        edges = intent.sequence.states[state]  # type: ignore[index]
        names = (tool.name, f"{tool.kind}@{tool.label}", str(tool.kind), "*")
        state = next((edges[name] for name in names if name in edges), None)
        if state is None:
            return False
    return True


@given(INTENT, TOOLS, st.lists(CALL, max_size=6))
def test_decisions_agree_with_the_oracle(intent: Intent, tools: dict[str, ApprovedTool], calls: list[ToolCall]) -> None:
    state, past = begun(intent), []
    for call in calls:
        verdict = decide(intent, state, call, tools[call.tool], NOW)
        assert verdict.allowed == oracle(intent, past, call, tools), verdict
        assert verdict.allowed or (verdict.clause and verdict.text and verdict.after == state)
        state = verdict.after
        past += [call] if verdict.allowed else []


@settings(max_examples=400)
@given(INTENT, INTENT, TOOLS, st.lists(CALL, max_size=6), st.randoms())
def test_a_child_never_allows_what_its_parent_refuses(
    parent: Intent, other: Intent, tools: dict[str, ApprovedTool], calls: list[ToolCall], random: Any
) -> None:
    from dataclasses import replace

    same = {name: getattr(parent, name) for name in ("tools", "ceiling", "sequence", "budget")}
    child = replace(other, **{name: value for name, value in same.items() if random.random() < 0.7})
    assume(not excess(child, parent))
    mine, theirs = begun(child), begun(parent)
    for call in calls:
        verdict = decide(child, mine, call, tools[call.tool], NOW)
        above = decide(parent, theirs, call, tools[call.tool], NOW)
        assert above.allowed or not verdict.allowed, (verdict, above)
        if verdict.allowed:
            mine, theirs = verdict.after, above.after


@given(INTENT, INTENT, TOOLS, st.lists(CALL, max_size=5))
def test_a_chain_allows_only_what_every_intent_of_it_allows(
    one: Intent, other: Intent, tools: dict[str, ApprovedTool], calls: list[ToolCall]
) -> None:
    states = [begun(one), begun(other)]
    for call in calls:
        alone = [
            decide(each, state, call, tools[call.tool], NOW) for each, state in zip((one, other), states, strict=True)
        ]
        found = decide_chain(list(zip((one, other), states, strict=True)), call, tools[call.tool], NOW)
        assert found[-1].allowed == all(each.allowed for each in alone)
        if found[-1].allowed:
            states = [each.after for each in found]


@given(INTENT)
def test_an_intent_is_within_itself_and_survives_its_record(intent: Intent) -> None:
    from remit.access.intent.document import read_intent

    assert excess(intent, intent) == ""
    again = read_intent(intent.as_json(), expires=intent.expires)
    assert again.digest == intent.digest and again == intent
