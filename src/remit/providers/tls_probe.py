"""Look at one TLS endpoint that was named: what it presents, which versions it takes, whether it asks who calls.

Nothing is trusted and nothing is sent beyond a handshake (and the words that start TLS). Every wait has an end.
Spec: RFC 8446, RFC 5246; RFC 3207 (SMTP), RFC 9051 §6.2.1 (IMAP), RFC 4511 §4.14 (LDAP); PostgreSQL, "SSLRequest";
MySQL, "Protocol::SSLRequest".
"""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from remit.kernel.errors import Rejected, Unavailable
from remit.providers.tls import peer_chain

Start = Literal["tls", "postgres", "smtp", "imap", "ldap", "mysql"]
PORTS: dict[Start, int] = {"tls": 443, "postgres": 5432, "smtp": 25, "imap": 143, "ldap": 389, "mysql": 3306}
_SECONDS = 5.0
_LISTEN_SECONDS = 0.5
_MOST_ANSWER = 16_384
_MOST_CHAIN = 10
_CERTIFICATE_REQUEST = 13
_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.1": ssl.TLSVersion.TLSv1_1, "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}  # fmt: skip
LEGACY = ("TLSv1", "TLSv1.1")
_ONE_AT_A_TIME = threading.Lock()
"""What is ignored of warnings is the whole process's: two threads would undo each other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to look, and how TLS begins there."""

    host: str
    port: int
    start: Start = "tls"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an endpoint showed."""

    endpoint: Endpoint
    chain: tuple[bytes, ...]
    """DER, the endpoint's own first, as it was sent."""
    version: str
    cipher: str
    versions: tuple[str, ...]
    client_certificate: Literal["no", "asked", "required"]
    trouble: str
    """Why a strict client would refuse the chain; empty where it would not."""
    trusted: bool
    """The chain leads to the authorities that were given, names aside."""


class NoTls(Exception):
    """The endpoint answers, and not with TLS."""


