"""Blast radii watched: a sample a day of whoever counts, and a finding where one is over the budget of its tier."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from remit.governance.blastradius.budget import Budgets, Excess, finding
from remit.governance.blastradius.trend import (
    ESTATE,
    KEPT,
    MOST_SUBJECTS,
    SAMPLED_TIERS,
    Sample,
    filled,
    moved,
    summed,
)
from remit.inventory import registry
from remit.inventory.graph.keeper import AsOf, Radius
from remit.inventory.model import FindingFact
from remit.inventory.records import CONCLUDED, IdentityRecord
from remit.kernel.errors import RemitError
from remit.wiring.blast import Asked

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.graph")
_SOURCE: Final = (CONCLUDED, "remit", "budgets")
MOST_FINDINGS: Final = 1_000
"""Of more, the worst have a finding; the last one says how many have none."""
_CUTS: Final = 10
"""For so many of the worst the cheapest cut is worked out; the others are told where to see it."""
_WHOLE: Final = 10
_State = tuple[tuple[str, int, int], ...]


class BlastWatch:
    """Looks at the numbers of all as they change."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._seen: tuple[AsOf, date] | None = None
        self._probe = ""
        self._looks = 0
        self._said: _State | None = None
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.look()
            except RemitError as error:
                _log.warning("blast radii are not watched: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), max(1, self._control.settings.graph.review_seconds))
            self._woken.clear()

    def discovered(self) -> None:
        """A reading ended: where nothing was measured yet, look now and not in half a minute."""
        if self._seen is None:
            self._woken.set()

    async def look(self) -> None:
        """Take samples and settle findings, where anything changed since the last look."""
        control = self._control
        await control.graphs.settle()
        today = control.clock.now().date()
        probe = control.graphs.radius(self._probe)
        self._looks += 1
        # A tier may change while the graph does not: everything is read now and then all the same.
        if probe is not None and (probe.as_of, today) == self._seen and self._looks % _WHOLE:
            return
        records = list(map(control.standing.words.alone, await control.store.read(_records)))
        measured = [(each, radius) for each in records if (radius := control.graphs.radius(each.id)) is not None]
        await self._sample(measured)
        await self._judge(measured)
        if measured:
            self._probe, self._seen = measured[0][0].id, (measured[0][1].as_of, today)

    async def _sample(self, measured: Sequence[tuple[IdentityRecord, Radius]]) -> None:
        def work(unit: Any) -> None:
            today = unit.now.date()
            taken = [(each.tier, _sample(each.id, radius, unit)) for each, radius in measured]
            chosen = heapq.nlargest(
                MOST_SUBJECTS, (one for tier, one in taken if tier in SAMPLED_TIERS), key=lambda one: one.score
            )
            estate = summed((one for _, one in taken), today, unit.now)
            before = unit.radii.of_day([ESTATE, *(one.subject for one in chosen)], today)
            fresh = [kept for one in (estate, *chosen) if (kept := moved(before.get(one.subject), one)) is not None]
            # An estate of nobody is not measured; one that lost everybody is.
            if fresh and (taken or unit.radii.trend(ESTATE, limit=1)):
                unit.radii.put(fresh)
                unit.radii.forget_before(today - KEPT)

        await self._control.store.write(work)

    async def _judge(self, measured: Sequence[tuple[IdentityRecord, Radius]]) -> None:
        budgets = budgets_of(self._control)
        over = [
            Excess(identity=each.id, name=each.name, title=each.title, tier=each.tier, score=radius.score,
                   budget=budgets.of(each.tier))
            for each, radius in measured
            if budgets.exceeded(each.tier, radius.score)
        ]  # fmt: skip
        worst = heapq.nlargest(MOST_FINDINGS, over, key=lambda one: (one.score / one.budget, one.identity))
        state: _State = tuple((one.identity, one.score, one.budget) for one in worst)
        if state == self._said or (self._said is None and not worst and not await self._had_findings()):
            return
        facts = [await self._finding(one, cut=number < _CUTS) for number, one in enumerate(worst)]
        if len(over) > len(worst):
            _log.warning("%d more identities are over their budget than the %d findings say", len(over) - len(worst),
                         len(worst))  # fmt: skip
        await self._control.store.write(lambda unit: _keep(unit, facts))
        self._said = state

    async def _had_findings(self) -> bool:
        return bool(await self._control.store.read(lambda unit: unit.inventory.source(*_SOURCE) is not None))

    async def _finding(self, one: Excess, *, cut: bool) -> FindingFact:
        if not cut:
            return finding(one, (), "")
        desk = self._control.blasts
        said = await desk.cut(await desk.find(Asked(of=one.identity)))
        if said is None or not said["possible"]:
            return finding(one, (), "")
        return finding(one, [each["cut"] for each in said["edges"] if each["cut"]], said["towards"])

    # -- what is asked

    async def trend(self, subject: str, days: int) -> dict[str, Any]:
        """The samples of an identity's id, or of the estate, one for each of the last days."""
        samples, today = await self._control.store.read(lambda unit: (unit.radii.trend(subject), unit.now.date()))
        rows = filled(samples, today, days)
        return {
            "subject": subject,
            "days": [
                {
                    "day": date.fromordinal(today.toordinal() - len(rows) + 1 + number).isoformat(),
                    "measured": each is not None,
                    "score": each.score if each else None, "certain_score": each.certain_score if each else None,
                    "resources": each.resources if each else None, "becomes": each.becomes if each else None,
                    "by_sensitivity": dict(each.by_sensitivity) if each else None,
                }
                for number, each in enumerate(rows)
            ],
        }  # fmt: skip

    async def top(self, number: int) -> dict[str, Any]:
        """The identities with the largest radii, each against the budget of its tier."""
        listed = await self._control.graphs.top(number)
        budgets = budgets_of(self._control)
        records: Mapping[str, IdentityRecord] = await self._control.store.read(
            lambda unit: unit.inventory.identities([node.name for node, _ in listed])
        )
        records = {each: self._control.standing.words.alone(record) for each, record in records.items()}
        rows = []
        for node, radius in listed:
            record = records.get(node.name)
            tier = record.tier if record else None
            # What is in the graph and not in the registry (Remit itself) has no tier, and no budget.
            budget = budgets.of(tier) if record else 0
            rows.append({
                "identity": node.name, "urn": record.name if record else node.name, "title": node.title,
                "kind": node.kind, "environment": node.environment, "owner": record.owner if record else None,
                "tier": tier, "score": radius.score, "certain_score": radius.certain_score,
                "resources": radius.resources, "by_sensitivity": radius.by_sensitivity, "becomes": radius.becomes,
                "budget": budget or None, "exceeded": 0 < budget < radius.score,
            })  # fmt: skip
        return {"rows": rows, "as_of": listed[0][1].as_of.time if listed else None}


def budgets_of(control: ControlPlane) -> Budgets:
    """As the settings say."""
    graph = control.settings.graph
    return Budgets(by_tier=(graph.budget_tier0, graph.budget_tier1, graph.budget_tier2, graph.budget_tier3))


def _records(unit: Any) -> list[IdentityRecord]:
    return [each for each in unit.inventory.all_identities() if each.present and each.merged_into is None]


def _sample(subject: str, radius: Radius, unit: Any) -> Sample:
    return Sample(
        subject=subject, day=unit.now.date(), at=unit.now, score=radius.score, certain_score=radius.certain_score,
        resources=radius.resources, becomes=radius.becomes, by_sensitivity=radius.by_sensitivity, highest=radius.score,
    )  # fmt: skip


def _keep(unit: Any, facts: Sequence[FindingFact]) -> None:
    """As a source of its own: what its newest run does not say any more is gone."""
    run = registry.begin_run(unit, *_SOURCE)
    registry.reconcile(unit, run, facts)
    registry.finish_run(unit, run, {"findings": len(facts)}, ())
