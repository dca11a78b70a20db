"""The decision listener as HTTP has it: methods, protocols that are offered, requests without end, and who waits."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from authzen_scenario import EVALUATION, EVALUATIONS, READS, SUBJECTS, World
from decide_stage import Line, Reply, Stage, decide_stage
from remit.surface.api import authzen
from remit.surface.decide import hall as halls
from remit.surface.decide.hall import Bounds
from remit.surface.decide.http import MAX_REQUEST_BYTES

READ = READS(World())
RAW = json.dumps(READ).encode()
HEAD = b"POST /access/v1/evaluation HTTP/1.1\r\nHost: pdp.test\r\nContent-Type: application/json\r\n"


def run(use: Callable[[Stage], Awaitable[Any]], **options: Any) -> Any:
    async def staged() -> Any:
        async with decide_stage(**options) as stage:
            async with asyncio.timeout(60):
                return await use(stage)

    return asyncio.run(staged())


def asked(method: str, path: str) -> Reply:
    async def use(stage: Stage) -> Reply:
        line = await stage.line()
        line.send(path, b"", method)
        return await line.reply()

    found: Reply = run(use)
    return found


class Unix(http.client.HTTPConnection):
    """The HTTP client of Python, over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


# Methods.


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS, SUBJECTS])
def test_an_endpoint_says_that_it_takes_post_alone(path: str, method: str) -> None:
    async def use(stage: Stage) -> tuple[int, str | None, int]:
        def by_client() -> tuple[int, str | None, int]:
            with closing(Unix(stage.path)) as line:
                line.request(method, path)
                first = line.getresponse()
                first.read()
                line.request("POST", EVALUATION, RAW, {"Content-Type": "application/json"})
                second = line.getresponse()
                second.read()
            return first.status, first.getheader("Allow"), second.status

        return await asyncio.to_thread(by_client)

    assert run(use) == (405, "POST", 200)


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
def test_discovery_says_that_it_is_read(method: str) -> None:
    reply = asked(method, authzen.METADATA_PATH)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


def test_the_head_of_a_document_comes_without_it() -> None:
    async def use(stage: Stage) -> tuple[bytes, int]:
        line = await stage.line()
        line.send(authzen.METADATA_PATH, b"", "HEAD")
        line.send(EVALUATION, READ)
        head = await line.reader.readuntil(b"\r\n\r\n")
        return head, (await line.reply()).status

    head, status = run(use)
    assert (head[:15], b"Content-Length: 0" in head, status) == (b"HTTP/1.1 200 OK", False, 200)


# What is offered, announced, or never ends.


@pytest.mark.parametrize("offered", [b"h2c", b"websocket"])
def test_the_body_of_an_upgrade_is_no_request(offered: bytes) -> None:
    async def use(stage: Stage) -> tuple[bytes, int]:
        line = await stage.line()
        smuggled = HEAD + b"Content-Length: %d\r\n\r\n" % len(RAW) + RAW
        more = b"Connection: Upgrade\r\nUpgrade: " + offered
        line.writer.write(HEAD + more + b"\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled)
        found = await line.reader.read()
        await stage.log.flush()
        return found, len(stage.records())

    found, decided = run(use)
    assert (found[:13], decided) == (b"HTTP/1.1 400 ", 0)


def test_who_announces_too_much_is_not_asked_to_send_it() -> None:
    async def use(stage: Stage) -> bytes:
        line = await stage.line()
        line.writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n")
        return await line.reader.read()

    assert run(use).startswith(b"HTTP/1.1 413 ")


def test_who_sends_too_much_gets_to_read_why() -> None:
    async def use(stage: Stage) -> int:
        def by_client() -> int:
            with closing(Unix(stage.path)) as line:
                line.request("POST", EVALUATION, b" " * (4 << 20), {"Content-Type": "application/json"})
                found = line.getresponse()
                found.read()
            return found.status

        return await asyncio.to_thread(by_client)

    assert run(use) == 413


@pytest.mark.parametrize("start", [b"0\r\nX-Trailer: ", b"1;x="])
def test_trailers_and_extensions_without_end_are_cut_off(start: bytes) -> None:
    async def use(stage: Stage) -> tuple[bytes, int]:
        line = await stage.line()
        line.writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + start)
        sent, answer = 0, asyncio.ensure_future(line.reader.read())
        while not answer.done() and sent <= 4 * MAX_REQUEST_BYTES:
            line.writer.write(b"a" * 65536)
            sent += 65536
            await asyncio.sleep(0)
            try:
                await line.writer.drain()
            except ConnectionError:
                break
        return await answer, sent

    found, sent = run(use)
    assert (found[:13], sent < 2 * MAX_REQUEST_BYTES) == (b"HTTP/1.1 413 ", True)


