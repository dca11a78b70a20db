"""A decision listener with snapshot streams on a Unix socket, on a loop of its own thread; the test moves its snapshot."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from decide_stage import Log, OpenDoor, identity, record
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import IdentityFacts, ResourceFacts
from remit.access.snapshot import Delta, Snapshot, SnapshotCell
from remit.client.enforce.local import LocalPdp
from remit.client.enforce.pdp import Question
from remit.kernel.clock import SystemClock
from remit.ledger.segments import SegmentLog
from remit.surface.decide.hall import Hall
from remit.surface.decide.http import Connection
from remit.surface.decide.points import PointDesk
from remit.wiring.hot import DecisionDesk
from remit.wiring.reported import Reports
from remit.wiring.streams import SnapshotStreams, public_key_of

SEED = b"s" * 32
KEY = public_key_of(SEED)
POLICY = '@id("read") permit(principal, action == Remit::Action::"read", resource);'


def point(**facts: Any) -> Enforcer:
    made = {"id": "ef_1", "name": "app", "spiffe_id": "spiffe://remit.test/app", "created_by": "person:ann", **facts}
    return Enforcer(**made, created=datetime(2026, 1, 1, tzinfo=UTC))


def ask(subject: str = "alice", *, action: str = "read", name: str = "record-1", kind: str = "api") -> Question:
    return Question(subject=subject, action=action, kind=kind, name=name)


@dataclass(slots=True)
class LocalStage:
    folder: Path
    loop: asyncio.AbstractEventLoop
    cell: SnapshotCell
    clock: SystemClock
    closing: ExitStack
    door: OpenDoor
    log: SegmentLog | None = None
    streams: SnapshotStreams | None = None
    desk: DecisionDesk | None = None
    hall: Hall | None = None
    points: PointDesk | None = None
    server: Any = None
    beats: bool = True
    path: str = ""
    pdps: list[LocalPdp] = field(default_factory=list)

    def on_loop(self, work: Callable[[], Any]) -> Any:
        """Run it on the listener's loop; what it returns."""

        async def call() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(60)

    def change(self, **parts: Any) -> None:
        """A commit."""

        def apply() -> None:
            now = self.cell.current()
            delta = Delta(epoch=now.epoch, sequence=now.sequence + 1, **parts)
            assert self.cell.apply(delta, at=self.clock.monotonic())

        self.on_loop(apply)

    def reload(self, **parts: Any) -> None:
        """The source reads everything again."""
        sequence = self.cell.current().sequence + 1
        self.on_loop(lambda: self.cell.load(snapshot(self.clock, sequence=sequence, **parts)))

    def pdp(self, path: str = "", **more: Any) -> LocalPdp:
        """A local decision point, ended with the stage."""
        options = {"key": KEY, "timeout": 30.0, **more}
        made = LocalPdp(self.folder / f"journal{len(self.pdps)}", path or self.path, **options)
        self.pdps.append(made)
        return made

    def cut(self) -> None:
        """Hang up on everybody."""
        self.on_loop(lambda: [each.abort() for each in list(self.hall._connections)])

    def stop(self) -> None:
        """The listener goes away, with its memory."""
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(60)

    def start(self) -> None:
        """It comes (back)."""
        asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(60)

    def reported(self) -> list[Any]:
        """Reports in the log, newest first."""
        return [msgspec.json.decode(one.data) for one in self.log.latest(10_000).records]

    async def _start(self) -> None:
        pdp = Pdp(self.cell.current, self.clock)
        self.log = await asyncio.to_thread(SegmentLog.open, self.folder / "log", "test", clock=self.clock)
        decisions: Any = Log(pdp, self.log)
        self.desk = DecisionDesk(pdp, decisions, clock=self.clock)
        self.streams = SnapshotStreams(self.cell, SEED, clock=self.clock)
        self.points = PointDesk(self.streams, Reports(decisions, clock=self.clock))
        self.hall = Hall(self.desk, None, self.points, clock=self.clock)
        Path(self.path).unlink(missing_ok=True)
        make: Any = lambda: Connection(self.hall, self.door)  # noqa: E731
        self.server = await self.loop.create_unix_server(make, self.path)
        self.hall.open()

    async def _stop(self) -> None:
        if self.server is None:
            return
        self.server.close()
        self.server = None
        await self.points.close()
        await self.hall.close()
        await self.log.close()

    async def beat(self) -> None:
        while True:
            if self.beats:
                self.cell.beat(self.clock.monotonic())
            await asyncio.sleep(0.05)


def snapshot(
    clock: SystemClock,
    *,
    policy: str = POLICY,
    identities: Sequence[IdentityFacts] = (identity("alice"), identity("root", tier=0)),
    resources: Sequence[ResourceFacts] = (record("record-1"), record("record-2")),
    sequence: int = 1,
    **more: Any,
) -> Snapshot:
    return Snapshot.of(
        compile_policies(policy), epoch=1, sequence=sequence, at=clock.monotonic(), identities=identities,
        resources=resources, **more,
    )  # fmt: skip


@contextmanager
def local_stage(*, asker: Enforcer | None = None, **parts: Any) -> Iterator[LocalStage]:
    """Serve; everything ends with the block."""
    folder, clock = Path(tempfile.mkdtemp(prefix="remit-l-", dir="/tmp")), SystemClock()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    who = asker or point()
    door = OpenDoor(Asker(name=f"enforcer:{who.name}", enforcer=who))
    with ExitStack() as closing:
        stage = LocalStage(folder, loop, SnapshotCell(snapshot(clock, **parts)), clock, closing, door)
        stage.path = str(folder / "s")
        stage.start()
        beating = asyncio.run_coroutine_threadsafe(stage.beat(), loop)
        try:
            yield stage
        finally:
            for pdp in stage.pdps:
                pdp.close()
            beating.cancel()
            stage.stop()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=60)
            loop.close()
            shutil.rmtree(folder, ignore_errors=True)


def until(holds: Callable[[], bool]) -> None:
    """Return when it holds, within a minute."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


class Carrier:
    """Somebody between: passes bytes on in both directions, and may alter or hold what the listener says."""

    def __init__(self, path: str, behind: str) -> None:
        self.alter: Callable[[bytes], bytes] = lambda data: data
        self._behind = behind
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                front, _ = self._socket.accept()
                back = socket.socket(socket.AF_UNIX)
                back.connect(self._behind)
                threading.Thread(target=self._pass, args=(front, back, lambda data: data), daemon=True).start()
                threading.Thread(
                    target=self._pass, args=(back, front, lambda data: self.alter(data)), daemon=True
                ).start()

    def _pass(self, source: socket.socket, target: socket.socket, alter: Callable[[bytes], bytes]) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                target.sendall(alter(data))
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
