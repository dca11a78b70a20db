"""An intent is read strictly, and says in words what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from intent_stage import NOW
from remit.access.intent.document import make_intent, parse_document
from remit.kernel.errors import Rejected

GOOD: dict[str, Any] = {
    "task": "t",
    "agent": "a",
    "purpose": "p",
    "instruction": "i",
    "tools": {"s/x": {"arguments": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}},
}


def made(**changes: Any) -> Any:
    wire = parse_document(yaml.safe_dump({**GOOD, **changes}))
    return make_intent(wire, id="in_1", agent="id_1", on_behalf_of="person:ana", now=NOW)


def test_a_good_one_has_the_signed_persons_name_and_tools() -> None:
    intent = made()
    assert intent.on_behalf_of == "person:ana" and intent.tools["s/x"].arguments.required == ("n",)


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"task": ""},
        {"tools": {}},
        {"tools": {"x": {}}},
        {"tools": {"s/x": {"arguments": {"a": {"pattern": "(a)"}}}}},
        {"tools": {"s/x": {"arguments": {"a": {"additionalProperties": True}}}}},
        {"tools": {"s/x": {"arguments": {"a": {"origins": ["anywhere"]}}}}},
        {"tools": {"s/x": {"required": ["a"]}}},
        {"sequence": {"start": "a", "states": {"a": {"read": "b"}}}},
        {"budget": {"calls": 0}},
        {"seconds": 86_400},
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        made(**changes)


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x", "task: a\ntask: b", "- 1", "{", "x" * 70_000])
def test_what_is_no_plain_document_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_document(text)
    assert refused.value.code == "access.intent.document"
