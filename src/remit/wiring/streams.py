"""Streams of the snapshot to enforcement points that decide by themselves: bounded in number, memory and patience.

Each stream follows the decision point's cell at its reader's pace. What it missed meanwhile is one change; a reader
that does not read for some seconds is dropped, and begins anew. Nobody but registered points has one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from remit.access import stream
from remit.access.enforcers.model import Enforcer
from remit.access.scope import Scope
from remit.access.snapshot import Delta, Snapshot, SnapshotCell, difference
from remit.kernel.clock import Clock
from remit.kernel.errors import Unavailable

T = TypeVar("T")

MOST: Final = 256
"""Streams at the same time."""
MOST_OF_ONE: Final = 32
"""Of one point: each process of it has its own."""
_REMEMBERED: Final = 32_768
"""Deltas by which a stream can be taken up again, or can catch up."""
_REMEMBERED_ENTRIES: Final = 50_000
_MOST_DIFFERENT: Final = 50_000
"""Entries of one change; beyond, the whole is sent again."""
_TOGETHER: Final = 256
"""Deltas that travel as one change, when a reader is behind."""
_ROWS: Final = 512
"""Of one part: some hundred kilobytes."""


class SnapshotStreams:
    """The streams over one cell. Belongs to the event loop."""

    def __init__(self, cell: SnapshotCell, seed: bytes, *, clock: Clock) -> None:
        self._cell = cell
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._clock = clock
        self.incarnation = secrets.token_hex(16)
        self._deltas: OrderedDict[int, Delta] = OrderedDict()
        self._entries = 0
        self._moved = asyncio.Event()
        self._open: Counter[str] = Counter()
        self._stop_following = cell.follow(self._follow)
        self._closed = False

    @property
    def public_key(self) -> str:
        """What receivers pin."""
        return public_key(self._key)

    @property
    def count(self) -> int:
        """Streams that are open."""
        return self._open.total()

    def close(self) -> None:
        """End every stream soon."""
        if not self._closed:
            self._closed = True
            self._stop_following()
            self._moved.set()

    @contextmanager
    def admit(self, point: Enforcer) -> Iterator[None]:
        """Room for one more stream. `Unavailable` (`access.snapshot.full`)."""
        if self._closed or self._open.total() >= MOST or self._open[point.id] >= MOST_OF_ONE:
            raise Unavailable(
                "access.snapshot.full",
                "as many snapshot streams are open as may be",
                next_step=f"let at most {MOST_OF_ONE} processes of one point hold a stream; try again later",
                retry_after=timedelta(seconds=5),
            )
        self._open[point.id] += 1
        try:
            yield
        finally:
            self._open[point.id] -= 1
            if not self._open[point.id]:
                del self._open[point.id]

    async def frames(self, point: Enforcer, ask: stream.Ask) -> AsyncIterator[bytes]:
        """Frames for one reader, as they travel, until `close`: the caller asks for the next when that one is gone."""
        signer = stream.FrameSigner(self._key, stream.stream_name(ask.nonce, point.spiffe_id))
        reader = _Reader(self, Scope(point), bytes.fromhex(ask.nonce))
        async for frame in reader.run(ask):
            yield signer.write(frame)

    # For readers.

    @property
    def cell(self) -> SnapshotCell:
        return self._cell

    @property
    def closed(self) -> bool:
        return self._closed

    def now(self) -> float:
        return self._clock.monotonic()

    async def moved(self) -> None:
        """Return when the snapshot changed, or it is time for a beat."""
        with suppress(TimeoutError):
            async with asyncio.timeout(stream.BEAT_SECONDS):
                await self._moved.wait()

    def between(self, base: int, sequence: int) -> list[Delta] | None:
        """The deltas that lead from one to the other; None when one of them is not remembered."""
        wanted = range(base + 1, sequence + 1)
        if len(wanted) > len(self._deltas):
            return None
        found = [delta for number in wanted if (delta := self._deltas.get(number)) is not None]
        return found if len(found) == len(wanted) else None

    def _follow(self, delta: Delta | None) -> None:
        if delta is None:
            self._deltas.clear()
            self._entries = 0
        else:
            self._deltas[delta.sequence] = delta
            self._entries += _size(delta)
            while len(self._deltas) > _REMEMBERED or self._entries > _REMEMBERED_ENTRIES:
                self._entries -= _size(self._deltas.popitem(last=False)[1])
        self._moved.set()
        self._moved = asyncio.Event()


class _Reader:
    """One stream: where its reader stands, and what comes next for it."""

    def __init__(self, streams: SnapshotStreams, scope: Scope, nonce: bytes) -> None:
        self._streams = streams
        self._scope = scope
        self._nonce = nonce
        self._at: Snapshot = streams.cell.current()
        self._held: dict[str, Any] = {}
        """The resources that a point which is held to some of them has got."""

    async def run(self, ask: stream.Ask) -> AsyncIterator[stream.Frame]:
        known = self._known(ask)
        yield self._hello(known)
        if known is None:
            async for part in self._whole():
                yield part
        else:
            if self._scope.limited:
                self._held = await asyncio.to_thread(self._scope.resources, self._at)
            for change in known:
                yield change
        while not self._streams.closed:
            current = self._streams.cell.current()
            if current.sequence != self._at.sequence:
                changes = await self._changes(current)
                if changes is None:
                    return  # too much changed: the reader begins anew
                for change in changes:
                    yield change
            yield stream.Beat(sequence=self._at.sequence, heartbeat=current.heartbeat)
            if self._streams.cell.current().sequence == self._at.sequence:
                await self._streams.moved()

    def _hello(self, known: list[stream.Change] | None) -> stream.Hello:
        return stream.Hello(
            version=stream.VERSION,
            incarnation=self._streams.incarnation,
            scope=self._scope.point.digest,
            epoch=self._at.epoch,
            sequence=self._at.sequence if known is None or not known else known[0].base,
            whole=known is None,
            point=dict(self._scope.point.as_json()),
            clock=self._streams.now(),
            heartbeat=self._at.heartbeat,
        )

    def _known(self, ask: stream.Ask) -> list[stream.Change] | None:
        """What the reader misses since it was here, if we remember all of it; None: it needs the whole."""
        same = ask.incarnation == self._streams.incarnation and ask.scope == self._scope.point.digest
        deltas = self._streams.between(ask.sequence, self._at.sequence) if same else None
        if deltas is None or ask.sequence > self._at.sequence:
            return None
        if self._scope.limited and any(_moves_resources(delta) for delta in deltas):
            return None
        return [self._change(delta) for delta in _together(deltas)]

    def _change(self, delta: Delta, **scoped: Any) -> stream.Change:
        base = delta.sequence - 1 if delta.base is None else delta.base
        return stream.write_change(delta, base=base, heartbeat=self._at.heartbeat, **scoped)

    async def _changes(self, current: Snapshot) -> list[stream.Change] | None:
        """From where the reader stands to `current`; None when that is too much."""
        before, self._at = self._at, current
        if current.gap or current.sequence < before.sequence:
            return None
        deltas = self._streams.between(before.sequence, current.sequence)
        if deltas is None:
            found = await asyncio.to_thread(difference, before, current, most=_MOST_DIFFERENT)
            if found is None:
                return None
            deltas = [found]
        deltas = _together(deltas)
        if not self._scope.limited:
            return [self._change(delta) for delta in deltas]
        *first, last = deltas
        scoped = await self._recut(current) if any(_moves_resources(delta) for delta in deltas) else {"resources": {}}
        return [*(self._change(delta, resources={}) for delta in first), self._change(last, **scoped)]

    async def _recut(self, current: Snapshot) -> dict[str, Any]:
        """Cut the resources anew: what comes, what goes, and the fence around them."""
        held = await asyncio.to_thread(self._scope.resources, current)
        before, self._held = self._held, held
        moved: dict[str, Any] = {name: facts for name, facts in held.items() if before.get(name) != facts}
        moved |= {name: None for name in before if name not in held}
        fence = await asyncio.to_thread(self._scope.fence, current, held, self._nonce)
        return {"resources": moved, "fence": fence}

    async def _whole(self) -> AsyncIterator[stream.Frame]:
        at = self._at
        yield stream.Part(policies=stream.write_policies(at.policies), bounds=stream.write_policies(at.bounds))
        # A snapshot never changes: its items can be read on across the pauses of a slow reader.
        for identities in _cut(value for _, value in at.identities.items()):
            yield stream.Part(identities=tuple(identities))
        held = await asyncio.to_thread(self._scope.resources, at)
        for resources in _cut(iter(held.values())):
            yield stream.Part(resources=tuple(resources))
        for grants in _cut(value for _, value in at.grants.items()):
            yield stream.Part(grants=tuple(grants))
        for exceptions in _cut(value for _, value in at.exceptions.items()):
            yield stream.Part(exceptions=tuple(exceptions))
        for pairs in _cut(at.revoked.items()):
            yield stream.Part(revoked=dict(pairs))
        for pairs in _cut(at.quarantined.items()):
            yield stream.Part(quarantined=dict(pairs))
        for moments in _cut(at.stepped_up.items()):
            yield stream.Part(stepped_up=dict(moments))
        if self._scope.limited:
            self._held = held
            fence = await asyncio.to_thread(self._scope.fence, at, held, self._nonce)
            for begin in range(0, len(fence), 1 << 20):
                yield stream.Part(fence=fence[begin : begin + (1 << 20)])
        yield stream.Ready(heartbeat=self._at.heartbeat)


def public_key(key: Ed25519PrivateKey) -> str:
    """The verification key as people pin it."""
    return stream.write_key(key.public_key().public_bytes_raw())


def public_key_of(seed: bytes) -> str:
    """The same, of the secret seed."""
    return public_key(Ed25519PrivateKey.from_private_bytes(seed))


def _moves_resources(delta: Delta) -> bool:
    """Whether what a point held to some resources must know may be another set afterwards."""
    return bool(delta.resources) or delta.policies is not None or delta.bounds is not None


def _together(deltas: list[Delta]) -> list[Delta]:
    """The same in fewer deltas: each of up to 256 that follow one another."""
    return [_merged(deltas[begin : begin + _TOGETHER]) for begin in range(0, len(deltas), _TOGETHER)]


def _merged(deltas: list[Delta]) -> Delta:
    first, last = deltas[0], deltas[-1]
    if first is last:
        return first
    parts: dict[str, dict[str, Any]] = {}
    for name in ("identities", "resources", "grants", "revoked", "quarantined", "exceptions", "stepped_up"):
        into: dict[str, Any] = {}
        for delta in deltas:
            for key, value in getattr(delta, name).items():
                into.pop(key, None)  # in the order of the last changes: of two that take one name, the later has it
                into[key] = value
        parts[name] = into
    policies = [delta.policies for delta in deltas if delta.policies is not None]
    bounds = [delta.bounds for delta in deltas if delta.bounds is not None]
    return Delta(
        epoch=last.epoch,
        sequence=last.sequence,
        base=first.sequence - 1 if first.base is None else first.base,
        policies=policies[-1] if policies else None,
        bounds=bounds[-1] if bounds else None,
        **parts,
    )


def _size(delta: Delta) -> int:
    parts = (delta.identities, delta.resources, delta.grants, delta.revoked, delta.quarantined, delta.exceptions,
             delta.stepped_up)  # fmt: skip
    policies = 0 if delta.policies is None else len(delta.policies.policies)
    return 1 + policies + sum(len(part) for part in parts)


def _cut(rows: Iterator[T]) -> Iterator[list[T]]:
    while piece := list(islice(rows, _ROWS)):
        yield piece
