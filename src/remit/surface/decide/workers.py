"""Decision workers: processes that share the sockets of the decision listener, each with its own snapshot and log.

The server binds and keeps every socket: `decide.sock` for all, and on TCP one for each worker (SO_REUSEPORT). A socket
whose worker does not serve is served by the server itself, so that no caller meets a worker's start, or its end. A
worker that dies is started again, later each time; it has nothing that could be lost but what nobody was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from typing import Any, Final

import msgspec

from remit.kernel.errors import Misconfigured, RemitError
from remit.surface.decide import callers, wire
from remit.surface.decide.house import Doors, WorkerDesk

_log = logging.getLogger("remit.workers")
MOST: Final = 16
_MODULE: Final = "remit.surface.decide.worker"
_KEPT_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "TMPDIR")
_TICK_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.02
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LIVED_SECONDS: Final = 10.0
_END_SECONDS: Final = 5.0
_SETTLE_SECONDS, _LONGEST_SETTLE = 1.0, 60.0
_SILENT_SECONDS: Final = 5.0
"""After which a worker that says nothing hangs, and is ended."""
_ASLEEP_SECONDS: Final = 1.0


class Slot:
    """The place of one worker: its sockets, and the process that serves them now."""

    def __init__(self, number: int, tcp: list[socket.socket]) -> None:
        self.number = number
        self.tcp = tcp
        self.batches = asyncio.Lock()
        self.process: Process | None = None
        self.channel: wire.Channel | None = None
        self.desk: WorkerDesk | None = None
        self.serving = False
        self.heard = 0.0
        self.starts = 0


class Workers:
    """Starts, feeds and restarts them; `open`, then `close`. Belongs to the event loop.

    `cover` serves a listening socket in this process and returns how to stop; `secured` is the TLS identity of now.
    """

    def __init__(
        self,
        doors: Doors,
        *,
        key: str,
        unix: socket.socket,
        tcp: list[list[socket.socket]],
        cover: Callable[[socket.socket], Any],
        secured: Callable[[], wire.Secured | None],
        changed: Callable[[], object],
    ) -> None:
        self._doors = doors
        self._control = doors.control
        self._key = key
        self._unix = unix
        self._cover = cover
        self._secured = secured
        self._changed = changed
        self.slots = [Slot(number, sockets) for number, sockets in enumerate(tcp, start=1)]
        self._covers: dict[socket.socket, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stamp = 0
        self._closing = False
        self.url = ""

    async def open(self) -> None:
        """Serve every socket here, and start the workers once the server is ready."""
        await self._cover_all()
        self._tasks.append(asyncio.create_task(self._settle_left(), name="remit-decide-left"))
        self._tasks += [
            asyncio.create_task(self._keep(slot), name=f"remit-decide-worker-{slot.number}") for slot in self.slots
        ]
        if self.slots:
            self._tasks.append(asyncio.create_task(self._tick_forever(), name="remit-decide-ticks"))

    async def close(self) -> None:
        """Let the workers write and batch what they have, then end."""
        self._closing = True
        for task in self._tasks:
            if "worker" not in task.get_name():
                task.cancel()
        for slot in self.slots:
            if slot.channel is not None:
                slot.channel.send(wire.Stop())
        await asyncio.gather(*(self._end(slot) for slot in self.slots))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for cover in self._covers.values():
            cover.close()
        for sock in (self._unix, *(one for slot in self.slots for one in slot.tcp)):
            sock.close()

    @property
    def serving(self) -> int:
        """How many serve now."""
        return sum(slot.serving for slot in self.slots)

    def as_json(self) -> list[dict[str, Any]]:
        """Each worker: its pid while it runs, whether it serves, and how often it was started."""
        return [
            {
                "worker": slot.number,
                "pid": slot.process.pid if slot.process is not None else None,
                "serving": slot.serving,
                "starts": slot.starts,
            }
            for slot in self.slots
        ]

    # One worker.

    async def _keep(self, slot: Slot) -> None:
        """Have a process in this slot, always."""
        while not self._control.ready:
            await asyncio.sleep(0.05)
        pause = _PAUSE
        while not self._closing:
            begun = time.monotonic()
            try:
                await self._run(slot)
            except (RemitError, OSError) as error:
                _log.warning("decision worker %d cannot be started: %s", slot.number, error)
            pause = _PAUSE if time.monotonic() - begun > _LIVED_SECONDS else min(_LONGEST_PAUSE, 2 * pause)
            await asyncio.sleep(pause)

    async def _run(self, slot: Slot) -> None:
        """One process, from its start to its end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * wire.MOST_BYTES)
        desk = slot.desk = WorkerDesk(self._doors, slot.number, slot.batches, lambda: self._served(slot))
        gone = asyncio.Event()
        try:
            slot.process = await self._spawned(theirs)
            theirs.close()
            slot.starts += 1
            slot.channel = desk.channel = wire.Channel(ours, wire.ToServer, heard=desk.heard, ended=gone.set)
            await self._begin(slot, slot.channel)
            ended = asyncio.ensure_future(slot.process.wait())
            cut = asyncio.ensure_future(gone.wait())
            await asyncio.wait({ended, cut}, return_when=asyncio.FIRST_COMPLETED)
            cut.cancel()
        finally:
            theirs.close()
            slot.serving = False
            if slot.channel is not None:
                slot.channel.close()
            else:
                ours.close()
            slot.channel = slot.desk = None
            await self._ended(slot)
            await desk.close()
            if not self._closing:
                await self._cover_all()

    async def _ended(self, slot: Slot) -> None:
        """See the process to its end: it has lost its channel, and there is nothing that it could do for anybody."""
        process = slot.process
        if process is None:
            return
        try:
            async with asyncio.timeout(_END_SECONDS):
                code = await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
        slot.process = None
        if not self._closing:
            _log.warning("decision worker %d (process %d) has ended: %s", slot.number, process.pid, code)

    async def _spawned(self, theirs: socket.socket) -> Process:
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULE, str(theirs.fileno()),
            stdin=DEVNULL, stdout=DEVNULL, env=kept, pass_fds=(theirs.fileno(),), cwd="/",
        )  # fmt: skip

    async def _begin(self, slot: Slot, channel: wire.Channel) -> None:
        control = self._control
        async with slot.batches:  # what the one before it sent is in the ledger, or never will be
            batched = await control.decisions.covered(slot.number)
        secured = self._secured()
        begin = wire.Begin(
            node=control.decisions.worker_node(slot.number), folder=str(control.settings.data.ledger / "decisions"),
            batched=batched, key=self._key, shadow_percent=control.settings.access.shadow_percent,
            url=self._doors.tcp.url, tls=secured is not None,
        )  # fmt: skip
        channel.send(begin, [self._unix.fileno(), *(one.fileno() for one in slot.tcp)])
        if secured is not None:
            _send_certificate(channel, secured)
        channel.send(wire.Tick(self._stamp))

    def _served(self, slot: Slot) -> None:
        """It accepts: this process does not, on its socket; and nowhere on `decide.sock`."""
        slot.serving, slot.heard = True, time.monotonic()
        for sock in (*slot.tcp, self._unix):
            cover = self._covers.pop(sock, None)
            if cover is not None:
                cover.close()

    async def _end(self, slot: Slot) -> None:
        process = slot.process
        if process is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    # Sockets that nobody else serves.

    async def _cover_all(self) -> None:
        wanted = [sock for slot in self.slots if not slot.serving for sock in slot.tcp]
        if not self.serving:
            wanted.append(self._unix)
        for sock in wanted:
            if sock not in self._covers:
                self._covers[sock] = await self._cover(sock.dup())

    # What all of them are told.

    async def _tick_forever(self) -> None:
        control, told, tick, before = self._control, 0.0, -1, time.monotonic()
        seen: object = None
        failed: object = None
        certificate = self._changed()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            index = control.enforcers.index
            now = (*callers.revocations_of(control), id(index), control.trust.version)
            moved, clock = now != seen, time.monotonic()
            seen = now
            if moved or self._doors.hall.tick != tick:
                tick = self._doors.hall.tick
                for slot in self.slots:
                    if slot.desk is not None:
                        slot.desk.look_again(tick)
            self._end_silent(clock, we_slept=clock - before > _ASLEEP_SECONDS)
            before = clock
            if moved or clock - told >= _TICK_SECONDS:
                self._stamp, told = self._stamp + moved, clock
                self._tell(wire.Tick(self._stamp))
            if (changed := self._changed()) is not certificate and self._hand_certificate(tried=changed is failed):
                certificate = changed
            else:
                failed = changed

    def _hand_certificate(self, *, tried: bool) -> bool:
        """Whether all workers were sent the certificate that counts now; it is tried again where they were not."""
        secured = self._secured()
        try:
            for slot in self.slots:
                if slot.channel is not None and secured is not None:
                    _send_certificate(slot.channel, secured)
        except OSError as error:
            if not tried:
                _log.error("the workers keep the certificate of before for now: %s", error)
            return False
        return True

    def _end_silent(self, now: float, *, we_slept: bool) -> None:
        """A worker that hangs would keep the connections that the kernel gives it."""
        for slot in self.slots:
            if slot.desk is None or slot.process is None or not slot.serving:
                continue
            slot.heard = now if we_slept else max(slot.heard, slot.desk.counted)
            if now - slot.heard > _SILENT_SECONDS:
                _log.error("decision worker %d hangs", slot.number)
                slot.heard = now
                with contextlib.suppress(ProcessLookupError):
                    slot.process.kill()

    def _tell(self, message: wire.ToWorker) -> None:
        for slot in self.slots:
            if slot.channel is not None:
                slot.channel.send(message)

    async def _settle_left(self) -> None:
        """Bring what workers of an earlier run left into the ledger, where no worker of this run does."""
        while not self._control.ready:
            await asyncio.sleep(0.05)
        decisions = self._control.decisions
        left = await asyncio.to_thread(decisions.left_slots, len(self.slots))
        pause = _SETTLE_SECONDS
        while left:
            slot = left.pop(0)
            try:
                await decisions.settle(slot)
            except RemitError as error:
                _log.warning("decisions of an earlier worker are not in the ledger yet: %s", error)
                left.append(slot)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_SETTLE, 2 * pause)


def require_count(count: int) -> int:
    """`Misconfigured` (`surface.workers.count`) unless it is 0 to 16."""
    if not 0 <= count <= MOST:
        raise Misconfigured(
            "surface.workers.count",
            f"there cannot be `{count}` decision workers",
            next_step=f"set `access.workers` to 0 to {MOST}: a core for each, and one for the server",
        )
    return count


def _send_certificate(channel: wire.Channel, secured: wire.Secured) -> None:
    handle = os.memfd_create("remit", os.MFD_CLOEXEC)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.msgpack.encode(secured))
        file.flush()
        channel.send(wire.Certificate(), [handle])
