"""The decision point as everybody asks it: decided in memory, on disk before it is answered, told to who listens."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from remit.access.model import Decision, Request
from remit.access.policy.decide import Pdp
from remit.access.record import decision_json
from remit.kernel.clock import Clock
from remit.kernel.errors import NotFound, Rejected, RemitError, Unavailable
from remit.kernel.events import Event, LocalBus
from remit.kernel.ids import new_id
from remit.ledger.batches import BATCH_TYPE, batch_from_data
from remit.ledger.segment_files import Record
from remit.ledger.segment_tail import SegmentTail
from remit.ledger.segments import SegmentLog
from remit.storage.database import Database

_log = logging.getLogger("remit.decisions")
_BATCH_SECONDS = 0.1
LAGGING_TIER = 2


class Decisions:
    """Decides, records, tells. Implements `access.ports.DecisionPoint`."""

    def __init__(self, pdp: Pdp, store: Database, bus: LocalBus, *, clock: Clock, node: str) -> None:
        self._pdp = pdp
        self._store = store
        self._bus = bus
        self._clock = clock
        self._node = node
        self._log: SegmentLog | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._folder: Path | None = None
        self._tails: dict[str, SegmentTail] = {}

    @property
    def log(self) -> SegmentLog:
        """The decision log."""
        assert self._log is not None, "the decision log is not open"
        return self._log

    async def open(self, folder: Path) -> None:
        """Open the log below `folder`; what the ledger does not cover yet is batched again."""
        batched = await self._covered(self._node)
        self._log = await asyncio.to_thread(SegmentLog.open, folder, self._node, clock=self._clock, batched=batched)
        self._folder = folder
        self._task = asyncio.create_task(self._batch_forever(), name="remit-decision-batches")

    async def _covered(self, node: str) -> int:
        """The last record of a node that the ledger covers."""

        def read(unit: Any) -> int:
            entries = unit.ledger.latest(1, type_prefix=BATCH_TYPE, subject=f"node:{node}")
            return int(entries[0].data["last_seq"]) if entries else 0

        return await self._store.read(read)

    async def _enter(self, node: str, data: dict[str, Any]) -> None:
        """Enter the batch of a node into the ledger."""
        await self._store.write(
            lambda unit: unit.record(BATCH_TYPE, actor="system:decisions", subject=f"node:{node}", data=data)
        )

    async def decide(
        self,
        request: Request,
        *,
        fulfils: frozenset[str] = frozenset(),
        asker: str = "",
        narrowed: Callable[[Decision], Decision] | None = None,
    ) -> Decision:
        """Decide, for `asker`. An allow is on disk before it is returned; `Unavailable` when it cannot be recorded.

        `narrowed` is what somebody besides policy has to say of it (an agent's intent): it may refuse, never allow.
        """
        decision = self._pdp.decide(request, fulfils=fulfils, explain=True)
        if narrowed is not None:
            said = narrowed(decision)
            assert decision.allowed or not said.allowed, "what policy refuses nothing else allows"
            decision = said
        plain = decision_json(decision, asker=asker)
        record = msgspec.json.encode(plain)
        tier = plain["facts"].get("principal", {}).get("attributes", {}).get("tier", 0)
        if decision.allowed or tier < LAGGING_TIER:
            await self.log.append(record)
        else:
            self.log.append_nowait(record)
        self.publish(plain, decision.time)
        return decision

    def publish(self, plain: dict[str, Any], now: datetime) -> None:
        """Tell who listens of one decision."""
        subject = plain["facts"].get("principal", {}).get("id", plain["request"]["subject"]["id"])
        event = Event(
            id=new_id("ev", now), type="access.decision.made", time=now, actor="system:pdp", subject=subject, data=plain
        )
        self._bus.publish(event)

    async def latest(self, limit: int, *, denied: bool = False) -> list[dict[str, Any]]:
        """The newest decisions first."""
        mark = b'"allowed":false'

        def search() -> list[dict[str, Any]]:
            wanted = (lambda data: mark in data) if denied else (lambda data: b'"id":"dc_' in data)
            records = list(self.log.search(wanted, count=limit, scan=20_000).records)
            for tail in self._workers():
                records += tail.search(wanted, count=limit, scan=20_000)
            found = [msgspec.json.decode(record.data) for record in records]
            # Each log is in order; several are one by the moment that stands in the id.
            return sorted(found, key=_moment, reverse=True)[:limit] if self._tails else found

        return await asyncio.to_thread(search)

    def newest(self, count: int) -> list[tuple[str, list[Record]]]:
        """The newest records of each log that is here, the newest first. Blocking."""
        everything = lambda data: True  # noqa: E731
        found = [(self._node, list(self.log.search(everything, count=count, scan=count).records))]
        return found + [(tail.node, tail.search(everything, count=count, scan=count)) for tail in self._workers()]

    async def find(self, decision: str) -> dict[str, Any]:
        """One past decision; `NotFound` (`access.decision.unknown`)."""
        mark = f'"id":"{decision}"'.encode()

        def search() -> list[Any]:
            wanted = lambda data: mark in data[:80]  # noqa: E731
            records = list(self.log.search(wanted, count=1, scan=2_000_000).records)
            for tail in self._workers() if not records else ():
                records = records or tail.search(wanted, count=1, scan=2_000_000)
            return [{**msgspec.json.decode(record.data), "seq": record.seq} for record in records]

        found = await asyncio.to_thread(search)
        if not found:
            raise NotFound(
                "access.decision.unknown", f"no decision has the id `{decision[:40]}`", next_step="`remit decisions`"
            )
        record: dict[str, Any] = found[0]
        return record

    async def close(self) -> None:
        """Write and batch what is left."""
        if self._task is not None:
            # Not cancelled: a batch that is being committed would be entered again.
            self._ending.set()
            await self._task
            self._task = None
        if self._log is not None:
            with contextlib.suppress(RemitError):
                await self._log.flush()
                await self._batch()
            await self._log.close()
            self._log = None

    async def _batch_forever(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BATCH_SECONDS):
                    await self._ending.wait()
            try:
                await self._batch()
            except RemitError as error:
                _log.warning("a batch of decisions is not in the ledger yet: %s", error)
            except Exception:  # a supervisor: the batch stays taken, and is entered later
                _log.exception("a batch of decisions is not in the ledger yet")

    async def _batch(self) -> None:
        while (batch := await asyncio.to_thread(self.log.take_batch)) is not None:
            await self._enter(self._node, batch.as_data())
            self.log.confirm(batch)

    # Logs of decision workers: nodes of their own, `NODE.wN`, each written by one process.

    def worker_node(self, slot: int) -> str:
        """The node of the worker in this slot, from 1."""
        return f"{self._node}.w{slot}"

    async def covered(self, slot: int) -> int:
        """The last record of that worker's log that the ledger covers."""
        return await self._covered(self.worker_node(slot))

    async def enter_batch(self, slot: int, data: dict[str, Any]) -> None:
        """Enter what a worker batched. `Rejected` (`ledger.batch.malformed`) unless it goes on where it stood.

        One at a time for each slot.
        """
        batch, node = batch_from_data(data), self.worker_node(slot)
        if batch.node != node or batch.first_seq != await self._covered(node) + 1:
            raise Rejected("ledger.batch.malformed", f"the batch does not go on where `{node}` stands")
        await self._enter(node, data)

    def left_slots(self, running: int) -> list[int]:
        """Slots above `running` whose logs are here: of an earlier run with more workers. Blocking."""
        slots = (int(tail.node.rpartition(".w")[2]) for tail in self._workers())
        return sorted(slot for slot in slots if slot > running)

    async def settle(self, slot: int) -> None:
        """Bring what an ended worker left into the ledger. `Unavailable` while another process holds its log."""
        assert self._folder is not None, "the decision log is open"
        node = self.worker_node(slot)
        with LogHold(self._folder / node):
            left = await asyncio.to_thread(
                SegmentLog.open, self._folder, node, clock=self._clock, batched=await self._covered(node)
            )
            try:
                while (batch := await asyncio.to_thread(left.take_batch)) is not None:
                    await self._enter(node, batch.as_data())
                    left.confirm(batch)
            finally:
                await left.close()

    def _workers(self) -> list[SegmentTail]:
        """The logs of workers that are here; one that came since is found by its folder. Blocking."""
        if self._folder is None:
            return []
        known = re.compile(re.escape(self._node) + r"\.w[0-9]{1,2}")
        for path in self._folder.iterdir():
            if path.name not in self._tails and known.fullmatch(path.name):
                self._tails[path.name] = SegmentTail(self._folder, path.name)
        return list(self._tails.values())


class LogHold:
    """Holds the log in `folder` (made where it is missing) alone, from now until the block ends.

    `Unavailable` (`ledger.decisions.held`) while another process does.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise Unavailable(
                "ledger.decisions.held",
                f"another process writes the decision log `{folder.name}`",
                next_step="wait until it has ended",
            ) from None

    def __enter__(self) -> None: ...

    def __exit__(self, *why: object) -> None:
        os.close(self._handle)


def _moment(found: dict[str, Any]) -> str:
    return str(found.get("id", ""))[:13]
