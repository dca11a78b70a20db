"""The proof by dominance: whoever comes to a resource passes a decision or an exception on every way, or is open.

Ways are too many to list, and need not be. For each resource:

    1  take away every access to an enforcement point's identity (`can-reach` its node: it decides each such request),
       and what Remit itself gives a task, by a lease or a grant
    2  who still comes and no exception names is *open*; whom one names is *excepted*
    3  put all back; who comes now besides is *decided*, and so are the guards themselves

Each step is one search against the edges, so the answer is exact for all ways at once. Who can become a guard, or read
its credential, passes no decision, and who can become an excepted identity has no exception: that is open. Groups act
through their members; an exception that names one counts for nothing, for its members change.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.governance.pathproof.model import (
    REACH,
    Excuse,
    Guard,
    GuardKind,
    LastStep,
    Opening,
    Status,
    Verdict,
)
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import CONTAINERS, Cut, Late, Pricing, cheapest_cut, entrances
from remit.inventory.graph.cuts import WORK as CUT_WORK
from remit.inventory.graph.model import Edge
from remit.inventory.graph.paths import Reaching, path_from, reaching
from remit.inventory.model import Relation
from remit.kernel.canonical import canonical

WORK: Final = 40_000_000
"""Nodes that one proof may visit."""
SHOWN: Final = 20
"""Openings of one verdict that are shown."""
_STEPS_SHOWN: Final = 100
_CUT_WORK: Final = 1_000_000
_NO_TIME: Final = "there was no time to look for the cheapest cut: ask for this resource alone"


@dataclass(slots=True)
class Examiner:
    """Examines resources of one graph. `work` bounds the whole: what is not reached is unmeasured."""

    graph: AccessGraph
    guards: Sequence[Guard]
    excuses: Sequence[Excuse]
    unmeasured: Mapping[str, tuple[str, ...]]
    """By resource: why what is known of it is not all."""
    pricing: Pricing
    decided: frozenset[int] = frozenset()
    """Positions of edges that a decision gives: a task's lease, or what a grant of it would be given."""
    work: int = WORK
    hurry: Late = lambda: False
    """From then on no more ways to close are looked for: what is open comes first."""
    overdue: Late = lambda: False
    """From then on nothing more is examined."""
    cut_short: str = ""

    def examine(self, resources: Iterable[str]) -> tuple[Verdict, ...]:
        """What is true of each; those into which the very same edges lead are examined as one. The worst first."""
        alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for name in resources:
            at = self.graph.position(name)
            alike[self._signature(at)].append(at)
        order = list(Status)
        found = [self._one(each) for each in alike.values()]
        return tuple(sorted(found, key=lambda one: (order.index(one.status), one.titles)))

    def _signature(self, at: int) -> tuple[object, ...]:
        graph = self.graph
        name = graph.nodes[at].name
        rows = range(graph.rfirst[at], graph.rfirst[at + 1])
        entering = tuple(sorted((graph.rtails[row], _shape(graph.edges[graph.redge[row]])) for row in rows))
        # What a resource leads to leads back to it only in a cycle, where it is a step of its own.
        own = at if graph.first[at] < graph.first[at + 1] else -1
        excuses = tuple(each.id for each in self.excuses if each.covers(name))
        guards = tuple(each.node for each in self.guards if each.covers(name))
        return entering, own, excuses, guards, self.unmeasured.get(name, ())

    def _one(self, alike: list[int]) -> Verdict:
        graph, at = self.graph, alike[0]
        nodes = [graph.nodes[each] for each in alike]
        names = tuple(node.name for node in nodes)
        titles = tuple(node.title for node in nodes)
        unmeasured = self.unmeasured.get(names[0], ())
        if self.work >= 0 and self.overdue():
            self.work = -1
            self.cut_short = "there was no time for all: some resources were not examined"
        if self.work < 0:
            return _unexamined(names, titles)
        here = [one for one in self.guards if one.node in graph and one.covers(names[0])]
        guards = {graph.position(one.node) for one in here}
        asked = {graph.position(one.node) for one in here if one.kind is GuardKind.ENFORCER}
        excused = self._excused(at, names[0])
        answer = _Answer(graph, at, guards, asked, excused, self.decided)
        self.work -= answer.visited
        if self.work < 0:
            self.cut_short = "the graph is too large: some resources were not examined"
        seen = set(guards) & answer.everything.distance.keys()
        cut = self._cut(alike, answer) if answer.openings else None
        return Verdict(
            resources=names, titles=titles, status=answer.status(bool(unmeasured)),
            decided=len(answer.decided), excepted=len(answer.excepted),
            open=len(answer.openings) - len(answer.conditional), conditional=len(answer.conditional),
            openings=self._shown(alike, answer), last_steps=answer.last_steps(), unmeasured=unmeasured, cut=cut,
            excuses=tuple(sorted(each for each, who in excused.items() if who & answer.all_reach)),
            guards=tuple(sorted(graph.nodes[each].name for each in seen)),
        )  # fmt: skip

    def _excused(self, at: int, name: str) -> dict[str, set[int]]:
        """By exception: the identities that it excuses here."""
        graph = self.graph
        found: dict[str, set[int]] = {}
        for one in self.excuses:
            if not one.covers(name):
                continue
            who = {graph.position(each) for each in one.identities if each in graph}
            who = {each for each in who if graph.nodes[each].kind not in CONTAINERS}
            if REACH not in one.actions:
                rows = range(graph.rfirst[at], graph.rfirst[at + 1])
                more = [row for row in rows if not _within(graph.edges[graph.redge[row]], one.actions)]
                beyond = reaching(graph, {graph.rtails[row] for row in more} - {at})
                self.work -= len(beyond.distance)
                who -= beyond.distance.keys()
            found[one.id] = who
        return found

    def _cut(self, alike: list[int], answer: _Answer) -> Cut:
        return self._cheapest(answer.openings, alike, answer)

    def _cheapest(self, starts: Sequence[int], alike: list[int], answer: _Answer, work: int = CUT_WORK) -> Cut:
        if self.hurry():
            return Cut(possible=False, cheapest=False, note=_NO_TIME)
        between = {**answer.free.distance, **dict.fromkeys(alike, 0)}
        return cheapest_cut(
            self.graph, starts, alike, pricing=self.pricing, barred=answer.decides, work=work, late=self.hurry,
            between=between,
        )  # fmt: skip

    def _shown(self, alike: list[int], answer: _Answer) -> tuple[Opening, ...]:
        """The certain ones first, then the nearest; each with what closes it."""
        graph, shown = self.graph, []
        for each in answer.nearest():
            node = graph.nodes[each]
            self.work -= len(answer.free.distance)
            cut = self._cheapest([each], alike, answer, _CUT_WORK)
            shown.append(
                Opening(
                    identity=node.name, title=node.title, kind=node.kind, path=path_from(graph, answer.free, each),
                    conditional=each in answer.unsure, cut=cut,
                )
            )  # fmt: skip
            if self.work < 0:
                break
        return tuple(shown)


