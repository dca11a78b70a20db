"""Tables of standing privilege: rights and the time for which they stood, days, and conversions to grants."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, String, Table

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

governance_standing = Table(
    "governance_standing",
    metadata,
    Column("identity", String(32), primary_key=True),
    Column("head", String(1000), primary_key=True),
    Column("since", Moment, primary_key=True),
    Column("seen", Moment, nullable=False),
    Column("until", Moment, index=True),
    Column("level", String(20), nullable=False),
    Column("actions", JsonText, nullable=False),
)
"""One privileged right outside of grants, and for how long it was seen to stand."""

governance_standing_day = Table(
    "governance_standing_day",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("privileged_hours", Float),
    Column("right_hours", Float),
    Column("granted_hours", Float, nullable=False),
    Column("identities", Integer, nullable=False),
    Column("final", Boolean, nullable=False),
)
"""The total of a day (UTC) that is over; hours are null where nothing was observed."""

governance_conversion = Table(
    "governance_conversion",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("identity", String(32), nullable=False, index=True),
    Column("phase", String(16), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("content", JsonText, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("signature", String(400), nullable=False),
)
"""A standing login on its way to a grant; counts only while its signature verifies. `sealed` is the way back."""
