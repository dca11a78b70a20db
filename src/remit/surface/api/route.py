"""A route as data: what it takes, what it answers, who may call it. OpenAPI is drawn from the same records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from remit.kernel.errors import Denied, Rejected

if TYPE_CHECKING:
    from remit.governance.signatures import Approver
    from remit.surface.context import Surface
    from remit.trust.model import PresentedSvid
    from remit.wiring import ControlPlane

MAX_BODY_BYTES = 4 * 1024 * 1024
_CENTURY = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, as the listener proved it: never what the request says of itself."""

    via: str
    """`admin.sock`, `console`, `tcp` or `mtls`."""
    uid: int | None = None
    pid: int | None = None
    session: str | None = None
    approver: Approver | None = None
    """The registered person whose own credential signed this very request."""
    svid: PresentedSvid | None = None
    """The X.509-SVID of the peer, verified, where the listener asked for one (`mtls`)."""
    source: str = ""
    """The network address that the connection comes from (`mtls`)."""

    @property
    def actor(self) -> str:
        """How the ledger names the caller."""
        if self.approver is not None:
            return f"person:{self.approver.name}"
        if self.svid is not None:
            return str(self.svid.spiffe_id)
        return f"local:uid:{self.uid}" if self.uid is not None else f"{self.via}:anonymous"

    @property
    def administrates(self) -> bool:
        """Whether the caller reached us by a way that only an administrator of this installation has."""
        return self.via in ("admin.sock", "console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, decoded."""

    surface: Surface
    caller: Caller
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any = None
    raw: bytes = field(default=b"", repr=False)
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """Every value of each header, by its name in lower case: what the caller says, of which nothing is proof."""

    @property
    def control(self) -> ControlPlane:
        """The control plane that answers."""
        return self.surface.control

    def require_person(self, what: str) -> Approver:
        """The person whose credential signed this request; `Denied` where only the socket vouches for the caller."""
        if self.caller.approver is None:
            raise Denied(
                "surface.person.required",
                f"{what} needs a registered person's own credential",
                next_step="enrol with `remit people enrol NAME`, then repeat the command",
            )
        return self.caller.approver

    def require_svid(self) -> PresentedSvid:
        """The verified X.509-SVID of the peer; `Denied` (`surface.proof.missing`) where there is none."""
        if self.caller.svid is None:
            raise Denied(
                "surface.proof.missing",
                "this needs an X.509-SVID of the caller",
                next_step="connect by mutual TLS to the listener of agents and workloads",
            )
        return self.caller.svid

    def integer(self, key: str, default: int, *, most: int) -> int:
        """A whole number of the query, from 0 to `most`."""
        text = self.query.get(key)
        if text is None or text == "":
            return default
        if not text.isdecimal() or int(text) > most:
            raise Rejected("surface.query.invalid", f"`{key}` takes a whole number from 0 to {most}")
        return int(text)

    def flag(self, key: str) -> bool:
        """Whether `key` is asked for."""
        return self.query.get(key, "") in ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer of many lines, one JSON document each."""

    lines: AsyncIterator[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """An answer that is no JSON."""

    body: str | bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation."""

    method: str
    path: str
    summary: str
    handler: Handler
    body: type[Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters and what they mean."""
    public: bool = False
    """Answered without proof on every listener."""
    mtls: bool = False
    """Answered on the listener of agents and workloads as well, to any verified SVID (`Call.require_svid`)."""
    tag: str = ""


def seconds_of(number: int) -> timedelta:
    """A span that a body says in whole seconds; one that no clock could count is cut to a century."""
    return timedelta(seconds=max(-_CENTURY, min(_CENTURY, number)))


def decode_body(kind: type[Any] | None, raw: bytes) -> Any:
    """Decode a request body strictly; `Rejected` (`surface.body.invalid`) says what is wrong and where."""
    if kind is None:
        return None
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected("surface.body.invalid", f"the body is not what this operation takes: {error}") from None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as RFC 9457 has it, with a stable code and what to do next."""

    type: str
    title: str
    status: int
    code: str
    next_step: str
    retry_after_seconds: float | msgspec.UnsetType = msgspec.UNSET


def _operation(route: Route) -> str:
    """A name of the operation that no other has: what is done, where, to what."""
    return f"{route.method.lower()}_{route.handler.__module__.rpartition('.')[2]}_{route.handler.__name__}"


_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def openapi(routes: list[Route], *, version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of `routes`."""
    kinds = [route.body for route in routes if route.body is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, schemas[:-1], strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        operation: dict[str, Any] = {
            "summary": route.summary,
            "operationId": _operation(route),
            "tags": [route.tag] if route.tag else [],
            "parameters": [
                {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
                for part in path.split("/")
                if part.startswith("{")
            ]
            + [
                {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                for name, text in route.query.items()
            ],
            "responses": {
                "200": {"description": "done", "content": {"application/json": {"schema": {}}}},
                "default": {"description": "an error", "content": {"application/problem+json": {"schema": _PROBLEM}}},
            },
        }
        if route.body is not None:
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": by_kind[route.body]}},
            }
        if route.public:
            operation["security"] = []
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Remit", "version": version, "description": "A control plane for non-human identities."},
        "paths": paths,
        "components": {"schemas": components},
    }
