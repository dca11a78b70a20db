"""The registry against a naive oracle: facts of several sources, in any order, over any number of runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, event

from remit.inventory import registry
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
    Severity,
    State,
)
from remit.inventory.records import SORTABLE, IdentityFilter
from remit.kernel.errors import Conflict
from remit.kernel.ids import Name, credential_name, name
from remit.storage.schema import everything
from remit.storage.unit import Unit
from stores import opened, postgres, url

__all__ = ["postgres", "url"]

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAMES = [name("db", "one", "role", f"n{number}") for number in range(5)]
PRINTS = [f"hmac:{number:064x}" for number in range(3)]
SOURCES = ("alpha", "beta")
PLACE = Place(system="test", path="/somewhere")


class Registry:
    """The real one, on a database in memory; each batch is a unit of its own, a second later."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.now = NOON

    def unit(self) -> Unit:
        self.now += timedelta(seconds=1)
        return Unit(lambda: self.conn, self.now)

    @property
    def rows(self) -> Any:
        return Unit(lambda: self.conn, self.now).inventory

    def run(self, source: str, batches: Sequence[Sequence[Fact]], *, finish: bool = True) -> registry.Counts:
        run = registry.begin_run(self.unit(), source, "i", "scope", record_of=("db",))
        counts = [registry.reconcile(self.unit(), run, batch) for batch in batches]
        if finish:
            registry.finish_run(self.unit(), run, {}, ())
        return registry.Counts(
            identities_new=sum(each.identities_new for each in counts),
            identities_joined=sum(each.identities_joined for each in counts),
            credentials_new=sum(each.credentials_new for each in counts),
            findings_new=sum(each.findings_new for each in counts),
        )


@cache
def _engine() -> Engine:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    everything().create_all(engine)
    return engine


@contextmanager
def fresh() -> Iterator[Registry]:
    """An empty registry: nothing is ever committed to the database in memory."""
    with _engine().connect() as conn:
        yield Registry(conn)
        conn.rollback()


# -- the oracle


@dataclass(eq=False)
class Being:
    """One identity as the oracle sees it."""

    born: int
    placeholder_of: str = ""
    kind: IdentityKind = IdentityKind.UNBOUND


@dataclass
class Oracle:
    """Names and fingerprints → beings; what each source shows now. Everything by loops over everything."""

    names: dict[str, Being] = field(default_factory=dict)
    credentials: dict[str, Being] = field(default_factory=dict)
    shown: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    batch: int = 0

    def merge(self, gone: Being, kept: Being) -> None:
        if kept.kind is IdentityKind.UNBOUND:
            kept.kind = gone.kind
        self.names = {key: kept if being is gone else being for key, being in self.names.items()}
        self.credentials = {key: kept if being is gone else being for key, being in self.credentials.items()}

    def named(self, wanted: str, placeholder_of: str = "") -> Being:
        return self.names.setdefault(wanted, Being(self.batch, placeholder_of))

    def identity(self, fact: IdentityFact) -> None:
        known = sorted({self.names[each] for each in (fact.name, *fact.aliases) if each in self.names}, key=_age)
        being = known[0] if known else Being(self.batch)
        for other in known[1:]:
            self.merge(other, being)
        for each in (fact.name, *fact.aliases):
            self.names[each] = being
        if fact.kind is not IdentityKind.UNBOUND:
            being.kind = fact.kind

    def credential(self, fact: CredentialFact) -> None:
        own = name("credential", "hmac", "unbound", fact.fingerprint.removeprefix("hmac:"))
        if fact.fingerprint not in self.credentials:
            self.credentials[fact.fingerprint] = (
                self.named(fact.identity) if fact.identity else self.named(own, fact.fingerprint)
            )
        elif fact.identity and self.credentials[fact.fingerprint].placeholder_of == fact.fingerprint:
            before, being = self.credentials[fact.fingerprint], self.named(fact.identity)
            if before is not being:
                self.merge(before, being)

    def run(self, source: str, batches: Sequence[Sequence[Fact]], *, finish: bool) -> None:
        seen = set()
        for batch in batches:
            self.batch += 1
            for fact in batch:
                if isinstance(fact, IdentityFact):
                    self.identity(fact)
                    seen.add(("identity", str(fact.name)))
                elif isinstance(fact, CredentialFact):
                    self.credential(fact)
                    seen.add(("credential", fact.fingerprint))
        before = self.shown.get(source, set())
        self.shown[source] = seen if finish else before | seen

    def present(self, being: Being) -> bool:
        shown = set().union(*self.shown.values())
        by_name = any(key == "identity" and self.names[node] is being for key, node in shown)
        return by_name or any(key == "credential" and self.credentials[node] is being for key, node in shown)


