"""How much of what there is do we see? Systems that are named and that no connector reads, and what each could not see.

A system's instance is *covered* when a connector that is its system of record has read it, under whatever name: an
identity that such a connector showed brings all names by which others call it. Everything that only others name is
hearsay: we know that it exists, and nothing of what it is. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from remit.inventory.records import SourceRecord
from remit.kernel.ids import parse_name

STALE: Final = timedelta(days=7)
"""A source that was not read for so long says nothing of today."""
_OURS: Final = frozenset({"credential", "remit", "spiffe", "host", "file", "compose", "unknown"})
"""Systems of names that are places or fingerprints: nothing is to be connected there."""
_SHOWN: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One name of an identity or resource, and which connectors have shown that identity."""

    name: str
    identity: str
    seen_by: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """An instance of a system that something names."""

    system: str
    instance: str
    names: int
    """How many names of identities and resources there are in it."""
    example: str
    covered: bool
    connectors: tuple[str, ...]
    """Those that would read it; none: there is no connector for such a system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCoverage:
    """What one source could not show."""

    id: str
    connector: str
    scope: str
    read: datetime | None
    stale: bool
    identities: int
    skipped: int
    reasons: Mapping[str, int]
    """Of those kept, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindSpot:
    """What a connector in use cannot see, and why."""

    connector: str
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The answer. Shares are percent, rounded down: what is not whole never reads as whole."""

    systems: int
    systems_covered: int
    identities: int
    identities_of_record: int
    """Shown by a connector that is the system of record of one of their names."""
    share_of_systems: int
    share_of_identities: int
    uncovered: tuple[System, ...]
    """Most named first."""
    covered: tuple[System, ...]
    sources: tuple[SourceCoverage, ...]
    blind: tuple[BlindSpot, ...]
    unused: tuple[str, ...]
    """Connectors that never read anything."""
    unknown_in_logs: tuple[str, ...] = field(default_factory=tuple)
    """Names that logs show in use and that nothing else knows."""


class Described(Protocol):
    """What coverage needs of a connector's manifest."""

    @property
    def id(self) -> str: ...
    @property
    def record_of(self) -> tuple[str, ...]: ...


def measure(
    names: Iterable[Named],
    resources: Iterable[str],
    sources: Sequence[SourceRecord],
    record_of: Mapping[str, Sequence[str]],
    blind: Mapping[str, Sequence[tuple[str, str]]],
    now: datetime,
    *,
    unknown_in_logs: Sequence[str] = (),
) -> Coverage:
    """Measure. `record_of` and `blind` are by connector, from the manifests; memory is one entry for each instance."""
    reads: dict[str, tuple[str, ...]] = {}
    for connector, systems in record_of.items():
        for system in systems:
            reads[system] = (*reads.get(system, ()), connector)
    counted: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    covered = {
        (system, source.instance)
        for source in sources
        if source.finished is not None
        for system in record_of.get(source.connector, ())
    }
    everybody: set[str] = set()
    of_record: set[str] = set()
    for named in names:
        everybody.add(named.identity)
        parts = parse_name(named.name)
        if parts is None or parts[0] in _OURS or not parts[1]:
            continue
        place = (parts[0], parts[1])
        counted[place] += 1
        examples.setdefault(place, named.name)
        if named.seen_by & set(reads.get(parts[0], ())):
            covered.add(place)
            of_record.add(named.identity)
    for name in resources:
        parts = parse_name(name)
        if parts is not None and parts[0] not in _OURS and parts[1]:
            counted[parts[0], parts[1]] += 1
            examples.setdefault((parts[0], parts[1]), name)
    found = [
        System(
            system=system,
            instance=instance,
            names=count,
            example=examples[system, instance],
            covered=(system, instance) in covered,
            connectors=reads.get(system, ()),
        )
        for (system, instance), count in counted.most_common()
    ]
    in_use = {source.connector for source in sources}
    seen = [each for each in found if each.covered]
    return Coverage(
        systems=len(found),
        systems_covered=len(seen),
        identities=len(everybody),
        identities_of_record=len(of_record),
        share_of_systems=_share(len(seen), len(found)),
        share_of_identities=_share(len(of_record), len(everybody)),
        uncovered=tuple([each for each in found if not each.covered][:_SHOWN]),
        covered=tuple(seen[:_SHOWN]),
        sources=tuple(_source(each, now) for each in sources),
        blind=tuple(
            BlindSpot(connector=connector, what=what, why=why)
            for connector in sorted(in_use)
            for what, why in blind.get(connector, ())
        ),
        unused=tuple(sorted(set(record_of) - in_use)),
        unknown_in_logs=tuple(unknown_in_logs),
    )


def _source(record: SourceRecord, now: datetime) -> SourceCoverage:
    reasons = Counter(str(each.get("reason", "")) for each in record.skipped)
    return SourceCoverage(
        id=record.id,
        connector=record.connector,
        scope=record.scope,
        read=record.finished,
        stale=record.finished is None or now - record.finished > STALE,
        identities=int(record.counts.get("identity", 0)),
        skipped=int(record.counts.get("skipped", 0)),
        reasons=dict(reasons.most_common()),
    )


def _share(part: int, whole: int) -> int:
    return 100 * part // whole if whole else 100
