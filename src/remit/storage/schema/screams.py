"""The table of scream tests: who was held back, when, and who cried out."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText

governance_scream = Table(
    "governance_scream",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("identity", String(32), nullable=False, index=True),
    Column("environment", String(200), nullable=False),
    Column("phase", String(16), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("content", JsonText, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""Counts only while its signature verifies: what is restored is in it."""
