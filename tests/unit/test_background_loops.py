"""Loops in the background: one trouble ends none of them, a change in between is not lost, and a stop leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remit.access.policy.compile import compile_policies
from remit.access.segments import Applied, Form
from remit.access.snapshot import Snapshot
from remit.kernel.clock import ManualClock, SystemClock
from remit.kernel.errors import NotFound, Unavailable
from remit.kernel.events import LocalBus
from remit.ledger.batches import BATCH_TYPE
from remit.wiring import control as control_plane
from remit.wiring import privilege, rightsizing, sampling, scream, settings_from
from remit.wiring.decisions import Decisions
from remit.wiring.intents import Intents, _Live
from remit.wiring.leaks import Leaks
from remit.wiring.segments import Segments
from remit.wiring.snapshots import SnapshotFeed
from remit.wiring.standing import Standing
from remit.wiring.words_journal import WordJournal
from stores import opened

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Away:
    """A store that is away when it is first read."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, query: Any) -> Any:
        self.reads += 1
        if self.reads == 1:
            raise Unavailable("storage.database.failed", "the database is away")
        return ()


@pytest.mark.parametrize("module", [scream, rightsizing])
def test_a_database_that_was_away_ends_no_loop(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0)

    async def run() -> None:
        store = Away()
        house: Any = SimpleNamespace(store=store, clock=ManualClock(NOW), settings=None, standing=None)
        looking = (module.Screams(house, {}) if module is scream else module.Rightsizing(house)).run()
        task = asyncio.create_task(looking)
        await until(lambda: store.reads > 1 or task.done())
        assert not task.done()
        await ended(task)

    asyncio.run(run())


def test_a_discovery_is_measured_though_the_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privilege, "_SETTLE", timedelta(0))

    async def run() -> None:
        store = Away()
        store.write = store.read  # type: ignore[attr-defined]
        house: Any = SimpleNamespace(store=store, clock=ManualClock(NOW))
        rights = privilege.Privilege(house)
        rights.wake()
        task = asyncio.create_task(rights.run())
        await until(lambda: store.reads == 3)
        await ended(task)

    asyncio.run(run())


def test_what_one_driver_breaks_off_ends_no_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SECONDS", 0)
    rounds: list[str] = []

    async def names() -> list[Any]:
        rounds.append("round")
        return [SimpleNamespace(name="orders")]

    async def leases(query: Any) -> list[Any]:
        return [SimpleNamespace(lease=SimpleNamespace(target="orders"))]

    async def broker(target: str) -> Any:
        raise asyncio.CancelledError

    async def run() -> None:
        house: Any = SimpleNamespace(
            store=SimpleNamespace(read=leases), clock=ManualClock(NOW), targets=SimpleNamespace(list=names),
            brokers=SimpleNamespace(broker=broker),
        )  # fmt: skip
        task = asyncio.create_task(sampling.ActivitySampler(house).run())
        await until(lambda: len(rounds) > 1 or task.done())
        assert not task.done()
        await ended(task)

    asyncio.run(run())


def test_a_loop_that_is_cancelled_by_nobody_of_ours_is_a_failure(tmp_path: Path) -> None:
    async def cut_off() -> None:
        raise asyncio.CancelledError

    async def run() -> None:
        plane = control_plane.ControlPlane(settings_from(tmp_path / "d", environ={}, flags={}), SystemClock())
        plane._spawn("graph", cut_off)
        (task,) = plane._background
        await asyncio.wait({task})
        with pytest.raises(RuntimeError, match="graph"):
            async with asyncio.timeout(0):
                await plane.failure()

    asyncio.run(run())


# The snapshot and the journal behind it.


class Snapshots:
    """A store whose every reading is a snapshot; the one numbered `bad` breaks as none of ours does."""

    def __init__(self, bad: int) -> None:
        self._left = bad

    async def read(self, query: Any) -> Snapshot:
        self._left -= 1
        if not self._left:
            raise RuntimeError("dictionary changed size during iteration")
        return Snapshot.of(compile_policies(""), epoch=1, sequence=1_000 - self._left, at=0.0)


def test_an_odd_reading_ends_the_feed_for_nobody() -> None:
    async def run() -> None:
        store: Any = Snapshots(bad=2)
        nothing: Any = None
        feed = SnapshotFeed(
            store, nothing, nothing, clock=ManualClock(NOW), changed=lambda unit, grant: "", trust_domain="remit.test"
        )
        await feed.open()
        feed.reload()
        async with asyncio.timeout(60):
            await feed.settle()
        await feed.close()

    asyncio.run(run())


