"""The engine behind the listener: the same record as everybody's, durable before it is told, computed when it must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remit.access.enforcers.asking import framed
from remit.access.enforcers.model import Asker, Enforcer
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import ExceptionFacts, GrantFacts, IdentityFacts, ResourceFacts
from remit.access.record import decision_json
from remit.access.snapshot import Delta, Snapshot, SnapshotCell
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, Rejected, Unavailable
from remit.kernel.ids import is_id
from remit.ledger.segments import SegmentLog
from remit.surface.api.authzen_json import read_request
from remit.wiring.hot import MOST_HELD, DecisionDesk, answer_json, sees_facts

NOW = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
POINT = Enforcer(
    id="ef_1", name="gw", spiffe_id="spiffe://remit.test/gw", created=NOW, created_by="person:ann",
    fulfils=("redact",), vouches=("attested", "grant"),
)  # fmt: skip
GATEWAY, ITSELF = (
    Asker(name="enforcer:gw", enforcer=POINT),
    Asker(name="job", identity="id_job", proven={"attested": True}),
)
POLICY = """
@id("read") permit(principal, action == Remit::Action::"read", resource);
@id("attested") permit(principal, action == Remit::Action::"connect", resource) when { context.attested };
@id("two") permit(principal, action == Remit::Action::"connect", resource) when { context.attested };
@id("redacted") @obligation("redact: names") permit(principal, action == Remit::Action::"list", resource);
@id("errs") permit(principal, action == Remit::Action::"execute", resource) when { context.step_up_at > 0 };
@id("no") forbid(principal, action == Remit::Action::"write", resource) unless { context.exception };
@id("write") permit(principal, action == Remit::Action::"write", resource);
"""


class Decisions:
    """The part of `wiring.Decisions` that the desk needs."""

    def __init__(self, log: SegmentLog) -> None:
        self.log = log
        self.told: list[Any] = []

    def publish(self, plain: Any, now: datetime) -> None:
        self.told.append(plain)


class House:
    def __init__(self, log: SegmentLog, policy: str = POLICY) -> None:
        self.clock = ManualClock(NOW)
        people = [IdentityFacts(id=f"id_{name}", name=name, kind="workload", owner_active=True, tier=tier)
                  for name, tier in (("job", 3), ("strict", 1))]  # fmt: skip
        grant = GrantFacts(
            id="gr_1", identity="id_job", digest="sha256:x", approved=("sha256:x",), usable=True,
            expires=NOW + timedelta(milliseconds=300),
        )  # fmt: skip
        whole = Snapshot.of(
            compile_policies(policy), epoch=1, sequence=1, at=self.clock.monotonic(), identities=people, grants=[grant],
            resources=[ResourceFacts(name="api/r", kind="api", sensitivity="internal")],
            exceptions=[ExceptionFacts(id="ex_1", rule="no", identities=frozenset({"id_job"}), actions=frozenset({"write"}),
                                       resource="api/excused", expires=NOW + timedelta(milliseconds=300))],
        )  # fmt: skip
        self.cell = SnapshotCell(whole)
        self.pdp = Pdp(self.cell.current, self.clock)
        self.log = log
        self.desk = DecisionDesk(self.pdp, Decisions(log), clock=self.clock)  # type: ignore[arg-type]
        self.judged = 0
        judge = self.pdp.judge_in

        def counted(*given: Any, **named: Any) -> Any:
            self.judged += 1
            return judge(*given, **named)

        self.pdp.judge_in = counted  # type: ignore[method-assign]

    async def ask(self, asker: Asker = GATEWAY, **question: Any) -> Any:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.desk.submit(body(**question), read_request, asker, told.set_result)
        answer = await asyncio.wait_for(told, 60)
        if isinstance(answer, BaseException):
            raise answer
        return json.loads(answer)

    def records(self) -> list[Any]:
        return [json.loads(each.data) for each in reversed(self.log.latest(100).records)]


def body(subject: str = "job", action: str = "read", resource: str = "r", **context: Any) -> bytes:
    asked = {"subject": {"type": "identity", "id": subject}, "action": {"name": action},
             "resource": {"type": "api", "id": resource}, **({"context": context} if context else {})}  # fmt: skip
    return json.dumps(asked).encode()


def run(folder: Path, use: Callable[[House], Any], policy: str = POLICY) -> Any:
    async def within() -> Any:
        log = SegmentLog.open(folder, "test", clock=ManualClock(NOW))
        try:
            return await use(House(log, policy))
        finally:
            await log.close()

    return asyncio.run(within())


QUESTIONS: list[tuple[Asker, dict[str, Any]]] = [
    (GATEWAY, {}),
    (ITSELF, {"action": "connect"}),
    (GATEWAY, {"action": "connect"}),
    (GATEWAY, {"action": "connect", "proven": {"attested": True}, "purpose": "nightly", "later": [1.5]}),
    (GATEWAY, {"action": "list"}),
    (ITSELF, {"action": "list"}),
    (GATEWAY, {"action": "execute"}),
    (GATEWAY, {"action": "write"}),
    (GATEWAY, {"action": "write", "resource": "excused"}),
    (GATEWAY, {"subject": "mallory"}),
    (GATEWAY, {"subject": "strict", "action": "delete"}),
    (GATEWAY, {"proven": {"grant": "gr_1"}}),
    (GATEWAY, {"proven": {"grant": "gr_9"}}),
    (GATEWAY, {"proven": {"attested": "yes"}}),
    (GATEWAY, {"purpose": "x" * 9000}),
]


@pytest.mark.parametrize(("asker", "question"), QUESTIONS)
def test_record_and_answer_are_those_of_everybody(tmp_path: Path, asker: Asker, question: dict[str, Any]) -> None:
    async def use(house: House) -> None:
        answer = await house.ask(asker, **question)
        await house.log.flush()
        (record,) = house.records()
        asked = framed(read_request(body(**question)), asker, house.cell.current())
        decision = replace(house.pdp.decide(asked, fulfils=asker.fulfils), id=record["id"])
        assert is_id("dc", record["id"])
        assert record == json.loads(msgspec.json.encode(decision_json(decision, asker=asker.name)))
        assert answer == json.loads(msgspec.json.encode(answer_json(decision, facts=sees_facts(asker))))

    run(tmp_path, use)


def test_an_allow_is_on_disk_when_it_is_told(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        assert (await house.ask())["decision"] is True
        assert [each["allowed"] for each in house.records()] == [True]

    run(tmp_path, use)


def test_the_same_question_is_computed_once_and_recorded_each_time(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        answers = [await house.ask() for _ in range(5)]
        assert (house.judged, len({each["context"]["id"] for each in answers})) == (1, 5)
        assert [each["id"] for each in house.records()] == [each["context"]["id"] for each in answers]

    run(tmp_path, use)


@pytest.mark.parametrize(
    "question",
    [
        {"proven": {"grant": "gr_1"}},
        {"action": "write", "resource": "excused"},
        {"action": "list"},
        {"action": "execute"},
        {"subject": "mallory"},
    ],
)
def test_what_hangs_on_the_moment_is_computed_each_time(tmp_path: Path, question: dict[str, Any]) -> None:
    async def use(house: House) -> None:
        for _ in range(3):
            await house.ask(**question)
        assert house.judged == 3

    run(tmp_path, use)


def test_a_policy_that_reads_the_time_is_asked_each_time(tmp_path: Path) -> None:
    policy = 'permit(principal, action, resource) when { context.time < datetime("2026-01-01T12:00:00.500Z") };'

    async def use(house: House) -> None:
        assert (await house.ask())["decision"] is True
        house.clock.advance(timedelta(milliseconds=300))
        assert (await house.ask())["decision"] is False

    run(tmp_path, use, policy)


def test_another_asker_another_second_or_another_snapshot_is_another_question(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        await house.ask()
        await house.ask(replace(GATEWAY))
        house.clock.advance(timedelta(milliseconds=750))
        house.cell.beat(house.clock.monotonic())
        await house.ask()
        await house.ask()
        house.cell.apply(Delta(epoch=1, sequence=2, quarantined={"id_job": "test"}), at=house.clock.monotonic())
        assert (await house.ask())["decision"] is False
        assert house.judged == 4

    run(tmp_path, use)


def test_a_snapshot_that_grows_old_is_looked_at_anew(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        house.cell.apply(Delta(epoch=1, sequence=2), at=house.clock.monotonic())
        assert (await house.ask(subject="strict"))["decision"] is True
        house.clock.advance(timedelta(milliseconds=740))
        await house.ask(subject="strict")
        assert house.judged == 2
        house.clock.advance(timedelta(milliseconds=300))
        answer = await house.ask(subject="strict")
        assert [each["id"] for each in answer["context"]["reason"]["policies"]] == ["remit:stale"]

    run(tmp_path, use)


def test_facts_are_for_who_guards_something(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        assert "facts" in (await house.ask(GATEWAY))["context"]["reason"]
        assert "facts" not in (await house.ask(ITSELF))["context"]["reason"]

    run(tmp_path, use)


def test_a_promise_counts_for_its_kind_alone(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        other = replace(GATEWAY, enforcer=replace(POINT, fulfils=("step-up",)))
        given = await house.ask(GATEWAY, action="list")
        assert (given["decision"], given["context"]["obligations"]) == (True, [{"kind": "redact", "detail": "names"}])
        assert (await house.ask(other, action="list"))["decision"] is False

    run(tmp_path, use)


def test_who_may_not_ask_gets_no_answer_and_leaves_no_record(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        with pytest.raises(Denied):
            await house.ask(ITSELF, subject="strict")
        assert house.records() == []

    run(tmp_path, use)


def test_more_than_may_be_held_is_told_to_come_again(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        told: list[Any] = []
        for _ in range(MOST_HELD):
            house.desk.submit(body(), read_request, GATEWAY, told.append)
        with pytest.raises(Unavailable) as refusal:
            house.desk.submit(body(), read_request, GATEWAY, told.append)
        assert refusal.value.code == "access.decisions.busy"
        while house.desk.waiting:
            await asyncio.sleep(0.01)
        assert len(told) == MOST_HELD
        assert (await house.ask())["decision"] is True

    run(tmp_path, use)


def test_a_bad_question_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        with pytest.raises(Rejected):
            house.desk.submit(b"{}", read_request, GATEWAY, lambda answer: None)
        assert house.judged == 0

    run(tmp_path, use)


def test_a_flood_does_not_push_other_events_out_of_the_bus(tmp_path: Path) -> None:
    async def use(house: House) -> None:
        for _ in range(50):
            await house.ask()
        assert len(house.desk._decisions.told) == 1  # type: ignore[attr-defined]

    run(tmp_path, use)
