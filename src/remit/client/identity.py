"""A program's own identity, kept fresh in the background: the plain, blocking face of the client."""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from remit.client import tls
from remit.client.workload import JwtIdentity, WorkloadApi, X509Context
from remit.kernel.errors import RemitError, Unavailable
from remit.trust.model import PresentedSvid
from remit.trust.spiffe import SpiffeId

T = TypeVar("T")
_log = logging.getLogger("remit.client")
_ASK_AGAIN = 5.0
"""Seconds after the agent said that we are nobody: an entry may be made at any time."""


class MutualTls:
    """Whoever holds an X.509-SVID: speaks mutual TLS as it. `named` (a SPIFFE ID or hint) chooses among several."""

    def __init__(self, named: str = "") -> None:
        self._named = named

    @property
    def x509(self) -> X509Context:
        """What is held now. `Denied`, `Unavailable`, or what the source of it raises."""
        raise NotImplementedError

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who that is, by default."""
        return self.x509.default.spiffe_id

    def connect(self, host: str, port: int, accept: str | Collection[str], *, timeout: float = 30.0) -> ssl.SSLSocket:
        """Connect by mutual TLS to a server that is `accept` (SPIFFE IDs; `spiffe://domain/path/*` for all below).

        Raises `Denied` (`client.peer.refused`) or `Rejected` before anything was sent, and `OSError`.
        """
        held = self.x509
        raw = socket.create_connection((host, port), timeout=timeout)
        try:
            svid = held.named(self._named) if self._named else None
            made = tls.context_for(held, server=False, svid=svid).wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise
        try:
            tls.peer_of(made, held, tls.only(accept))
        except BaseException:
            made.close()
            raise
        return made

    def tls_server(self) -> ssl.SSLContext:
        """A server's context as of now; ask `peer_of` after each handshake who connected."""
        return tls.context_for(self.x509, server=True)

    def peer_of(self, connection: ssl.SSLSocket, accept: str | Collection[str]) -> PresentedSvid:
        """Who is at the other end of a handshake; `Denied` (`client.peer.refused`) when it is not one of `accept`."""
        return tls.peer_of(connection, self.x509, tls.only(accept))

    def https(self, host: str, port: int, accept: str | Collection[str], *, timeout: float = 30.0) -> Connection:
        """An HTTP connection (`http.client`) by mutual TLS to a server that is `accept`."""
        return Connection(self, host, port, accept, timeout=timeout)


class Identity(MutualTls):
    """The SVIDs of this process, renewed by the agent's pushes until `close`. Safe for use from several threads.

    A thread of its own holds one stream to the agent at `endpoint` (SPIFFE_ENDPOINT_SOCKET by default). `on_change` is
    called in that thread with each new set. Where there are several SVIDs, `spiffe_id` (or a hint) says which one is
    shown when we connect. When the agent says that this process is nobody, every later use raises
    `Denied`: what was held is dropped.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        spiffe_id: str = "",
        timeout: float = 30.0,
        on_change: Callable[[X509Context], None] | None = None,
    ) -> None:
        super().__init__(spiffe_id)
        self._api = WorkloadApi(endpoint)
        self._on_change = on_change
        self._held: X509Context | None = None
        self._refused: RemitError | None = None
        self._first = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="remit-identity", daemon=True)
        self._thread.start()
        if not self._first.wait(timeout):
            self.close()
            raise Unavailable("client.agent.away", f"the agent gave no identity within {timeout:g} s")
        try:
            self._require()
        except RemitError:
            self.close()
            raise

    def __enter__(self) -> Identity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def x509(self) -> X509Context:
        """What this process holds now. `Denied` while the agent says that it is nobody."""
        return self._require()

    def jwt(self, audience: str | Sequence[str], *, spiffe_id: str = "") -> str:
        """A JWT-SVID for one or more audiences: a secret for as long as it lives."""
        found: JwtIdentity = self._run(self._api.jwt(audience, spiffe_id=spiffe_id))
        return found.token

    def validate_jwt(self, token: str, audience: str) -> tuple[SpiffeId, dict[str, Any]]:
        """Whose JWT-SVID it is, and its claims; `Rejected` when it does not hold."""
        return self._run(self._api.validate_jwt(token, audience))

    def close(self) -> None:
        """Stop the stream and forget the keys; may be called again."""
        if not self._loop.is_closed() and self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(timeout=5)
        self._held = None

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._follow())
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._first.set()

    def _require(self) -> X509Context:
        held, refused = self._held, self._refused
        if held is None:
            raise refused or Unavailable("client.identity.closed", "the identity was closed")
        return held

    async def _follow(self) -> None:
        while True:
            try:
                async for context in self._api.watch_x509():
                    self._held, self._refused = context, None
                    self._first.set()
                    self._tell(context)
            except RemitError as error:
                self._refused, self._held = error, None
                self._first.set()
                await asyncio.sleep(_ASK_AGAIN)
            except Exception:  # an answer that cannot be read: as if the agent were away
                _log.exception("the agent's answer cannot be read")
                await asyncio.sleep(_ASK_AGAIN)

    def _tell(self, context: X509Context) -> None:
        try:
            if self._on_change is not None:
                self._on_change(context)
        except Exception:  # the program's own: it must not end the stream, or the identity would never be renewed
            _log.exception("what was to be called on a change of the identity failed")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Connection(http.client.HTTPConnection):
    """HTTP over mutual TLS; connects at the first request, and again with the newest SVID after `close`."""

    default_port = 443

    def __init__(
        self, identity: MutualTls, host: str, port: int, accept: str | Collection[str], *, timeout: float
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        self._identity = identity
        self._accept = accept
        self._seconds = timeout

    def connect(self) -> None:
        """Shake hands, and make sure who it is."""
        self.sock = self._identity.connect(self.host, self.port, self._accept, timeout=self._seconds)
