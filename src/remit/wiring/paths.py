"""Paths and cuts in the graph as it is now: what is meant by a name, who used what, and what a cut would break."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import CONTAINERS, Cut, cheapest_cut, entrances, plain_pricing
from remit.inventory.graph.model import Category, Node
from remit.inventory.graph.paths import Path, Paths, k_paths, path_from, reaching, resources_of
from remit.inventory.graph.weights import Used, hardness, likelihood, price, steps
from remit.inventory.model import Sensitivity
from remit.inventory.use.judge import together, window_of
from remit.inventory.use.readers.sshd import key_name
from remit.kernel.errors import NotFound, Rejected, Unavailable
from remit.kernel.ids import credential_name

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

RECENT: Final = timedelta(days=30)
"""A use within this counts as use now."""
MOST_MEASURED: Final = 5_000
"""Of more identities between two sides nobody's use is looked at: they count as unmeasured, which is said."""
NEAREST: Final = 200
WAITING: Final = 16
"""Questions that wait for their turn."""
CUT_SECONDS: Final = 20.0
"""How long a cheapest cut is looked for; then any cut, which is said."""
LABELS: Final = tuple(each.value for each in Sensitivity)


@dataclass(frozen=True, slots=True, kw_only=True)
class UseNow:
    """What logs tell of one identity's use now."""

    level: Used
    last: datetime | None = None
    consumers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFound:
    """A cut, with what it would break."""

    cut: Cut
    starts: int
    ends: int
    breaks: tuple[Mapping[str, Any], ...]
    note: str = ""


