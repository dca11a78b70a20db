"""How a session behind the MCP gateway ends, and what outlives what: quarantine, kill -9, expiry, sub-agents."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp: the official SDK is not installed")

from mcp_stage import AGENT, INTENT, Mailroom, mailroom

READ = {"name": "read_mail", "arguments": {"id": "4711"}}


@pytest.fixture(scope="module")
def room() -> Iterator[Mailroom]:
    with mailroom() as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(room: Mailroom) -> None:
    room.clear()


class Line:
    """An agent that speaks line by line, so that it can be stopped anywhere."""

    def __init__(self, room: Mailroom, intent: str) -> None:
        command, env = room.gateway(intent)
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=room.made.root
        )
        self.number = 0

    def send(self, raw: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(raw + b"\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        ready = select.select([self.process.stdout], [], [], 20)[0]
        line = self.process.stdout.readline() if ready else b""
        return json.loads(line) if line else None

    def call(self, method: str = "tools/call", params: Any = READ) -> Any:
        self.number += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}).encode())
        return self.hear()

    def close(self) -> int:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def line(room: Mailroom, intent: str) -> Iterator[Line]:
    made = Line(room, intent)
    try:
        yield made
    finally:
        made.close()


def clause(answer: Any) -> str:
    """Of a refused call; empty for an allowed one."""
    said = answer["result"].get("_meta", {}).get("remit/decision", {"clause": ""})
    return str(said["clause"])


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(each) for each in found.stdout.split()]


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_quarantine_of_the_agent_ends_gateway_and_server_at_once(room: Mailroom) -> None:
    intent = room.intend()
    with line(room, intent) as agent:
        assert clause(agent.call()) == ""
        (server,) = children(agent.process.pid)
        room.types("ana", "quarantine", AGENT, "--reason", "it misbehaves")
        try:
            assert agent.process.wait(60) == 1 and gone(server)
            assert "quarantined" in room.made.admin.get(f"/api/v1/intents/{intent}")["session"]["why"]
        finally:
            for person in ("ana", "ben"):
                room.made.cli("release", AGENT, "--reason", "x", code=None, REMIT_PERSON_KEY=room.keys[person])


def test_an_ended_intent_is_ended_for_ever(room: Mailroom) -> None:
    intent = room.intend()
    with line(room, intent) as agent:
        assert clause(agent.call()) == ""
        room.made.admin.delete(f"/api/v1/intents/{intent}")
        assert agent.process.wait(60) == 1
    with line(room, intent) as agent:
        assert agent.process.wait(60) == 1
        assert agent.process.stderr is not None and b"access.intent.not_approved" in agent.process.stderr.read()


def test_an_agent_that_leaves_takes_its_server_along(room: Mailroom) -> None:
    made = Line(room, room.intend())
    assert clause(made.call()) == ""
    (server,) = children(made.process.pid)
    assert made.close() == 0 and gone(server)


def test_a_killed_control_plane_refuses_nothing_by_accident_and_resumes(room: Mailroom) -> None:
    with line(room, room.intend(budget={"calls": 2, "bytes": 100_000, "seconds": 600})) as agent:
        assert clause(agent.call()) == ""
        room.made.stop(signal.SIGKILL)
        assert "error" in agent.call()  # no decision is no permit
        room.made.start()
        assert clause(agent.call()) == ""
        assert clause(agent.call()) == "budget"


def test_a_newer_gateway_fences_off_the_older_one(room: Mailroom) -> None:
    intent = room.intend()
    with line(room, intent) as first:
        assert clause(first.call()) == ""
        with line(room, intent) as second:
            assert clause(second.call()) == ""
            assert clause(first.call()) == "session"
            assert clause(second.call()) == ""


def test_an_expired_intent_ends_its_session(room: Mailroom) -> None:
    with line(room, room.intend(seconds=6)) as agent:
        assert agent.call("ping", {})["result"] == {}
        assert agent.process.wait(60) == 1


def test_an_intent_that_nobody_approved_is_not_served(room: Mailroom) -> None:
    with line(room, room.intend(approved=False)) as agent:
        assert agent.process.wait(60) == 1


def test_a_sub_agent_may_less_and_never_more(room: Mailroom) -> None:
    parent = room.intend(budget={"calls": 3, "bytes": 100_000, "seconds": 600})
    less = {"tools": {"mail/read_mail": INTENT["tools"]["mail/read_mail"]}, "seconds": 600, "parent": parent}
    few = {"calls": 3, "bytes": 100_000, "seconds": 600}
    with pytest.raises(AssertionError, match="excess"):
        room.intend(**{**less, "tools": {"mail/read_mail": {"arguments": {"id": {}}}}, "budget": few})
    child = room.intend(**less, budget=few)
    with line(room, parent) as above:
        assert clause(above.call()) == "" and clause(above.call()) == ""
    with line(room, child) as below:
        assert clause(below.call(params={"name": "search", "arguments": {}})) == "tool"
        assert clause(below.call()) == ""
        assert clause(below.call()) == "budget"  # the parent's


def test_broken_messages_are_answered_and_survived(room: Mailroom) -> None:
    with line(room, room.intend()) as agent:
        for raw, code in ((b"{", -32700), (b"[]", -32600), (b'{"jsonrpc":"2.0","id":[],"method":"x"}', -32600)):
            agent.send(raw)
            assert agent.hear()["error"]["code"] == code
        assert agent.call("sampling/createMessage", {})["error"]["code"] == -32601
        assert agent.call("resources/list", {})["result"] == {"resources": []}
        assert clause(agent.call()) == ""


def test_calls_may_be_pipelined(room: Mailroom) -> None:
    with line(room, room.intend()) as agent:
        for number in range(1, 5):
            agent.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": READ}).encode())
        assert {agent.hear()["id"] for _ in range(4)} == {1, 2, 3, 4}


def test_who_writes_into_the_database_approves_nothing_and_refills_no_budget(room: Mailroom) -> None:
    asked = room.intend(approved=False)
    used = room.intend(budget={"calls": 1, "bytes": 100_000, "seconds": 600})
    with line(room, used) as agent:
        assert clause(agent.call()) == ""
    room.made.stop()
    with sqlite3.connect(room.made.data / "remit.db") as database:
        forged = "UPDATE access_intent SET state = 'approved', approver = 'person:ben', approved = created WHERE id = ?"
        database.execute(forged, (asked,))
        database.execute("""UPDATE access_intent_session SET body = replace(body, '"calls":1', '"calls":0')""")
    database.close()
    room.made.start()
    for intent, code in ((asked, b"access.intent.not_approved"), (used, b"access.intent.session")):
        with line(room, intent) as agent:
            assert agent.process.wait(60) == 1
            assert agent.process.stderr is not None and code in agent.process.stderr.read()
