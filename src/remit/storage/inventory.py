"""The registry's rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, and_, delete, exists, func, or_, select, update

from remit.inventory.model import EdgeFact, FindingFact, OwnerFact, Place, Sensitivity, Severity, State
from remit.inventory.records import (
    CONCLUDED,
    CredentialRecord,
    EdgeRecord,
    FindingRecord,
    IdentityFilter,
    IdentityRecord,
    JoinRecord,
    OwnerProposal,
    ResourceFilter,
    ResourceRecord,
    SightingRecord,
    SourceRecord,
)
from remit.inventory.settle import sighting_key
from remit.kernel.canonical import Json, canonical
from remit.storage.inventory_codec import chunks, edge_of, identity_of, resource_of, row_of, source_of
from remit.storage.inventory_history import History
from remit.storage.inventory_joins import Joins
from remit.storage.inventory_list import contains, list_identities, matches, page_of
from remit.storage.inventory_resources import confirm_sensitivity, list_resources
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
from remit.storage.upsert import fitted, upsert
from remit.storage.word_overlay import follow_words, lay_words

_MOST_SAID = 20_000
"""Sightings of one batch that are weighed against one another."""
_RANK = {severity: rank for rank, severity in enumerate(Severity)}


class InventoryRows:
    """Implements `remit.inventory.ports.InventoryRows`."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self._conn = conn
        self.history = History(conn, now)
        self.joins = Joins(conn)

    # -- identities

    def resolve(self, names: Iterable[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        wanted = list(set(names))
        table = inventory_alias
        for chunk in chunks(wanted):
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
        return {row["id"]: identity_of(row) for row in records}

    def put_identities(self, records: Sequence[IdentityRecord]) -> None:
        # By title: so the index of texts is written best. Owner, state and tier are governance's: never overwritten.
        rows = [row_of(record) for record in sorted(records, key=lambda record: record.title)]
        self._put(inventory_identity, rows, keep=("owner", "state", "tier", "first_seen", "merged_into", "name"))
        lay_words(self._conn, (record.id for record in records))
        self.history.identities(record.id for record in records)

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
        follow_words(self._conn, younger, older)
        self.joins.follow(younger, older)
        self.history.identities([younger, *_ids_merged_into(self._conn, older)])
        self.history.credentials(each.fingerprint for each in self.credentials_of([older]))

    def names_of(self, identity: str) -> list[str]:
        query = select(inventory_alias.c.name).where(inventory_alias.c.identity == identity)
        return sorted(self._conn.scalars(query))

    def names_of_all(self, identities: Iterable[str]) -> dict[str, list[str]]:
        table = inventory_alias
        found: dict[str, list[str]] = {}
        for chunk in chunks(sorted(set(identities))):
            for row in self._conn.execute(select(table.c.name, table.c.identity).where(table.c.identity.in_(chunk))):
                found.setdefault(row.identity, []).append(row.name)
        return found

    def apart_from(self, identities: Iterable[str]) -> set[frozenset[str]]:
        return {frozenset((each.one, each.other)) for each in self.joins.apart(identities)}

    def put_joins(self, records: Sequence[JoinRecord]) -> None:
        self.joins.put(records)

    def part(self, identity: str, *, present: bool) -> None:
        """Let a merged identity be one of its own again."""
        self._change(identity, merged_into=None, present=present)

    def restore(self, identity: str, *, state: str, owner: str | None, tier: int | None) -> None:
        """What governance says of an identity that was split off."""
        self._change(identity, state=state, owner=owner, tier=tier)

    def set_state(self, identity: str, state: str) -> None:
        """Set the life-cycle state; `governance.lifecycle` decides whether it may."""
        self._change(identity, state=state)

    def set_owner(self, identity: str, owner: str | None) -> None:
        """Set the accountable owner."""
        self._change(identity, owner=owner)

    def set_tier(self, identity: str, tier: int | None) -> None:
        self._change(identity, tier=tier)

    def _change(self, identity: str, **values: object) -> None:
        self._conn.execute(update(inventory_identity).where(inventory_identity.c.id == identity).values(**values))
        self.history.identities([identity])

    def list_identities(self, filter: IdentityFilter) -> tuple[list[IdentityRecord], int]:
        return list_identities(self._conn, filter)

    def list_at(self, filter: IdentityFilter, at: datetime) -> tuple[list[IdentityRecord], int]:
        """What a listing would have shown at a past moment; reads the whole registry of then."""
        found = [each for each in self.history.identities_at(at) if matches(filter, each)]
        if filter.exposed:
            credentials = self.history.credentials_at(at)
            exposed = {each.identity for each in credentials if each.exposed and each.present}
            found = [each for each in found if each.id in exposed]
        return page_of(filter, found), len(found)

    def facets(self) -> dict[str, dict[str, int]]:
        tallies = self.history.tallies()
        found: dict[str, dict[str, int]] = {}
        for column in ("kind", "system", "environment", "state"):
            numbers = sorted(tallies.get(column, {}).items(), key=lambda item: (-item[1], item[0]))
            found[column] = dict(numbers[:50])
        return found

    def count(self) -> dict[str, int]:
        """Totals for the front page: identities, unowned, privileged, credentials, exposed, findings, sources."""
        credential = inventory_credential

        def total(table: Table, *where: Any) -> int:
            return int(self._conn.scalar(select(func.count()).select_from(table).where(*where)) or 0)

        tallies = self.history.tallies()
        return {
            "identities": tallies.get("total", {}).get("", 0),
            "unowned": tallies.get("unowned", {}).get("", 0),
            "privileged": tallies.get("privileged", {}).get("", 0),
            "quarantined": tallies.get("state", {}).get(State.QUARANTINED.value, 0),
            "credentials": total(credential, credential.c.present),
            "exposed": total(credential, credential.c.present, credential.c.exposed),
            "resources": total(inventory_resource, inventory_resource.c.present),
            "findings": total(inventory_finding),
            "sources": total(inventory_source),
        }

    def all_identities(self) -> Iterator[IdentityRecord]:
        query = select(inventory_identity).where(inventory_identity.c.merged_into.is_(None))
        for row in self._stream(query.order_by(inventory_identity.c.title, inventory_identity.c.id)):
            yield identity_of(row)

    def aliases(self) -> Iterator[tuple[str, str]]:
        """Every (name, identity)."""
        for row in self._stream(select(inventory_alias.c.name, inventory_alias.c.identity)):
            yield row["name"], row["identity"]

    def aliases_since(self, since: datetime) -> Iterator[tuple[str, str]]:
        """Every (name, identity) that was said at `since` or later."""
        query = select(inventory_alias.c.name, inventory_alias.c.identity).where(inventory_alias.c.since >= since)
        for row in self._stream(query):
            yield row["name"], row["identity"]

    # -- credentials and resources

    def credentials(self, fingerprints: Iterable[str]) -> dict[str, CredentialRecord]:
        rows = self._some(inventory_credential, inventory_credential.c.fingerprint, fingerprints)
        return {row["fingerprint"]: CredentialRecord(**row) for row in rows}

    def put_credentials(self, records: Sequence[CredentialRecord]) -> None:
        self._put(inventory_credential, [row_of(record) for record in records], keep=("first_seen", "state"))
        self.history.credentials(record.fingerprint for record in records)

    def move_credential(self, fingerprint: str, identity: str) -> None:
        """Let a credential belong to another identity."""
        table = inventory_credential
        self._conn.execute(update(table).where(table.c.fingerprint == fingerprint).values(identity=identity))
        self.history.credentials([fingerprint])

    def set_credential_state(self, fingerprint: str, state: str) -> None:
        """`active`, `revoked` …"""
        table = inventory_credential
        self._conn.execute(update(table).where(table.c.fingerprint == fingerprint).values(state=state))
        self.history.credentials([fingerprint])

    def credentials_of(self, identities: Iterable[str]) -> list[CredentialRecord]:
        rows = self._some(inventory_credential, inventory_credential.c.identity, identities)
        return [CredentialRecord(**row) for row in rows]

    def all_credentials(self) -> Iterator[CredentialRecord]:
        for row in self._stream(select(inventory_credential).order_by(inventory_credential.c.fingerprint)):
            yield CredentialRecord(**row)

    def resources(self, names: Iterable[str]) -> dict[str, ResourceRecord]:
        rows = self._some(inventory_resource, inventory_resource.c.name, names)
        return {row["name"]: resource_of(row) for row in rows}

    def put_resources(self, records: Sequence[ResourceRecord]) -> None:
        keep = ("first_seen", "sensitivity_confirmed")
        self._put(inventory_resource, [row_of(record) for record in records], keep=keep)
        self.history.resources(record.name for record in records)

    def all_resources(self) -> Iterator[ResourceRecord]:
        for row in self._stream(select(inventory_resource).order_by(inventory_resource.c.name)):
            yield resource_of(row)

    def list_resources(self, wanted: ResourceFilter) -> tuple[list[ResourceRecord], int]:
        return list_resources(self._conn, wanted)

    def confirm_sensitivity(self, names: Iterable[str], sensitivity: Sensitivity | None) -> None:
        kept = list(names)
        confirm_sensitivity(self._conn, kept, sensitivity)
        self.history.resources(kept)

    # -- what sources said

    def source(self, connector: str, instance: str, scope: str) -> SourceRecord | None:
        table = inventory_source
        row = self._conn.execute(
            select(table).where(table.c.connector == connector, table.c.instance == instance, table.c.scope == scope)
        ).first()
        return None if row is None else source_of(dict(row._mapping))

    def put_source(self, record: SourceRecord) -> None:
        self._put(inventory_source, [row_of(record)], keep=("marks", "marks_new"))

    def marks(self, source: str) -> tuple[dict[str, str], dict[str, str]]:
        """What the last whole run remembered, and what the one since then has so far."""
        table = inventory_source
        row = self._conn.execute(select(table.c.marks, table.c.marks_new).where(table.c.id == source)).first()
        return ({}, {}) if row is None else (dict(row.marks or {}), dict(row.marks_new or {}))

    def put_marks(self, source: str, whole: Mapping[str, str], part: Mapping[str, str]) -> None:
        table = inventory_source
        self._conn.execute(update(table).where(table.c.id == source).values(marks=dict(whole), marks_new=dict(part)))

    def sources(self) -> list[SourceRecord]:
        table = inventory_source
        query = select(table).where(table.c.connector != CONCLUDED).order_by(table.c.started.desc())
        rows = self._conn.execute(query)
        return [source_of(dict(row._mapping)) for row in rows]

    def put_sightings(
        self, source: str, run: str, now: datetime, rows: Sequence[tuple[str, str, str, Mapping[str, Json]]]
    ) -> None:
        records = [
            {
                "source": source,
                "kind": kind,
                "key": sighting_key(node, place),
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
                "confidence": fact.confidence,
            }
            for fact in facts
        ]
        rows = fitted(inventory_edge, rows)
        upsert(self._conn, inventory_edge, rows)
        self.history.edges(source, rows)

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
                "changed": None,
            }
        table = inventory_finding
        known = 0
        for chunk in chunks(list(rows)):
            columns = (table.c.key, table.c.severity, table.c.title, table.c.changed)
            query = select(*columns).where(table.c.source == source, table.c.key.in_(chunk))
            for was in self._conn.execute(query):
                known += 1
                row = rows[was.key]
                same = (was.severity, was.title) == (row["severity"], row["title"])
                row["changed"] = was.changed if same else now
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
                "at": fact.at,
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
        self.history.end_edges(source, run)
        for table, kind in ((inventory_edge, "edges"), (inventory_finding, "findings"), (inventory_owner, "owners")):
            gone = self._conn.execute(delete(table).where(table.c.source == source, table.c.run != run)).rowcount
            counts[kind] = int(gone)
        credential, resource, identity = inventory_credential, inventory_resource, inventory_identity
        gone_credentials = {_fingerprint(node) for node in self._unseen("credential", nodes)}
        counts["credential"] = self._mark_gone(credential, credential.c.fingerprint, gone_credentials)
        self.history.credentials(gone_credentials)
        gone_resources = self._unseen("resource", nodes)
        counts["resource"] = self._mark_gone(resource, resource.c.name, gone_resources)
        self.history.resources(gone_resources)
        ids = set(self.resolve(self._unseen("identity", nodes)).values())
        ids |= {each.identity for each in self.credentials(gone_credentials).values()}
        dead = ids - self._alive(ids)
        counts["identity"] = self._mark_gone(identity, identity.c.id, dead)
        self.history.identities(dead)
        return counts

    def _unseen(self, kind: str, nodes: Iterable[tuple[str, str]]) -> set[str]:
        """The nodes of `kind` of which no source has a sighting left."""
        unseen: set[str] = set()
        seen = inventory_sighting
        for chunk in chunks(sorted({node for of, node in nodes if of == kind})):
            query = select(seen.c.node).where(seen.c.kind == kind, seen.c.node.in_(chunk))
            unseen |= set(chunk) - set(self._conn.scalars(query))
        return unseen

    def _mark_gone(self, table: Table, column: Column[Any], keys: set[str]) -> int:
        """How many of `keys` were there until now."""
        gone = 0
        for chunk in chunks(sorted(keys)):
            gone += self._conn.execute(
                update(table).where(column.in_(chunk), table.c.present).values(present=False)
            ).rowcount
        return gone

    def _alive(self, ids: set[str]) -> set[str]:
        """Those that a source shows, by themselves or by a credential; what Remit itself made is no source's to end."""
        alive: set[str] = set()
        alias, seen, credential, own = inventory_alias, inventory_sighting, inventory_credential, inventory_identity
        for chunk in chunks(sorted(ids)):
            sighted = exists().where(seen.c.kind == "identity", seen.c.node == alias.c.name)
            for query in (
                select(alias.c.identity).where(alias.c.identity.in_(chunk), sighted),
                select(credential.c.identity).where(credential.c.identity.in_(chunk), credential.c.present),
                select(own.c.id).where(own.c.id.in_(chunk), own.c.system == "remit"),
            ):
                alive |= set(self._conn.scalars(query))
        return alive

    def stale(self, source: str, run: str) -> list[SightingRecord]:
        seen = inventory_sighting
        query = _sightings().where(seen.c.source == source, seen.c.run != run)
        kinds = seen.c.kind.in_(("identity", "credential"))
        return [_sighting(row) for row in self._conn.execute(query.where(kinds).order_by(seen.c.node))]

    def said(self, kind: str, nodes: Iterable[str]) -> list[SightingRecord]:
        seen = inventory_sighting
        found: list[SightingRecord] = []
        for chunk in chunks(sorted(set(nodes))):
            query = _sightings().where(seen.c.kind == kind, seen.c.node.in_(chunk))
            found += [_sighting(row) for row in self._conn.execute(query.limit(_MOST_SAID))]
        return found

    def sightings_of(self, nodes: Iterable[str]) -> list[SightingRecord]:
        found: list[SightingRecord] = []
        for chunk in chunks(list(nodes)):
            query = _sightings().where(inventory_sighting.c.node.in_(chunk))
            found += [_sighting(row) for row in self._conn.execute(query.limit(500))]
        return found

    def findings(
        self,
        *,
        subjects: Iterable[str] | None = None,
        limit: int = 200,
        severity: str = "",
        text: str = "",
        source: str = "",
        rule: str = "",
    ) -> list[FindingRecord]:
        table = inventory_finding
        columns = [table.c[each.name] for each in fields(FindingRecord)]
        query = select(*columns).order_by(table.c.rank.desc(), table.c.first_seen.desc(), table.c.id).limit(limit)
        if source:
            query = query.where(table.c.source == source)
        if rule:
            query = query.where(table.c.rule == rule)
        if severity:
            query = query.where(table.c.severity == severity)
        if text:
            query = query.where(or_(contains(table.c.title, text), contains(table.c.place, text)))
        if subjects is None:
            return [FindingRecord(**row._mapping) for row in self._conn.execute(query)]
        found: list[FindingRecord] = []
        for chunk in chunks(list(subjects)):
            found += [
                FindingRecord(**row._mapping) for row in self._conn.execute(query.where(table.c.subject.in_(chunk)))
            ]
        return found

    def finding_counts(self) -> dict[str, int]:
        """Findings by severity."""
        table = inventory_finding
        rows = self._conn.execute(select(table.c.severity, func.count()).group_by(table.c.severity))
        return {row[0]: int(row[1]) for row in rows}

    def finding_rules(self) -> dict[str, int]:
        """Findings by rule, the most frequent first."""
        table = inventory_finding
        query = select(table.c.rule, func.count().label("number")).group_by(table.c.rule)
        rows = self._conn.execute(query.order_by(func.count().desc(), table.c.rule).limit(200))
        return {row[0]: int(row[1]) for row in rows}

    def proposals(self, names: Iterable[str]) -> list[OwnerProposal]:
        columns = [inventory_owner.c[each.name] for each in fields(OwnerProposal)]
        found: list[OwnerProposal] = []
        for chunk in chunks(list(names)):
            query = select(*columns).where(inventory_owner.c.identity.in_(chunk))
            found += [OwnerProposal(**row._mapping) for row in self._conn.execute(query)]
        return sorted(found, key=lambda each: (-each.confidence, each.owner))

    def edges(self) -> Iterator[EdgeRecord]:
        for row in self._stream(_edge_query()):
            yield edge_of(row)

    def edges_into(self, heads: Iterable[str]) -> list[EdgeRecord]:
        return self._edges_where(inventory_edge.c.head, heads)

    def edges_from(self, tails: Iterable[str]) -> list[EdgeRecord]:
        """The edges that start at one of `tails`."""
        return self._edges_where(inventory_edge.c.tail, tails)

    def _edges_where(self, column: Column[Any], values: Iterable[str]) -> list[EdgeRecord]:
        found: list[EdgeRecord] = []
        for chunk in chunks(list(values)):
            rows = self._conn.execute(_edge_query().where(column.in_(chunk)).limit(1000))
            found += [edge_of(dict(row._mapping)) for row in rows]
        return found

    # -- how

    def _put(self, table: Table, rows: Sequence[dict[str, Any]], keep: Sequence[str] = ()) -> None:
        upsert(self._conn, table, rows, keep=keep, fit=True)

    def _some(self, table: Table, column: Column[Any], values: Iterable[str]) -> Iterator[dict[str, Any]]:
        for chunk in chunks(list(set(values))):
            for row in self._conn.execute(select(table).where(column.in_(chunk))):
                yield dict(row._mapping)

    def _stream(self, query: Select[Any]) -> Iterator[dict[str, Any]]:
        for row in self._conn.execute(query):
            yield dict(row._mapping)


def _kept_in_merge(younger: IdentityRecord, older: IdentityRecord) -> dict[str, object]:
    """What people decided of the younger one and must not be lost: containment, the stricter tier, an owner."""
    states = (older.state, younger.state)
    state = next((each for each in (State.QUARANTINED, State.SUSPENDED) if each in states), older.state)
    tiers = (older.tier, younger.tier)  # a lax one that was said of one alone was not said of both
    tier = None if tiers == (None, None) else min(1 if each is None else each for each in tiers)
    return {"state": state.value, "tier": tier, "owner": older.owner or younger.owner}


def _sightings() -> Select[Any]:
    seen, source = inventory_sighting, inventory_source
    columns = (
        seen.c.source, source.c.connector, seen.c.kind, seen.c.node, seen.c.place, seen.c.first_seen, seen.c.last_seen,
        seen.c.fact, seen.c.key, seen.c.run, source.c.record_of,
    )  # fmt: skip
    return select(*columns).join(source, source.c.id == seen.c.source)


def _sighting(row: Any) -> SightingRecord:
    return SightingRecord(**{**row._mapping, "record_of": tuple(row.record_of)})


def _ids_merged_into(conn: Connection, identity: str) -> list[str]:
    table = inventory_identity
    return [str(each) for each in conn.scalars(select(table.c.id).where(table.c.merged_into == identity))]


def _edge_query() -> Select[Any]:
    return select(*(inventory_edge.c[each.name] for each in fields(EdgeRecord)))


def _place(place: Place) -> str:
    from remit.inventory.batch import write_place

    return write_place(place)


def _key(*parts: str) -> str:
    return hashlib.sha256(canonical(list(parts))).hexdigest()


def _is_credential(node: str) -> bool:
    return node.startswith("urn:remit:credential:") and node.count(":") == 5 and ":fingerprint:" in node


def _fingerprint(node: str) -> str:
    _, _, _, algorithm, _, digest = node.split(":")
    return f"{algorithm}:{digest}"
