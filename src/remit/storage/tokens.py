"""Rows of trust's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from remit.storage.schema.trust_tokens import token_client, token_grant, token_spent
from remit.storage.schema.types import micros
from remit.storage.upsert import upsert
from remit.trust.tokens.model import Client, Spend, TokenGrant

_SPEND = "INSERT INTO token_spent (key, until) VALUES (?, ?) ON CONFLICT DO NOTHING"
_ENDING = (
    (token_spent, token_spent.c.key, token_spent.c.until),
    (token_grant, token_grant.c.id, token_grant.c.expires),
)


class TokenRows:
    """Implements `trust.tokens.ports.TokenRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # Clients.

    def clients(self) -> Sequence[Client]:
        return [_to_client(row) for row in self._conn.execute(select(token_client).order_by(token_client.c.id))]

    def put_client(self, client: Client) -> None:
        upsert(self._conn, token_client, [_from_client(client)])

    def remove_client(self, client_id: str) -> bool:
        return self._conn.execute(delete(token_client).where(token_client.c.id == client_id)).rowcount > 0

    # Proofs that count once.

    def spend(self, spend: Spend) -> bool:
        if self._conn.dialect.name == "sqlite":
            # The hot path of the embedded store: past the type machinery.
            return self._conn.exec_driver_sql(_SPEND, (spend.key, micros(spend.until))).rowcount > 0
        statement = postgresql.insert(token_spent).on_conflict_do_nothing()
        return self._conn.execute(statement, {"key": spend.key, "until": spend.until}).rowcount > 0

    # Grants.

    def add_grant(self, grant: TokenGrant) -> None:
        dialect = postgresql if self._conn.dialect.name == "postgresql" else sqlite
        self._conn.execute(dialect.insert(token_grant), _from_grant(grant))

    def grant(self, grant_id: str) -> TokenGrant | None:
        row = self._conn.execute(select(token_grant).where(token_grant.c.id == grant_id)).one_or_none()
        return None if row is None else _to_grant(row)

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        gone = 0
        for table, key, end in _ENDING:
            old = select(key).where(end <= before).limit(limit - gone)
            gone += self._conn.execute(delete(table).where(key.in_(old))).rowcount
        return gone


def _from_client(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "name": client.name,
        "identity": client.identity,
        "spiffe_id": client.spiffe_id,
        "keys": [dict(key) for key in client.keys],
        "resources": list(client.resources),
        "sensitivity": client.sensitivity,
        "may_act": client.may_act,
        "created": client.created,
        "created_by": client.created_by,
        "signature": client.signature,
    }


def _to_client(row: Row[Any]) -> Client:
    return Client(
        id=row.id,
        name=row.name,
        identity=row.identity,
        spiffe_id=row.spiffe_id,
        keys=tuple(row._mapping["keys"]),
        resources=tuple(row.resources),
        sensitivity=row.sensitivity,
        may_act=row.may_act,
        created=row.created,
        created_by=row.created_by,
        signature=row.signature,
    )


def _from_grant(grant: TokenGrant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "identity": grant.identity,
        "subject": grant.subject,
        "actors": list(grant.actors),
        "resources": list(grant.resources),
        "scopes": list(grant.scopes),
        "details": [dict(each) for each in grant.details],
        "anchor": grant.anchor,
        "decisions": list(grant.decisions),
        "method": grant.method,
        "attested": grant.attested,
        "attested_at": grant.attested_at,
        "created": grant.created,
        "expires": grant.expires,
        "signature": grant.signature,
    }


def _to_grant(row: Row[Any]) -> TokenGrant:
    return TokenGrant(
        id=row.id,
        identity=row.identity,
        subject=row.subject,
        actors=tuple(row.actors),
        resources=tuple(row.resources),
        scopes=tuple(row.scopes),
        details=tuple(row.details),
        anchor=row.anchor,
        decisions=tuple(row.decisions),
        method=row.method,
        attested=bool(row.attested),
        attested_at=row.attested_at,
        created=row.created,
        expires=row.expires,
        signature=row.signature,
    )
