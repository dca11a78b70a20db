"""Tables of what was done: actions on resources by each name, and how much of it is not kept."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

inventory_deed = Table(
    "inventory_deed",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(1000), nullable=False, index=True),
    Column("action", String(200), nullable=False),
    Column("resource", String(600), nullable=False),
    Column("wide", Boolean, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("first", Moment, nullable=False),
    Column("last", Moment, nullable=False),
    Column("days", JsonText, nullable=False),
    Column("addresses", JsonText, nullable=False),
)
"""`id` is the digest of name, action and resource."""

inventory_deed_beyond = Table(
    "inventory_deed_beyond",
    metadata,
    Column("name", String(1000), primary_key=True),
    Column("count", BigInteger, nullable=False),
)
"""Acts that were counted and of which no row tells."""
