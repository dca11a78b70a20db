"""Rows of trust's proof desk."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from remit.storage.schema.trust_proofs import trust_proof_seen


class ProofRows:
    """Implements `trust.spent.SpentRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def spend(self, digest: str, *, attestor: str, until: datetime, now: datetime) -> bool:
        dialect = postgresql if self._conn.dialect.name == "postgresql" else sqlite
        row = {"digest": digest, "attestor": attestor, "seen": now, "until": until}
        statement = dialect.insert(trust_proof_seen).values(row).on_conflict_do_nothing(index_elements=["digest"])
        return self._conn.execute(statement).rowcount == 1

    def held(self) -> int:
        return self._conn.scalar(select(func.count()).select_from(trust_proof_seen)) or 0

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        old = select(trust_proof_seen.c.digest).where(trust_proof_seen.c.until <= before).limit(limit)
        return self._conn.execute(delete(trust_proof_seen).where(trust_proof_seen.c.digest.in_(old))).rowcount
