"""The table of path-proof bindings: which identities are an enforcement point's own."""

from __future__ import annotations

from sqlalchemy import Column, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

governance_proof_binding = Table(
    "governance_proof_binding",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("enforcer", String(32), nullable=False),
    Column("identities", JsonText, nullable=False),
    Column("resources", JsonText, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(400), nullable=False),
    Column("signature", Text, nullable=False),
)
"""A row counts only while its signature verifies."""