def _age(being: Being) -> int:
    return being.born


# -- facts


def ident(*names: str, kind: IdentityKind = IdentityKind.DATABASE_ROLE) -> IdentityFact:
    named = [Name(each) for each in names]
    return IdentityFact(name=named[0], aliases=tuple(named[1:]), kind=kind, title="t", place=PLACE)


def cred(fingerprint: str, named: str | None = None, **more: Any) -> CredentialFact:
    return CredentialFact(
        fingerprint=fingerprint, identity=Name(named) if named else None, kind=CredentialKind.PASSWORD, title="c",
        place=PLACE, **more,
    )  # fmt: skip


_kinds = st.sampled_from([IdentityKind.DATABASE_ROLE, IdentityKind.SERVICE_ACCOUNT, IdentityKind.UNBOUND])
# What joins says a kind: of two that were born in one instant nobody can say whose kind would stay.
identities = st.builds(
    lambda names, kind: ident(*names, kind=kind if len(names) == 1 else IdentityKind.BOT),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    _kinds,
)
credentials = st.builds(cred, st.sampled_from(PRINTS), st.none() | st.sampled_from(NAMES))
batches = st.lists(st.lists(identities | credentials, max_size=4), max_size=3)
runs = st.lists(st.tuples(st.sampled_from(SOURCES), batches, st.booleans()), max_size=6)


def _born(identity: str) -> str:
    """The time in an id."""
    return identity[3:13]


def check(real: Registry, oracle: Oracle) -> None:
    ids = real.rows.resolve(oracle.names)
    assert set(ids) == set(oracle.names)
    # 1. The same names mean the same identity, and no other.
    pairs = {(ids[each], being) for each, being in oracle.names.items()}
    assert len(pairs) == len({identity for identity, _ in pairs}) == len({being for _, being in pairs})
    # 2. Of two identities that became one the older id stayed.
    by_age = sorted(pairs, key=lambda pair: pair[1].born)
    assert [_born(identity) for identity, _ in by_age] == sorted(_born(identity) for identity, _ in by_age)
    being_of = dict(pairs)
    # 3. A credential belongs to exactly one identity.
    kept = {each.fingerprint: each for each in real.rows.all_credentials()}
    assert {key: being_of[each.identity] for key, each in kept.items()} == oracle.credentials
    # 4. What is present is what some source still shows.
    records = {each.id: each for each in real.rows.all_identities()}
    assert set(records) == set(being_of)
    for identity, being in pairs:
        assert records[identity].present == oracle.present(being), (identity, being)
        assert records[identity].kind is being.kind
    shown = set().union(*oracle.shown.values())
    for key, record in kept.items():
        assert record.present == (("credential", key) in shown)
    # 5. An id that became an alias is still understood.
    for gone in real.rows.identities([each for each, _ in _every_id(real)]).values():
        assert real.rows.resolve([gone.id])[gone.id] in records


def _every_id(real: Registry) -> list[tuple[str, str]]:
    from remit.storage.schema.inventory import inventory_identity

    return [(row.id, row.name) for row in real.conn.execute(inventory_identity.select())]


