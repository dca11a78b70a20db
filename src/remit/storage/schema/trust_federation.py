"""Tables of federation: relations with partners, and the last bundle that was fetched of each."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

trust_relation = Table(
    "trust_relation",
    metadata,
    Column("trust_domain", String(255), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("url", String(2000), nullable=False),
    Column("profile", String(16), nullable=False),
    Column("endpoint_id", String(2048), nullable=False),
    Column("until", Moment, nullable=False),
    Column("ids", JsonText, nullable=False),
    Column("resources", JsonText, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("created", Moment, nullable=False),
    Column("policy", Text, nullable=False),
    Column("signature", Text, nullable=False),
)

trust_foreign_bundle = Table(
    "trust_foreign_bundle",
    metadata,
    Column("trust_domain", String(255), primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("fetched", Moment, nullable=False),
    Column("signature", Text, nullable=False),
)
"""`document` is what the partner served, byte for byte: public, and signed here against whoever would change it."""