class Queue:
    """A few questions at once, a few more wait, and others are told to come again: each may take seconds."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._turn = asyncio.Semaphore(at_once)
        self._room = at_once + waiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """`Unavailable` (`inventory.paths.busy`) where too many wait already."""
        if self._room <= 0:
            raise Unavailable(
                "inventory.paths.busy", "too many ask about paths at once",
                next_step="ask again in a few seconds", retry_after=timedelta(seconds=5),
            )  # fmt: skip
        self._room -= 1
        try:
            async with self._turn:
                # A search makes many objects: without this it would have the whole graph looked through for garbage,
                # and a decision would wait for that.
                gc.freeze()
                try:
                    yield
                finally:
                    gc.unfreeze()
        finally:
            self._room += 1


def lasting(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


class PathDesk:
    """Answers questions on paths."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._queue = Queue(1, WAITING)

    async def graph(self) -> AccessGraph:
        """The graph as it is now."""
        return await self._control.graphs.now()

    async def thing(self, given: str) -> str:
        """The node that `given` means; besides what `Graphs.node` knows, a resource by its title, if one alone has it.

        Raises as `Graphs.node`.
        """
        graph = await self.graph()
        fingerprint = given.startswith(("sha256:", "hmac:")) and credential_name(given) in graph
        if given not in graph and not fingerprint:
            same = [node.name for node in graph.nodes if node.title == given and node.category is Category.RESOURCE]
            if len(same) == 1:
                return same[0]
        return await self._control.graphs.node(given)

    async def ends(self, to: str, label: str) -> list[str]:
        """The resource that `to` names, or all of one sensitivity. `Rejected` (`inventory.paths.ends`), `NotFound`."""
        if bool(to) == bool(label):
            raise Rejected(
                "inventory.paths.ends", "one end is needed: a node, or a class of resources",
                next_step="name a node, or `--resource-class restricted`; `remit blast NODE` shows all that it reaches",
            )  # fmt: skip
        if to:
            return [await self.thing(to)]
        if label not in LABELS:
            raise Rejected("inventory.paths.ends", f"`{label[:40]}` is no class: {', '.join(LABELS)}")
        found = resources_of(await self.graph(), label)
        if not found:
            raise NotFound(
                "inventory.paths.empty", f"no resource is known to be {label}",
                next_step="a source says how sensitive a resource is, or a file of `remit discover import`",
            )  # fmt: skip
        return found

    async def between(self, start: str, to: str, label: str, *, most: int) -> dict[str, Any]:
        """The shortest and the most likely paths."""
        async with self._queue.turn():
            return await self._between(start, to, label, most)

    async def _between(self, start: str, to: str, label: str, most: int) -> dict[str, Any]:
        graph, origin, ends = await self.graph(), await self.thing(start), await self.ends(to, label)
        shortest = await asyncio.to_thread(k_paths, graph, origin, ends, most=most, length=steps)
        likely = await asyncio.to_thread(k_paths, graph, origin, ends, most=most, length=hardness)
        return {
            "from": _node(graph.node(origin)),
            "to": [_node(graph.node(each)) for each in ends[:100]],
            "ends": len(ends),
            "shortest": [path_json(each) for each in shortest.paths],
            "likely": [path_json(each) for each in sorted(likely.paths, key=_unlikely)],
            "cut_short": _short(shortest, likely),
        }

    async def into(self, to: str, label: str, *, limit: int) -> dict[str, Any]:
        """Who reaches it: counts by kind, and the nearest with their ways."""
        async with self._queue.turn():
            return await self._into(to, label, limit)

    async def _into(self, to: str, label: str, limit: int) -> dict[str, Any]:
        graph, ends = await self.graph(), await self.ends(to, label)

        def look() -> dict[str, Any]:
            positions = [graph.position(each) for each in ends]
            found = reaching(graph, positions)
            certain = found.is_certain()
            there = [each for each in found.distance if each not in positions]
            who = [each for each in there if graph.nodes[each].category is Category.IDENTITY]
            act = [each for each in entrances(graph, there) if each not in positions]
            order = sorted(act, key=lambda each: (each not in certain, found.distance[each], graph.nodes[each].title))
            kinds = Counter(graph.nodes[each].kind for each in there)
            return {
                "to": [_node(graph.nodes[each]) for each in positions[:100]],
                "ends": len(ends),
                "identities": len(who),
                "certain": sum(each in certain for each in who),
                "conditional": sum(each not in certain for each in who),
                "can_act": len(act),
                "by_kind": dict(kinds.most_common()),
                "nearest": [
                    {**_node(graph.nodes[each]), "distance": found.distance[each], "conditional": each not in certain,
                     "path": path_json(path_from(graph, found, each))}
                    for each in islice(order, min(limit, NEAREST))
                ],
            }  # fmt: skip

        return await asyncio.to_thread(look)

    async def cut(self, start: str, to: str, label: str) -> CutFound:
        """The cheapest cut between `start` and the ends; without it, for everybody who can act, but for guards."""
        async with self._queue.turn():
            return await self._cut(start, to, label)

    async def _cut(self, start: str, to: str, label: str) -> CutFound:
        graph, ends = await self.graph(), await self.ends(to, label)
        goals = [graph.position(each) for each in ends]
        origin = graph.position(await self.thing(start)) if start else None
        kept = set() if start else await self._control.path_proofs.guarded(graph, ends)

        def prepare() -> tuple[list[int], list[str]]:
            found = reaching(graph, goals)
            starts = [origin] if origin is not None else entrances(graph, found.distance)
            inside = [graph.nodes[each].name for each in found.distance
                      if graph.nodes[each].category is Category.IDENTITY]  # fmt: skip
            return [each for each in starts if each not in goals and graph.nodes[each].name not in kept], inside

        starts, inside = await asyncio.to_thread(prepare)
        used = await self.used(inside)
        # To cut what a decision stands behind would end work that asks.
        levels = {name: now.level for name, now in used.items()}
        pricing = plain_pricing({**levels, **dict.fromkeys(kept, Used.YES)})
        found = await asyncio.to_thread(cheapest_cut, graph, starts, goals, pricing=pricing, late=lasting(CUT_SECONDS))
        note = "" if used or not inside else f"more than {MOST_MEASURED} identities lie between: use was not looked at"
        return CutFound(cut=found, starts=len(starts), ends=len(goals), breaks=breaks(graph, found, used), note=note)

    async def used(self, identities: Sequence[str]) -> Mapping[str, UseNow]:
        """What logs tell of the use of these identities now; nothing where there are too many."""
        if len(identities) > MOST_MEASURED:
            return {}
        return await self._control.store.read(lambda unit: uses_now(unit, identities))


