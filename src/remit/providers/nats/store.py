"""The JWTs of a resolver's directory or of `nsc`'s store, and who is connected to a server: read, and never written.

Spec: NATS "Decentralized JWT Authentication", "Account NATS Resolver", "Monitoring" (/varz, /connz).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.nats.nkeys import decode_jwt
from remit.providers.reading import JsonReader

MOST_FILES: Final = 500_000
MOST_BYTES: Final = 1024 * 1024
MOST_DEPTH: Final = 8
PAGE: Final = 1024
_FRACTION: Final = re.compile(r"(\.\d{6})\d+")
MOST_CONNECTIONS: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What one file says, once its signature was right."""

    path: str
    """From the directory on."""
    claims: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """`operator`, `account`, `user`, or another one."""
        nats = self.claims.get("nats")
        return str(nats.get("type", "")) if isinstance(nats, dict) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file that could not be taken."""

    path: str
    reason: str
    """`unreadable`, `malformed` or `too-large`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A live connection of a user."""

    user: str
    """Its public key."""
    account: str
    address: str
    program: str
    name: str
    number: int
    """Grows with each connection of one server's life."""
    since: datetime | None
    claims: Mapping[str, Any] | None
    """Of the JWT with which it logged in, where the server shows it and its signature is right."""


def tokens(directory: str) -> Iterator[Claims | Unread]:
    """Every JWT below `directory`, in the order of the paths; links are not followed.

    Raises `Rejected` (`inventory.source.unfit`) where it is no directory.
    """
    if not Path(directory).is_dir():
        raise Rejected(
            "inventory.source.unfit",
            "the source is no directory",
            next_step="name the `dir` of the server's resolver, or the `stores` directory of nsc",
        )
    for count, path in enumerate(_files(directory, 0), 1):
        shown = os.path.relpath(path, directory)
        if count > MOST_FILES:
            yield Unread(path=f"rest of the files after {MOST_FILES:,}", reason="too-large")
            return
        text = _read(path)
        if not isinstance(text, str):
            yield Unread(path=shown, reason=text.reason)
            continue
        try:
            yield Claims(path=shown, claims=decode_jwt(text))
        except Rejected:
            yield Unread(path=shown, reason="malformed")


def _files(directory: str, depth: int) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda each: each.name)
    except OSError:
        return
    for entry in found:
        if entry.is_symlink():
            continue
        if entry.is_dir() and depth < MOST_DEPTH:
            yield from _files(entry.path, depth + 1)
        elif entry.name.endswith(".jwt"):
            yield entry.path


def _read(path: str) -> str | Unread:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Unread(path=path, reason="unreadable")
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Unread(path=path, reason="unreadable")
        try:
            data = file.read(MOST_BYTES + 1)
        except OSError:
            return Unread(path=path, reason="unreadable")
    if len(data) > MOST_BYTES:
        return Unread(path=path, reason="too-large")
    return data.decode("ascii", "replace").strip()


class Monitor:
    """A server's monitoring endpoint, which asks for no login; for one thread."""

    def __init__(self, url: str, *, ca: str = "") -> None:
        self._url = url
        self._http = JsonReader(url, ca=ca)

    def close(self) -> None:
        self._http.close()

    def about(self) -> Mapping[str, Any]:
        """What the server says of itself (`/varz`). Raises `Misconfigured` (`inventory.nats.monitor`)."""
        status, said = self._http.ask("varz")
        if status != 200 or not isinstance(said, dict) or "server_id" not in said:
            raise Misconfigured(
                "inventory.nats.monitor",
                f"`{self._url}` is no monitoring endpoint of NATS ({status})",
                next_step="set `http: 127.0.0.1:8222` on the server, and name that address",
            )
        return said

    def present(self) -> Iterator[Present]:
        """Who is connected, with the public key that proved it."""
        for offset in range(0, MOST_CONNECTIONS, PAGE):
            status, said = self._http.ask(f"connz?auth=true&limit={PAGE}&offset={offset}")
            rows = said.get("connections") if status == 200 and isinstance(said, dict) else None
            if not isinstance(rows, list) or not rows:
                return
            for row in rows:
                if isinstance(row, dict):
                    yield _present(row)
            if len(rows) < PAGE:
                return


def _moment(said: object) -> datetime | None:
    """A time of Go's: nanoseconds are more than is read here."""
    try:
        return parse_rfc3339(_FRACTION.sub(r"\1", str(said)))
    except ValueError:
        return None


def _present(row: Mapping[str, Any]) -> Present:
    claims = None
    try:
        claims = decode_jwt(str(row.get("jwt") or ""))
    except Rejected:
        claims = None
    program = " ".join(str(row.get(each) or "") for each in ("lang", "version")).strip()
    return Present(
        user=str((claims or {}).get("sub") or row.get("authorized_user") or row.get("nkey") or ""),
        account=str(row.get("account") or ""),
        address=str(row.get("ip") or ""),
        program=program,
        name=str(row.get("name") or ""),
        number=int(row["cid"]) if isinstance(row.get("cid"), int) else 0,
        since=_moment(row.get("start")),
        claims=claims,
    )
