"""Rows of access: targets, tasks, grants and leases; policy versions are in `storage.policies`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    type_coerce,
    update,
)

from remit.access.leases.model import LIVE, HeldLease, LeaseFilter
from remit.access.model import (
    Approval,
    Entity,
    Grant,
    GrantKind,
    GrantState,
    GrantTerms,
    Lease,
    LeaseState,
    Request,
    Target,
)
from remit.access.ports import StoredGrant, StoredTarget
from remit.access.tasks.kinds import Task, task_from, task_json
from remit.access.tasks.model import TaskDefinition, recipe_from
from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339, rfc3339
from remit.storage.policies import PolicyVersionRows
from remit.storage.runs import RunRows
from remit.storage.schema.access import (
    access_grant,
    access_holder,
    access_lease,
    access_sweep,
    access_target,
    access_task,
)
from remit.storage.schema.inventory import inventory_alias
from remit.storage.upsert import upsert

_LIVE = sorted(LIVE)
_CHUNK = 500
"""Values in one `IN (…)`: below every engine's limit of parameters."""
_CHANGE_LEASE = update(access_lease).where(
    access_lease.c.id == bindparam("fenced_id"),
    access_lease.c.epoch == bindparam("fenced_epoch"),
    access_lease.c.state.in_(bindparam("fenced_states", expanding=True)),
)
"""Built once: with values of its own each time, the statement costs more to build than to execute."""


