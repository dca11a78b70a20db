"""Tables of governance: people, teams, used nonces, identities without owner, exceptions."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

governance_person = Table(
    "governance_person",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("email", String(254), nullable=False, unique=True),
    Column("public_key", String(64), nullable=False, unique=True),
    Column("active", Boolean, nullable=False),
    Column("enrolled", Moment, nullable=False),
    Column("enrolled_by", String(200), nullable=False),
    Column("deactivated", Moment),
)

governance_team = Table(
    "governance_team",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("lead", String(64), nullable=False, index=True),
    Column("active", Boolean, nullable=False),
    Column("registered", Moment, nullable=False),
    Column("registered_by", String(200), nullable=False),
    Column("members", JsonText, nullable=False),
)

governance_team_proposal = Table(
    "governance_team_proposal",
    metadata,
    Column("team", String(128), primary_key=True),
    Column("content", JsonText, nullable=False),
    Column("signature", Text, nullable=False),
)
"""Teams that wait for a second person."""

governance_nonce = Table(
    "governance_nonce",
    metadata,
    Column("person", String(64), primary_key=True),
    Column("nonce", String(64), primary_key=True),
    Column("expires", Moment, nullable=False, index=True),
)
"""Signed commands that were used; a row may go once its command could not pass any more."""

governance_orphan = Table(
    "governance_orphan",
    metadata,
    Column("identity", String(32), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("opened", Moment, nullable=False),
    Column("deadline", Moment, nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("closed", Moment),
    Index("ix_governance_orphan_due", "outcome", "deadline"),
)

governance_exception = Table(
    "governance_exception",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rule", String(200), nullable=False, index=True),
    Column("identities", JsonText, nullable=False),
    Column("actions", JsonText, nullable=False),
    Column("resource", String(1001), nullable=False),
    Column("reason", Text, nullable=False),
    Column("compensating", JsonText, nullable=False),
    Column("requester", String(200), nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("status", String(20), nullable=False),
    Column("approver", String(200), nullable=False),
    Column("approved", Moment),
    Column("renewals", Integer, nullable=False),
    Column("approvers", JsonText, nullable=False),
    Column("signature", Text, nullable=False),
    Column("ended", Moment),
    Column("ended_by", String(200), nullable=False),
    Column("ended_reason", Text, nullable=False),
    Index("ix_governance_exception_force", "status", "expires"),
)
