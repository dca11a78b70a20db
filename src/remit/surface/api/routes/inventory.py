"""What exists? Identities, credentials, findings, sources, blast radius; discovery."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from remit.inventory.connectors.catalog import connector_manifests
from remit.inventory.model import Severity
from remit.inventory.records import SORTABLE, CredentialRecord, IdentityFilter, IdentityRecord
from remit.kernel.errors import NotFound, Rejected
from remit.surface.api.route import Call, Route, Stream
from remit.surface.api.routes.joins import ROUTES as JOIN_ROUTES
from remit.surface.api.routes.joins import list_at, moment_of, show_at
from remit.surface.views import identity_page

_TAG = "inventory"


class Discover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scan one source. `secret` is a password for it and stays in memory; `dry_run` reads, and writes nothing."""

    connector: str
    source: str
    options: dict[str, str] = {}
    secret: str = ""
    dry_run: bool = False

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
        finding=query.get("finding", "")[:80],
        connector=query.get("connector", "")[:40],
        tier=_tier(query.get("tier", "")),
        service=query.get("service", "")[:200],
        autonomy=query.get("autonomy", "")[:20],
        expires_before=_before(call),
        include_gone=call.flag("gone"),
        sort=sort,
        descending=descending,
        limit=call.integer("limit", 50, most=most),
        offset=call.integer("offset", 0, most=100_000_000),
    )


def _tier(given: str) -> str:
    if given not in ("", "0", "1", "2", "3", "none"):
        raise Rejected("inventory.filter.tier", f"`{given[:20]}` is no tier", next_step="use 0, 1, 2, 3 or none")
    return given


def _before(call: Call) -> datetime | None:
    days = call.integer("expiring", 0, most=3660)
    return call.control.clock.now() + timedelta(days=days) if days else None


async def list_identities(call: Call) -> Any:
    wanted = filter_of(call)
    if (at := moment_of(call)) is not None:
        if wanted.finding or wanted.connector or wanted.expires_before is not None:
            raise Rejected(
                "inventory.filter.now-only",
                "findings, connectors and expiry are known of now alone",
                next_step="leave `finding`, `connector` and `expiring` out, or `at`",
            )
        return await list_at(call, wanted, at)
    rows, total = await call.control.store.read(lambda unit: unit.inventory.list_identities(wanted))
    return {"total": total, "rows": [call.control.standing.words.lay(each) for each in rows]}


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
    if (at := moment_of(call)) is not None:
        return await show_at(call, call.path["identity"], at)
    return await identity_page(call.control, await resolve(call, call.path["identity"]))


async def dependents(call: Call) -> Any:
    identity = await resolve(call, call.path["identity"])
    return await call.control.dependents(identity)


async def show_use(call: Call) -> Any:
    from remit.wiring.use import use_of

    identity = await resolve(call, call.path["identity"])
    return await call.control.store.read(lambda unit: use_of(unit, identity))


async def list_findings(call: Call) -> Any:
    limit = call.integer("limit", 200, most=10_000)
    severity, text = call.query.get("severity", ""), call.query.get("text", "")[:200]
    source, rule = call.query.get("source", ""), call.query.get("rule", "")[:80]
    if severity and severity not in set(Severity):
        raise Rejected(
            "inventory.filter.severity",
            f"`{severity[:40]}` is no severity",
            next_step=f"use one of {', '.join(Severity)}",
        )
    return await call.control.store.read(
        lambda unit: {
            "counts": unit.inventory.finding_counts(),
            "rows": unit.inventory.findings(limit=limit, severity=severity, text=text, source=source, rule=rule),
        }
    )


async def list_connectors(call: Call) -> Any:
    return list(connector_manifests())


async def discover(call: Call) -> Any:
    from remit.surface.discovery import discover as run
    from remit.surface.discovery import question_of

    body: Discover = call.body
    question = await question_of(call.control, body.connector, body.source, dict(body.options), body.secret)
    return Stream(lines=run(call.control, question, dry_run=body.dry_run))


async def summary(call: Call) -> Any:
    return await call.control.summary()


async def not_found(name: str) -> None:
    """Raise for an unknown identity."""
    raise NotFound("inventory.identity.unknown", f"no identity is called `{name}`", next_step="try `remit ls`")


FILTERS = {
    "text": "part of a title, name, owner or service",
    "kind": "kind of identity",
    "state": "life-cycle state",
    "system": "system of record",
    "environment": "environment",
    "owner": "accountable owner",
    "unowned": "1: only those without an owner",
    "privileged": "1: only privileged ones",
    "exposed": "1: only those with a secret outside a manager",
    "finding": "only those with a finding of this rule; `*` stands for anything",
    "connector": "only those that this connector shows",
    "tier": "0 to 3: only those of which a person said this tier; `none`: those of which nobody said one",
    "service": "business service",
    "autonomy": "human-operated, pipeline or autonomous",
    "expiring": "only those with a credential that expires within so many days, or has expired",
    "gone": "1: also those that no source shows any more",
    "sort": "field, with a leading - for descending",
    "limit": "at most 1000",
    "offset": "rows to pass over",
    "at": "a past day or time: what was there then",
}
ROUTES = [
    Route(method="GET", path="/api/v1/summary", summary="Totals", handler=summary, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/identities",
        summary="List identities",
        handler=list_identities,
        query=FILTERS,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/inventory",
        summary="Every identity and credential",
        handler=list_everything,
        tag=_TAG,
    ),
    *JOIN_ROUTES,
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/dependents",
        summary="Who depends on it",
        handler=dependents,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/use",
        summary="Who uses it, and since when not",
        handler=show_use,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}",
        summary="One identity with its sources",
        handler=show_identity,
        query={"at": "a past day or time: what was there then"},
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
            "rule": "only of this rule",
            "limit": "at most 10000",
        },
        tag=_TAG,
    ),
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
