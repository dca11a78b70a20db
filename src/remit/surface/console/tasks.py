"""The console's page of live tasks: what runs now, where, until when, and every credential that it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse

from remit.access.leases.model import LIVE, HeldLease, LeaseFilter
from remit.access.model import LeaseState
from remit.access.ports import StoredGrant
from remit.access.tasks.kinds import CgroupTask, Far, ProcessTask, kind_of, place_of
from remit.kernel.errors import RemitError
from remit.kernel.events import Event
from remit.surface.api.route import Call
from remit.surface.console.leases import OPEN, asked, filter_of, lease_page, lease_views, link, target_names
from remit.surface.console.render import HEADERS, page, partial

if TYPE_CHECKING:
    from remit.access.tasks.far import StoredRun
    from remit.surface.context import Surface

_TASKS = 25
_LEASES_OF_ONE = 4
_LOUD = 20
_EVENTS = ("access.lease.", "access.grant.", "access.run.", "access.orphan.")
_LOOK_EVERY = 5.0
"""Renewals and heartbeats are no events: the page is looked at again so often."""
_TOGETHER = 0.1
"""Events that come together are shown together."""
_BETWEEN = 1.0
"""The least time between two looks: a thousand leases that end at once cost as much as one."""


async def overview(surface: Surface, call: Call) -> Response:
    """Running tasks, what is not contained, and live leases."""
    where, trouble = await filter_of(surface, call, usual="live")

    def read(unit: Any) -> dict[str, Any]:
        tasks, older = task_page(unit, where, call)
        return {
            **lease_page(unit, where, call, "/tasks"),
            "tasks": tasks,
            "older_tasks": older,
            "newest_tasks": link(call, "/tasks") + "#running" if call.query.get("tasks_before") else "",
            **standing(unit),
            "targets": target_names(unit),
            "definitions": len(unit.access.tasks()),
        }

    found = await surface.control.store.read(read)
    return page(
        "tasks.html", here="/tasks", f=asked(call, "live"), trouble=trouble, path="/tasks",
        stream=link(call, "/tasks/stream", tasks_before=call.query.get("tasks_before", "")[:32]), **found,
    )  # fmt: skip


def standing(unit: Any) -> dict[str, Any]:
    """How many leases there are in each state, and those that are not contained."""
    found = unit.access.count_leases()
    loud = unit.access.newest_leases(LeaseFilter(states=OPEN), _LOUD) if any(found.get(each) for each in OPEN) else ()
    return {"counts": {state.value: found.get(state, 0) for state in LeaseState}, "loud": lease_views(unit, loud)}


def task_page(unit: Any, where: LeaseFilter, call: Call) -> tuple[list[dict[str, Any]], str]:
    """Running tasks by keyset, the newest first, and the link to the older ones."""
    before = call.query.get("tasks_before", "")[:32]
    narrowed = any((where.target, where.identity, where.task, where.grant)) or where.states != LIVE
    asked_for = replace(where, before=before) if narrowed else LeaseFilter(before=before)
    stored = unit.access.running_grants(asked_for, _TASKS + 1)
    older = link(call, "/tasks", tasks_before=stored[_TASKS - 1].grant.id) + "#running" if len(stored) > _TASKS else ""
    return task_views(unit, stored[:_TASKS]), older


def task_views(unit: Any, stored: list[StoredGrant]) -> list[dict[str, Any]]:
    """What a row says of each run of a task, with its live leases."""
    grants = [each.grant for each in stored]
    known = unit.inventory.identities({each.identity for each in grants if each.identity})
    far = [each.process.run for each in stored if isinstance(each.process, Far)]
    runs = unit.access.runs_by_id(far) if far else {}
    held: dict[str, list[HeldLease]] = {each.id: [] for each in grants}
    for one in unit.access.leases_of_grants(held) if held else ():
        held[one.lease.grant].append(one)
    shown = lease_views(unit, [one for several in held.values() for one in several[:_LEASES_OF_ONE]])
    return [
        {
            **_task_view(each, known, runs),
            "leases": [one for one in shown if one["grant"] and one["grant"]["id"] == each.grant.id],
            "more": max(0, len(held[each.grant.id]) - _LEASES_OF_ONE),
        }
        for each in stored
    ]


def _task_view(stored: StoredGrant, known: Mapping[str, Any], runs: Mapping[str, StoredRun]) -> dict[str, Any]:
    grant, task = stored.grant, stored.process
    identity = known.get(grant.identity)
    row = runs.get(task.run) if isinstance(task, Far) else None
    return {
        "id": grant.id,
        "task": grant.task,
        "identity": grant.identity,
        "title": identity.title if identity is not None else grant.identity,
        "owner": identity.owner if identity is not None else "",
        "kind": kind_of(task) if task is not None else "",
        "where": place_of(task) if task is not None else "",
        "since": row.begun if row is not None else grant.created,
        "expires": grant.expires,
        "reason": grant.reason,
        "running": grant.state.value == "approved",
        "ended": stored.ended,
        "kept_by": _kept_by(task),
        "beats": row.beats if row is not None else 0,
        "until": row.until if row is not None else None,
    }


def _kept_by(task: Any) -> str:
    """Whose word says that it lives."""
    match task:
        case ProcessTask():
            return "the kernel says when it ends"
        case CgroupTask():
            return "the kernel says when nothing is left in it"
        case Far(heartbeat=seconds):
            return f"a heartbeat every {seconds} s"
        case _:
            return ""


# As it happens.


async def stream(surface: Surface, call: Call) -> Response:
    """The rows of this very view that have changed: at each step of a lease, and every few seconds besides."""
    where, _ = await filter_of(surface, call, usual="live")
    view = _View(surface, call, where)

    async def lines() -> AsyncIterator[bytes]:
        async with surface.control.bus.subscribe() as queue:
            yield b"retry: 2000\n\n"
            while True:
                for html in await view.changed():
                    yield b"event: row\ndata: " + html.replace(b"\n", b" ") + b"\n\n"
                yield b": still here\n\n"
                looked = surface.control.clock.monotonic()
                await _something(queue)
                await asyncio.sleep(looked + _BETWEEN - surface.control.clock.monotonic())

    return StreamingResponse(lines(), media_type="text/event-stream", headers=HEADERS)


async def _something(queue: asyncio.Queue[Event]) -> None:
    """Wait until a lease takes a step, or for the time after which one looks anyway."""
    try:
        async with asyncio.timeout(_LOOK_EVERY):
            while not (await queue.get()).type.startswith(_EVENTS):
                pass
            await asyncio.sleep(_TOGETHER)
    except TimeoutError:
        return
    while not queue.empty():
        queue.get_nowait()


class _View:
    """What one open page shows: its rows as they were sent last."""

    def __init__(self, surface: Surface, call: Call, where: LeaseFilter) -> None:
        self._surface = surface
        self._call = call
        self._where = where
        self._sent: dict[str, bytes] = {}
        self._shown: set[str] = set()

    async def changed(self) -> list[bytes]:
        """Those that read differently now; the oldest first, since a new row is put on top."""
        try:
            rows = await self._surface.control.store.read(self._read)
        except RemitError:
            return []  # it is looked at again in a moment
        fresh = {key: bytes(partial(name, **values).body) for key, name, values in rows}
        changed = [html for key, html in fresh.items() if self._sent.get(key) != html]
        self._sent = fresh
        return changed

    def _read(self, unit: Any) -> list[tuple[str, str, dict[str, Any]]]:
        tasks, _ = task_page(unit, self._where, self._call)
        held = lease_page(unit, self._where, self._call, "/tasks")["rows"]
        here = {each["id"] for each in (*tasks, *held)}
        gone = self._shown - here
        ended = [one for one in unit.access.grants_by_id({one for one in gone if one.startswith("gr_")}).values()
                 if one.ended is not None]  # fmt: skip
        ids = tuple(one for one in gone if one.startswith("ls_"))
        left = unit.access.leases(LeaseFilter(ids=ids), len(ids)) if ids else ()
        final = lease_views(unit, [one for one in left if one.state not in self._where.states])
        self._shown = here
        return [
            ("counts", "task_counts.html", standing(unit)),
            *((each["id"], "task_row.html", {"t": each}) for each in (*task_views(unit, ended), *tasks[::-1])),
            *((each["id"], "lease_row.html", {"l": each}) for each in (*final, *held[::-1])),
        ]
