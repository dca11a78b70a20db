"""What does anything reach, how soon, since when, and what would stop it?"""

from __future__ import annotations

from typing import Any, Final

from remit.governance.blastradius.trend import ESTATE
from remit.kernel.errors import NotFound
from remit.surface.api.route import Call, Route, Text
from remit.surface.api.routes.joins import moment_of
from remit.surface.blast import asked_of, render_details, seconds_of

_TAG = "inventory"
MOST_NODES: Final = 100_000


async def blast(call: Call) -> Any:
    from remit.inventory.graph.render import node_document, render_document, render_text
    from remit.inventory.graph.svg import render_svg

    desk = call.control.blasts
    found = await desk.find(asked_of(call.query, moment_of(call), of=call.path.get("identity", "")))
    within = seconds_of(call.query.get("within", ""))
    match call.query.get("as", "json"):
        case "svg":
            return Text(body=render_svg(found.blast, standalone=True), media_type="image/svg+xml")
        case "text":
            details = await desk.details(found, within=within)
            body = render_text(found.blast) + "\n" + render_details(details)
            return Text(body=body, media_type="text/plain; charset=utf-8")
        case _:
            answer = render_document(found.blast, limit=call.integer("limit", MOST_NODES, most=MOST_NODES))
            answer["start"] = start = node_document(found.blast.start)
            listed: list[Any] = [start, *_list(answer["becomes"]), *_list(answer["nodes"])]
            details = await desk.details(found, within=within)
            await desk.document(found, [*listed, *details["starts"], *details["most_sensitive"]])
            return {**answer, **details}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


async def top(call: Call) -> Any:
    return await call.control.blast_watch.top(max(1, call.integer("limit", 20, most=1000)))


async def trend(call: Call) -> Any:
    days = max(1, call.integer("days", 30, most=400))
    given = call.query.get("of", "")[:2000]
    if not given:
        return await call.control.blast_watch.trend(ESTATE, days)
    node = await call.control.graphs.node(given)
    found = await call.control.blast_watch.trend(node, days)
    if not any(each["measured"] for each in found["days"]):
        raise NotFound(
            "inventory.blast.trend", f"there is no sample of `{given[:200]}` yet",
            next_step="identities of tier 0 and 1, and those that nobody assessed, have one each day",
        )  # fmt: skip
    return found


_QUERY = {
    "as": "json, text or svg", "at": "a past day (2026-03-03) or time",
    "within": "what is reached in this time: 90s, 5m, 2h", "limit": "how many nodes are listed in json",
}  # fmt: skip
_STARTS = {
    "of": "an identity, a credential by its fingerprint, or a resource", "owner": "all that one owner answers for",
    "vendor": "what a vendor ships into pipelines", "host": "everything on one host",
    "repository": "a repository and its pipelines",
}  # fmt: skip


async def blast_of_one(call: Call) -> Any:
    return await blast(call)


ROUTES = [
    Route(
        method="GET", path="/api/v1/identities/{identity:path}/blast", summary="Blast radius of one thing",
        handler=blast_of_one, query=_QUERY, tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/blast", summary="Blast radius of anything: one start, or all of an owner",
        handler=blast, query={**_STARTS, **_QUERY}, tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/blast/top", summary="The largest blast radii, each against its tier's budget",
        handler=top, query={"limit": "how many"}, tag=_TAG,
    ),
    Route(
        method="GET", path="/api/v1/blast/trend", summary="A blast radius by day; without `of` that of the estate",
        handler=trend, query={"of": "an identity", "days": "how many, at most 400"}, tag=_TAG,
    ),
]  # fmt: skip
