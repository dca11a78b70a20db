"""What an MCP server answers, masked as a permit asks: all of it, or none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remit.surface.gateways.mcp.results import Unmasked, fields_to_mask, redacted

CUSTOMER = {"name": "Ann", "email": "ann@example.test", "orders": [{"email": "b@example.test", "sum": 3}]}


def text(value: Any) -> dict[str, Any]:
    return {"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}


def test_structured_content_and_its_text_are_masked_alike() -> None:
    found = redacted({"structuredContent": CUSTOMER, "content": [text(CUSTOMER)]}, ("email",))
    assert json.loads(found["content"][0]["text"]) == found["structuredContent"]
    assert "example.test" not in json.dumps(found)
    assert found["structuredContent"]["orders"][0]["sum"] == 3


def test_what_is_no_field_of_a_result_does_not_go_on() -> None:
    found = redacted(
        {"content": [{**text(CUSTOMER), "_meta": CUSTOMER}], "_meta": CUSTOMER, "other": CUSTOMER}, ("email",)
    )
    assert set(found) == {"content"}
    assert "example.test" not in json.dumps(found)


@pytest.mark.parametrize(
    "found",
    [
        {"content": [text("ann@example.test")]},
        {"content": [text(CUSTOMER), text("{ann@example.test")]},
        {"content": [text("[" * 5000)]},
        {"content": [{"type": "image", "data": "QQ==", "mimeType": "image/png"}]},
        {"content": [{"type": "resource", "resource": text(CUSTOMER), "text": "{}"}]},
        {"contents": [{"uri": "file:///a", "blob": "QQ=="}]},
        {"messages": [{"role": "user", "content": text(CUSTOMER)}]},
        {"content": ["ann@example.test"]},
    ],
)
def test_what_cannot_be_masked_is_refused_whole(found: dict[str, Any]) -> None:
    with pytest.raises(Unmasked):
        redacted(found, ("email",))


def test_a_resource_that_is_json_is_masked() -> None:
    found = redacted({"contents": [{"uri": "file:///a", "text": json.dumps(CUSTOMER)}]}, ("orders",))
    assert json.loads(found["contents"][0]["text"])["orders"] == "[redacted]"


def test_only_a_permit_that_asks_for_it_is_masked() -> None:
    assert fields_to_mask({"obligations": []}) == ()
    assert fields_to_mask({"obligations": [{"kind": "redact", "detail": "email a.b"}]}) == ("email", "a.b")
