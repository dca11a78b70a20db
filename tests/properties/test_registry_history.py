"""The registry of any past moment against snapshots that were taken then; and that it grows by changes only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, event, func, select

from remit.inventory import registry
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
)
from remit.inventory.records import IdentityFilter
from remit.kernel.ids import Name, name
from remit.storage.schema import everything
from remit.storage.schema.inventory import inventory_history
from remit.storage.unit import Unit

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAMES = [name("db", "one", "role", f"n{number}") for number in range(4)]
PRINTS = [f"hmac:{number:064x}" for number in range(2)]
PLACE = Place(system="test", path="/somewhere")


@cache
def _engine() -> Engine:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    everything().create_all(engine)
    return engine


class Past:
    """A registry, a minute to each unit of work, and what it held after each."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.now = NOON
        self.seen: list[tuple[datetime, Any]] = []

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        self.now += timedelta(minutes=1)
        unit = Unit(lambda: self.conn, self.now)
        yield unit
        self.seen.append((self.now, self.snapshot()))

    @property
    def rows(self) -> Any:
        return Unit(lambda: self.conn, self.now).inventory

    def run(self, source: str, facts: list[Fact], *, finish: bool = True) -> None:
        with self.unit() as unit:
            run = registry.begin_run(unit, source, "i", "s", record_of=("db",))
        with self.unit() as unit:
            registry.reconcile(unit, run, facts)
        if finish:
            with self.unit() as unit:
                registry.finish_run(unit, run, {}, ())

    def snapshot(self) -> Any:
        rows = self.rows
        listed, _ = rows.list_identities(IdentityFilter(limit=100, include_gone=True))
        return (
            sorted(map(_identity, listed)),
            sorted((each.fingerprint, each.identity, each.exposed, each.present) for each in rows.all_credentials()),
            sorted((each.tail, each.head, each.source, each.evidence) for each in rows.edges()),
        )

    def at(self, moment: datetime) -> Any:
        rows = self.rows
        listed, _ = rows.list_at(IdentityFilter(limit=100, include_gone=True), moment)
        credentials = rows.history.credentials_at(moment)
        return (
            sorted(map(_identity, listed)),
            sorted((each.fingerprint, each.identity, each.exposed, each.present) for each in credentials),
            sorted((each.tail, each.head, each.source, each.evidence) for each in rows.history.edges_at(moment)),
        )

    def intervals(self) -> int:
        return int(self.conn.scalar(select(func.count()).select_from(inventory_history)) or 0)


def _identity(record: Any) -> tuple[Any, ...]:
    return (
        record.id, record.name, record.kind.value, record.title, record.state.value, record.owner or "",
        record.environment or "", record.privileged, record.present, sorted(record.attributes.items()),
    )  # fmt: skip


@contextmanager
def fresh() -> Iterator[Past]:
    with _engine().connect() as conn:
        yield Past(conn)
        conn.rollback()


def ident(names: list[Name], environment: str, privileged: bool) -> IdentityFact:
    said: dict[str, Any] = {"privileged": privileged, "label": environment}
    said |= {"environment": environment} if environment else {}
    return IdentityFact(
        name=names[0], aliases=tuple(names[1:]), kind=IdentityKind.BOT, title="t", place=PLACE, attributes=said
    )


def cred(fingerprint: str, named: Name | None, exposed: bool) -> CredentialFact:
    return CredentialFact(
        fingerprint=fingerprint, identity=named, kind=CredentialKind.PASSWORD, title="c", place=PLACE, exposed=exposed
    )


def edge(tail: Name, head: Name, evidence: str) -> EdgeFact:
    return EdgeFact(source=tail, relation=Relation.ASSUME, target=head, evidence=evidence, place=PLACE)


_names = st.sampled_from(NAMES)
facts = st.lists(
    st.builds(
        ident,
        st.lists(_names, min_size=1, max_size=2, unique=True),
        st.sampled_from(["", "prod", "test"]),
        st.booleans(),
    )
    | st.builds(cred, st.sampled_from(PRINTS), st.none() | _names, st.booleans())
    | st.builds(edge, _names, _names, st.sampled_from(["why", "because"])),
    max_size=4,
)
scans = st.lists(st.tuples(st.sampled_from(["alpha", "beta"]), facts, st.booleans()), max_size=5)


@settings(max_examples=120)
@given(scans)
def test_every_past_moment_is_the_snapshot_that_was_taken_then(scans: list[tuple[str, list[Fact], bool]]) -> None:
    with fresh() as past:
        for source, facts, finish in scans:
            past.run(source, facts, finish=finish)
        for moment, snapshot in past.seen:
            assert past.at(moment) == snapshot
            assert past.at(moment + timedelta(seconds=59)) == snapshot
        assert past.at(NOON) == ([], [], [])


@settings(max_examples=60)
@given(scans)
def test_scans_that_change_nothing_leave_no_history(scans: list[tuple[str, list[Fact], bool]]) -> None:
    latest = {source: facts for source, facts, _ in scans}
    with fresh() as past:
        for _ in range(3):  # who is named only by a later scan is settled by then
            for source, facts in latest.items():
                past.run(source, facts)
        kept = past.intervals()
        for source, facts in latest.items():
            past.run(source, facts)
        assert past.intervals() == kept


@settings(max_examples=60)
@given(scans)
def test_the_tallies_are_what_counting_would_say(scans: list[tuple[str, list[Fact], bool]]) -> None:
    with fresh() as past:
        for source, facts, finish in scans:
            past.run(source, facts, finish=finish)
        listed = [each for each in past.rows.all_identities() if each.present]
        assert past.rows.count()["identities"] == len(listed)
        assert past.rows.count()["privileged"] == sum(each.privileged for each in listed)
        assert past.rows.facets()["environment"] == {
            value: number for value in ("prod", "test") if (number := sum(each.environment == value for each in listed))
        }


def test_what_people_decide_is_history_too() -> None:
    with fresh() as past:
        past.run("alpha", [ident(NAMES[:1], "", False)])
        identity = past.rows.resolve(NAMES[:1])[NAMES[0]]
        with past.unit() as unit:
            unit.inventory.set_owner(identity, "alice")
        with past.unit() as unit:
            unit.inventory.set_state(identity, "quarantined")
        for moment, snapshot in past.seen:
            assert past.at(moment) == snapshot


def test_a_name_of_the_past_means_the_identity_that_had_it_then() -> None:
    with fresh() as past:
        past.run("alpha", [ident(NAMES[:1], "", False)])
        past.run("beta", [ident(NAMES[1:2], "", False)])
        before, younger = past.now, past.rows.resolve(NAMES[1:2])[NAMES[1]]
        past.run("beta", [ident(NAMES[:2], "", False)])
        assert past.rows.resolve(NAMES[1:2])[NAMES[1]] != younger
        assert past.rows.history.identity_called(NAMES[1], before) == younger
