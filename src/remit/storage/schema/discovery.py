"""Tables of reading by schedule, of what changed in the last reading of a source, and of saved views."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

inventory_reading = Table(
    "inventory_reading",
    metadata,
    Column("source", String(32), ForeignKey("inventory_source.id"), primary_key=True),
    Column("asked", JsonText, nullable=False),
    Column("begun", Moment),
    Column("finished", Moment),
    Column("diff", JsonText),
    Column("plan", JsonText),
    Column("signature", Text, nullable=False),
    Column("due", Moment, index=True),
    Column("tried", Moment),
    Column("failures", Integer, nullable=False),
    Column("trouble", String(1000), nullable=False),
)
"""How a source was last asked (never its secret), what its last whole run changed, and when it is read again.

`begun` is the start of the first attempt since the last whole run, `plan` the signed terms of a schedule.
"""

inventory_view = Table(
    "inventory_view",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("query", String(2000), nullable=False),
    Column("by", String(200), nullable=False),
    Column("since", Moment, nullable=False),
)
"""A filter of the inventory under a name, for everybody of this installation."""
