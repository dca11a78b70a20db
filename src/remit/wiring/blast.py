"""Blast radius of anything: which nodes a name stands for, what they reach, how soon, and what would stop it."""

from __future__ import annotations

import asyncio
import heapq
import socket
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from remit.access.leases.model import LIVE, LeaseFilter
from remit.governance.blastradius.timing import Containment, by_hop, hop_seconds, measure
from remit.inventory.connectors.files.host import host_fingerprint
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.arrival import Arrivals, arrivals, path_to
from remit.inventory.graph.blast import Blast, Reached
from remit.inventory.graph.blast import blast as spread
from remit.inventory.graph.cuts import cheapest_cut, plain_pricing
from remit.inventory.graph.model import Category, Node
from remit.inventory.graph.paths import Length, Path, reaching
from remit.inventory.graph.region import region
from remit.inventory.graph.traits import IDENTITY, LABELS, WEIGHTS, class_of
from remit.inventory.graph.weights import hardness, steps
from remit.inventory.records import IdentityFilter
from remit.kernel.errors import NotFound, Rejected
from remit.kernel.ids import parse_name
from remit.wiring.paths import cut_json, path_json

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

MOST_STARTS: Final = 10_000
"""Of more, the first are taken, which is said."""
_PAGE: Final = 1_000
MOST_SENSITIVE: Final = 5
_STOPPED: Final = 20
"""Of more starts nobody's dependents are looked up, which is said."""
_SHOWN: Final = 100
_INCIDENTS: Final = 500
_WORST: Final = sorted(LABELS, key=lambda label: -WEIGHTS[label])
_FORGES: Final = ("github", "gitlab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a blast radius is asked of: one of them. `at` is a past moment."""

    of: str = ""
    """An identity by any name, a credential by its fingerprint, a resource by its name or title."""
    owner: str = ""
    vendor: str = ""
    host: str = ""
    repository: str = ""
    at: datetime | None = None

    def one(self) -> tuple[str, str]:
        """The sort of thing and its name; `Rejected` (`inventory.blast.start`)."""
        kinds = ("of", "owner", "vendor", "host", "repository")
        given = [(kind, getattr(self, kind)) for kind in kinds if getattr(self, kind)]
        if len(given) != 1:
            raise Rejected(
                "inventory.blast.start", "one start is needed: a node, an owner, a vendor, a host or a repository",
                next_step="`remit blast ID`, or `remit blast --owner NAME`",
            )  # fmt: skip
        return given[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A blast radius, and where it begins. The starts are nodes of `graph`; several are joined under one in `blast`."""

    blast: Blast
    graph: AccessGraph
    starts: tuple[str, ...]
    past: bool
    cut_short: str = ""

    @property
    def held(self) -> frozenset[str]:
        """What is compromised itself, where several starts are joined: no way leads there, and no cut keeps it."""
        return frozenset(self.starts) if len(self.starts) > 1 else frozenset()


class BlastDesk:
    """Answers what anything reaches."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._hops = hop_seconds(control.settings.graph.hop_seconds)

    async def find(self, asked: Asked) -> Found:
        """The blast radius of what is asked. Raises what `Graphs.node` raises, and `Rejected`."""
        kind, given = asked.one()
        graphs = self._control.graphs
        graph = await graphs.now() if asked.at is None else await graphs.at(asked.at)
        if kind == "of":
            starts = [await self._thing(graph, given)]
        else:
            starts = [each for each in await self._starts(graph, kind, given, asked.at) if each in graph]
            starts = list(dict.fromkeys(graph.node(each).name for each in starts))
        if not starts:
            raise NotFound(
                "inventory.blast.nothing", f"nothing is known of the {kind} `{given[:200]}`",
                next_step="`remit ls` lists identities with their owners and places",
            )  # fmt: skip
        short = f"only the first {MOST_STARTS:,} of {len(starts):,} starts" if len(starts) > MOST_STARTS else ""
        starts = starts[:MOST_STARTS]
        found = await asyncio.to_thread(_together, graph, starts, kind, given)
        return Found(blast=found, graph=graph, starts=tuple(starts), past=asked.at is not None, cut_short=short)

    async def details(self, found: Found, *, within: int | None = None) -> dict[str, Any]:
        """What a person asks next: the ways to the worst, the cheapest cut, how soon, and what a stop would stop."""
        timing = await self.containment()
        ways = await asyncio.to_thread(_ways, found, timing, self._hops, within)
        return {
            "starts": [node_json(found.graph.node(each)) for each in found.starts[:_SHOWN]],
            "start_count": len(found.starts),
            "cut_short": "; ".join(filter(None, (found.cut_short, ways.pop("cut_short")))),
            **ways,
            "cut": await self.cut(found),
            "stops": None if found.past else await self._stops(found),
        }

    async def containment(self) -> Containment:
        """How long containment takes here, by the incidents that there were."""
        settings = self._control.settings.graph
        incidents, now = await self._control.store.read(
            lambda unit: (unit.defense.incidents(limit=_INCIDENTS), unit.now)
        )
        return measure(incidents, now, detect=settings.detect_seconds, revoke=settings.revoke_seconds)

    async def cut(self, found: Found) -> dict[str, Any] | None:
        """The cheapest cut towards the most sensitive class that is reached; `None` where no resource is."""
        reached = Counter(found.blast.by_sensitivity) - Counter(_label(found.graph.node(each)) for each in found.held)
        towards = next((label for label in _WORST if reached[label] > 0), None)
        if towards is None or not WEIGHTS[towards]:
            return None
        graph, starts = found.graph, [found.graph.position(each) for each in found.starts]

        def look() -> tuple[list[int], list[str]]:
            held = found.held
            goals = [graph.position(each.node.name) for each in found.blast
                     if _label(each.node) == towards and each.node.name not in held]  # fmt: skip
            between = reaching(graph, goals)
            inside = [node.name for node in [found.blast.start, *found.blast.becomes]
                      if node.name in graph and graph.position(node.name) in between.distance]  # fmt: skip
            return goals, inside

        goals, inside = await asyncio.to_thread(look)
        used = {} if found.past else await self._control.paths.used(inside)
        pricing = plain_pricing({name: each.level for name, each in used.items()})
        cut = await asyncio.to_thread(cheapest_cut, graph, starts, goals, pricing=pricing)
        return {"towards": towards, "ends": len(goals), **cut_json(cut, graph)}

    async def document(self, found: Found, nodes: Sequence[dict[str, Any]]) -> None:
        """Put the public name into nodes of a document: `urn`."""
        ids = [each["name"] for each in nodes if each["category"] == Category.IDENTITY.value]

        def names(unit: Any) -> dict[str, str]:
            return {id: record.name for id, record in unit.inventory.identities(ids).items()}

        known = await self._control.store.read(names) if ids else {}
        for each in nodes:
            each["urn"] = known.get(each["name"], each["name"])

    # -- starts

    async def _thing(self, graph: AccessGraph, given: str) -> str:
        try:
            return await self._control.graphs.node(given, graph)
        except NotFound:
            same = [node.name for node in graph.nodes if node.title == given and node.category is not Category.IDENTITY]
            if len(same) != 1:
                raise
            return same[0]

    async def _starts(self, graph: AccessGraph, kind: str, given: str, at: datetime | None) -> list[str]:
        if kind == "owner":
            return await self._owned(given, at)
        wanted = given.strip().lower()
        if kind == "vendor":
            return [node.name for node in graph.nodes if node.kind == "vendor" and _of_vendor(node.title, wanted)]
        urns = await self._urns()
        named = ((node.name, parse_name(urns.get(node.name, node.name))) for node in graph.nodes)
        if kind == "repository":
            return [name for name, parts in named if parts is not None and _in_repository(parts, wanted)]
        hosts = await asyncio.to_thread(_hosts, wanted)
        return [name for name, parts in named if parts is not None and _on_host(parts, hosts)]

    async def _owned(self, owner: str, at: datetime | None) -> list[str]:
        def look(unit: Any) -> list[str]:
            found: list[str] = []
            while len(found) <= MOST_STARTS:
                wanted = IdentityFilter(owner=owner, sort="title", limit=_PAGE, offset=len(found))
                rows, _ = unit.inventory.list_identities(wanted) if at is None else unit.inventory.list_at(wanted, at)
                found += [row.id for row in rows]
                if len(rows) < _PAGE:
                    break
            return found

        return await self._control.store.read(look)

    async def _urns(self) -> Mapping[str, str]:
        """The public names of identities."""
        return await self._control.store.read(
            lambda unit: {each.id: each.name for each in unit.inventory.all_identities()}
        )

    # -- what a stop would stop

    async def _stops(self, found: Found) -> dict[str, Any]:
        """Who depends on the identities at the start, and their tasks and live leases."""
        identities = self._acting(found)
        asked = identities[:_STOPPED]

        def held(unit: Any) -> tuple[int, list[str]]:
            leases = sum(len(unit.access.leases(LeaseFilter(identity=each, states=LIVE), 1000)) for each in asked)
            return leases, sorted(task.name for task in unit.access.tasks() if task.identity in asked)

        leases, tasks = await self._control.store.read(held)
        dependents: dict[str, dict[str, Any]] = {}
        unmeasured: dict[str, None] = {}
        for each in asked:
            listed = await self._control.dependents(each)
            dependents.update({one["id"]: one for one in listed["dependents"]})
            unmeasured.update(dict.fromkeys(listed.get("unmeasured", ())))
        if len(identities) > len(asked):
            unmeasured[f"looked at {len(asked)} of {len(identities)} identities"] = None
        return {
            "identities": len(identities), "dependents": list(dependents.values())[:_SHOWN],
            "dependent_count": len(dependents), "leases": leases, "tasks": tasks, "unmeasured": list(unmeasured),
        }  # fmt: skip

    def _acting(self, found: Found) -> list[str]:
        """The identities among the starts, and those that a credential among them proves."""
        names: dict[str, None] = {}
        for each in found.starts:
            node = found.graph.node(each)
            if node.category is Category.IDENTITY:
                names[node.name] = None
            elif node.category is Category.CREDENTIAL:
                ends = (found.graph.node(edge.target) for edge in found.graph.leaving(each))
                names.update({end.name: None for end in ends if end.category is Category.IDENTITY})
        return [each for each in names if each.startswith("id_")]


def _together(graph: AccessGraph, starts: Sequence[str], kind: str, given: str) -> Blast:
    if len(starts) == 1:
        return spread(graph, starts[0])
    name = f"{kind}:{given}"
    start = Node(name=name, category=Category.UNKNOWN, kind=kind, title=given)
    positions = [graph.position(each) for each in starts]
    return spread(region(graph, positions, joined=start, evidence=f"of the {kind} {given}"), name)


def _ways(found: Found, timing: Containment, table: Mapping[Any, int], within: int | None) -> dict[str, Any]:
    """The shortest and the likeliest way to the worst things, and what is reached in time."""
    graph, blast = found.blast.graph, found.blast
    origin, hop = graph.position(blast.start.name), _from(found, by_hop(table))
    soon, sure = arrivals(graph, origin, hop), arrivals(graph, origin, hop, certain=True)
    short, likely = arrivals(graph, origin, _from(found, steps)), arrivals(graph, origin, _from(found, hardness))
    worst = []
    for each in most_sensitive(blast, but=found.held):
        at = graph.position(each.node.name)
        ways = [_inside(found, path_to(graph, way, at)) for way in (short, likely)]
        worst.append({
            **node_json(each.node), "distance": each.distance, "conditional": each.conditional,
            "seconds": soon.far.get(at),
            "shortest": path_json(ways[0]) if ways[0] else None, "likeliest": path_json(ways[1]) if ways[1] else None,
        })  # fmt: skip
    return {
        "most_sensitive": worst,
        "containment": {
            "detect_seconds": timing.detect, "revoke_seconds": timing.revoke, "contained_after": timing.total,
            "incidents": timing.incidents, "measured": timing.incidents > 0,
            "before": _before(blast, graph, soon, sure, timing.total),
            "within": None if within is None else _before(blast, graph, soon, sure, within),
        },
        "cut_short": next((each.cut_short for each in (soon, sure, short, likely) if each.cut_short), ""),
    }  # fmt: skip


def _from(found: Found, length: Length) -> Length:
    """That several starts are joined under one is no step of anybody's."""
    start = found.blast.start.name
    return length if len(found.starts) == 1 else lambda edge: 0 if edge.source == start else length(edge)


def _inside(found: Found, path: Path | None) -> Path | None:
    if path is None or len(found.starts) == 1:
        return path
    return Path(edges=path.edges[1:], nodes=path.nodes[1:])


def _before(blast: Blast, graph: AccessGraph, soon: Arrivals, sure: Arrivals, seconds: int) -> dict[str, Any]:
    """How much of it is reached in so many seconds."""
    origin = graph.position(blast.start.name)
    there = [at for at, far in soon.far.items() if far <= seconds and at != origin]
    classes = Counter(graph.traits.classes[at] for at in there)
    return {
        "seconds": seconds,
        "reached": len(there),
        "certain": sum(far <= seconds for at, far in sure.far.items() if at != origin),
        "of": len(blast),
        "by_sensitivity": {label: classes[number] for number, label in enumerate(LABELS)},
        "becomes": classes[IDENTITY],
        "score": sum(WEIGHTS[label] * classes[number] for number, label in enumerate(LABELS)),
    }


def most_sensitive(blast: Blast, *, but: Container[str] = ()) -> list[Reached]:
    """The worst things reached: by sensitivity, then the certain ones, then the nearest."""
    things = (
        each for each in blast
        if class_of(each.node) < IDENTITY and WEIGHTS[_label(each.node)] and each.node.name not in but
    )  # fmt: skip
    return heapq.nsmallest(
        MOST_SENSITIVE,
        things,
        key=_badness,
    )


def _badness(each: Reached) -> tuple[int, bool, int, str, str]:
    return -WEIGHTS[_label(each.node)], each.conditional, each.distance, each.node.title, each.node.name


def node_json(node: Node) -> dict[str, Any]:
    """One node for a program."""
    return {
        "name": node.name, "title": node.title, "kind": node.kind, "category": node.category.value,
        "sensitivity": node.sensitivity.value if node.sensitivity else None, "environment": node.environment,
    }  # fmt: skip


def _label(node: Node) -> str:
    kind = class_of(node)
    return LABELS[kind] if kind < IDENTITY else ""


def _of_vendor(title: str, wanted: str) -> bool:
    title = title.lower()
    return title == wanted or title.startswith((f"{wanted}/", f"{wanted}@"))


def _hosts(wanted: str) -> frozenset[str]:
    """How names call a host; this one, `local`, is called by its fingerprint."""
    own = socket.gethostname().lower()
    here = wanted in ("local", own, own.partition(".")[0])
    return frozenset({wanted, host_fingerprint()} if here else {wanted})


def _on_host(parts: Iterable[str], hosts: frozenset[str]) -> bool:
    """What is named by its place on that host, and the host itself."""
    _, instance, kind, local = parts
    return instance.lower() in hosts or (kind in ("host", "node", "machine") and local.lower() in hosts)


def _in_repository(parts: Iterable[str], wanted: str) -> bool:
    """The repository, and what a forge names below it: its pipelines."""
    system, instance, _, local = parts
    local = local.lower()
    full = f"{instance.lower()}/{local}"
    fits = any(each == wanted or each.startswith((f"{wanted}/", f"{wanted}:", f"{wanted}@")) for each in (local, full))
    return system in _FORGES and fits
