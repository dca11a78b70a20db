"""Tables of access: targets, task definitions, grants, leases, and versions of the policy set."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

access_target = Table(
    "access_target",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("system", String(40), nullable=False),
    Column("host", String(400), nullable=False),
    Column("port", Integer, nullable=False),
    Column("database", String(200), nullable=False),
    Column("login", String(200), nullable=False),
    Column("roles", JsonText, nullable=False),
    Column("options", JsonText, nullable=False),
    Column("instance", String(200), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("signature", Text, nullable=False),
)
"""Systems on which leases are minted; `sealed` is the admin secret."""

access_task = Table(
    "access_task",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("identity", String(1000), nullable=False, index=True),
    Column("program", JsonText, nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("signature", Text, nullable=False),
    Column("uid", BigInteger),
)

access_grant = Table(
    "access_grant",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("identity", String(1000), nullable=False, index=True),
    Column("task", String(80), nullable=False),
    Column("task_digest", String(80), nullable=False),
    Column("needs", JsonText, nullable=False),
    Column("decision", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("state", String(12), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("approvals", JsonText, nullable=False),
    Column("signature", Text, nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("process", JsonText),
    Column("proven", JsonText, nullable=False),
    Column("ended", Moment),
    Column("terms", JsonText),
    Column("review", JsonText),
    Index("ix_access_grant_task_state", "task", "state"),
    Index("ix_access_grant_state_id", "state", "id"),
)

access_lease = Table(
    "access_lease",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("grant_id", String(32), nullable=False, index=True),
    Column("identity", String(1000), nullable=False, index=True),
    Column("task", String(80), nullable=False, index=True),
    Column("target", String(64), nullable=False),
    Column("need", String(600), nullable=False),
    Column("principal", String(64), nullable=False, unique=True),
    Column("state", String(12), nullable=False),
    Column("process", JsonText),
    Column("created", Moment, nullable=False),
    Column("expires", Moment, nullable=False),
    Column("revoked", Moment),
    Column("reason", String(1000), nullable=False),
    Column("proof", JsonText, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("role", String(200), nullable=False),
    Column("database", String(200), nullable=False),
    Column("request", JsonText, nullable=False),
    Column("holder", String(40), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("issued", Moment),
    Column("trouble", String(1000), nullable=False),
    Index("ix_access_lease_state_id", "state", "id"),
    Index("ix_access_lease_target_state", "target", "state"),
)
"""`epoch` fences: every write names the one it read, and taking a lease over makes the next."""

access_holder = Table(
    "access_holder",
    metadata,
    Column("holder", String(40), primary_key=True),
    Column("until", Moment, nullable=False),
)
"""Engines that are alive, by heartbeat."""

access_sweep = Table(
    "access_sweep",
    metadata,
    Column("target", String(64), primary_key=True),
    Column("holder", String(40), nullable=False),
    Column("until", Moment, nullable=False),
)
"""Who sweeps a target, so that two engines never report the same orphan."""

access_policy_version = Table(
    "access_policy_version",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("text", Text, nullable=False),
    Column("cases", Text, nullable=False),
    Column("invariants", Text, nullable=False),
    Column("digest", String(80), nullable=False),
    Column("created", Moment, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("signature", Text, nullable=False),
    Column("serial", Integer, nullable=False),
    Column("activated", Moment),
    Column("activated_by", String(200), nullable=False),
)
