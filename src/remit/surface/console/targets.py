"""The console's pages of targets: where credentials are minted, what stands open there, what its broker says."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from remit.access.leases.model import LIVE, LeaseFilter, LeaseSettings
from remit.access.model import LeaseState, Target
from remit.kernel.errors import NotFound, RemitError
from remit.surface.api.route import Call
from remit.surface.console.leases import OPEN, lease_views
from remit.surface.console.render import page, partial

if TYPE_CHECKING:
    from remit.access.brokers.port import BrokerManifest
    from remit.surface.context import Surface

_PATIENCE = 10.0
_ROWS = 50
_ORPHANS = 200
_STALE = timedelta(minutes=15)
"""Three times what the engine leaves between two sweeps."""


async def overview(surface: Surface, call: Call) -> Response:
    """Every target with what lives on it."""
    targets = await surface.control.targets.list()

    def read(unit: Any) -> list[dict[str, Any]]:
        return [{"t": each, "m": _manifest(surface, each), **_standing(unit, each.name)} for each in targets]

    return page("targets.html", here="/tasks", rows=await surface.control.store.read(read))


async def target(surface: Surface, call: Call) -> Response:
    """One target: leases by state, hazards, the last sweep; doctor's lines come when the target has answered."""
    found = await _named(surface, call)

    def read(unit: Any) -> dict[str, Any]:
        held = unit.access.newest_leases(LeaseFilter(target=found.name, states=LIVE), _ROWS)
        orphans = [each for each in unit.ledger.latest(_ORPHANS, type_prefix="access.orphan.")
                   if each.data.get("target") == found.name][:20]  # fmt: skip
        return {**_standing(unit, found.name), "rows": lease_views(unit, held), "orphans": orphans}

    shown = await surface.control.store.read(read)
    return page("target.html", here="/tasks", t=found, broker=_manifest(surface, found), **shown)


async def doctor(surface: Surface, call: Call) -> Response:
    """What the broker says of its target now; a part of the page, so that a silent target holds up nothing else."""
    found = await _named(surface, call)
    checks, trouble = [], ("", "")
    try:
        async with asyncio.timeout(_PATIENCE):
            broker = await surface.control.brokers.broker(found.name)
            checks = list(await broker.check())
    except RemitError as error:
        trouble = (error.message, error.next_step)
    except TimeoutError:
        trouble = (
            f"it did not answer within {_PATIENCE:g} s",
            f"`remit doctor` asks again; is {found.host} reachable?",
        )
    return partial("target_doctor.html", checks=checks, trouble=trouble, t=found)


async def _named(surface: Surface, call: Call) -> Target:
    wanted = call.path["target"]
    for each in await surface.control.targets.list():
        if each.name == wanted:
            return each
    raise NotFound("access.target.unknown", f"no target is called `{wanted[:64]}`", next_step="`remit target ls`")


def _manifest(surface: Surface, one: Target) -> BrokerManifest | None:
    try:
        return surface.control.targets.manifest(one.system)
    except NotFound:
        return None


def _standing(unit: Any, name: str) -> dict[str, Any]:
    counts = unit.access.count_leases(target=name)
    until = unit.access.swept_until(name)
    swept = until - LeaseSettings().holder_ttl if until is not None else None
    return {
        "counts": {state.value: counts.get(state, 0) for state in LeaseState if counts.get(state, 0)},
        "live": sum(number for state, number in counts.items() if state in LIVE),
        "open": sum(number for state, number in counts.items() if state in OPEN),
        "swept": swept,
        "stale": swept is None or unit.now - swept > _STALE,
    }
