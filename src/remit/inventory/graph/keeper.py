"""The numbers of the whole graph, kept in step with the mirror of the registry."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from remit.inventory.graph.engine import Engine, PlainEngine, count_everything, counts_of
from remit.inventory.graph.incremental import Change
from remit.inventory.graph.mirror import Changes, EdgeKey, Mirror
from remit.inventory.graph.model import Category, Edge, Node, undescribed
from remit.inventory.graph.traits import IDENTITY, LABELS, class_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """Of which state of the registry something tells."""

    sequence: int
    """The length of the ledger then."""
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Radius:
    """How much an identity, or any other node, reaches."""

    resources: int
    by_sensitivity: dict[str, int]
    score: int
    certain_score: int
    becomes: int
    as_of: AsOf


class View:
    """The numbers of one moment; they do not change any more. Reading them costs no search."""

    __slots__ = ("_at", "_certain", "_every", "as_of")

    def __init__(self, at: Mapping[str, int], certain: Any, every: Any, as_of: AsOf) -> None:
        self._at, self._certain, self._every = at, certain, every
        self.as_of = as_of

    def radius(self, name: str) -> Radius | None:
        """How much the node of this name reaches; `None` where the graph has none."""
        position = self._at.get(name, -1)
        if not 0 <= position < len(self._every):
            return None
        counts = counts_of(self._certain[position], self._every[position])
        return Radius(
            resources=counts.resources,
            by_sensitivity=dict(zip(LABELS, counts.by_sensitivity, strict=True)),
            score=counts.score,
            certain_score=counts.certain_score,
            becomes=counts.becomes,
            as_of=self.as_of,
        )

    def resources(self, name: str) -> int | None:
        """How many resources it reaches; `None` where the graph has no node of this name."""
        position = self._at.get(name, -1)
        return int(sum(self._every[position][:IDENTITY])) if 0 <= position < len(self._every) else None


class Keeper:
    """The numbers of a mirror; `follow` brings them up to date. Use it from one thread at a time."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._engine: PlainEngine | Engine
        self._at: dict[str, int] = {}
        self._placed: dict[EdgeKey, Change] = {}
        self._count()

    def _count(self) -> None:
        graph = self._mirror.graph()
        self._engine = count_everything(graph)
        self._at = {node.name: position for position, node in enumerate(graph.nodes)}
        self._placed = {}
        if isinstance(self._engine, Engine):
            self._placed = {key: self._place(edge) for key, edge in self._mirror.edges.items()}

    def view(self, as_of: AsOf) -> View:
        """The numbers as they are now, for others to read while this goes on."""
        return View(self._at, *self._engine.frozen(), as_of)

    def identities(self) -> list[str]:
        """The names of the identities of the graph."""
        return [name for name, node in self._mirror.nodes.items() if node.category is Category.IDENTITY]

    def top(self, number: int) -> list[Node]:
        """The identities that reach most, by score, then by name."""
        scores = self._engine.scores()
        listed = ((-int(scores[self._at[name]]), name) for name in self.identities())
        return [self._mirror.nodes[name] for _, name in heapq.nsmallest(number, listed)]

    def follow(self, changes: Changes) -> None:
        """Bring the numbers up to date with what a refresh of the mirror changed."""
        if not changes:
            return
        if not isinstance(self._engine, Engine):
            self._count()
            return
        before = {key: self._placed.pop(key) for key in changes.edges if key in self._placed}
        after = {key: edge for key in changes.edges if (edge := self._mirror.edges.get(key)) is not None}
        self._admit(chain(changes.nodes, chain.from_iterable(map(self._mirror.resolved, after.values()))))
        placed = {key: self._place(edge) for key, edge in after.items()}
        self._placed |= placed
        removed = [place for key, place in before.items() if placed.get(key) != place]
        added = [place for key, place in placed.items() if before.get(key) != place]
        for name in changes.nodes:
            self._engine.reclass(self._at[name], class_of(self._node(name)))
        self._engine.change(removed, added)

    def _admit(self, names: Iterable[str]) -> None:
        fresh = [name for name in dict.fromkeys(names) if name not in self._at]
        if fresh and isinstance(self._engine, Engine):
            first = self._engine.grow([class_of(self._node(name)) for name in fresh])
            self._at |= {name: first + at for at, name in enumerate(fresh)}

    def _node(self, name: str) -> Node:
        return self._mirror.nodes.get(name) or undescribed(name)

    def _place(self, edge: Edge) -> Change:
        tail, head = self._mirror.resolved(edge)
        return self._at[tail], self._at[head], bool(edge.conditions)
