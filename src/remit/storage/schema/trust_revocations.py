"""Tables of trust's revocations: what was revoked, what fell with it, and the lists that say so to others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

trust_revocation = Table(
    "trust_revocation",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("version", BigInteger, nullable=False, unique=True),
    Column("subject", Text, nullable=False),
    Column("members", JsonText, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("blocks", Boolean, nullable=False),
    Column("fell", JsonText, nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("restored_at", Moment),
    Column("restored_by", Text, nullable=False),
    Column("signature", Text, nullable=False),
)
"""`signature` is of the restoration; it is kept until everything that it covers has expired."""

trust_fallen = Table(
    "trust_fallen",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(24), nullable=False),
    Column("authority", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("revocation", String(32), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
)
"""Each SVID and token that fell, as long as its revocation is kept."""

trust_revocation_clock = Table(
    "trust_revocation_clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row, id 1: the version that was given last."""

trust_status_list = Table(
    "trust_status_list",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seed", LargeBinary, nullable=False),
    Column("given", Integer, nullable=False),
    Column("until", Moment, nullable=False),
)
"""`given` places of the list are taken; after `until` nothing valid names it. `seed` orders the places."""
