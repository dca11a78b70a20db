"""Which request is which action on which resource: a table, read strictly; what it does not name is denied.

    [[route]]
    method = ["GET", "HEAD"]            # none: any
    host = "api.example"                # or "*.example"; none: any
    path = "/orders/{order}"            # {name}: one segment; a last "/**": everything below
    action = "read"
    resource = "service/orders/{order}" # KIND/NAME, with what the path named
    audience = "https://api.example"    # of tokens; none: no token is taken here
    public = false                      # true: passes without a decision

The first route that fits counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from remit.kernel.errors import Misconfigured

MAX_ROUTES: Final = 4096
MAX_FILE_BYTES: Final = 1 << 20
_PARAMETER: Final = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]{0,31}")
_HOST: Final = re.compile(r"(\*\.)?[a-z0-9.-]{1,253}")


class RouteText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route as it is written."""

    path: str
    action: str = ""
    resource: str = ""
    method: list[str] = []
    host: str = ""
    audience: str = ""
    public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What one request asks for."""

    action: str
    kind: str
    name: str
    audience: str = ""
    public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route that was checked."""

    pattern: re.Pattern[str]
    methods: frozenset[str]
    host: str
    action: str
    kind: str
    name: str
    audience: str
    public: bool

    def match(self, method: str, host: str, path: str) -> Matched | None:
        """What a request asks for by this route; `None` when it does not fit. `path` is canonical."""
        if (self.methods and method not in self.methods) or not self._fits_host(host):
            return None
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        named = found.groupdict()
        name = _PARAMETER.sub(lambda parameter: named[parameter[1]], self.name)
        return Matched(action=self.action, kind=self.kind, name=name, audience=self.audience, public=self.public)

    def _fits_host(self, host: str) -> bool:
        if not self.host:
            return True
        bare = host.lower().partition(":")[0].rstrip(".")  # `api.example.` is the same host (RFC 3986 §3.2.2)
        return bare.endswith(self.host[1:]) if self.host.startswith("*.") else bare == self.host


class RouteTable:
    """Routes in their order. Immutable."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = tuple(routes)

    def match(self, method: str, host: str, path: str) -> Matched | None:
        """What a request asks for; `None`, which is a denial, for what no route names. `path` is canonical."""
        for route in self._routes:
            if (found := route.match(method, host, path)) is not None:
                return found
        return None

    @classmethod
    def of(cls, rows: Sequence[RouteText]) -> RouteTable:
        """Check routes. `Misconfigured` (`client.routes.invalid`)."""
        if len(rows) > MAX_ROUTES:
            raise _invalid(f"there are more than {MAX_ROUTES} routes")
        return cls([_route(row) for row in rows])

    @classmethod
    def parse(cls, rows: Sequence[Mapping[str, Any]]) -> RouteTable:
        """The table of plain data; an unknown key is an error. `Misconfigured` (`client.routes.invalid`)."""
        try:
            return cls.of(msgspec.convert(list(rows), list[RouteText]))
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None

    @classmethod
    def load(cls, file: Path) -> RouteTable:
        """The table of a TOML file with `[[route]]`. `Misconfigured` (`client.routes.invalid`)."""
        read = read_toml(file)
        if read.keys() - {"route"}:
            raise _invalid(f"`{min(read.keys() - {'route'})[:80]}` is no key of `{file.name}`")
        return cls.parse(read.get("route", []))


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file of at most 1 MiB. `Misconfigured` (`client.routes.invalid`)."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise _invalid(f"`{file}` is larger than {MAX_FILE_BYTES} bytes")
        return tomllib.loads(raw.decode())
    except (OSError, ValueError) as error:
        raise _invalid(f"`{file}` cannot be read: {error}") from None


def _route(row: RouteText) -> Route:
    kind, slash, name = row.resource.partition("/")
    if not row.public and (not row.action or not slash or not kind or not name):
        raise _invalid(f"the route `{row.path[:200]}` has no action, or no resource as KIND/NAME")
    if not all(_METHOD.fullmatch(method) for method in row.method):
        raise _invalid(f"a method of the route `{row.path[:200]}` is none")
    if row.host and not _HOST.fullmatch(row.host):
        raise _invalid(f"`{row.host[:200]}` is no host in lower case, without a port")
    pattern, parameters = _pattern(row.path)
    unknown = set(_PARAMETER.findall(name)) - parameters
    if unknown:
        raise _invalid(f"the path `{row.path[:200]}` has no `{{{min(unknown)}}}`")
    return Route(
        pattern=pattern, methods=frozenset(row.method), host=row.host, action=row.action, kind=kind, name=name,
        audience=row.audience, public=row.public,
    )  # fmt: skip


def _pattern(path: str) -> tuple[re.Pattern[str], set[str]]:
    if not path.startswith("/") or "//" in path or not path.isprintable():
        raise _invalid(f"`{path[:200]}` is no path")
    below = path.endswith("/**")
    plain = path.removesuffix("/**") if below else path
    parameters: list[str] = []
    parts: list[str] = []
    for segment in plain.split("/")[1:] if plain else []:
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is not None and parameter[1] not in parameters:
            parameters.append(parameter[1])
            parts.append(f"(?P<{parameter[1]}>[^/]+)")
        elif any(mark in segment for mark in "{}*"):
            raise _invalid(f"`{path[:200]}` has a segment that is neither plain text nor one new {{name}}")
        else:
            parts.append(re.escape(segment))
    text = "".join(f"/{part}" for part in parts) + ("/.+" if below else "")
    return re.compile(text, re.DOTALL), set(parameters)


def _invalid(why: str) -> Misconfigured:
    return Misconfigured(
        "client.routes.invalid", f"the routes cannot be used: {why}", next_step="see docs/enforcers.md"
    )
