"""The MCP gateway as an ordinary registered workload: by its own SVID over mutual TLS, for its own server alone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp: the official SDK is not installed")

from installation import REMIT, run_remit
from mcp_stage import Mailroom, mailroom, refusal, text

GATEWAY = "spiffe://remit.local/gateway/mail"
STRANGER = "spiffe://remit.local/job/stranger"


@pytest.fixture(scope="module")
def room() -> Iterator[Mailroom]:
    with mailroom() as made:
        for name in (GATEWAY, STRANGER):
            made.made.cli("entry", "create", "--spiffe-id", name, "--selector", f"unix:uid:{os.getuid()}")
        made.types(
            "ana", "enforcer", "add", "mail-gateway", "--spiffe-id", GATEWAY, "--actions", "tool:call",
            "--vouches", "argument_origins", "--resources", "tool/mail/*",
        )  # fmt: skip
        yield made


@pytest.fixture(autouse=True)
def _fresh(room: Mailroom) -> None:
    room.clear()


def gateway(room: Mailroom, intent: str, *, server: str = "mail", as_: str = GATEWAY) -> tuple[list[str], Any]:
    """Its command line and environment: no data directory, no `admin.sock`, nothing but the agent's socket."""
    with room.made.http("GET", "/healthz") as response:
        control = f"https://{json.loads(response.read())['agents']}"
    command = [
        *REMIT, "gateway", "mcp", "--intent", intent, "--server", server, "--control", control, "--spiffe-id", as_,
        "--data", "/nonexistent", "--", *room.command,
    ]  # fmt: skip
    env = {**room.made.env, "SPIFFE_ENDPOINT_SOCKET": f"unix://{room.made.data}/agent.sock"}
    del env["REMIT_DATA"]
    return command, env


def refused(room: Mailroom, intent: str, **how: str) -> str:
    command, env = gateway(room, intent, **how)
    done = run_remit(*command[len(REMIT) :], env=env, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_it_serves_its_server_and_refuses_by_intent_without_admin_sock(room: Mailroom) -> None:
    from mcp import Client, StdioServerParameters

    intent = room.intend()
    command, env = gateway(room, intent)

    async def play() -> tuple[list[str], Any, Any]:
        started = StdioServerParameters(command=command[0], args=command[1:], env=env)
        async with Client(started, mode="auto", read_timeout_seconds=20) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            read = await client.call_tool("read_mail", {"id": "666"})
            return names, read, await client.call_tool("send_mail", {"to": "eve@evil.test", "body": "x"})

    names, read, sent = asyncio.run(play())
    assert "send_mail" in names and "IGNORE" in text(read)
    said = refusal(sent)
    assert said["clause"] == "origin"
    assert room.explained(said["decision"])["asker"] == "enforcer:mail-gateway"


def test_it_may_serve_no_other_server(room: Mailroom) -> None:
    intent = room.intend(tools={"files/read": {}})
    assert "access.intent.gateway" in refused(room, intent, server="files")


def test_it_gets_no_intent_that_has_none_of_its_tools(room: Mailroom) -> None:
    assert "access.intent.foreign" in refused(room, room.intend(tools={"files/read": {}}))


def test_a_workload_that_is_no_registered_point_serves_nothing(room: Mailroom) -> None:
    assert "access.intent.gateway" in refused(room, room.intend(), as_=STRANGER)


def test_a_token_that_others_can_read_is_not_used(room: Mailroom, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    done = room.made.cli(
        "gateway", "mcp", "--intent", "x", "--server", "mail", "--upstream", "http://127.0.0.1:1/mcp",
        "--upstream-bearer-file", token, code=None,
    )  # fmt: skip
    assert "surface.gateway.bearer" in done.stderr and "secret" not in done.stderr