def probe(endpoint: Endpoint, *, ca: str = "") -> Seen:
    """Look at an endpoint with at most seven short connections; `ca` is a file of authorities, else the machine's.

    Raises `Unavailable` (`inventory.tls.unreachable`) where nobody answers, `Rejected` (`inventory.tls.none`)
    where what answers speaks no TLS.
    """
    asked: list[bool] = []
    try:
        shown = _handshake(endpoint, _open_context(asked=asked), look=True)
    except OSError as error:
        refused_us = bool(asked) or isinstance(error, ssl.SSLError)
        if not refused_us:
            raise Unavailable(
                "inventory.tls.unreachable", f"`{endpoint}` does not answer: {type(error).__name__}"
            ) from None
        shown = None
    except NoTls:
        raise _none(endpoint) from None
    versions = tuple(name for name, version in _VERSIONS.items() if _takes(endpoint, version))
    if shown is None:
        # An endpoint that refuses who has no certificate shows its own all the same: in the handshake that it breaks.
        chain = _broken_handshake(endpoint)
        if not chain and not versions and not asked:
            raise _none(endpoint)
        shown = _Shown(chain=chain, version="", cipher="", refused=bool(asked))
    trouble, trusted = _strictly(endpoint, ca)
    demand: Literal["no", "asked", "required"] = "required" if asked and shown.refused else "asked" if asked else "no"
    return Seen(
        endpoint=endpoint, chain=shown.chain[:_MOST_CHAIN], version=shown.version, cipher=shown.cipher,
        versions=versions, client_certificate=demand, trouble=trouble, trusted=trusted,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    chain: tuple[bytes, ...]
    version: str
    cipher: str
    refused: bool


def _none(endpoint: Endpoint) -> Rejected:
    return Rejected(
        "inventory.tls.none", f"`{endpoint}` speaks no TLS", next_step="name how it starts: smtp://HOST:PORT"
    )


def _open_context(
    only: ssl.TLSVersion | None = None, *, asked: list[bool] | None = None, seen: list[bytes] | None = None
) -> ssl.SSLContext:
    """A context that takes what it gets: to look, never to trust."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = only or ssl.TLSVersion.TLSv1
        context.maximum_version = only or ssl.TLSVersion.MAXIMUM_SUPPORTED

    def hear(_: Any, direction: str, version: Any, content: Any, message: Any, data: bytes) -> None:
        if direction == "read" and message == _CERTIFICATE_REQUEST and asked is not None:
            asked.append(True)
        if direction == "read" and message == 11 and seen is not None and not seen:
            seen.append(bytes(data))

    if asked is not None or seen is not None:
        context._msg_callback = hear  # type: ignore[attr-defined]
    return context


@contextmanager
def _connected(endpoint: Endpoint) -> Iterator[socket.socket]:
    with socket.create_connection((endpoint.host, endpoint.port), timeout=_SECONDS) as plain:
        plain.settimeout(_SECONDS)
        _START[endpoint.start](plain)
        yield plain


def _server_name(endpoint: Endpoint) -> str | None:
    return None if ":" in endpoint.host or endpoint.host.replace(".", "").isdigit() else endpoint.host


def _handshake(endpoint: Endpoint, context: ssl.SSLContext, *, look: bool = False) -> _Shown:
    with _connected(endpoint) as plain, context.wrap_socket(plain, server_hostname=_server_name(endpoint)) as secured:
        chain = tuple(peer_chain(secured))
        cipher = secured.cipher()
        refused = False
        if look and secured.version() == "TLSv1.3":
            # TLS 1.3 refuses a caller without certificate only after the handshake.
            secured.settimeout(_LISTEN_SECONDS)
            try:
                secured.recv(1)
            except TimeoutError:
                pass
            except (ssl.SSLError, OSError):
                refused = True
        return _Shown(chain=chain, version=secured.version() or "", cipher=cipher[0] if cipher else "", refused=refused)


def _broken_handshake(endpoint: Endpoint) -> tuple[bytes, ...]:
    """The chain out of the messages of a handshake that fails."""
    heard: list[bytes] = []
    context = _open_context(ssl.TLSVersion.TLSv1_2, seen=heard)
    with suppress(OSError, NoTls), _connected(endpoint) as plain:
        context.wrap_socket(plain, server_hostname=_server_name(endpoint)).close()
    return tuple(_certificates(heard[0])) if heard else ()


def _certificates(message: bytes) -> Iterator[bytes]:
    """The certificates of a TLS 1.2 Certificate message: a head of four bytes, then lengths of three."""
    at, end = 7, min(len(message), 7 + int.from_bytes(message[4:7], "big"))
    while at + 3 <= end:
        length = int.from_bytes(message[at : at + 3], "big")
        if not length or at + 3 + length > end:
            return
        yield message[at + 3 : at + 3 + length]
        at += 3 + length


def _takes(endpoint: Endpoint, version: ssl.TLSVersion) -> bool:
    asked: list[bool] = []
    try:
        _handshake(endpoint, _open_context(version, asked=asked))
    except (OSError, NoTls):
        return bool(asked)
    return True


def _strictly(endpoint: Endpoint, ca: str) -> tuple[str, bool]:
    """What a client that checks would say, and whether the chain leads to the authorities."""
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError):
        return "the file of authorities cannot be read", False
    trouble = ""
    for names in (True, False):
        context.check_hostname = names
        try:
            with _connected(endpoint) as plain, context.wrap_socket(plain, server_hostname=endpoint.host):
                return ("", True) if names else (trouble, True)
        except ssl.SSLCertVerificationError as error:
            trouble = trouble if not names else error.verify_message
            if error.verify_code not in {62, 64}:  # of names: hostname, IP address
                return trouble, False
        except (OSError, ValueError, NoTls):
            return "", False
    return trouble, False


# How TLS starts


def _line(plain: socket.socket, *, until: Callable[[bytes], bool]) -> bytes:
    said = b""
    while not until(said):
        chunk = plain.recv(4096)
        if not chunk or len(said) > _MOST_ANSWER:
            raise NoTls
        said += chunk
    return said


def _smtp(plain: socket.socket) -> None:
    def whole(said: bytes) -> bool:
        lines = said.split(b"\r\n")
        return len(lines) > 1 and lines[-1] == b"" and lines[-2][3:4] in {b" ", b""}

    _line(plain, until=whole)
    plain.sendall(b"EHLO probe.invalid\r\n")
    if b"STARTTLS" not in _line(plain, until=whole).upper():
        raise NoTls
    plain.sendall(b"STARTTLS\r\n")
    if not _line(plain, until=whole).startswith(b"220"):
        raise NoTls


def _imap(plain: socket.socket) -> None:
    _line(plain, until=lambda said: said.endswith(b"\r\n"))
    plain.sendall(b"a1 STARTTLS\r\n")
    if (
        not _line(plain, until=lambda said: b"a1 " in said and said.endswith(b"\r\n"))
        .split(b"a1 ")[-1]
        .startswith(b"OK")
    ):
        raise NoTls


def _postgres(plain: socket.socket) -> None:
    plain.sendall(bytes.fromhex("0000000804d2162f"))
    if plain.recv(1) != b"S":
        raise NoTls


def _ldap(plain: socket.socket) -> None:
    plain.sendall(b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037")
    said = _line(plain, until=lambda said: len(said) > 1 and len(said) >= 2 + said[1])
    if b"\x78" not in said[:8] or b"\x0a\x01\x00" not in said[:16]:
        raise NoTls


def _mysql(plain: socket.socket) -> None:
    _line(plain, until=lambda said: len(said) > 4 and len(said) >= 4 + int.from_bytes(said[:3], "little"))
    capabilities = 0x200 | 0x800 | 0x8000
    plain.sendall(b"\x20\x00\x00\x01" + capabilities.to_bytes(4, "little") + b"\x00\x00\x00\x01\x21" + bytes(23))


_START: dict[Start, Callable[[socket.socket], None]] = {
    "tls": lambda plain: None, "postgres": _postgres, "smtp": _smtp, "imap": _imap, "ldap": _ldap, "mysql": _mysql,
}  # fmt: skip