def uses_now(unit: Any, identities: Iterable[str]) -> dict[str, UseNow]:
    """What logs tell of each identity's use within the last `RECENT`."""
    windows, since = unit.use.windows(), unit.now - RECENT
    watched = _names_watched(unit, list(identities))
    rows = unit.use.of(name for names in watched.values() for name in names)
    found = {}
    for each, names in watched.items():
        whole = together([rows[name] for name in names if name in rows])
        if whole is not None and whole.last is not None and whole.last >= since:
            heavy = sorted(whole.consumers, key=lambda one: -whole.consumers[one])[:5]
            found[each] = UseNow(level=Used.YES, last=whole.last, consumers=tuple(heavy))
        else:
            window = window_of(names, windows)
            measured = window is not None and window.since <= since and window.until >= since
            found[each] = UseNow(level=Used.NO if measured else Used.UNMEASURED, last=whole.last if whole else None)
    return found


def _names_watched(unit: Any, identities: Sequence[str]) -> dict[str, list[str]]:
    """By identity, every name under which a log may tell of it: its own, and those of its credentials."""
    known = unit.inventory.names_of_all(identities)
    found = {each: list(known.get(each, ())) for each in identities}
    for credential in unit.inventory.credentials_of(identities):
        shown = credential.attributes.get("ssh_fingerprint")
        names = found[credential.identity]
        names.append(credential_name(credential.fingerprint))
        names += [key_name(shown)] if isinstance(shown, str) and shown else []
    return found


def breaks(graph: AccessGraph, cut: Cut, used: Mapping[str, UseNow]) -> tuple[Mapping[str, Any], ...]:
    """Who would notice a cut: its edges' sources that were used lately, or that nobody measured; who else passes."""
    said = {}
    for one in cut.edges:
        name = one.edge.source
        at = graph.position(name)
        found = used.get(graph.nodes[at].name, UseNow(level=Used.UNMEASURED))
        others = {graph.rtails[row] for row in range(graph.rfirst[at], graph.rfirst[at + 1])}
        if found.level is not Used.NO or graph.nodes[at].kind in CONTAINERS:
            said[graph.nodes[at].name] = {
                **_node(graph.nodes[at]),
                "use": found.level.value,
                "last": found.last,
                "consumers": list(found.consumers),
                "others": len(others),
            }
    return tuple(said.values())


def path_json(path: Path) -> dict[str, Any]:
    """A path for a program."""
    return {
        "steps": len(path.edges),
        "likelihood": round(path.likelihood, 4),
        "conditional": path.conditional,
        "nodes": [_node(node) for node in path.nodes],
        "edges": [
            {
                "source": edge.source, "relation": edge.relation.value, "target": edge.target,
                "actions": list(edge.actions), "conditions": list(edge.conditions), "evidence": edge.evidence,
                "cut": edge.cut or price(edge).how, "likelihood": round(likelihood(edge), 4),
            }
            for edge in path.edges
        ],
    }  # fmt: skip


def cut_json(found: Cut, graph: AccessGraph) -> dict[str, Any]:
    """A cut for a program."""
    return {
        "possible": found.possible,
        "cost": found.cost,
        "cheapest": found.cheapest,
        "stated": found.stated,
        "note": found.note,
        "edges": [
            {
                "source": each.edge.source, "source_title": graph.node(each.edge.source).title,
                "relation": each.edge.relation.value, "target": each.edge.target,
                "target_title": graph.node(each.edge.target).title, "evidence": each.edge.evidence,
                "cut": each.price.how, "cost": each.price.cost, "stated": each.price.stated, "why": each.price.why,
            }
            for each in found.edges
        ],
        "across": path_json(found.across) if found.across is not None else None,
    }  # fmt: skip


def _node(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "title": node.title,
        "kind": node.kind,
        "category": node.category.value,
        "sensitivity": node.sensitivity.value if node.sensitivity else None,
        "environment": node.environment,
    }


def _unlikely(path: Path) -> tuple[float, int]:
    return -path.likelihood, len(path.edges)


def _short(*found: Paths) -> str:
    return next((each.cut_short for each in found if each.cut_short), "")
