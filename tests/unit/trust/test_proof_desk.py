"""The proof desk: every proof once, all together, within bounds; what fails is told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from remit.kernel.canonical import Json
from remit.kernel.clock import ManualClock
from remit.kernel.errors import RemitError, Unavailable
from remit.trust.model import Evidence
from remit.trust.proof_testing import FixedProofs, MemorySpentStore
from remit.trust.proofs import MAX_SESSIONS_OF_SOURCE, Proof, ProofDesk, Question
from remit.trust.refusals import EVERY, RefusalLog, SourceLimit
from remit.trust.testing import NOON


class Slow(FixedProofs):
    """Waits until it is let go."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.go = asyncio.Event()

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Any:
        await self.go.wait()
        return await super().begin(payload, now)


@dataclass(slots=True)
class Stage:
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOON))
    told: list[tuple[str, str]] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)
    store: MemorySpentStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemorySpentStore(self.clock)

    def desk(self, *attestors: FixedProofs, **more: Any) -> ProofDesk:
        async def refused(attestor: str, code: str, detail: str, source: str) -> None:
            self.told.append((attestor, code))

        believed = attestors or (FixedProofs("one"), FixedProofs("two"))
        whole = {"clock": self.clock, "new_session": lambda: f"s{next(self.numbers)}", "refused": refused, **more}
        return ProofDesk(self.store, believed, **whole)


