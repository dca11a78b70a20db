"""The table of enforcement points: who may ask for decisions about others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

access_enforcer = Table(
    "access_enforcer",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("spiffe_id", String(2048), nullable=False),
    Column("uid", BigInteger),
    Column("fulfils", JsonText, nullable=False),
    Column("vouches", JsonText, nullable=False),
    Column("resources", JsonText, nullable=False),
    Column("actions", JsonText, nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(400), nullable=False),
    Column("signature", Text, nullable=False),
)
"""A row counts only while its signature verifies."""