class _Answer:
    """The searches for one resource."""

    def __init__(
        self,
        graph: AccessGraph,
        at: int,
        guards: set[int],
        asked: set[int],
        excused: Mapping[str, set[int]],
        decided: frozenset[int],
    ) -> None:
        self._graph, self._at, self._guards, self._asked, self._given = graph, at, guards, asked, decided
        everyone: set[int] = set().union(*excused.values())
        self.everything = reaching(graph, [at])
        self.all_reach = set(self.everything.distance)
        free = reaching(graph, [at], barred=self.decides) if guards or decided else self.everything
        self.visited = len(self.all_reach) + len(free.distance)
        self.free = free
        certain = free.is_certain()
        # An exception speaks for who is named, and not for whoever can become it.
        undecided = self._who(free)
        self.openings = [each for each in undecided if each not in everyone]
        self.conditional = [each for each in self.openings if each not in certain]
        self.unsure = set(self.conditional)
        self.excepted = set(undecided) & everyone
        self.decided = set(self._who(self.everything, guards=True)) - set(self.openings) - self.excepted

    def decides(self, edge: int) -> bool:
        """Whether this edge is a decision's: no part of an open way."""
        graph = self._graph
        if edge in self._given:
            return True
        return graph.heads[edge] in self._asked and graph.edges[edge].relation is Relation.CAN_REACH

    def _who(self, found: Reaching, *, guards: bool = False) -> list[int]:
        inside = entrances(self._graph, found.distance)
        return [each for each in inside if each != self._at and (guards or each not in self._guards)]

    def status(self, unmeasured: bool) -> Status:
        if self.openings:
            return Status.CONDITIONAL if len(self.conditional) == len(self.openings) else Status.OPEN
        if unmeasured:
            return Status.UNMEASURED
        if self.excepted:
            return Status.EXCEPTED
        return Status.DECIDED if self.decided else Status.UNREACHED

    def nearest(self) -> list[int]:
        """At most `SHOWN` openings: the certain ones first, then the nearest."""
        nodes, distance = self._graph.nodes, self.free.distance
        order = sorted(self.openings, key=lambda each: (each in self.unsure, distance[each], nodes[each].title, each))
        return order[:SHOWN]

    def last_steps(self) -> tuple[LastStep, ...]:
        """Access edges, each with the open ways that end in it: everybody is counted where the shortest one ends."""
        certain: Counter[int] = Counter()
        conditional: Counter[int] = Counter()
        ends: dict[int, int] = {}
        for each in self.openings:
            (conditional if each in self.unsure else certain)[self._end(each, ends)] += 1
        found = [
            LastStep(edge=self._graph.edges[at], openings=certain[at], conditional=conditional[at])
            for at in certain | conditional
        ]
        found.sort(key=lambda one: (-one.openings, -one.conditional, one.edge.source))
        return tuple(found[:_STEPS_SHOWN])

    def _end(self, node: int, ends: dict[int, int]) -> int:
        """The last edge of a node's way; what was found on the way is remembered."""
        way, step, heads = [], self.free.step, self._graph.heads
        while node not in ends and heads[step[node]] != self._at:
            way.append(node)
            node = heads[step[node]]
        last = ends.get(node, step[node])
        ends.update(dict.fromkeys((*way, node), last))
        return last


