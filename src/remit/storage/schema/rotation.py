"""Tables of rotation: what is rotated, and how each rotation went."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

access_rotation = Table(
    "access_rotation",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("content", JsonText, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""A row counts only while its signature verifies; `sealed` is the secret that counts, as far as it is known."""

access_rotation_run = Table(
    "access_rotation_run",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("plan", String(64), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("started", Moment, nullable=False),
    Column("content", JsonText, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("signature", String(400), nullable=False),
    Index("ix_access_rotation_run_plan", "plan"),
    Index("ix_access_rotation_run_phase", "phase"),
)
"""`sealed` holds both versions and what each place held before; it is emptied when the rotation has ended."""
