"""Tiers of identities: what people said, what counts, what reach and kind demand, and a finding where they differ."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from remit.governance import words
from remit.governance.reach import Reach, facts_of, measure
from remit.governance.signatures import Approver
from remit.governance.standing.model import Level
from remit.governance.tiers import Tier, assess, requirements_of
from remit.governance.words import Move, Word
from remit.inventory import registry
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.traits import LABELS
from remit.inventory.model import FindingFact, Place, Severity
from remit.inventory.records import CONCLUDED, IdentityRecord
from remit.kernel.clock import rfc3339
from remit.kernel.errors import RemitError
from remit.wiring.blast_watch import budgets_of
from remit.wiring.paths import WAITING, Queue
from remit.wiring.words_journal import source_tier

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.tiers")
_SOURCE: Final = (CONCLUDED, "remit", "tiers")
TOO_LAX: Final = "tier.too-lax"
UNSAID: Final = "tier.not-said"
MOST_FINDINGS: Final = 1_000
"""Of more, those of the strictest tiers have one."""
_WHOLE: Final = 10
_UNSEEN: Final = -1
_PATIENCE_SECONDS: Final = 1
_SHARE: Final = 4
"""How many times as long as a look took there is none."""
_STRICT_SECONDS: Final = 1
_LAX_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a look at the whole graph showed; for the words and the graph of then."""

    graph: AccessGraph
    revision: int
    reach: Reach


def _nothing() -> _Seen:
    """Before the first look."""
    none = frozenset[str]()
    reach = Reach(privileged=none, ends=none, tiers=dict.fromkeys((0, 1, 2), none), out_of_tests=none)
    return _Seen(graph=AccessGraph.build((), ()), revision=_UNSEEN, reach=reach)