@settings(max_examples=150)
@given(runs)
@example([("alpha", [[cred(PRINTS[0])]], True), ("beta", [[cred(PRINTS[0], NAMES[0])]], True)])
@example([("alpha", [[cred(PRINTS[0], NAMES[0])]], True), ("beta", [[cred(PRINTS[0], NAMES[1])]], True)])
@example([("alpha", [[ident(NAMES[0])], [ident(NAMES[1])], [ident(NAMES[0], NAMES[1])]], True)])
@example([("alpha", [[cred(PRINTS[0])], [cred(PRINTS[0], NAMES[0]), ident(NAMES[0], NAMES[1])]], True)])
@example(
    [
        ("alpha", [[ident(NAMES[0])], [ident(NAMES[1])], [ident(NAMES[2])]], True),
        ("beta", [[ident(NAMES[1], NAMES[2])], [ident(NAMES[0], NAMES[1])]], True),
    ]
)
@example([("alpha", [[cred(PRINTS[0])]], True), ("alpha", [], True)])
@example([("alpha", [[ident(NAMES[0])]], True), ("beta", [[cred(PRINTS[0], NAMES[0])]], True), ("alpha", [], True)])
@example([("alpha", [[ident(NAMES[0]), cred(PRINTS[0], NAMES[0])]], True), ("alpha", [], False)])
def test_the_registry_is_what_the_oracle_says(runs: list[tuple[str, list[list[Fact]], bool]]) -> None:
    oracle = Oracle()
    with fresh() as real:
        for source, parts, finish in runs:
            real.run(source, parts, finish=finish)
            oracle.run(source, parts, finish=finish)
            check(real, oracle)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(SOURCES), batches), max_size=3))
def test_the_same_runs_again_find_nothing_new(runs: list[tuple[str, list[list[Fact]]]]) -> None:
    with fresh() as real:
        for _ in range(2):  # a credential may be named only after a run that left it without a name
            for source, parts in runs:
                real.run(source, parts)
        before = _picture(real)
        for source, parts in runs:
            again = real.run(source, parts)
            assert (again.identities_new, again.credentials_new) == (0, 0)
            assert again.identities_joined == 0
        assert _picture(real) == before


def _picture(real: Registry) -> set[tuple[Any, ...]]:
    rows = real.rows
    found = {(each.id, each.kind, each.present, each.merged_into) for each in rows.all_identities()}
    return found | {(each.fingerprint, each.identity, each.present) for each in rows.all_credentials()}


@given(st.permutations([ident(NAMES[0], NAMES[1]), ident(NAMES[2]), cred(PRINTS[0], NAMES[1]), cred(PRINTS[1])]))
def test_the_order_within_a_batch_does_not_matter(facts: list[Fact]) -> None:
    with fresh() as real:
        real.run("alpha", [facts])
        ids = real.rows.resolve(NAMES[:3])
        assert ids[NAMES[0]] == ids[NAMES[1]] != ids[NAMES[2]]
        owners = {each.fingerprint: each.identity for each in real.rows.all_credentials()}
        assert owners[PRINTS[0]] == ids[NAMES[0]]
        assert owners[PRINTS[1]] not in ids.values()


# -- what people decided


def decided(real: Registry, identity: str, *, state: State = State.ACTIVE, owner: str = "", tier: int = 3) -> None:
    real.rows.set_state(identity, state.value)
    real.rows.set_owner(identity, owner or None)
    real.rows.set_tier(identity, tier)


@pytest.mark.parametrize("contained", [State.QUARANTINED, State.SUSPENDED])
def test_a_merge_never_frees_what_was_contained(contained: State) -> None:
    with fresh() as real:
        real.run("alpha", [[ident(NAMES[0])], [ident(NAMES[1])]])
        older, younger = (real.rows.resolve([each])[each] for each in NAMES[:2])
        decided(real, older, tier=3)
        decided(real, younger, state=contained, owner="alice", tier=1)
        real.run("beta", [[ident(NAMES[0], NAMES[1])]])
        record = real.rows.identities([older])[older]
        assert (record.state, record.owner, record.tier) == (contained, "alice", 1)


