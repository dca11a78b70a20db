"""The table of join tokens."""

from __future__ import annotations

from sqlalchemy import Column, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

trust_join_token = Table(
    "trust_join_token",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("labels", JsonText, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False, index=True),
    Column("spent", Moment),
    Column("signature", Text, nullable=False),
)
"""`digest` is the SHA-256 of a secret of 256 random bits: who reads it can join nothing."""
