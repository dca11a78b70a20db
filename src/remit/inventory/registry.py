"""The registry: facts of many sources become one record for each identity, credential and resource.

Joining: an identity fact whose name or alias is known updates that identity; one that connects two known
identities merges the younger into the older. A credential belongs to exactly one identity: the one a source names,
else an identity of kind `unbound`, which is merged as soon as some source names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from remit.inventory.batch import Batch, Run, write_place
from remit.inventory.marks import RESUMED_WITHIN
from remit.inventory.model import (
    CredentialFact,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    OwnerFact,
    Place,
    ResourceFact,
    Severity,
    Skipped,
)
from remit.inventory.ports import InventoryUnit
from remit.inventory.records import (
    Counts,
    SightingRecord,
    SourceRecord,
)
from remit.inventory.settle import settled, settled_credential
from remit.inventory.use.model import UseFact
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict

__all__ = ["Run", "begin_run", "finish_run", "keep_marks", "reconcile", "write_place"]

_SKIPPED_KEPT = 500
_LONGEST_NAME = 1000


def begin_run(
    unit: InventoryUnit,
    connector: str,
    instance: str,
    scope: str,
    *,
    record_of: Sequence[str] = (),
    resumable: bool = False,
    asked: str = "",
) -> Run:
    """Start a run; an earlier run of the same source that never finished is resumed or superseded.

    It is resumed when the connector can (`resumable`), was asked the same (`asked`, a digest), had remembered
    something, and began less than `marks.RESUMED_WITHIN` ago. `record_of` names the systems for which the source's
    aliases count (`ConnectorManifest.record_of`).
    """
    known = unit.inventory.source(connector, instance, scope)
    whole, part = unit.inventory.marks(known.id) if known else ({}, {})
    resumed = (
        known is not None
        and resumable
        and known.finished is None
        and bool(part)
        and known.asked == asked
        and timedelta() <= unit.now - known.started < RESUMED_WITHIN
    )
    run = Run(
        source=known.id if known else unit.new_id("src"),
        run=known.run if known and resumed else unit.new_id("run"),
        connector=connector,
        instance=instance,
        scope=scope,
        started=known.started if known and resumed else unit.now,
        record_of=frozenset(record_of),
        attempt=unit.new_id("run"),
        asked=asked,
        resumed=resumed,
        recalled=part if resumed else whole,
        carried=known.skipped if known and resumed else (),
    )
    unit.inventory.put_source(_source(run, None, {}, run.carried))
    if not resumed:
        unit.inventory.put_marks(run.source, whole, {})
    return run


def keep_marks(unit: InventoryUnit, run: Run, marks: Mapping[str, str], skipped: Sequence[Skipped] = ()) -> None:
    """Remember for the next run: belongs into the unit of work that stores the facts for which the marks stand.

    `skipped` is all that this run could not see until now. Raises `Conflict` (`inventory.run.superseded`).
    """
    _require_current(unit, run)
    whole, part = unit.inventory.marks(run.source)
    if marks != part:
        unit.inventory.put_source(_source(run, None, {}, _bounded(run, skipped)))
        unit.inventory.put_marks(run.source, whole, marks)


def reconcile(unit: InventoryUnit, run: Run, facts: Sequence[Fact]) -> Counts:
    """Fold one batch of facts (some hundreds) into the registry.

    Facts whose names are too long to be kept are `refused`. Raises `Conflict` (`inventory.run.superseded`) when a
    later run of the same source has begun: two would retire each other's facts.
    """
    _require_current(unit, run)
    facts, refused = _sound(facts)
    batch = Batch(unit, run)
    batch.load(facts)
    for fact in facts:
        match fact:
            case IdentityFact():
                batch.identity(fact)
            case CredentialFact():
                batch.credential(fact)
            case ResourceFact():
                batch.resource(fact)
            case UseFact():
                unit.use.absorb(fact)
            case _:
                pass
    return replace(batch.save(facts), refused=refused)


def finish_run(unit: InventoryUnit, run: Run, counts: dict[str, int], skipped: Sequence[Skipped]) -> dict[str, int]:
    """Retire what the source no longer shows and write the run into the ledger; returns what went away, by kind.

    Raises `Conflict` (`inventory.run.superseded`) as `reconcile` does; then nothing is retired.
    """
    _require_current(unit, run)
    if run.elsewhere:
        unit.inventory.put_findings(run.source, run.run, unit.now, [(unit.new_id("fd"), _elsewhere(run))])
        retired: dict[str, int] = {}
    else:
        stale = unit.inventory.stale(run.source, run.run)
        retired = unit.inventory.retire(run.source, run.run)
        _settle_without(unit, stale)
    unit.inventory.put_source(_source(run, unit.now, counts, _bounded(run, skipped)))
    _, marks = unit.inventory.marks(run.source)
    unit.inventory.put_marks(run.source, marks, {})
    unit.record(
        "inventory.source.scanned",
        actor=f"connector:{run.connector}",
        subject=run.source,
        data={
            "connector": run.connector,
            "instance": run.instance,
            "scope": run.scope,
            "counts": dict(counts),
            "skipped": len(run.carried) + len(skipped),
            "retired": dict(retired),
        },
    )
    return retired


def _elsewhere(run: Run) -> FindingFact:
    """A server says itself which one it is: one that lies must not let vanish what the other showed."""
    return FindingFact(
        rule="inventory.source-elsewhere",
        severity=Severity.HIGH,
        title=f"a source of `{run.connector}` calls itself one that was read elsewhere",
        detail=f"it was read at `{run.elsewhere[:200]}` before; nothing that was known from there was retired",
        next_step="if it moved, read it once more; if it is another one, it lies: do not read it again",
        place=Place(system="remit", path=f"{run.connector} {run.instance} {run.scope}"[:400]),
    )


def _require_current(unit: InventoryUnit, run: Run) -> None:
    known = unit.inventory.source(run.connector, run.instance, run.scope)
    if known is None or known.run != run.run or known.attempt != run.attempt:
        raise Conflict(
            "inventory.run.superseded",
            f"another scan of `{run.scope[:200]}` began after this one",
            next_step="wait for it, then look at `remit sources`",
        )


def _bounded(run: Run, skipped: Sequence[Skipped]) -> tuple[Mapping[str, Json], ...]:
    own = tuple(
        {"what": item.what[:400], "reason": item.reason, "detail": item.detail[:200]}
        for item in skipped[:_SKIPPED_KEPT]
    )
    return (*run.carried, *own)[:_SKIPPED_KEPT]


def _settle_without(unit: InventoryUnit, stale: Sequence[SightingRecord]) -> None:
    """Take back what only sightings said that a whole run did not show again."""
    rows = unit.inventory
    for start in range(0, len(stale), 1000):
        part = stale[start : start + 1000]
        nodes = {each.node for each in part}
        ids = rows.resolve(each.node for each in part if each.kind == "identity")
        names = {name: each for each, names in rows.names_of_all(set(ids.values())).items() for name in names}
        left = rows.said("identity", names) + rows.said("credential", nodes)
        records = rows.identities(set(ids.values()))
        changed = []
        for each, record in records.items():
            after = [said for said in left if said.kind == "identity" and names.get(said.node) == each]
            before = [said for said in part if said.kind == "identity" and ids.get(said.node) == each]
            new = settled(record, [*before, *after], after)
            changed += [new] if new != record else []
        rows.put_identities(changed)
        credentials = []
        prints = {fingerprint_of(each.node): each.node for each in part if each.kind == "credential"}
        for fingerprint, credential in rows.credentials(prints).items():
            node = prints[fingerprint]
            remaining = [said for said in left if said.kind == "credential" and said.node == node]
            gone = [said for said in part if said.kind == "credential" and said.node == node]
            again = settled_credential(credential, [*gone, *remaining], remaining)
            credentials += [again] if again != credential else []
        rows.put_credentials(credentials)


def fingerprint_of(node: str) -> str:
    """The fingerprint in the name of a credential's node."""
    _, _, _, algorithm, _, digest = node.split(":")
    return f"{algorithm}:{digest}"


