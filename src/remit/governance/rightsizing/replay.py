"""Counterfactual replay: every observed act through the proposed rights."""

from __future__ import annotations

from collections.abc import Sequence

from remit.governance.rightsizing.model import Judge, Refusal, Replay, admitted
from remit.inventory.use.model import UNCLEAR, Deed


def replay(deeds: Sequence[Deed], now: Judge, proposed: Judge, *, beyond: int = 0) -> Replay:
    """What would be refused that was admitted.

    What the rights that were read do not allow, and was admitted all the same, rests on something else: it is told
    apart, and no proposal about these rights takes it away.
    """
    observed = outside = 0
    refused: list[Refusal] = []
    for deed in admitted(deeds):
        observed += deed.count
        if proposed.allows(deed):
            continue
        if not now.allows(deed):
            outside += deed.count
            continue
        refused.append(Refusal(action=deed.action, resource=deed.resource, count=deed.count))
    unclear = sum(deed.count for deed in deeds if deed.action == UNCLEAR)
    return Replay(observed=observed, refused=tuple(refused), outside=outside, unclear=unclear, beyond=beyond)
