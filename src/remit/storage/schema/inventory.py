"""Tables of the inventory: the registry's records, and beside them what each source said."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

inventory_source = Table(
    "inventory_source",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("connector", String(40), nullable=False),
    Column("instance", String(200), nullable=False),
    Column("scope", String(1000), nullable=False),
    Column("run", String(32), nullable=False),
    Column("started", Moment, nullable=False),
    Column("finished", Moment),
    Column("counts", JsonText, nullable=False),
    Column("skipped", JsonText, nullable=False),
    Index("uq_inventory_source_place", "connector", "instance", "scope", unique=True),
)

inventory_identity = Table(
    "inventory_identity",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(1000), nullable=False, unique=True),
    Column("kind", String(40), nullable=False, index=True),
    Column("title", String(400), nullable=False, index=True),
    Column("system", String(40), nullable=False, index=True),
    Column("instance", String(200), nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("owner", String(200), index=True),
    Column("environment", String(80), index=True),
    Column("service", String(200)),
    Column("purpose", String(400)),
    Column("autonomy", String(20)),
    Column("tier", Integer, index=True),
    Column("privileged", Boolean, nullable=False),
    Column("created", Moment),
    Column("last_used", Moment, index=True),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("merged_into", String(32)),
    Column("attributes", JsonText, nullable=False),
)

inventory_alias = Table(
    "inventory_alias",
    metadata,
    Column("name", String(1000), primary_key=True),
    Column("identity", String(32), ForeignKey("inventory_identity.id"), nullable=False, index=True),
    Column("evidence", String(400), nullable=False),
    Column("since", Moment, nullable=False),
)

inventory_credential = Table(
    "inventory_credential",
    metadata,
    Column("fingerprint", String(140), primary_key=True),
    Column("identity", String(32), ForeignKey("inventory_identity.id"), nullable=False, index=True),
    Column("kind", String(40), nullable=False, index=True),
    Column("title", String(400), nullable=False),
    Column("state", String(20), nullable=False),
    Column("issued", Moment),
    Column("expires", Moment),
    Column("last_used", Moment),
    Column("manager", String(80)),
    Column("exposed", Boolean, nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("attributes", JsonText, nullable=False),
)

inventory_resource = Table(
    "inventory_resource",
    metadata,
    Column("name", String(1000), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("title", String(400), nullable=False),
    Column("system", String(40), nullable=False),
    Column("sensitivity", String(20)),
    Column("sensitivity_confirmed", Boolean, nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("attributes", JsonText, nullable=False),
)

inventory_sighting = Table(
    "inventory_sighting",
    metadata,
    Column("source", String(32), ForeignKey("inventory_source.id"), primary_key=True),
    Column("kind", String(12), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("node", String(1000), nullable=False, index=True),
    Column("run", String(32), nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("place", String(1400), nullable=False),
    Column("fact", JsonText, nullable=False),
)
"""One fact as one source said it.

`key` is the digest of what makes it the same fact; `run` the last run that saw it.
"""

inventory_edge = Table(
    "inventory_edge",
    metadata,
    Column("source", String(32), ForeignKey("inventory_source.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("run", String(32), nullable=False),
    Column("tail", String(1000), nullable=False, index=True),
    Column("relation", String(20), nullable=False),
    Column("head", String(1000), nullable=False, index=True),
    Column("actions", JsonText, nullable=False),
    Column("conditions", JsonText, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("place", String(1400), nullable=False),
    Column("cut", Text, nullable=False),
)

inventory_finding = Table(
    "inventory_finding",
    metadata,
    Column("source", String(32), ForeignKey("inventory_source.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("run", String(32), nullable=False),
    Column("rule", String(80), nullable=False, index=True),
    Column("severity", String(10), nullable=False, index=True),
    Column("rank", Integer, nullable=False, index=True),
    Column("title", String(400), nullable=False),
    Column("detail", Text, nullable=False),
    Column("next_step", Text, nullable=False),
    Column("subject", String(1000), index=True),
    Column("place", String(1400), nullable=False),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
)

inventory_owner = Table(
    "inventory_owner",
    metadata,
    Column("source", String(32), ForeignKey("inventory_source.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("run", String(32), nullable=False),
    Column("identity", String(1000), nullable=False, index=True),
    Column("owner", String(200), nullable=False, index=True),
    Column("method", String(20), nullable=False),
    Column("evidence", String(1000), nullable=False),
    Column("confidence", Integer, nullable=False),
    Column("place", String(1400), nullable=False),
)
"""Proposals of owners, by the name that the source used for the identity."""
