"""The ticks of decision workers go on when a certificate cannot be handed over, and it is handed over later."""

from __future__ import annotations

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from remit.surface.decide import wire
from remit.surface.decide.workers import Workers


class Channel:
    """Takes what is sent to a worker."""

    def __init__(self) -> None:
        self.certificates = 0
        self.ticks = 0

    def send(self, message: wire.ToWorker, handles: Any = ()) -> None:
        self.certificates += isinstance(message, wire.Certificate)
        self.ticks += isinstance(message, wire.Tick)


def test_without_a_descriptor_the_ticks_go_on_and_the_certificate_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        control = SimpleNamespace(
            enforcers=SimpleNamespace(index=()), trust=SimpleNamespace(version=1),
            revocations=SimpleNamespace(version=1),
        )  # fmt: skip
        monkeypatch.setattr("remit.surface.decide.workers.callers.revocations_of", lambda control: (1,))
        doors: Any = SimpleNamespace(control=control, hall=SimpleNamespace(tick=0))
        certificates, made = ["old"], os.memfd_create
        unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
        workers = Workers(
            doors, key="k", unix=unix, tcp=[[tcp]], cover=lambda sock: None, changed=lambda: certificates[-1],
            secured=lambda: wire.Secured(b"pem", ()),
        )  # fmt: skip
        channel = Channel()
        workers.slots[0].channel = channel  # type: ignore[assignment]

        def none_left(*args: Any) -> int:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(os, "memfd_create", none_left)
        task = asyncio.create_task(workers._tick_forever())
        try:
            async with asyncio.timeout(60):
                while not channel.ticks:
                    await asyncio.sleep(0.01)
                certificates.append("new")
                before = channel.ticks
                while channel.ticks < before + 2:
                    await asyncio.sleep(0.01)
                assert not channel.certificates
                monkeypatch.setattr(os, "memfd_create", made)
                while not channel.certificates:
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            unix.close()
            tcp.close()
        assert channel.certificates == 1

    asyncio.run(steps())
