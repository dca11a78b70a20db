"""Tables of intents, what their sessions used up, and the tools that persons approved."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

access_intent = Table(
    "access_intent",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("task", String(128), nullable=False, index=True),
    Column("agent", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("body", JsonText, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("requested_by", String(400), nullable=False),
    Column("created", Moment, nullable=False),
    Column("approver", String(400), nullable=False),
    Column("approved", Moment),
    Column("reason", Text, nullable=False),
    Column("signature", Text, nullable=False),
)
"""A row counts only while its signature verifies over the digest of its body."""

access_intent_session = Table(
    "access_intent_session",
    metadata,
    Column("intent", String(32), primary_key=True),
    Column("body", JsonText, nullable=False),
    Column("started", Moment, nullable=False),
    Column("tainted", Moment),
    Column("ended", Moment, index=True),
    Column("signature", Text, nullable=False),
)

access_tool = Table(
    "access_tool",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("definition", String(80), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("label", String(16), nullable=False),
    Column("clearance", String(16), nullable=False),
    Column("trusted", Boolean, nullable=False),
    Column("approved", Moment, nullable=False),
    Column("approved_by", String(400), nullable=False),
    Column("signature", Text, nullable=False),
)
