"""The decision listener in a process of its own, over a snapshot made here: `python -m bench.decision_server …`.

    MODE      `decide`; `read`: the same listener, which reads each question and answers with the same bytes;
              `constant`: the same, unread
    POLICIES  how many
    FOLDER    where the decision log lies: an allow is on its disk before it is answered
    SOCKET    the Unix socket to listen on

Prints `ready PID` when it serves.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Hashable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.decisions import identities, policies_text, resources
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.snapshot import Snapshot, SnapshotCell
from remit.kernel.clock import SystemClock
from remit.ledger.segments import SegmentLog
from remit.surface.api.authzen_json import read_request
from remit.surface.decide.hall import Hall
from remit.surface.decide.http import Connection, Exchange
from remit.wiring.hot import DecisionDesk

ANSWER_BYTES = 1000
CONSTANT = b'{"decision":true,"context":{"reason":"' + b"x" * (ANSWER_BYTES - 41) + b'"}}'


class Log:
    """The part of `Decisions` that the desk needs."""

    def __init__(self, log: SegmentLog) -> None:
        self.log = log

    def publish(self, plain: dict[str, Any], now: datetime) -> None:
        """Nobody listens."""


class OpenDoor:
    """Everybody is the same registered point: what authentication costs is measured elsewhere."""

    url = "http://localhost"

    def __init__(self) -> None:
        point = Enforcer(
            id="ef_bench", name="bench", spiffe_id="spiffe://bench.test/gateway", created=datetime.now(UTC),
            created_by="person:bench", vouches=("attested", "task"),
        )  # fmt: skip
        self._asker = Asker(name="enforcer:bench", enforcer=point)

    def host(self, connection: Connection) -> Hashable:
        return id(connection)

    def enter(self, connection: Connection) -> None: ...
    def leave(self, connection: Connection) -> None: ...

    def asker(self, connection: Connection) -> Asker:
        return self._asker

    async def ask(self, exchange: Exchange) -> Asker:
        return self._asker


class ConstantHall(Hall):
    """Answers without reading what was asked."""

    def _evaluate(self, exchange: Exchange, asker: Asker) -> None:
        exchange.reply(200, CONSTANT)


class ReadingHall(Hall):
    """Reads what was asked, and answers the same."""

    def _evaluate(self, exchange: Exchange, asker: Asker) -> None:
        read_request(bytes(exchange.body))
        exchange.reply(200, CONSTANT)


HALLS: dict[str, type[Hall]] = {"constant": ConstantHall, "read": ReadingHall, "decide": Hall}


async def serve(mode: str, policies: int, folder: Path, socket: str) -> None:
    """Serve until killed."""
    clock = SystemClock()
    whole = Snapshot.of(
        compile_policies(policies_text(policies)), epoch=1, sequence=1, at=clock.monotonic(),
        identities=identities(), resources=resources(),
    )  # fmt: skip
    cell = SnapshotCell(whole)
    log = await asyncio.to_thread(SegmentLog.open, folder, "bench", clock=clock)
    desk = DecisionDesk(Pdp(cell.current, clock), Log(log), clock=clock)  # type: ignore[arg-type]
    hall = HALLS[mode](desk, None, clock=clock)
    hall.open()
    door = OpenDoor()
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(partial(Connection, hall, door), socket, backlog=1024)  # type: ignore[arg-type]
    print(f"ready {os.getpid()}", flush=True)
    while True:
        await asyncio.sleep(0.25)
        cell.beat(clock.monotonic())
        while (batch := await asyncio.to_thread(log.take_batch)) is not None:
            log.confirm(batch)


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
