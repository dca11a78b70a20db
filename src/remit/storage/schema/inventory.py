"""Tables of the inventory: the registry's records, and beside them what each source said."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, text

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
    Column("record_of", JsonText, nullable=False),
    Column("attempt", String(32), nullable=False),
    Column("asked", String(64), nullable=False),
    Column("marks", JsonText),
    Column("marks_new", JsonText),
    Index("uq_inventory_source_place", "connector", "instance", "scope", unique=True),
)

_LISTED: Any = {
    "sqlite_where": text("present = 1 AND merged_into IS NULL"),
    "postgresql_where": text("present AND merged_into IS NULL"),
}
"""What a list shows, unless it is asked for what is gone: one small index for each order, and one for filters."""

inventory_identity = Table(
    "inventory_identity",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(1000), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("title", String(400), nullable=False, index=True),
    Column("system", String(40), nullable=False),
    Column("instance", String(200), nullable=False),
    Column("state", String(20), nullable=False),
    Column("owner", String(200), index=True),
    Column("environment", String(80)),
    Column("service", String(200)),
    Column("purpose", String(400)),
    Column("autonomy", String(20)),
    Column("tier", Integer),
    Column("privileged", Boolean, nullable=False),
    Column("created", Moment),
    Column("last_used", Moment),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("merged_into", String(32)),
    Column("attributes", JsonText, nullable=False),
    Index("ix_inventory_identity_by_title", "title", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_kind", "kind", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_system", "system", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_environment", "environment", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_owner", "owner", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_state", "state", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_tier", "tier", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_last_used", "last_used", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_first_seen", "first_seen", "id", "present", "merged_into", **_LISTED),
    Index("ix_inventory_identity_by_last_seen", "last_seen", "id", "present", "merged_into", **_LISTED),
    Index(
        "ix_inventory_identity_filters",
        "kind", "system", "environment", "state", "privileged", "owner", "id", "present", "merged_into",
        **_LISTED,
    ),
    Index(
        "ix_inventory_identity_privileged",
        "system", "environment", "kind", "state", "owner", "id", "present", "merged_into", "privileged",
        sqlite_where=text("present = 1 AND merged_into IS NULL AND privileged = 1"),
        postgresql_where=text("present AND merged_into IS NULL AND privileged"),
    ),
    Index(
        "ix_inventory_identity_merged_into",
        "merged_into",
        sqlite_where=text("merged_into IS NOT NULL"),
        postgresql_where=text("merged_into IS NOT NULL"),
    ),
)  # fmt: skip

inventory_tally = Table(
    "inventory_tally",
    metadata,
    Column("field", String(20), primary_key=True),
    Column("value", String(80), primary_key=True),
    Column("number", Integer, nullable=False),
)
"""How many listed identities have each value; kept with every change, so that nobody counts a million rows."""

inventory_history = Table(
    "inventory_history",
    metadata,
    Column("kind", String(10), primary_key=True),
    Column("key", String(140), primary_key=True),
    Column("since", Moment, primary_key=True),
    Column("until", Moment),
    Column("one", String(1000), nullable=False, index=True),
    Column("two", String(1000), index=True),
    Column("data", JsonText, nullable=False),
    Index("ix_inventory_history_since", "since"),
    Index(
        "ix_inventory_history_until",
        "until",
        sqlite_where=text("until IS NOT NULL"),
        postgresql_where=text("until IS NOT NULL"),
    ),
)
"""What held from `since` until before `until`: identities, credentials, resources, edges; a row where one changed.

`one` is the name of an identity or a resource, the identity of a credential, the tail of an edge; `two` the head of
an edge.
"""

inventory_join = Table(
    "inventory_join",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("name", String(1000), nullable=False, index=True),
    Column("other", String(1000), nullable=False, index=True),
    Column("how", String(20), nullable=False),
    Column("source", String(32), ForeignKey("inventory_source.id")),
    Column("by", String(200), nullable=False),
    Column("evidence", String(1000), nullable=False),
    Column("confidence", Integer, nullable=False),
    Column("since", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
)
"""Why two names are one identity; kept after a split, as what was said."""

inventory_apart = Table(
    "inventory_apart",
    metadata,
    Column("one", String(32), ForeignKey("inventory_identity.id"), primary_key=True),
    Column("other", String(32), ForeignKey("inventory_identity.id"), primary_key=True, index=True),
    Column("name", String(1000), nullable=False),
    Column("by", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("since", Moment, nullable=False),
)
"""Identities that a person split: no source joins them again. `one` < `other`."""

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
    Index(
        "ix_inventory_credential_exposed",
        "identity",
        sqlite_where=text("exposed = 1 AND present = 1"),
        postgresql_where=text("exposed AND present"),
    ),
    Index("ix_inventory_credential_expires", "expires", "identity"),
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
    Column("confidence", Integer, nullable=False),
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
    Column("changed", Moment),
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
    Column("at", Moment),
)
"""Proposals of owners, by the name that the source used for the identity."""