class Watchful(str):
    """Something happens while it is compared."""

    __slots__ = ("_happens",)
    _happens: Callable[[], None]

    @classmethod
    def of(cls, text: str, happens: Callable[[], None]) -> Watchful:
        made = cls(text)
        made._happens = happens
        return made

    def __eq__(self, other: object) -> bool:
        self._happens()
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_commit_while_a_thread_asks_who_owns_what(tmp_path: Path) -> None:
    nothing: Any = None
    standing, number = Standing(nothing, b"", tmp_path / "mark"), iter(range(100))

    def assign() -> None:
        event: Any = SimpleNamespace(
            type="governance.owner.assigned", subject=f"id_{next(number)}", data={"owner": "person:ann"}
        )
        standing._note(event.type, event.subject, event.data)

    assign()
    assert standing.owned_by(Watchful.of("person:ann", assign)) == ("id_0",)


def test_a_word_while_a_thread_reads_the_words_of_before() -> None:
    journal, said = WordJournal(), {"by": "person:ann", "at": "2026-11-22T12:00:00.000000Z", "reason": "r"}
    journal.note_words("id_1", {**said, "words": {"purpose": "orders"}})
    reading = iter(journal.words("id_1").items())
    journal.note_words("id_1", {**said, "words": {"service": "shop"}})
    assert [field for field, _ in reading] == ["purpose"]
    assert set(journal.words("id_1")) == {"purpose", "service"}


# Decisions.


class Held:
    """A store whose writes are committed and not answered until `answer` is set."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read = store.read
        self.committed, self.answer = asyncio.Event(), asyncio.Event()

    async def write(self, work: Any) -> Any:
        result = await self._store.write(work)
        self.committed.set()
        await self.answer.wait()
        return result


def test_a_batch_that_is_committed_during_the_stop_is_entered_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}") as store:
            held, nothing = Held(store), None
            decisions = Decisions(nothing, held, LocalBus(), clock=SystemClock(), node="n1")  # type: ignore[arg-type]
            await decisions.open(tmp_path / "decisions")
            await decisions.log.append(b'{"id":"dc_1"}')
            await held.committed.wait()
            closing = asyncio.create_task(decisions.close())
            await asyncio.sleep(0)
            held.answer.set()
            await closing
            entries = await store.read(lambda unit: unit.ledger.latest(10, type_prefix=BATCH_TYPE))
            assert [entry.data["first_seq"] for entry in entries] == [1]

    asyncio.run(run())


# Network rules.


def applied(target: str) -> Applied:
    return Applied(
        target=target, form=Form.NFTABLES, text="rules", follow=True, file="", before="", listing="", settled=True,
        actor="person:ann", time=NOW, signature="s",
    )  # fmt: skip


def test_rules_follow_though_those_of_another_target_cannot() -> None:
    asked: list[str] = []

    async def target(name: str) -> Any:
        asked.append(name)
        raise Unavailable("access.target.unreachable", "down") if name == "billing" else NotFound("x.y.z", "gone")

    async def state(query: Any) -> Any:
        return [applied("billing"), applied("orders")], []

    async def run() -> None:
        house: Any = SimpleNamespace(
            bus=LocalBus(), store=SimpleNamespace(read=state), targets=SimpleNamespace(get=target),
            witness=SimpleNamespace(verify=lambda kind, content, signature: True), clock=ManualClock(NOW),
        )  # fmt: skip
        task = asyncio.create_task(Segments(house).run())
        await until(lambda: "orders" in asked)
        await ended(task)

    asyncio.run(run())


# Gateways of agents.


def test_what_was_seen_of_an_older_gateway_does_not_count_for_a_newer_one() -> None:
    async def run() -> None:
        house: Any = SimpleNamespace(store=None, witness=None, clock=ManualClock(NOW))
        intents, looking, seen = Intents(house), asyncio.Event(), asyncio.Event()
        stored: Any = SimpleNamespace(intent=SimpleNamespace(id="in_1", agent="id_agent"))
        live = intents._live["in_1"] = _Live((stored,))
        live.proven["files"] = {"attested": True, "attested_at": int((NOW - timedelta(hours=1)).timestamp())}

        async def look() -> Any:
            looking.set()
            await seen.wait()
            return frozenset({"id_agent"}), {"attested": True, "attested_at": int(NOW.timestamp())}

        renewing = asyncio.create_task(intents.renew("in_1", "files", look))
        await looking.wait()
        live.proven["files"] = {}  # as `attach` says of a gateway that another process started
        seen.set()
        await renewing
        assert live.proven["files"] == {}

    asyncio.run(run())


# What a stop leaves.


def test_a_leak_that_is_being_ended_is_let_go_before_the_loop_has_ended() -> None:
    async def driving() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(100):  # a connection is being closed
                await asyncio.sleep(0)

    async def nothing(query: Any) -> Any:
        return ()

    async def run() -> None:
        house: Any = SimpleNamespace(store=SimpleNamespace(read=nothing), clock=ManualClock(NOW))
        leaks = Leaks(house)
        leak = leaks._driving["hmac:1"] = asyncio.create_task(driving())  # type: ignore[assignment]
        task = asyncio.create_task(leaks.run())
        await asyncio.sleep(0)
        await ended(task)
        assert leak.done()

    asyncio.run(run())
