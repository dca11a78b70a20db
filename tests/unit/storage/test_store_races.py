"""A command, its group and its caller: one that fails, or goes away, takes nothing from the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.kernel.clock import SystemClock
from remit.kernel.errors import Unavailable
from remit.kernel.events import Event
from remit.ledger.note import Ed25519Signer
from remit.storage.postgres import PostgresStore
from remit.storage.sequencer import Sequencer
from stores import opened


def recording(unit: Any) -> str:
    unit.record("a.b.c", actor="x", subject="y")
    return "done"


def exhausted(unit: Any) -> Any:
    return next(iter(()))


def test_a_command_that_runs_out_of_an_iterator_leaves_its_group_answered(tmp_path: Path) -> None:
    async def steps() -> None:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}") as store, asyncio.timeout(30):
            answers = await asyncio.gather(store.write(exhausted), store.write(recording), return_exceptions=True)
            assert [type(each) for each in answers] == [RuntimeError, str]
            with pytest.raises(RuntimeError):
                await store.read(exhausted)

    asyncio.run(steps())


class Committed:
    """Stands for the transaction of a server that has committed, and whose answer is still under way."""

    def __init__(self, event: Event) -> None:
        self.begun, self.answer = asyncio.Event(), asyncio.Event()
        self._event = event

    async def __call__(self, work: Callable[[Any], Any]) -> tuple[Any, list[Event]]:
        self.begun.set()
        await self.answer.wait()
        return "done", [self._event]


def test_what_was_committed_for_a_caller_that_went_away_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        clock, published = SystemClock(), list[Event]()
        store = PostgresStore("postgresql://nobody@127.0.0.1:1/none", clock=clock, published=published.extend)
        event = Event(id="ev_1", type="a.b.c", time=clock.now(), actor="x", subject="y", data={})
        committed = Committed(event)
        monkeypatch.setattr(store, "_write_once", committed)
        writing = asyncio.create_task(store.write(recording))
        await committed.begun.wait()
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
        committed.answer.set()
        await store.close()
        assert published == [event]

    asyncio.run(steps())


def test_a_checkpoint_that_cannot_be_read_once_does_not_end_the_sequencer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, read = [OSError(24, "too many open files")], Path.read_bytes

    def once(self: Path) -> bytes:
        if self.name == "checkpoint" and failures:
            raise failures.pop()
        return read(self)

    async def steps() -> None:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}") as store, asyncio.timeout(30):
            signer = Ed25519Signer.from_seed("test.local/log", b"s" * 32)
            sequencer = Sequencer(store, tmp_path / "ledger", signer=signer, clock=SystemClock())
            await sequencer.open()
            monkeypatch.setattr(Path, "read_bytes", once)
            for size in (1, 2):
                await store.write(recording)
                sequencer.notify()
                while sequencer.size < size or failures:
                    with contextlib.suppress(Unavailable):
                        await sequencer.covered(size)
                    await asyncio.sleep(0)
            await sequencer.close()

    asyncio.run(steps())
