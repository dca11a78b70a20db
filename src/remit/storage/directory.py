"""Rows of the directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from remit.governance.directory import Group, Member
from remit.governance.escalation import Ask, AskStatus
from remit.storage.schema.governance_directory import (
    governance_ask,
    governance_group,
    governance_group_member,
    governance_member,
)
from remit.storage.upsert import upsert

_BATCH = 500


class DirectoryRows:
    """Implements `governance.directory.DirectoryRows` and `governance.escalation.AskRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def member(self, email: str) -> Member | None:
        table = governance_member
        row = self._conn.execute(select(table).where(table.c.email == email)).mappings().first()
        return None if row is None else Member(**row)

    def members(self, *, source: str = "", after: str = "", limit: int = 500) -> Sequence[Member]:
        table = governance_member
        query = select(table).where(table.c.email > after).order_by(table.c.email).limit(limit)
        if source:
            query = query.where(table.c.source == source)
        return [Member(**row) for row in self._conn.execute(query).mappings()]

    def put_members(self, members: Sequence[Member]) -> None:
        for batch in _batches(members):
            upsert(
                self._conn,
                governance_member,
                [
                    {
                        "email": each.email,
                        "display": each.display[:200],
                        "manager": each.manager,
                        "source": each.source,
                        "since": each.since,
                        "left": each.left,
                    }
                    for each in batch
                ],
            )

    def counts(self) -> dict[str, int]:
        """People who are there, people who left, and teams."""
        table = governance_member
        there = self._conn.scalar(select(func.count()).where(table.c.left.is_(None)))
        gone = self._conn.scalar(select(func.count()).where(table.c.left.is_not(None)))
        groups = self._conn.scalar(select(func.count()).select_from(governance_group))
        return {"active": int(there or 0), "left": int(gone or 0), "teams": int(groups or 0)}

    def group(self, name: str) -> Group | None:
        table = governance_group
        row = self._conn.execute(select(table).where(table.c.name == name)).first()
        return None if row is None else _group(row)

    def groups(self, *, after: str = "", limit: int = 500) -> Sequence[Group]:
        table = governance_group
        found = self._conn.execute(select(table).where(table.c.name > after).order_by(table.c.name).limit(limit))
        return [_group(row) for row in found]

    def replace_groups(self, source: str, groups: Sequence[Group]) -> None:
        table, members = governance_group, governance_group_member
        ours = select(table.c.name).where(table.c.source == source)
        self._conn.execute(delete(members).where(members.c.name.in_(ours)))
        self._conn.execute(delete(table).where(table.c.source == source))
        for batch in _batches(groups):
            # A name that another source has stays that one's.
            taken = set(self._conn.scalars(select(table.c.name).where(table.c.name.in_([each.name for each in batch]))))
            free = [each for each in batch if each.name not in taken and len(each.name) <= 128]
            if not free:
                continue
            self._conn.execute(
                insert(table),
                [{"name": each.name, "source": source, "members": list(each.members)} for each in free],
            )
            rows = [{"email": email, "name": each.name} for each in free for email in each.members]
            for part in _batches(rows):
                self._conn.execute(insert(members), list(part))

    def groups_of(self, email: str) -> Sequence[Group]:
        table, members = governance_group, governance_group_member
        names = select(members.c.name).where(members.c.email == email)
        return [_group(row) for row in self._conn.execute(select(table).where(table.c.name.in_(names)))]

    def led_by(self, email: str) -> Sequence[Member]:
        table = governance_member
        query = select(table).where(table.c.manager == email).order_by(table.c.email).limit(500)
        return [Member(**row) for row in self._conn.execute(query).mappings()]

    # Who is asked to own what.

    def ask(self, identity: str) -> Ask | None:
        table = governance_ask
        row = self._conn.execute(select(table).where(table.c.identity == identity)).mappings().first()
        return None if row is None else _ask(row)

    def put_ask(self, ask: Ask) -> None:
        upsert(
            self._conn,
            governance_ask,
            [
                {
                    "identity": ask.identity,
                    "step": ask.step,
                    "asked": ask.asked[:200],
                    "why": ask.why[:400],
                    "since": ask.since,
                    "deadline": ask.deadline,
                    "status": ask.status.value,
                }
            ],
        )

    def asks_due(self, now: datetime, *, limit: int = 200) -> Sequence[Ask]:
        table = governance_ask
        query = (
            select(table)
            .where(table.c.status == AskStatus.OPEN.value, table.c.deadline <= now)
            .order_by(table.c.deadline, table.c.identity)
            .limit(limit)
        )
        return [_ask(row) for row in self._conn.execute(query).mappings()]

    def asks(self, *, after: str = "", limit: int = 500) -> Sequence[Ask]:
        table = governance_ask
        query = (
            select(table)
            .where(table.c.status != AskStatus.ANSWERED.value, table.c.identity > after)
            .order_by(table.c.identity)
            .limit(limit)
        )
        return [_ask(row) for row in self._conn.execute(query).mappings()]


def _group(row: Any) -> Group:
    return Group(name=row.name, members=tuple(row.members), source=row.source)


def _ask(row: Any) -> Ask:
    return Ask(**{**row, "status": AskStatus(row["status"])})


def _batches(rows: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
