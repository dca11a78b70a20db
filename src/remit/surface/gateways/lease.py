"""A gateway for one target's leases: whoever shows a live lease's key speaks to the API with the secret in its place.

The key comes where the secret will go, so that a client needs another address and nothing else. Each request is asked
about: the key may have been dismissed since the one before, and then the connection is cut already. Implements
`access.brokers.static.Door`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from remit.access.brokers.static import LOOK, Ended, Key
from remit.access.brokers.static_settings import Settings
from remit.access.model import Target
from remit.kernel.clock import Clock
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.providers.http_forward import Pipe
from remit.surface.gateways.http.desk import Permit, Refusal
from remit.surface.gateways.http.door import HEAD_SECONDS, tell
from remit.surface.gateways.http.exchange import Exchange
from remit.surface.gateways.http.head import RequestHead, encode, parse_request
from remit.surface.gateways.http.plan import plan
from remit.surface.gateways.http.table import GatewayRouteText, GatewayTable, InjectText, table_of
from remit.surface.problem import status_of

_log = logging.getLogger("remit.gateway")
_LIMIT: Final = 64 * 1024
_CONNECTIONS: Final = 512
_OF_ONE: Final = 64
_SECRET_SECONDS: Final = 10.0
_DISMISSED: Final = 10_000
"""Principals of which we know that they were dismissed: names are never used again, this only closes a race."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A key that counts, and what is under way with it. Implements `exchange.Running`."""

    key: Key
    table: GatewayTable
    used: bool = False
    ended: bool = False
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    flows: set[Callable[[str], None]] = field(default_factory=set)

    @contextmanager
    def running(self, decision: str, end: Callable[[str], None]) -> Iterator[None]:
        """While the block runs, `end` is called when the lease ends; not begun where it has."""
        if self.ended:
            raise _unknown()
        self.used = True
        self.flows.add(end)
        try:
            yield
        finally:
            self.flows.discard(end)


