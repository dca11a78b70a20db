"""The console's pages of dependencies: who would notice, by evidence, and the scream tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from remit.governance.dependencies.scream import Phase
from remit.surface.api.route import Call
from remit.surface.console.render import page
from remit.wiring.scream import shown

if TYPE_CHECKING:
    from remit.surface.context import Surface

TONES: Final = {"hard": "bad", "likely": "warn", "unknown": ""}
_PHASES: Final = {Phase.HELD: "bad", Phase.HOLDING: "bad", Phase.RESTORING: "warn", Phase.RESTORED: "good"}


async def overview(surface: Surface, call: Call) -> Response:
    """Every scream test, the newest first."""
    tests = await surface.control.screams.tests()
    identities = {each.identity for each in tests}
    titles = await surface.control.store.read(lambda unit: _titles(unit, identities))
    return page("screams.html", here="/dependencies", tests=[_row(each) for each in tests], titles=titles)


async def one(surface: Surface, call: Call) -> Response:
    """Consumers of one identity, credential or resource, and its tests."""
    live = call.query.get("now") == "1"
    found = await surface.control.dependencies.map(call.path["subject"], live=live)
    tests = await surface.control.screams.tests(found["identity"]) if found["identity"] else []
    return page(
        "dependencies.html", here="/dependencies", found=found, tones=TONES, live=live,
        tests=[_row(each) for each in tests], titles={found["identity"]: found["subject"]["title"]},
    )  # fmt: skip


def _row(test: Any) -> dict[str, Any]:
    return {**shown(test), "tone": _PHASES.get(test.phase, "")}


def _titles(unit: Any, identities: set[str]) -> dict[str, str]:
    return {each: record.title for each, record in unit.inventory.identities(identities).items()}
