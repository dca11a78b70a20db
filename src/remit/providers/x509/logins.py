"""Logins that are tried at a server: with a certificate, without one, and with a TLS session that was kept.

Blocking sockets, for threads: only they let a session be used again (RFC 8446 §2.2, RFC 5077).
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from remit.kernel.errors import Misconfigured, Unavailable
from remit.providers.tls import load_identity

_SECONDS = 10.0
_MAX_ANSWER = 8192
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ?([^\r\n]{0,80})")
_TITLE = re.compile(rb"<title>([^<]{1,100})</title>")
_REFUSING = frozenset({400, 401, 403, 421, 495, 496})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the server is, and how it proves itself."""

    host: str
    port: int
    roots: str = ""
    """Its authority in PEM; empty: those that this machine trusts."""
    speaks: str = "http"
    """Or `postgresql`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a login asks for: of a web server a path, of PostgreSQL a database as a user."""

    path: str = "/"
    user: str = ""
    database: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How it went."""

    admitted: bool
    words: str
    """The server's own."""
    of_the_client: bool = True
    """Whether a refusal speaks of the client, rather than of the server's own trouble."""
    resumed: bool = False
    again: Again | None = field(default=None, repr=False)
    """A kept session, where the server gave one."""


@dataclass(frozen=True, slots=True)
class Again:
    """A TLS session and the identity it is of."""

    context: ssl.SSLContext
    session: Any


def context_for(server: Server, identity: str, *, tls12: bool = False) -> ssl.SSLContext:
    """A context that shows `identity` (certificate and key in PEM; empty: none)."""
    try:
        context = ssl.create_default_context(cadata=server.roots or None)
        if identity:
            load_identity(context, identity.encode())
    except ssl.SSLError:
        raise Misconfigured("access.x509.roots", "the certificates of the server's authority cannot be read") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def log_in(
    server: Server, asked: Asked, identity: str = "", *, again: Again | None = None, tls12: bool = False
) -> Attempt:
    """One login. Raises `Unavailable` where nobody answers, `Misconfigured` where the server is not one we trust."""
    context = again.context if again else context_for(server, identity, tls12=tls12)
    try:
        with _connected(server) as plain:
            if server.speaks == "postgresql" and not _wants_tls(plain):
                return Attempt(admitted=False, words="the server offers no TLS", of_the_client=False)
            with context.wrap_socket(
                plain, server_hostname=server.host, session=again.session if again else None
            ) as secured:
                answer = _talk(secured, server, asked)
                kept = Again(context, secured.session) if secured.session is not None else None
                resumed = bool(secured.session_reused)
        return _judge(server, answer, kept, resumed)
    except ssl.SSLCertVerificationError as error:
        raise Misconfigured(
            "access.x509.server_unknown",
            f"the server's own certificate is not trusted: {error.verify_message[:120]}",
            next_step="give --option ca=FILE with the authority of the server's certificate",
        ) from None
    except ssl.SSLError as error:
        reason = (error.reason or "TLS failed").replace("_", " ").lower()
        return Attempt(admitted=False, words=f"TLS: {reason[:120]}", of_the_client="alert" in reason)
    except OSError as error:
        # The server hangs up on a client after its handshake: in TLS 1.3 an alert may be lost on the way.
        return Attempt(admitted=False, words=f"closed: {error.strerror or error}", of_the_client=True)


class KeptOpen:
    """One connection to a web server that is asked again and again."""

    def __init__(self, server: Server, asked: Asked, identity: str) -> None:
        self._server, self._asked = server, asked
        plain = socket.create_connection((server.host, server.port), timeout=_SECONDS)
        try:
            self._socket = context_for(server, identity).wrap_socket(plain, server_hostname=server.host)
        except BaseException:
            plain.close()
            raise

    def ask(self) -> bool:
        """Whether it was served."""
        try:
            answer = _http(self._socket, self._server, self._asked, close=False)
        except OSError:
            return False
        return _judge(self._server, answer, None, False).admitted

    def close(self) -> None:
        self._socket.close()


