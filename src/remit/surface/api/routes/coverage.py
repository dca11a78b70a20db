"""How much of what there is do we see?"""

from __future__ import annotations

from typing import Any

from remit.inventory.connectors.catalog import connector_manifests
from remit.inventory.coverage import Coverage, measure
from remit.surface.api.route import Call, Route

_STRANGERS = 500


async def coverage_of(control: Any) -> Coverage:
    """Coverage now."""
    manifests = connector_manifests()
    record_of = {each.id: each.record_of for each in manifests}
    blind = {each.id: [(one.what, one.why) for one in each.blind_to] for each in manifests}
    now = control.clock.now()

    def read(unit: Any) -> Coverage:
        rows = unit.coverage
        strangers = [row.name for row in unit.use.strangers(_STRANGERS)]
        return measure(
            rows.named(), rows.resources(), unit.inventory.sources(), record_of, blind, now, unknown_in_logs=strangers
        )

    found: Coverage = await control.store.read(read)
    return found


async def coverage(call: Call) -> Any:
    return await coverage_of(call.control)


ROUTES = [
    Route(
        method="GET",
        path="/api/v1/coverage",
        summary="Which systems are named and not read, and what each connector cannot see",
        handler=coverage,
        tag="inventory",
    )
]
