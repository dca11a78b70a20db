"""The table of agents far from the control plane."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

trust_agent = Table(
    "trust_agent",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("spiffe_id", String(2048), nullable=False, unique=True),
    Column("attestor", String(32), nullable=False),
    Column("name", String(200), nullable=False),
    Column("selectors", JsonText, nullable=False),
    Column("state", String(12), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("serial", String(64), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("evidence", String(80), nullable=False),
    Column("attested", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("signature", Text, nullable=False),
    Column("seen", Moment),
    Column("software", String(80), nullable=False),
)
"""`seen` and `software` are not signed; everything else is."""
