"""The table of static secrets that gateways inject."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

access_secret = Table(
    "access_secret",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("resources", JsonText, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fingerprint", String(80), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(400), nullable=False),
    Column("changed", Moment, nullable=False),
    Column("changed_by", String(400), nullable=False),
    Column("signature", Text, nullable=False),
)
"""A row counts only while its signature verifies; `sealed` is the value."""

access_secret_change = Table(
    "access_secret_change",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed_old", LargeBinary, nullable=False),
    Column("sealed_new", LargeBinary, nullable=False),
    Column("begun", Moment, nullable=False),
)
"""A value that is being replaced, and the one that replaces it, until the old one was refused."""
