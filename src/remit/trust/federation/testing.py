"""Fakes of federation's ports, and the contract of its rows: derive from it and say how to make the store."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError
from remit.kernel.events import Event
from remit.kernel.ids import new_id
from remit.kernel.unit import Store
from remit.providers.bundles import SpiffeServer
from remit.trust.federation.model import HeldBundle, Profile, Relation
from remit.trust.federation.ports import FederationRows, FederationUnit
from remit.trust.spiffe import SpiffeId, TrustDomain
from remit.trust.testing import NOON

T = TypeVar("T")


@dataclass(slots=True)
class MemoryFederationRows:
    """Federation's rows in dictionaries."""

    relation_rows: dict[str, Relation] = field(default_factory=dict)
    bundle_rows: dict[str, HeldBundle] = field(default_factory=dict)

    def relations(self) -> Sequence[Relation]:
        return [self.relation_rows[name] for name in sorted(self.relation_rows)]

    def relation(self, trust_domain: str) -> Relation | None:
        return self.relation_rows.get(trust_domain)

    def put_relation(self, relation: Relation) -> None:
        self.relation_rows[relation.trust_domain.name] = relation

    def remove_relation(self, trust_domain: str) -> bool:
        self.remove_bundle(trust_domain)
        return self.relation_rows.pop(trust_domain, None) is not None

    def bundles(self) -> Sequence[HeldBundle]:
        return [self.bundle_rows[name] for name in sorted(self.bundle_rows)]

    def bundle(self, trust_domain: str) -> HeldBundle | None:
        return self.bundle_rows.get(trust_domain)

    def put_bundle(self, held: HeldBundle) -> None:
        self.bundle_rows[held.trust_domain.name] = held

    def remove_bundle(self, trust_domain: str) -> None:
        self.bundle_rows.pop(trust_domain, None)


class MemoryFederationUnit:
    """A unit of work on rows in memory."""

    def __init__(self, rows: MemoryFederationRows, clock: Clock) -> None:
        self.federation: FederationRows = rows
        self.now = clock.now()
        self.events: list[Event] = []

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        canonical(dict(data or {}))
        event = Event(
            id=self.new_id("ev"), type=type, time=self.now, actor=actor, subject=subject, data=dict(data or {})
        )
        self.events.append(event)


class MemoryFederationStore:
    """A store in memory: a unit that raises changes nothing."""

    def __init__(self, clock: Clock) -> None:
        self.rows = MemoryFederationRows()
        self.events: list[Event] = []
        self._clock = clock

    async def write(self, work: Callable[[FederationUnit], T]) -> T:
        await asyncio.sleep(0)
        unit = MemoryFederationUnit(copy.deepcopy(self.rows), self._clock)
        answer = work(unit)
        assert isinstance(unit.federation, MemoryFederationRows)
        self.rows = unit.federation
        self.events += unit.events
        return answer

    async def read(self, query: Callable[[FederationUnit], T]) -> T:
        await asyncio.sleep(0)
        return query(MemoryFederationUnit(copy.deepcopy(self.rows), self._clock))

    def types(self) -> list[str]:
        """The types of what was recorded, in order."""
        return [event.type for event in self.events]


class CannedFetcher:
    """Answers what it was told to: a document, or an error; notes what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | RemitError] = {}
        self.asked: list[tuple[str, SpiffeServer | None]] = []

    async def fetch(self, url: str, *, server: SpiffeServer | None = None) -> bytes:
        self.asked.append((url, server))
        await asyncio.sleep(0)
        answer = self.answers[url]
        if isinstance(answer, RemitError):
            raise answer
        return answer


def example_relation(name: str = "partner.test") -> Relation:
    """A well-formed relation, not signed."""
    domain = TrustDomain(name)
    return Relation(
        id=f"fd_{name}",
        trust_domain=domain,
        url=f"https://{name}/bundle",
        profile=Profile.HTTPS_SPIFFE,
        endpoint_id=SpiffeId(domain, "/remit/server"),
        until=NOON + timedelta(days=30),
        ids=(f"spiffe://{name}/billing/*", f"spiffe://{name}/report"),
        resources=("target/orders", "target/shared-*"),
        reason="ein Grund: Zusammenarbeit ✓",
        by="person:ann",
        created=NOON,
        policy="forbid (principal, action, resource);",
        signature="signed",
    )


def example_bundle(name: str = "partner.test", *, document: bytes = b'{"keys":[]}') -> HeldBundle:
    """A held document, not signed."""
    return HeldBundle(trust_domain=TrustDomain(name), document=document, fetched=NOON, signature="signed")


class FederationRowsContract(ABC):
    """What every implementation of `FederationRows` keeps."""

    @abstractmethod
    def store(self) -> AbstractAsyncContextManager[Store[FederationUnit]]:
        """An empty store."""

    def run(self, *steps: Callable[[FederationRows], T]) -> list[T]:
        """Each step in a unit of its own."""

        async def all_steps() -> list[T]:
            async with self.store() as store:
                return [await store.write(lambda unit, step=step: step(unit.federation)) for step in steps]  # type: ignore[misc]

        return asyncio.run(all_steps())

    def test_a_relation_comes_back_as_it_was(self) -> None:
        relation = example_relation()
        assert self.run(lambda rows: rows.put_relation(relation), lambda rows: rows.relation("partner.test")) == [
            None,
            relation,
        ]

    def test_a_relation_by_the_web_has_no_endpoint_id(self) -> None:
        relation = replace(example_relation(), profile=Profile.HTTPS_WEB, endpoint_id=None)
        *_, found = self.run(lambda rows: rows.put_relation(relation), lambda rows: rows.relation("partner.test"))
        assert found == relation

    def test_putting_a_relation_again_replaces_it(self) -> None:
        other = replace(example_relation(), id="fd_other", reason="")
        *_, found = self.run(
            lambda rows: rows.put_relation(example_relation()),
            lambda rows: rows.put_relation(other),
            lambda rows: rows.relations(),
        )
        assert found == [other]

    def test_relations_come_by_name(self) -> None:
        def put(rows: FederationRows) -> list[str]:
            for name in ("b.test", "a.test", "c.test"):
                rows.put_relation(example_relation(name))
            return []

        _, found = self.run(put, lambda rows: [one.trust_domain.name for one in rows.relations()])
        assert found == ["a.test", "b.test", "c.test"]

    def test_a_bundle_comes_back_byte_for_byte(self) -> None:
        held = example_bundle(document=b'{ "keys" : [ ] }\n\xc3\xa9')
        *_, found = self.run(lambda rows: rows.put_bundle(held), lambda rows: rows.bundle("partner.test"))
        assert found == held

    def test_a_removed_relation_takes_its_own_bundle_along(self) -> None:
        def steps(rows: FederationRows) -> None:
            for name in ("a.test", "b.test"):
                rows.put_relation(example_relation(name))
                rows.put_bundle(example_bundle(name))

        _, removed, again, left = self.run(
            steps,
            lambda rows: rows.remove_relation("a.test"),
            lambda rows: rows.remove_relation("a.test"),
            lambda rows: (
                [one.trust_domain.name for one in rows.relations()] + [one.trust_domain.name for one in rows.bundles()]
            ),
        )
        assert (removed, again, left) == (True, False, ["b.test", "b.test"])
