"""Rows of static secrets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from remit.access.secrets import StaticSecret
from remit.storage.schema.access_secrets import access_secret, access_secret_change


class SecretRows:
    """Implements `access.secrets.SecretRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def all(self) -> Sequence[StaticSecret]:
        return [_to_secret(row) for row in self._conn.execute(select(access_secret).order_by(access_secret.c.name))]

    def get(self, name: str) -> tuple[StaticSecret, bytes] | None:
        row = self._conn.execute(select(access_secret).where(access_secret.c.name == name)).one_or_none()
        return None if row is None else (_to_secret(row), bytes(row.sealed))

    def put(self, secret: StaticSecret, sealed: bytes) -> None:
        self.remove(secret.name)
        row = {
            "name": secret.name,
            "resources": list(secret.resources),
            "version": secret.version,
            "fingerprint": secret.fingerprint,
            "sealed": sealed,
            "created": secret.created,
            "created_by": secret.created_by,
            "changed": secret.changed,
            "changed_by": secret.changed_by,
            "signature": secret.signature,
        }
        self._conn.execute(insert(access_secret), row)

    def remove(self, name: str) -> bool:
        return self._conn.execute(delete(access_secret).where(access_secret.c.name == name)).rowcount > 0

    def change(self, name: str) -> tuple[bytes, bytes] | None:
        table = access_secret_change
        row = self._conn.execute(select(table).where(table.c.name == name)).one_or_none()
        return None if row is None else (bytes(row.sealed_old), bytes(row.sealed_new))

    def begin_change(self, name: str, old: bytes, new: bytes, now: datetime) -> None:
        row = {"name": name, "sealed_old": old, "sealed_new": new, "begun": now}
        self._conn.execute(insert(access_secret_change), row)

    def end_change(self, name: str) -> None:
        self._conn.execute(delete(access_secret_change).where(access_secret_change.c.name == name))


def _to_secret(row: Row[Any]) -> StaticSecret:
    return StaticSecret(
        name=row.name,
        resources=tuple(row.resources),
        version=row.version,
        fingerprint=row.fingerprint,
        created=row.created,
        created_by=row.created_by,
        changed=row.changed,
        changed_by=row.changed_by,
        signature=row.signature,
    )
