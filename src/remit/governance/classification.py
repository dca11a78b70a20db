"""How much harm reaching a resource can do: a person's word, which sources can only propose.

Whoever classifies signs it, for a lower class lets policies allow more. The journal of authority keeps the word; a row
of the database alone confirms nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from remit.governance.lifecycle import require_reason
from remit.governance.signatures import Approver
from remit.inventory.model import Sensitivity
from remit.inventory.records import ResourceRecord
from remit.kernel.errors import NotFound, Rejected
from remit.kernel.unit import Unit

CLASSIFIED: Final = "governance.resource.classified"
DECLASSIFIED: Final = "governance.resource.declassified"
MOST: Final = 1_000
"""Resources of one command."""


class ClassifiedRows(Protocol):
    """Resources by name."""

    def resources(self, names: Iterable[str]) -> dict[str, ResourceRecord]: ...
    def confirm_sensitivity(self, names: Iterable[str], sensitivity: Sensitivity | None) -> None:
        """Keep it whatever sources say; `None` leaves it to them again."""
        ...


class ClassifyingUnit(Unit, Protocol):
    """A unit of work over resources."""

    @property
    def inventory(self) -> ClassifiedRows: ...


def classify(
    unit: ClassifyingUnit, names: Iterable[str], sensitivity: Sensitivity | None, *, by: Approver, reason: str
) -> list[ResourceRecord]:
    """Say how sensitive resources are; `None` takes the word back, and they count as restricted again.

    All or none. Raises `NotFound` (`governance.resource.unknown`) and `Rejected` (`governance.resource.many`,
    `governance.reason.missing`).
    """
    wanted, why = list(dict.fromkeys(names)), require_reason(reason)
    if not 1 <= len(wanted) <= MOST:
        raise Rejected("governance.resource.many", f"1 to {MOST} resources are classified at a time")
    known = unit.inventory.resources(wanted)
    for name in wanted:
        if name not in known:
            raise NotFound(
                "governance.resource.unknown",
                f"no resource is called `{name[:200]}`",
                next_step="`remit resource ls --text PART` lists them",
            )
    unit.inventory.confirm_sensitivity(wanted, sensitivity)
    for name in wanted:
        was = known[name].sensitivity
        unit.record(
            CLASSIFIED if sensitivity else DECLASSIFIED,
            actor=f"person:{by.name}",
            subject=name,
            data={
                "sensitivity": sensitivity.value if sensitivity else None,
                "was": was.value if was else None,
                "confirmed": known[name].sensitivity_confirmed,
                "reason": why,
                "approval": by.evidence(),
            },
        )
    return list(unit.inventory.resources(wanted).values())
