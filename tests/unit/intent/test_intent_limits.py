"""Time, risk, rows and amounts: what an intent's limits say of one call."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from intent_stage import NOW, begun, call, intent, rule, tool
from remit.access.intent.decide import decide
from remit.access.intent.model import Budget, Constraint, Intent
from remit.surface.gateways.mcp.results import rows_of


def said(one: Intent, *, arguments: Any = None, seconds: int = 0, rows: int = 0, risk: int = 0) -> str:
    asked = call(arguments=arguments, rows=rows, risk=risk)
    return decide(one, begun(one), asked, tool(), NOW + timedelta(seconds=seconds)).clause


def paying(amount: int | None) -> Intent:
    rules = {"s/read": replace(rule(euros=Constraint()), amount="euros")}
    return intent(tools=rules, budget=Budget(calls=20, bytes=900, seconds=600, amount=amount))


def test_the_wall_clock_runs_from_the_first_call() -> None:
    assert (said(intent(), seconds=599), said(intent(), seconds=600)) == ("", "budget")


def test_an_expired_intent_allows_nothing() -> None:
    assert said(intent(expires=NOW)) == "expiry"


def test_an_agent_of_more_risk_than_is_borne_goes_no_further() -> None:
    assert (said(intent(risk=40), risk=40), said(intent(risk=40), risk=41)) == ("", "risk")


def test_rows_that_were_read_are_charged_with_the_next_call() -> None:
    one = intent(budget=Budget(calls=9, bytes=900, seconds=600, rows=3))
    assert (said(one, rows=3), said(one, rows=4)) == ("", "budget")


@pytest.mark.parametrize("euros", [-1, "5", True, None, 10**13, 0.0000001, [1], float("inf")])
def test_what_is_no_amount_does_not_count_as_nothing(euros: Any) -> None:
    assert said(paying(None), arguments={"euros": euros}) == "argument"
    assert said(paying(None)) == "argument"


def test_amounts_add_up_exactly() -> None:
    one, state = paying(1), None
    for _ in range(10):
        verdict = decide(one, state or begun(one), call(arguments={"euros": 0.1}), tool(), NOW)
        assert verdict.allowed
        state = verdict.after
    assert state is not None and state.amount == 1_000_000
    assert decide(one, state, call(arguments={"euros": 0.1}), tool(), NOW).clause == "budget"


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        ({"content": []}, 1),
        ({"structuredContent": {"result": [1, 2, 3]}}, 3),
        ({"structuredContent": {"pages": [{"rows": [1, 2]}, {"rows": [3, 4]}]}}, 4),
        ({"content": [{"type": "text", "text": "[1, 2, 3, 4]"}]}, 4),
        ({"content": [{"type": "text", "text": "a\n\nb\nc"}]}, 3),
        ({"content": [{"type": "text", "text": "[" * 90_000}]}, 1),
        ({"content": [{"type": "text", "text": "x"}] * 7, "structuredContent": {"one": 1}}, 7),
    ],
)
def test_rows_are_counted_as_the_most_that_they_can_be(found: dict[str, Any], rows: int) -> None:
    assert rows_of(found) == rows
