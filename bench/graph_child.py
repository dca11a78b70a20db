"""One engine on one graph, in a process of its own so that its memory is known: `SHAPE NODES ENGINE SEARCHES`.

Prints one JSON document. Every engine searches from the same identities, and says how much each reaches.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

from bench.graph_shapes import Rows, Shape, estate

_MOST_SECONDS = 4.0


def main(shape: Shape, nodes: int, engine: str, searches: int) -> dict[str, Any]:
    """Measure one engine."""
    rows = estate(shape, nodes)
    starts = Random(11).sample(range(rows.identities), searches)
    before = _peak()
    told = _ours(rows, starts) if engine == "remit" else _peer(engine, rows, starts)
    return {**told, "edges": len(rows.heads), "identities": rows.identities, "rss_before": before, "rss": _peak()}


def _ours(rows: Rows, starts: list[int]) -> dict[str, Any]:
    from remit.inventory.graph.engine import Engine

    small = estate("tiered", 2_000)
    _exercise(_engine(small), 0, small)  # compiled, or read from where it is kept: not what is measured
    begun = time.perf_counter()
    engine = _engine(rows)
    everything = time.perf_counter() - begun
    rss = _peak()
    assert isinstance(engine, Engine)
    engine.reached(0)
    told = _searched(engine.reached, starts)
    return {"everything": everything, "rss_counting": rss, **told, **_changed(engine, rows)}


def _engine(rows: Rows) -> Any:
    from remit.inventory.graph.engine import Engine

    return Engine(rows.first[:-1], rows.first[1:], rows.first[1:], rows.heads, rows.classes)


def _exercise(engine: Any, start: int, rows: Rows) -> None:
    engine.reached(start)
    engine.change([], [(start, len(rows.classes) - 1, False)])
    engine.change([(start, len(rows.classes) - 1, False)], [])


def _changed(engine: Any, rows: Rows) -> dict[str, Any]:
    """Milliseconds until every number is exact again, after one edge came and after it went."""
    import numpy as np

    dice = np.random.default_rng(3)
    took: dict[str, list[float]] = {"identity": [], "role": []}
    for _ in range(60):
        head = int(dice.integers(rows.identities + rows.roles, len(rows.classes)))
        for kind, tail in (
            ("identity", int(dice.integers(0, rows.identities))),
            ("role", rows.identities + int(dice.integers(0, rows.roles))),
        ):
            for removed, added in (([], [(tail, head, False)]), ([(tail, head, False)], [])):
                begun = time.perf_counter()
                engine.change(removed, added)
                took[kind].append((time.perf_counter() - begun) * 1000)
    return {"changes": took, "recounted": engine.recounted}


def _peer(name: str, rows: Rows, starts: list[int]) -> dict[str, Any]:
    from bench.peers import graphs

    graphs()
    begun = time.perf_counter()
    reached = {"rustworkx": _rustworkx, "igraph": _igraph, "networkx": _networkx}[name](rows)
    built = time.perf_counter() - begun
    return {"built": built, **_searched(reached, starts)}


def _rustworkx(rows: Rows) -> Callable[[int], int]:
    import rustworkx  # type: ignore[import-not-found,unused-ignore]

    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(len(rows.classes)))
    graph.add_edges_from_no_data(list(zip(rows.tails.tolist(), rows.heads.tolist(), strict=True)))
    return lambda start: len(rustworkx.descendants(graph, start))


def _igraph(rows: Rows) -> Callable[[int], int]:
    import igraph  # type: ignore[import-not-found,unused-ignore]
    import numpy as np

    pairs = np.column_stack([rows.tails, rows.heads])
    graph = igraph.Graph(n=len(rows.classes), edges=pairs, directed=True)
    return lambda start: len(graph.subcomponent(start, mode="out")) - 1


def _networkx(rows: Rows) -> Callable[[int], int]:
    import networkx  # type: ignore[import-not-found,import-untyped,unused-ignore]

    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(rows.classes)))
    graph.add_edges_from(zip(rows.tails.tolist(), rows.heads.tolist(), strict=True))
    return lambda start: len(networkx.descendants(graph, start))


def _searched(reached: Callable[[int], int], starts: list[int]) -> dict[str, Any]:
    """Milliseconds of a search from each start, as many as there is time for, and how much each reached."""
    took: list[float] = []
    found: list[int] = []
    ends = time.perf_counter() + _MOST_SECONDS
    for start in starts:
        begun = time.perf_counter()
        found.append(reached(start))
        took.append((time.perf_counter() - begun) * 1000)
        if time.perf_counter() > ends:
            break
    return {"median_ms": statistics.median(took), "mean_ms": statistics.fmean(took), "reached": found}


def _peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])), sys.stdout)  # type: ignore[arg-type]
