"""The table of the trend of blast radii: one row a day for each subject."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

governance_radius = Table(
    "governance_radius",
    metadata,
    Column("subject", String(64), primary_key=True),
    Column("day", String(10), primary_key=True, index=True),
    Column("at", Moment, nullable=False),
    Column("score", BigInteger, nullable=False),
    Column("certain_score", BigInteger, nullable=False),
    Column("resources", BigInteger, nullable=False),
    Column("becomes", BigInteger, nullable=False),
    Column("by_sensitivity", JsonText, nullable=False),
    Column("highest", BigInteger, nullable=False),
    Column("changes", Integer, nullable=False),
)
"""A measurement, not authority: nothing is decided by it."""
