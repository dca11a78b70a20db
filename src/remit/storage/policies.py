"""Rows of policy versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from remit.access.policy.lifecycle import PolicyVersion, VersionState
from remit.storage.schema.access import access_policy_version


class PolicyVersionRows:
    """Implements `access.policy.ports.PolicyRows` on one connection."""

    _conn: Connection

    def insert_policy_version(self, version: PolicyVersion) -> None:
        self._conn.execute(insert(access_policy_version), _from_version(version))

    def change_policy_version(self, version: PolicyVersion) -> None:
        row = _from_version(version)
        changed = {key: row[key] for key in ("state", "signature", "serial", "activated", "activated_by")}
        table = access_policy_version
        self._conn.execute(update(table).where(table.c.id == version.id).values(**changed))

    def policy_version(self, version_id: str) -> PolicyVersion | None:
        return self._one(access_policy_version.c.id == version_id)

    def active_policy_version(self) -> PolicyVersion | None:
        return self._one(access_policy_version.c.state == VersionState.ACTIVE.value)

    def policy_versions(self, *, limit: int = 100) -> Sequence[PolicyVersion]:
        table = access_policy_version
        rows = self._conn.execute(select(table).order_by(table.c.created.desc(), table.c.id.desc()).limit(limit))
        return [_to_version(row) for row in rows]

    def highest_policy_serial(self) -> int:
        return int(self._conn.scalar(select(func.max(access_policy_version.c.serial))) or 0)

    def _one(self, where: Any) -> PolicyVersion | None:
        table = access_policy_version
        row = self._conn.execute(select(table).where(where).order_by(table.c.serial.desc()).limit(1)).first()
        return None if row is None else _to_version(row)


def _from_version(version: PolicyVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "text": version.text,
        "cases": version.cases,
        "invariants": version.invariants,
        "digest": version.digest,
        "created": version.created,
        "created_by": version.by,
        "state": version.state.value,
        "signature": version.signature,
        "serial": version.serial,
        "activated": version.activated,
        "activated_by": version.activated_by,
    }


def _to_version(row: Row[Any]) -> PolicyVersion:
    return PolicyVersion(
        id=row.id,
        text=row.text,
        cases=row.cases,
        invariants=row.invariants,
        digest=row.digest,
        created=row.created,
        by=row.created_by,
        state=VersionState(row.state),
        signature=row.signature,
        serial=row.serial,
        activated=row.activated,
        activated_by=row.activated_by,
    )
