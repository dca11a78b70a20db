"""What each enforcement point enforces: an operator's file, read strictly and again when it changes.

    [enforcer.edge]                          # by the name of its registration
    proxy = "envoy"                          # envoy, nginx, traefik or kubernetes
    subjects = ["certificate", "token"]      # what proves who sends a request; "certificate": it terminates mTLS
    strip = ["authorization"]                # headers that the upstream does not get
    scheme = "https"                         # of the URLs that its clients ask for

    [[enforcer.edge.route]]                  # see remit.client.enforce.routes
    path = "/orders/**"
    action = "read"
    resource = "service/orders"

The file grants: which request is which action, and whose word counts. So it lies with the operator, not in the
database. One that cannot be read leaves the last good one in force, and the log says so; at the start it is an error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from remit.client.enforce.routes import RouteTable, RouteText, read_toml
from remit.kernel.errors import Denied, Misconfigured

_log = logging.getLogger("remit.enforcers")
_LOOK_SECONDS: Final = 0.5
_HEADER: Final = re.compile(r"[a-z0-9-]{1,64}")


class Proxy(StrEnum):
    """How an enforcement point tells of a request."""

    ENVOY = "envoy"
    NGINX = "nginx"
    TRAEFIK = "traefik"
    KUBERNETES = "kubernetes"


class Proof(StrEnum):
    """What proves who sends a request."""

    CERTIFICATE = "certificate"
    TOKEN = "token"


class _Text(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    proxy: Proxy
    subjects: list[Proof] = []
    strip: list[str] = []
    scheme: str = "https"
    instance: str = ""
    allows: bool = False
    route: list[RouteText] = []


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enforcer: dict[str, _Text] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What one enforcement point enforces."""

    proxy: Proxy
    subjects: frozenset[Proof] = frozenset()
    strip: tuple[str, ...] = ()
    scheme: str = "https"
    instance: str = ""
    """kubernetes: the cluster, as the inventory names it."""
    allows: bool = False
    """kubernetes: whether a permit is the cluster's last word; else its other authorizers are asked as well."""
    routes: RouteTable = field(default_factory=lambda: RouteTable(()))


class Tables:
    """The tables of one installation, by the name of the enforcement point. Without the file there are none."""

    def __init__(self, file: Path, monotonic: Callable[[], float]) -> None:
        self._file = file
        self._monotonic = monotonic
        self._looked = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._tables: Mapping[str, Table] = {}

    def open(self) -> None:
        """Read the file, if there is one. `Misconfigured` (`client.routes.invalid`)."""
        self._stamp = self._stamp_now()
        self._tables = read_tables(self._file) if self._stamp is not None else {}

    def require(self, enforcer: str, *proxies: Proxy) -> Table:
        """The table of an enforcement point that is one of `proxies`. `Denied` (`access.enforcer.table`)."""
        self._refresh()
        found = self._tables.get(enforcer)
        if found is None or found.proxy not in proxies:
            raise Denied(
                "access.enforcer.table",
                f"nothing is configured for `{enforcer[:80]}` to enforce here",
                next_step=f"write `[enforcer.{enforcer[:80]}]` into `{self._file.name}`",
            )
        return found

    def _refresh(self) -> None:
        now = self._monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tables = read_tables(self._file) if stamp is not None else {}
        except Misconfigured as error:
            _log.error("%s is not taken over, the last good one stays: %s", self._file, error)

    def _stamp_now(self) -> tuple[int, int] | None:
        try:
            seen = self._file.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size


def read_tables(file: Path) -> dict[str, Table]:
    """Read and check the file. `Misconfigured` (`client.routes.invalid`)."""
    try:
        read = msgspec.convert(read_toml(file), _File)
    except msgspec.ValidationError as error:
        raise _invalid(f"{file.name}: {error}") from None
    return {name: _table(name, text) for name, text in read.enforcer.items()}


def _table(name: str, text: _Text) -> Table:
    kubernetes = text.proxy is Proxy.KUBERNETES
    if kubernetes != bool(text.instance) or (kubernetes and (text.route or text.subjects or text.strip)):
        raise _invalid(f"`{name[:80]}`: a cluster has an `instance`, and nothing else has")
    if not kubernetes and not text.subjects and not all(route.public for route in text.route):
        raise _invalid(f"`{name[:80]}`: no `subjects` say what proves who sends a request")
    if text.scheme not in ("http", "https") or not all(_HEADER.fullmatch(header) for header in text.strip):
        raise _invalid(f"`{name[:80]}`: `scheme` is http or https, `strip` names headers in lower case")
    return Table(
        proxy=text.proxy, subjects=frozenset(text.subjects), strip=tuple(text.strip), scheme=text.scheme,
        instance=text.instance, allows=text.allows, routes=RouteTable.of(text.route),
    )  # fmt: skip


def _invalid(why: str) -> Misconfigured:
    return Misconfigured(
        "client.routes.invalid", f"the routes cannot be used: {why}", next_step="see docs/enforcers.md"
    )