class AccessRows(PolicyVersionRows, RunRows):
    """Implements `access.ports.AccessRows` and `access.policy.ports.PolicyRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # Targets.

    def insert_target(self, stored: StoredTarget) -> bool:
        if self.target(stored.target.name) is not None:
            return False
        self._conn.execute(insert(access_target), _from_target(stored))
        return True

    def target(self, name: str) -> StoredTarget | None:
        row = self._conn.execute(select(access_target).where(access_target.c.name == name)).one_or_none()
        return None if row is None else _to_target(row)

    def targets(self) -> Sequence[StoredTarget]:
        return [_to_target(row) for row in self._conn.execute(select(access_target).order_by(access_target.c.name))]

    def remove_target(self, name: str) -> bool:
        return self._conn.execute(delete(access_target).where(access_target.c.name == name)).rowcount > 0

    # Task definitions.

    def put_task(self, definition: TaskDefinition) -> None:
        upsert(self._conn, access_task, [_from_task(definition)])

    def task(self, name: str) -> TaskDefinition | None:
        row = self._conn.execute(select(access_task).where(access_task.c.name == name)).one_or_none()
        return None if row is None else _to_task(row)

    def tasks(self) -> Sequence[TaskDefinition]:
        return [_to_task(row) for row in self._conn.execute(select(access_task).order_by(access_task.c.name))]

    def remove_task(self, name: str) -> bool:
        return self._conn.execute(delete(access_task).where(access_task.c.name == name)).rowcount > 0

    # Grants.

    def insert_grant(self, stored: StoredGrant) -> None:
        self._conn.execute(insert(access_grant), _from_grant(stored))

    def change_grant(self, stored: StoredGrant) -> None:
        self._conn.execute(update(access_grant).where(access_grant.c.id == stored.grant.id).values(_from_grant(stored)))

    def grant(self, grant_id: str) -> StoredGrant | None:
        row = self._conn.execute(select(access_grant).where(access_grant.c.id == grant_id)).one_or_none()
        return None if row is None else read_grant(row)

    def grants(
        self, *, task: str = "", states: Collection[str] = (), limit: int = 1000, asked: bool = False, kind: str = ""
    ) -> Sequence[StoredGrant]:
        query = select(access_grant).order_by(access_grant.c.id.desc()).limit(limit)
        if task:
            query = query.where(access_grant.c.task == task)
        if asked:
            query = query.where(access_grant.c.requested_by != "")
        if kind:
            # The terms are canonical text, in which a quote inside a value is escaped: nothing else looks like this.
            query = query.where(type_coerce(access_grant.c.terms, Text).contains(f'"kind":"{kind}"', autoescape=True))
        if states:
            query = query.where(access_grant.c.state.in_(sorted(states)))
        return [read_grant(row) for row in self._conn.execute(query)]

    def grants_by_id(self, ids: Collection[str]) -> Mapping[str, StoredGrant]:
        found: dict[str, StoredGrant] = {}
        wanted = sorted(ids)
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            for row in self._conn.execute(select(access_grant).where(access_grant.c.id.in_(chunk))):
                found[row.id] = read_grant(row)
        return found

    def running_grants(self, where: LeaseFilter, limit: int) -> Sequence[StoredGrant]:
        """Grants that a running task has, the newest first, older than `where.before`; with a lease as in `where`."""
        columns = access_grant.c
        query = select(access_grant).where(columns.state == GrantState.APPROVED.value, columns.process.is_not(None))
        if where.before:
            query = query.where(columns.id < where.before)
        such = list(_conditions(replace(where, before="")))
        if such:
            query = query.where(select(access_lease.c.id).where(access_lease.c.grant_id == columns.id, *such).exists())
        return [read_grant(row) for row in self._conn.execute(query.order_by(columns.id.desc()).limit(limit))]

    # Leases.

    def insert_lease(self, held: HeldLease) -> None:
        self._conn.execute(insert(access_lease), _from_lease(held))

    def leases(self, where: LeaseFilter, limit: int = 1000) -> Sequence[HeldLease]:
        query = select(access_lease).order_by(access_lease.c.id).limit(limit)
        for condition in _conditions(where):
            query = query.where(condition)
        return [read_lease(row) for row in self._conn.execute(query)]

    def newest_leases(self, where: LeaseFilter, limit: int) -> Sequence[HeldLease]:
        """By descending id: the newest first."""
        query = select(access_lease).where(*_conditions(where)).order_by(access_lease.c.id.desc()).limit(limit)
        return [read_lease(row) for row in self._conn.execute(query)]

    def leases_by_principal(self, principals: Collection[str]) -> Mapping[str, HeldLease]:
        found: dict[str, HeldLease] = {}
        wanted = sorted(principals)
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            for row in self._conn.execute(select(access_lease).where(access_lease.c.principal.in_(chunk))):
                found[row.principal] = read_lease(row)
        return found

    def change_lease(self, held: HeldLease, *, epoch: int, was: Collection[LeaseState]) -> bool:
        fence = {"fenced_id": held.id, "fenced_epoch": epoch, "fenced_states": sorted(was)}
        return self._conn.execute(_CHANGE_LEASE, {**_from_lease(held), **fence}).rowcount == 1

    def claim_leases(self, holder: str, now: datetime, *, exclusive: bool, limit: int = 1000) -> Sequence[HeldLease]:
        others = and_(access_lease.c.state.in_(_LIVE), access_lease.c.holder != holder)
        if not exclusive:
            alive = select(access_holder.c.holder).where(access_holder.c.until > now)
            others = and_(others, not_(access_lease.c.holder.in_(alive)))
        else:
            self._conn.execute(update(access_sweep).where(access_sweep.c.holder != holder).values(holder=holder))
        chosen = select(access_lease.c.id).where(others).order_by(access_lease.c.id).limit(limit)
        if self._conn.dialect.name == "postgresql":
            chosen = chosen.with_for_update(skip_locked=True)
        ids = list(self._conn.scalars(chosen))
        claimed: list[HeldLease] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            taken = (
                update(access_lease)
                .where(access_lease.c.id.in_(chunk), others)
                .values(holder=holder, epoch=access_lease.c.epoch + 1)
                .returning(access_lease)
            )
            claimed += [read_lease(row) for row in self._conn.execute(taken)]
        return sorted(claimed, key=lambda held: held.id)

    def leases_of_grants(self, ids: Collection[str]) -> Sequence[HeldLease]:
        """Those that may live on their target, by id; at most 500 grants."""
        query = select(access_lease).where(access_lease.c.grant_id.in_(sorted(ids))).order_by(access_lease.c.id)
        # The state is looked at here: asked for beside the grants, SQLite would walk all live leases instead.
        return [read_lease(row) for row in self._conn.execute(query) if row.state in _LIVE]

    def swept_until(self, target: str) -> datetime | None:
        """Until when the last sweep of a target was claimed; None where it was never swept."""
        return self._conn.scalar(select(access_sweep.c.until).where(access_sweep.c.target == target))

    def count_leases(self, *, target: str = "") -> Mapping[LeaseState, int]:
        query = select(access_lease.c.state, func.count()).group_by(access_lease.c.state)
        if target:
            query = query.where(access_lease.c.target == target)
        return {LeaseState(state): number for state, number in self._conn.execute(query)}

    def beat(self, holder: str, until: datetime) -> None:
        upsert(self._conn, access_holder, [{"holder": holder, "until": until}])

    def leave(self, holder: str) -> None:
        self._conn.execute(delete(access_holder).where(access_holder.c.holder == holder))

    def claim_sweep(self, target: str, holder: str, now: datetime, until: datetime) -> bool:
        free = or_(access_sweep.c.until <= now, access_sweep.c.holder == holder)
        mine = update(access_sweep).where(access_sweep.c.target == target, free).values(holder=holder, until=until)
        if self._conn.execute(mine).rowcount:
            return True
        known = self._conn.scalar(select(access_sweep.c.target).where(access_sweep.c.target == target))
        if known is not None:
            return False
        self._conn.execute(insert(access_sweep), {"target": target, "holder": holder, "until": until})
        return True


def _conditions(where: LeaseFilter) -> Iterator[ColumnElement[bool]]:
    columns = access_lease.c
    if where.identity:
        # Also what was leased under an id that has become an alias: containment must find it.
        alias = inventory_alias.c
        others = select(alias.name).where(alias.identity == where.identity)
        yield or_(columns.identity == where.identity, columns.identity.in_(others))
    if where.ids:
        yield columns.id.in_(where.ids)
    if where.states:
        yield columns.state.in_(sorted(where.states))
    if where.after:
        yield columns.id > where.after
    if where.before:
        yield columns.id < where.before
    for column, value in (
        (columns.grant_id, where.grant),
        (columns.target, where.target),
        (columns.task, where.task),
        (columns.holder, where.holder),
    ):
        if value:
            yield column == value


def _from_target(stored: StoredTarget) -> dict[str, Any]:
    target = stored.target
    return {
        "name": target.name,
        "system": target.system,
        "host": target.host,
        "port": target.port,
        "database": target.database,
        "login": target.user,
        "roles": dict(target.roles),
        "options": dict(target.options),
        "instance": target.instance,
        "sealed": stored.sealed,
        "created": stored.created,
        "created_by": stored.created_by,
        "signature": stored.signature,
    }


def _to_target(row: Row[Any]) -> StoredTarget:
    target = Target(
        name=row.name,
        system=row.system,
        host=row.host,
        port=row.port,
        database=row.database,
        user=row.login,
        roles=row.roles,
        options=row.options,
        instance=row.instance,
    )
    return StoredTarget(
        target=target,
        sealed=bytes(row.sealed),
        created=row.created,
        created_by=row.created_by,
        signature=row.signature,
    )


def _from_task(definition: TaskDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "identity": definition.identity,
        "program": definition.program.as_json(),
        "created": definition.created,
        "created_by": definition.created_by,
        "signature": definition.signature,
        "uid": definition.uid,
    }


def _to_task(row: Row[Any]) -> TaskDefinition:
    return TaskDefinition(
        name=row.name,
        identity=row.identity,
        program=recipe_from(row.program),
        created=row.created,
        created_by=row.created_by,
        signature=row.signature,
        uid=row.uid,
    )


def _from_process(task: Task | None) -> dict[str, Json] | None:
    return None if task is None else task_json(task)


def _to_process(said: Mapping[str, Any] | None) -> Task | None:
    return None if said is None else task_from(said)


def _from_grant(stored: StoredGrant) -> dict[str, Any]:
    grant = stored.grant
    approvals = [
        {
            "approver": one.approver,
            "time": rfc3339(one.time),
            "digest": one.digest,
            "signature": one.signature,
            "evidence": dict(one.evidence),
        }
        for one in grant.approvals
    ]
    return {
        "id": grant.id,
        "identity": grant.identity,
        "task": grant.task,
        "task_digest": grant.task_digest,
        "needs": list(grant.needs),
        "decision": grant.decision,
        "created": grant.created,
        "expires": grant.expires,
        "state": grant.state.value,
        "reason": grant.reason,
        "approvals": approvals,
        "signature": stored.signature,
        "requested_by": stored.requested_by,
        "process": _from_process(stored.process),
        "proven": dict(stored.proven),
        "ended": stored.ended,
        "terms": None if grant.terms is None else grant.terms.as_json(),
        "review": dict(stored.review) or None,
    }


def _to_terms(said: Mapping[str, Any] | None) -> GrantTerms | None:
    if said is None:
        return None
    return GrantTerms(
        life=timedelta(seconds=said["life"]),
        pending=parse_rfc3339(said["pending"]),
        asker=said["asker"],
        policies=said["policies"],
        subject=said["subject"],
        requires=tuple(said["requires"]),
        kind=GrantKind(said["kind"]),
    )


def read_grant(row: Row[Any]) -> StoredGrant:
    approvals = tuple(Approval(**{**said, "time": parse_rfc3339(said["time"])}) for said in row.approvals)
    grant = Grant(
        id=row.id,
        identity=row.identity,
        task=row.task,
        task_digest=row.task_digest,
        needs=tuple(row.needs),
        decision=row.decision,
        created=row.created,
        expires=row.expires,
        state=GrantState(row.state),
        reason=row.reason,
        approvals=approvals,
        terms=_to_terms(row.terms),
    )
    return StoredGrant(
        grant=grant,
        signature=row.signature,
        requested_by=row.requested_by,
        process=_to_process(row.process),
        proven=row.proven,
        ended=row.ended,
        review=row.review or {},
    )


def _from_entity(entity: Entity) -> dict[str, Json]:
    return {"type": entity.type, "id": entity.id, "properties": dict(entity.properties)}


def _from_lease(held: HeldLease) -> dict[str, Any]:
    lease, request = held.lease, held.request
    return {
        "id": lease.id,
        "grant_id": lease.grant,
        "identity": lease.identity,
        "task": lease.task,
        "target": lease.target,
        "need": lease.need,
        "principal": lease.principal,
        "state": lease.state.value,
        "process": _from_process(lease.process),
        "created": lease.created,
        "expires": lease.expires,
        "revoked": lease.revoked,
        "reason": lease.reason,
        "proof": dict(lease.proof),
        "attempts": lease.attempts,
        "sealed": held.sealed,
        "role": held.role,
        "database": held.database,
        "request": {
            "subject": _from_entity(request.subject),
            "action": request.action,
            "resource": _from_entity(request.resource),
            "claimed": dict(request.claimed),
            "proven": dict(request.proven),
        },
        "holder": held.holder,
        "epoch": held.epoch,
        "issued": held.issued,
        "trouble": held.trouble,
    }


def read_lease(row: Row[Any]) -> HeldLease:
    said = row.request
    request = Request(
        subject=Entity(**said["subject"]),
        action=said["action"],
        resource=Entity(**said["resource"]),
        claimed=said["claimed"],
        proven=said["proven"],
    )
    lease = Lease(
        id=row.id,
        grant=row.grant_id,
        identity=row.identity,
        task=row.task,
        target=row.target,
        need=row.need,
        principal=row.principal,
        state=LeaseState(row.state),
        process=_to_process(row.process),
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        reason=row.reason,
        proof=row.proof,
        attempts=row.attempts,
    )
    return HeldLease(
        lease=lease,
        sealed=bytes(row.sealed),
        role=row.role,
        database=row.database,
        request=request,
        holder=row.holder,
        epoch=row.epoch,
        issued=row.issued,
        trouble=row.trouble,
    )
