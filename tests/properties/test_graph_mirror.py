"""The graph that is kept in step with the registry equals the one that is read anew, after every change; and the past.

On a real store: what scans, merges, splits and lost credentials write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine

from remit.inventory import registry
from remit.inventory.graph import keeper as keeping
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.compiled import has_kernels
from remit.inventory.graph.engine import Engine as Compiled
from remit.inventory.graph.engine import PlainEngine, count_everything, counts_of
from remit.inventory.graph.keeper import AsOf, Keeper
from remit.inventory.graph.mirror import Mirror
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
)
from remit.kernel.ids import credential_name, name
from remit.storage.schema import everything
from remit.storage.unit import Unit

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAMES = [name("db", "one", "role", f"n{number}") for number in range(4)]
THINGS = [name("db", "one", "table", f"t{number}") for number in range(3)]
PRINTS = [f"hmac:{number:064x}" for number in range(2)]
PLACE = Place(system="test", path="/somewhere")


@cache
def _engine() -> Engine:
    engine = create_engine("sqlite://")
    everything().create_all(engine)
    return engine


class Estate:
    """A registry; a minute goes by with each unit of work."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.now = NOON

    def unit(self) -> Any:
        self.now += timedelta(minutes=1)
        return Unit(lambda: self.conn, self.now)

    @property
    def rows(self) -> Any:
        return Unit(lambda: self.conn, self.now).inventory

    def scan(self, source: str, facts: list[Fact], *, whole: bool = True) -> None:
        run = registry.begin_run(self.unit(), source, "i", "s", record_of=("db",))
        registry.reconcile(self.unit(), run, facts)
        if whole:
            registry.finish_run(self.unit(), run, {}, ())

    def move(self, kind: str, one: int, other: int) -> None:
        """What people and defence do."""
        rows, ids = self.unit().inventory, sorted(each.id for each in self.rows.all_identities())
        prints = sorted(each.fingerprint for each in self.rows.all_credentials())
        match kind:
            case "merge" if len(ids) > 1 and one % len(ids) != other % len(ids):
                rows.merge(*sorted((ids[one % len(ids)], ids[other % len(ids)]), reverse=True))
            case "revoke" if prints:
                rows.set_credential_state(prints[one % len(prints)], "revoked")
            case "give" if prints and ids:
                rows.move_credential(prints[one % len(prints)], ids[other % len(ids)])
            case "part":
                merged = [each for each in self.rows.history.identities_at(self.now) if each.merged_into is not None]
                for each in merged[:1]:
                    rows.part(each.id, present=True)
                    rows.joins.move_name(each.name, each.id)


@contextmanager
def estate() -> Iterator[Estate]:
    with _engine().connect() as conn:
        yield Estate(conn)
        conn.rollback()


_names = st.sampled_from(NAMES)
_facts = st.lists(
    st.builds(
        lambda names, environment: IdentityFact(
            name=names[0], aliases=tuple(names[1:]), kind=IdentityKind.BOT, title="t", place=PLACE,
            attributes={"environment": environment},
        ),
        st.lists(_names, min_size=1, max_size=2, unique=True), st.sampled_from(["prod", "test"]),
    )
    | st.builds(
        lambda fingerprint, named: CredentialFact(
            fingerprint=fingerprint, identity=named, kind=CredentialKind.PASSWORD, title="c", place=PLACE
        ),
        st.sampled_from(PRINTS), st.none() | _names,
    )
    | st.builds(
        lambda named, level: ResourceFact(name=named, kind="table", title="t", place=PLACE, sensitivity=level),
        st.sampled_from(THINGS), st.sampled_from([None, *Sensitivity]),
    )
    | st.builds(
        lambda tail, head, why, when: EdgeFact(
            source=tail, relation=Relation.ASSUME, target=head, evidence=why, conditions=when, place=PLACE
        ),
        _names, st.sampled_from(NAMES + THINGS), st.sampled_from(["why", "because"]), st.sampled_from([(), ("mfa",)]),
    )
    | st.builds(
        lambda fingerprint, named: EdgeFact(
            source=credential_name(fingerprint), relation=Relation.SECRET_OF, target=named, evidence="in a file",
            place=PLACE,
        ),
        st.sampled_from(PRINTS), _names,
    ),
    max_size=5,
)  # fmt: skip
_steps = st.lists(
    st.tuples(st.just("scan"), st.sampled_from(["alpha", "beta"]), _facts, st.booleans())
    | st.tuples(st.sampled_from(["merge", "revoke", "give", "part"]), st.integers(0, 9), st.integers(0, 9)),
    max_size=6,
)  # fmt: skip