def test_a_merge_loses_no_privilege_and_no_fact() -> None:
    def said(which: str, **attributes: Any) -> IdentityFact:
        return IdentityFact(
            name=Name(which), kind=IdentityKind.BOT, title="t", place=PLACE, attributes=attributes
        )  # fmt: skip

    with fresh() as real:
        real.run("alpha", [[said(NAMES[0], environment="prod", x="older")]])
        older = said(NAMES[0], environment="prod", x="older")
        real.run("alpha", [[older, said(NAMES[1], privileged=True, service="s")]])
        real.run("beta", [[ident(NAMES[1], NAMES[0], kind=IdentityKind.UNBOUND)]])
        (record,) = real.rows.all_identities()
        assert (record.privileged, record.environment, record.service) == (True, "prod", "s")
        assert record.attributes == {"x": "older"}


def test_a_sighting_changes_no_owner_state_or_tier() -> None:
    with fresh() as real:
        real.run("alpha", [[ident(NAMES[0])]])
        identity = real.rows.resolve(NAMES[:1])[NAMES[0]]
        decided(real, identity, state=State.QUARANTINED, owner="alice", tier=2)
        claims = {"owner": "mallory", "tier": 9, "state": "active", "environment": "test"}
        fact = IdentityFact(
            name=NAMES[0], kind=IdentityKind.BOT, title="new title", place=PLACE, attributes=claims
        )  # fmt: skip
        real.run("alpha", [[fact]])
        record = real.rows.identities([identity])[identity]
        assert (record.state, record.owner, record.tier) == (State.QUARANTINED, "alice", 2)
        assert (record.title, record.environment) == ("new title", "test")


def test_a_source_of_no_record_cannot_join_names() -> None:
    with fresh() as real:
        run = registry.begin_run(real.unit(), "hostile", "i", "scope", record_of=("files",))
        registry.reconcile(real.unit(), run, [ident(NAMES[0]), ident(NAMES[1])])
        registry.reconcile(real.unit(), run, [ident(NAMES[0], NAMES[1])])
        ids = real.rows.resolve(NAMES[:2])
        assert ids[NAMES[0]] != ids[NAMES[1]]


def test_two_roles_that_share_a_password_stay_two() -> None:
    with fresh() as real:
        real.run("alpha", [[cred(PRINTS[0], NAMES[0]), cred(PRINTS[0], NAMES[1])]])
        ids = real.rows.resolve(NAMES[:2])
        assert set(ids) == {NAMES[0]}
        real.run("beta", [[ident(NAMES[0]), ident(NAMES[1])]])
        ids = real.rows.resolve(NAMES[:2])
        assert ids[NAMES[0]] != ids[NAMES[1]]


def test_a_confirmed_sensitivity_is_not_lowered_by_a_label() -> None:
    resource = name("db", "one", "database", "shop")

    def said(sensitivity: Sensitivity) -> ResourceFact:
        return ResourceFact(name=resource, kind="database", title="shop", place=PLACE, sensitivity=sensitivity)

    with fresh() as real:
        real.run("alpha", [[said(Sensitivity.RESTRICTED)]])
        assert not real.rows.resources([resource])[resource].sensitivity_confirmed
        from remit.storage.schema.inventory import inventory_resource

        real.conn.execute(inventory_resource.update().values(sensitivity_confirmed=True))
        real.run("alpha", [[said(Sensitivity.PUBLIC)]])
        assert real.rows.resources([resource])[resource].sensitivity is Sensitivity.RESTRICTED


# -- runs


def test_what_a_broken_run_did_not_see_stays() -> None:
    with fresh() as real:
        real.run("alpha", [[ident(NAMES[0]), ident(NAMES[1])]])
        real.run("alpha", [[ident(NAMES[0])]], finish=False)
        assert all(each.present for each in real.rows.all_identities())
        real.run("alpha", [[ident(NAMES[0])]])
        assert {each.name: each.present for each in real.rows.all_identities()} == {NAMES[0]: True, NAMES[1]: False}


