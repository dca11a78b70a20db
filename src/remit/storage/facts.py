"""Facts for detections: which identity a name means, and whether a credential still counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from remit.access.leases.model import HeldLease, LeaseFilter
from remit.access.model import LeaseState, Target
from remit.defense.ports import CredentialFact, LeaseFact, Standing
from remit.kernel.ids import is_id, name
from remit.storage.access import AccessRows
from remit.storage.inventory import InventoryRows
from remit.storage.schema.inventory import inventory_credential

_STANDING = {
    LeaseState.SPARE: Standing.LIVE,
    LeaseState.ISSUING: Standing.LIVE,
    LeaseState.ACTIVE: Standing.LIVE,
    LeaseState.REVOKING: Standing.REVOKING,
    LeaseState.UNPROVED: Standing.REVOKING,
    LeaseState.REVOKED: Standing.REVOKED,
    LeaseState.FAILED: Standing.REVOKED,
}


class FactRows:
    """Implements `defense.ports.DetectionFacts`."""

    def __init__(self, conn: Connection, inventory: InventoryRows, access: AccessRows) -> None:
        self._conn = conn
        self._inventory = inventory
        self._access = access

    def identity_of(self, system: str, principal: str) -> str:
        if is_id("id", principal):
            return principal if self._inventory.identities([principal]) else ""
        lease = self._access.leases_by_principal([principal]).get(principal)
        if lease is not None:
            return lease.lease.identity
        candidates = [principal, *self._target_names(system, principal)]
        found = self._inventory.resolve(candidates)
        return next((found[each] for each in candidates if each in found), "")

    def lease_of(self, target: str, principal: str) -> LeaseFact | None:
        held = self._access.leases_by_principal([principal]).get(principal)
        if held is None or held.lease.target != target:
            return None
        stored = self._access.target(target)
        return _lease(held, stored.target if stored is not None else None)

    def credential(self, fingerprint: str) -> CredentialFact | None:
        record = self._inventory.credentials([fingerprint]).get(fingerprint)
        if record is None:
            return None
        standing = Standing.REVOKED if record.state == "revoked" else Standing.LIVE
        return CredentialFact(
            fingerprint=fingerprint,
            identity=record.identity,
            standing=standing,
            revoked=_moment(record.attributes.get("revoked_at")),
            last_probe=_moment(record.attributes.get("probed_at")),
        )

    def credential_of(self, target: str, principal: str) -> CredentialFact | None:
        identity = self.identity_of(target, principal)
        if not identity:
            return None
        table = inventory_credential
        rows = self._conn.execute(
            select(table.c.fingerprint, table.c.state).where(table.c.identity == identity, table.c.kind == "password")
        ).all()
        if not rows or any(row.state != "revoked" for row in rows):
            return None
        return self.credential(rows[-1].fingerprint)

    def brokered(self, identity: str, target: str) -> Sequence[str]:
        stored = self._access.target(target)
        if stored is None or self.identity_of(target, stored.target.user) == identity:
            return ()
        leases = self._access.leases(LeaseFilter(identity=identity, target=target), limit=50)
        tasks = [task for task in self._access.tasks() if task.identity == identity]
        needs = {held.lease.need for held in leases}
        if tasks and not needs:
            needs = {f"{stored.target.system}://{target}?role={role}" for role in stored.target.roles}
        return sorted(needs)

    def _target_names(self, system: str, principal: str) -> list[str]:
        stored = self._access.target(system)
        if stored is None:
            return [name(system, "", "role", principal)]
        target = stored.target
        return [
            name(target.system, target.instance, "role", principal),
            name(target.system, f"{target.host}:{target.port}", "role", principal),
        ]


def _lease(held: HeldLease, target: Target | None) -> LeaseFact:
    lease = held.lease
    role = next((name for name, group in target.roles.items() if group == held.role), "") if target else ""
    declared = target.options.get(f"schemas.{role}") if target else None
    return LeaseFact(
        id=lease.id,
        identity=lease.identity,
        target=lease.target,
        principal=lease.principal,
        role=held.role,
        standing=_STANDING[lease.state],
        expires=lease.expires,
        revoked=lease.revoked,
        last_probe=lease.revoked,
        schemas=frozenset(part.strip() for part in declared.split(",")) if declared else None,
    )


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None
