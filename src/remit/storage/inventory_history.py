"""The registry of any past moment: what held, from when until when, written only where something changed.

The rows of now stay the truth; an interval of the history is closed and another begun when what a row says differs.
What moves with every scan (`last_seen`, `last_used`) is no change. From the same differences the tallies are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    String,
    Text,
    and_,
    bindparam,
    cast,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from remit.inventory.records import CredentialRecord, EdgeRecord, IdentityRecord, ResourceRecord
from remit.kernel.canonical import Json, encode_checked
from remit.storage.inventory_codec import chunks, edge_of, identity_of, resource_of
from remit.storage.schema.inventory import (
    inventory_credential,
    inventory_edge,
    inventory_history,
    inventory_identity,
    inventory_resource,
    inventory_tally,
)
from remit.storage.schema.types import Encoded, JsonText, Moment, moment
from remit.storage.upsert import upsert

HistoryRecord = IdentityRecord | CredentialRecord | ResourceRecord | EdgeRecord

_MOVING = frozenset({"last_seen", "last_used"})
_TALLIED = ("kind", "system", "environment", "state")
_IDENTITY = [column for column in inventory_identity.c if column.name not in _MOVING]
_CREDENTIAL = [column for column in inventory_credential.c if column.name not in _MOVING]
_RESOURCE = [column for column in inventory_resource.c if column.name not in _MOVING]
_EDGE = tuple(each.name for each in fields(EdgeRecord))


def _as_kept(columns: Sequence[Column[Any]]) -> Select[Any]:
    """These columns as the engine keeps them: moments as integers, JSON as text."""

    def kept(column: Column[Any]) -> ColumnElement[Any]:
        if isinstance(column.type, Moment):
            return type_coerce(column, BigInteger).label(column.name)
        return type_coerce(column, Text).label(column.name) if isinstance(column.type, JsonText) else column

    return select(*map(kept, columns))


_RAW_IDENTITY = _as_kept(_IDENTITY)
_RAW_CREDENTIAL = _as_kept(_CREDENTIAL)
_RAW_RESOURCE = _as_kept(_RESOURCE)
_OPEN = select(
    inventory_history.c.key, inventory_history.c.since, type_coerce(inventory_history.c.data, Text).label("data")
).where(inventory_history.c.until.is_(None))
_JSON = {
    "identity": [column.name for column in _IDENTITY if isinstance(column.type, JsonText)],
    "credential": [column.name for column in _CREDENTIAL if isinstance(column.type, JsonText)],
    "resource": [column.name for column in _RESOURCE if isinstance(column.type, JsonText)],
}
_MOMENTS = {
    "identity": [column.name for column in _IDENTITY if isinstance(column.type, Moment)],
    "credential": [column.name for column in _CREDENTIAL if isinstance(column.type, Moment)],
    "resource": [column.name for column in _RESOURCE if isinstance(column.type, Moment)],
    "edge": [],
}


class History:
    """Intervals of identities, credentials, resources and edges; call after each change of their rows."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self._conn = conn
        self._now = now

    def identities(self, ids: Iterable[str]) -> None:
        """These identities may have changed."""
        table = inventory_identity
        for chunk in chunks(sorted(set(ids))):
            rows = self._conn.execute(_RAW_IDENTITY.where(table.c.id.in_(chunk)))
            found = {row.id: (row.name, None, _raw("identity", row._asdict())) for row in rows}
            self._count(self._note("identity", chunk, found))

    def credentials(self, fingerprints: Iterable[str]) -> None:
        """These credentials may have changed."""
        table = inventory_credential
        for chunk in chunks(sorted(set(fingerprints))):
            rows = self._conn.execute(_RAW_CREDENTIAL.where(table.c.fingerprint.in_(chunk)))
            found = {row.fingerprint: (row.identity, None, _raw("credential", row._asdict())) for row in rows}
            self._note("credential", chunk, found)

    def resources(self, names: Iterable[str]) -> None:
        """These resources may have changed."""
        table = inventory_resource
        for chunk in chunks(sorted(set(names))):
            rows = self._conn.execute(_RAW_RESOURCE.where(table.c.name.in_(chunk)))
            # A name is longer than a key may be.
            found = {
                hashlib.sha256(row.name.encode()).hexdigest(): (row.name, None, _raw("resource", row._asdict()))
                for row in rows
            }
            self._note("resource", sorted(found), found)

    def edges(self, source: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """These edges of a source were just written, whole, as they stand in `rows`."""
        last = {f"{source}/{row['key']}": row for row in rows}
        for chunk in chunks(sorted(last)):
            found = {key: (last[key]["tail"], last[key]["head"], _pick_edge(last[key])) for key in chunk}
            self._note("edge", chunk, found)

    def end_edges(self, source: str, run: str) -> None:
        """The edges of `source` that `run` did not show are about to go."""
        table, edge = inventory_history, inventory_edge
        stale = select(cast(edge.c.source + "/" + edge.c.key, String)).where(edge.c.source == source, edge.c.run != run)
        self._conn.execute(
            update(table)
            .where(table.c.kind == "edge", table.c.until.is_(None), table.c.key.in_(stale))
            .values(until=self._now)
        )

    def _note(
        self, kind: str, keys: Sequence[str], found: Mapping[str, tuple[str, str | None, dict[str, Json]]]
    ) -> list[tuple[dict[str, Any] | None, dict[str, Any]]]:
        """Begin an interval where something differs; returns the differences, each as before and after."""
        table = inventory_history
        query = _OPEN.where(table.c.kind == kind, table.c.key.in_(keys))
        open_rows = {row.key: (row.since, row.data) for row in self._conn.execute(query)}
        # Canonical text is the same where the value is the same.
        texts = {key: encode_checked(new[2]).decode() for key, new in found.items()}
        changed = {key: new for key, new in found.items() if key not in open_rows or open_rows[key][1] != texts[key]}
        ended = [
            {"the_key": key, "the_since": open_rows[key][0]}
            for key in changed
            if key in open_rows and open_rows[key][0] != self._now
        ]
        if ended:
            self._conn.execute(
                update(table)
                .where(
                    table.c.kind == kind, table.c.key == bindparam("the_key"), table.c.since == bindparam("the_since")
                )
                .values(until=self._now),
                ended,
            )
        upsert(self._conn, table, [
            {
                "kind": kind, "key": key, "since": self._now, "until": None, "one": one, "two": two,
                "data": Encoded(texts[key]),
            }
            for key, (one, two, _) in changed.items()
        ])  # fmt: skip
        return [
            (msgspec.json.decode(open_rows[key][1]) if key in open_rows else None, new[2])
            for key, new in changed.items()
        ]

    def _count(self, differences: Sequence[tuple[dict[str, Any] | None, dict[str, Any]]]) -> None:
        deltas: dict[tuple[str, str], int] = {}
        for before, after in differences:
            for sign, row in ((-1, before), (1, after)):
                for each in _tallies(row):
                    deltas[each] = deltas.get(each, 0) + sign
        rows = [
            {"field": field, "value": value, "number": delta}
            for (field, value), delta in sorted(deltas.items())
            if delta
        ]
        if not rows:
            return
        dialect = postgresql if self._conn.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(inventory_tally)
        number = inventory_tally.c.number + statement.excluded.number
        self._conn.execute(
            statement.on_conflict_do_update(index_elements=["field", "value"], set_={"number": number}), rows
        )

    def tallies(self) -> dict[str, dict[str, int]]:
        """How many listed identities have each value: `total`, `unowned`, `privileged`, and by column."""
        found: dict[str, dict[str, int]] = {}
        table = inventory_tally
        for row in self._conn.execute(select(table).where(table.c.number > 0)):
            found.setdefault(row.field, {})[row.value] = row.number
        return found

    # -- looking back

    def changed(self, since: datetime) -> Iterator[tuple[HistoryRecord, bool]]:
        """What began or ended at `since` or later, as it stands now, each once; whether it still holds."""
        table = inventory_history
        columns = (table.c.kind, table.c.key, table.c.since, table.c.until, table.c.data)
        queries = [select(*columns).where(column >= since) for column in (table.c.since, table.c.until)]
        last: dict[tuple[str, str], Any] = {}
        for query in queries:
            for row in self._conn.execute(query):
                known = last.get((row.kind, row.key))
                if known is None or known.since <= row.since:
                    last[row.kind, row.key] = row
        for row in last.values():
            yield _record(row), row.until is None

    def resources_at(self, at: datetime) -> Iterator[ResourceRecord]:
        """The resources of that moment, gone ones too. `last_seen` is when the record last changed."""
        for row in self._at("resource", at, inventory_history.c.key, None):
            yield resource_of({**_moments("resource", row.data), "last_seen": row.since})

    def identities_at(self, at: datetime, ids: Iterable[str] | None = None) -> Iterator[IdentityRecord]:
        """The identities of that moment, merged and gone ones too. `last_seen` is when the record last changed."""
        for row in self._at("identity", at, inventory_history.c.key, ids):
            data = _moments("identity", row.data)
            yield identity_of({**data, "last_seen": row.since, "last_used": None})

    def identity_called(self, name: str, at: datetime) -> str | None:
        """The id of the identity that had this name of its own then."""
        return next((row.key for row in self._at("identity", at, inventory_history.c.one, [name])), None)

    def credentials_at(self, at: datetime, identities: Iterable[str] | None = None) -> Iterator[CredentialRecord]:
        """The credentials of that moment, or those of some identities."""
        yield from map(_credential, self._at("credential", at, inventory_history.c.one, identities))

    def credentials_named(self, at: datetime, fingerprints: Iterable[str]) -> Iterator[CredentialRecord]:
        """The credentials of that moment with these fingerprints."""
        yield from map(_credential, self._at("credential", at, inventory_history.c.key, fingerprints))

    def edges_at(self, at: datetime, *, tails: Iterable[str] = (), heads: Iterable[str] = ()) -> Iterator[EdgeRecord]:
        """The edges of that moment from some nodes, and to some; all of them where none is given."""
        tails, heads = list(tails), list(heads)
        if not tails and not heads:
            for row in self._at("edge", at, inventory_history.c.key, None):
                yield edge_of(row.data)
        for column, wanted in ((inventory_history.c.one, tails), (inventory_history.c.two, heads)):
            for row in self._at("edge", at, column, wanted):
                yield edge_of(row.data)

    def _at(self, kind: str, at: datetime, column: Any, values: Iterable[str] | None) -> Iterator[Any]:
        table = inventory_history
        then = and_(table.c.kind == kind, table.c.since <= at, or_(table.c.until.is_(None), table.c.until > at))
        query = select(table.c.key, table.c.since, table.c.data).where(then).order_by(table.c.key)
        if values is None:
            yield from self._conn.execute(query)
            return
        for chunk in chunks(sorted(set(values))):
            yield from self._conn.execute(query.where(column.in_(chunk)))


def _credential(row: Any) -> CredentialRecord:
    return CredentialRecord(**{**_moments("credential", row.data), "last_seen": row.since, "last_used": None})


def _record(row: Any) -> HistoryRecord:
    data = _moments(row.kind, row.data)
    match row.kind:
        case "identity":
            return identity_of({**data, "last_seen": row.since, "last_used": None})
        case "credential":
            return CredentialRecord(**{**data, "last_seen": row.since, "last_used": None})
        case "resource":
            return resource_of({**data, "last_seen": row.since})
        case _:
            return edge_of(data)


def _raw(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row, its JSON as the text that it is."""
    for name in _JSON[kind]:
        if row[name] is not None:
            row[name] = msgspec.Raw(row[name].encode())
    return row


def _pick_edge(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _EDGE}


def _moments(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: moment(value) if key in _MOMENTS[kind] else value for key, value in data.items()}


def _tallies(row: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if row is None or not row["present"] or row["merged_into"] is not None:
        return
    yield "total", ""
    for column in _TALLIED:
        if row[column] is not None:
            yield column, row[column]
    if row["owner"] is None:
        yield "unowned", ""
    if row["privileged"]:
        yield "privileged", ""
