"""What a gateway does with which request: the operator's file, read strictly.

    subjects = ["process", "token"]        # what proves who asks; "certificate" on a listener of mutual TLS

    [[route]]                              # path, method, host, action, resource, audience: as docs/enforcers.md
    path = "/orders/{order}"
    action = "read"
    resource = "service/orders"
    upstream = "https://orders.example"    # where it goes; without it, a forward proxy goes where it was asked to
    ca = "roots.pem"                       # whom to trust there; without it, the roots of this machine
    strip = ["authorization"]              # fields that do not go on
    upgrade = false                        # true: may become a WebSocket
    private = false                        # true: may lead to private addresses without `upstream`
    inject = {secret = "orders-key", as = "header", name = "x-api-key"}

    [[connect]]                            # tunnels that are decided in another way than `connect` on `host/HOST:PORT`
    host = "*.example"
    port = 443
    private = false

    [bounds]                               # max_body, idle_seconds, answer_seconds, connections

`inject` says `as`: "header" (`name`, `prefix`), "basic" (`user`), or "query" (`name`: logged by many servers).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from remit.client.enforce.routes import Matched, RouteTable, RouteText, read_toml
from remit.kernel.errors import Misconfigured

_FIELD: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_WORD: Final = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
_PREFIX: Final = re.compile(r"[\x21-\x7e ]{0,64}")
_HOST: Final = re.compile(r"(\*\.)?[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}")
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
Subject = Literal["process", "token", "certificate"]


class InjectText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a secret goes on with a request."""

    secret: str
    kind: Literal["header", "basic", "query"] = msgspec.field(name="as")
    name: str = ""
    prefix: str = ""
    user: str = ""


class GatewayRouteText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route as it is written."""

    path: str
    action: str = ""
    resource: str = ""
    method: list[str] = []
    host: str = ""
    audience: str = ""
    public: bool = False
    upstream: str = ""
    ca: str = ""
    strip: list[str] = []
    upgrade: bool = False
    private: bool = False
    inject: InjectText | None = None


class ConnectText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tunnels to a host, as they are written."""

    host: str
    port: int = 443
    action: str = "connect"
    resource: str = ""
    private: bool = False


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one gateway takes."""

    max_body: int = 64 * 1024 * 1024
    """Bytes of a request's body, and of an answer's times 16."""
    idle_seconds: float = 60.0
    """Without a byte, on bodies and tunnels."""
    answer_seconds: float = 60.0
    """Until the head of an answer."""
    connections: int = 512


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    subjects: list[Subject] = msgspec.field(default_factory=lambda: ["process"])
    route: list[GatewayRouteText] = []
    connect: list[ConnectText] = []
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a request goes."""

    tls: bool
    host: str
    port: int
    ca: str = ""

    @property
    def authority(self) -> str:
        """As a `Host` field names it."""
        bare = f"[{self.host}]" if ":" in self.host else self.host
        return bare if self.port == (443 if self.tls else 80) else f"{bare}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoute:
    """A route that was checked."""

    text: GatewayRouteText
    table: RouteTable = field(repr=False)
    upstream: Upstream | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTable:
    """What one gateway does. Immutable."""

    subjects: frozenset[str]
    routes: tuple[GatewayRoute, ...]
    connects: tuple[ConnectText, ...]
    bounds: Bounds

    def match(self, method: str, host: str, path: str) -> tuple[GatewayRoute, Matched] | None:
        """The first route that fits; `None`, which is a refusal, for what none names. `path` is canonical."""
        for route in self.routes:
            if (found := route.table.match(method, host, path)) is not None:
                return route, found
        return None

    def tunnel(self, host: str, port: int) -> ConnectText | None:
        """What the file says of tunnels to a host; `None` where it says nothing."""
        return next((each for each in self.connects if each.port == port and _fits(each.host, host)), None)

    def describe(self) -> list[dict[str, str]]:
        """The table as it was understood, a row for each route."""
        rows = [_row(route) for route in self.routes]
        return rows + [
            {
                "method": "CONNECT", "match": f"{each.host}:{each.port}", "action": each.action,
                "resource": each.resource or "host/HOST:PORT", "upstream": "private allowed" if each.private else "",
                "injects": "",
            }
            for each in self.connects
        ]  # fmt: skip

    def warnings(self) -> list[str]:
        """What the operator should know of it."""
        found = [
            f"`{route.text.path}` injects into the query: servers and proxies log it"
            for route in self.routes
            if route.text.inject is not None and route.text.inject.kind == "query"
        ]
        found += [
            f"`{route.text.path}` injects a secret into plain HTTP to {route.upstream.host}"
            for route in self.routes
            if route.text.inject is not None and route.upstream is not None and not route.upstream.tls
        ]
        return found


