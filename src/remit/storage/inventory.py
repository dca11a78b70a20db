"""The registry's rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Select, Table, and_, delete, exists, func, or_, select, update

from remit.inventory.model import EdgeFact, FindingFact, IdentityKind, OwnerFact, Place, Sensitivity, Severity, State
from remit.inventory.records import (
    SORTABLE,
    CredentialRecord,
    EdgeRecord,
    FindingRecord,
    IdentityFilter,
    IdentityRecord,
    OwnerProposal,
    ResourceRecord,
    SightingRecord,
    SourceRecord,
)
from remit.kernel.canonical import Json, canonical
from remit.storage.schema.inventory import (
    inventory_alias,
    inventory_credential,
    inventory_edge,
    inventory_finding,
    inventory_identity,
    inventory_owner,
    inventory_resource,
    inventory_sighting,
    inventory_source,
)
from remit.storage.upsert import upsert

R = TypeVar("R")
_CHUNK = 500
_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class InventoryRows:
    """Implements `remit.inventory.ports.InventoryRows`."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # -- identities

    def resolve(self, names: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        wanted = list(set(names))
        table = inventory_alias
        for chunk in _chunks(wanted):
            rows = self._conn.execute(select(table.c.name, table.c.identity).where(table.c.name.in_(chunk)))
            found.update((row.name, row.identity) for row in rows)
        ids = [each for each in wanted if each.startswith("id_")]
        for each, record in self.identities(ids).items():
            found[each] = record.merged_into or record.id
        nodes = {_fingerprint(each): each for each in wanted if each not in found and _is_credential(each)}
        for fingerprint, credential in self.credentials(nodes).items():
            found[nodes[fingerprint]] = credential.identity
        return found

    def identities(self, ids: Iterable[str]) -> dict[str, IdentityRecord]:
        records = self._some(inventory_identity, inventory_identity.c.id, ids)
        return {row["id"]: _identity(row) for row in records}

    def put_identities(self, records: Sequence[IdentityRecord]) -> None:
        rows = [_row(record) for record in records]
        # Owner, state and tier are governance's: a sighting never overwrites them.
        self._put(inventory_identity, rows, keep=("owner", "state", "tier", "first_seen", "merged_into", "name"))

    def put_aliases(self, aliases: Mapping[str, str], evidence: str, since: datetime) -> None:
        rows = [
            {"name": name, "identity": identity, "evidence": evidence, "since": since}
            for name, identity in aliases.items()
        ]
        self._put(inventory_alias, rows)

    def merge(self, younger: str, older: str) -> None:
        table, records = inventory_identity, self.identities([younger, older])
        self._conn.execute(update(inventory_alias).where(inventory_alias.c.identity == younger).values(identity=older))
        self.put_aliases({younger: older}, "merged", records[younger].last_seen)
        self._conn.execute(
            update(inventory_credential).where(inventory_credential.c.identity == younger).values(identity=older)
        )
        self._conn.execute(
            update(table)
            .where(or_(table.c.id == younger, table.c.merged_into == younger))
            .values(merged_into=older, present=False)
        )
        self._change(older, **_kept_in_merge(records[younger], records[older]))

    def names_of(self, identity: str) -> list[str]:
        query = select(inventory_alias.c.name).where(inventory_alias.c.identity == identity)
        return sorted(self._conn.scalars(query))

    def set_state(self, identity: str, state: str) -> None:
        """Set the life-cycle state; `governance.lifecycle` decides whether it may."""
        self._change(identity, state=state)

    def set_owner(self, identity: str, owner: str | None) -> None:
        """Set the accountable owner."""
        self._change(identity, owner=owner)

    def set_tier(self, identity: str, tier: int) -> None:
        """Set the risk tier."""
        self._change(identity, tier=tier)

    def _change(self, identity: str, **values: object) -> None:
        self._conn.execute(update(inventory_identity).where(inventory_identity.c.id == identity).values(**values))

    def list_identities(self, filter: IdentityFilter) -> tuple[list[IdentityRecord], int]:
        where = _conditions(filter)
        total = self._conn.scalar(select(func.count()).select_from(inventory_identity).where(*where))
        column = inventory_identity.c[filter.sort if filter.sort in SORTABLE else "title"]
        order = column.desc() if filter.descending else column.asc()
        query = select(inventory_identity).where(*where).order_by(order.nulls_last(), inventory_identity.c.id)
        rows = self._conn.execute(query.limit(filter.limit).offset(filter.offset))
        return [_identity(dict(row._mapping)) for row in rows], int(total or 0)

    def facets(self) -> dict[str, dict[str, int]]:
        table = inventory_identity
        found: dict[str, dict[str, int]] = {}
        for column in ("kind", "system", "environment", "state"):
            query = select(table.c[column], func.count()).where(table.c.present, table.c[column].is_not(None))
            rows = self._conn.execute(query.group_by(table.c[column]).order_by(func.count().desc()).limit(50))
            found[column] = {str(row[0]): int(row[1]) for row in rows}
        return found

    def count(self) -> dict[str, int]:
        """Totals for the front page: identities, unowned, privileged, credentials, exposed, findings, sources."""
        identity, credential = inventory_identity, inventory_credential

        def total(table: Table, *where: Any) -> int:
            return int(self._conn.scalar(select(func.count()).select_from(table).where(*where)) or 0)

        present = and_(identity.c.present, identity.c.merged_into.is_(None))
        return {
            "identities": total(identity, present),
            "unowned": total(identity, present, identity.c.owner.is_(None)),
            "privileged": total(identity, present, identity.c.privileged),
            "quarantined": total(identity, present, identity.c.state == State.QUARANTINED.value),
            "credentials": total(credential, credential.c.present),
            "exposed": total(credential, credential.c.present, credential.c.exposed),
            "resources": total(inventory_resource, inventory_resource.c.present),
            "findings": total(inventory_finding),
            "sources": total(inventory_source),
        }

    def all_identities(self) -> Iterator[IdentityRecord]:
        query = select(inventory_identity).where(inventory_identity.c.merged_into.is_(None))
        for row in self._stream(query.order_by(inventory_identity.c.title, inventory_identity.c.id)):
            yield _identity(row)

    def aliases(self) -> Iterator[tuple[str, str]]:
        """Every (name, identity)."""
        for row in self._stream(select(inventory_alias.c.name, inventory_alias.c.identity)):
            yield row["name"], row["identity"]

    # -- credentials and resources

    def credentials(self, fingerprints: Iterable[str]) -> dict[str, CredentialRecord]:
        rows = self._some(inventory_credential, inventory_credential.c.fingerprint, fingerprints)
        return {row["fingerprint"]: CredentialRecord(**row) for row in rows}

    def put_credentials(self, records: Sequence[CredentialRecord]) -> None:
        self._put(inventory_credential, [_row(record) for record in records], keep=("first_seen", "state"))

    def set_credential_state(self, fingerprint: str, state: str) -> None:
        """`active`, `revoked` …"""
        table = inventory_credential
        self._conn.execute(update(table).where(table.c.fingerprint == fingerprint).values(state=state))

    def credentials_of(self, identities: Iterable[str]) -> list[CredentialRecord]:
        rows = self._some(inventory_credential, inventory_credential.c.identity, identities)
        return [CredentialRecord(**row) for row in rows]

    def all_credentials(self) -> Iterator[CredentialRecord]:
        for row in self._stream(select(inventory_credential).order_by(inventory_credential.c.fingerprint)):
            yield CredentialRecord(**row)

    def resources(self, names: Iterable[str]) -> dict[str, ResourceRecord]:
        rows = self._some(inventory_resource, inventory_resource.c.name, names)
        return {row["name"]: _resource(row) for row in rows}

    def put_resources(self, records: Sequence[ResourceRecord]) -> None:
        keep = ("first_seen", "sensitivity_confirmed")
        self._put(inventory_resource, [_row(record) for record in records], keep=keep)

    def all_resources(self) -> Iterator[ResourceRecord]:
        for row in self._stream(select(inventory_resource).order_by(inventory_resource.c.name)):
            yield _resource(row)

    # -- what sources said

    def source(self, connector: str, instance: str, scope: str) -> SourceRecord | None:
        table = inventory_source
        row = self._conn.execute(
            select(table).where(table.c.connector == connector, table.c.instance == instance, table.c.scope == scope)
        ).first()
        return None if row is None else _source(dict(row._mapping))

    def put_source(self, record: SourceRecord) -> None:
        self._put(inventory_source, [_row(record)])

    def sources(self) -> list[SourceRecord]:
        rows = self._conn.execute(select(inventory_source).order_by(inventory_source.c.started.desc()))
        return [_source(dict(row._mapping)) for row in rows]

    def put_sightings(
        self, source: str, run: str, now: datetime, rows: Sequence[tuple[str, str, str, Mapping[str, Json]]]
    ) -> None:
        records = [
            {
                "source": source,
                "kind": kind,
                "key": _key(node, place),
                "node": node,
                "run": run,
                "first_seen": now,
                "last_seen": now,
                "place": place,
                "fact": fact,
            }
            for kind, node, place, fact in rows
        ]
        self._put(inventory_sighting, records, keep=("first_seen",))

    def seen_in(self, source: str, run: str) -> dict[str, int]:
        """How many different identities, credentials and resources a run has shown so far."""
        seen = inventory_sighting
        query = select(seen.c.kind, func.count(seen.c.node.distinct())).where(
            seen.c.source == source, seen.c.run == run
        )
        return {row[0]: int(row[1]) for row in self._conn.execute(query.group_by(seen.c.kind))}

    def put_edges(self, source: str, run: str, facts: Sequence[EdgeFact]) -> None:
        rows = [
            {
                "source": source,
                "key": _key(fact.source, fact.relation.value, fact.target, *fact.conditions),
                "run": run,
                "tail": fact.source,
                "relation": fact.relation.value,
                "head": fact.target,
                "actions": list(fact.actions),
                "conditions": list(fact.conditions),
                "evidence": fact.evidence,
                "place": _place(fact.place),
                "cut": fact.cut,
            }
            for fact in facts
        ]
        self._put(inventory_edge, rows)

    def put_findings(self, source: str, run: str, now: datetime, facts: Sequence[tuple[str, FindingFact]]) -> int:
        rows = {}
        for finding_id, fact in facts:
            key = _key(fact.rule, str(fact.subject), _place(fact.place))
            rows[key] = {
                "source": source,
                "key": key,
                "id": finding_id,
                "run": run,
                "rule": fact.rule,
                "severity": fact.severity.value,
                "rank": _RANK[fact.severity],
                "title": fact.title[:400],
                "detail": fact.detail,
                "next_step": fact.next_step,
                "subject": fact.subject,
                "place": _place(fact.place),
                "first_seen": now,
                "last_seen": now,
            }
        table = inventory_finding
        known = 0
        for chunk in _chunks(list(rows)):
            query = select(func.count()).select_from(table).where(table.c.source == source, table.c.key.in_(chunk))
            known += int(self._conn.scalar(query) or 0)
        self._put(table, list(rows.values()), keep=("first_seen", "id"))
        return len(rows) - known

    def put_owners(self, source: str, run: str, facts: Sequence[OwnerFact]) -> None:
        rows = [
            {
                "source": source,
                "key": _key(fact.identity, fact.owner, fact.method),
                "run": run,
                "identity": fact.identity,
                "owner": fact.owner[:200],
                "method": fact.method,
                "evidence": fact.evidence[:1000],
                "confidence": fact.confidence,
                "place": _place(fact.place),
            }
            for fact in facts
        ]
        self._put(inventory_owner, rows)

    def retire(self, source: str, run: str) -> dict[str, int]:
        stale = and_(inventory_sighting.c.source == source, inventory_sighting.c.run != run)
        rows = self._conn.execute(select(inventory_sighting.c.kind, inventory_sighting.c.node).where(stale))
        nodes = [(row.kind, row.node) for row in rows]
        self._conn.execute(delete(inventory_sighting).where(stale))
        counts: dict[str, int] = {}
        for table, kind in ((inventory_edge, "edges"), (inventory_finding, "findings"), (inventory_owner, "owners")):
            gone = self._conn.execute(delete(table).where(table.c.source == source, table.c.run != run)).rowcount
            counts[kind] = int(gone)
        credential, resource, identity = inventory_credential, inventory_resource, inventory_identity
        gone_credentials = {_fingerprint(node) for node in self._unseen("credential", nodes)}
        counts["credential"] = self._mark_gone(credential, credential.c.fingerprint, gone_credentials)
        counts["resource"] = self._mark_gone(resource, resource.c.name, self._unseen("resource", nodes))
        ids = set(self.resolve(self._unseen("identity", nodes)).values())
        ids |= {each.identity for each in self.credentials(gone_credentials).values()}
        counts["identity"] = self._mark_gone(identity, identity.c.id, ids - self._alive(ids))
        return counts

    def _unseen(self, kind: str, nodes: Iterable[tuple[str, str]]) -> set[str]:
        """The nodes of `kind` of which no source has a sighting left."""
        unseen: set[str] = set()
        seen = inventory_sighting
        for chunk in _chunks(sorted({node for of, node in nodes if of == kind})):
            query = select(seen.c.node).where(seen.c.kind == kind, seen.c.node.in_(chunk))
            unseen |= set(chunk) - set(self._conn.scalars(query))
        return unseen

    def _mark_gone(self, table: Table, column: Column[Any], keys: set[str]) -> int:
        """How many of `keys` were there until now."""
        gone = 0
        for chunk in _chunks(sorted(keys)):
            gone += self._conn.execute(
                update(table).where(column.in_(chunk), table.c.present).values(present=False)
            ).rowcount
        return gone

    def _alive(self, ids: set[str]) -> set[str]:
        """Those that a source shows, by themselves or by a credential; what Remit itself made is no source's to end."""
        alive: set[str] = set()
        alias, seen, credential, own = inventory_alias, inventory_sighting, inventory_credential, inventory_identity
        for chunk in _chunks(sorted(ids)):
            sighted = exists().where(seen.c.kind == "identity", seen.c.node == alias.c.name)
            for query in (
                select(alias.c.identity).where(alias.c.identity.in_(chunk), sighted),
                select(credential.c.identity).where(credential.c.identity.in_(chunk), credential.c.present),
                select(own.c.id).where(own.c.id.in_(chunk), own.c.system == "remit"),
            ):
                alive |= set(self._conn.scalars(query))
        return alive

    def sightings_of(self, nodes: Iterable[str]) -> list[SightingRecord]:
        records: list[SightingRecord] = []
        seen, source = inventory_sighting, inventory_source
        for chunk in _chunks(list(nodes)):
            query = (
                select(
                    seen.c.source, source.c.connector, seen.c.kind, seen.c.node, seen.c.place,
                    seen.c.first_seen, seen.c.last_seen, seen.c.fact,
                )
                .join(source, source.c.id == seen.c.source)
                .where(seen.c.node.in_(chunk))
            )  # fmt: skip
            records += [SightingRecord(**row._mapping) for row in self._conn.execute(query.limit(500))]
        return records

    def findings(
        self,
        *,
        subjects: Iterable[str] | None = None,
        limit: int = 200,
        severity: str = "",
        text: str = "",
        source: str = "",
    ) -> list[FindingRecord]:
        table = inventory_finding
        columns = [table.c[each.name] for each in fields(FindingRecord)]
        query = select(*columns).order_by(table.c.rank.desc(), table.c.first_seen.desc(), table.c.id).limit(limit)
        if source:
            query = query.where(table.c.source == source)
        if severity:
            query = query.where(table.c.severity == severity)
        if text:
            query = query.where(or_(_contains(table.c.title, text), _contains(table.c.place, text)))
        if subjects is None:
            return [FindingRecord(**row._mapping) for row in self._conn.execute(query)]
        found: list[FindingRecord] = []
        for chunk in _chunks(list(subjects)):
            found += [
                FindingRecord(**row._mapping) for row in self._conn.execute(query.where(table.c.subject.in_(chunk)))
            ]
        return found

    def finding_counts(self) -> dict[str, int]:
        """Findings by severity."""
        table = inventory_finding
        rows = self._conn.execute(select(table.c.severity, func.count()).group_by(table.c.severity))
        return {row[0]: int(row[1]) for row in rows}

    def proposals(self, names: Iterable[str]) -> list[OwnerProposal]:
        columns = [inventory_owner.c[each.name] for each in fields(OwnerProposal)]
        found: list[OwnerProposal] = []
        for chunk in _chunks(list(names)):
            query = select(*columns).where(inventory_owner.c.identity.in_(chunk))
            found += [OwnerProposal(**row._mapping) for row in self._conn.execute(query)]
        return sorted(found, key=lambda each: (-each.confidence, each.owner))

    def edges(self) -> Iterator[EdgeRecord]:
        for row in self._stream(_edge_query()):
            yield _edge(row)

    def edges_into(self, heads: Iterable[str]) -> list[EdgeRecord]:
        return self._edges_where(inventory_edge.c.head, heads)

    def edges_from(self, tails: Iterable[str]) -> list[EdgeRecord]:
        """The edges that start at one of `tails`."""
        return self._edges_where(inventory_edge.c.tail, tails)

    def _edges_where(self, column: Column[Any], values: Iterable[str]) -> list[EdgeRecord]:
        found: list[EdgeRecord] = []
        for chunk in _chunks(list(values)):
            rows = self._conn.execute(_edge_query().where(column.in_(chunk)).limit(1000))
            found += [_edge(dict(row._mapping)) for row in rows]
        return found

    # -- how

    def _put(self, table: Table, rows: Sequence[dict[str, Any]], keep: Sequence[str] = ()) -> None:
        upsert(self._conn, table, rows, keep=keep, fit=True)

    def _some(self, table: Table, column: Column[Any], values: Iterable[str]) -> Iterator[dict[str, Any]]:
        for chunk in _chunks(list(set(values))):
            for row in self._conn.execute(select(table).where(column.in_(chunk))):
                yield dict(row._mapping)

    def _stream(self, query: Select[Any]) -> Iterator[dict[str, Any]]:
        for row in self._conn.execute(query):
            yield dict(row._mapping)


def _kept_in_merge(younger: IdentityRecord, older: IdentityRecord) -> dict[str, object]:
    """What people decided of the younger one and must not be lost: containment, the stricter tier, an owner."""
    states = (older.state, younger.state)
    state = next((each for each in (State.QUARANTINED, State.SUSPENDED) if each in states), older.state)
    tiers = [each.tier for each in (older, younger) if each.tier is not None]
    return {"state": state.value, "tier": min(tiers, default=None), "owner": older.owner or younger.owner}


def _conditions(wanted: IdentityFilter) -> list[Any]:
    table = inventory_identity
    where: list[Any] = [table.c.merged_into.is_(None)]
    if not wanted.include_gone:
        where.append(table.c.present)
    for column in ("kind", "state", "system", "environment", "owner"):
        if value := getattr(wanted, column):
            where.append(table.c[column] == value)
    if wanted.unowned:
        where.append(table.c.owner.is_(None))
    if wanted.privileged:
        where.append(table.c.privileged)
    if wanted.exposed:
        credential = inventory_credential
        where.append(exists().where(credential.c.identity == table.c.id, credential.c.exposed, credential.c.present))
    if wanted.text:
        where.append(
            or_(*(_contains(table.c[column], wanted.text) for column in ("title", "name", "owner", "service")))
        )
    return where


def _contains(column: Column[Any], text: str) -> Any:
    return column.icontains(text, autoescape=True)


def _edge_query() -> Select[Any]:
    return select(*(inventory_edge.c[each.name] for each in fields(EdgeRecord)))


def _edge(row: dict[str, Any]) -> EdgeRecord:
    return EdgeRecord(**{**row, "actions": tuple(row["actions"]), "conditions": tuple(row["conditions"])})


def _row(record: Any) -> dict[str, Any]:
    row = {}
    for field in fields(record):
        value = getattr(record, field.name)
        row[field.name] = value.value if isinstance(value, IdentityKind | State | Sensitivity) else value
        if field.name == "skipped":
            row[field.name] = [dict(each) for each in value]
    return row


def _identity(row: dict[str, Any]) -> IdentityRecord:
    return IdentityRecord(**{**row, "kind": IdentityKind(row["kind"]), "state": State(row["state"])})


def _resource(row: dict[str, Any]) -> ResourceRecord:
    sensitivity = None if row["sensitivity"] is None else Sensitivity(row["sensitivity"])
    return ResourceRecord(**{**row, "sensitivity": sensitivity})


def _source(row: dict[str, Any]) -> SourceRecord:
    return SourceRecord(**{**row, "skipped": tuple(row["skipped"])})


def _place(place: Place) -> str:
    from remit.inventory.registry import write_place

    return write_place(place)


def _key(*parts: str) -> str:
    return hashlib.sha256(canonical(list(parts))).hexdigest()


def _is_credential(node: str) -> bool:
    return node.startswith("urn:remit:credential:") and node.count(":") == 5 and ":fingerprint:" in node


def _fingerprint(node: str) -> str:
    _, _, _, algorithm, _, digest = node.split(":")
    return f"{algorithm}:{digest}"


def _chunks(values: Sequence[R]) -> Iterator[Sequence[R]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
