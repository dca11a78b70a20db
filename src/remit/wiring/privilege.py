"""Privileged hours of one installation: what stands is looked at after every discovery and every hour, and kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.leases.model import LeaseFilter
from remit.governance.standing.hours import day_of, measure, observe
from remit.governance.standing.model import Period, Report, Right
from remit.governance.standing.rights import Registry, standing_rights
from remit.inventory.records import CredentialRecord
from remit.kernel.errors import RemitError

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.standing")
_EVERY: Final = timedelta(hours=1)
_SETTLE: Final = timedelta(seconds=5)
_LEASES: Final = 100_000
MOST_DAYS: Final = 366
ACTOR: Final = "system:standing"


class Privilege:
    """Observes and reports what rights stand outside of grants."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._found = asyncio.Event()

    def wake(self) -> None:
        """Something was found or is gone: look again soon."""
        self._found.set()

    async def observe(self) -> None:
        """Hold the registry against what is kept, and close the days that are over; again changes nothing."""
        now = self._control.clock.now()
        # The whole registry is read beside the writer, and what it shows is as old as that.
        rights = await self._control.store.read(lambda unit: standing_rights(read_registry(unit), now))
        await self._control.store.write(lambda unit: _observe(unit, rights))

    async def report(self, *, days: int = 30) -> Report:
        """What stands and how long it has, after one more look; at most `MOST_DAYS` days back."""
        await self.observe()
        return await self._control.store.read(lambda unit: _report(unit, self._control.clock.now(), days))

    async def run(self) -> None:
        """Observe every hour and a moment after each discovery, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY.total_seconds()):
                    await self._found.wait()
                await asyncio.sleep(_SETTLE.total_seconds())
            self._found.clear()
            try:
                await self.observe()
            except RemitError as error:
                _log.warning("standing privilege is not measured now: %s", error)
                self._found.set()


def _observe(unit: Any, rights: Sequence[Right]) -> None:
    change = observe(unit.standing.spans(), rights, unit.now)
    unit.standing.put_spans([*change.changed, *change.opened])
    _close_days(unit)


def _close_days(unit: Any) -> None:
    """Keep the total of each day that is over, once, with a ledger entry; after a long sleep the last `MOST_DAYS`."""
    first = unit.standing.first_seen()
    if first is None:
        return
    today: date = unit.now.astimezone(UTC).date()
    day = max(first.astimezone(UTC).date(), today - timedelta(days=MOST_DAYS))
    kept = unit.standing.days(day)
    missing = [each for each in _days(day, today) if each not in kept]
    if not missing:
        return
    since = datetime.combine(missing[0], time(), UTC)
    spans, leases = unit.standing.spans(since=since), _leases(unit, since)
    for each in missing:
        total = day_of(each, spans, leases, unit.now)
        unit.standing.put_day(total)
        data = {**total.as_json(), "privileged_hours": _text(total.privileged_hours),
                "right_hours": _text(total.right_hours), "granted_hours": _text(total.granted_hours)}  # fmt: skip
        unit.record("governance.standing.measured", actor=ACTOR, subject=f"day:{each.isoformat()}", data=data)


def _days(since: date, before: date) -> list[date]:
    return [since + timedelta(days=number) for number in range((before - since).days)]


def _text(hours: float | None) -> str:
    return "unmeasured" if hours is None else f"{hours:.3f}"


def _report(unit: Any, now: datetime, days: int) -> Report:
    since = now - timedelta(days=max(days, 14) + 1)
    spans = unit.standing.spans(since=since)
    return measure(
        spans,
        _leases(unit, since),
        unit.inventory.identities({span.identity for span in spans}),
        unit.standing.days(since.astimezone(UTC).date()),
        now,
        days=days,
        unmeasured=[] if unit.inventory.sources() else ["no source was discovered yet: `remit discover`"],
    )


def _leases(unit: Any, since: datetime) -> dict[str, list[Period]]:
    """By identity: from when the target confirmed each lease to its revocation."""
    found: dict[str, list[Period]] = defaultdict(list)
    for held in unit.access.newest_leases(LeaseFilter(), _LEASES):
        if held.issued is None:
            continue
        end = held.lease.revoked or unit.now
        if end >= since and end > held.issued:
            found[held.lease.identity].append(Period(since=held.issued, until=end))
    return found


def read_registry(unit: Any) -> Registry:
    """Everything that the registry knows of rights."""
    credentials: dict[str, list[CredentialRecord]] = defaultdict(list)
    for credential in unit.inventory.all_credentials():
        credentials[credential.identity].append(credential)
    return Registry(
        identities={record.id: record for record in unit.inventory.all_identities()},
        ids=dict(unit.inventory.aliases()),
        credentials=credentials,
        resources={record.name: record for record in unit.inventory.all_resources()},
        edges=list(unit.inventory.edges()),
    )
