"""Sources: how each is read, when again, and what its last reading changed. And saved views of the inventory."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.inventory.readings import Reading
from remit.kernel.errors import NotFound, Rejected, Unavailable
from remit.surface.api.route import Call, Route, Stream

_TAG = "inventory"
_MOST_VIEWS = 200


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a source is read, in seconds; 0 ends it."""

    every: int


class Again(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Read it as it was read last; `dry_run` writes nothing."""

    dry_run: bool = False


class View(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name, and the filters of the list of identities as they stand in an address."""

    name: str
    query: str


async def sources_of(control: Any) -> list[dict[str, Any]]:
    """Every source with its last run, its schedule, and the numbers of its last difference."""

    def look(unit: Any) -> list[dict[str, Any]]:
        readings = {each.source: each for each in unit.discovery.readings()}
        return [{**msgspec.to_builtins(each), **_reading(readings.get(each.id))} for each in unit.inventory.sources()]

    rows: list[dict[str, Any]] = await control.store.read(look)
    for row in rows:
        row["reading"] = row["id"] in control.being_read
    return rows


def _reading(reading: Reading | None) -> dict[str, Any]:
    if reading is None:
        return {"every": None, "next": None, "whole": None, "trouble": "", "failures": 0, "secret": None,
                "changed": None, "source": ""}  # fmt: skip
    numbers = None
    if reading.diff is not None:
        numbers = {key: reading.diff[key] for key in ("first", "new", "gone", "changed")}
    return {
        "every": reading.every,
        "next": reading.due,
        "whole": reading.finished,
        "trouble": reading.trouble,
        "failures": reading.failures,
        "secret": reading.asked.secret.value,
        "changed": numbers,
        "source": reading.asked.source,
    }


async def list_sources(call: Call) -> Any:
    return await sources_of(call.control)


async def show_diff(call: Call) -> Any:
    from remit.surface.schedule import require_reading

    reading = await call.control.store.read(lambda unit: require_reading(unit, call.path["source"]))
    if reading.diff is None:
        raise NotFound(
            "inventory.source.never-whole", "this source was never read wholly", next_step="run `remit sources`"
        )
    return reading.diff


async def schedule(call: Call) -> Any:
    body: Schedule = call.body
    if call.surface.scheduler is None:
        raise Unavailable("surface.server.opening", "the server is still being opened", next_step="try it again")
    reading = await call.surface.scheduler.plan(call.path["source"], body.every, by=call.caller.actor)
    return {"id": reading.source, **_reading(reading)}


async def read_again(call: Call) -> Any:
    from remit.surface.discovery import discover
    from remit.surface.schedule import again

    body: Again = call.body
    question = await again(call.control, call.path["source"])
    return Stream(lines=discover(call.control, question, dry_run=body.dry_run))


async def list_views(call: Call) -> Any:
    return await call.control.store.read(lambda unit: unit.discovery.views())


async def save_view(call: Call) -> Any:
    body: View = call.body
    return await keep_view(call.control, body.name, body.query, by=call.caller.actor)


async def keep_view(control: Any, name: str, query: str, *, by: str) -> dict[str, str]:
    """Save a view. `Rejected` (`inventory.view.unfit`) for what is no name or no filter, or is one too many."""
    from urllib.parse import parse_qsl, urlencode

    from remit.surface.api.routes.inventory import FILTERS

    name = " ".join(name.split())
    wanted = [(key, value) for key, value in parse_qsl(query[:4000]) if key in FILTERS and key not in _NOT_KEPT]
    kept = urlencode(wanted)
    if not 0 < len(name) <= 80 or not name.isprintable() or not kept or len(kept) > 2000:
        raise Rejected(
            "inventory.view.unfit",
            "a view needs a name of at most 80 characters, and a filter",
            next_step="filter the list first, then save it under a short name",
        )

    def work(unit: Any) -> None:
        known = {each["name"] for each in unit.discovery.views()}
        if name not in known and len(known) >= _MOST_VIEWS:
            raise Rejected(
                "inventory.view.unfit", f"there are {_MOST_VIEWS} views already", next_step="delete one of them"
            )
        unit.discovery.put_view(name, kept, by, unit.now)

    await control.store.write(work)
    return {"name": name, "query": kept}


async def drop_view(call: Call) -> Any:
    await forget_view(call.control, call.path["view"])


async def forget_view(control: Any, name: str) -> None:
    """Delete a view. `NotFound` (`inventory.view.unknown`)."""
    if not await control.store.write(lambda unit: unit.discovery.drop_view(name)):
        raise NotFound("inventory.view.unknown", f"no view is called `{name[:80]}`", next_step="look at the inventory")


_NOT_KEPT = frozenset({"limit", "offset", "at"})
ROUTES = [
    Route(
        method="GET",
        path="/api/v1/sources",
        summary="Sources: last run, schedule, what could not be seen",
        handler=list_sources,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/sources/{source}/diff",
        summary="What the last whole run of a source changed",
        handler=show_diff,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/sources/{source}/schedule",
        summary="Let a source be read by itself, or no more",
        handler=schedule,
        body=Schedule,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/sources/{source}/discover",
        summary="Read a source again; answers progress as lines",
        handler=read_again,
        body=Again,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/views", summary="Saved views of the inventory", handler=list_views, tag=_TAG),
    Route(method="POST", path="/api/v1/views", summary="Save a view", handler=save_view, body=View, tag=_TAG),
    Route(method="DELETE", path="/api/v1/views/{view}", summary="Delete a view", handler=drop_view, tag=_TAG),
]
