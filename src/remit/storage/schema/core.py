"""Tables that belong to no capability: the ledger's rows, its signed heads, and the keys."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import Moment

ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("leaf_index", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False, unique=True),
    Column("type", String(80), nullable=False, index=True),
    Column("time", Moment, nullable=False),
    Column("actor", String(400), nullable=False),
    Column("subject", String(1000), nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
)
"""One row is one leaf, in commit order. It is the outbox too: a reader of the feed keeps the index that it has seen."""

ledger_body = Table(
    "ledger_body",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
"""Data of an entry that is too large for a leaf; the leaf holds its digest."""

ledger_head = Table(
    "ledger_head",
    metadata,
    Column("size", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("time", Moment, nullable=False),
    Column("note", LargeBinary, nullable=False),
)
"""Signed checkpoints, as they were published."""

authority_journal = Table(
    "authority_journal",
    metadata,
    Column("serial", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("mac", String(64), nullable=False),
)
"""What gave or took rights, once more, as a chain under a key of this installation: see `storage.authority`."""

storage_key = Table(
    "storage_key",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("created", Moment, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
"""Data keys wrapped by the key-encryption key, and the installation's own signing keys sealed by a data key."""