def test_what_follows_a_request_that_ends_the_connection_is_not_looked_at() -> None:
    async def use(stage: Stage) -> tuple[int, int]:
        line = await stage.line()
        line.send(EVALUATION, READ)
        line.writer.write(HEAD + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}")
        line.send(EVALUATION, {**READ, "context": {"ticket": "behind"}})
        found = await line.reader.read()
        await stage.log.flush()
        return found.count(b"HTTP/1.1 "), len(stage.records())

    assert run(use) == (2, 1)


def test_a_body_that_comes_too_slowly_is_cut_off() -> None:
    async def use(stage: Stage) -> bytes:
        line = await stage.line()
        line.writer.write(HEAD + b"Content-Length: 100\r\n\r\n")
        reading = asyncio.ensure_future(line.reader.read())
        while not reading.done():
            line.writer.write(b" ")
            await asyncio.sleep(0.1)
        return b"" if reading.exception() else reading.result()

    assert run(use, bounds=Bounds(request_ticks=1)) == b""


# What comes back.


@pytest.mark.parametrize("shown", ["r" * 129, "r\x01", "r\xe9"])
def test_a_request_id_that_could_not_be_written_into_a_log_is_not_repeated(shown: str) -> None:
    async def use(stage: Stage) -> bool:
        line = await stage.line()
        line.writer.write(HEAD + b"X-Request-ID: " + shown.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n")
        head = await line.reader.readuntil(b"\r\n\r\n")
        return b"X-Request-ID" in head

    assert run(use) is False


# Who waits.


def test_tokens_that_nobody_knows_make_no_parties() -> None:
    async def use(stage: Stage) -> int:
        line, parties, put = await stage.line(), list[Any](), stage.hall._turns.put

        def noted(party: Any, item: Any) -> bool:
            parties.append(party)
            return put(party, item)

        stage.hall._turns.put = noted  # type: ignore[method-assign]
        for number in range(20):
            line.send(EVALUATION, READ, Authorization=f"Bearer {number}")
        for _ in range(20):
            await line.reply()
        return len(set(parties))

    assert run(use) == 1


def test_one_party_has_a_share_of_what_takes_its_time() -> None:
    async def use(stage: Stage) -> tuple[int, int, int]:
        hold = asyncio.Event()

        async def ask(exchange: Any) -> Any:
            await hold.wait()
            return stage.door.asked_as

        stage.door.ask = ask  # type: ignore[method-assign]
        flooding = [await stage.line() for _ in range(3)]
        stage.door.host = lambda connection: "other"  # type: ignore[method-assign]
        other = await stage.line()
        # 1. One party (here: of one connection each) may not fill the room.
        for line in flooding:
            for _ in range(100):
                line.send(EVALUATIONS, {**READ, "evaluations": [{}]})
        while len(stage.hall._aside) < halls._ASIDE:
            await asyncio.sleep(0.01)
        filled = dict(stage.hall._aside_of)
        # 2. Who comes on top is told to come again; and the room is empty afterwards.
        other.send(EVALUATIONS, {**READ, "evaluations": [{}]})
        refused = (await other.reply()).status
        hold.set()
        for line in flooding:
            for _ in range(100):
                await line.reply()
        return max(filled.values()), refused, len(stage.hall._aside_of)

    most, refused, left = run(use)
    assert (most <= halls._ASIDE_SHARE, refused, left) == (True, 503, 0)


def test_large_bodies_are_held_up_to_a_number_and_then_let_go() -> None:
    body = b" " * (200 << 10)

    async def use(stage: Stage) -> tuple[int, int, list[int]]:
        async def begun() -> Line:
            line = await stage.line()
            line.writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) + len(RAW)) + body)
            return line

        lines = [await begun() for _ in range(halls._LARGE)]
        while stage.hall.large < halls._LARGE:
            await asyncio.sleep(0.01)
        last = await begun()
        refused = (await last.reply()).status
        # One of them hangs up, the others send the rest: room again.
        lines[0].writer.transport.abort()
        for line in lines[1:]:
            line.writer.write(RAW)
        statuses = [(await line.reply()).status for line in lines[1:]]
        while stage.hall.large:
            await asyncio.sleep(0.01)
        return refused, (await stage.post(EVALUATION, body + RAW)).status, sorted(set(statuses))

    assert run(use) == (503, 200, [200])