class LeaseDoor:
    """Listens on a port of loopback. Belongs to the event loop."""

    def __init__(
        self, target: Target, settings: Settings, value: Callable[[str], Awaitable[bytes]], clock: Clock
    ) -> None:
        self._target = target
        self._settings = settings
        self._value = value
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}
        self._names: dict[str, bytes] = {}
        self._dismissed: dict[str, None] = {}
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.control = secrets.token_urlsafe(32)

    async def open(self) -> None:
        """Listen. `Unavailable` (`surface.listen.taken`)."""
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)
        except OSError as error:
            raise Unavailable("surface.listen.taken", f"cannot listen on loopback: {error.strerror}") from None
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end every connection; works twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def admit(self, key: Key) -> bool:
        if key.principal in self._dismissed:
            return False
        if (known := self._names.get(key.principal)) is not None:
            if known != _digest(key.secret):
                return False
            self._entries[known].key = key
            return True
        self._names[key.principal] = _digest(key.secret)
        self._entries[_digest(key.secret)] = _Entry(key=key, table=self._table(key))
        return True

    def extend(self, principal: str, expires: datetime) -> bool:
        if (known := self._names.get(principal)) is None:
            return False
        entry = self._entries[known]
        entry.key = Key(
            principal=principal, secret=entry.key.secret, allowed=entry.key.allowed, expires=expires
        )  # fmt: skip
        return True

    def principals(self) -> Sequence[str]:
        return list(self._names)

    def dismiss(self, principal: str) -> Ended:
        again = principal in self._dismissed
        self._dismissed[principal] = None
        while len(self._dismissed) > _DISMISSED:
            del self._dismissed[next(iter(self._dismissed))]
        known = self._names.pop(principal, None)
        if known is None:
            return Ended(connections=0, used=not again)
        entry = self._entries.pop(known)
        entry.ended = True
        count = len(entry.connections)
        for end in list(entry.flows):
            end("the lease has ended")
        for writer in entry.connections:
            writer.transport.abort()
        return Ended(connections=count, used=entry.used)

    def find(self, shown: str) -> _Entry | None:
        """The live entry of a key that was shown."""
        entry = self._entries.get(_digest(shown)) if shown else None
        return entry if entry is not None and entry.key.expires > self._clock.now() else None

    def _table(self, key: Key) -> GatewayTable:
        settings = self._settings
        inject = InjectText(
            secret=settings.secret, kind=settings.kind, name=settings.name, prefix=settings.prefix, user=settings.user
        )
        return table_of(
            [
                GatewayRouteText(
                    path=each.pattern, method=list(each.methods), action="use", resource=f"target/{self._target.name}",
                    upstream=settings.upstream, ca=settings.ca, inject=inject,
                )
                for each in key.allowed
            ]
        )  # fmt: skip

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None, "a connection is served in a task"
        if len(self._open) >= _CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            while await self._one((reader, writer)):
                pass
            writer.close()
            async with asyncio.timeout(5):
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # the gateway stops
        except Exception:
            # A bug must end one connection, and never pass for a permit.
            _log.exception("a connection was dropped")
        finally:
            self._open.discard(task)
            for entry in self._entries.values():
                entry.connections.discard(writer)
            writer.transport.abort()

    async def _one(self, pipe: Pipe) -> bool:
        """One request; whether another may come."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                raw = await pipe[0].readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, TimeoutError):
            return False
        except asyncio.LimitOverrunError:
            await tell(pipe, Refusal(status=431, reason="the head is too long", code="surface.http.malformed"))
            return False
        try:
            request = parse_request(raw)
            shown = _shown(request, self._settings)
            if request.target == LOOK and request.method == "GET":
                return await self._look(shown, pipe)
            return await self._exchange(request, self._require(shown, pipe[1]), pipe)
        except Refusal as refusal:
            await tell(pipe, refusal)
        except RemitError as error:
            status = 400 if isinstance(error, Rejected) else status_of(error)
            await tell(pipe, Refusal(status=status, reason=error.message, code=error.code))
        return False

    async def _look(self, shown: str, pipe: Pipe) -> bool:
        if self.find(shown) is None and not secrets.compare_digest(shown.encode(), self.control.encode()):
            raise _unknown()
        pipe[1].write(encode("HTTP/1.1 204 No Content", [("cache-control", "no-store"), ("connection", "close")]))
        await pipe[1].drain()
        return False

    def _require(self, shown: str, writer: asyncio.StreamWriter) -> _Entry:
        entry = self.find(shown)
        if entry is None:
            raise _unknown()
        if writer not in entry.connections and len(entry.connections) >= _OF_ONE:
            raise Refusal(status=429, reason="the lease has too many connections", code="surface.gateway.busy")
        # INVARIANT: a connection counts before the first byte goes on, so that a dismissal cuts it.
        entry.connections.add(writer)
        return entry

    async def _exchange(self, request: RequestHead, entry: _Entry, pipe: Pipe) -> bool:
        made = plan(request, entry.table, forward=False)
        value = await self._value(entry.key.principal)
        until = asyncio.get_running_loop().time() + _SECRET_SECONDS
        permit = Permit(
            decision=entry.key.principal, subject=entry.key.principal, secret=value.decode("ascii"), until=until
        )
        exchange = Exchange(made, permit, pipe, entry.table.bounds)
        try:
            return await exchange.serve(entry)
        except (Refusal, RemitError):
            if not exchange.begun:
                raise
            with contextlib.suppress(OSError):
                pipe[1].transport.abort()
            return False


def lease_door(target: Target, settings: Settings, value: Callable[[str], Awaitable[bytes]], clock: Clock) -> LeaseDoor:
    """What the control plane makes doors with."""
    return LeaseDoor(target, settings, value, clock)


def _digest(secret: str) -> bytes:
    """Keys are found by digest: how long a look-up takes tells nothing of them."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _shown(request: RequestHead, settings: Settings) -> str:
    """The key, from where the secret goes; empty for none, and for several."""
    if settings.kind == "basic":
        values = request.values("authorization")
        scheme, _, coded = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        try:
            text = base64.b64decode(coded, validate=True).decode() if scheme.lower() == "basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return text.partition(":")[2]
    values = request.values(settings.name)
    if len(values) != 1 or not values[0].lower().startswith(settings.prefix.lower()):
        return ""
    return values[0][len(settings.prefix) :]


def _unknown() -> Refusal:
    return Refusal(status=401, reason="no live lease has this key", code="surface.gateway.lease_key")
