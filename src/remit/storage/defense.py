"""Defense's rows: detections, incidents, time lines, responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, distinct, func, insert, select, update

from remit.defense.model import (
    Detection,
    Effect,
    Incident,
    IncidentStatus,
    Moment,
    Response,
    ResponseState,
)
from remit.inventory.model import Severity
from remit.storage.schema.defense import defense_detection, defense_incident, defense_moment, defense_response


class DefenseRows:
    """Defense's state in one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # Detections.

    def add_detection(self, detection: Detection) -> bool:
        if self.detection(detection.id) is not None:
            return False
        self._conn.execute(insert(defense_detection).values(**_row(detection)))
        return True

    def detection(self, detection_id: str) -> Detection | None:
        table = defense_detection
        found = self._conn.execute(select(table).where(table.c.id == detection_id)).mappings().first()
        return None if found is None else _detection(found)

    def detections(self, *, identity: str = "", before: str = "", limit: int = 200) -> Sequence[Detection]:
        table = defense_detection
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if identity:
            query = query.where(table.c.identity == identity)
        if before:
            query = query.where(table.c.id < before)
        return [_detection(row) for row in self._conn.execute(query).mappings()]

    def detections_of(self, incident: str, *, limit: int = 500) -> Sequence[Detection]:
        table = defense_detection
        query = select(table).where(table.c.incident == incident).order_by(table.c.id.desc()).limit(limit)
        return [_detection(row) for row in self._conn.execute(query).mappings()]

    def count_identities_detected(self, rule: str, since: datetime) -> int:
        table = defense_detection
        query = select(func.count(distinct(table.c.identity))).where(table.c.rule == rule, table.c.detected >= since)
        return int(self._conn.execute(query).scalar_one())

    # Incidents.

    def add_incident(self, incident: Incident) -> None:
        self._conn.execute(insert(defense_incident).values(**_row(incident)))

    def update_incident(self, incident: Incident) -> None:
        table = defense_incident
        self._conn.execute(update(table).where(table.c.id == incident.id).values(**_row(incident)))

    def incident(self, incident_id: str) -> Incident | None:
        table = defense_incident
        found = self._conn.execute(select(table).where(table.c.id == incident_id)).mappings().first()
        return None if found is None else _incident(found)

    def open_incident(self, identity: str) -> Incident | None:
        table = defense_incident
        query = (
            select(table)
            .where(table.c.identity == identity, table.c.status != IncidentStatus.CLOSED.value)
            .order_by(table.c.id.desc())
            .limit(1)
        )
        found = self._conn.execute(query).mappings().first()
        return None if found is None else _incident(found)

    def incidents(self, *, status: str = "", before: str = "", limit: int = 200) -> Sequence[Incident]:
        table = defense_incident
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if status:
            query = query.where(table.c.status == status)
        if before:
            query = query.where(table.c.id < before)
        return [_incident(row) for row in self._conn.execute(query).mappings()]

    def live_incidents(
        self, identities: Iterable[str] | None = None, *, limit: int = 100_000
    ) -> Sequence[tuple[str, str, str]]:
        """Identity, severity and status of each incident that is not closed; of some identities, or of all."""
        table = defense_incident
        query = select(table.c.identity, table.c.severity, table.c.status).where(table.c.status != "closed")
        query = query.order_by(table.c.id.desc()).limit(limit)
        if identities is None:
            return [(row.identity, row.severity, row.status) for row in self._conn.execute(query)]
        wanted, found = list(identities), []
        for start in range(0, len(wanted), 500):
            chunk = query.where(table.c.identity.in_(wanted[start : start + 500]))
            found += [(row.identity, row.severity, row.status) for row in self._conn.execute(chunk)]
        return found

    def add_moment(self, moment: Moment) -> None:
        self._conn.execute(insert(defense_moment).values(**_row(moment)))

    def moments(self, incident: str, *, limit: int = 1000) -> Sequence[Moment]:
        table = defense_moment
        query = (
            select(table.c.incident, table.c.time, table.c.kind, table.c.text, table.c.data)
            .where(table.c.incident == incident)
            .order_by(table.c.number)
            .limit(limit)
        )
        return [Moment(**row) for row in self._conn.execute(query).mappings()]

    # Responses.

    def add_response(self, response: Response) -> None:
        self._conn.execute(insert(defense_response).values(**_response_row(response)))

    def update_response(self, response: Response) -> None:
        table = defense_response
        self._conn.execute(update(table).where(table.c.id == response.id).values(**_response_row(response)))

    def response(self, response_id: str) -> Response | None:
        table = defense_response
        found = self._conn.execute(select(table).where(table.c.id == response_id)).mappings().first()
        return None if found is None else _response(found)

    def standing_response(self, identity: str, kind: str, *, incident: str | None = None) -> Response | None:
        table = defense_response
        query = (
            select(table)
            .where(table.c.identity == identity, table.c.kind == kind, table.c.state != ResponseState.UNDONE.value)
            .order_by(table.c.id.desc())
            .limit(1)
        )
        if incident is not None:
            query = query.where(table.c.incident == incident)
        found = self._conn.execute(query).mappings().first()
        return None if found is None else _response(found)

    def responses(self, *, identity: str = "", before: str = "", limit: int = 200) -> Sequence[Response]:
        table = defense_response
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if identity:
            query = query.where(table.c.identity == identity)
        if before:
            query = query.where(table.c.id < before)
        return [_response(row) for row in self._conn.execute(query).mappings()]

    def responses_due(self, now: datetime, *, limit: int = 100) -> Sequence[Response]:
        table = defense_response
        query = (
            select(table)
            .where(table.c.state == ResponseState.INTENDED.value, table.c.next_try <= now)
            .order_by(table.c.intended, table.c.id)
            .limit(limit)
        )
        return [_response(row) for row in self._conn.execute(query).mappings()]

    def claim_response(self, response_id: str, *, attempts: int, now: datetime, until: datetime) -> bool:
        table = defense_response
        claimed = self._conn.execute(
            update(table)
            .where(
                table.c.id == response_id,
                table.c.state == ResponseState.INTENDED.value,
                table.c.attempts == attempts,
                table.c.next_try <= now,
            )
            .values(attempts=attempts + 1, next_try=until, error="")
        )
        return claimed.rowcount == 1

    def count_automatic(self, since: datetime) -> int:
        table = defense_response
        query = select(func.count()).where(
            table.c.automatic.is_(True), table.c.contains.is_(True), table.c.intended >= since
        )
        return int(self._conn.execute(query).scalar_one())

    def count_contained(self, environment: str) -> int:
        table = defense_response
        query = select(func.count(distinct(table.c.identity))).where(
            table.c.contains.is_(True),
            table.c.environment == environment,
            table.c.state != ResponseState.UNDONE.value,
        )
        return int(self._conn.execute(query).scalar_one())


def _row(record: object) -> dict[str, Any]:
    """A record's fields as column values: enums by value, mappings as objects."""
    values: dict[str, Any] = {}
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, Mapping):
            value = dict(value)
        values[field.name] = getattr(value, "value", value)
    return values


def _response_row(response: Response) -> dict[str, Any]:
    return {**_row(response), "effects": [effect.as_json() for effect in response.effects]}


def _detection(row: RowMapping) -> Detection:
    return Detection(**{**row, "severity": Severity(row["severity"])})


def _incident(row: RowMapping) -> Incident:
    return Incident(**{**row, "severity": Severity(row["severity"]), "status": IncidentStatus(row["status"])})


def _response(row: RowMapping) -> Response:
    effects = tuple(Effect(**effect) for effect in row["effects"])
    return Response(**{**row, "state": ResponseState(row["state"]), "effects": effects})
