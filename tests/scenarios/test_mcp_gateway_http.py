"""The MCP gateway over streamable HTTP at both ends: proof of the agent, agreement of headers, sealed upstream."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("mcp", reason="mcp: the official SDK is not installed")

from installation import REMIT, ROOT
from mcp_stage import Mailroom, mailroom, text

SECRET = "upstream-token-of-the-gateway-alone"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
TOOLS = {"mail/read_mail": {"arguments": {"id": {"pattern": "[0-9]+"}}, "required": ["id"]}}


@contextmanager
def printed(command: list[str], env: Mapping[str, str], log: Path) -> Iterator[str]:
    """A process that says one line when it serves; ended by its pid."""
    with log.open("ab") as errors:
        process = subprocess.Popen(command, env=dict(env), stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode().strip()
        assert line, log.read_text()
        yield line
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


@dataclass(slots=True)
class Gateway:
    """A gateway that listens, and the secret that its agents show."""

    room: Mailroom
    url: str
    secret: str

    def post(self, body: Any, *, headers: Mapping[str, str | None] | None = None) -> tuple[int, Any]:
        """One POST as a modern client makes it; `None` leaves a header out."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        usual: dict[str, str | None] = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Authorization": f"Bearer {self.secret}",
            "MCP-Protocol-Version": "2026-07-28",
        }
        if isinstance(body, dict):
            usual["Mcp-Method"] = body.get("method")
            usual["Mcp-Name"] = body.get("params", {}).get("name")
        given = {name: value for name, value in {**usual, **(headers or {})}.items() if value is not None}
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        try:
            connection.request("POST", place.path, body=raw, headers=given)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(said) if said else None


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with mailroom() as room:
        upstream = [sys.executable, str(ROOT / "tests" / "mcp_http_server.py")]
        env = {**os.environ, "MAIL_TOKEN": SECRET}
        with printed(upstream, env, room.made.root / "up.log") as url:
            room.approve_tools_at(url, SECRET, read_mail=("read", "internal"))
            intent = room.intend(tools=TOOLS)
            secret = room.made.root / "agent-token"
            command = [
                *REMIT, "gateway", "mcp", "--intent", intent, "--server", "mail", "--upstream", url,
                "--upstream-bearer-env", "MAIL_TOKEN", "--listen", "127.0.0.1:0", "--token-file", str(secret),
            ]  # fmt: skip
            with printed(command, {**room.made.env, "MAIL_TOKEN": SECRET}, room.made.root / "gw.log") as ready:
                yield Gateway(room, ready.removeprefix("ready "), secret.read_text().strip())


def call(**params: Any) -> dict[str, Any]:
    body = {"name": "read_mail", "arguments": {"id": "7"}, "_meta": META, **params}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body}


def test_a_call_goes_through_with_the_gateways_own_credential(gateway: Gateway) -> None:
    status, answer = gateway.post(call())
    assert status == 200 and answer["result"]["content"][0]["text"] == "mail 7"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_official_client_works_in_both_revisions(gateway: Gateway, mode: str) -> None:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def play() -> tuple[str, list[float]]:
        seen: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            seen.append(done)

        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {gateway.secret}"}) as web:
            transport = streamable_http_client(gateway.url, http_client=web)
            async with Client(transport, mode=mode) as client:
                found = await client.call_tool("read_mail", {"id": "9"}, progress_callback=progress)
                return text(found), seen

    assert asyncio.run(play()) == ("mail 9", [1])


def test_without_proof_nothing_is_answered(gateway: Gateway) -> None:
    assert gateway.post(call(), headers={"Authorization": None})[0] == 401
    assert gateway.post(call(), headers={"Authorization": "Bearer wrong"})[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Name": "send_mail"},
        {"Mcp-Method": "tools/list"},
        {"Mcp-Name": None},
        {"MCP-Protocol-Version": "2025-11-25"},
    ],
)
def test_headers_that_say_something_else_than_the_body_are_refused(
    gateway: Gateway, headers: dict[str, str | None]
) -> None:
    status, answer = gateway.post(call(), headers=headers)
    assert (status, answer["error"]["code"]) == (400, -32020)


def test_a_batch_a_huge_message_and_a_name_that_stands_twice_are_refused(gateway: Gateway) -> None:
    assert gateway.post(json.dumps([call()]).encode())[1]["error"]["code"] == -32600
    assert gateway.post(b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}')[1]["error"]["code"] == -32700
    huge = call(arguments={"id": "1" * (1 << 20)})
    assert gateway.post(huge)[0] == 400


def test_a_page_of_a_browser_is_not_an_agent(gateway: Gateway) -> None:
    assert gateway.post(call(), headers={"Origin": "https://evil.test"})[0] == 403
    assert gateway.post(call(), headers={"Host": "evil.test"})[0] == 403


def test_what_is_not_an_argument_does_not_go_on(gateway: Gateway) -> None:
    status, answer = gateway.post(call(extra="the payroll"))
    assert (status, answer["error"]["code"]) == (400, -32602)


def test_an_unknown_revision_is_named_with_those_that_are_served(gateway: Gateway) -> None:
    meta = {**META, "io.modelcontextprotocol/protocolVersion": "2031-01-01"}
    status, answer = gateway.post(call(_meta=meta), headers={"MCP-Protocol-Version": "2031-01-01"})
    assert (status, answer["error"]["code"]) == (400, -32022)
    assert "2026-07-28" in answer["error"]["data"]["supported"]


def test_an_agent_proves_itself_by_its_svid_and_another_may_not_use_its_session(gateway: Gateway) -> None:
    room = gateway.room
    mine, thief = "spiffe://remit.local/agent/mine", "spiffe://remit.local/agent/thief"
    for name in (mine, thief):
        room.made.cli("entry", "create", "--spiffe-id", name, "--selector", f"unix:uid:{os.getuid()}")

    def shown(name: str) -> str:
        audience = "spiffe://remit.local/gateway/mcp"
        socket = f"unix://{room.made.data}/agent.sock"
        wanted = ("svid", "fetch", "--audience", audience, "--spiffe-id", name, "--show-token")
        return room.made.cli(*wanted, SPIFFE_ENDPOINT_SOCKET=socket).stdout.strip()

    intent = room.intend(agent=mine, task="mine", tools={"mail/read_payroll": {}, "mail/search": {}})
    command = [
        *REMIT, "gateway", "mcp", "--intent", intent, "--server", "mail", "--listen", "127.0.0.1:0", "--", *room.command
    ]  # fmt: skip
    with printed(command, room.made.env, room.made.root / "jwt.log") as ready:
        owner = Gateway(room, ready.removeprefix("ready "), shown(mine))
        other = Gateway(room, owner.url, shown(thief))
        listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
        assert other.post(listing)[0] == 401
        status, answer = owner.post(listing)
        assert status == 200 and {tool["name"] for tool in answer["result"]["tools"]} == {"search", "read_payroll"}
        payroll = call(name="read_payroll", arguments={})
        assert "error" in other.post(payroll)[1] and "error" in other.post(listing)[1]
        assert owner.post(payroll)[1]["result"]["isError"] is False
    seen = room.made.json("decisions")
    assert any(each["request"]["proven"].get("attestation_method") == "jwt-svid" for each in seen)
