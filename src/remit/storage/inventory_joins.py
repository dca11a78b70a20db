"""Why names are one identity, and which must stay two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import fields

from sqlalchemy import Connection, delete, or_, select, update

from remit.inventory.records import ApartRecord, JoinRecord
from remit.kernel.canonical import canonical
from remit.storage.inventory_codec import chunks, row_of
from remit.storage.schema.inventory import inventory_alias, inventory_apart, inventory_identity, inventory_join
from remit.storage.upsert import upsert


class Joins:
    """The evidence of joins, and the memory of splits."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def put(self, records: Sequence[JoinRecord]) -> None:
        """Keep evidence; `since` stays that of the first time."""
        rows = {_key(each): {"key": _key(each), **row_of(each)} for each in records}
        upsert(self._conn, inventory_join, list(rows.values()), keep=("since",), fit=True)

    def about(self, names: Iterable[str], *, limit: int = 500) -> list[JoinRecord]:
        """The evidence that has one of `names` on either side, oldest first."""
        table = inventory_join
        columns = [table.c[each.name] for each in fields(JoinRecord)]
        found: dict[str, JoinRecord] = {}
        for chunk in chunks(list(names)):
            query = select(table.c.key, *columns).where(or_(table.c.name.in_(chunk), table.c.other.in_(chunk)))
            for row in self._conn.execute(query.limit(limit)):
                found[row.key] = JoinRecord(**{key: value for key, value in row._mapping.items() if key != "key"})
        return sorted(found.values(), key=lambda each: (each.since, each.name, each.other))

    def apart(self, identities: Iterable[str]) -> list[ApartRecord]:
        """The splits that concern one of `identities`."""
        table = inventory_apart
        found: dict[tuple[str, str], ApartRecord] = {}
        for chunk in chunks(list(identities)):
            query = select(table).where(or_(table.c.one.in_(chunk), table.c.other.in_(chunk)))
            found.update(((row.one, row.other), ApartRecord(**row._mapping)) for row in self._conn.execute(query))
        return sorted(found.values(), key=lambda each: each.since)

    def keep_apart(self, record: ApartRecord) -> None:
        """Let no source join these two again."""
        one, other = sorted((record.one, record.other))
        upsert(self._conn, inventory_apart, [{**row_of(record), "one": one, "other": other}], fit=True)

    def let_join(self, one: str, other: str) -> None:
        """Forget that these two were split."""
        table = inventory_apart
        one, other = sorted((one, other))
        self._conn.execute(delete(table).where(table.c.one == one, table.c.other == other))

    def follow(self, younger: str, older: str) -> None:
        """`younger` became `older`: what was apart from the one is apart from the other."""
        table = inventory_apart
        for each in self.apart([younger]):
            self.let_join(each.one, each.other)
            rest = each.other if each.one == younger else each.one
            if rest != older:
                one, other = sorted((older, rest))
                upsert(self._conn, table, [{**row_of(each), "one": one, "other": other}])

    def move_name(self, name: str, identity: str) -> None:
        """Let one name mean another identity."""
        table = inventory_alias
        self._conn.execute(update(table).where(table.c.name == name).values(identity=identity))

    def merged_as(self, name: str, into: str) -> str | None:
        """The id of the identity that had this name of its own before it was merged into another."""
        table = inventory_identity
        found = self._conn.scalar(select(table.c.id).where(table.c.name == name, table.c.merged_into == into))
        return None if found is None else str(found)


def _key(each: JoinRecord) -> str:
    return hashlib.sha256(canonical([each.source or each.by, each.how, each.name, each.other])).hexdigest()