def _sound(facts: Sequence[Fact]) -> tuple[Sequence[Fact], tuple[Skipped, ...]]:
    """Leave out facts with a name that no row can hold; two long names must never become one by being cut."""
    refused = [fact for fact in facts if any(len(each) > _LONGEST_NAME for each in _names(fact))]
    if not refused:
        return facts, ()
    detail = f"a name longer than {_LONGEST_NAME} characters"
    return [fact for fact in facts if fact not in refused], tuple(
        Skipped(what=next(iter(_names(fact)))[:400], reason="too-large", detail=detail) for fact in refused
    )


def _names(fact: Fact) -> tuple[str, ...]:
    match fact:
        case IdentityFact():
            return (fact.name, *fact.aliases)
        case CredentialFact():
            return (fact.identity or "",)
        case ResourceFact():
            return (fact.name,)
        case EdgeFact():
            return (fact.source, fact.target)
        case OwnerFact():
            return (fact.identity,)
        case FindingFact():
            return (fact.subject or "",)
        case Skipped() | UseFact():
            return ()
        case _:
            assert_never(fact)


def _source(
    run: Run, finished: datetime | None, counts: dict[str, int], skipped: tuple[Mapping[str, Json], ...]
) -> SourceRecord:
    return SourceRecord(
        id=run.source,
        connector=run.connector,
        instance=run.instance,
        scope=run.scope,
        run=run.run,
        started=run.started,
        finished=finished,
        counts=counts,
        skipped=skipped,
        record_of=tuple(sorted(run.record_of)),
        attempt=run.attempt,
        asked=run.asked,
    )
