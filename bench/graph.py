"""AREA=graph: blast radii of a whole estate and of one identity, changes, the evaluation of AWS policies."""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.graph_shapes import Shape
from bench.race import Row, percentile, scaled

_SMALL, _LARGE = scaled(100_000, 2_000), scaled(1_000_000, 4_000)
_SEARCHES = scaled(400, 20)
_EVERYTHING_SECONDS, _MEMORY_MIB, _ONE_MS = 6.0, 1536.0, 1.0
_SECONDS = 180
_SHAPES: tuple[Shape, ...] = ("tiered", "loopy")


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area."""
    for nodes in (_SMALL, _LARGE):
        for shape in _SHAPES:
            yield from _estate(shape, nodes, tell)
    yield from _patterns(tell)
    yield from _aws(tell)


def _estate(shape: Shape, nodes: int, tell: Callable[[str], None]) -> Iterator[Row]:
    tell(f"graph: {shape}, {nodes:,} nodes")
    ours = _child(shape, nodes, "remit")
    what = f"{nodes:,} nodes, {ours['edges']:,} edges, {shape}"
    if nodes == _LARGE:
        every = f"{what}: blast radius of all {ours['identities']:,} identities, exact"
        yield _floor(every, ours["everything"], "s", _EVERYTHING_SECONDS)
        yield _floor(f"{what}: memory at its peak, of the whole process", ours["rss_counting"], "MiB", _MEMORY_MIB)
    if nodes == _LARGE and shape == "tiered":
        yield _floor(f"{what}: one identity, median", ours["median_ms"], "ms", _ONE_MS)
    yield from _changes(what, ours)
    for peer in ("rustworkx", "igraph", "networkx"):
        if peer == "networkx" and nodes != _SMALL:
            continue
        tell(f"graph: {shape}, {nodes:,} nodes: {peer}")
        yield from _against(what, ours, peer, shape, nodes)


def _changes(what: str, ours: dict[str, Any]) -> Iterator[Row]:
    """One edge comes or goes, and every number is exact again: against counting everything."""
    for kind, took in ours["changes"].items():
        took.sort()
        for share in (0.5, 0.95):
            yield Row(
                name=f"{what}: an edge of a random {kind} changed, p{share * 100:.0f}",
                ours=percentile(took, share), unit="ms", against="counting everything",
                theirs=ours["everything"] * 1000, better="lower", bar=1.0,
            )  # fmt: skip


def _against(what: str, ours: dict[str, Any], peer: str, shape: Shape, nodes: int) -> Iterator[Row]:
    try:
        theirs = _child(shape, nodes, peer)
    except RuntimeError as why:
        yield Row(
            name=f"{what}: one identity, median", ours=ours["median_ms"], unit="ms", against=peer, theirs=None,
            better="lower", bar=1.0, missing=str(why),
        )  # fmt: skip
        return
    searched = len(theirs["reached"])
    assert ours["reached"][:searched] == theirs["reached"][: len(ours["reached"])], f"{peer} reaches something else"
    yield Row(
        name=f"{what}: one identity, median", ours=ours["median_ms"], unit="ms", against=peer,
        theirs=theirs["median_ms"], better="lower", bar=1.0,
    )  # fmt: skip
    yield Row(
        name=f"{what}: all identities", ours=ours["everything"], unit="s",
        against=f"{peer}: {searched} of {ours['identities']:,} searched, times",
        theirs=theirs["mean_ms"] * ours["identities"] / 1000, better="lower", bar=1.0,
    )  # fmt: skip
    if nodes != _LARGE:
        return  # what a small graph needs is what the compiler and the interpreter need
    yield Row(
        name=f"{what}: memory at its peak, of the whole process", ours=ours["rss_counting"], unit="MiB", against=peer,
        theirs=theirs["rss"], better="lower", bar=1.0,
    )  # fmt: skip


def _floor(name: str, ours: float, unit: str, bar: float) -> Row:
    return Row(name=name, ours=ours, unit=unit, against="floor", theirs=bar, better="lower", bar=1.0)


@functools.cache
def _child(shape: Shape, nodes: int, engine: str) -> dict[str, Any]:
    """What `bench.graph_child` measures, in a process of its own. Raises `RuntimeError` when it fails."""
    command = [sys.executable, "-m", "bench.graph_child", shape, str(nodes), engine, str(_SEARCHES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1][:200])
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _patterns(tell: Callable[[str], None]) -> Iterator[Row]:
    """Patterns of actions expanded, each for the first time; both find the same actions."""
    tell("graph: patterns of actions")
    from remit.inventory.connectors.aws.actions import Actions, service_reference

    name = "patterns of AWS actions expanded, each for the first time"
    known = service_reference()
    if known is None:
        yield Row(
            name=name, ours=0, unit="patterns/s", against="policy_sentry", theirs=None, better="higher", bar=1.0,
            missing="the extra `aws` is not installed",
        )  # fmt: skip
        return
    from policy_sentry.analysis.expand import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        determine_actions_to_expand,
    )

    services = sorted({each.partition(":")[0] for each in known.names})
    verbs = ("Get*", "List*", "Describe*", "*Tag*", "Create*", "Put*Policy", "*")
    patterns = [f"{service}:{verb}" for service in services for verb in verbs][: scaled(2_000, 50)]
    levels = {each: known.level_of(each) or "Write" for each in known.names}
    rates: list[float] = []
    for _ in range(3):
        fresh = Actions(levels)
        begun = time.perf_counter()
        ours = [fresh.expand(each) for each in patterns]
        rates.append(len(patterns) / (time.perf_counter() - begun))
    sample = patterns[:: scaled(10, 5)]
    determine_actions_to_expand(["s3:Get*"])
    begun = time.perf_counter()
    theirs = [set(map(str.lower, determine_actions_to_expand([each]))) for each in sample]
    rate = len(sample) / (time.perf_counter() - begun)
    found = dict(zip(patterns, ours, strict=True))
    same = sum(
        {each.lower() for each in fresh.listed(found[pattern])} == {each for each in listed if "*" not in each}
        for pattern, listed in zip(sample, theirs, strict=True)
    )
    yield Row(
        name=f"{name} ({same} of {len(sample)} compared are alike)", ours=statistics.median(rates), unit="patterns/s",
        against="policy_sentry", theirs=rate, better="higher", bar=1.0,
    )  # fmt: skip


def _aws(tell: Callable[[str], None]) -> Iterator[Row]:
    """Policies of an account become edges, and every principal's blast radius is counted."""
    from bench.inventory_aws import FEWER, PRINCIPALS

    tell(f"graph: evaluating {PRINCIPALS:,} AWS principals")
    few, _ = _evaluated(FEWER)
    many, edges = _evaluated(PRINCIPALS)
    yield Row(
        name=f"{PRINCIPALS:,} AWS principals evaluated: policies, graph ({edges:,} edges), all blast radii",
        ours=many, unit="s", against=f"linear growth from {FEWER:,}", theirs=few * PRINCIPALS / FEWER, better="lower",
        bar=0.5,
    )  # fmt: skip


def _evaluated(principals: int) -> tuple[float, int]:
    """Seconds from the account's description to all radii, and how many edges there are."""
    from bench.inventory_aws import facts_of
    from remit.inventory.graph import graph_from_facts
    from remit.inventory.graph.engine import count_everything

    begun = time.perf_counter()
    graph = graph_from_facts(facts_of(principals))
    count_everything(graph)
    return time.perf_counter() - begun, len(graph.edges)
