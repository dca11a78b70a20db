"""The access graph in memory: compressed sparse rows of plain integers, so that a million edges fit a small process."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from itertools import accumulate

from remit.inventory.graph.compiled import KERNELS_FROM_EDGES, has_kernels
from remit.inventory.graph.model import Edge, Node, undescribed
from remit.inventory.graph.scratch import Scratch
from remit.inventory.graph.traits import Traits
from remit.kernel.errors import NotFound

_SCRATCHES = 4


class AccessGraph:
    """An immutable directed graph of nodes by name.

    Rows: the edges that leave node `i` are `edges[first[i]:first[i + 1]]`; those before `split[i]` hold without any
    condition, those from there on are conditional. Within each part they keep the order in which they were given.
    Reversed: the edges that enter node `i` are `redge[rfirst[i]:rfirst[i + 1]]` (positions in `edges`), and they come
    from `rtails[rfirst[i]:rfirst[i + 1]]`.
    """

    __slots__ = (
        "_aliases",
        "_index",
        "_reversed",
        "_scratch",
        "_traits",
        "edges",
        "first",
        "heads",
        "nodes",
        "split",
        "tails",
    )

    def __init__(self, nodes: list[Node], index: dict[str, int], aliases: Mapping[str, str]) -> None:
        self.nodes = nodes
        self._index = index
        self._aliases = aliases
        self.edges: list[Edge] = []
        self.tails = array("i")
        self.heads = array("i")
        self.first = array("q", [0])
        self.split = array("q")
        self._reversed: tuple[array[int], array[int], array[int]] | None = None
        self._traits: Traits | None = None
        self._scratch: list[Scratch] = []

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
        order, self.first, self.split = _rows(tails, [bool(edge.conditions) for edge in given], len(self.nodes))
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

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of nodes, and the names that count."""
        return self._aliases

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

    def entering(self, name: str) -> list[Edge]:
        """The edges that lead to a node, in the order of `edges`."""
        position = self.position(name)
        return [self.edges[at] for at in self.redge[self.rfirst[position] : self.rfirst[position + 1]]]

    @property
    def rfirst(self) -> array[int]:
        """Where the reversed row of each node begins; one more than there are nodes."""
        return self._reverse()[0]

    @property
    def rtails(self) -> array[int]:
        """The node from which each edge of a reversed row comes."""
        return self._reverse()[1]

    @property
    def redge(self) -> array[int]:
        """The position in `edges` of each edge of a reversed row."""
        return self._reverse()[2]

    @property
    def traits(self) -> Traits:
        """What counts of each node, as small integers."""
        if self._traits is None:
            self._traits = Traits.of(self.nodes)
        return self._traits

    def borrow(self) -> Scratch:
        """What one search writes on; `give_back` it. Safe from several threads."""
        try:
            return self._scratch.pop()
        except IndexError:
            return Scratch(len(self.nodes))

    def give_back(self, scratch: Scratch) -> None:
        """Let the next search have it; a few are kept."""
        if len(self._scratch) < _SCRATCHES:
            self._scratch.append(scratch)

    def _reverse(self) -> tuple[array[int], array[int], array[int]]:
        """The reversed rows, made when they are first asked for."""
        if self._reversed is None:
            order, first, _ = _rows(self.heads, None, len(self.nodes))
            self._reversed = first, array("i", (self.tails[position] for position in order)), order
        return self._reversed


def _rows(keys: array[int], later: list[bool] | None, size: int) -> tuple[array[int], array[int], array[int]]:
    """Sort positions by key, those that are `later` behind the others; the order, where each row begins and splits."""
    if len(keys) >= KERNELS_FROM_EDGES and has_kernels():
        return _rows_at_once(keys, later, size)
    early, late = array("q", bytes(8 * size)), array("q", bytes(8 * size))
    behind = later if later is not None else bytes(len(keys))
    for key, is_late in zip(keys, behind, strict=True):
        if is_late:
            late[key] += 1
        else:
            early[key] += 1
    first = array("q", accumulate((a + b for a, b in zip(early, late, strict=True)), initial=0))
    split = array("q", (a + b for a, b in zip(first, early, strict=False)))
    next_early, next_late = array("q", first), array("q", split)
    order = array("q", bytes(8 * len(keys)))
    for position, (key, is_late) in enumerate(zip(keys, behind, strict=True)):
        cursor = next_late if is_late else next_early
        order[cursor[key]] = position
        cursor[key] += 1
    return order, first, split


def _rows_at_once(keys: array[int], later: list[bool] | None, size: int) -> tuple[array[int], array[int], array[int]]:
    """The same as `_rows`, in a few steps over whole arrays."""
    import numpy as np

    key = np.frombuffer(keys, np.int32)
    behind = np.zeros(len(keys), np.bool_) if later is None else np.array(later, np.bool_)
    order = np.lexsort((behind, key))
    first = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(key, minlength=size), out=first[1:])
    split = first[:-1] + np.bincount(key[~behind], minlength=size)
    return array("q", order.astype(np.int64).tobytes()), array("q", first.tobytes()), array("q", split.tobytes())