class TierDesk:
    """Answers for tiers, and what people say of identities."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._seen: _Seen | None = None
        self._judged: _Seen | None = None
        """For which findings were settled."""
        self._one = asyncio.Lock()
        self._looks = 0
        self._said: tuple[tuple[str, str, str], ...] | None = None
        self._wake = asyncio.Event()
        self._pending: asyncio.Task[_Seen] | None = None
        self._queue = Queue(1, WAITING)

    # -- looking after findings

    async def run(self) -> None:
        """Look again and again until cancelled."""
        try:
            await self._run()
        finally:
            if self._pending is not None:
                self._pending.cancel()

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            self._wake.clear()
            try:
                await self.look()
            except RemitError as error:
                _log.warning("tiers are not compared with reach: %s", error)
            took = time.monotonic() - began
            await asyncio.sleep(_SHARE * took)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(1, self._control.settings.graph.review_seconds)):
                    await self._wake.wait()

    async def look(self) -> None:
        """Settle findings, where anything changed since the last look."""
        after = await self._measured()
        self._looks += 1
        # What is exposed may change while the graph does not: everything is read now and then all the same.
        if self._judged is after and self._looks % _WHOLE:
            return
        facts = await self._control.store.read(lambda unit: self._differing(unit, after))
        state = tuple((str(each.subject), each.rule, each.detail) for each in facts)
        if state == self._said or (self._said is None and not facts and not await self._had_findings()):
            self._said, self._judged = state, after
            return
        await self._control.store.write(lambda unit: _keep(unit, facts))
        self._said, self._judged = state, after

    async def _had_findings(self) -> bool:
        return bool(await self._control.store.read(lambda unit: unit.inventory.source(*_SOURCE) is not None))

    def _differing(self, unit: Any, seen: _Seen) -> list[FindingFact]:
        found = heapq.nsmallest(
            MOST_FINDINGS, self._lax(unit, seen), key=lambda one: (one[2].number, one[1] - one[2].number, one[0].id)
        )
        return [self._finding(record, counts, demanded) for record, counts, demanded in found]

    def _lax(self, unit: Any, seen: _Seen) -> Iterator[tuple[IdentityRecord, int, Tier]]:
        for record, counts, demanded in self._all(unit, seen):
            if demanded.number < counts:
                yield record, counts, demanded

    def _finding(self, record: IdentityRecord, counts: int, demanded: Tier) -> FindingFact:
        word = self._control.standing.words.tier(record.id)
        told = (
            f"{word.by.removeprefix('person:')} said tier {counts}" if word else f"nobody said a tier: {counts} counts"
        )
        return FindingFact(
            rule=TOO_LAX if word else UNSAID,
            severity=Severity.HIGH if word and demanded.number == 0 else Severity.MEDIUM,
            title=f"{record.title} is protected less than its reach demands",
            detail=f"{told}; by reach and kind it is of tier {demanded.number}: {'; '.join(demanded.why)}"[:1000],
            next_step=f"`remit tier set {record.id} {demanded.number}`, or take away what it reaches: "
            f"`remit blast {record.id}`",
            place=Place(system="remit", path=record.name),
            subject=record.name,  # type: ignore[arg-type]
        )

    # -- what is asked

    async def explain(self, given: str, *, hurry: bool = False) -> dict[str, Any]:
        """The tier that counts, who says so, what it asks, and what reach and kind demand with the reasons.

        In a `hurry` a graph that is large and was just changed is not waited for: the last look at it counts.
        """
        identity = await self._control.resolve(given)
        seen = await (self._soon() if hurry else self._measured())
        return await self._control.store.read(lambda unit: self._explained(unit, identity, seen))

    def _explained(self, unit: Any, identity: str, seen: _Seen) -> dict[str, Any]:
        control, standing = self._control, self._control.standing
        record, _ = words.look(unit, identity, None, standing, ended=True)
        record = standing.judge(record)
        counts, word, source = standing.counted(record), standing.words.tier(identity), source_tier(record)
        demanded = assess(
            self._facts(record, seen, unit.words.exposed(identity), _administer(unit, identity), named=True)
        )
        waiting = words.waiting(unit, identity, standing, control.keys)
        return {
            "identity": identity, "title": record.title, "counts": counts,
            "said_by": "person" if word else "source" if source is not None else "nobody",
            "person": _word_json(word), "source": source,
            "proposed": demanded.number, "why": list(demanded.why), "too_lax": demanded.number < counts,
            "waiting": None if waiting is None else {
                "tier": waiting.tier, "by": waiting.by, "at": rfc3339(waiting.at), "reason": waiting.reason,
                "until": rfc3339(waiting.at + words.WAITS),
            },
            "asks": asks(control, counts, standing.words.number(identity)),
            "measured": seen.revision != _UNSEEN,
            "words": {name: _word_json(each) for name, each in standing.words.words(identity).items()},
        }  # fmt: skip

    async def listed(self, *, tier: int | None = None, proposed: bool = False, limit: int = 100) -> dict[str, Any]:
        """Identities with the tier that counts and the one that is demanded, the strictest first.

        `Unavailable` (`inventory.paths.busy`) where too many ask at once.
        `tier` takes those of which it counts (with `proposed`, of which it is demanded); `proposed` those of which the
        two differ.
        """
        async with self._queue.turn():  # each looks at every identity
            return await self._listed(await self._measured(), tier, proposed=proposed, limit=limit)

    async def _listed(self, seen: _Seen, tier: int | None, *, proposed: bool, limit: int) -> dict[str, Any]:
        def read(unit: Any) -> dict[str, Any]:
            total = 0

            def wanted() -> Iterator[tuple[IdentityRecord, int, Tier]]:
                nonlocal total
                for record, counts, demanded in self._all(unit, seen):
                    if proposed and counts == demanded.number:
                        continue
                    if tier is not None and tier != (demanded.number if proposed else counts):
                        continue
                    total += 1
                    yield record, counts, demanded

            found = heapq.nsmallest(
                limit, wanted(),
                key=lambda one: (one[2].number if proposed else one[1], one[0].title, one[0].id),
            )  # fmt: skip
            return {"rows": [self._row(*each) for each in found], "total": total}

        return await self._control.store.read(read)

    def _row(self, record: IdentityRecord, counts: int, demanded: Tier) -> dict[str, Any]:
        word = self._control.standing.words.tier(record.id)
        by = word.by if word else "source" if source_tier(record) is not None else "nobody"
        return {
            "id": record.id, "title": record.title, "kind": record.kind.value, "system": record.system,
            "environment": record.environment, "owner": record.owner, "counts": counts, "said_by": by,
            "said_at": rfc3339(word.at) if word else None, "proposed": demanded.number, "why": list(demanded.why),
        }  # fmt: skip

    # -- what is said

    async def set(self, given: str, tier: int | None, *, by: Approver, reason: str) -> dict[str, Any]:
        """Say a tier, or take it back (`None`); see `words.set_tier`."""
        control = self._control
        identity = await control.resolve(given)
        move: Move = await control.store.write(
            lambda unit: words.set_tier(
                unit, identity, tier, by=by, reason=reason, judgement=control.standing, attester=control.keys
            )
        )
        await control.changed(identity)
        self._wake.set()
        return {**_move_json(move), "persons": control.standing.person_count, **await self.explain(identity)}

    async def preview(self, given: str, tier: int | None) -> dict[str, Any]:
        """What saying a tier would do; changes nothing."""
        control = self._control
        identity = await control.resolve(given)
        _, move = await control.store.read(lambda unit: words.look(unit, identity, tier, control.standing))
        said = await self.explain(identity)
        return {
            **_move_json(move), **said, "dry_run": True, "four_eyes": move.lowers and control.standing.person_count > 1,
            "would_ask": asks(control, move.now, tier), "too_lax": said["proposed"] < move.now,
        }  # fmt: skip

    async def describe(self, given: str, said: Mapping[str, str], *, by: Approver, reason: str) -> dict[str, Any]:
        """Say what an identity is for; see `words.describe`."""
        control = self._control
        identity = await control.resolve(given)
        await control.store.write(lambda unit: words.describe(unit, identity, said, by=by, reason=reason))
        await control.changed(identity)
        control.graphs.outdated()
        self._wake.set()
        return await self.explain(identity)

    # -- how

    async def _soon(self) -> _Seen:
        """As `_measured`, and where that takes long the last look; the measuring goes on."""
        if self._pending is None or self._pending.done():
            self._pending = asyncio.create_task(self._measured(), name="remit-tier-reach")
        done, _ = await asyncio.wait({self._pending}, timeout=_PATIENCE_SECONDS)
        if done:
            return self._pending.result()
        return self._seen or _nothing()

    async def _measured(self) -> _Seen:
        """The graph as it is now, and who comes where in it."""
        control = self._control
        async with self._one:
            await control.graphs.settle()
            graph, revision = await control.graphs.now(), control.standing.words.revision
            if self._seen is None or self._seen.graph is not graph or self._seen.revision != revision:
                privileged, said = await control.store.read(self._ends)
                reach = await asyncio.to_thread(measure, graph, privileged, said)
                self._seen = _Seen(graph=graph, revision=revision, reach=reach)
            return self._seen

    def _ends(self, unit: Any) -> tuple[list[str], dict[str, int]]:
        privileged, said = [], {}
        for record in unit.inventory.all_identities():
            if record.present and record.privileged:
                privileged.append(record.id)
            tier = self._control.standing.words.number(record.id)
            if tier is not None:
                said[record.id] = tier
        return privileged, said

    def _all(self, unit: Any, seen: _Seen) -> Iterator[tuple[IdentityRecord, int, Tier]]:
        """Every identity that is there, with the tier that counts and the one that is demanded."""
        exposed, administer = unit.words.exposed(), _administer(unit)
        for record in map(self._control.standing.judge, unit.inventory.all_identities()):
            if record.present:
                demanded = assess(self._facts(record, seen, exposed, administer))
                yield record, self._control.standing.counted(record), demanded

    def _facts(
        self, record: IdentityRecord, seen: _Seen, exposed: Any, administer: frozenset[str], *, named: bool = False
    ) -> Any:
        radius = self._control.graphs.radius(record.id)
        by_sensitivity = radius.by_sensitivity if radius else dict.fromkeys(LABELS, 0)
        becomes = ""
        if named and not record.privileged and record.id in seen.reach.privileged:
            becomes = _whom(seen.graph, record.id, seen.reach)
        return facts_of(
            record, seen.reach, by_sensitivity, confirmed=self._control.standing.words.words(record.id),
            exposed=record.id in exposed, administers=record.id in administer, becomes=becomes,
        )  # fmt: skip


def asks(control: ControlPlane, counts: int, word: int | None) -> dict[str, Any]:
    """What is asked of an identity by its tier, besides what policies say of `principal.tier`.

    Decisions go by the tier that `counts`; the rest by a person's `word`, else by tier 1 (budget, deadlines), tier 2
    (dormancy) and its plan (rotation).
    """
    rotation, use = control.settings.rotation, control.settings.use
    rotated = (rotation.tier0_days, rotation.tier1_days, rotation.tier2_days, rotation.tier3_days)
    dormant = (use.tier0_days, use.tier1_days, use.tier2_days, use.tier3_days)
    return {
        "facts_fresh_seconds": _STRICT_SECONDS if counts <= 1 else _LAX_SECONDS,
        "approved_beside_owner": counts == 0,
        "rotation_days": None if word is None else max(1, rotated[word]),
        "dormant_days": max(1, dormant[2 if word is None else word]),
        "leaver_grace_seconds": int(requirements_of(word).leaver_grace.total_seconds()),
        "budget": budgets_of(control).of(word) or None,
    }


def _administer(unit: Any, identity: str = "") -> frozenset[str]:
    """Who was seen to hold an administrator's rights that stand; of one, whether it is among them."""
    spans = (span for span in unit.standing.spans(identity=identity) if span.level is Level.ADMINISTER)
    return frozenset(span.identity for span in spans if span.until is None)


def _whom(graph: AccessGraph, identity: str, reach: Reach) -> str:
    """The title of somebody privileged whom it can become, the nearest that is found."""
    from remit.inventory.graph.blast import blast

    if identity not in graph:
        return ""
    return next((node.title for node in blast(graph, identity).becomes if node.name in reach.ends), "")


def _word_json(word: Word | None) -> dict[str, Any] | None:
    return None if word is None else {
        "value": word.value, "by": word.by, "at": rfc3339(word.at), "reason": word.reason,
    }  # fmt: skip


def _move_json(move: Move) -> dict[str, Any]:
    return {"was": move.was, "now": move.now, "lowers": move.lowers, "waits": move.waits is not None}


def _keep(unit: Any, facts: Sequence[FindingFact]) -> None:
    """As a source of its own: what its newest run does not say any more is gone."""
    run = registry.begin_run(unit, *_SOURCE)
    registry.reconcile(unit, run, facts)
    registry.finish_run(unit, run, {"findings": len(facts)}, ())
