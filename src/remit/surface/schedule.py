"""Reading by schedule: each source when it is due, one at a time, as often as a person said.

A schedule is signed: a row that somebody else wrote into the database makes nobody read anything. Only sources whose
secret can be had without a person are read: registered targets, and those that need none of us.
A run that fails, or takes too long, is put off for longer each time, and is a finding until a whole run succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from remit.inventory.model import FindingFact, Place, Severity
from remit.inventory.readings import Reading, SecretOf, read_asked
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, NotFound, Rejected, RemitError
from remit.surface.discovery import ASKED, discover, question_of
from remit.wiring import ControlPlane

_log = logging.getLogger("remit.discovery")
_KIND: Final = "inventory.schedule"
_LOOK: Final = 30.0
"""Seconds after which the schedule is looked at, though nothing should be due."""
_FIRST_DELAY: Final = timedelta(minutes=1)
_LOUD: Final = 3
"""Failures in a row after which the finding is of high severity."""
FAILING: Final = "inventory.source-failing"


class Scheduler:
    """Runs beside the server; `close` ends it, and the run that it is at."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._settings = control.settings.discovery
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._random = random.SystemRandom()

    def open(self) -> None:
        """Begin to look for what is due."""
        if self._settings.scheduled:
            self._task = asyncio.create_task(self._run(), name="remit-schedule")

    async def close(self) -> None:
        """End; what a run has found until now is kept."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def plan(self, source: str, every: int, *, by: str) -> Reading:
        """Let a source be read every so many seconds; 0 ends it.

        Raises `NotFound` (`inventory.source.unknown`) and `Rejected` (`inventory.schedule.too-often`,
        `inventory.schedule.secret`).
        """

        def work(unit: Any) -> Reading:
            reading = require_reading(unit, source)
            if every:
                _require_ours(self._control, reading)
                self._require_plannable(reading, every)
            plan: dict[str, Json] | None = None
            if every:
                plan = {**reading.asked.terms(source), "every": every}
            signature = self._control.keys.sign(_KIND, plan) if plan is not None else ""
            due = unit.now + min(timedelta(seconds=every), _FIRST_DELAY) if every else None
            new = replace(reading, plan=plan, signature=signature, due=due, failures=0, trouble="")
            unit.discovery.put(new)
            unit.record("inventory.source.scheduled", actor=by, subject=source, data={"every": every})
            return new

        found: Reading = await self._control.store.write(work)
        self._wake.set()
        return found

    def _require_plannable(self, reading: Reading, every: int) -> None:
        shortest = self._settings.shortest_seconds
        if not shortest <= every <= 366 * 86_400:
            raise Rejected(
                "inventory.schedule.too-often",
                f"a source is read at most every {shortest} seconds, and at least once a year",
                next_step="choose another time, or change `discovery.shortest_seconds`",
            )
        if reading.asked.secret is SecretOf.PERSON:
            raise Rejected(
                "inventory.schedule.secret",
                "the secret of this source was given with the command and is kept nowhere: nobody could give it again",
                next_step="register the system as a target (`remit target add`) and discover it by the target's name",
            )

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                waiting = await self._one()
            except RemitError as error:
                _log.warning("the schedule of discovery is put off: %s", error)
                waiting = _LOOK
            except Exception:  # a supervisor: one source never ends the reading of all
                _log.exception("the schedule of discovery is put off")
                waiting = _LOOK
            try:
                await asyncio.wait_for(self._wake.wait(), timeout=waiting)
            except TimeoutError:
                pass

    async def _one(self) -> float:
        """Read the source that is due longest; returns how long nothing else is."""
        now = self._control.clock.now()
        planned = [each for each in await self._planned() if each.due is not None]
        ready = [each for each in planned if each.source not in self._control.being_read]
        first = min(ready, key=lambda each: each.due or now, default=None)
        if first is None or first.due is None:
            return _LOOK if not planned else 1.0
        if first.due > now:
            return max(0.05, min(_LOOK, (first.due - now).total_seconds()))
        await self._read(first)
        return 0.05

    async def _planned(self) -> list[Reading]:
        found: list[Reading] = await self._control.store.read(lambda unit: unit.discovery.readings())
        return [each for each in found if each.plan is not None]

    async def _read(self, reading: Reading) -> None:
        plan = dict(reading.plan or {})
        if not self._control.keys.verify(_KIND, plan, reading.signature) or plan.get("id") != reading.source:
            await self._put_off(reading, "the schedule is not signed by this installation: set it again", stop=True)
            return
        started = self._control.clock.now()
        # Before it is begun: whatever ends us, it is not begun again at once by the next start.
        await self._set_due(reading.source, started + self._spread(reading.every or 0))
        asked = read_asked(plan)
        try:
            async with asyncio.timeout(self._settings.longest_minutes * 60):
                question = await question_of(self._control, asked.connector, asked.source, dict(asked.options))
                async for _ in discover(self._control, question):
                    pass
        except TimeoutError:
            await self._put_off(reading, f"it took longer than {self._settings.longest_minutes} minutes")
        except Conflict as error:
            if error.code != "inventory.run.superseded":  # somebody reads it by hand: that counts
                await self._put_off(reading, error.message)
        except (RemitError, OSError) as error:
            await self._put_off(reading, str(error), next_step=getattr(error, "next_step", ""))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a supervisor: a defect of one connector must not stop the others
            _log.exception("reading %s", reading.source)
            await self._put_off(reading, f"the reading broke: {type(error).__name__}")

    def _spread(self, every: int) -> timedelta:
        """The time to the next run, a little longer by chance: sources that were planned together drift apart."""
        return timedelta(seconds=every * (1 + self._random.random() * self._settings.jitter_percent / 100))

    async def _set_due(self, source: str, due: datetime | None) -> None:
        def work(unit: Any) -> None:
            known = unit.discovery.reading(source)
            if known is not None and known.plan is not None:
                unit.discovery.put(replace(known, due=due, tried=unit.now))

        await self._control.store.write(work)

    async def _put_off(self, reading: Reading, why: str, *, next_step: str = "", stop: bool = False) -> None:
        """Note a failure: later each time, never later than the longest wait."""

        def work(unit: Any) -> None:
            known = unit.discovery.reading(reading.source)
            if known is None or known.plan is None:
                return
            failures = known.failures + 1
            later = timedelta(seconds=(known.every or 0) * 2 ** min(failures - 1, 16))
            longest = max(timedelta(hours=self._settings.backoff_hours), timedelta(seconds=known.every or 0))
            due = None if stop else unit.now + min(later, longest)
            unit.discovery.put(replace(known, failures=failures, trouble=why, due=due, tried=unit.now))
            fact = FindingFact(
                rule=FAILING, severity=Severity.HIGH if failures >= _LOUD else Severity.MEDIUM,
                title=f"A source of the inventory is not read: {known.asked.connector}",
                detail=f"{failures} {'run' if failures == 1 else 'runs'} by schedule failed; the last: {why}"[:1000],
                next_step=next_step or f"run `remit source read {known.source}` and look at what it says",
                place=Place(system="remit", path=known.asked.source or known.source),
            )  # fmt: skip
            unit.inventory.put_findings(known.source, "schedule", unit.now, [(unit.new_id("fd"), fact)])

        await self._control.store.write(work)
        _log.warning("reading %s by schedule failed: %s", reading.source, why)


def require_reading(unit: Any, source: str) -> Reading:
    """How a source is read. `NotFound` (`inventory.source.unknown`); `Rejected` where it is not remembered how."""
    known: Reading | None = unit.discovery.reading(source)
    if known is None:
        raise NotFound(
            "inventory.source.unknown", f"no source has the id `{source[:60]}`", next_step="`remit sources` lists them"
        )
    return known


def _require_ours(control: ControlPlane, reading: Reading) -> None:
    """Refuse what somebody wrote into the database: it would be read with our rights."""
    asked = reading.asked
    if not control.keys.verify(ASKED, asked.terms(reading.source), asked.signature):
        raise Rejected(
            "inventory.source.unsigned",
            "how this source was read is not signed by this installation",
            next_step="read it once by its own command: `remit discover CONNECTOR SOURCE`",
        )


async def again(control: ControlPlane, source: str) -> Any:
    """The question by which a source was last read. `Rejected` (`inventory.source.person`) where its secret is gone."""
    reading: Reading = await control.store.read(lambda unit: require_reading(unit, source))
    _require_ours(control, reading)
    asked = reading.asked
    if asked.secret is SecretOf.PERSON:
        raise Rejected(
            "inventory.source.person",
            "the secret of this source was given with the command and is kept nowhere",
            next_step=f"give it again: `remit discover {asked.connector} {asked.source or 'SOURCE'}`",
        )
    return await question_of(control, asked.connector, asked.source, dict(asked.options))
