"""What people say of identities, and tiers that wait for a second person."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

governance_word = Table(
    "governance_word",
    metadata,
    Column("identity", String(32), primary_key=True),
    Column("field", String(20), primary_key=True),
    Column("value", String(400), nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", Moment, nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("before", String(400)),
)
"""Shown, and laid over what sources say. What counts in decisions is in the journal of authority.

`before` is what the inventory showed until then, where no source said it.
"""

governance_tier_proposal = Table(
    "governance_tier_proposal",
    metadata,
    Column("identity", String(32), primary_key=True),
    Column("id", String(40), nullable=False),
    Column("tier", Integer),
    Column("content", JsonText, nullable=False),
    Column("at", Moment, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""Counts only while its signature verifies."""
