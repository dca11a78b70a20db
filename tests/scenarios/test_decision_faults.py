"""The decision listener under bad input, faults and floods: denied or told to come again, never allowed by accident."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replace_facts

from authzen_scenario import EVALUATION, EVALUATIONS, READS, SUBJECTS, World, question, what, who
from decide_stage import GATEWAY, POLICY, Reply, Stage, decide_stage, identity, record
from remit.access.policy.compile import compile_policies
from remit.access.snapshot import Delta
from remit.kernel.clock import SystemClock
from remit.ledger.testing import CrashingDisk
from remit.surface.decide.hall import Bounds
from remit.surface.decide.http import MAX_BODY_BYTES, MAX_HEAD_BYTES

READ = READS(World())
RAW = json.dumps(READ).encode()


def run(use: Callable[[Stage], Awaitable[Any]], **options: Any) -> Any:
    async def within() -> Any:
        async with decide_stage(**options) as stage:
            found = await asyncio.wait_for(use(stage), 60)
            assert (await stage.post(EVALUATION, READ)).status == 200, "it recovered by itself"
            return found

    return asyncio.run(within())


def reply_to(body: Any, path: str = EVALUATION, **headers: str) -> Reply:
    found: Reply = run(lambda stage: stage.post(path, body, **headers))
    return found


# Bad input.


@pytest.mark.parametrize("path", ["subject", "resource"])
def test_an_unknown_type_is_denied(path: str) -> None:
    body = {**READ, path: {"type": "toaster", "id": "x"}, "action": {"name": "toast"}}
    assert (reply_to(body).status, reply_to(body).decision) == (200, False)


@pytest.mark.parametrize(
    "deep",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"subject":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"[" * 400_000 + b"]" * 400_000,
    ],
)
def test_deep_json_is_400(deep: bytes) -> None:
    assert reply_to(deep).status == 400


def test_properties_that_are_too_deep_are_400() -> None:
    nested: Any = {}
    for _ in range(30):
        nested = {"a": nested}
    assert reply_to({**READ, "context": nested}).status == 400


@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS, SUBJECTS])
def test_a_megabyte_of_context_is_refused(path: str) -> None:
    reply = reply_to({**READ, "context": {"purpose": "x" * 1_000_000}}, path)
    assert (reply.status, reply.body["code"]) == (413, "access.authzen.too-large")


def test_a_megabyte_of_small_claims_is_refused() -> None:
    assert reply_to({**READ, "context": {f"claim-{n}": "x" * 60 for n in range(9000)}}).status == 413


def test_a_body_that_is_announced_too_large_is_refused_unread() -> None:
    async def use(stage: Stage) -> Reply:
        line = await stage.line()
        line.writer.write(
            b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
        )
        return await asyncio.wait_for(line.reply(), 60)

    assert run(use).status == 413


@pytest.mark.parametrize(
    "twice",
    [
        RAW.replace(b'"action"', b'"subject": {"type": "identity", "id": "bob"}, "action"'),
        RAW.replace(b'"action"', b'"subject" : {"type": "identity", "id": "bob"}, "action"'),
        RAW.replace(b'"action"', b'"subject"\n:{"type":"identity","id":"bob"},"action"'),
        RAW.replace(b'"action"', b'"\\u0073ubject":{"type":"identity","id":"bob"},"action"'),
        RAW.replace(b'"id": "alice"', b'"id": "bob", "id": "alice"'),
        RAW.replace(b'"resource"', b'"context": {"a\\\\":1,"purpose":"x","purpose":"y"}, "resource"'),
        RAW.replace(b'"resource"', b'"context": {"a": [{"b": 1, "b": 2}]}, "resource"'),
        RAW.replace(b'"resource"', b'"later": {"b": 1, "b": 2}, "resource"'),
    ],
)
def test_a_key_that_occurs_twice_is_400(twice: bytes) -> None:
    reply = reply_to(twice)
    assert (reply.status, "twice" in reply.body["title"]) == (400, True)


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(READ, indent=2).encode(),
        json.dumps(READ, separators=(" ,  ", "  :\t")).encode(),
        json.dumps({**READ, "context": {"a": '": {"x": "', "b\\": '": ', "c": "\\"}}).encode(),
        json.dumps({**READ, "later": [{"a": {"b": 1}}], "context": {"é": "ü", "n": None}}).encode(),
    ],
)
def test_json_is_read_however_it_is_written(written: bytes) -> None:
    assert reply_to(written).decision is True


@pytest.mark.parametrize(
    "raw", [b"\xff", RAW[:-1], RAW + b"x", RAW.replace(b"alice", b"\xff"), RAW.replace(b"alice", b"\\ud800")]
)
def test_what_is_no_json_is_400(raw: bytes) -> None:
    assert reply_to(raw).status == 400


# HTTP.


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60,
        b"nonsense\r\n\r\n",
        b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Length: -3\r\n\r\n",
        b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Type: application/json\r\nContent-Type: text/plain\r\n\r\n",
        b"CONNECT pdp:443 HTTP/1.1\r\nHost: pdp:443\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_hung_up_on(raw: bytes) -> None:
    async def use(stage: Stage) -> bytes:
        line = await stage.line()
        line.writer.write(raw)
        return await asyncio.wait_for(line.reader.read(), 60)

    assert run(use).startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))


def test_a_head_without_end_is_cut_off() -> None:
    async def use(stage: Stage) -> bytes:
        line = await stage.line()
        line.writer.write(b"POST / HTTP/1.1\r\nX: " + b"a" * (2 * MAX_HEAD_BYTES))
        return await asyncio.wait_for(line.reader.read(), 60)

    assert run(use).startswith(b"HTTP/1.1 431")


def test_a_body_may_come_in_the_smallest_pieces() -> None:
    async def use(stage: Stage) -> Reply:
        line = await stage.line()
        line.writer.write(
            b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        line.writer.write(b"".join(b"1\r\n%c\r\n" % byte for byte in RAW) + b"0\r\nAuthorization: Bearer x\r\n\r\n")
        return await asyncio.wait_for(line.reply(), 60)

    assert run(use).decision is True


def test_a_client_that_waits_for_a_word_gets_it() -> None:
    async def use(stage: Stage) -> tuple[bytes, Reply]:
        line = await stage.line()
        line.writer.write(
            b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(RAW)
        )
        word = await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), 60)
        line.writer.write(RAW)
        return word, await asyncio.wait_for(line.reply(), 60)

    word, reply = run(use)
    assert (word, reply.decision) == (b"HTTP/1.1 100 Continue\r\n\r\n", True)


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def use(stage: Stage) -> list[str]:
        line = await stage.line()
        for number in range(60):
            path = (EVALUATION, EVALUATIONS, SUBJECTS, "/nowhere")[number % 4]
            line.send(path, READ, X_Request_ID=str(number))
        return [(await asyncio.wait_for(line.reply(), 60)).headers["x-request-id"] for _ in range(60)]

    assert run(use) == [str(number) for number in range(60)]


@pytest.mark.parametrize("how", ["Connection: close", "HTTP/1.0"])
def test_a_connection_ends_when_its_peer_says_so(how: str) -> None:
    version = "HTTP/1.0" if how == "HTTP/1.0" else "HTTP/1.1"
    header = "" if how == "HTTP/1.0" else "Connection: close\r\n"

    async def use(stage: Stage) -> bytes:
        line = await stage.line()
        head = f"POST {EVALUATION} {version}\r\n{header}Content-Type: application/json\r\nContent-Length: {len(RAW)}\r\n\r\n"
        line.writer.write(head.encode() + RAW)
        return await asyncio.wait_for(line.reader.read(), 60)

    assert b'"decision":true' in run(use)


def test_a_peer_that_sends_no_more_still_gets_its_answer() -> None:
    async def use(stage: Stage) -> Reply:
        line = await stage.line()
        line.send(EVALUATION, READ)
        line.writer.write_eof()
        return await asyncio.wait_for(line.reply(), 60)

    assert run(use).decision is True


# Policies and snapshots.


def test_ten_thousand_policies_at_once_decide() -> None:
    many = "\n".join(
        f'@id("p{n}") permit(principal in Remit::Identity::"group-{n}", action, resource);' for n in range(10_000)
    )

    async def use(stage: Stage) -> tuple[bool, bool]:
        first, second = [
            await stage.post(EVALUATION, question(who(name), "write", what())(World())) for name in ("alice", "bob")
        ]
        return first.decision, second.decision

    assert run(use, policy=POLICY + many) == (True, False)


def test_a_policy_that_errs_permits_nothing_and_breaks_nothing() -> None:
    policy = 'permit(principal, action == Remit::Action::"read", resource) when { context.step_up_at + 1 > 9223372036854775807 };'
    reply: Reply = run(lambda stage: stage.post(EVALUATION, READ), policy=policy)
    assert (reply.status, reply.decision) == (200, False)


def test_a_snapshot_with_a_gap_denies() -> None:
    async def use(stage: Stage) -> Any:
        assert (await stage.post(EVALUATION, READ)).decision
        stage.cell.apply(Delta(epoch=1, sequence=7), at=0.0)
        return (await stage.post(EVALUATION, READ)).body

    found = run(use)
    assert (found["decision"], found["context"]["reason"]["policies"][0]["id"]) == (False, "remit:stale")


def test_a_snapshot_that_stops_denies_the_strict_tiers_within_their_second() -> None:
    async def use(stage: Stage) -> list[bool]:
        before = (await stage.post(EVALUATION, READ)).decision
        for _ in range(60):
            if not (await stage.post(EVALUATION, READ)).decision:
                return [before, False]
            await asyncio.sleep(0.05)
        return [before, True]

    assert run(use, identities=[identity("alice", tier=0)], beats=False) == [True, False]


def test_a_snapshot_that_stops_denies_by_tier_and_recovers_by_itself() -> None:
    async def use(stage: Stage) -> list[list[bool]]:
        async def asked() -> list[bool]:
            names = ("alice", "bob")
            return [(await stage.post(EVALUATION, question(who(n), "read", what())(World()))).decision for n in names]

        found = [await asked()]
        end = asyncio.get_running_loop().time() + 10
        while found[-1][0] and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.1)
            found.append(await asked())
        stage.cell.beat(SystemClock().monotonic())
        return [found[0], found[-1], await asked()]

    people = [identity("alice", tier=0), identity("bob", tier=3)]
    assert run(use, identities=people, beats=False) == [[True, True], [False, True], [True, True]]


def test_groups_and_resources_that_hold_each_other_are_walked_once() -> None:
    ring = [replace_facts(identity(name), groups=(f"id_{above}",)) for name, above in zip("abc", "bca", strict=True)]
    inner = [
        replace_facts(record(f"box-{name}"), parents=(f"api/box-{above}",))
        for name, above in zip("abc", "bca", strict=True)
    ]
    policy = (
        POLICY
        + """
    permit(principal in Remit::Identity::"c", action == Remit::Action::"open", resource in Remit::Resource::"api/box-c");
    """
    )

    async def use(stage: Stage) -> list[bool]:
        asked = [(name, box) for name in ("a", "c", "alice") for box in ("box-a", "record-1")]
        return [
            (await stage.post(EVALUATION, question(who(name), "open", what(box))(World()))).decision
            for name, box in asked
        ]

    found = run(
        use, policy=policy, identities=[*ring, identity("alice"), identity("bob")],
        resources=[*inner, record("record-1")],
    )  # fmt: skip
    assert found == [True, False, True, False, False, False]


def test_a_forbid_that_errs_denies_what_a_permit_allows() -> None:
    policy = POLICY + '@id("errs") forbid(principal, action, resource) when { context.step_up_at > 0 };'

    async def use(stage: Stage) -> Any:
        stage.cell.apply(Delta(epoch=1, sequence=2, policies=compile_policies(policy)), at=SystemClock().monotonic())
        found = (await stage.post(EVALUATION, READ)).body
        stage.cell.apply(Delta(epoch=1, sequence=3, policies=compile_policies(POLICY)), at=SystemClock().monotonic())
        return found

    found = run(use)
    assert (found["decision"], found["context"]["errors"][0][:6]) == (False, "errs: ")


# The disk.


def test_with_a_full_disk_nothing_is_allowed_until_there_is_room() -> None:
    disk = CrashingDisk()

    async def use(stage: Stage) -> list[tuple[int, bytes]]:
        disk.full = True
        replies = await asyncio.gather(*(stage.post(EVALUATION, READ) for _ in range(30)))
        batch = await stage.post(EVALUATIONS, {**READ, "evaluations": [{}, {}]})
        disk.full = False
        assert [each["decision"] for each in batch.body["evaluations"]] == [False, False]
        assert stage.records() == []
        return [(reply.status, reply.raw) for reply in replies]

    found = run(use, disk=disk)
    assert {status for status, _ in found} == {503}
    assert not any(b'"decision":true' in raw for _, raw in found)


def test_a_refusal_for_the_moment_says_when_to_come_again() -> None:
    disk = CrashingDisk()

    async def use(stage: Stage) -> Reply:
        disk.full = True
        reply = await stage.post(EVALUATION, READ)
        disk.full = False
        return reply

    reply = run(use, disk=disk)
    assert (reply.headers["retry-after"], reply.body["code"]) == ("1", "ledger.disk.failed")


# Floods, and peers that keep us waiting.


def test_a_flood_is_answered_or_told_to_come_again_and_then_it_is_over() -> None:
    async def flood(stage: Stage) -> list[int]:
        line = await stage.line()
        for number in range(400):
            line.send(EVALUATION, {**READ, "context": {"ticket": str(number)}})
        return [(await line.reply()).status for _ in range(400)]

    async def use(stage: Stage) -> set[int]:
        found = await asyncio.gather(*(flood(stage) for _ in range(12)))
        assert len(stage.hall._turns) == stage.desk.waiting == 0
        return {status for statuses in found for status in statuses}

    assert run(use) <= {200, 503}


def test_who_asks_little_is_served_while_another_floods() -> None:
    async def use(stage: Stage) -> int:
        flooding = await stage.line()
        for number in range(6000):
            flooding.send(EVALUATION, {**READ, "context": {"ticket": str(number)}})
        statuses = [(await stage.post(EVALUATION, READ)).status for _ in range(10)]
        flooding.writer.transport.abort()
        return sum(status == 200 for status in statuses)

    assert run(use) == 10


def test_a_peer_that_does_not_read_is_hung_up_on_and_holds_nobody_up() -> None:
    async def use(stage: Stage) -> list[bool]:
        seen = [False, False]
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(stage.path)
            slow.setblocking(False)
            body = json.dumps({**READ, "evaluations": [{}] * 256}).encode()
            head = (
                f"POST {EVALUATIONS} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            await asyncio.get_running_loop().sock_sendall(slow, 8 * (head.encode() + body))
            while not all(seen):
                assert (await stage.post(EVALUATION, READ)).status == 200
                unread = any(connection.unread for connection in stage.hall._connections)
                seen = [seen[0] or unread, seen[0] and not unread]
                await asyncio.sleep(0.02)
        return seen

    assert run(use, bounds=Bounds(unread_ticks=1)) == [True, True]


def test_a_request_that_never_comes_to_its_end_is_cut_off() -> None:
    async def use(stage: Stage) -> bytes:
        line = await stage.line()
        line.writer.write(b"POST /access/v1/evaluation HTTP/1.1\r\nContent-Le")
        return await asyncio.wait_for(line.reader.read(), 60)

    async def tolerant(stage: Stage) -> bytes:
        try:
            return await use(stage)
        except ConnectionError:
            return b""

    assert run(tolerant, bounds=Bounds(request_ticks=1)) == b""


def test_when_there_are_too_many_who_owes_longest_makes_room() -> None:
    async def use(stage: Stage) -> tuple[int, bytes]:
        idle = [await stage.line() for _ in range(8)]
        reply = await stage.post(EVALUATION, READ)
        try:
            rest = await asyncio.wait_for(idle[0].reader.read(), 60)
        except ConnectionError:
            rest = b""
        return reply.status, rest

    assert run(use, bounds=Bounds(connections=8)) == (200, b"")


def test_one_party_has_a_share_of_the_connections() -> None:
    async def use(stage: Stage) -> bool:
        stage.door.host = lambda connection: "same"  # type: ignore[method-assign]
        first = [await stage.line() for _ in range(2)]
        third = await stage.line()
        try:
            refused = await asyncio.wait_for(third.reader.read(), 60) == b""
        except ConnectionError:
            refused = True
        for line in first:
            line.writer.close()
        await asyncio.sleep(0.1)
        return refused

    assert run(use, bounds=Bounds(connections_per_party=2))


def test_a_defect_is_500_and_never_a_permit() -> None:
    async def use(stage: Stage) -> Reply:
        stage.door.asked_as = replace(GATEWAY, proven=None)  # type: ignore[arg-type]
        submit, stage.desk.submit = stage.desk.submit, _defect  # type: ignore[method-assign]
        reply = await stage.post(EVALUATION, READ)
        stage.desk.submit = submit  # type: ignore[method-assign]
        stage.door.asked_as = GATEWAY
        return reply

    reply = run(use)
    assert (reply.status, reply.body["code"]) == (500, "surface.server.failed")


def _defect(*given: Any) -> None:
    raise KeyError("a bug")