@contextmanager
def _connected(server: Server) -> Iterator[socket.socket]:
    try:
        made = socket.create_connection((server.host, server.port), timeout=_SECONDS)
    except OSError as error:
        raise Unavailable(
            "access.x509.unreachable", f"`{server.host}:{server.port}` does not answer: {error.strerror or error}"
        ) from None
    with made:
        yield made


def _talk(secured: ssl.SSLSocket, server: Server, asked: Asked) -> bytes:
    if server.speaks == "postgresql":
        return _postgres(secured, asked)
    return _http(secured, server, asked, close=True)


def _http(secured: ssl.SSLSocket, server: Server, asked: Asked, *, close: bool) -> bytes:
    host = f"[{server.host}]" if ":" in server.host else server.host
    connection = "close" if close else "keep-alive"
    secured.sendall(
        f"GET {asked.path} HTTP/1.1\r\nHost: {host}:{server.port}\r\nUser-Agent: remit\r\nAccept: */*\r\n"
        f"Connection: {connection}\r\n\r\n".encode("ascii")
    )
    answer = b""
    while len(answer) < _MAX_ANSWER and (chunk := secured.recv(4096)):
        answer += chunk
        if not close and b"\r\n\r\n" in answer:
            break
    return answer


def _wants_tls(plain: socket.socket) -> bool:
    plain.sendall(_SSL_REQUEST)
    return plain.recv(1) == b"S"


def _postgres(secured: ssl.SSLSocket, asked: Asked) -> bytes:
    """The first message that the server sends to a client who asks for a session.

    Spec: PostgreSQL documentation, "Message Formats": StartupMessage, Authentication, ErrorResponse.
    """
    words = b"".join(
        part.encode() + b"\0" for part in ("user", asked.user, "database", asked.database, "application_name", "remit")
    )
    body = struct.pack("!i", 196608) + words + b"\0"
    secured.sendall(struct.pack("!i", len(body) + 4) + body)
    head = _exactly(secured, 5)
    if len(head) < 5:
        return b""
    length = struct.unpack("!i", head[1:])[0] - 4
    answer = head[:1] + _exactly(secured, max(0, min(length, _MAX_ANSWER)))
    if answer[:1] == b"R":
        secured.sendall(b"X" + struct.pack("!i", 4))
    return answer


def _exactly(secured: ssl.SSLSocket, wanted: int) -> bytes:
    found = b""
    while len(found) < wanted and (chunk := secured.recv(wanted - len(found))):
        found += chunk
    return found


def _judge(server: Server, answer: bytes, kept: Again | None, resumed: bool) -> Attempt:
    if not answer:
        return Attempt(admitted=False, words="closed without an answer", resumed=resumed)
    if server.speaks == "postgresql":
        return _judge_postgres(answer)
    found = _STATUS.match(answer)
    if found is None:
        return Attempt(admitted=False, words="the answer is no HTTP", of_the_client=False, resumed=resumed)
    status = int(found[1])
    title = _TITLE.search(answer)
    words = (title[1] if title and status >= 400 else found[1] + b" " + found[2]).decode("ascii", "replace")
    # Who may not come in is told so before the server looks whether there is anything.
    admitted = 200 <= status < 400 or status in (404, 405)
    return Attempt(
        admitted=admitted,
        words=f"HTTP {words.strip()}",
        of_the_client=status in _REFUSING,
        resumed=resumed,
        again=kept if admitted else None,
    )


def _judge_postgres(answer: bytes) -> Attempt:
    kind, body = answer[:1], answer[1:]
    if kind == b"R":
        method = struct.unpack("!i", body[:4])[0] if len(body) >= 4 else -1
        words = "admitted" if method == 0 else f"asked for another proof (method {method})"
        return Attempt(admitted=method == 0, words=words, of_the_client=True)
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    code = fields.get(b"C", "")
    return Attempt(
        admitted=False,
        words=f"{code} {fields.get(b'M', '')}".strip()[:200],
        of_the_client=code.startswith("28"),
    )
