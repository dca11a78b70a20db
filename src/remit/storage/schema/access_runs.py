"""The table of runs far from here: tasks whose life is a heartbeat, or a platform's word."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import Moment

access_run = Table(
    "access_run",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("task", String(80), nullable=False),
    Column("identity", String(1000), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("sender", String(2048), nullable=False),
    Column("key", String(80), nullable=False),
    Column("asked", String(80), nullable=False),
    Column("grant_id", String(32), nullable=False),
    Column("heartbeat", Integer, nullable=False),
    Column("beats", Integer, nullable=False),
    Column("until", Moment, nullable=False),
    Column("boot", String(40), nullable=False),
    Column("ticks", Float, nullable=False),
    Column("begun", Moment, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("ended", Moment),
    Column("why", String(1000), nullable=False),
    Index("ix_access_run_key", "key", unique=True),
    Index("ix_access_run_ended", "ended"),
)
"""`key` is a digest over sender and the client's key; `answer` is sealed, and erased at the end."""
