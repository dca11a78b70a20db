"""Governance's rows: people, teams, used nonces, identities without owner, exceptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, func, insert, or_, select, update

from remit.governance.model import (
    ExceptionStatus,
    Orphan,
    OrphanOutcome,
    Person,
    PolicyException,
    Team,
    TeamProposal,
)
from remit.kernel.clock import parse_rfc3339
from remit.storage.schema.governance import (
    governance_exception,
    governance_nonce,
    governance_orphan,
    governance_person,
    governance_team,
    governance_team_proposal,
)
from remit.storage.upsert import upsert


class GovernanceRows:
    """People, teams, nonces, orphans and exceptions in one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # People and teams.

    def add_person(self, person: Person) -> None:
        self._conn.execute(insert(governance_person).values(**_row(person)))

    def update_person(self, person: Person) -> None:
        self._conn.execute(
            update(governance_person).where(governance_person.c.name == person.name).values(**_row(person))
        )

    def person(self, name: str) -> Person | None:
        return self._person(governance_person.c.name == name)

    def person_by_email(self, email: str) -> Person | None:
        return self._person(governance_person.c.email == email)

    def person_by_key(self, public_key: str) -> Person | None:
        return self._person(governance_person.c.public_key == public_key)

    def persons(self, *, after: str = "", limit: int = 500) -> Sequence[Person]:
        table = governance_person
        found = self._conn.execute(select(table).where(table.c.name > after).order_by(table.c.name).limit(limit))
        return [Person(**row) for row in found.mappings()]

    def count_active_persons(self) -> int:
        return self._count(select(func.count()).where(governance_person.c.active.is_(True)))

    def add_team(self, team: Team) -> None:
        self._conn.execute(insert(governance_team).values(**_row(team)))

    def update_team(self, team: Team) -> None:
        self._conn.execute(update(governance_team).where(governance_team.c.name == team.name).values(**_row(team)))

    def team(self, name: str) -> Team | None:
        found = self._conn.execute(select(governance_team).where(governance_team.c.name == name)).mappings().first()
        return None if found is None else _team(found)

    def teams(self, *, after: str = "", limit: int = 500) -> Sequence[Team]:
        table = governance_team
        found = self._conn.execute(select(table).where(table.c.name > after).order_by(table.c.name).limit(limit))
        return [_team(row) for row in found.mappings()]

    def teams_led_by(self, person: str) -> Sequence[Team]:
        table = governance_team
        found = self._conn.execute(select(table).where(table.c.lead == person).order_by(table.c.name))
        return [_team(row) for row in found.mappings()]

    def team_proposal(self, team: str) -> TeamProposal | None:
        table = governance_team_proposal
        row = self._conn.execute(select(table).where(table.c.team == team)).first()
        return None if row is None else _team_proposal(row)

    def team_proposals(self) -> Sequence[TeamProposal]:
        rows = self._conn.execute(select(governance_team_proposal).order_by(governance_team_proposal.c.team))
        return [found for row in rows if (found := _team_proposal(row)) is not None]

    def propose_team(self, proposal: TeamProposal) -> None:
        row = {"team": proposal.team, "content": proposal.content(), "signature": proposal.signature}
        upsert(self._conn, governance_team_proposal, [row])

    def drop_team_proposal(self, team: str) -> None:
        self._conn.execute(delete(governance_team_proposal).where(governance_team_proposal.c.team == team))

    # Nonces.

    def burn_nonce(self, person: str, nonce: str, expires: datetime) -> bool:
        table = governance_nonce
        known = self._conn.execute(select(table.c.nonce).where(table.c.person == person, table.c.nonce == nonce))
        if known.first() is not None:
            return False
        # Two at once on PostgreSQL: the primary key refuses the second, and its unit of work with it.
        self._conn.execute(insert(table).values(person=person, nonce=nonce, expires=expires))
        return True

    def prune_nonces(self, before: datetime, *, limit: int = 1000) -> int:
        table = governance_nonce
        old = self._conn.execute(
            select(table.c.person, table.c.nonce).where(table.c.expires < before).order_by(table.c.expires).limit(limit)
        ).all()
        for person, nonce in old:
            self._conn.execute(delete(table).where(table.c.person == person, table.c.nonce == nonce))
        return len(old)

    # Identities whose owner left.

    def open_orphan(self, orphan: Orphan) -> None:
        current = self.orphan(orphan.identity)
        if current is None or current.outcome is not OrphanOutcome.OPEN:
            upsert(self._conn, governance_orphan, [_row(orphan)])

    def orphan(self, identity_id: str) -> Orphan | None:
        table = governance_orphan
        found = self._conn.execute(select(table).where(table.c.identity == identity_id)).mappings().first()
        return None if found is None else _orphan(found)

    def orphans(self, *, after: str = "", limit: int = 500) -> Sequence[Orphan]:
        table = governance_orphan
        found = self._conn.execute(
            select(table)
            .where(table.c.outcome == OrphanOutcome.OPEN.value, table.c.identity > after)
            .order_by(table.c.identity)
            .limit(limit)
        )
        return [_orphan(row) for row in found.mappings()]

    def orphans_due(self, now: datetime, *, limit: int = 500) -> Sequence[Orphan]:
        table = governance_orphan
        found = self._conn.execute(
            select(table)
            .where(table.c.outcome == OrphanOutcome.OPEN.value, table.c.deadline <= now)
            .order_by(table.c.deadline, table.c.identity)
            .limit(limit)
        )
        return [_orphan(row) for row in found.mappings()]

    def close_orphan(self, identity_id: str, outcome: OrphanOutcome, at: datetime) -> None:
        table = governance_orphan
        self._conn.execute(
            update(table).where(table.c.identity == identity_id).values(outcome=outcome.value, closed=at)
        )

    # Exceptions.

    def add_exception(self, exception: PolicyException) -> None:
        self._conn.execute(insert(governance_exception).values(**_row(exception)))

    def update_exception(self, exception: PolicyException) -> None:
        table = governance_exception
        self._conn.execute(update(table).where(table.c.id == exception.id).values(**_row(exception)))

    def exception(self, exception_id: str) -> PolicyException | None:
        table = governance_exception
        found = self._conn.execute(select(table).where(table.c.id == exception_id)).mappings().first()
        return None if found is None else _exception(found)

    def exceptions(self, *, after: str = "", limit: int = 500) -> Sequence[PolicyException]:
        table = governance_exception
        found = self._conn.execute(select(table).where(table.c.id > after).order_by(table.c.id).limit(limit))
        return [_exception(row) for row in found.mappings()]

    def exceptions_in_force(self, now: datetime) -> Sequence[PolicyException]:
        table = governance_exception
        found = self._conn.execute(
            select(table)
            .where(table.c.status == ExceptionStatus.APPROVED.value, table.c.expires > now)
            .order_by(table.c.id)
        )
        return [_exception(row) for row in found.mappings()]

    def exceptions_lapsed(
        self, now: datetime, *, requested_before: datetime, limit: int = 500
    ) -> Sequence[PolicyException]:
        table = governance_exception
        over = and_(table.c.status == ExceptionStatus.APPROVED.value, table.c.expires <= now)
        unanswered = and_(
            table.c.status == ExceptionStatus.REQUESTED.value,
            or_(table.c.created <= requested_before, table.c.expires <= now),
        )
        found = self._conn.execute(select(table).where(or_(over, unanswered)).order_by(table.c.id).limit(limit))
        return [_exception(row) for row in found.mappings()]

    def _person(self, condition: Any) -> Person | None:
        found = self._conn.execute(select(governance_person).where(condition)).mappings().first()
        return None if found is None else Person(**found)

    def _count(self, statement: Any) -> int:
        return int(self._conn.execute(statement).scalar_one())


def _row(record: object) -> dict[str, Any]:
    """A record's fields as column values: enums by value, tuples as lists."""
    values: dict[str, Any] = {}
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if isinstance(value, tuple):
            value = list(value)
        values[field.name] = getattr(value, "value", value)
    return values


def _team(row: RowMapping) -> Team:
    return Team(**{**row, "members": tuple(row["members"])})


def _team_proposal(row: Any) -> TeamProposal | None:
    try:
        said = dict(row.content)
        kept = {**said, "members": tuple(said["members"]), "at": parse_rfc3339(said["at"])}
        return TeamProposal(**kept, signature=row.signature)
    except (KeyError, TypeError, ValueError):  # written by somebody else: it gives nothing, and another replaces it
        return None


def _orphan(row: RowMapping) -> Orphan:
    return Orphan(**{**row, "outcome": OrphanOutcome(row["outcome"])})


def _exception(row: RowMapping) -> PolicyException:
    lists = {name: tuple(row[name]) for name in ("identities", "actions", "compensating", "approvers")}
    return PolicyException(**{**row, **lists, "status": ExceptionStatus(row["status"])})
