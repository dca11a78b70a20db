"""The table of leaked credentials that are, or were, driven to their end."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

defense_leak = Table(
    "defense_leak",
    metadata,
    Column("fingerprint", String(140), primary_key=True),
    Column("stage", String(20), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("found", Moment, nullable=False),
    Column("moved", Moment, nullable=False),
    Column("content", JsonText, nullable=False),
    Index("ix_defense_leak_stage", "stage"),
)
"""What is true of a credential its own system says: a row here gives no authority, and closes nothing there."""
