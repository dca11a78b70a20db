"""What exists? Identities, credentials, findings, sources, blast radius; discovery."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.inventory.records import SORTABLE, CredentialRecord, IdentityFilter, IdentityRecord
from remit.kernel.errors import NotFound, Rejected
from remit.surface.api.route import Call, Route, Stream, Text
from remit.surface.views import identity_page

_TAG = "inventory"


class Discover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scan one source. `secret` is a password for it and stays in memory."""

    connector: str
    source: str
    options: dict[str, str] = {}
    secret: str = ""

    def __repr__(self) -> str:
        return f"Discover({self.connector!r}, {self.source!r})"


def filter_of(call: Call, *, most: int = 1000) -> IdentityFilter:
    """The filter that a query asks for."""
    query = call.query
    sort = query.get("sort", "title")
    descending = sort.startswith("-") or call.flag("descending")
    sort = sort.removeprefix("-")
    if sort not in SORTABLE:
        raise Rejected("inventory.sort.unknown", f"cannot sort by `{sort}`", next_step="use " + ", ".join(SORTABLE))
    return IdentityFilter(
        text=query.get("text", "")[:200],
        kind=query.get("kind", ""),
        state=query.get("state", ""),
        system=query.get("system", ""),
        environment=query.get("environment", ""),
        owner=query.get("owner", ""),
        unowned=call.flag("unowned"),
        privileged=call.flag("privileged"),
        exposed=call.flag("exposed"),
        include_gone=call.flag("gone"),
        sort=sort,
        descending=descending,
        limit=call.integer("limit", 50, most=most),
        offset=call.integer("offset", 0, most=100_000_000),
    )


async def list_identities(call: Call) -> Any:
    wanted = filter_of(call)
    rows, total = await call.control.store.read(lambda unit: unit.inventory.list_identities(wanted))
    return {"total": total, "rows": rows}


def _row(record: IdentityRecord | CredentialRecord) -> dict[str, Any]:
    kind = "identity" if isinstance(record, IdentityRecord) else "credential"
    plain = msgspec.to_builtins(record)
    return {"record": kind, **plain}


async def list_everything(call: Call) -> Any:
    def query(unit: Any) -> list[dict[str, Any]]:
        rows = [_row(each) for each in unit.inventory.all_identities() if each.present or call.flag("gone")]
        rows += [_row(each) for each in unit.inventory.all_credentials() if each.present or call.flag("gone")]
        return rows

    return await call.control.store.read(query)


async def resolve(call: Call, given: str) -> str:
    """The id of the identity that `given` names: an id, any name of it, or the unambiguous end or part of one."""
    return await call.control.resolve(given)


async def show_identity(call: Call) -> Any:
    return await identity_page(call.control, await resolve(call, call.path["identity"]))


async def blast(call: Call) -> Any:
    from remit.inventory.graph.render import render_document, render_text
    from remit.inventory.graph.svg import render_svg

    result = await call.control.blast(call.path["identity"])
    match call.query.get("as", "json"):
        case "svg":
            return Text(body=render_svg(result, standalone=True), media_type="image/svg+xml")
        case "text":
            return Text(body=render_text(result), media_type="text/plain; charset=utf-8")
        case _:
            return render_document(result)


async def dependents(call: Call) -> Any:
    identity = await resolve(call, call.path["identity"])
    return await call.control.dependents(identity)


async def list_findings(call: Call) -> Any:
    limit = call.integer("limit", 200, most=10_000)
    severity, text = call.query.get("severity", ""), call.query.get("text", "")[:200]
    source = call.query.get("source", "")
    return await call.control.store.read(
        lambda unit: {
            "counts": unit.inventory.finding_counts(),
            "rows": unit.inventory.findings(limit=limit, severity=severity, text=text, source=source),
        }
    )


async def list_sources(call: Call) -> Any:
    return await call.control.store.read(lambda unit: unit.inventory.sources())


async def list_connectors(call: Call) -> Any:
    return list(call.control.connector_manifests())


async def discover(call: Call) -> Any:
    from remit.surface.discovery import discover as run

    body: Discover = call.body
    options, secret = dict(body.options), body.secret
    if body.connector == "postgres" and "://" not in body.source:
        target, secret = await call.control.targets.credential(body.source)
        options = {"host": target.host, "port": str(target.port), "user": target.user, "database": target.database,
                   **target.options}  # fmt: skip
    lines = run(call.control, body.connector, body.source, options=options, secret=secret)
    return Stream(lines=lines)


async def summary(call: Call) -> Any:
    return await call.control.summary()


async def not_found(name: str) -> None:
    """Raise for an unknown identity."""
    raise NotFound("inventory.identity.unknown", f"no identity is called `{name}`", next_step="try `remit ls`")


_FILTERS = {
    "text": "part of a title, name, owner or service",
    "kind": "kind of identity",
    "state": "life-cycle state",
    "system": "system of record",
    "environment": "environment",
    "owner": "accountable owner",
    "unowned": "1: only those without an owner",
    "privileged": "1: only privileged ones",
    "exposed": "1: only those with a secret outside a manager",
    "gone": "1: also those that no source shows any more",
    "sort": "field, with a leading - for descending",
    "limit": "at most 1000",
    "offset": "rows to pass over",
}
ROUTES = [
    Route(method="GET", path="/api/v1/summary", summary="Totals", handler=summary, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/identities",
        summary="List identities",
        handler=list_identities,
        query=_FILTERS,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/inventory",
        summary="Every identity and credential",
        handler=list_everything,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/blast",
        summary="Blast radius",
        handler=blast,
        query={"as": "json, text or svg"},
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/dependents",
        summary="Who depends on it",
        handler=dependents,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}",
        summary="One identity with its sources",
        handler=show_identity,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/findings",
        summary="Findings, worst first",
        handler=list_findings,
        query={
            "severity": "only this severity",
            "text": "part of title or place",
            "source": "only of this source",
            "limit": "at most 10000",
        },
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/sources", summary="Sources and their last run", handler=list_sources, tag=_TAG),
    Route(method="GET", path="/api/v1/connectors", summary="Connectors", handler=list_connectors, tag=_TAG),
    Route(
        method="POST",
        path="/api/v1/discover",
        summary="Scan a source; answers progress as lines",
        handler=discover,
        body=Discover,
        tag=_TAG,
    ),
]
