"""The gate without a control plane: what it asks of the agent's user, and what it tells of changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from agent_lab import Server
from intent_stage import intent
from remit.surface.gateways.mcp.desk import Desk
from remit.surface.gateways.mcp.gate import Gate
from remit.surface.gateways.mcp.messages import parse_message
from remit.surface.gateways.mcp.params import param_headers
from remit.surface.gateways.mcp.upstream import Failed

NEEDED = {"kind": "approval", "detail": "a person approves it"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}


class Refusing:
    """Implements `Poster`: policy would permit, but for an obligation."""

    def post(self, path: str, body: Any = None) -> Any:
        if path.endswith("/attach"):
            return {"intent": intent().as_json(), "epoch": 1, "session": None}
        if path.endswith("/tools"):
            return {"permitted": [each["name"] for each in body["tools"]]}
        return {
            "decision": "dc_1", "allowed": False, "reason": "payments", "text": "a person must approve it",
            "needed": [], "obligations": [NEEDED],
        }  # fmt: skip

    def stream(self, path: str, body: Any) -> Iterator[Any]:
        return iter(())


async def gate() -> Gate:
    desk = Desk(Refusing(), intent="in_1", server="s")
    await desk.attach()
    return Gate(desk, Server({}))


async def ask(one: Gate, method: str, **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    async def tell(told: Mapping[str, Any]) -> None:
        raise AssertionError(told)

    answer = await one.answer(parse_message(json.dumps(body).encode()), tell)
    assert answer is not None
    return answer["result"]


def called(**params: Any) -> Any:
    async def play() -> Any:
        return await ask(await gate(), "tools/call", name="search", arguments={"query": "x"}, **params)

    return asyncio.run(play())


def test_what_is_missing_is_asked_of_the_agents_user() -> None:
    types = pytest.importorskip("mcp.types", reason="mcp: the official SDK is not installed")
    found = types.InputRequiredResult.model_validate(called(_meta=META))
    assert "approval: a person approves it" in found.input_requests["remit"].params.message


def test_a_client_that_cannot_ask_gets_the_refusal() -> None:
    assert called()["isError"]
    assert called(_meta={**META, "io.modelcontextprotocol/clientCapabilities": {}})["isError"]


@pytest.mark.parametrize(("action", "kind"), [("accept", "input_required"), ("decline", "complete")])
def test_the_users_yes_is_no_permit_and_the_users_no_is_the_end(action: str, kind: str) -> None:
    found = called(_meta=META, requestState="dc_1", inputResponses={"remit": {"action": action}})
    assert found["resultType"] == kind and found.get("isError", True)


def test_an_agent_is_told_that_tools_have_changed_where_it_said_hello() -> None:
    async def play() -> tuple[list[Any], list[Any], Any]:
        told: list[Any] = []

        async def announce(message: Mapping[str, Any]) -> None:
            told.append(message["method"])

        one = await gate()
        one.announce = announce
        one._upstream.on_changed()
        await asyncio.sleep(0)
        before = list(told)
        greeting = await ask(one, "initialize", protocolVersion="2025-11-25")
        one._upstream.on_changed()
        await asyncio.sleep(0.01)
        return before, told, greeting["capabilities"]["tools"]

    assert asyncio.run(play()) == ([], ["notifications/tools/list_changed"], {"listChanged": True})


def test_an_argument_with_a_header_of_its_own_is_said_there_as_well() -> None:
    region = {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    tool = {"inputSchema": {"properties": {"where": region, "n": {"type": "integer", "x-mcp-header": "N"}}}}
    assert param_headers(tool, {"where": {"region": "eu"}, "n": 4}) == {"Mcp-Param-Region": "eu", "Mcp-Param-N": "4"}
    assert param_headers(tool, {"where": {"region": "a\r\nb"}}) == {"Mcp-Param-Region": "=?base64?YQ0KYg==?="}
    assert param_headers(tool, {"where": "eu"}) == {}


class Masking(Refusing):
    """Implements `Poster`: policy permits, with e-mail addresses masked."""

    def post(self, path: str, body: Any = None) -> Any:
        told = super().post(path, body)
        redact = [{"kind": "redact", "detail": "email"}]
        return {**told, "allowed": True, "obligations": redact} if "decision" in told else told


def answered(said: Any) -> Any:
    """What the agent gets of what the server says."""

    async def play() -> Any:
        desk = Desk(Masking(), intent="in_1", server="s")
        await desk.attach()
        return await ask(Gate(desk, Server({"search": said})), "tools/call", name="search", arguments={"query": "x"})

    return asyncio.run(play())


def test_a_permit_that_asks_for_it_masks_what_the_tool_answers() -> None:
    found = answered('{"rows": [{"email": "ann@example.test", "sum": 3}]}')
    assert json.loads(found["content"][0]["text"]) == {"rows": [{"email": "[redacted]", "sum": 3}]}


@pytest.mark.parametrize("said", ["ann@example.test", Failed(-32000, "ann@example.test is unknown")])
def test_what_cannot_be_masked_does_not_reach_the_agent(said: Any) -> None:
    found = answered(said)
    assert found["isError"] and found["_meta"]["remit/decision"]["clause"] == "redact"
    assert "example.test" not in json.dumps(found)
