"""Tables of defense: detections, incidents and their time lines, responses."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from remit.storage.schema import metadata
from remit.storage.schema.types import JsonText, Moment

defense_detection = Table(
    "defense_detection",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rule", String(120), nullable=False),
    Column("identity", String(32), nullable=False),
    Column("title", String(400), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("confidence", Integer, nullable=False),
    Column("evidence", JsonText, nullable=False),
    Column("event_id", String(400), nullable=False),
    Column("happened", Moment, nullable=False),
    Column("detected", Moment, nullable=False),
    Column("suggested", String(40), nullable=False),
    Column("incident", String(32), nullable=False, index=True),
    Column("lease", String(32), nullable=False),
    Index("ix_defense_detection_identity", "identity", "id"),
    Index("ix_defense_detection_storm", "rule", "detected"),
)

defense_incident = Table(
    "defense_incident",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("identity", String(32), nullable=False),
    Column("title", String(400), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("status", String(10), nullable=False),
    Column("opened", Moment, nullable=False),
    Column("happened", Moment, nullable=False),
    Column("detected", Moment, nullable=False),
    Column("updated", Moment, nullable=False),
    Column("detections", Integer, nullable=False),
    Column("contained", Moment),
    Column("proved", Moment),
    Column("closed", Moment),
    Index("ix_defense_incident_identity", "identity", "id"),
    Index("ix_defense_incident_status", "status", "id"),
)

defense_moment = Table(
    "defense_moment",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("incident", String(32), nullable=False),
    Column("time", Moment, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("text", String(400), nullable=False),
    Column("data", JsonText, nullable=False),
    Index("ix_defense_moment_incident", "incident", "number"),
)
"""The time line of an incident, in the order in which it was written."""

defense_response = Table(
    "defense_response",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("identity", String(32), nullable=False),
    Column("incident", String(32), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("state", String(10), nullable=False),
    Column("environment", String(80), nullable=False),
    Column("contains", Boolean, nullable=False),
    Column("intended", Moment, nullable=False),
    Column("next_try", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("finished", Moment),
    Column("effects", JsonText, nullable=False),
    Column("error", String(120), nullable=False),
    Column("note", Text, nullable=False),
    Column("undo_by", String(200), nullable=False),
    Column("undo_reason", Text, nullable=False),
    Column("undo_at", Moment),
    Index("ix_defense_response_identity", "identity", "kind", "id"),
    Index("ix_defense_response_due", "state", "next_try"),
    Index("ix_defense_response_contained", "contains", "environment", "state"),
    Index("ix_defense_response_hour", "automatic", "intended"),
)