def _do(estate: Estate, step: Any) -> None:
    if step[0] == "scan":
        estate.scan(step[1], step[2], whole=step[3])
    else:
        estate.move(*step)


def _told(graph: AccessGraph) -> Any:
    """The graph without the order of its parts."""
    ends = [(graph.nodes[a].name, graph.nodes[b].name) for a, b in zip(graph.tails, graph.heads, strict=True)]
    edges = sorted(zip(ends, map(repr, graph.edges), strict=True))
    return sorted(map(repr, graph.nodes)), edges


def _numbers(graph: AccessGraph) -> dict[str, Any]:
    engine = PlainEngine(graph)
    return {node.name: engine.of(at) for at, node in enumerate(graph.nodes)}


@settings(max_examples=60, deadline=None)
@given(_steps)
def test_a_graph_kept_in_step_is_the_one_that_is_read_anew(steps: list[Any]) -> None:
    with estate() as lived:
        mirror, read = Mirror.read(lived.rows), lived.now
        for step in steps:
            _do(lived, step)
            mirror.refresh(lived.rows, read)
            read = lived.now
            assert _told(mirror.graph()) == _told(Mirror.read(lived.rows).graph())


def test_a_revoked_secret_is_its_identity_no_more_and_still_opens_another_that_has_the_same() -> None:
    def proof(named: str) -> EdgeFact:
        secret = credential_name(PRINTS[0])
        return EdgeFact(source=secret, relation=Relation.SECRET_OF, target=named, evidence="in .env", place=PLACE)

    def opened(mirror: Mirror) -> set[str]:
        graph = mirror.graph()
        ends = zip(graph.tails, graph.heads, strict=True)
        return {graph.nodes[head].title for tail, head in ends if graph.nodes[tail].name == credential_name(PRINTS[0])}

    with estate() as lived:
        known = [IdentityFact(name=each, kind=IdentityKind.BOT, title=each[-2:], place=PLACE) for each in NAMES[:2]]
        secret = CredentialFact(
            fingerprint=PRINTS[0], identity=NAMES[0], kind=CredentialKind.PASSWORD, title="c", place=PLACE
        )
        lived.scan("alpha", [*known, secret, proof(NAMES[0]), proof(NAMES[1])])
        mirror, read = Mirror.read(lived.rows), lived.now
        assert opened(mirror) == {"n0", "n1"}
        lived.move("revoke", 0, 0)
        mirror.refresh(lived.rows, read)
        assert opened(mirror) == opened(Mirror.read(lived.rows)) == {"n1"}


@settings(max_examples=60, deadline=None)
@given(_steps)
def test_the_graph_of_a_past_moment_is_the_one_of_then(steps: list[Any]) -> None:
    """Merges apart: of a name that means another identity since only the one of now is known."""
    with estate() as lived:
        seen = []
        for step in steps:
            if step[0] in ("scan", "revoke"):
                _do(lived, ("scan", *step[1:2], [f for f in step[2] if not getattr(f, "aliases", ())], step[3])
                    if step[0] == "scan" else step)  # fmt: skip
                seen.append((lived.now, _shape(Mirror.read(lived.rows).graph())))
        for moment, shape in seen:
            assert _shape(Mirror.read_past(lived.rows, moment).graph()) == shape


def _shape(graph: AccessGraph) -> Any:
    return sorted((edge.source, edge.target, edge.conditions) for edge in graph.edges)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.skipif(
    not has_kernels(), reason="numba: not installed"))])  # fmt: skip
@settings(max_examples=40, deadline=None)
@given(steps=_steps)
def test_the_numbers_kept_in_step_are_those_of_the_graph_read_anew(compiled: bool, steps: list[Any]) -> None:
    with estate() as lived, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "count_everything", Compiled.of_graph if compiled else count_everything)
        mirror, read = Mirror.read(lived.rows), lived.now
        keeper = Keeper(mirror)
        for step in steps:
            _do(lived, step)
            keeper.follow(mirror.refresh(lived.rows, read))
            read = lived.now
            view = keeper.view(AsOf(sequence=0, time=read))
            for named, counts in _numbers(Mirror.read(lived.rows).graph()).items():
                radius = view.radius(named)
                assert radius is not None
                assert (radius.resources, radius.score, radius.certain_score, radius.becomes) == (
                    counts.resources, counts.score, counts.certain_score, counts.becomes
                )  # fmt: skip
    assert counts_of((0,) * 6, (1,) * 6).resources == 5
