"""What the server does for one decision worker: says who its callers are, feeds it, takes its batches, serves the rest.

A worker decides; who somebody is, what was revoked, and what the ledger holds is known here alone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine, Hashable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.access.enforcers.model import Asker, Enforcer
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Denied, RemitError, Unavailable
from remit.surface.api.metrics import DECISIONS
from remit.surface.decide import callers, wire
from remit.surface.decide.doors import TcpDoor, UnixDoor, UnixGuest
from remit.surface.decide.hall import Door, Hall
from remit.surface.decide.http import Connection, Exchange
from remit.surface.decide.tokens import TokenDesk
from remit.surface.mtls import verify_chain
from remit.trust.process import Peer
from remit.wiring import ControlPlane

if TYPE_CHECKING:
    from datetime import datetime

_log = logging.getLogger("remit.workers")
_MOST_TASKS: Final = 8192
_FEED: Final = "http://localhost"


class Doors:
    """What the desks of all workers share with the server's own listener."""

    def __init__(self, control: ControlPlane, hall: Hall, tokens: TokenDesk, *, unix: UnixDoor, tcp: TcpDoor) -> None:
        self.control = control
        self.hall = hall
        self.tokens = tokens
        self.unix = unix
        self.tcp = tcp


class WorkerDesk:
    """Serves one worker over its channel, until `close`. Belongs to the event loop."""

    def __init__(self, doors: Doors, slot: int, batches: asyncio.Lock, serving: Any) -> None:
        self._doors = doors
        self._control = doors.control
        self._slot = slot
        self._batches = batches
        self._serving = serving
        self._point = point_of_worker(slot, doors.control.clock.now())
        self._processes: dict[int, UnixGuest] = {}
        self._holders: dict[int, callers.SvidGuest | callers.Refused] = {}
        self._said: dict[int, object] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.channel: wire.Channel | None = None
        self.counted = 0.0
        """When it last said how much it decided: every second."""

    def heard(self, message: wire.ToServer, fds: list[int]) -> None:
        """What the worker says. Descriptors are ours now."""
        try:
            if isinstance(message, wire.Enter):
                self._enter(message, fds)
            elif isinstance(message, wire.Adopt):
                self._adopt(message, fds)
            elif isinstance(message, wire.Token):
                self._spawn(self._token(message))
            elif isinstance(message, wire.Batched):
                self._spawn(self._batch(message))
            elif isinstance(message, wire.Leave):
                self._leave(message.guest)
            elif isinstance(message, wire.Shown):
                found = msgspec.json.decode(message.record)
                self._control.decisions.publish(found, parse_rfc3339(found["time"]))
            elif isinstance(message, wire.Counted):
                self.counted = time.monotonic()
                DECISIONS.labels("true").inc(message.allowed)
                DECISIONS.labels("false").inc(message.denied)
            else:
                self._serving()
        finally:
            wire.close_all(fds)

    async def close(self) -> None:
        """Forget its callers; batches that are on their way into the ledger arrive."""
        for task in self._tasks:
            if task.get_name() != "batch":
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look_again(self, tick: int) -> None:
        """Ask of every certificate whether it still counts, and say where that differs."""
        for number in list(self._holders):
            self._tell_holder(number, tick)

    # Callers.

    def _enter(self, message: wire.Enter, fds: list[int]) -> None:
        if message.chain:
            try:
                svid = verify_chain(self._control, message.chain)
                self._holders[message.guest] = callers.SvidGuest(self._control, svid, source=message.source)
            except RemitError as error:
                refused = Denied("surface.proof.refused", error.message, next_step=error.next_step)
                self._holders[message.guest] = callers.Refused(refused)
            self._tell_holder(message.guest, self._doors.hall.tick)
            return
        pidfd = fds.pop() if fds else -1
        peer = Peer(
            pid=message.pid, uid=message.uid, gid=message.gid, pidfd=pidfd, start_ticks=message.start_ticks
        )  # fmt: skip
        guest = self._processes[message.guest] = UnixGuest()
        guest.task = self._spawn(self._follow(message.guest, guest, peer))
        guest.task.add_done_callback(lambda _: peer.close())

    async def _follow(self, number: int, guest: UnixGuest, peer: Peer) -> None:
        with peer:
            try:
                await self._doors.unix.follow(peer, guest, lambda: self._tell_process(number, guest))
            except (RemitError, OSError):  # it has ended
                self._send(wire.Seen(number, gone=True))
            finally:
                guest.gone = True
                guest.seen.set()

    def _tell_process(self, number: int, guest: UnixGuest) -> None:
        known = guest.seen.is_set() and guest.index is self._control.enforcers.index
        self._send(_seen(number, guest.asker if known else None, guest.refusal if known else None))

    def _tell_holder(self, number: int, tick: int) -> None:
        asker = error = None
        try:
            asker = self._holders[number].current(tick)
        except RemitError as refused:
            error = refused
        said: object = asker if asker is not None else (str(error), type(error))
        if self._said.get(number) != said:
            self._said[number] = said
            self._send(_seen(number, asker, error))

    def _leave(self, number: int) -> None:
        self._holders.pop(number, None)
        self._said.pop(number, None)
        guest = self._processes.pop(number, None)
        if guest is not None and guest.task is not None:
            guest.task.cancel()

    async def _token(self, message: wire.Token) -> None:
        try:
            holder = self._holders.get(message.guest)
            svid = None
            if holder is not None:
                holder.current(self._doors.hall.tick)
                svid = holder.svid
            elif message.guest:
                raise Denied("surface.proof.refused", "the connection of this token is gone")
            asker = await self._doors.tokens.asker(
                message.authorization, message.dpop, path=message.path, base=self._doors.tcp.url, svid=svid,
                source=message.source,
            )  # fmt: skip
        except RemitError as error:
            self._send(wire.Answer(message.call, refusal=wire.refusal_of(error)))
            return
        until = self._doors.tokens.until(message.authorization)
        self._send(wire.Answer(message.call, wire.guest_of(asker), until=until.timestamp() if until else 0.0))

    # The ledger, and what a worker does not serve by itself.

    async def _batch(self, message: wire.Batched) -> None:
        asyncio.current_task().set_name("batch")  # type: ignore[union-attr]
        try:
            async with self._batches:
                await self._control.decisions.enter_batch(self._slot, message.data)
        except RemitError as error:
            self._send(wire.Answer(message.call, refusal=wire.refusal_of(error)))
            return
        self._send(wire.Answer(message.call))

    def _adopt(self, message: wire.Adopt, fds: list[int]) -> None:
        if len(fds) != 1:
            return
        sock = socket.socket(fileno=fds.pop())
        sock.setblocking(False)
        door = self._door(message)
        self._spawn(self._connect(sock, door))

    def _door(self, message: wire.Adopt) -> Door:
        if message.feed:
            return _FeedDoor(Asker(name=f"enforcer:{self._point.name}", enforcer=self._point))
        if message.guest in self._processes:
            return _ProcessDoor(self._doors.unix, self._processes[message.guest], message.party)
        holder = self._holders.get(message.guest)
        if message.guest and holder is None:
            holder = callers.Refused(Denied("surface.proof.refused", "the connection of this request is gone"))
        return _HolderDoor(self._doors, holder, message)

    async def _connect(self, sock: socket.socket, door: Door) -> None:
        make: Any = lambda: Connection(self._doors.hall, door)  # noqa: E731
        try:
            await asyncio.get_running_loop().connect_accepted_socket(make, sock)
        except OSError:
            sock.close()

    def _send(self, message: wire.ToWorker) -> None:
        if self.channel is not None:
            self.channel.send(message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if len(self._tasks) >= _MOST_TASKS and self.channel is not None:
            self.channel.close()  # it asks more than it can have callers
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a decision worker could not be served", exc_info=error)


class _FeedDoor:
    """The worker itself: it gets the stream of every resource."""

    url = _FEED

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def host(self, connection: Connection) -> Hashable:
        return self._asker.name

    def enter(self, connection: Connection) -> None: ...
    def leave(self, connection: Connection) -> None: ...

    def is_known(self, exchange: Exchange) -> bool:
        return False

    def asker(self, connection: Connection) -> Asker | None:
        return self._asker

    async def ask(self, exchange: Exchange) -> Asker:
        if exchange.authorization:
            raise Denied("surface.proof.refused", "a worker shows no token")
        return self._asker


class _ProcessDoor:
    """A request of a process that is connected to a worker."""

    url = UnixDoor.url

    def __init__(self, unix: UnixDoor, guest: UnixGuest, party: str) -> None:
        self._unix = unix
        self._guest = guest
        self._party = party

    def host(self, connection: Connection) -> Hashable:
        return self._party

    def enter(self, connection: Connection) -> None:
        connection.guest = self._guest

    def leave(self, connection: Connection) -> None: ...

    def is_known(self, exchange: Exchange) -> bool:
        return False

    def asker(self, connection: Connection) -> Asker | None:
        if self._guest.gone:
            raise Unavailable("trust.service.closed", "the process is gone")
        return self._unix.asker(connection)

    async def ask(self, exchange: Exchange) -> Asker:
        return await self._unix.ask(exchange)


class _HolderDoor:
    """A request that came to a worker over TCP: by its certificate or token."""

    def __init__(self, doors: Doors, holder: callers.SvidGuest | callers.Refused | None, message: wire.Adopt) -> None:
        self._doors = doors
        self._holder = holder
        self._party = message.party
        self._source = message.source
        self.url = doors.tcp.url

    def host(self, connection: Connection) -> Hashable:
        return self._party

    def enter(self, connection: Connection) -> None:
        connection.guest = self._holder

    def leave(self, connection: Connection) -> None: ...

    def is_known(self, exchange: Exchange) -> bool:
        return self._doors.tcp.is_known(exchange)

    def asker(self, connection: Connection) -> Asker | None:
        return self._doors.tcp.asker(connection)

    async def ask(self, exchange: Exchange) -> Asker:
        if not exchange.authorization:
            return await self._doors.tcp.ask(exchange)
        svid = None
        if self._holder is not None:
            self._holder.current(self._doors.hall.tick)
            svid = self._holder.svid
        return await self._doors.tokens.asker(
            exchange.authorization.decode("latin-1"), exchange.dpop.decode("latin-1"),
            path=exchange.path.decode("latin-1"), base=self.url, svid=svid, source=self._source,
        )  # fmt: skip


def point_of_worker(slot: int, now: datetime) -> Enforcer:
    """What the stream of a worker is cut for: every resource. It is no registration, and nobody can prove it."""
    return Enforcer(
        id=f"worker:{slot}", name=f"worker-{slot}", spiffe_id=f"worker:{slot}", created=now, created_by="system:decide"
    )


def _seen(number: int, asker: Asker | None, error: RemitError | None) -> wire.Seen:
    return wire.Seen(
        number,
        wire.guest_of(asker) if asker is not None and error is None else None,
        wire.refusal_of(error) if error is not None else None,
    )
