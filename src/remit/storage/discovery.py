"""Rows of readings: schedules, the difference that a run makes, saved views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, select

from remit.inventory.readings import SHOWN, Changes, Reading, differences, read_asked
from remit.inventory.registry import fingerprint_of
from remit.kernel.canonical import Json
from remit.storage.inventory_codec import chunks
from remit.storage.schema.discovery import inventory_reading, inventory_view
from remit.storage.schema.inventory import (
    inventory_alias,
    inventory_credential,
    inventory_finding,
    inventory_history,
    inventory_identity,
    inventory_sighting,
)
from remit.storage.upsert import upsert

_KINDS: Final = ("identity", "credential")


class Moved(NamedTuple):
    """Nodes by kind, and findings, that appear and vanish with a run."""

    new: Mapping[str, list[str]]
    gone: Mapping[str, list[str]]
    gone_findings: tuple[int, list[dict[str, Json]]]


class DiscoveryRows:
    """How sources are read, and what each reading changed."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    # -- readings

    def reading(self, source: str) -> Reading | None:
        """Of one source."""
        row = self._conn.execute(select(inventory_reading).where(inventory_reading.c.source == source)).first()
        return None if row is None else _reading(row)

    def readings(self) -> list[Reading]:
        """Of every source that was read since it is remembered how."""
        return [_reading(row) for row in self._conn.execute(select(inventory_reading))]

    def put(self, reading: Reading) -> None:
        """Keep what is known of one."""
        row = {
            "source": reading.source, "asked": reading.asked.as_json(), "begun": reading.begun,
            "finished": reading.finished, "diff": None if reading.diff is None else dict(reading.diff),
            "plan": None if reading.plan is None else dict(reading.plan), "signature": reading.signature,
            "due": reading.due, "tried": reading.tried, "failures": reading.failures,
            "trouble": reading.trouble[:1000].replace("\0", "\ufffd"),
        }  # fmt: skip
        upsert(self._conn, inventory_reading, [row])

    # -- what a run showed

    def shown(self, source: str, run: str, begun: datetime) -> tuple[int, int]:
        """How many identities a run showed, by themselves or as the bearer of a credential, and how many are new.

        As the registry has them when it is asked: several names of one are one, and what was joined with an older
        one is not new.
        """
        identity, seen, credential = inventory_identity, inventory_sighting, inventory_credential
        here = (seen.c.source == source, seen.c.run == run)
        by_name = select(inventory_alias.c.identity).join(seen, inventory_alias.c.name == seen.c.node)
        by_name = by_name.where(*here, seen.c.kind == "identity")
        number = func.count()
        query = select(number, number.filter(identity.c.first_seen >= begun)).where(identity.c.id.in_(by_name))
        total, new = self._conn.execute(query).one()
        bearers: dict[str, datetime] = {}
        nodes = self._conn.scalars(select(seen.c.node).where(*here, seen.c.kind == "credential").distinct())
        others = select(identity.c.id, identity.c.first_seen).where(identity.c.id.not_in(by_name))
        for chunk in chunks(sorted({fingerprint_of(each) for each in nodes})):
            borne = select(credential.c.identity).where(credential.c.fingerprint.in_(chunk))
            bearers |= {row.id: row.first_seen for row in self._conn.execute(others.where(identity.c.id.in_(borne)))}
        return int(total) + len(bearers), int(new) + sum(since >= begun for since in bearers.values())

    # -- what a run changed

    def appeared(self, source: str, run: str, kind: str, begun: datetime) -> list[str]:
        """Nodes that this run showed, and this source never before `begun`."""
        seen = inventory_sighting
        here = select(seen.c.node).where(seen.c.source == source, seen.c.kind == kind)
        new = here.where(seen.c.run == run, seen.c.first_seen >= begun)
        return [str(each) for each in self._conn.scalars(new.except_(here.where(seen.c.first_seen < begun)))]

    def vanished(self, source: str, run: str, kind: str, begun: datetime) -> list[str]:
        """Nodes that this source showed before `begun`, and not in this run."""
        seen = inventory_sighting
        here = select(seen.c.node).where(seen.c.source == source, seen.c.kind == kind)
        before = here.where(seen.c.run != run, seen.c.first_seen < begun)
        return [str(each) for each in self._conn.scalars(before.except_(here.where(seen.c.run == run)))]

    def moved(self, reading: Reading, run: str, now: datetime) -> Moved:
        """What appears and vanishes with the run. Ask before it is finished: then the old sightings are gone."""
        begun = reading.begun or now
        return Moved(
            new={kind: self.appeared(reading.source, run, kind, begun) for kind in _KINDS},
            gone={kind: self.vanished(reading.source, run, kind, begun) for kind in _KINDS},
            gone_findings=self.vanished_findings(reading.source, run, begun),
        )

    def vanished_findings(self, source: str, run: str, begun: datetime) -> tuple[int, list[dict[str, Json]]]:
        """Findings of before that this run did not show. Ask before they are retired."""
        table = inventory_finding
        return self._findings(table.c.source == source, table.c.run != run, table.c.first_seen < begun)

    def changes(self, reading: Reading, run: str, now: datetime, moved: Moved) -> dict[str, Json]:
        """The difference that the run made, after it was finished."""
        begun = reading.begun or now
        first = reading.finished is None
        found = Changes(first=first, since=reading.finished, at=now)
        for kind in _KINDS:
            new, gone = moved.new[kind], moved.gone[kind]
            found.add("new", kind, len(new), [] if first else self._told(kind, new[:SHOWN]))
            found.add("gone", kind, len(gone), self._told(kind, gone[:SHOWN]))
            if not first:
                changed = self._changed(reading.source, run, kind, begun)
                back = self._keys(kind, new) if changed else set()
                changed = [each for each in changed if each[0] not in back]  # what came back is new here
                found.add("changed", kind, len(changed), self._told_changed(kind, changed[:SHOWN]))
        table = inventory_finding
        here = (table.c.source == reading.source, table.c.run == run)
        found.add("new", "finding", *self._findings(*here, table.c.first_seen >= begun))
        found.add("gone", "finding", *moved.gone_findings)
        found.add("changed", "finding", *self._findings(*here, table.c.first_seen < begun, table.c.changed >= begun))
        return found.as_json()

    def _keys(self, kind: str, nodes: list[str]) -> set[str]:
        """The keys by which the history knows nodes."""
        if kind == "credential":
            return {fingerprint_of(each) for each in nodes}
        table, found = inventory_alias, set[str]()
        for chunk in chunks(nodes):
            found |= set(self._conn.scalars(select(table.c.identity).where(table.c.name.in_(chunk))))
        return found

    def _findings(self, *where: Any) -> tuple[int, list[dict[str, Json]]]:
        table = inventory_finding
        number = int(self._conn.scalar(select(func.count()).select_from(table).where(*where)) or 0)
        query = select(table.c.title, table.c.severity, table.c.rule, table.c.place).where(*where)
        rows = self._conn.execute(query.order_by(table.c.rank.desc(), table.c.id).limit(SHOWN))
        return number, [
            {"title": row.title, "severity": row.severity, "rule": row.rule, "place": row.place} for row in rows
        ]

    def _told(self, kind: str, nodes: list[str]) -> list[dict[str, Json]]:
        """Nodes as people know them."""
        if kind == "credential":
            prints = {fingerprint_of(each): each for each in nodes}
            table = inventory_credential
            found = {}
            for chunk in chunks(list(prints)):
                for row in self._conn.execute(select(table).where(table.c.fingerprint.in_(chunk))):
                    found[prints[row.fingerprint]] = {"title": row.title, "id": row.identity, "name": row.fingerprint}
            return [{"title": each, "id": "", "name": each, **found.get(each, {})} for each in nodes]
        alias, identity = inventory_alias, inventory_identity
        known = {}
        for chunk in chunks(nodes):
            query = select(alias.c.name, identity.c.id, identity.c.title).join(
                identity, identity.c.id == alias.c.identity
            )
            for row in self._conn.execute(query.where(alias.c.name.in_(chunk))):
                known[row.name] = {"title": row.title, "id": row.id, "name": row.name}
        return [{"title": each, "id": "", "name": each, **known.get(each, {})} for each in nodes]

    def _changed(self, source: str, run: str, kind: str, begun: datetime) -> list[tuple[str, list[dict[str, str]]]]:
        """Keys of what is said otherwise since `begun`, with the fields."""
        history, seen, alias = inventory_history, inventory_sighting, inventory_alias
        shown = (seen.c.source == source, seen.c.kind == kind, seen.c.run == run)
        new: dict[str, Any] = {}
        if kind == "identity":
            query = (
                select(history.c.key, history.c.data)
                .select_from(seen)
                .join(alias, alias.c.name == seen.c.node)
                .join(history, (history.c.kind == "identity") & (history.c.key == alias.c.identity))
                .where(*shown, history.c.since >= begun, history.c.until.is_(None))
            )
            new = {row.key: row.data for row in self._conn.execute(query)}
        else:
            nodes = self._conn.scalars(select(seen.c.node).where(*shown).distinct())
            for chunk in chunks(sorted({fingerprint_of(each) for each in nodes})):
                rows = self._conn.execute(
                    select(history.c.key, history.c.data).where(
                        history.c.kind == kind, history.c.key.in_(chunk), history.c.since >= begun,
                        history.c.until.is_(None),
                    )
                )  # fmt: skip
                new |= {row.key: row.data for row in rows}
        found = []
        for key, before in self._before(kind, new, begun).items():
            if said := differences(before, new[key]):
                found.append((key, said))
        return sorted(found)

    def _before(self, kind: str, keys: Iterable[str], begun: datetime) -> dict[str, Mapping[str, Any]]:
        table = inventory_history
        found: dict[str, Mapping[str, Any]] = {}
        for chunk in chunks(sorted(keys)):
            query = select(table.c.key, table.c.data).where(
                table.c.kind == kind, table.c.key.in_(chunk), table.c.since < begun
            )
            for row in self._conn.execute(query.order_by(table.c.since)):
                found[row.key] = row.data  # the latest of before counts
        return found

    def _told_changed(self, kind: str, changed: list[tuple[str, list[dict[str, str]]]]) -> list[dict[str, Json]]:
        table = inventory_identity if kind == "identity" else inventory_credential
        column = table.c.id if kind == "identity" else table.c.fingerprint
        owner = table.c.id if kind == "identity" else table.c.identity
        known = {}
        for chunk in chunks([key for key, _ in changed]):
            for row in self._conn.execute(select(column, table.c.title, owner.label("of")).where(column.in_(chunk))):
                known[row[0]] = (row.title, row.of)
        return [
            {"title": known[key][0], "id": known[key][1], "name": key, "fields": [dict(each) for each in said[:10]]}
            for key, said in changed
            if key in known
        ]

    def history_of(self, identity: str, *, limit: int = 40) -> list[dict[str, Any]]:
        """What was said otherwise of an identity and its credentials, the latest first."""
        table = inventory_history
        mine = (table.c.kind == "identity") & (table.c.key == identity)
        its = (table.c.kind == "credential") & (table.c.one == identity)
        query = select(table.c.kind, table.c.key, table.c.since, table.c.data).where(mine | its)
        rows = list(self._conn.execute(query.order_by(table.c.since.desc()).limit(4 * limit)))
        found: list[dict[str, Any]] = []
        earlier: dict[tuple[str, str], Any] = {}
        for row in reversed(rows):
            before = earlier.get((row.kind, row.key))
            earlier[row.kind, row.key] = row.data
            if before is None:
                said = []
            elif not (said := _all_differences(before, row.data)):
                continue
            found.append({"at": row.since, "kind": row.kind, "title": row.data.get("title", ""), "fields": said,
                          "first": before is None and len(rows) < 4 * limit})  # fmt: skip
        return found[::-1][:limit]

    # -- views

    def views(self) -> list[dict[str, Any]]:
        """Saved views by name."""
        rows = self._conn.execute(select(inventory_view).order_by(inventory_view.c.name))
        return [dict(row._mapping) for row in rows]

    def put_view(self, name: str, query: str, by: str, since: datetime) -> None:
        """Save one, in place of one of the same name."""
        upsert(self._conn, inventory_view, [{"name": name, "query": query, "by": by, "since": since}])

    def drop_view(self, name: str) -> bool:
        """Forget one; whether there was one."""
        return self._conn.execute(delete(inventory_view).where(inventory_view.c.name == name)).rowcount == 1


def _all_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, str]]:
    """As `differences`, with what people decided."""
    decided = [
        {"field": key, "before": str(before.get(key) or ""), "after": str(after.get(key) or "")}
        for key in ("owner", "state", "tier", "present", "merged_into")
        if before.get(key) != after.get(key)
    ]
    return decided + [each for each in differences(before, after) if each["field"] != "state"]


def _reading(row: Any) -> Reading:
    return Reading(**{**row._mapping, "asked": read_asked(row.asked)})