def run(story: Callable[[Stage], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(story(Stage()))


def proofs(*names: str, attestor: str = "one", **more: Json) -> list[Proof]:
    return [Proof(attestor=attestor, payload={"name": name, **more}) for name in names]


async def refusal(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(RemitError) as refused:
        await work
    return refused.value.code


async def ask(desk: ProofDesk, name: str = "a", source: str = "x") -> Question:
    found = await desk.present(proofs(name, ask=True), source=source)
    assert isinstance(found, Question)
    return found


YES = {"one": {"said": "please"}}


def test_several_proofs_are_one_piece_of_evidence_in_the_order_of_presentation() -> None:
    async def story(stage: Stage) -> None:
        both = [*proofs("b", attestor="two", ask=True), *proofs("a")]
        desk = stage.desk()
        asked = await desk.present(both, source="x")
        assert isinstance(asked, Question) and dict(asked.questions) == {"two": {"say": "please"}}
        evidence = await desk.answer(asked.session, {"two": {"said": "please"}}, source="x")
        assert (evidence.attestor, {str(one) for one in evidence.selectors}) == (
            "two+one",
            {"one:name:a", "two:name:b"},
        )

    run(story)


def test_one_false_proof_spoils_all_and_spends_none() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        await desk.present(proofs("a", attestor="two"), source="x")
        both = [*proofs("b"), *proofs("a", attestor="two")]
        assert await refusal(desk.present(both, source="x")) == "trust.proof.replayed"
        assert isinstance(await desk.present(proofs("b"), source="x"), Evidence)

    run(story)


def test_a_spent_proof_stays_spent_at_a_new_desk() -> None:
    async def story(stage: Stage) -> None:
        await stage.desk().present(proofs("a"), source="x")
        assert await refusal(stage.desk().present(proofs("a"), source="x")) == "trust.proof.replayed"
        assert isinstance(await stage.desk().present(proofs("a", attestor="two"), source="x"), Evidence)

    run(story)


def test_no_evidence_before_the_proof_is_spent_durably() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        stage.store.fail = Unavailable("storage.database.away", "the database does not answer")
        assert await refusal(desk.present(proofs("a"), source="x")) == "storage.database.away"

    run(story)


def test_when_no_more_can_be_remembered_none_is_taken_until_older_ones_are_over() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk(capacity=2)
        for name in ("a", "b"):
            await desk.present(proofs(name), source="x")
        assert await refusal(desk.present(proofs("c"), source="x")) == "trust.proof.full"
        stage.clock.advance(timedelta(hours=2))
        assert isinstance(await desk.present(proofs("c"), source="x"), Evidence)

    run(story)


def test_a_question_is_answered_once() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        question = await ask(desk)
        await desk.answer(question.session, YES, source="x")
        assert await refusal(desk.answer(question.session, YES, source="x")) == "trust.proof.session"

    run(story)


@pytest.mark.parametrize("answers", [{}, {"two": {}}, {**YES, "two": {}}, {"one": {"said": "no"}}, {"one": "please"}])
def test_a_wrong_answer_ends_the_session(answers: Any) -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        question = await ask(desk)
        assert (await refusal(desk.answer(question.session, answers, source="x"))).startswith("trust.proof.")
        assert await refusal(desk.answer(question.session, YES, source="x")) == "trust.proof.session"

    run(story)


def test_a_session_is_of_one_minute_and_of_one_source() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        first, second = await ask(desk), await ask(desk, "b")
        assert await refusal(desk.answer(first.session, YES, source="y")) == "trust.proof.session"
        stage.clock.advance(timedelta(seconds=60))
        assert await refusal(desk.answer(second.session, YES, source="x")) == "trust.proof.session"

    run(story)


def test_open_questions_are_bounded_for_each_source() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        for number in range(MAX_SESSIONS_OF_SOURCE):
            await ask(desk, str(number))
        assert await refusal(ask(desk)) == "trust.proof.busy"
        assert (await ask(desk, source="y")).session
        stage.clock.advance(timedelta(seconds=61))
        assert (await ask(desk)).session

    run(story)


def deep(levels: int) -> Json:
    value: Json = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "presented",
    [
        [],
        proofs("a", "b"),
        [Proof(attestor=str(number), payload={}) for number in range(9)],
        proofs("a", more="x" * 65_536),
        proofs("a", more=deep(8)),
        proofs("a", more=deep(5000)),
        proofs("a", more="\ud800"),
        proofs("a", more=2**60),
        proofs("a", more=1.5),  # type: ignore[arg-type]
    ],
    ids=["none", "twice", "nine", "large", "deep", "deeper", "surrogate", "number", "fraction"],
)
def test_a_presentation_beyond_its_bounds_reaches_no_attestor(presented: Sequence[Proof]) -> None:
    async def story(stage: Stage) -> None:
        one = FixedProofs("one")
        assert await refusal(stage.desk(one).present(presented, source="x")) == "trust.proof.malformed"
        assert one.begun == 0
        assert stage.told == [("", "trust.proof.malformed")]

    run(story)


def test_an_attestor_that_is_not_configured_is_named_in_bounds() -> None:
    async def story(stage: Stage) -> None:
        with pytest.raises(RemitError) as refused:
            await stage.desk().present(proofs("a", attestor="\n" + "n" * 9000), source="x")
        assert refused.value.code == "trust.proof.unknown" and len(refused.value.message) < 200
        assert stage.told == [("", "trust.proof.unknown")]

    run(story)


def test_more_at_once_than_can_be_verified_are_turned_away() -> None:
    async def story(stage: Stage) -> None:
        slow = Slow()
        desk = stage.desk(slow)
        waiting = [
            asyncio.create_task(desk.present(proofs(str(number), attestor="slow"), source="x")) for number in range(64)
        ]
        await asyncio.sleep(0)
        assert await refusal(desk.present(proofs("z", attestor="slow"), source="x")) == "trust.proof.busy"
        slow.go.set()
        assert len(await asyncio.gather(*waiting)) == 64

    run(story)


def test_who_presents_too_often_waits() -> None:
    clock = ManualClock(NOON)
    limit = SourceLimit(clock, per_minute=60, burst=3, sources=2)
    for _ in range(3):
        limit("x")
    with pytest.raises(Unavailable) as busy:
        limit("x")
    assert busy.value.retry_after == timedelta(seconds=1)
    limit("y")
    clock.advance(timedelta(seconds=1))
    limit("x")


def test_a_flood_of_refusals_is_a_handful_of_entries_that_count_it() -> None:
    async def story(stage: Stage) -> None:
        log = RefusalLog(stage.store, clock=stage.clock)
        for number in range(1000):
            await log("oidc", "trust.proof.forged", "the proof's signature does not verify", f"10.0.0.{number % 50}")
        await log("github", "trust.proof.expired", "the proof has expired", "10.0.0.1")
        await log.tend()
        told = [(event.subject, event.data["code"], event.data["count"]) for event in stage.store.events]
        assert told == [
            ("attestor:oidc", "trust.proof.forged", 1),
            ("attestor:github", "trust.proof.expired", 1),
            ("attestor:oidc", "trust.proof.forged", 999),
        ]
        assert len(stage.store.events[2].data["sources"]) == 8  # type: ignore[arg-type]
        stage.clock.advance(EVERY)
        await log("oidc", "trust.proof.forged", "again", "10.0.0.1")
        assert len(stage.store.events) == 4

    run(story)


def test_refusals_are_counted_on_while_the_ledger_is_away() -> None:
    async def story(stage: Stage) -> None:
        log = RefusalLog(stage.store, clock=stage.clock)
        stage.store.fail = Unavailable("storage.database.away", "the database does not answer")
        for _ in range(5):
            await log("oidc", "trust.proof.forged", "no", "x")
        stage.store.fail = None
        await log.tend()
        assert [event.data["count"] for event in stage.store.events] == [5]

    run(story)


def test_every_refusal_at_the_desk_is_told_with_its_attestor() -> None:
    async def story(stage: Stage) -> None:
        desk = stage.desk()
        question = await ask(desk)
        await refusal(desk.answer(question.session, {"one": {"said": "no"}}, source="x"))
        await refusal(desk.answer("unknown", YES, source="x"))
        assert stage.told == [("one", "trust.proof.forged"), ("", "trust.proof.session")]

    run(story)
