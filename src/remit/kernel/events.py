"""Events: what happened, in one envelope for the ledger, the outbox and the bus.

Types are `<capability>.<noun>.<past participle>`. The wire form is append-only: a field is added with a new
`v`, never renamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `actor` and `subject` are `person:NAME`, an identity's id, `system:PART`, or a name."""

    id: str
    type: str
    time: datetime
    actor: str
    subject: str
    data: Mapping[str, Json] = field(default_factory=dict)
    trace: str = ""
    v: int = 1

    def as_json(self) -> dict[str, Json]:
        """The envelope `{id, type, v, time, actor, subject, trace, data}`."""
        return {
            "id": self.id,
            "type": self.type,
            "v": self.v,
            "time": rfc3339(self.time),
            "actor": self.actor,
            "subject": self.subject,
            "trace": self.trace,
            "data": dict(self.data),
        }


class EventPort(Protocol):
    """Where a capability says what happened; it never waits for who listens."""

    def publish(self, event: Event) -> None: ...


class LocalBus:
    """An in-process bus: every subscriber gets every later event; a slow one loses its oldest and is told so."""

    def __init__(self, *, depth: int = 10_000) -> None:
        self._depth = depth
        self._queues: set[asyncio.Queue[Event]] = set()
        self.dropped = 0

    def publish(self, event: Event) -> None:
        """Hand `event` to every subscriber; call from the event loop's thread."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
                self.dropped += 1
            queue.put_nowait(event)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[asyncio.Queue[Event]]:
        """Receive events in a queue for as long as the block lasts."""
        queue: asyncio.Queue[Event] = asyncio.Queue(self._depth)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
