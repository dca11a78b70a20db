"""AREA=ledger: append with group commit, tiles, verification; against raw inserts, and against hashing alone."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bench.race import Row, race, scaled
from remit.kernel.clock import SystemClock
from remit.ledger import Ed25519Signer, TileDirectory, verify_directory
from remit.storage.sqlite import SqliteStore

_FLOOR = 20_000
_GROUP = 1024
_DATA = {
    "lease": "ls_01J00000000000000000000000",
    "target": "orders",
    "state": "revoked",
    "attempt": 1,
    "reason": "ended",
}
_SEED = bytes(32)


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area, one by one."""
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        root = Path(folder)
        tell("append with group commit")
        leaves: list[bytes] = []
        yield from _append(root, leaves)
        tell("tiles")
        yield _tiles(root, leaves)
        tell("verification")
        yield _verify(root, leaves)


def _append(root: Path, leaves: list[bytes]) -> Iterator[Row]:
    """Fills `leaves` with what was written, for the measurements that follow."""
    entries = scaled(40_000, 400)
    names = count()

    def ours() -> float:
        path = root / f"ours-{next(names)}.db"
        seconds, written = asyncio.run(_write(path, entries))
        leaves[:] = written
        return entries / seconds

    def raw() -> float:
        return entries / _insert(root / f"raw-{next(names)}.db", leaves)

    ours()
    mine, theirs = race(ours, raw)
    yield Row(
        name="append, group commit on SQLite", ours=mine, unit="entries/s", against="floor", theirs=_FLOOR,
        better="higher", bar=1.0,
    )  # fmt: skip
    yield Row(
        name="append, group commit on SQLite", ours=mine, unit="entries/s",
        against="raw sqlite3 inserts of the same bytes", theirs=theirs, better="higher", bar=0.1,
    )  # fmt: skip


async def _write(path: Path, entries: int) -> tuple[float, list[bytes]]:
    """Many commands at once, each recording one entry and answered after its commit."""
    store = SqliteStore(path, clock=SystemClock(), published=lambda events: None)
    await asyncio.to_thread(store.migrate)
    store.start()

    def command(unit: Any) -> None:
        unit.record("access.lease.revoked", actor="system:bench", subject="ls_01J00000000000000000000000", data=_DATA)

    try:
        begun = time.perf_counter()
        for chunk in range(0, entries, 4 * _GROUP):
            number = min(4 * _GROUP, entries - chunk)
            await asyncio.gather(*(store.write(command) for _ in range(number)))
        seconds = time.perf_counter() - begun
        return seconds, await store.read(lambda unit: unit.ledger.leaves(0, entries))
    finally:
        await store.close()


def _insert(path: Path, leaves: Sequence[bytes]) -> float:
    """The same bytes, the same durability, in transactions of the same size, by the driver alone."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE entry (leaf_index INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    begun = time.perf_counter()
    for start in range(0, len(leaves), _GROUP):
        connection.execute("BEGIN IMMEDIATE")
        rows = list(enumerate(leaves[start : start + _GROUP], start))
        connection.executemany("INSERT INTO entry VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def _tiles(root: Path, leaves: Sequence[bytes]) -> Row:
    """Tiles, one sync and one signed checkpoint for each group, against hashing the same bytes once."""
    names = count()
    entries = len(leaves)

    def ours() -> float:
        folder = root / f"tiles-{next(names)}"
        directory = _open(folder)
        begun = time.perf_counter()
        for start in range(0, entries, 4 * _GROUP):
            directory.append(leaves[start : start + 4 * _GROUP])
        return entries / (time.perf_counter() - begun)

    ours()
    mine, theirs = race(ours, lambda: entries / _hash(leaves))
    return Row(
        name="tiles appended and signed", ours=mine, unit="entries/s", against="sha256 of the same bytes",
        theirs=theirs, better="higher", bar=0.05,
    )  # fmt: skip


def _verify(root: Path, leaves: Sequence[bytes]) -> Row:
    """The offline verifier over the whole log, against hashing the same bytes once."""
    folder = root / "log"
    directory = _open(folder)
    directory.append(leaves)
    key = _signer().key

    def ours() -> float:
        begun = time.perf_counter()
        found = verify_directory(folder, key)
        assert found.size == len(leaves)
        return len(leaves) / (time.perf_counter() - begun)

    mine, theirs = race(ours, lambda: len(leaves) / _hash(leaves))
    return Row(
        name="verified offline", ours=mine, unit="entries/s", against="sha256 of the same bytes", theirs=theirs,
        better="higher", bar=0.05,
    )  # fmt: skip


def _open(folder: Path) -> TileDirectory:
    return TileDirectory.open(folder, signer=_signer(), leaves=lambda start: iter(()))


def _signer() -> Ed25519Signer:
    return Ed25519Signer.from_seed("remit.local/bench", _SEED)


def _hash(leaves: Sequence[bytes]) -> float:
    begun = time.perf_counter()
    for leaf in leaves:
        hashlib.sha256(leaf).digest()
    return time.perf_counter() - begun
