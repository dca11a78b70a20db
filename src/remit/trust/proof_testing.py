"""The contract of proof attestors and of the rows of spent proofs, and fakes that implement the real ports.

A contract is a class of tests: derive from it, say how to make the thing and what an honest caller shows.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock, ManualClock
from remit.kernel.errors import Rejected, RemitError
from remit.kernel.events import Event
from remit.kernel.ids import new_id
from remit.kernel.unit import Store
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge, ProofAttestor
from remit.trust.proofs import Proof, ProofDesk, Question
from remit.trust.spent import SpentRows, SpentUnit
from remit.trust.testing import NOON

T = TypeVar("T")


@dataclass(slots=True)
class MemorySpentRows:
    """Spent proofs in a dictionary."""

    until: dict[str, datetime] = field(default_factory=dict)

    def spend(self, digest: str, *, attestor: str, until: datetime, now: datetime) -> bool:
        new = digest not in self.until
        self.until.setdefault(digest, until)
        return new

    def held(self) -> int:
        return len(self.until)

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        gone = [digest for digest, until in self.until.items() if until <= before][:limit]
        for digest in gone:
            del self.until[digest]
        return len(gone)


class MemorySpentUnit:
    """A unit of work on rows in memory."""

    def __init__(self, rows: MemorySpentRows, now: datetime) -> None:
        self.proofs: SpentRows = rows
        self.now = now
        self.events: list[Event] = []

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self.now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        canonical(dict(data or {}))
        self.events.append(
            Event(id=self.new_id("ev"), type=type, time=self.now, actor=actor, subject=subject, data=dict(data or {}))
        )


class MemorySpentStore:
    """A store in memory: a unit that raises changes nothing. `fail` makes writes raise it."""

    def __init__(self, clock: Clock) -> None:
        self.rows = MemorySpentRows()
        self.events: list[Event] = []
        self.fail: RemitError | None = None
        self._clock = clock

    async def write(self, work: Callable[[Any], T]) -> T:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        rows = MemorySpentRows(until=dict(self.rows.until))
        unit = MemorySpentUnit(rows, self._clock.now())
        answer = work(unit)
        self.rows = rows
        self.events += unit.events
        return answer

    async def read(self, query: Callable[[Any], T]) -> T:
        return query(MemorySpentUnit(MemorySpentRows(until=dict(self.rows.until)), self._clock.now()))


class SpentRowsContract(ABC):
    """What every implementation of `SpentRows` keeps, through the store that carries it."""

    @abstractmethod
    def store(self) -> AbstractAsyncContextManager[Store[SpentUnit]]:
        """An empty store, open for as long as the block lasts."""

    def run(self, *steps: Callable[[SpentRows], T]) -> list[T]:
        """Run each step in a unit of work of its own."""

        async def all_steps() -> list[T]:
            async with self.store() as store:
                return [await store.write(lambda unit, step=step: step(unit.proofs)) for step in steps]  # type: ignore[misc]

        return asyncio.run(all_steps())

    @staticmethod
    def _spend(digest: str, hours: int = 1) -> Callable[[SpentRows], object]:
        return lambda rows: rows.spend(digest, attestor="oidc", until=NOON + timedelta(hours=hours), now=NOON)

    def test_a_proof_is_spent_once(self) -> None:
        assert self.run(self._spend("a" * 64), self._spend("b" * 64), self._spend("a" * 64, 9)) == [True, True, False]

    def test_what_is_forgotten_is_what_is_over(self) -> None:
        found = self.run(
            self._spend("a" * 64, 1),
            self._spend("b" * 64, 2),
            lambda rows: rows.forget(NOON + timedelta(hours=1)),
            lambda rows: rows.held(),
            self._spend("b" * 64),
        )
        assert found[2:] == [1, 1, False]

    def test_no_more_is_forgotten_than_was_asked_for(self) -> None:
        found = self.run(
            self._spend("a" * 64), self._spend("b" * 64), lambda rows: rows.forget(NOON + timedelta(hours=2), limit=1)
        )
        assert found[2:] == [1]


class FixedProofs:
    """A proof attestor for tests of the desk: `{"name": N}` is good once, `{"name": N, "ask": true}` asks back."""

    def __init__(self, id: str = "fixed") -> None:
        self.id = id
        self.keys: Mapping[str, str] = {"name": "any name"}
        self.begun = 0

    def check(self, selector: Selector) -> None:
        assert selector.attestor == self.id

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence | Challenge:
        self.begun += 1
        await asyncio.sleep(0)
        if payload.get("ask"):
            return Challenge(question={"say": "please"}, state={"name": payload["name"]})
        return self._evidence(str(payload["name"]), now)

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        if answer != {"said": "please"}:
            raise Rejected("trust.proof.forged", "the magic word is missing")
        return self._evidence(str(challenge.state["name"]), now)

    def _evidence(self, name: str, now: datetime) -> Evidence:
        facts: dict[str, Json] = {"proof": name, "proof_expires": int(now.timestamp()) + 300}
        return Evidence(
            attestor=self.id, selectors=frozenset({Selector(self.id, "name", name)}), facts=facts, observed=now
        )


class ProofAttestorContract(ABC):
    """What every proof attestor keeps, alone and at the desk."""

    now = NOON

    @abstractmethod
    def attestor(self) -> ProofAttestor: ...

    @abstractmethod
    def honest(self) -> Mapping[str, Json]:
        """What an honest caller shows: another proof each time."""

    @abstractmethod
    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        """False proofs by what is wrong with them, none of which may pass."""

    def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        """What an honest caller answers, for attestors that ask."""
        raise AssertionError("this attestor asks nothing")

    async def prove(self, attestor: ProofAttestor, payload: Mapping[str, Json]) -> Evidence:
        """Present, and answer what is asked."""
        found = await attestor.begin(payload, self.now)
        if isinstance(found, Challenge):
            return await attestor.finish(found, self.answer(found.question), self.now)
        return found

    def test_every_selector_that_it_makes_it_would_accept_in_an_entry(self) -> None:
        attestor = self.attestor()
        evidence = asyncio.run(self.prove(attestor, self.honest()))
        assert evidence.selectors
        for selector in evidence.selectors:
            attestor.check(selector)
            assert Selector.parse(str(selector)) == selector

    def test_its_selectors_carry_its_id_and_its_declared_keys(self) -> None:
        attestor = self.attestor()
        evidence = asyncio.run(self.prove(attestor, self.honest()))
        assert {one.attestor for one in evidence.selectors} == {attestor.id} == {evidence.attestor}
        assert {one.key for one in evidence.selectors} <= set(attestor.keys)

    def test_a_selector_of_no_key_is_refused(self) -> None:
        attestor = self.attestor()
        assert code_of(lambda: attestor.check(Selector(attestor.id, "no_such_key", "x"))) == "trust.selector.unknown"

    def test_evidence_can_be_recorded_and_holds_nothing_of_what_was_shown(self) -> None:
        payload = self.honest()
        evidence = asyncio.run(self.prove(self.attestor(), payload))
        recorded = canonical(dict(evidence.facts)).decode()
        assert not [text for text in long_texts(payload) if text in recorded]

    def test_no_forgery_passes_and_no_error_tells_what_was_shown(self) -> None:
        passed = []
        for what, payload in self.forgeries().items():
            try:
                asyncio.run(self.prove(self.attestor(), payload))
            except RemitError as error:
                told = f"{error.message} {error.next_step} {error!r}"
                assert error.code.startswith("trust.proof."), (what, error.code)
                assert not [text for text in long_texts(payload) if text in told], what
            else:
                passed.append(what)
        assert passed == []

    def test_what_is_no_proof_is_rejected(self) -> None:
        hollow: list[Mapping[str, Json]] = [
            {},
            {"": ""},
            {"token": 1},
            {"token": None, "x": []},
            {"token": "", "y": {}},
            {"chain": [[[[]]]]},
        ]
        for payload in hollow:
            code = code_of(lambda payload=payload: asyncio.run(self.prove(self.attestor(), payload)))  # type: ignore[misc]
            assert code.startswith("trust.proof."), payload

    def test_at_the_desk_it_counts_once(self) -> None:
        shown: list[Proof] = []

        async def story() -> None:
            clock = ManualClock(self.now)
            numbers = itertools.count()
            desk = ProofDesk(
                MemorySpentStore(clock), [self.attestor()], clock=clock, new_session=lambda: f"s{next(numbers)}"
            )
            proof = Proof(attestor=self.attestor().id, payload=self.honest())
            if (await self._present(desk, proof)).facts.get("proof") is None:
                return  # it asked a question of its own: nothing of it could be shown again
            shown.append(proof)
            await self._present(desk, proof)

        assert code_of(lambda: asyncio.run(story())) == ("trust.proof.replayed" if shown else "")

    async def _present(self, desk: ProofDesk, proof: Proof) -> Evidence:
        found = await desk.present([proof], source="test")
        if isinstance(found, Question):
            answers = {name: self.answer(asked) for name, asked in found.questions.items()}
            return await desk.answer(found.session, answers, source="test")
        return found


def code_of(work: Callable[[], object]) -> str:
    """The code of the error that this raises; empty when it raises none."""
    try:
        work()
    except RemitError as error:
        return error.code
    return ""


def long_texts(value: Json) -> Iterator[str]:
    """The texts of a payload that could be secrets: of more than 20 characters."""
    if isinstance(value, str):
        if len(value) > 20:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from long_texts(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from long_texts(each)
