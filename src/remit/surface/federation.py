"""Our bundle endpoint for partners: HTTPS by a certificate of the Web PKI, and nothing but the bundle behind it.

The operator's certificate and key are read again when their files change; a pair that does not fit is reported and the
last one that did goes on. (The profile https_spiffe is served by the listener of agents, at `/bundle`.)

Spec: SPIFFE Federation §5 and §5.2.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.types import Receive, Scope, Send

from remit.kernel.errors import Misconfigured, Unavailable
from remit.providers.tls import harden
from remit.surface.peers import Listeners
from remit.trust.bundle import Bundle
from remit.wiring import ControlPlane

_log = logging.getLogger("remit.federation")
_HANDSHAKE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 2.0
_LOOK_SECONDS = 2.0
_PATHS = ("/", "/bundle")
_Stamp = tuple[tuple[int, int, int], ...]


async def serve_bundle(control: ControlPlane) -> Callable[[], Awaitable[None]]:
    """Serve on `federation.listen`; returns how to stop. Raises `Misconfigured` or `Unavailable`."""
    settings = control.settings.federation
    host, port = _address(settings.listen)
    if not settings.certificate or not settings.key:
        raise Misconfigured(
            "surface.federation.certificate",
            "the bundle endpoint has no certificate",
            next_step="set `federation.certificate` and `federation.key`, or no `federation.listen`",
        )
    endpoint = BundleEndpoint(control, Path(settings.certificate), Path(settings.key))
    await endpoint.open(host, port)
    return endpoint.close


class BundleEndpoint:
    """The listener; `port` after `open`."""

    port = 0

    def __init__(self, control: ControlPlane, certificate: Path, key: Path) -> None:
        self._control = control
        self._files = (certificate, key)
        self._listeners = Listeners(self)
        self._current: ssl.SSLContext | None = None
        self._stamp: _Stamp = ()
        self._task: asyncio.Task[None] | None = None
        self._document: tuple[Bundle, bytes] | None = None

    async def open(self, host: str, port: int) -> None:
        """Listen. `Misconfigured` (`surface.federation.certificate`), `Unavailable` (`surface.listen.taken`)."""
        self._stamp = _stamp(self._files)
        outer = self._current = _context(self._files)
        outer.sni_callback = self._choose
        try:
            self.port = await self._listeners.tcp(
                host, port, via="federation", ssl=outer, ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(
                "surface.listen.taken",
                f"cannot listen on {host}:{port}: {error.strerror}",
                next_step="stop what listens there, or set `federation.listen` to another HOST:PORT",
            ) from None
        self._task = asyncio.create_task(self._follow(), name="remit-bundle-endpoint")

    async def close(self) -> None:
        """Stop; may follow a failed `open`."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._listeners.close()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, with or without a server name: the certificate of this moment."""
        if self._current is not None:
            connection.context = self._current

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                stamp = await asyncio.to_thread(_stamp, self._files)
                if stamp != self._stamp:
                    self._current = await asyncio.to_thread(_context, self._files)
                    self._stamp = stamp
            except Misconfigured as error:
                _log.warning("%s; the endpoint goes on with the certificate that it has", error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No request has a body that we read, or a header that we believe."""
        assert scope["type"] == "http"
        status, body = self._found(scope["method"], scope["path"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _found(self, method: str, path: str) -> tuple[int, bytes]:
        if path not in _PATHS:
            return 404, b"{}"
        if method not in ("GET", "HEAD"):
            return 405, b"{}"
        bundle = self._control.trust.bundle
        if self._document is None or self._document[0] is not bundle:
            self._document = bundle, bundle.document()
        return 200, self._document[1]


def _stamp(files: tuple[Path, ...]) -> _Stamp:
    try:
        seen = [path.stat() for path in files]
    except OSError as error:
        raise _unusable(f"`{error.filename}`: {error.strerror}") from None
    return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in seen)


def _context(files: tuple[Path, Path]) -> ssl.SSLContext:
    certificate, key = files
    context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.num_tickets = 0
    try:
        # An encrypted key must not make the server ask somebody at a terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise _unusable(f"`{certificate}` and `{key}`: {why}") from None
    return context


def _unusable(why: str) -> Misconfigured:
    return Misconfigured(
        "surface.federation.certificate",
        f"the certificate of the bundle endpoint cannot be used: {why}",
        next_step="correct `federation.certificate` and `federation.key`",
    )


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise Misconfigured("surface.listen.invalid", f"`{listen}` is no HOST:PORT", next_step="e.g. 0.0.0.0:8443")
    return host.strip("[]"), int(port)
