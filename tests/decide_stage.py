"""A decision listener on a Unix socket, in the test's own process, over a snapshot and a log of the test's making."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from remit.access.enforcers.model import Asker, Enforcer
from remit.access.enforcers.search import Searches
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import IdentityFacts, ResourceFacts
from remit.access.policy.schema import STANDARD, Kind
from remit.access.snapshot import Snapshot, SnapshotCell
from remit.kernel.clock import SystemClock
from remit.ledger.disk import Disk
from remit.ledger.segments import SegmentLog
from remit.surface.api.authzen_search import SearchDesk
from remit.surface.decide.hall import Bounds, Hall
from remit.surface.decide.http import Connection, Exchange
from remit.wiring.hot import DecisionDesk

VOCABULARY = STANDARD.with_claims({"soft": Kind.BOOL})
POINT = Enforcer(
    id="ef_1", name="gateway", spiffe_id="spiffe://remit.test/gateway", created=datetime(2026, 1, 1, tzinfo=UTC),
    created_by="person:ann",
)  # fmt: skip
GATEWAY = Asker(name="enforcer:gateway", enforcer=POINT)
POLICY = """
@id("read") permit(principal, action == Remit::Action::"read", resource);
@id("write-own") permit(principal in Remit::Identity::"alice", action == Remit::Action::"write", resource)
unless { context.claimed has resource_status && context.claimed.resource_status == "archived" };
@id("admins") permit(principal in Remit::Identity::"bob", action == Remit::Action::"write", resource)
when { context.claimed has subject_role && context.claimed.subject_role == "admin" };
@id("soft") permit(principal, action == Remit::Action::"delete", resource)
when { context.claimed has soft && context.claimed.soft };
"""


def identity(name: str, **facts: Any) -> IdentityFacts:
    return IdentityFacts(id=f"id_{name}", name=name, kind="workload", owner_active=True, **{"tier": 3, **facts})


def record(name: str) -> ResourceFacts:
    return ResourceFacts(name=f"api/{name}", kind="api", names=(name,), sensitivity="internal")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def decision(self) -> bool:
        return bool(self.body["decision"])


class OpenDoor:
    """Everybody is `asker`; each connection is a party of its own."""

    url = "http://localhost"

    def __init__(self, asker: Asker) -> None:
        self.asked_as = asker

    def host(self, connection: Connection) -> Hashable:
        return id(connection)

    def enter(self, connection: Connection) -> None: ...
    def leave(self, connection: Connection) -> None: ...

    def is_known(self, exchange: Exchange) -> bool:
        return False

    def asker(self, connection: Connection) -> Asker:
        return self.asked_as

    async def ask(self, exchange: Exchange) -> Asker:
        return self.asked_as


class Log:
    """The part of `Decisions` that the desk needs; `decide` as it has it, by the same log."""

    def __init__(self, pdp: Pdp, log: SegmentLog) -> None:
        self._pdp = pdp
        self.log = log
        self.told: list[Any] = []

    async def decide(self, request: Any, *, fulfils: frozenset[str], asker: str) -> Any:
        decision = self._pdp.decide(request, fulfils=fulfils)
        await self.log.append(json.dumps({"id": decision.id, "allowed": decision.allowed, "asker": asker}).encode())
        return decision

    def publish(self, plain: Any, now: datetime) -> None:
        self.told.append(plain)


@dataclass(slots=True)
class Stage:
    path: str
    cell: SnapshotCell
    log: SegmentLog
    hall: Hall
    desk: DecisionDesk
    door: OpenDoor
    decisions: Log
    lines: list[Line] = field(default_factory=list)

    async def line(self) -> Line:
        """A connection."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        self.lines.append(Line(reader, writer))
        return self.lines[-1]

    async def post(self, path: str, body: Any, **headers: str) -> Reply:
        """One request, on a connection of its own."""
        return await (await self.line()).post(path, body, **headers)

    def records(self) -> list[Any]:
        """What is on disk, oldest first."""
        found = self.log.latest(10_000).records
        return [json.loads(each.data) for each in reversed(found)]


@dataclass(slots=True)
class Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, path: str, body: Any, method: str = "POST", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {
            "Host": "pdp.test",
            "Content-Type": "application/json",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)

    async def reply(self) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        raw = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(first.split()[1]), headers, raw)

    async def post(self, path: str, body: Any, **headers: str) -> Reply:
        self.send(path, body, **headers)
        return await asyncio.wait_for(self.reply(), 60)


@asynccontextmanager
async def decide_stage(
    *,
    policy: str = POLICY,
    identities: Sequence[IdentityFacts] = (identity("alice"), identity("bob")),
    resources: Sequence[ResourceFacts] = (record("record-1"), record("record-2")),
    asker: Asker = GATEWAY,
    disk: Disk | None = None,
    bounds: Bounds | None = None,
    beats: bool = True,
) -> AsyncIterator[Stage]:
    """Serve; everything ends with the block."""
    folder, clock = Path(tempfile.mkdtemp(prefix="remit-h-", dir="/tmp")), SystemClock()
    whole = Snapshot.of(
        compile_policies(policy), epoch=1, sequence=1, at=clock.monotonic(), identities=identities, resources=resources
    )
    cell = SnapshotCell(whole)
    pdp = Pdp(cell.current, clock, vocabulary=VOCABULARY)
    log = SegmentLog.open(folder / "log", "test", clock=clock, disk=disk)
    decisions = Log(pdp, log)
    desk = DecisionDesk(pdp, decisions, clock=clock)  # type: ignore[arg-type]
    searches = SearchDesk(Searches(desk, vocabulary=VOCABULARY), b"k" * 32, clock=clock, entropy=os.urandom)
    hall, door, path = Hall(desk, searches, clock=clock, bounds=bounds), OpenDoor(asker), str(folder / "s")
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Connection(hall, door), path)  # type: ignore[arg-type]
    hall.open()
    stage = Stage(path, cell, log, hall, desk, door, decisions)
    beating = asyncio.create_task(_beat(cell, clock) if beats else asyncio.sleep(0))
    try:
        yield stage
    finally:
        beating.cancel()
        for line in stage.lines:
            line.writer.close()
        server.close()
        await hall.close()
        try:
            await log.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _beat(cell: SnapshotCell, clock: SystemClock) -> None:
    while True:
        cell.beat(clock.monotonic())
        await asyncio.sleep(0.1)
