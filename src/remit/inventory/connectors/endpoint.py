"""Where a server is that a connector reads, how its clients call it, and names that are fit to keep."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from remit.kernel.errors import Rejected
from remit.kernel.ids import Name, name

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_LONGEST_NAME: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server, and as whom it is entered. Never holds a secret."""

    host: str
    """A host name, an address, or the absolute path of a Unix socket."""
    port: int
    user: str = ""
    tls: bool = False
    ca: str = ""
    """A file of CA certificates; empty means those of the machine."""

    def called(self, port: int | None = None) -> tuple[str, ...]:
        """`host:port` as clients write it: every name of the loopback is the same server."""
        local = self.host.startswith("/") or self.host in LOOPBACK
        hosts = LOOPBACK if local else (self.host,)
        return tuple(f"{host}:{self.port if port is None else port}" for host in hosts)


def endpoint(
    source: str, options: Mapping[str, str], *, plain: Sequence[str], secure: Sequence[str] = (), port: int
) -> Endpoint:
    """Read `SCHEME://USER@HOST:PORT`, or the address of a target in `options`; `tls` and `ca` are options.

    `plain` and `secure` are the schemes without and with TLS; `port` is the usual one.
    Raises `Rejected` (`inventory.source.unfit`), also for a URL that carries a password.
    """
    tls, ca = options.get("tls") == "true", options.get("ca", "")
    if "host" in options:
        return Endpoint(
            host=options["host"].lower() if not options["host"].startswith("/") else options["host"],
            port=_port(options.get("port", "") or str(port)), user=options.get("user", ""), tls=tls, ca=ca,
        )  # fmt: skip
    try:
        parts = urlsplit(source)
        host, given = parts.hostname or "", parts.port
    except ValueError:
        raise _unfit("it is no URL", plain) from None
    if parts.scheme not in (*plain, *secure):
        raise _unfit("its scheme is another one", plain)
    if parts.password is not None:
        raise _unfit("it carries a password", plain)
    if not host or parts.query or parts.fragment:
        raise _unfit("it has no host, or a query", plain)
    user = unquote(parts.username or "")
    return Endpoint(host=unquote(host), port=given or port, user=user, tls=tls or parts.scheme in secure, ca=ca)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
        raise Rejected("inventory.source.unfit", "the port is no number from 1 to 65535", next_step="correct the port")
    return int(text)


def _unfit(why: str, schemes: Sequence[str]) -> Rejected:
    return Rejected(
        "inventory.source.unfit",
        f"the source cannot be read: {why}",
        next_step=f"write {schemes[0]}://USER@HOST:PORT; the password comes by --password-stdin or its variable",
    )


def named(system: str, instance: str, kind: str, local: str) -> Name:
    """A name of bounded length for whatever the server calls a thing: a longer one ends in a digest of it."""
    made = name(system, instance, kind, local.encode("utf-8", "replace").decode())
    if len(made) <= _LONGEST_NAME:
        return made
    digest = hashlib.sha256(local.encode("utf-8", "replace")).hexdigest()[:32]
    return name(system, instance[:120], kind, f"{local.encode('utf-8', 'replace').decode()[:40]}...{digest}")


def shown(text: object, limit: int = 200) -> str:
    """Text of a server made fit to be shown and stored: printable, encodable, bounded."""
    said = str(text)[: limit * 2].encode("utf-8", "replace").decode()
    said = "".join(mark if mark.isprintable() else " " for mark in said).strip()
    return said if len(said) <= limit else said[: limit - 1] + "…"