def test_a_source_retires_its_own_facts_only() -> None:
    edge = EdgeFact(source=NAMES[0], relation=Relation.ASSUME, target=NAMES[1], evidence="e", place=PLACE)
    finding = FindingFact(rule="a.b", severity=Severity.HIGH, title="t", detail="", next_step="", place=PLACE)
    owner = OwnerFact(identity=NAMES[0], owner="alice", method="git", evidence="e", confidence=50, place=PLACE)
    facts: list[Fact] = [ident(NAMES[0]), edge, finding, owner]
    with fresh() as real:
        real.run("alpha", [facts])
        real.run("beta", [facts])
        real.run("alpha", [[]])
        assert len(list(real.rows.edges())) == len(real.rows.findings()) == len(real.rows.proposals(NAMES)) == 1
        assert all(each.present for each in real.rows.all_identities())
        real.run("beta", [[]])
        assert list(real.rows.edges()) == real.rows.findings() == real.rows.proposals(NAMES) == []
        assert not any(each.present for each in real.rows.all_identities())


def test_of_two_scans_of_one_source_the_later_one_counts() -> None:
    with fresh() as real:
        slow = registry.begin_run(real.unit(), "alpha", "i", "scope", record_of=("db",))
        registry.reconcile(real.unit(), slow, [ident(NAMES[0])])
        real.run("alpha", [[ident(NAMES[0]), ident(NAMES[1])]])
        for step in (
            lambda: registry.reconcile(real.unit(), slow, [ident(NAMES[0])]),
            lambda: registry.finish_run(real.unit(), slow, {}, ()),
        ):
            with pytest.raises(Conflict) as refused:
                step()
            assert refused.value.code == "inventory.run.superseded"
        assert all(each.present for each in real.rows.all_identities())


def test_what_remit_made_itself_is_no_sources_to_retire() -> None:
    own = name("remit", "inst", "task", "report")
    with fresh() as real:
        real.run("alpha", [[cred(PRINTS[0], own)]])
        real.run("alpha", [[]])
        (record,) = real.rows.all_identities()
        assert record.present


def test_findings_are_new_once_and_ordered_worst_first() -> None:
    def finding(severity: Severity, path: str) -> FindingFact:
        place = Place(system="test", path=path)
        return FindingFact(rule="a.b", severity=severity, title="t", detail="d", next_step="n", place=place)

    facts = [finding(severity, f"/{severity}") for severity in Severity]
    with fresh() as real:
        assert real.run("alpha", [facts]).findings_new == 5
        assert real.run("alpha", [facts]).findings_new == 0
        assert [each.severity for each in real.rows.findings()] == [str(each) for each in reversed(Severity)]


# -- hostile and many, on both engines

HOSTILE = "\x00\x1b[31m\u202e'; DROP TABLE inventory_identity; --%_\\" + "é" * 5000


def test_what_a_hostile_source_says_is_kept_and_stops_nothing(url: str) -> None:
    short, long = name("db", "i", "role", HOSTILE[:80]), name("db", "i", "role", "x" * 5000)
    place = Place(system=HOSTILE, path=HOSTILE, line=3)
    words = {"environment": HOSTILE, "service": HOSTILE, "purpose": HOSTILE, "autonomy": HOSTILE, HOSTILE: HOSTILE}
    facts: list[Fact] = [
        IdentityFact(name=short, kind=IdentityKind.BOT, title=HOSTILE, place=place, attributes=words),
        IdentityFact(name=long, kind=IdentityKind.BOT, title="t", place=place),
        cred(PRINTS[0], short, manager=HOSTILE, attributes={HOSTILE: HOSTILE}),
        ResourceFact(name=short, kind=HOSTILE, title=HOSTILE, place=place),
        EdgeFact(
            source=short, relation=Relation.ASSUME, target=short, evidence=HOSTILE, place=place, cut=HOSTILE,
            conditions=(HOSTILE,), actions=(HOSTILE,),
        ),
        EdgeFact(source=short, relation=Relation.ASSUME, target=long, evidence="", place=place),
        OwnerFact(identity=short, owner=HOSTILE, method=HOSTILE, evidence=HOSTILE, confidence=1, place=place),
        FindingFact(
            rule=HOSTILE, severity=Severity.LOW, title=HOSTILE, detail=HOSTILE, next_step=HOSTILE, place=place,
            subject=short,
        ),
    ]  # fmt: skip

    def work(unit: Any) -> registry.Counts:
        run = registry.begin_run(unit, "hostile", "i", "scope", record_of=("db",))
        counts = registry.reconcile(unit, run, facts)
        registry.finish_run(unit, run, {}, counts.refused)
        return counts

    async def scene() -> None:
        async with opened(url) as store:
            counts = await store.write(work)
            assert [each.reason for each in counts.refused] == ["too-large", "too-large"]
            rows, total = await store.read(
                lambda unit: unit.inventory.list_identities(IdentityFilter(text="DROP TABLE"))
            )
            assert (total, rows[0].name) == (1, short)
            for text in ("%", "_", "\\", "'"):
                found, _ = await store.read(lambda unit: unit.inventory.list_identities(IdentityFilter(text=text)))  # noqa: B023
                assert [each.name for each in found] == [short]
            page = await store.read(lambda unit: unit.inventory.sightings_of([short, credential_name(PRINTS[0])]))
            assert {each.kind for each in page} == {"identity", "credential", "resource"}

    asyncio.run(scene())


