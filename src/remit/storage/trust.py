"""Rows of trust."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from remit.storage.schema.trust import trust_authority, trust_binary, trust_bundle, trust_entry, trust_issued
from remit.storage.schema.types import micros
from remit.storage.upsert import upsert
from remit.trust.model import Authority, AuthorityKind, AuthorityState, Entry, Issued, Selector
from remit.trust.ports import ISSUED_FIELDS, IssuedFilter
from remit.trust.spiffe import SpiffeId

ISSUED = (*ISSUED_FIELDS, "status", "issued", "expires")


_plain = attrgetter(*ISSUED[:-2])
_NOTE_ISSUED = "INSERT INTO trust_issued ({}) VALUES ({})".format(  # noqa: S608  (names of our own columns)
    ", ".join('"' + name + '"' for name in ISSUED), ", ".join("?" for _ in ISSUED)
)


class TrustRows:
    """Implements `trust.ports.TrustRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # Authorities.

    def authorities(self) -> Sequence[Authority]:
        rows = self._conn.execute(select(trust_authority).order_by(trust_authority.c.created, trust_authority.c.id))
        return [_to_authority(row) for row in rows]

    def put_authority(self, authority: Authority, sealed_key: bytes | None) -> None:
        upsert(self._conn, trust_authority, [{**_from_authority(authority), "sealed": sealed_key}])

    def sealed_key(self, authority_id: str) -> bytes | None:
        query = select(trust_authority.c.sealed).where(trust_authority.c.id == authority_id)
        return self._conn.scalar(query)

    # Entries.

    def entries(self, *, after: str = "", limit: int = 10_000) -> Sequence[Entry]:
        query = select(trust_entry).where(trust_entry.c.id > after).order_by(trust_entry.c.id).limit(limit)
        return [_to_entry(row) for row in self._conn.execute(query)]

    def entry(self, entry_id: str) -> Entry | None:
        row = self._conn.execute(select(trust_entry).where(trust_entry.c.id == entry_id)).one_or_none()
        return None if row is None else _to_entry(row)

    def entry_by_key(self, key: str) -> Entry | None:
        row = self._conn.execute(select(trust_entry).where(trust_entry.c.key == key)).one_or_none()
        return None if row is None else _to_entry(row)

    def add_entry(self, entry: Entry) -> None:
        self._conn.execute(insert(trust_entry), _from_entry(entry))

    def remove_entry(self, entry_id: str) -> bool:
        self._conn.execute(delete(trust_binary).where(trust_binary.c.entry == entry_id))
        return self._conn.execute(delete(trust_entry).where(trust_entry.c.id == entry_id)).rowcount > 0

    # Binaries.

    def note_binary(self, entry_id: str, path: str, sha256: str, at: datetime) -> str | None:
        path_digest = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()
        query = select(trust_binary.c.sha256).where(
            trust_binary.c.entry == entry_id, trust_binary.c.path_digest == path_digest
        )
        before: str | None = self._conn.scalar(query)
        if before != sha256:
            row = {"entry": entry_id, "path_digest": path_digest, "path": path, "sha256": sha256, "seen": at}
            upsert(self._conn, trust_binary, [row])
        return before

    # What was issued.

    def note_issued(self, issued: Sequence[Issued]) -> None:
        if not issued:
            return
        if self._conn.dialect.name == "sqlite":
            # A hot path of the embedded store: the driver's own executemany, past the type machinery.
            values = [(*_plain(one), micros(one.issued), micros(one.expires)) for one in issued]
            self._conn.exec_driver_sql(_NOTE_ISSUED, values)
        else:
            self._conn.execute(insert(trust_issued), [{name: getattr(one, name) for name in ISSUED} for one in issued])

    def issued(self, where: IssuedFilter, *, after: str = "", limit: int = 10_000) -> Sequence[Issued]:
        query = select(trust_issued).where(trust_issued.c.id > after, trust_issued.c.expires > where.now)
        for name in ISSUED_FIELDS:
            if wanted := getattr(where, name):
                query = query.where(trust_issued.c[name] == wanted)
        rows = self._conn.execute(query.order_by(trust_issued.c.id).limit(limit))
        return [Issued(**{name: getattr(row, name) for name in ISSUED}) for row in rows]

    def count_issued(self, where: IssuedFilter) -> int:
        query = select(func.count()).select_from(trust_issued).where(trust_issued.c.expires > where.now)
        for name in ISSUED_FIELDS:
            if wanted := getattr(where, name):
                query = query.where(trust_issued.c[name] == wanted)
        return self._conn.scalar(query) or 0

    def forget_issued(self, before: datetime, *, limit: int = 10_000) -> int:
        old = select(trust_issued.c.id).where(trust_issued.c.expires <= before).limit(limit)
        return self._conn.execute(delete(trust_issued).where(trust_issued.c.id.in_(old))).rowcount

    # Bundle.

    def bundle_sequence(self) -> int:
        return self._conn.scalar(select(trust_bundle.c.sequence)) or 0

    def advance_bundle_sequence(self) -> int:
        query = select(trust_bundle.c.sequence).with_for_update()
        sequence = (self._conn.scalar(query) or 0) + 1
        upsert(self._conn, trust_bundle, [{"id": 1, "sequence": sequence}])
        return sequence


def _from_authority(authority: Authority) -> dict[str, Any]:
    return {
        "id": authority.id,
        "kind": authority.kind.value,
        "state": authority.state.value,
        "public": authority.public,
        "chain": [one.hex() for one in authority.chain],
        "created": authority.created,
        "expires": authority.expires,
        "activated": authority.activated,
        "ended": authority.ended,
        "signature": authority.signature,
    }


def _to_authority(row: Row[Any]) -> Authority:
    return Authority(
        id=row.id,
        kind=AuthorityKind(row.kind),
        state=AuthorityState(row.state),
        public=row.public,
        chain=tuple(bytes.fromhex(one) for one in row.chain),
        created=row.created,
        expires=row.expires,
        activated=row.activated,
        ended=row.ended,
        signature=row.signature,
    )


def _from_entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "key": entry.key,
        "spiffe_id": str(entry.spiffe_id),
        "selectors": sorted(str(selector) for selector in entry.selectors),
        "x509_ttl": int(entry.x509_ttl.total_seconds()),
        "jwt_ttl": int(entry.jwt_ttl.total_seconds()),
        "hint": entry.hint,
        "identity": entry.identity,
        "federates_with": list(entry.federates_with),
        "created": entry.created,
        "signature": entry.signature,
    }


def _to_entry(row: Row[Any]) -> Entry:
    return Entry(
        id=row.id,
        spiffe_id=SpiffeId.parse(row.spiffe_id),
        selectors=frozenset(Selector.parse(text) for text in row.selectors),
        x509_ttl=timedelta(seconds=row.x509_ttl),
        jwt_ttl=timedelta(seconds=row.jwt_ttl),
        hint=row.hint,
        identity=row.identity,
        federates_with=tuple(row.federates_with),
        created=row.created,
        signature=row.signature,
    )
