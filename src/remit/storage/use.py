"""Rows of use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from remit.inventory.use.model import ANY, UseFact, UseRow, Window
from remit.inventory.use.tally import merged, of_sessions
from remit.kernel.errors import Conflict
from remit.kernel.ids import name
from remit.storage.deeds import add_deeds
from remit.storage.schema.core import ledger_entry
from remit.storage.schema.inventory import inventory_alias
from remit.storage.schema.inventory_use import inventory_use, inventory_use_log, inventory_use_window
from remit.storage.upsert import upsert

MOST_LOGS: Final = 40_000
_BATCH: Final = 400
_LONGEST: Final = 1000
_GAP: Final = timedelta(days=2)
"""Logs that are further apart than this have a gap between them."""


class UseRows:
    """Implements `inventory.ports.UseRows` on one connection."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self._conn = conn
        self._now = now

    def absorb(self, fact: UseFact) -> None:
        """Add what one piece of a log told, once; `Conflict` where another run counted a part of it meanwhile."""
        counted = self.counted(fact.log) if fact.log else 0
        if fact.sessions:
            self._add(of_sessions(fact.sessions, counted, fact.until))
            self._settle(fact, max(counted, *(each.number for each in fact.sessions)))
            return
        if fact.log and fact.start < counted:
            if fact.end <= counted:
                return
            raise Conflict(
                "inventory.use.counted-elsewhere",
                f"another run is counting the log at `{fact.place[:200]}`",
                next_step="wait for it, then read the log again: nothing is counted twice",
            )
        self._add(fact.rows)
        add_deeds(self._conn, fact)
        self._settle(fact, fact.end)
        for instance in {fact.instance, *fact.others} - {ANY, ""}:
            self._widen(replace(fact, instance=instance))

    def _settle(self, fact: UseFact, end: int) -> None:
        if fact.log:
            row = {"log": fact.log, "system": fact.system[:40], "instance": fact.instance[:200], "end": end}
            upsert(self._conn, inventory_use_log, [{**row, "read": self._now}])

    def counted(self, log: str) -> int:
        """How far a log was counted."""
        table = inventory_use_log
        return self._conn.execute(select(table.c.end).where(table.c.log == log)).scalar() or 0

    def logs(self, system: str, instance: str) -> dict[str, int]:
        """How far the logs of a system were counted, those read last."""
        table = inventory_use_log
        query = select(table.c.log, table.c.end).where(table.c.system == system)
        if instance != ANY:
            query = query.where(table.c.instance == instance[:200])
        return {row.log: row.end for row in self._conn.execute(query.order_by(table.c.read.desc()).limit(MOST_LOGS))}

    def leases_issued(self, start: int, limit: int) -> tuple[list[tuple[datetime, dict[str, Any]]], int]:
        """Leases that the ledger has from leaf `start` on, and the leaf up to which that is so."""
        table = ledger_entry
        last = self._conn.scalar(select(func.max(table.c.leaf_index)))
        size = 0 if last is None else last + 1
        query = select(table.c.leaf_index, table.c.time, table.c.body).where(
            table.c.leaf_index >= start, table.c.leaf_index < size, table.c.type == "access.lease.issued"
        )
        rows = list(self._conn.execute(query.order_by(table.c.leaf_index).limit(limit)))
        found = [(row.time, msgspec.json.decode(row.body).get("data") or {}) for row in rows]
        return found, (rows[-1].leaf_index + 1 if len(rows) == limit else size)

    def _add(self, told: Iterable[UseRow]) -> None:
        rows = {row.name: row for row in told if len(row.name) <= _LONGEST}
        known = self.of(rows)
        both = [merged(known[each], row) if each in known else row for each, row in rows.items()]
        for start in range(0, len(both), _BATCH):
            upsert(self._conn, inventory_use, [_written(row) for row in both[start : start + _BATCH]])

    def _widen(self, fact: UseFact) -> None:
        table = inventory_use_window
        here = (table.c.system == fact.system[:40]) & (table.c.instance == fact.instance[:200])
        known = self._conn.execute(select(table).where(here)).mappings().first()
        since, until = fact.since, fact.until
        if known is not None:
            if known["until"] + _GAP >= since and until + _GAP >= known["since"]:
                since, until = min(since, known["since"]), max(until, known["until"])
            elif until < known["until"]:
                return  # older, with a gap between: what is newer counts
        row = {"system": fact.system[:40], "instance": fact.instance[:200], "since": since, "until": until}
        upsert(self._conn, table, [{**row, "read": self._now}])

    def of(self, names: Iterable[str]) -> dict[str, UseRow]:
        """The rows of these names."""
        wanted = sorted(set(names))
        found: dict[str, UseRow] = {}
        for start in range(0, len(wanted), _BATCH):
            query = select(inventory_use).where(inventory_use.c.name.in_(wanted[start : start + _BATCH]))
            found.update((row["name"], _row(row)) for row in self._conn.execute(query).mappings())
        return found

    def windows(self) -> list[Window]:
        """From when to when the logs of each system were read."""
        return [Window(**row) for row in self._conn.execute(select(inventory_use_window)).mappings()]

    def strangers(self, limit: int = 1000) -> list[UseRow]:
        """Names in logs that no connector knows, the most used first."""
        table = inventory_use
        known = select(inventory_alias.c.name).where(inventory_alias.c.name == table.c.name).exists()
        query = select(table).where(~known, ~table.c.name.startswith("urn:remit:credential:"))
        query = query.where(~table.c.name.startswith("urn:remit:ssh:fingerprint:"))
        return [_row(row) for row in self._conn.execute(query.order_by(table.c.count.desc()).limit(limit)).mappings()]

    def identities_of(self, system: str, instance: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        """(name, identity) of what the inventory knows of a system's instance, in order of name."""
        prefix = name(system, instance, "", "")[:-1]
        table = inventory_alias
        query = select(table.c.name, table.c.identity).where(table.c.name > max(prefix, after))
        query = query.where(table.c.name < prefix + "\U0010ffff").order_by(table.c.name).limit(limit)
        return [(row.name, row.identity) for row in self._conn.execute(query)]


def _written(row: UseRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "first": row.first,
        "last": row.last,
        "count": row.count,
        "failures": row.failures,
        "days": dict(row.days),
        "consumers": dict(row.consumers),
        "environments": list(row.environments),
        "people": list(row.people),
    }


def _row(row: Mapping[Any, Any]) -> UseRow:
    return UseRow(
        name=row["name"],
        first=row["first"],
        last=row["last"],
        count=row["count"],
        failures=row["failures"],
        days=row["days"],
        consumers=row["consumers"],
        environments=tuple(row["environments"]),
        people=tuple(row["people"]),
    )
