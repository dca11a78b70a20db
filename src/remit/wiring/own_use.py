"""What the control plane itself sees of use: leases that it issued, and decisions that enforcement points asked for.

Read on from where the last look ended, by the ledger's leaf and each decision log's number, which are kept together
with what was counted: a crash counts nothing twice. A decision that a lease rests on is counted as the lease alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.inventory.use.model import Use, UseFact
from remit.inventory.use.tally import Tally
from remit.kernel.errors import RemitError
from remit.kernel.ids import Name

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.use")
_SECONDS: Final = 10.0
_ENTRIES: Final = 2_000
MOST_DECISIONS: Final = 5_000
"""Of one log and one look, the newest: of what a busier log says besides, only the last use would matter."""
LEDGER: Final = "own ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """An identity acted, or was refused."""

    identity: str
    moment: datetime
    admitted: bool = True


class OwnUse:
    """Counts our own leases and decisions as use of identities."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def run(self) -> None:
        """Look every ten seconds until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                await self.look()
            except RemitError as error:
                _log.warning("own use is put off: %s", error)

    async def look(self) -> None:
        """Count what came since the last look."""
        store = self._control.store
        while await store.read(_is_behind) and await store.write(count_leases):
            await asyncio.sleep(0)
        for node, records in await asyncio.to_thread(self._control.decisions.newest, MOST_DECISIONS):
            if records:
                known = await store.read(partial(_counted, f"own decisions {node}"))
                if records[0].seq > known:
                    await store.write(partial(count_decisions, node, records))


def _is_behind(unit: Any) -> bool:
    behind: bool = unit.use.counted(LEDGER) < unit.ledger.size()
    return behind


def _counted(log: str, unit: Any) -> int:
    counted: int = unit.use.counted(log)
    return counted


def count_leases(unit: Any) -> bool:
    """Count leases of one part of the ledger; whether there may be more."""
    start = unit.use.counted(LEDGER)
    entries, end = unit.use.leases_issued(start, _ENTRIES)
    acted = [Acted(identity=str(data.get("identity", "")), moment=moment) for moment, data in entries]
    if end > start:
        _absorb(unit, acted, LEDGER, start, end)
    return len(entries) == _ENTRIES


def count_decisions(node: str, records: Iterable[Any], unit: Any) -> None:
    """Count the decisions of one log that were not counted yet."""
    log = f"own decisions {node}"
    start = unit.use.counted(log)
    fresh = [each for each in records if each.seq > start]
    if not fresh:
        return
    decided = (_decided(each.data) for each in fresh)
    _absorb(unit, [each for each in decided if each], log, start, max(each.seq for each in fresh))


def _decided(record: bytes) -> Acted | None:
    """Of a decision that somebody else asked for; `None` for our own and for what is no decision."""
    try:
        plain = msgspec.json.decode(record)
        if not isinstance(plain, dict) or not plain.get("asker"):
            return None
        facts: Mapping[str, Any] = plain.get("facts") or {}
        identity = str((facts.get("principal") or {}).get("id", ""))
        moment = datetime.fromisoformat(str(plain["time"]))
    except (ValueError, KeyError, AttributeError, msgspec.DecodeError):
        return None
    return Acted(identity=identity, moment=moment, admitted=bool(plain.get("allowed")))


def _absorb(unit: Any, acted: list[Acted], log: str, start: int, end: int) -> None:
    known = unit.inventory.resolve({each.identity for each in acted if each.identity})
    records = unit.inventory.identities(set(known.values()))
    tally = Tally()
    for each in acted:
        if (record := records.get(known.get(each.identity, ""))) is not None:
            tally.add(Use(name=Name(record.name), moment=each.moment, admitted=each.admitted))
    # Which program it was the log of the target says; here it would only look like one more workload.
    rows = tuple(replace(row, consumers={}) for row in tally.rows())
    fact = UseFact(
        system="remit", instance="", since=unit.now, until=unit.now, place=log, rows=rows, log=log, start=start, end=end
    )
    unit.use.absorb(fact)
