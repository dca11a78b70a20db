"""Tables of network segments: where tasks come from, which rules of ours hold, and what was seen of them."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText

access_segment_place = Table(
    "access_segment_place",
    metadata,
    Column("subject", String(96), primary_key=True),
    Column("content", JsonText, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""A row counts only while its signature verifies: it says from where a task may come."""

access_segment = Table(
    "access_segment",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("form", String(16), primary_key=True),
    Column("content", JsonText, nullable=False),
    Column("signature", String(400), nullable=False),
)

access_segment_probe = Table(
    "access_segment_probe",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("form", String(16), primary_key=True),
    Column("content", JsonText, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""The newest probe of each; all of them are in the ledger."""
