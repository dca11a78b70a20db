"""How likely each step of a path is taken, and what it costs to take it away.

Both are orders of preference, no measurements: they say which of several paths, or cuts, to look at first. Likelihoods
multiply along a path. Costs add up over a cut; they are whole numbers, so that a cheapest cut is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from remit.inventory.graph.model import Edge
from remit.inventory.model import Relation

LIKELIHOOD: Final[Mapping[Relation, float]] = {
    Relation.SECRET_OF: 1.0,
    Relation.MEMBER_OF: 1.0,
    Relation.RUNS_AS: 0.95,
    Relation.CAN_REACH: 0.9,
    Relation.ASSUME: 0.9,
    Relation.IMPERSONATE: 0.8,
    Relation.HOLDS: 0.7,
    Relation.DEPLOYS: 0.5,
}
"""The chance that who has the source takes this step. Rights that are simply held come first; what must be found and
read, or changed and waited for, comes last."""
OTHERWISE: Final = 0.5
"""For a relation that is not listed."""
CONDITION: Final = 0.5
"""Each condition that was not evaluated halves the chance; three at most."""
_CONDITIONS: Final = 3
_UNIT: Final = 1000
_STEP: Final = 10**9
_CONDITIONAL: Final = 10**6
"""More than the hardness of any path: what is compared first."""

BASE: Final[Mapping[Relation, int]] = {
    Relation.CAN_REACH: 2,
    Relation.ASSUME: 3,
    Relation.MEMBER_OF: 4,
    Relation.IMPERSONATE: 4,
    Relation.HOLDS: 6,
    Relation.DEPLOYS: 8,
    Relation.RUNS_AS: 10,
}
"""The work of one change: a grant is one statement; a secret must be moved and changed; a workload is deployed anew."""
UNSTATED: Final = 1000
"""Added where no source says how the edge is removed: taken only where nothing else cuts."""
MOST_OTHERS: Final = 20
"""More others who pass the same edge cost no more."""

GENERIC: Final[Mapping[Relation, str]] = {
    Relation.HOLDS: "take the credential away from there, and change it",
    Relation.RUNS_AS: "run it under another identity",
    Relation.DEPLOYS: "take the right to deploy away from the pipeline",
}
"""How such an edge is removed in every system, where the source has no words of its own."""


class Used(StrEnum):
    """Whether logs show that who holds an edge was active lately."""

    YES = "used"
    NO = "unused"
    UNMEASURED = "unmeasured"


BREAKS: Final[Mapping[Used, int]] = {Used.NO: 1, Used.UNMEASURED: 2, Used.YES: 4}
"""What is used breaks when it is cut; what nobody measured may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What cutting one edge costs; `cost` is `None` where it cannot be cut, and `why` says so."""

    cost: int | None
    how: str = ""
    """In the target's language, or in general words."""
    stated: bool = True
    """Whether somebody knows how it is removed."""
    why: str = ""


def likelihood(edge: Edge) -> float:
    """The chance of this step, above 0 and at most 1."""
    chance = LIKELIHOOD.get(edge.relation, OTHERWISE)
    return chance * CONDITION ** min(len(edge.conditions), _CONDITIONS)


def hardness(edge: Edge) -> int:
    """The likelihood as a length that adds up: -1000 ln p, and 1 for the step itself, so that shorter wins a tie."""
    return 1 + round(-_UNIT * math.log(likelihood(edge)))


def steps(edge: Edge) -> int:
    """The length of a path in steps; of two as long, that with fewer conditional steps, then the likelier."""
    return _STEP + _CONDITIONAL * bool(edge.conditions) + hardness(edge)


def price(edge: Edge, *, used: Used = Used.UNMEASURED, others: int = 0) -> Price:
    """What it costs to remove `edge`.

    `(BASE + others) × BREAKS`: `others` are those besides who also come to its source, at most `MOST_OTHERS`. That a
    credential proves its identity cannot be cut at all: it is revoked, or taken away from where it lies.
    """
    if edge.relation is Relation.SECRET_OF:
        return Price(cost=None, why="a credential proves its identity: revoke it, or take it from where it lies")
    how = edge.cut or GENERIC.get(edge.relation, "")
    cost = (BASE.get(edge.relation, 5) + min(others, MOST_OTHERS)) * BREAKS[used]
    if not how:
        return Price(cost=cost + UNSTATED, stated=False, why="no source says how it is removed")
    return Price(cost=cost, how=how)


__all__ = [
    "BASE", "BREAKS", "CONDITION", "GENERIC", "LIKELIHOOD", "MOST_OTHERS", "OTHERWISE", "UNSTATED", "Price", "Used",
    "hardness", "likelihood", "price", "steps",
]  # fmt: skip
