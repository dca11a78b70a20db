"""The table of right-sizing: proposals on their way into force."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText

governance_rightsizing = Table(
    "governance_rightsizing",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("identity", String(32), nullable=False, index=True),
    Column("phase", String(16), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("content", JsonText, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""Counts only while its signature verifies: what takes a change back is in it."""
