"""Rows of trust's federation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from remit.storage.schema.trust_federation import trust_foreign_bundle, trust_relation
from remit.storage.upsert import upsert
from remit.trust.federation.model import HeldBundle, Profile, Relation
from remit.trust.spiffe import SpiffeId, TrustDomain


class FederationRows:
    """Implements `trust.federation.ports.FederationRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def relations(self) -> Sequence[Relation]:
        rows = self._conn.execute(select(trust_relation).order_by(trust_relation.c.trust_domain))
        return [_to_relation(row) for row in rows]

    def relation(self, trust_domain: str) -> Relation | None:
        query = select(trust_relation).where(trust_relation.c.trust_domain == trust_domain)
        row = self._conn.execute(query).one_or_none()
        return None if row is None else _to_relation(row)

    def put_relation(self, relation: Relation) -> None:
        upsert(self._conn, trust_relation, [_from_relation(relation)])

    def remove_relation(self, trust_domain: str) -> bool:
        self.remove_bundle(trust_domain)
        query = delete(trust_relation).where(trust_relation.c.trust_domain == trust_domain)
        return self._conn.execute(query).rowcount > 0

    def bundles(self) -> Sequence[HeldBundle]:
        rows = self._conn.execute(select(trust_foreign_bundle).order_by(trust_foreign_bundle.c.trust_domain))
        return [_to_bundle(row) for row in rows]

    def bundle(self, trust_domain: str) -> HeldBundle | None:
        query = select(trust_foreign_bundle).where(trust_foreign_bundle.c.trust_domain == trust_domain)
        row = self._conn.execute(query).one_or_none()
        return None if row is None else _to_bundle(row)

    def put_bundle(self, held: HeldBundle) -> None:
        row = {
            "trust_domain": held.trust_domain.name,
            "document": held.document,
            "fetched": held.fetched,
            "signature": held.signature,
        }
        upsert(self._conn, trust_foreign_bundle, [row])

    def remove_bundle(self, trust_domain: str) -> None:
        self._conn.execute(delete(trust_foreign_bundle).where(trust_foreign_bundle.c.trust_domain == trust_domain))


def _from_relation(relation: Relation) -> dict[str, Any]:
    return {
        "trust_domain": relation.trust_domain.name,
        "id": relation.id,
        "url": relation.url,
        "profile": relation.profile.value,
        "endpoint_id": str(relation.endpoint_id or ""),
        "until": relation.until,
        "ids": list(relation.ids),
        "resources": list(relation.resources),
        "reason": relation.reason,
        "by": relation.by,
        "created": relation.created,
        "policy": relation.policy,
        "signature": relation.signature,
    }


def _to_relation(row: Row[Any]) -> Relation:
    return Relation(
        id=row.id,
        trust_domain=TrustDomain(row.trust_domain),
        url=row.url,
        profile=Profile(row.profile),
        endpoint_id=SpiffeId.parse(row.endpoint_id) if row.endpoint_id else None,
        until=row.until,
        ids=tuple(row.ids),
        resources=tuple(row.resources),
        reason=row.reason,
        by=row.by,
        created=row.created,
        policy=row.policy,
        signature=row.signature,
    )


def _to_bundle(row: Row[Any]) -> HeldBundle:
    return HeldBundle(
        trust_domain=TrustDomain(row.trust_domain),
        document=row.document,
        fetched=row.fetched,
        signature=row.signature,
    )
