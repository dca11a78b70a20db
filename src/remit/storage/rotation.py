"""Rows of rotation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from remit.access.rotation.model import FINAL, ConsumerSpec, Mode, Phase, Plan, Run
from remit.storage.schema.rotation import access_rotation, access_rotation_run


class RotationRows:
    """Implements `access.rotation.ports.RotationRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def plans(self) -> Sequence[Plan]:
        rows = self._conn.execute(select(access_rotation).order_by(access_rotation.c.name))
        return [_to_plan(row.content, row.signature) for row in rows]

    def plan(self, name: str) -> tuple[Plan, bytes] | None:
        row = self._conn.execute(select(access_rotation).where(access_rotation.c.name == name)).one_or_none()
        return None if row is None else (_to_plan(row.content, row.signature), bytes(row.sealed))

    def put_plan(self, plan: Plan, sealed: bytes) -> None:
        self.remove_plan(plan.name)
        row = {"name": plan.name, "content": plan.as_json(), "sealed": sealed, "signature": plan.signature}
        self._conn.execute(insert(access_rotation), row)

    def remove_plan(self, name: str) -> bool:
        return self._conn.execute(delete(access_rotation).where(access_rotation.c.name == name)).rowcount > 0

    def run(self, run_id: str) -> tuple[Run, bytes] | None:
        row = self._conn.execute(
            select(access_rotation_run).where(access_rotation_run.c.id == run_id)
        ).one_or_none()  # fmt: skip
        return None if row is None else (_to_run(row.content, row.signature), bytes(row.sealed))

    def runs(self, plan: str = "", *, limit: int = 50) -> Sequence[Run]:
        wanted = select(access_rotation_run).order_by(access_rotation_run.c.id.desc()).limit(limit)
        if plan:
            wanted = wanted.where(access_rotation_run.c.plan == plan)
        return [_to_run(row.content, row.signature) for row in self._conn.execute(wanted)]

    def unfinished(self) -> Sequence[Run]:
        wanted = (
            select(access_rotation_run)
            .where(access_rotation_run.c.phase.not_in([phase.value for phase in FINAL]))
            .order_by(access_rotation_run.c.id)
        )
        return [_to_run(row.content, row.signature) for row in self._conn.execute(wanted)]

    def insert_run(self, run: Run, sealed: bytes) -> None:
        row = {**_columns(run), "id": run.id, "plan": run.plan, "started": run.started, "sealed": sealed}
        self._conn.execute(insert(access_rotation_run), row)

    def save_run(self, run: Run, sealed: bytes | None, *, expected: int) -> bool:
        values = _columns(run) | ({} if sealed is None else {"sealed": sealed})
        done = self._conn.execute(
            update(access_rotation_run)
            .where(access_rotation_run.c.id == run.id, access_rotation_run.c.revision == expected)
            .values(**values)
        )
        return done.rowcount == 1


def _columns(run: Run) -> dict[str, Any]:
    return {
        "phase": run.phase.value, "revision": run.revision, "content": run.as_json(), "signature": run.signature,
    }  # fmt: skip


def _to_plan(content: dict[str, Any], signature: str) -> Plan:
    return Plan(
        name=content["name"],
        target=content["target"],
        principal=content["principal"],
        mode=Mode(content["mode"]),
        consumers=tuple(ConsumerSpec(kind=each["kind"], options=each["options"]) for each in content["consumers"]),
        identity=content["identity"],
        health=tuple(content["health"]),
        deadline_seconds=content["deadline_seconds"],
        observe=content["observe"],
        automatic=content["automatic"],
        tier=content["tier"],
        max_age_days=content["max_age_days"],
        version=content["version"],
        rotated=_moment(content["rotated"]),
        known=tuple(content["known"]),
        created=datetime.fromisoformat(content["created"]),
        created_by=content["created_by"],
        approval=content["approval"],
        signature=signature,
    )


def _to_run(content: dict[str, Any], signature: str) -> Run:
    return Run(
        id=content["id"],
        plan=content["plan"],
        phase=Phase(content["phase"]),
        revision=content["revision"],
        old=content["old"],
        new=content["new"],
        places=tuple(content["places"]),
        started=datetime.fromisoformat(content["started"]),
        actor=content["actor"],
        reason=content["reason"],
        moved=datetime.fromisoformat(content["moved"]),
        published=_moment(content["published"]),
        trouble=content["trouble"],
        turning=content["turning"],
        seen=content["seen"],
        proof=content["proof"],
        ended=_moment(content["ended"]),
        signature=signature,
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
