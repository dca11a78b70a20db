"""The radius of a proposal counts what it names, as the graph of the day after will."""

from __future__ import annotations

from remit.governance.rightsizing.radius import radius
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Edge
from remit.inventory.model import Relation


def test_a_resource_that_only_the_proposal_names_counts_once_and_a_known_one_not_again() -> None:
    edges = [Edge(source="bot", relation=Relation.CAN_REACH, target=each) for each in ("everything", "known")]
    graph = AccessGraph.build((), edges)
    kept = radius(graph, "bot", lambda edge: edge.target == "known", added={"known": "unknown", "new": "confidential"})
    assert (radius(graph, "bot").resources, kept.resources, kept.score) == (2, 2, 1 + 3)
