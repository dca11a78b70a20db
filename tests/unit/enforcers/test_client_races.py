"""The threads of a client live on, whatever its program does to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from patience import SECONDS
from remit.client.enforce import journal as module
from remit.client.enforce.journal import Journal
from remit.client.identity import Identity
from remit.client.workload import WorkloadApi, X509Context


class Hasty(Future[None]):
    """Who waits for it goes away right after it was asked whether it has gone."""

    def cancelled(self) -> bool:
        said = super().cancelled()
        self.cancel()
        return said


def test_a_caller_that_goes_away_does_not_end_the_writer_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    monkeypatch.setattr(module, "Future", Hasty)
    for record in (b"1", b"2"):
        future = journal.put(record, durable=True)
        assert future is not None
        future.result(SECONDS)
    journal.close()


def test_a_program_that_fails_to_take_a_new_identity_gets_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = X509Context(svids=(), roots={}), X509Context(svids=(), roots={}, crls=(b"x",))
    heard = threading.Event()

    async def watch(self: WorkloadApi) -> AsyncIterator[X509Context]:
        yield first
        yield second
        await asyncio.Event().wait()

    def on_change(context: X509Context) -> None:
        if context is first:
            raise RuntimeError("the program's own")
        heard.set()

    monkeypatch.setattr(WorkloadApi, "watch_x509", watch)
    identity = Identity("unix:///nowhere", on_change=on_change)
    assert heard.wait(SECONDS / 4)
    assert identity.x509 is second
    identity.close()
