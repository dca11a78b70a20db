"""Decisions in process: our whole decision point against bare engines, and against itself as policies grow.

CPU time of all threads, so that neighbours disturb little; the two rows that tell of waiting are wall time. Before each
contest both sides answer a sample of questions, permitted and not, and must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import peers, rego
from bench.decisions import Asking, Contest
from bench.race import Row, cpu_microseconds_each, percentile, race, scaled, waits

_GROWTH = 2.5
_MOST = 10_000
_SIZES = ((20, 10.0), (1000, 100.0), (scaled(_MOST, 1200), 100.0))


def in_process(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement in process."""
    costs: dict[int, float] = {}
    for policies, bar in _SIZES:
        tell(f"decisions over {policies} policies")
        contest = Contest.of(policies)
        contest.check()
        row = _against_cedarpy(contest, policies, bar)
        costs[policies] = row.ours
        yield row
        if policies == 1000:
            yield from _waits(contest, policies)
    least, most = min(costs), max(costs)
    yield Row(
        name=f"decision in process, {most:,} policies", ours=costs[most], unit="µs of CPU",
        against=f"{_GROWTH:g} × itself at {least} policies", theirs=_GROWTH * costs[least], better="lower", bar=1.0,
    )  # fmt: skip
    for peer in ("OPA", "regorus"):
        tell(peer)
        yield _against_rego(peer)


def _against_cedarpy(contest: Contest, policies: int, bar: float) -> Row:
    """One decision: ours with everything around it, cedarpy's with handles and structured names."""
    theirs_count = scaled(max(10, 40_000 // policies), 3)
    mine, theirs = race(_ours(contest), lambda: cpu_microseconds_each(contest.theirs, theirs_count))
    return Row(
        name=f"decision in process, {policies:,} policies", ours=mine, unit="µs of CPU",
        against="cedarpy with handles", theirs=theirs, better="lower", bar=bar,
    )  # fmt: skip


def _waits(contest: Contest, policies: int) -> Iterator[Row]:
    """p50 and p99 of single calls."""
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        mine, theirs = race(
            lambda share=share: _percentile(contest.ours, scaled(20_000, 200), share, contest.beat),  # type: ignore[misc]
            lambda share=share: _percentile(contest.theirs, scaled(200, 5), share, contest.beat),  # type: ignore[misc]
        )
        yield Row(
            name=f"decision in process, {policies:,} policies, {name}", ours=mine, unit="µs",
            against="cedarpy with handles", theirs=theirs, better="lower", bar=50.0,
        )  # fmt: skip


def _percentile(work: Callable[[], object], count: int, share: float, before: Callable[[], None]) -> float:
    before()
    return percentile(waits(work, count), share)


def _against_rego(peer: str) -> Row:
    """A Rego engine in process over the same rules as data."""
    policies = scaled(1000, 100)
    contest = Contest.of(policies)
    theirs: Callable[[], float] | None = None
    missing = ""
    try:
        ready = rego.engine(peer, policies)
    except peers.NotThere as why:
        missing = str(why)
    else:
        contest.check(lambda asking: ready(asking)())
        asked = ready(Asking())
        theirs = lambda: cpu_microseconds_each(asked, scaled(2_000, 20))  # noqa: E731
    mine, found = race(_ours(contest), theirs)
    return Row(
        name=f"decision in process, {policies:,} policies", ours=mine, unit="µs of CPU", against=f"{peer} in process",
        theirs=found, better="lower", bar=1.0, missing=missing,
    )  # fmt: skip


def _ours(contest: Contest) -> Callable[[], float]:
    def ours() -> float:
        contest.beat()
        return cpu_microseconds_each(contest.ours, scaled(20_000, 200))

    return ours
