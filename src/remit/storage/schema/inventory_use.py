"""Tables of use: what logs tell of each name, from when to when they were read, and how far each log was."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

inventory_use = Table(
    "inventory_use",
    metadata,
    Column("name", String(1000), primary_key=True),
    Column("first", Moment, nullable=False),
    Column("last", Moment),
    Column("count", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("days", JsonText, nullable=False),
    Column("consumers", JsonText, nullable=False),
    Column("environments", JsonText, nullable=False),
    Column("people", JsonText, nullable=False),
)

inventory_use_log = Table(
    "inventory_use_log",
    metadata,
    Column("log", String(200), primary_key=True),
    Column("system", String(40), nullable=False),
    Column("instance", String(200), nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("read", Moment, nullable=False),
    Index("ix_inventory_use_log_system", "system", "instance", "read"),
)
"""How far each log was counted: written with what was counted, so that nothing counts twice."""

inventory_use_window = Table(
    "inventory_use_window",
    metadata,
    Column("system", String(40), primary_key=True),
    Column("instance", String(200), primary_key=True),
    Column("since", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("read", Moment, nullable=False),
)
