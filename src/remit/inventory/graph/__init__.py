"""What reaches what? The access graph of identities, credentials, places and resources, and the blast radius in it.

model         nodes and edges
access_graph  the graph in memory, as compressed sparse rows
blast         everything that one compromised node reaches, with the proof
sources       where nodes and edges come from: facts, the registry, other capabilities by port
mirror        the registry in memory: read once, then what changed; or as it was at a past moment
keeper        how much everything reaches, kept in step with the mirror
engine        those numbers while edges come and go; incremental: the rows under it; condense: everything at once
kernels       the compiled loops (extra `graph`); compiled: whether they are here; traits: what a node counts as
tree          the proof paths as a folded tree
render, svg   the tree as text, as a JSON document and as a picture
"""

from __future__ import annotations

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import WEIGHTS, Blast, Reached, blast
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.render import render_document, render_text
from remit.inventory.graph.sources import EdgeSource, graph_from_facts, graph_from_rows, graph_from_sources
from remit.inventory.graph.svg import STYLE, render_svg

__all__ = [
    "AccessGraph",
    "Blast",
    "Category",
    "Edge",
    "EdgeSource",
    "Node",
    "Reached",
    "STYLE",
    "WEIGHTS",
    "blast",
    "graph_from_facts",
    "graph_from_rows",
    "graph_from_sources",
    "render_document",
    "render_svg",
    "render_text",
]
