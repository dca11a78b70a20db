"""Load for an HTTP server on a Unix socket, and what the server spent on it: CPU time is told by the kernel."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: what each request cost the server, and how long clients waited."""

    requests: int
    cpu_microseconds: float
    """Of all threads and children of the server, for one request."""
    p50_milliseconds: float
    p99_milliseconds: float
    statuses: dict[int, int]


class _Client(asyncio.Protocol):
    """Sends its requests in turn, each when the answer to the one before is there."""

    def __init__(self, requests: Sequence[bytes], until: float, first: int) -> None:
        self._requests = requests
        self._until = until
        self._next = first
        self._buffer = b""
        self._begun = 0.0
        self.waits: list[float] = []
        self.statuses: dict[int, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        found = _LENGTH.search(self._buffer, 0, head)
        if found is None or len(self._buffer) < head + 4 + int(found[1]):
            return
        now = time.perf_counter()
        self.waits.append(now - self._begun)
        status = int(self._buffer[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1


async def drive(
    socket: str, requests: Sequence[bytes], *, connections: int, seconds: float, pids: Sequence[int]
) -> Run:
    """Ask for `seconds` over `connections`; `pids` are the server's processes."""
    loop = asyncio.get_running_loop()
    before, until = cpu_nanoseconds(pids), time.perf_counter() + seconds
    clients = []
    for number in range(connections):
        first = number * (len(requests) // connections + 1)
        _, client = await loop.create_unix_connection(partial(_Client, requests, until, first), socket)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    spent = cpu_nanoseconds(pids) - before
    waits = sorted(wait for client in clients for wait in client.waits)
    statuses: dict[int, int] = {}
    for client in clients:
        for status, count in client.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return Run(
        requests=len(waits),
        cpu_microseconds=spent / len(waits) / 1000,
        p50_milliseconds=statistics.median(waits) * 1000,
        p99_milliseconds=waits[len(waits) * 99 // 100] * 1000,
        statuses=statuses,
    )


def cpu_nanoseconds(pids: Sequence[int]) -> int:
    """Time on a CPU of every thread of these processes so far (`/proc/PID/task/*/schedstat`)."""
    return sum(
        int(path.read_text().split()[0]) for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


async def answers(socket: str, requests: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Status and body of each request, asked one after the other on one connection."""
    reader, writer = await asyncio.open_unix_connection(socket)
    found = []
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, "an answer says how long it is"
        found.append((int(head[9:12]), await reader.readexactly(int(length[1]))))
    writer.close()
    await writer.wait_closed()
    return found


def get(path: str, *fields: str) -> bytes:
    """A request as a keep-alive client sends it; `fields` are header lines."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: api.example", *fields, "", ""]).encode()


def post(path: str, body: bytes) -> bytes:
    """A request with a JSON document as a keep-alive client sends it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: pdp.test\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
