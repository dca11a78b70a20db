"""The decision point as everybody asks it: decided in memory, on disk before it is answered, told to who listens."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from remit.access.model import Decision, Request
from remit.access.policy.decide import Pdp
from remit.kernel.clock import Clock, rfc3339
from remit.kernel.errors import NotFound, RemitError
from remit.kernel.events import Event, LocalBus
from remit.kernel.ids import new_id
from remit.ledger.batches import BATCH_TYPE
from remit.ledger.segments import SegmentLog
from remit.storage.database import Database

_log = logging.getLogger("remit.decisions")
_BATCH_SECONDS = 0.1
_LAGGING_TIER = 2
_CLAIMED_BYTES = 4096


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

    @property
    def log(self) -> SegmentLog:
        """The decision log."""
        assert self._log is not None, "the decision log is not open"
        return self._log

    async def open(self, folder: Path) -> None:
        """Open the log below `folder`; what the ledger does not cover yet is batched again."""
        batched = await self._store.read(self._batched)
        self._log = await asyncio.to_thread(SegmentLog.open, folder, self._node, clock=self._clock, batched=batched)
        self._task = asyncio.create_task(self._batch_forever(), name="remit-decision-batches")

    def _batched(self, unit: Any) -> int:
        entries = unit.ledger.latest(1, type_prefix=BATCH_TYPE, subject=f"node:{self._node}")
        return int(entries[0].data["last_seq"]) if entries else 0

    async def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> Decision:
        """Decide. An allow is on disk before it is returned; `Unavailable` when it cannot be recorded."""
        decision = self._pdp.decide(request, fulfils=fulfils, explain=True)
        plain = decision_json(decision)
        record = msgspec.json.encode(plain)
        tier = plain["facts"].get("principal", {}).get("attributes", {}).get("tier", 0)
        if decision.allowed or tier < _LAGGING_TIER:
            await self.log.append(record)
        else:
            self.log.append_nowait(record)
        self._bus.publish(
            Event(
                id=new_id("ev", decision.time),
                type="access.decision.made",
                time=decision.time,
                actor="system:pdp",
                subject=plain["facts"].get("principal", {}).get("id", request.subject.id),
                data=plain,
            )
        )
        return decision

    async def latest(self, limit: int, *, denied: bool = False) -> list[dict[str, Any]]:
        """The newest decisions first."""
        mark = b'"allowed":false'

        def search() -> list[dict[str, Any]]:
            wanted = (lambda data: mark in data) if denied else (lambda data: b'"id":"dc_' in data)
            page = self.log.search(wanted, count=limit, scan=20_000)
            return [msgspec.json.decode(record.data) for record in page.records]

        return await asyncio.to_thread(search)

    async def find(self, decision: str) -> dict[str, Any]:
        """One past decision; `NotFound` (`access.decision.unknown`)."""
        mark = f'"id":"{decision}"'.encode()

        def search() -> list[Any]:
            page = self.log.search(lambda data: mark in data[:80], count=1, scan=2_000_000)
            return [{**msgspec.json.decode(record.data), "seq": record.seq} for record in page.records]

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
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._log is not None:
            with contextlib.suppress(RemitError):
                await self._log.flush()
                await self._batch()
            await self._log.close()
            self._log = None

    async def _batch_forever(self) -> None:
        while True:
            await asyncio.sleep(_BATCH_SECONDS)
            try:
                await self._batch()
            except RemitError as error:
                _log.warning("a batch of decisions is not in the ledger yet: %s", error)

    async def _batch(self) -> None:
        while (batch := await asyncio.to_thread(self.log.take_batch)) is not None:
            data = batch.as_data()
            await self._store.write(
                lambda unit: unit.record(BATCH_TYPE, actor="system:decisions", subject=f"node:{self._node}", data=data)  # noqa: B023
            )
            self.log.confirm(batch)


def decision_json(decision: Decision) -> dict[str, Any]:
    """The record of a decision, `id` first."""
    request = decision.request
    return {
        "id": decision.id,
        "time": rfc3339(decision.time),
        "allowed": decision.allowed,
        "request": {
            "subject": {"type": request.subject.type, "id": request.subject.id},
            "action": request.action,
            "resource": {"type": request.resource.type, "id": request.resource.id},
            "claimed": _bounded(request.claimed),
            "proven": _plain(request.proven),
        },
        "reasons": [{"id": each.id, "effect": each.effect.value, "text": each.text} for each in decision.reasons],
        "errors": list(decision.errors),
        "needed": list(decision.needed),
        "obligations": [{"kind": each.kind, "detail": each.detail} for each in decision.obligations],
        "facts": _plain(decision.facts),
        "snapshot": decision.snapshot,
    }


def _bounded(claimed: Mapping[str, Any]) -> Any:
    """What a caller says of itself costs it nothing, so that it may not fill our disk: more is kept by digest alone."""
    plain = _plain(claimed)
    data = msgspec.json.encode(plain)
    if len(data) <= _CLAIMED_BYTES:
        return plain
    return {"data_sha256": hashlib.sha256(data).hexdigest(), "data_bytes": len(data)}


def _plain(value: Mapping[str, Any]) -> Any:
    return msgspec.to_builtins(dict(value))
