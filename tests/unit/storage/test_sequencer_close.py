"""A stop in the middle of an append: the page that is being written goes into the log once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from remit.kernel.clock import SystemClock
from remit.ledger.checkpoint import Checkpoint
from remit.ledger.directory import TileDirectory
from remit.ledger.note import Ed25519Signer
from remit.storage.sequencer import Sequencer
from stores import opened


def test_a_stop_while_leaves_are_appended_appends_none_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, done, append = threading.Event(), threading.Event(), threading.Event(), TileDirectory.append

    def slow(self: TileDirectory, leaves: Sequence[bytes]) -> Checkpoint:
        first = not begun.is_set()
        begun.set()
        (go_on if first else done).wait(10)
        try:
            return append(self, leaves)
        finally:
            done.set()

    async def steps() -> None:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}") as store:
            signer = Ed25519Signer.from_seed("test.local/log", b"s" * 32)

            def sequencer() -> Sequencer:
                return Sequencer(store, tmp_path / "ledger", signer=signer, clock=SystemClock())

            first = sequencer()
            await first.open()
            monkeypatch.setattr(TileDirectory, "append", slow)
            await store.write(lambda unit: unit.record("a.b.c", actor="x", subject="y"))
            first.notify()
            await asyncio.to_thread(begun.wait, 10)
            closing = asyncio.create_task(first.close())
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            await closing
            second = sequencer()
            await second.open()
            assert second.size == 1
            await second.close()

    asyncio.run(steps())