def test_scans_that_meet_the_same_new_identity_at_once_make_one(url: str) -> None:
    def scan(source: str) -> Any:
        def work(unit: Any) -> None:
            run = registry.begin_run(unit, source, "i", "scope", record_of=("db",))
            registry.reconcile(unit, run, [ident(each) for each in NAMES] + [cred(PRINTS[0], NAMES[0])])
            registry.finish_run(unit, run, {}, ())

        return work

    async def scene() -> None:
        async with opened(url) as store:
            await asyncio.gather(*(store.write(scan(f"s{number}")) for number in range(8)))
            rows, total = await store.read(lambda unit: unit.inventory.list_identities(IdentityFilter()))
            assert sorted(each.name for each in rows) == sorted(NAMES)
            assert total == len(NAMES)

    asyncio.run(scene())


def test_many_identities_can_be_sorted_filtered_and_paged_by_every_field(url: str, tmp_path: Path) -> None:
    many = 3000
    kinds = [IdentityKind.BOT, IdentityKind.WORKLOAD, IdentityKind.DATABASE_ROLE]
    facts = [
        IdentityFact(
            name=name("db", "one", "role", f"role {number}"), kind=kinds[number % 3], title=f"role {number:05}",
            place=PLACE,
            attributes={"environment": ("prod", "test")[number % 2], "privileged": number % 10 == 0,
                        **({"last_used": 1_700_000_000 + number} if number % 4 else {})},
        )
        for number in range(many)
    ]  # fmt: skip

    def work(unit: Any) -> None:
        run = registry.begin_run(unit, "many", "i", "scope", record_of=("db",))
        for start in range(0, many, 400):
            registry.reconcile(unit, run, facts[start : start + 400])
        registry.finish_run(unit, run, {}, ())

    async def scene() -> None:
        async with opened(url) as store:
            await store.write(work)

            async def listed(**wanted: Any) -> tuple[list[Any], int]:
                found = await store.read(lambda unit: unit.inventory.list_identities(IdentityFilter(**wanted)))
                return found  # type: ignore[no-any-return]

            for sort in SORTABLE:
                for descending in (False, True):
                    rows, total = await listed(sort=sort, descending=descending, limit=many)
                    assert total == len(rows) == many
                    shown = [getattr(row, sort) for row in rows]
                    known = [each for each in shown if each is not None]
                    assert known == sorted(known, reverse=descending)
                    assert shown[: len(known)] == known, "what is not known comes last"
            pages = [row.id for at in range(0, many, 700) for row in (await listed(limit=700, offset=at))[0]]
            assert pages == [row.id for row in (await listed(limit=many))[0]]
            assert (await listed(kind="bot", environment="prod", privileged=True))[1] == 100
            assert (await listed(text="ROLE 00042"))[1] == 1
            assert (await listed(unowned=True))[1] == many
            assert (await listed(exposed=True))[1] == 0

    asyncio.run(scene())
