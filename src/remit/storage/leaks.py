"""Rows of leaks, and the exposed credentials of which nobody has taken care yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from remit.defense.responses.leak import Leak, Stage, leak_of
from remit.inventory.records import CredentialRecord
from remit.storage.schema.defense_leak import defense_leak
from remit.storage.schema.inventory import inventory_credential


class LeakRows:
    """Reads and writes on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def get(self, fingerprint: str) -> Leak | None:
        """The record of one credential."""
        query = select(defense_leak.c.content).where(defense_leak.c.fingerprint == fingerprint)
        content = self._conn.execute(query).scalar_one_or_none()
        return None if content is None else leak_of(content)

    def all(self, stages: Collection[Stage], *, limit: int) -> Sequence[Leak]:
        """Those in one of `stages`, the oldest finding first."""
        table = defense_leak
        query = select(table.c.content).where(table.c.stage.in_([stage.value for stage in stages]))
        rows = self._conn.scalars(query.order_by(table.c.found, table.c.fingerprint).limit(limit))
        return [leak_of(content) for content in rows]

    def put(self, leak: Leak, *, expected: int) -> bool:
        """Write the record whose revision is `expected` (0: there is none); `False` when somebody else wrote it."""
        row = _row(leak)
        if expected == 0:
            if self.get(leak.fingerprint) is not None:
                return False
            self._conn.execute(insert(defense_leak), row)
            return True
        table = defense_leak
        done = self._conn.execute(
            update(table).where(table.c.fingerprint == leak.fingerprint, table.c.revision == expected).values(**row)
        )
        return done.rowcount == 1

    def untouched(self, *, limit: int) -> Sequence[CredentialRecord]:
        """Exposed credentials that are there, that count, and that nobody has begun to drive; the oldest first."""
        credential = inventory_credential
        query = (
            select(credential)
            .where(credential.c.exposed, credential.c.present, credential.c.state != "revoked")
            .where(~select(defense_leak.c.fingerprint).where(
                defense_leak.c.fingerprint == credential.c.fingerprint
            ).exists())
            .order_by(credential.c.first_seen, credential.c.fingerprint)
            .limit(limit)
        )  # fmt: skip
        return [CredentialRecord(**row._mapping) for row in self._conn.execute(query)]

    def starting(self, prefix: str, *, limit: int = 5) -> Sequence[str]:
        """Fingerprints of credentials that begin with `prefix`."""
        column = inventory_credential.c.fingerprint
        return list(self._conn.scalars(select(column).where(column.startswith(prefix, autoescape=True)).limit(limit)))

    def counts(self) -> dict[str, int]:
        """How many leaks stand in each stage."""
        query = select(defense_leak.c.stage, func.count()).group_by(defense_leak.c.stage)
        return {stage: int(number) for stage, number in self._conn.execute(query)}


def _row(leak: Leak) -> dict[str, Any]:
    return {
        "fingerprint": leak.fingerprint, "stage": leak.stage.value, "revision": leak.revision, "found": leak.found,
        "moved": leak.moved, "content": leak.as_json(),
    }  # fmt: skip
