"""Tables of the token service: clients, grants of tokens, proofs that count once."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

token_client = Table(
    "token_client",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("identity", String(32), nullable=False, index=True),
    Column("spiffe_id", String(2048), nullable=False),
    Column("keys", JsonText, nullable=False),
    Column("resources", JsonText, nullable=False),
    Column("sensitivity", String(16), nullable=False),
    Column("may_act", String(2048), nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("signature", Text, nullable=False),
)
"""`keys` are public JWKs."""

token_grant = Table(
    "token_grant",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("identity", String(32), nullable=False, index=True),
    Column("subject", String(2048), nullable=False),
    Column("actors", JsonText, nullable=False),
    Column("resources", JsonText, nullable=False),
    Column("scopes", JsonText, nullable=False),
    Column("details", JsonText, nullable=False),
    Column("anchor", String(32), nullable=False),
    Column("decisions", JsonText, nullable=False),
    Column("method", String(40), nullable=False),
    Column("attested", Boolean, nullable=False),
    Column("attested_at", Moment),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False, index=True),
    Column("signature", Text, nullable=False),
)
"""What the decision point gave, for minutes; the ledger keeps it for ever."""

token_spent = Table(
    "token_spent",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("until", Moment, nullable=False, index=True),
)
"""SHA-256 of each proof that was shown and could be shown again."""
