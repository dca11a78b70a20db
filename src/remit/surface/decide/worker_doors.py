"""The doors of a decision worker: who comes is the server's word, asked once for a connection and told on each change.

While the server is not heard of, nobody is anybody: every question is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from remit.access.enforcers.model import Asker
from remit.kernel.errors import Denied, RemitError
from remit.providers.tls import peer_chain
from remit.surface.agent.peer import peer_of_transport, uid_of_transport
from remit.surface.decide import wire
from remit.surface.peers import address_of_peer

if TYPE_CHECKING:
    from remit.surface.decide.http import Connection, Exchange

_SILENT_SECONDS: Final = 3.0
_ASKED_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.25
_REMEMBERED: Final = 4096


class Visitor:
    """One connection, as the server knows it."""

    __slots__ = ("asker", "connection", "number", "refusal", "seen")

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = number
        self.connection = connection
        self.asker: Asker | None = None
        self.refusal: RemitError | None = None
        self.seen = asyncio.Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bearer:
    asker: Asker
    until: float


class Server:
    """The server, as its worker hears of it."""

    def __init__(self) -> None:
        self.channel: wire.Channel | None = None
        self.calls = wire.Calls()
        self.stamp = -1
        self._heard = float("-inf")
        self._visitors: dict[int, Visitor] = {}
        self._last = 0
        self._bearers: dict[tuple[str, int, str], _Bearer] = {}
        self._known: set[str] = set()
        """Tokens of these."""

    def ticked(self, stamp: int) -> None:
        """It lives; where the stamp moved, no token is remembered."""
        self._heard = time.monotonic()
        if stamp != self.stamp:
            self.stamp = stamp
            self._forget()

    def require(self) -> wire.Channel:
        """`Unavailable` (`access.workers.away`) once it has been silent."""
        if self.channel is None or self.channel.closed or time.monotonic() - self._heard > _SILENT_SECONDS:
            raise wire.away()
        return self.channel

    async def call(self, message: wire.ToServer, answer: asyncio.Future[wire.Answer]) -> wire.Answer:
        """Ask; raises what it says."""
        self.require().send(message)
        try:
            async with asyncio.timeout(_ASKED_SECONDS):
                said = await answer
        except TimeoutError:
            raise wire.away() from None
        if said.refusal is not None:
            raise wire.error_of(said.refusal)
        return said

    # Visitors.

    def enter(self, connection: Connection) -> Visitor:
        """A connection that the server is to know."""
        self._last += 1
        visitor = self._visitors[self._last] = Visitor(self._last, connection)
        return visitor

    def leave(self, visitor: Visitor) -> None:
        """It is gone."""
        self._visitors.pop(visitor.number, None)
        visitor.asker, visitor.refusal = None, wire.away()
        visitor.seen.set()
        if self.channel is not None:
            self.channel.send(wire.Leave(visitor.number))

    def told(self, seen: wire.Seen) -> None:
        """Who a visitor is now."""
        visitor = self._visitors.get(seen.guest)
        if visitor is None:
            return
        if seen.gone:
            visitor.connection.abort()
            return
        visitor.asker = wire.asker_of(seen.asker) if seen.asker is not None else None
        visitor.refusal = wire.error_of(seen.refusal) if seen.refusal is not None else None
        if visitor.asker is None and visitor.refusal is None:
            visitor.seen.clear()
        else:
            visitor.seen.set()

    def who(self, visitor: Visitor) -> Asker | None:
        """As far as that is known. Raises why it is nobody."""
        self.require()
        if visitor.refusal is not None:
            raise visitor.refusal
        return visitor.asker

    async def wait(self, visitor: Visitor) -> Asker:
        """Who it is, once that is known."""
        try:
            async with asyncio.timeout(_ASKED_SECONDS):
                while (found := self.who(visitor)) is None:
                    await visitor.seen.wait()
        except TimeoutError:
            raise wire.away() from None
        return found

    # Tokens.

    def knows(self, authorization: str) -> bool:
        """Whether this token counted a moment ago, for whoever showed it."""
        return authorization in self._known

    def remembered(self, key: tuple[str, int, str]) -> Asker | None:
        """Its bearer, where nothing was revoked since, and it was looked at just now."""
        kept = self._bearers.get(key)
        return kept.asker if kept is not None and time.monotonic() < kept.until else None

    async def bearer(self, exchange: Exchange, visitor: Visitor | None, source: str) -> Asker:
        """Whose token it is."""
        self.require()
        authorization, dpop = exchange.authorization.decode("latin-1"), exchange.dpop.decode("latin-1")
        key = (authorization, visitor.number if visitor is not None else 0, source)
        if not dpop and (found := self.remembered(key)) is not None:
            return found
        stamp = self.stamp
        number, answer = self.calls.begin()
        said = await self.call(
            wire.Token(
                call=number, guest=key[1], authorization=authorization, dpop=dpop,
                path=exchange.path.decode("latin-1"), source=source,
            ),
            answer,
        )  # fmt: skip
        if said.asker is None:
            raise wire.away()
        asker = wire.asker_of(said.asker)
        left = min(_AGAIN_SECONDS, said.until - time.time())
        if not dpop and left > 0 and stamp == self.stamp:
            if len(self._bearers) >= _REMEMBERED:
                self._forget()
            self._bearers[key] = _Bearer(asker=asker, until=time.monotonic() + left)
            self._known.add(authorization)
        return asker

    def _forget(self) -> None:
        self._bearers.clear()
        self._known.clear()


class ProcessDoor:
    """`decide.sock`: the process at the other end is attested by the server, which gets its pidfd."""

    url = "http://localhost"

    def __init__(self, server: Server) -> None:
        self._server = server

    def host(self, connection: Connection) -> Hashable:
        try:
            return f"uid:{uid_of_transport(connection.transport)}"
        except (RemitError, OSError):
            return "uid:unknown"

    def enter(self, connection: Connection) -> None:
        try:
            channel = self._server.require()
            with peer_of_transport(connection.transport) as peer:
                visitor = connection.guest = self._server.enter(connection)
                entered = wire.Enter(
                    guest=visitor.number, pid=peer.pid, uid=peer.uid, gid=peer.gid, start_ticks=peer.start_ticks
                )
                channel.send(entered, [peer.pidfd] if peer.pidfd >= 0 else [])
        except (RemitError, OSError):
            connection.abort()

    def leave(self, connection: Connection) -> None:
        if connection.guest is not None:
            self._server.leave(connection.guest)

    def is_known(self, exchange: Exchange) -> bool:
        return False

    def asker(self, connection: Connection) -> Asker | None:
        return self._server.who(connection.guest)

    async def ask(self, exchange: Exchange) -> Asker:
        return await self._server.wait(exchange.connection.guest)


class HolderDoor:
    """TCP: the X.509-SVID where TLS brought one, else an access token with each request; the server verifies both."""

    def __init__(self, server: Server, url: str, *, tls: bool) -> None:
        self._server = server
        self._tls = tls
        self.url = url

    def host(self, connection: Connection) -> Hashable:
        found = connection.transport.get_extra_info("peername")
        return f"address:{found[0]}" if isinstance(found, tuple) else "address:unknown"

    def enter(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chain = peer_chain(connection.transport.get_extra_info("ssl_object")) if self._tls else []
        if not chain:
            return
        try:
            channel = self._server.require()
        except RemitError:
            connection.abort()
            return
        visitor = connection.guest = self._server.enter(connection)
        if sum(map(len, chain)) > wire.MOST_BYTES // 2:
            visitor.refusal = Denied("surface.proof.refused", "the certificate chain is too long")
            return
        channel.send(wire.Enter(guest=visitor.number, chain=tuple(chain), source=source_of(connection)))

    def leave(self, connection: Connection) -> None:
        if connection.guest is not None:
            self._server.leave(connection.guest)

    def is_known(self, exchange: Exchange) -> bool:
        return self._server.knows(exchange.authorization.decode("latin-1"))

    def asker(self, connection: Connection) -> Asker | None:
        if connection.guest is None:
            raise Denied("surface.proof.missing", "this needs proof of who calls", next_step=_HOW)
        return self._server.who(connection.guest)

    async def ask(self, exchange: Exchange) -> Asker:
        """By its token, where the request has one; else by the certificate."""
        visitor: Visitor | None = exchange.connection.guest
        if visitor is not None:
            found = await self._server.wait(visitor)  # a certificate that counts no more spoils the token, too
            if not exchange.authorization:
                return found
        elif not exchange.authorization:
            raise Denied("surface.proof.missing", "this needs proof of who calls", next_step=_HOW)
        return await self._server.bearer(exchange, visitor, source_of(exchange.connection))


def source_of(connection: Connection) -> str:
    """The address that a TCP connection comes from."""
    return address_of_peer(connection.transport.get_extra_info("peername"))


_HOW: Final = "connect with an X.509-SVID, or send an access token with the scope `pdp:evaluate`"
