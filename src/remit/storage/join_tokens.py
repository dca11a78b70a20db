"""Rows of join tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from remit.storage.schema.trust_join import trust_join_token
from remit.trust.attestors.join_token import JoinToken


class JoinTokenRows:
    """Implements `trust.attestors.join_token.JoinTokenRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def add(self, token: JoinToken) -> None:
        row = {name: getattr(token, name) for name in trust_join_token.c.keys()}  # noqa: SIM118 (a collection, no dict)
        self._conn.execute(insert(trust_join_token), {**row, "labels": list(token.labels)})

    def get(self, token_id: str) -> JoinToken | None:
        query = select(trust_join_token).where(trust_join_token.c.id == token_id)
        row = self._conn.execute(query).one_or_none()
        return None if row is None else _to_token(row)

    def spend(self, token_id: str, at: datetime) -> bool:
        statement = update(trust_join_token).where(
            trust_join_token.c.id == token_id, trust_join_token.c.spent.is_(None)
        )
        return self._conn.execute(statement.values(spent=at)).rowcount == 1

    def list(self, *, after: str = "", limit: int = 1000) -> Sequence[JoinToken]:
        query = select(trust_join_token).where(trust_join_token.c.id > after).order_by(trust_join_token.c.id)
        return [_to_token(row) for row in self._conn.execute(query.limit(limit))]

    def remove(self, token_id: str) -> bool:
        return self._conn.execute(delete(trust_join_token).where(trust_join_token.c.id == token_id)).rowcount == 1

    def forget(self, before: datetime, *, limit: int = 1000) -> int:
        old = select(trust_join_token.c.id).where(trust_join_token.c.expires <= before).limit(limit)
        return self._conn.execute(delete(trust_join_token).where(trust_join_token.c.id.in_(old))).rowcount


def _to_token(row: Row[Any]) -> JoinToken:
    return JoinToken(
        id=row.id,
        name=row.name,
        labels=tuple(row.labels),
        digest=row.digest,
        created=row.created,
        expires=row.expires,
        spent=row.spent,
        signature=row.signature,
    )
