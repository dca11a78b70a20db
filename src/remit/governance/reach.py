"""What the tiers of all identities rest on, from one look at the whole access graph. Pure.

Whoever reaches somebody privileged, or of a tier that a person said, is found by one search backwards from all of
those: linear in the graph, however many identities there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from remit.governance.tiers import TierFacts, is_lesser, tier_of_source
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.paths import reaching
from remit.inventory.model import IdentityKind, Sensitivity
from remit.inventory.records import IdentityRecord

_SOMEBODY: Final = "somebody"
_ORDER: Final = (Sensitivity.RESTRICTED, Sensitivity.CONFIDENTIAL, Sensitivity.INTERNAL)
_STRICT: Final = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Who comes where, by ids of identities."""

    privileged: frozenset[str]
    """Those that can become somebody privileged; the privileged themselves too."""
    tiers: Mapping[int, frozenset[str]]
    """Those that can become somebody of whom a person said this tier; not those of whom they said it."""
    ends: frozenset[str]
    """The privileged."""
    out_of_tests: frozenset[str]
    """Those that reach something in an environment that is none for tests."""


def measure(graph: AccessGraph, privileged: Iterable[str], said: Mapping[str, int]) -> Reach:
    """Look at a graph: `privileged` ids of identities, and tiers that people said."""
    tiers = {}
    for tier in _STRICT:
        these = {each for each, theirs in said.items() if theirs == tier}
        tiers[tier] = _before(graph, these) - these if these else frozenset[str]()
    weighty = (node.name for node in graph.nodes if node.environment and not is_lesser(node.environment))
    ends = frozenset(privileged)
    return Reach(privileged=_before(graph, ends), ends=ends, tiers=tiers, out_of_tests=_before(graph, weighty))


def facts_of(
    record: IdentityRecord, reach: Reach, by_sensitivity: Mapping[str, int], *, confirmed: Mapping[str, object],
    exposed: bool, administers: bool, becomes: str = "",
) -> TierFacts:  # fmt: skip
    """What the tier of one identity rests on.

    `by_sensitivity` counts the resources that it reaches; what only a source calls public counts as internal.
    `confirmed` has a key for each field that a person said. `becomes` names somebody privileged.
    """
    said_moved = record.autonomy if "autonomy" in confirmed else None
    return TierFacts(
        privileged=record.privileged,
        administers=administers,
        becomes_privileged="" if record.id not in reach.privileged else f"`{becomes}`" if becomes else _SOMEBODY,
        becomes_tier=next((tier for tier in _STRICT if record.id in reach.tiers[tier]), None),
        sensitivity=highest(by_sensitivity),
        environment=record.environment,
        environment_confirmed="environment" in confirmed,
        crosses=record.id in reach.out_of_tests,
        acts_alone=record.kind is IdentityKind.AI_AGENT and said_moved in (None, "autonomous"),
        exposed=exposed,
        said_by_source=tier_of_source(record.attributes.get("tier")),
    )


def highest(by_sensitivity: Mapping[str, int]) -> Sensitivity | None:
    """The worst class of which anything is reached; `None` where nothing is known of any of it."""
    found = next((each for each in _ORDER if by_sensitivity.get(each.value)), None)
    return found or (Sensitivity.INTERNAL if by_sensitivity.get(Sensitivity.PUBLIC.value) else None)


def _before(graph: AccessGraph, names: Iterable[str]) -> frozenset[str]:
    """The nodes that reach any of these, and these."""
    ends = [graph.position(each) for each in names if each in graph]
    return frozenset(graph.nodes[at].name for at in reaching(graph, ends).distance)
