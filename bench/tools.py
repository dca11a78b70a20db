"""What the MCP gateway adds to each call of a tool: the official SDK's client, a server over stdio, and the gateway.

Directly the client starts the server and talks to it. Through the gateway it starts `remit gateway mcp`, which starts
the server, and each call is decided by the intent of the task and recorded before the server hears of it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.load import cpu_nanoseconds
from bench.race import Row, percentile, scaled
from bench.stages import processes, stage

_CALLS = scaled(300, 20)
_WARM = scaled(20, 2)
_ROUNDS = scaled(5, 2)
_P50, _P99, _CPU = 25.0, 100.0, 20_000.0
_TOOLS = {"mail/environment": {"arguments": {"name": {"type": "string"}}}}
_MEASURED = 0.01
"""Of a row that tells what something costs at all: no bar but that both could be measured."""
_BUDGET = {"calls": 100_000, "bytes": 1 << 30, "seconds": 3600}


@dataclass(slots=True)
class _Session:
    """Calls of one session: their waits in ms, shortest first, and the CPU of a call in µs, of who serves them."""

    waits: list[float]
    cpu: float


@dataclass(slots=True)
class _Found:
    direct: list[_Session] = field(default_factory=list)
    through: list[_Session] = field(default_factory=list)

    def added(self, share: float) -> float:
        return statistics.median(
            percentile(ours.waits, share) - percentile(theirs.waits, share)
            for ours, theirs in zip(self.through, self.direct, strict=True)
        )


def before_tools(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the MCP gateway."""
    if importlib.util.find_spec("mcp") is None:
        yield _row("added p50", 0.0, "ms", "a server over stdio", None, missing="`mcp` is not installed")
        return
    tell("the MCP gateway: an installation with people, tools and an intent")
    found = _measure(tell)
    yield _row("added p50", found.added(0.5), "ms", "floor", _P50)
    yield _row("added p99", found.added(0.99), "ms", "floor", _P99)
    ours = statistics.median(percentile(each.waits, 0.5) for each in found.through)
    theirs = statistics.median(percentile(each.waits, 0.5) for each in found.direct)
    yield _row("p50", ours, "ms", "the same server without the gateway", theirs, bar=_MEASURED)
    cpu = statistics.median(
        ours.cpu - theirs.cpu for ours, theirs in zip(found.through, found.direct, strict=True)
    )  # fmt: skip
    yield _row("added CPU", cpu, "µs of CPU", "floor", _CPU)


def _row(
    what: str, ours: float, unit: str, against: str, theirs: float | None, bar: float = 1.0, missing: str = ""
) -> Row:
    return Row(
        name=f"MCP call of a tool through the gateway, {what}", ours=ours, unit=unit, against=against, theirs=theirs,
        better="lower", bar=bar, missing=missing,
    )  # fmt: skip


def _measure(tell: Callable[[str], None]) -> _Found:
    found = _Found()
    with stage("mcp_stage").mailroom() as room:
        command, environment = room.gateway(room.intend(tools=_TOOLS, budget=_BUDGET))
        served = processes(room.made.process.pid)
        for number in range(_ROUNDS):
            tell(f"the MCP gateway: round {number + 1} of {_ROUNDS}")
            found.direct.append(asyncio.run(_session(room.command, {"PATH": os.environ["PATH"]}, [])))
            found.through.append(asyncio.run(_session(command, environment, served)))
    return found


async def _session(command: Sequence[str], environment: dict[str, str], served: list[int]) -> _Session:
    """Call a tool again and again; all answers are the same."""
    from mcp import Client, StdioServerParameters

    parameters = StdioServerParameters(command=command[0], args=list(command[1:]), env=environment)
    before = set(processes(os.getpid()))
    async with Client(parameters, read_timeout_seconds=20) as client:
        for _ in range(_WARM):
            await _call(client)
        pids = [*served, *(set(processes(os.getpid())) - before)]
        spent, waits = cpu_nanoseconds(pids), [await _call(client) for _ in range(_CALLS)]
        cpu = (cpu_nanoseconds(pids) - spent) / _CALLS / 1000
    return _Session(sorted(waits), cpu)


async def _call(client: Any) -> float:
    begun = time.perf_counter()
    result = await client.call_tool("environment", {"name": "NOT_SET"})
    took = (time.perf_counter() - begun) * 1000
    said = [str(getattr(part, "text", "")) for part in result.content]
    assert said == ["none"] and not result.is_error, f"the tool answered {said}"
    return took
