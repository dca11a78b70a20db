"""Tables of trust's proof desk: proofs that were shown."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import Moment

trust_proof_seen = Table(
    "trust_proof_seen",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("attestor", String(32), nullable=False),
    Column("seen", Moment, nullable=False),
    Column("until", Moment, nullable=False, index=True),
)
"""`digest` names a proof without being one: it opens nothing. A row is needed until `until`."""
