"""The cheapest cut: which edges to remove, at least cost, so that one side reaches the other no more.

Maximum flow (Dinic) over what lies between the two sides, with the prices of `weights` as whole capacities: a cut of
that value is a cheapest one, whatever the graph looks like. What cannot be cut has no bound; where such edges alone
lead across, there is no cut, and the way across is shown. The result is tried: the search is run again without the cut.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.paths import Path, path_from, reaching
from remit.inventory.graph.weights import Price, Used, price
from remit.inventory.model import Relation

WORK: Final = 10_000_000
"""Arcs that the flow may look at."""
_NEVER: Final = 1 << 60
CONTAINERS: Final = frozenset({"group", "cloud-group"})
"""Kinds of identities as which nothing acts: their members do."""
SCOPES: Final = frozenset({"aws-scope", "kubernetes-scope", "kubernetes-admin", "kubernetes-nodes"})
"""Kinds of resources that stand for power over several: whoever has it, an edge leads from; without one, nobody has."""

Pricing = Callable[[Edge, str, int], Price]
"""The price of an edge that leaves the node of this name, to which so many others come."""
Barred = Callable[[int], bool]
Late = Callable[[], bool]
"""Whether the time is over that somebody gave."""
MOST_ARCS: Final = 400_000
"""Of a network; what lies between more is cut at its last edges."""
_LOOK: Final = 1024
"""Nodes, or ways, between two looks at the time."""


def _nothing(edge: int) -> bool:
    return False


def _last_steps(
    graph: AccessGraph, goals: set[int], between: Mapping[int, int], pricing: Pricing, barred: Barred
) -> Cut:  # fmt: skip
    """Every edge into the ends: a cut without a search, where each of them can be removed."""
    found = []
    for goal in goals:
        for row in range(graph.rfirst[goal], graph.rfirst[goal + 1]):
            tail, at = graph.rtails[row], graph.redge[row]
            if tail in goals or tail not in between or barred(at):
                continue
            said = pricing(graph.edges[at], graph.nodes[tail].name, graph.rfirst[tail + 1] - graph.rfirst[tail])
            if said.cost is None:
                return Cut(possible=False, cheapest=False, note="too much lies between the two sides")
            found.append(CutEdge(edge=graph.edges[at], price=said))
    found.sort(key=lambda each: (each.edge.source, each.edge.target, each.edge.relation))
    statements = {(each.edge.source, each.edge.target, each.edge.cut or str(at)): each.price.cost or 0
                  for at, each in enumerate(found)}  # fmt: skip
    return Cut(
        possible=True, edges=tuple(found), cost=sum(statements.values()), cheapest=False,
        note="too much lies between the two sides to look for a cheaper cut: these are the last steps",
    )  # fmt: skip


def _in_time() -> bool:
    return False


class _Overdue(Exception):
    """The time is over before the network is laid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutEdge:
    """One edge to remove."""

    edge: Edge
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What to remove. `possible` is false where only edges that cannot be cut lead across: `across` is such a way."""

    possible: bool
    edges: tuple[CutEdge, ...] = ()
    cost: int = 0
    """Each statement counts once, though it may remove several edges of one pair."""
    cheapest: bool = True
    """False where the graph between the two sides is too large to prove it: the cut holds all the same."""
    across: Path | None = None
    note: str = ""

    @property
    def stated(self) -> bool:
        """Whether a way to remove every edge is known."""
        return all(each.price.stated for each in self.edges)


def plain_pricing(used: Mapping[str, Used] | None = None) -> Pricing:
    """Prices by relation, by whether the node that it leaves is `used` (by name), and by the others who come to it."""
    known = used or {}
    return lambda edge, tail, others: price(edge, used=known.get(tail, Used.UNMEASURED), others=others)


def entrances(graph: AccessGraph, within: Iterable[int]) -> list[int]:
    """Where somebody can stand: identities that act (no groups), names that nothing describes, and beginnings.

    A beginning is a place or resource into which no edge leads. A credential is none: who holds it is. Neither is what
    only stands for power over several: nobody has it where nothing leads to it.
    """
    rfirst = graph.rfirst
    found = []
    for position in within:
        node = graph.nodes[position]
        if node.category is Category.RESOURCE:
            if rfirst[position] == rfirst[position + 1] and node.kind not in SCOPES:
                found.append(position)
        elif node.category is not Category.CREDENTIAL and node.kind not in CONTAINERS and not _is_credential(node):
            found.append(position)
    return found


def _is_credential(node: Node) -> bool:
    return node.name.startswith("urn:remit:credential:")


def cheapest_cut(
    graph: AccessGraph,
    starts: Iterable[int],
    ends: Iterable[int],
    *,
    pricing: Pricing,
    barred: Barred | None = None,
    work: int = WORK,
    late: Late | None = None,
    between: Mapping[int, int] | None = None,
) -> Cut:
    """Remove the cheapest set of edges after which no start reaches an end (positions). A start that is an end is none.

    Edges that are `barred` (by position) lead nowhere already.

    Edges of one pair of nodes that one statement removes count once. Bounded by `work`: beyond it, or once it is
    `late`, the cheaper of the first and the last edges is taken, and said to be no proven minimum. `between`: every
    node that reaches an end, where that is known already.
    """
    goals = set(ends)
    if between is None:
        between = reaching(graph, goals, barred=barred).distance
    origins = [each for each in dict.fromkeys(starts) if each in between and each not in goals]
    if not origins:
        return Cut(possible=True, note="nothing leads across")
    try:
        net = _Net(graph, origins, goals, between, pricing, barred or _nothing, late or _in_time)
    except _Overdue:
        return _last_steps(graph, goals, between, pricing, barred or _nothing)
    if (value := net.flow(work)) is None:
        return _trivial(net)
    if value >= _NEVER:
        return Cut(
            possible=False, across=net.across(), note="a way leads across that no cut can interrupt: it needs a "
            "credential to be revoked, or a place to be closed",
        )  # fmt: skip
    return _made(net, net.severed(), cheapest=True)


class _Net:
    """What lies between the two sides, as a flow network: one arc for each pair of nodes and way to remove it."""

    def __init__(
        self,
        graph: AccessGraph,
        origins: list[int],
        goals: set[int],
        between: Mapping[int, int],
        pricing: Pricing,
        barred: Barred,
        late: Late,
    ) -> None:
        self._late = late
        self.graph, self.goals, self.origins = graph, goals, origins
        self._between = between
        self._pricing = pricing
        self.barred = barred
        self._number: dict[int, int] = {}
        self.members: list[list[int]] = []
        """By arc: the edges that it stands for."""
        self.prices: list[Price] = []
        self._to, self._room = array("q"), array("q")
        self._rows: list[array[int]] = [array("q"), array("q")]
        self._lay()

    def _lay(self) -> None:
        graph = self.graph
        for origin in self.origins:
            self._arc(0, self._of(origin), _NEVER)
        reached, frontier, visited = set(self.origins), list(self.origins), 0
        pairs: dict[tuple[int, int, str], list[int]] = defaultdict(list)
        while frontier:
            node = frontier.pop()
            visited += 1
            if len(pairs) > MOST_ARCS or (visited % _LOOK == 0 and self._late()):
                raise _Overdue
            if node in self.goals:
                continue
            for edge in range(graph.first[node], graph.first[node + 1]):
                head = graph.heads[edge]
                if head in self._between and head != node and not self.barred(edge):
                    held = graph.edges[edge]
                    said = held.cut if held.relation is not Relation.SECRET_OF else ""
                    pairs[node, head, said or f"#{edge}"].append(edge)
                    if head not in reached:
                        reached.add(head)
                        frontier.append(head)
        coming = self._coming(pairs)
        for number, ((tail, head, _), edges) in enumerate(pairs.items()):
            if number % _LOOK == 0 and self._late():
                raise _Overdue
            found = max(
                (self._pricing(graph.edges[at], graph.nodes[tail].name, coming[tail] - 1) for at in edges), key=_height
            )
            self.members.append(edges)
            self.prices.append(found)
            self._arc(self._of(tail), self._of(head), _NEVER if found.cost is None else found.cost)
        for goal in self.goals & reached:
            self._arc(self._of(goal), 1, _NEVER)

    def _coming(self, pairs: Mapping[tuple[int, int, str], object]) -> dict[int, int]:
        """How many come to each node directly; one at least."""
        graph = self.graph
        tails = {tail for tail, _, _ in pairs}
        return {
            tail: max(1, len({graph.rtails[at] for at in range(graph.rfirst[tail], graph.rfirst[tail + 1])}))
            for tail in tails
        }

    def _of(self, position: int) -> int:
        number = self._number.get(position)
        if number is None:
            number = self._number[position] = len(self._rows)
            self._rows.append(array("q"))
        return number

    def _arc(self, tail: int, head: int, room: int) -> None:
        for node, to, much in ((tail, head, room), (head, tail, 0)):
            self._rows[node].append(len(self._to))
            self._to.append(to)
            self._room.append(much)

    def flow(self, work: int) -> int | None:
        """The value of a maximum flow; `_NEVER` at least where nothing bounds it; `None` when `work` does not do."""
        total = 0
        while True:
            levels = self._levels()
            work -= len(self._to)
            if levels[1] < 0:
                return total
            if self._late():
                return None
            cursor = array("q", bytes(8 * len(self._rows)))
            pushes = 0
            while pushed := self._push(levels, cursor):
                total += pushed
                pushes += 1
                if pushes % _LOOK == 0 and self._late():
                    return None
                work -= 2 * levels[1]
                if total >= _NEVER:
                    return _NEVER
                if work < 0:
                    return None

    def _levels(self) -> array[int]:
        levels = array("q", [-1]) * len(self._rows)
        levels[0] = 0
        frontier = [0]
        for node in frontier:
            for arc in self._rows[node]:
                if self._room[arc] > 0 and levels[self._to[arc]] < 0:
                    levels[self._to[arc]] = levels[node] + 1
                    frontier.append(self._to[arc])
        return levels

    def _push(self, levels: array[int], cursor: array[int]) -> int:
        """Send flow along one way of the level graph; without recursion, for ways may be long."""
        way: list[int] = []
        node = 0
        while node != 1:
            row = self._rows[node]
            while cursor[node] < len(row):
                arc = row[cursor[node]]
                if self._room[arc] > 0 and levels[self._to[arc]] == levels[node] + 1:
                    break
                cursor[node] += 1
            if cursor[node] < len(row):
                way.append(row[cursor[node]])
                node = self._to[way[-1]]
            elif way:
                node = self._to[way.pop() ^ 1]
                cursor[node] += 1
            else:
                return 0
        much = min(self._room[arc] for arc in way)
        for arc in way:
            self._room[arc] -= much
            self._room[arc ^ 1] += much
        return much

    def severed(self) -> list[int]:
        """Of a maximum flow: the arcs of the cut that lies nearest to the ends, as numbers of `members`."""
        # Nearest to the ends: of cuts as cheap, the one that leaves most of what lies before it as it is.
        behind = {1}
        frontier = [1]
        for node in frontier:
            for arc in self._rows[node]:
                before = self._to[arc]
                if before not in behind and self._room[arc ^ 1] > 0:
                    behind.add(before)
                    frontier.append(before)
        return [at for at, (tail, head) in enumerate(self.pairs()) if tail not in behind and head in behind]

    def pairs(self) -> list[tuple[int, int]]:
        """The ends of each arc of `members`, as numbers of the network."""
        begin = 2 * len(self.origins)
        return [(self._to[begin + 2 * at + 1], self._to[begin + 2 * at]) for at in range(len(self.members))]

    def sides(self) -> tuple[list[int], list[int]]:
        """The arcs that leave the starts, and those that enter the ends."""
        starts = {self._number[each] for each in self.origins}
        ends = {self._number[each] for each in self.goals if each in self._number}
        pairs = self.pairs()
        first = [at for at, (tail, head) in enumerate(pairs) if tail in starts and head not in starts]
        return first, [at for at, (_, head) in enumerate(pairs) if head in ends]

    def across(self) -> Path | None:
        """A way that no cut interrupts."""
        keep = {edge for edges, found in zip(self.members, self.prices, strict=True) if found.cost is None
                for edge in edges}  # fmt: skip
        found = reaching(self.graph, self.goals, barred=lambda edge: edge not in keep or self.barred(edge))
        start = next((each for each in self.origins if each in found.distance), None)
        return path_from(self.graph, found, start) if start is not None else None


def _height(found: Price) -> int:
    return _NEVER if found.cost is None else found.cost


def _trivial(net: _Net) -> Cut:
    """The cheaper of all first and all last edges: a cut, though perhaps not the cheapest."""
    usable = [side for side in net.sides() if all(net.prices[at].cost is not None for at in side)]
    usable = [side for side in usable if _separates(net, side)]
    if not usable:
        return Cut(possible=False, cheapest=False, note="too much lies between the two sides for an exact answer")
    return _made(net, min(usable, key=lambda side: sum(_height(net.prices[at]) for at in side)), cheapest=False)


def _separates(net: _Net, arcs: Iterable[int]) -> bool:
    gone = {edge for at in arcs for edge in net.members[at]}
    left = reaching(net.graph, net.goals, barred=lambda edge: edge in gone or net.barred(edge))
    return not any(each in left.distance for each in net.origins)


def _made(net: _Net, arcs: list[int], *, cheapest: bool) -> Cut:
    assert _separates(net, arcs), "after the cut nothing leads across"
    edges = [
        CutEdge(edge=net.graph.edges[edge], price=net.prices[at]) for at in arcs for edge in sorted(net.members[at])
    ]
    edges.sort(key=lambda each: (_height(each.price), each.edge.source, each.edge.target, each.edge.relation))
    cost = sum(_height(net.prices[at]) for at in arcs)
    note = "" if cheapest else "too much lies between the two sides to prove that no cheaper cut exists"
    return Cut(possible=True, edges=tuple(edges), cost=cost, cheapest=cheapest, note=note)
