"""The table of downstreams: who may have an intermediate authority."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import Moment

trust_downstream = Table(
    "trust_downstream",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("spiffe_id", String(2048), nullable=False, unique=True),
    Column("lifetime", Integer, nullable=False),
    Column("created", Moment, nullable=False),
    Column("by", String(400), nullable=False),
    Column("signature", Text, nullable=False),
)
"""`lifetime` is in seconds; a row counts only while its signature verifies."""
