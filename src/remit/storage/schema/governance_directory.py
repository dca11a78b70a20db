"""Tables of the directory: people elsewhere, their teams, and who was asked to own what."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

governance_member = Table(
    "governance_member",
    metadata,
    Column("email", String(254), primary_key=True),
    Column("display", String(200), nullable=False),
    Column("manager", String(254), nullable=False, index=True),
    Column("source", String(200), nullable=False, index=True),
    Column("since", Moment),
    Column("left", Moment),
)
"""People of a directory; one who left stays, with the moment."""

governance_group = Table(
    "governance_group",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("source", String(200), nullable=False, index=True),
    Column("members", JsonText, nullable=False),
)

governance_group_member = Table(
    "governance_group_member",
    metadata,
    Column("email", String(254), primary_key=True),
    Column("name", String(128), primary_key=True),
)

governance_ask = Table(
    "governance_ask",
    metadata,
    Column("identity", String(32), primary_key=True),
    Column("step", Integer, nullable=False),
    Column("asked", String(200), nullable=False),
    Column("why", String(400), nullable=False),
    Column("since", Moment, nullable=False),
    Column("deadline", Moment, nullable=False),
    Column("status", String(20), nullable=False),
    Index("ix_governance_ask_due", "status", "deadline"),
)
"""Who is asked to answer for an identity that nobody owns, and until when."""
