"""The access graph in memory: compressed sparse rows of plain integers, so that a million edges fit a small process."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from itertools import accumulate

from remit.inventory.graph.model import Edge, Node, undescribed
from remit.kernel.errors import NotFound


class AccessGraph:
    """An immutable directed graph of nodes by name.

    Rows: the edges that leave node `i` are `edges[first[i]:first[i + 1]]`; those before `split[i]` hold without any
    condition, those from there on are conditional. Within each part they keep the order in which they were given.
    """

    __slots__ = ("_aliases", "_index", "edges", "first", "heads", "nodes", "split", "tails")

    def __init__(self, nodes: list[Node], index: dict[str, int], aliases: Mapping[str, str]) -> None:
        self.nodes = nodes
        self._index = index
        self._aliases = aliases
        self.edges: list[Edge] = []
        self.tails = array("i")
        self.heads = array("i")
        self.first = array("q", [0])
        self.split = array("q")

    @classmethod
    def build(
        cls, nodes: Iterable[Node], edges: Iterable[Edge], *, aliases: Mapping[str, str] | None = None
    ) -> AccessGraph:
        """Build the graph, reading each iterable once.

        A later node replaces an earlier one of the same name. An edge may mention a name (or, by `aliases`, another
        name of a node) that no node has: it becomes a node of category `unknown`, so that no path is lost.
        """
        described: dict[str, Node] = {node.name: node for node in nodes}
        index = {name: position for position, name in enumerate(described)}
        graph = cls(list(described.values()), index, aliases or {})
        graph._lay(edges)
        return graph

    def _lay(self, edges: Iterable[Edge]) -> None:
        given: list[Edge] = []
        tails, heads = array("i"), array("i")
        for edge in edges:
            given.append(edge)
            tails.append(self._intern(edge.source))
            heads.append(self._intern(edge.target))
        size = len(self.nodes)
        certain, conditional = array("q", bytes(8 * size)), array("q", bytes(8 * size))
        for tail, edge in zip(tails, given, strict=True):
            if edge.conditions:
                conditional[tail] += 1
            else:
                certain[tail] += 1
        rows = (a + b for a, b in zip(certain, conditional, strict=True))
        self.first = array("q", accumulate(rows, initial=0))
        self.split = array("q", (a + b for a, b in zip(self.first, certain, strict=False)))
        self._place(given, tails, heads)

    def _place(self, given: list[Edge], tails: array[int], heads: array[int]) -> None:
        next_certain, next_conditional = array("q", self.first), array("q", self.split)
        order = array("q", bytes(8 * len(given)))
        for position, tail in enumerate(tails):
            cursor = next_conditional if given[position].conditions else next_certain
            order[cursor[tail]] = position
            cursor[tail] += 1
        self.edges = [given[position] for position in order]
        self.tails = array("i", (tails[position] for position in order))
        self.heads = array("i", (heads[position] for position in order))

    def _intern(self, name: str) -> int:
        name = self._aliases.get(name, name)
        position = self._index.get(name)
        if position is None:
            position = self._index[name] = len(self.nodes)
            self.nodes.append(undescribed(name))
        return position

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, name: str) -> bool:
        return self._aliases.get(name, name) in self._index

    def position(self, name: str) -> int:
        """Where the node of this name or alias stands; `NotFound` (`inventory.node.unknown`)."""
        position = self._index.get(self._aliases.get(name, name))
        if position is None:
            raise NotFound(
                "inventory.node.unknown",
                f"nothing in the access graph is called `{name}`",
                next_step="list what is known with `remit ls`, or discover the system that has it",
            )
        return position

    def node(self, name: str) -> Node:
        """The node of this name or alias; `NotFound` (`inventory.node.unknown`)."""
        return self.nodes[self.position(name)]

    def leaving(self, name: str) -> list[Edge]:
        """The edges that leave a node, those without conditions first."""
        position = self.position(name)
        return self.edges[self.first[position] : self.first[position + 1]]
