"""Rows of path-proof bindings."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from remit.governance.pathproof.bindings import Binding
from remit.storage.schema.governance_pathproof import governance_proof_binding


class PathProofRows:
    """Implements `governance.pathproof.bindings.BindingRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def all(self) -> Sequence[Binding]:
        table = governance_proof_binding
        rows = self._conn.execute(select(table).order_by(table.c.created, table.c.id)).mappings()
        return [
            Binding(**{**row, "identities": tuple(row["identities"]), "resources": tuple(row["resources"])})
            for row in rows
        ]

    def put(self, binding: Binding) -> None:
        row = {**binding.content(), "created": binding.created, "signature": binding.signature}
        self._conn.execute(insert(governance_proof_binding), row)

    def remove(self, binding: str) -> bool:
        table = governance_proof_binding
        return self._conn.execute(delete(table).where(table.c.id == binding)).rowcount > 0