def scope_digest(graph: AccessGraph, resources: Iterable[str]) -> tuple[str, int, int]:
    """`sha256:<hex>` of everything that reaches the resources, with the numbers of its nodes and edges.

    Any change of a way to one of them changes it; the order in which sources were read does not.
    """
    names = sorted(set(resources))
    found = reaching(graph, (graph.position(each) for each in names))
    lines = []
    for node in found.distance:
        said = graph.nodes[node]
        lines.append(canonical(["node", said.name, said.category.value, str(said.kind), _label(said.sensitivity)]))
        for row in range(graph.rfirst[node], graph.rfirst[node + 1]):
            edge = graph.edges[graph.redge[row]]
            tail = graph.nodes[graph.rtails[row]].name
            lines.append(canonical(["edge", tail, said.name, *_shape(edge)]))
    hashed = hashlib.sha256(canonical(["scope", *names]))
    for line in sorted(lines):
        hashed.update(len(line).to_bytes(8, "big") + line)
    edges = sum(graph.rfirst[node + 1] - graph.rfirst[node] for node in found.distance)
    return "sha256:" + hashed.hexdigest(), len(found.distance), edges


def counted(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Resources by status."""
    found = {each.value: 0 for each in Status}
    for one in verdicts:
        found[one.status.value] += len(one.resources)
    return found


def _shape(edge: Edge) -> tuple[str, str, str]:
    """What of an edge matters to a proof: its words do not."""
    return edge.relation.value, "\n".join(sorted(edge.actions)), "\n".join(sorted(edge.conditions))


def _within(edge: Edge, actions: frozenset[str]) -> bool:
    return bool(edge.actions) and set(edge.actions) <= actions


def _label(sensitivity: object) -> str:
    return str(getattr(sensitivity, "value", ""))


def _unexamined(names: tuple[str, ...], titles: tuple[str, ...]) -> Verdict:
    return Verdict(
        resources=names, titles=titles, status=Status.UNMEASURED, decided=0, excepted=0, open=0, conditional=0,
        unmeasured=("the bound on the work was reached before it",),
    )  # fmt: skip


__all__ = ["SHOWN", "WORK", "Examiner", "counted", "scope_digest"]
