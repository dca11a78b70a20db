"""The doors of the decision listener: who comes through each, by proof.

Unix socket    the process at the other end, attested when it connects and again whenever that could have changed
mutual TLS     the X.509-SVID of the handshake, asked again for each request whether it still counts
bearer token   an access token of ours (RFC 6750, RFC 9449), on TLS, or on the loopback interface without it
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from remit.access.enforcers.model import Asker
from remit.kernel.errors import Denied, RemitError, Unavailable
from remit.providers.tls import peer_chain
from remit.surface.agent.peer import peer_of_transport, uid_of_transport
from remit.surface.agent.programs import Programs
from remit.surface.decide import callers
from remit.surface.mtls import verify_chain
from remit.surface.peers import address_of_peer
from remit.wiring import ControlPlane

if TYPE_CHECKING:
    from remit.surface.decide.http import Connection, Exchange
    from remit.surface.decide.tokens import TokenDesk

_ATTESTED_SECONDS: Final = 30.0
"""How old what was seen of a connected process may get before it is looked at again."""
_LOOKS_AT_ONCE: Final = 8
_TRIES: Final = 5


class UnixGuest:
    """A process at the other end of a Unix socket."""

    __slots__ = ("asker", "gone", "index", "refusal", "seen", "task")

    def __init__(self) -> None:
        self.asker: Asker | None = None
        self.refusal: RemitError | None = None
        self.index: object = None
        """The registrations of which it was found, or not, to be one."""
        self.seen = asyncio.Event()
        self.gone = False
        """The connection is no more: nobody will look again."""
        self.task: asyncio.Task[None] | None = None


class UnixDoor:
    """`decide.sock`: any local user may connect; a process is who its attestation says, for as long as it lives."""

    url = "http://localhost"

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._programs = Programs()
        self._looks = asyncio.Semaphore(_LOOKS_AT_ONCE)

    def host(self, connection: Connection) -> Hashable:
        try:
            return f"uid:{uid_of_transport(connection.transport)}"
        except (RemitError, OSError):
            return "uid:unknown"

    def enter(self, connection: Connection) -> None:
        guest = connection.guest = UnixGuest()
        connection.transport.pause_reading()  # nothing is read before we know who it is
        guest.task = asyncio.get_running_loop().create_task(self._follow(connection, guest))

    def leave(self, connection: Connection) -> None:
        guest: UnixGuest | None = connection.guest
        if guest is not None and guest.task is not None:
            guest.task.cancel()
            guest.gone = True
            guest.seen.set()  # a request may wait for it still

    def is_known(self, exchange: Exchange) -> bool:
        return False  # a token says nothing here

    def asker(self, connection: Connection) -> Asker | None:
        guest: UnixGuest = connection.guest
        if guest.index is not self._control.enforcers.index:
            guest.seen.clear()  # `_follow` has heard of it, and looks
            return None
        if guest.refusal is not None:
            raise guest.refusal
        return guest.asker

    async def ask(self, exchange: Exchange) -> Asker:
        """Wait until the process was looked at; a token makes it nobody else here."""
        guest: UnixGuest = exchange.connection.guest
        for _ in range(_TRIES):
            if guest.gone:
                break
            found = self.asker(exchange.connection)
            if found is not None:
                return found
            await guest.seen.wait()
        raise Unavailable("trust.service.closed", "the process is being looked at again")

    async def _follow(self, connection: Connection, guest: UnixGuest) -> None:
        """Attest the process, let it in, and attest it again on each change; its end ends the connection."""
        try:
            first = True

            def looked() -> None:
                nonlocal first
                if first:
                    first = False
                    connection.transport.resume_reading()

            with peer_of_transport(connection.transport) as peer:
                await self.follow(peer, guest, looked)
        except RemitError as error:  # it has ended, or its socket is none that the kernel knows
            guest.asker, guest.refusal, guest.index = None, error, self._control.enforcers.index
            guest.seen.set()
            connection.abort()
        except OSError:
            connection.abort()

    async def follow(self, peer: Any, guest: UnixGuest, told: Callable[[], None]) -> None:
        """Keep `guest` in step with the process, telling of each look and of each change, until it ends.

        Raises `RemitError` then.
        """
        async with self._programs.watching(peer) as program:
            while True:
                version, index = self._control.trust.version, self._control.enforcers.index
                program.rearm()
                await self._look(guest, peer, index)
                told()
                await self._change(peer, program, version, index)
                if program.changed.done():
                    guest.asker = None
                    guest.seen.clear()
                if program.changed.done() or self._control.enforcers.index is not index:
                    told()

    async def _look(self, guest: UnixGuest, peer: Any, index: object) -> None:
        async with self._looks:
            try:
                guest.asker, guest.refusal = await callers.of_peer(self._control, peer), None
            except Denied as denied:
                guest.asker, guest.refusal = None, denied
        guest.index = index
        guest.seen.set()

    async def _change(self, peer: Any, program: Any, version: int, index: Any) -> None:
        """Return when there is a reason to look again; `Rejected` (`trust.peer.gone`) when the process has ended."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        if peer.pidfd >= 0:
            loop.add_reader(peer.pidfd, lambda: None if ended.done() else ended.set_result(None))
        moved = asyncio.ensure_future(self._control.trust.changed(version))
        registered = asyncio.ensure_future(self._control.enforcers.changed(index))
        try:
            awaited: set[Any] = {ended, moved, registered, program.changed}
            await asyncio.wait(awaited, timeout=_ATTESTED_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
            registered.cancel()
            if peer.pidfd >= 0:
                loop.remove_reader(peer.pidfd)
        if ended.done():
            raise Denied("access.enforcer.stranger", "the process at the other end has ended")


class TcpDoor:
    """TCP: an X.509-SVID where TLS brought one, else an access token with each request."""

    def __init__(self, control: ControlPlane, tokens: TokenDesk, *, tls: bool) -> None:
        self._control = control
        self._tokens = tokens
        self._tls = tls
        self.url = ""

    def host(self, connection: Connection) -> Hashable:
        found = connection.transport.get_extra_info("peername")
        return f"address:{found[0]}" if isinstance(found, tuple) else "address:unknown"

    def enter(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._tls:
            return
        chain = peer_chain(connection.transport.get_extra_info("ssl_object"))
        if not chain:
            return
        try:
            svid = verify_chain(self._control, chain)
            connection.guest = callers.SvidGuest(self._control, svid, source=_source(connection))
        except RemitError as error:
            connection.guest = callers.Refused(
                Denied("surface.proof.refused", error.message, next_step=error.next_step)
            )

    def leave(self, connection: Connection) -> None:
        connection.guest = None

    def asker(self, connection: Connection) -> Asker | None:
        guest: callers.SvidGuest | callers.Refused | None = connection.guest
        if guest is None:
            raise Denied("surface.proof.missing", "this needs proof of who calls", next_step=_HOW)
        return guest.current(connection.hall.tick)

    def is_known(self, exchange: Exchange) -> bool:
        return self._tokens.knows(exchange.authorization.decode("latin-1"))

    async def ask(self, exchange: Exchange) -> Asker:
        """By its token, where the request has one; else by the certificate."""
        if not exchange.authorization:
            found = self.asker(exchange.connection)
            assert found is not None, "a certificate is known at once"
            return found
        guest: callers.SvidGuest | callers.Refused | None = exchange.connection.guest
        svid = None
        if guest is not None:
            guest.current(exchange.connection.hall.tick)  # a certificate that counts no more spoils the token, too
            svid = guest.svid
        return await self._tokens.asker(
            exchange.authorization.decode("latin-1"),
            exchange.dpop.decode("latin-1"),
            path=exchange.path.decode("latin-1"),
            base=self.url,
            svid=svid,
            source=_source(exchange.connection),
        )


def _source(connection: Connection) -> str:
    return address_of_peer(connection.transport.get_extra_info("peername"))


_HOW: Final = "connect with an X.509-SVID, or send an access token with the scope `pdp:evaluate`"