def load(file: Path) -> GatewayTable:
    """Read and check the file. `Misconfigured` (`client.routes.invalid`)."""
    try:
        text = msgspec.convert(read_toml(file), _File)
    except msgspec.ValidationError as error:
        raise invalid(f"{file.name}: {error}") from None
    bounds = text.bounds
    if min(bounds.max_body, bounds.idle_seconds, bounds.answer_seconds, bounds.connections) <= 0:
        raise invalid("a bound is not positive")
    return GatewayTable(
        subjects=frozenset(text.subjects),
        routes=tuple(_route(row, file.parent) for row in text.route),
        connects=tuple(_connect(row) for row in text.connect),
        bounds=bounds,
    )


def table_of(rows: Sequence[GatewayRouteText]) -> GatewayTable:
    """A table of routes that are not from a file; each `ca` is a whole path. `Misconfigured`."""
    routes = tuple(_route(row, Path("/")) for row in rows)
    return GatewayTable(subjects=frozenset(), routes=routes, connects=(), bounds=Bounds())


def invalid(why: str) -> Misconfigured:
    """A file that is not taken."""
    return Misconfigured("client.routes.invalid", f"the routes cannot be used: {why}", next_step="see docs/gateways.md")


def parse_upstream(text: str, ca: str = "") -> Upstream:
    """`http[s]://HOST[:PORT]`. `Misconfigured` (`client.routes.invalid`)."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise invalid(f"`{text[:200]}` is no upstream") from None
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or not bare or port == 0:
        raise invalid(f"`{text[:200]}` is no upstream: write http[s]://HOST[:PORT]")
    tls = parts.scheme == "https"
    return Upstream(tls=tls, host=parts.hostname, port=port or (443 if tls else 80), ca=ca)


def _route(row: GatewayRouteText, beside: Path) -> GatewayRoute:
    table = RouteTable.of(
        [
            RouteText(
                path=row.path, action=row.action, resource=row.resource, method=row.method, host=row.host,
                audience=row.audience, public=row.public,
            )
        ]
    )  # fmt: skip
    if not all(_FIELD.fullmatch(name) and name not in _FRAMING for name in row.strip):
        raise invalid(f"`strip` of `{row.path[:200]}` names what is no field, or one that frames the message")
    if row.inject is not None:
        _check_inject(row, row.inject)
    ca = str(beside / row.ca) if row.ca else ""
    return GatewayRoute(text=row, table=table, upstream=parse_upstream(row.upstream, ca) if row.upstream else None)


def _check_inject(row: GatewayRouteText, inject: InjectText) -> None:
    where = f"`inject` of `{row.path[:200]}`"
    if row.public:
        raise invalid(f"{where}: a public route is not decided, and gets no secret")
    if not row.upstream:
        raise invalid(f"{where}: name the `upstream` that gets the secret")
    if not inject.secret:
        raise invalid(f"{where}: name the secret")
    if inject.kind == "header" and (not _FIELD.fullmatch(inject.name) or inject.name in _FRAMING):
        raise invalid(f"{where}: `name` is a field in lower case, e.g. `authorization`")
    if inject.kind == "query" and not _WORD.fullmatch(inject.name):
        raise invalid(f"{where}: `name` is a plain word")
    if inject.kind == "basic" and (not inject.user or ":" in inject.user or not inject.user.isprintable()):
        raise invalid(f"{where}: `user` is there, and without a colon")
    if not _PREFIX.fullmatch(inject.prefix):
        raise invalid(f"{where}: `prefix` is visible ASCII")


def _connect(row: ConnectText) -> ConnectText:
    if not _HOST.fullmatch(row.host) or not 0 < row.port < 65536:
        raise invalid(f"`{row.host[:200]}` is no host of a tunnel in lower case")
    if not row.action or (row.resource and not all(row.resource.partition("/"))):
        raise invalid(f"the tunnel to `{row.host[:200]}` has no action, or a resource that is not KIND/NAME")
    return row


def _fits(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _row(route: GatewayRoute) -> dict[str, str]:
    text, inject = route.text, route.text.inject
    return {
        "method": _methods(text.method),
        "match": f"{text.host}{text.path}",
        "action": "(public)" if text.public else text.action,
        "resource": text.resource,
        "upstream": text.upstream or "where it was asked to",
        "injects": "" if inject is None else f"{inject.secret} as {inject.kind} {inject.name or inject.user}",
    }


def _methods(methods: Sequence[str]) -> str:
    return ",".join(methods) or "any"
