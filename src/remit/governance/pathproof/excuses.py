"""Which exceptions excuse an open path now: approved, genuine, not over, and compensated by what was tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from remit.access.segments.model import Probe
from remit.governance import exceptions
from remit.governance.controls import ControlState, controls_of
from remit.governance.model import PolicyException
from remit.governance.pathproof.model import RULE, Excuse
from remit.kernel.unit import Attester

_TRIABLE: Final = "segment:"
"""Controls that begin so can be tried: such a one must have been."""


def excuses_of(
    rows: Iterable[PolicyException], probes: Sequence[Probe], now: datetime, attester: Attester
) -> tuple[list[Excuse], list[str]]:
    """Those that count at `now`, and why others of the control `open-path` do not.

    A compensating control that can be tried counts only while it is tested; one that is a sentence counts, and is said
    to be untested.
    """
    found, refused = [], []
    for row in rows:
        if row.rule != RULE:
            continue
        controls = controls_of(row, probes, now)
        untested = [each for each in controls if each.state is not ControlState.TESTED]
        failing = next((each for each in untested if each.text.startswith(_TRIABLE)), None)
        if now >= row.expires:
            refused.append(f"the exception {row.id} has ended")
        elif not exceptions.holds(row, now, attester):
            refused.append(f"the exception {row.id} was not approved here as it stands")
        elif failing is not None:
            refused.append(f"the exception {row.id} is not compensated: {failing.text}: {failing.why}")
        else:
            found.append(
                Excuse(
                    id=row.id, identities=frozenset(row.identities), actions=frozenset(row.actions),
                    resource=row.resource, expires=row.expires, untested=tuple(each.text for each in untested),
                )
            )  # fmt: skip
    return found, refused
