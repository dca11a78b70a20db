"""Marks: what a run remembers, and how an interrupted one is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from remit.governance.testing import KeyedAttester
from remit.inventory import registry
from remit.inventory.connectors.port import ConnectorManifest, Scan
from remit.inventory.marks import LONGEST, MOST, asked, remembered
from remit.inventory.model import Fact, Skipped
from remit.inventory.readings import SecretOf, asked_of
from remit.kernel.errors import Conflict, RemitError, Unavailable
from remit.surface import worker
from remit.surface.discovery import Question, _follow
from remit.surface.worker import Job, Recall, scan
from remit.wiring.settings import UseSettings

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SKIPPED = Skipped(what="w", reason="unreadable")


def begin(reg: Any, *, resumable: bool = True, question: str = "q") -> registry.Run:
    return registry.begin_run(
        reg.unit(), "db", "i", "scope", record_of=("db",), resumable=resumable, asked=question
    )  # fmt: skip


def interrupted(reg: Any, say: Any) -> registry.Run:
    run = begin(reg)
    unit = reg.unit()
    registry.reconcile(unit, run, [say.identity(reg.A)])
    registry.keep_marks(unit, run, {"cursor": "1"}, [SKIPPED])
    return run


def test_an_interrupted_run_is_resumed_and_retires_nothing_that_it_had_shown(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A), say.identity(reg.C)])
    first = interrupted(reg, say)
    again = begin(reg)
    assert (again.resumed, again.run, again.recalled) == (True, first.run, {"cursor": "1"})
    registry.reconcile(reg.unit(), again, [say.identity(reg.B)])
    registry.finish_run(reg.unit(), again, {}, [SKIPPED])
    assert [reg.named(each).present for each in (reg.A, reg.B, reg.C)] == [True, True, False]
    (source,) = reg.rows.sources()
    assert len(source.skipped) == 2


@pytest.mark.parametrize("why", ["it cannot", "it was asked something else", "it is a day ago", "nothing was marked"])
def test_otherwise_a_run_begins_anew(reg: Any, say: Any, why: str) -> None:
    if why == "nothing was marked":
        first = begin(reg)
        registry.reconcile(reg.unit(), first, [say.identity(reg.A)])
    else:
        first = interrupted(reg, say)
    if why == "it is a day ago":
        reg.now += timedelta(hours=24)
    again = begin(reg, resumable=why != "it cannot", question="p" if why == "it was asked something else" else "q")
    assert (again.resumed, again.recalled) == (False, {})
    assert again.run != first.run
    registry.finish_run(reg.unit(), again, {}, ())
    assert not reg.named(reg.A).present


def test_who_was_at_a_run_that_is_resumed_is_out(reg: Any, say: Any) -> None:
    first = interrupted(reg, say)
    begin(reg)
    with pytest.raises(Conflict) as refused:
        registry.reconcile(reg.unit(), first, [say.identity(reg.B)])
    assert refused.value.code == "inventory.run.superseded"


def test_a_whole_run_leaves_its_marks_to_the_next(reg: Any, say: Any) -> None:
    run = interrupted(reg, say)
    registry.finish_run(reg.unit(), run, {}, ())
    second = begin(reg)
    assert (second.resumed, second.recalled) == (False, {"cursor": "1"})
    registry.keep_marks(reg.unit(), second, {"half": "way"})
    assert begin(reg, resumable=False).recalled == {"cursor": "1"}, "what broke off has nothing to recall"


def test_marks_are_bounded() -> None:
    marks: dict[str, str] = {}
    for number in range(MOST):
        marks = remembered(marks, f"k{number}", "v" * LONGEST)
    for key, value in (("one more", "v"), ("k1", "v" * (LONGEST + 1)), ("", "v")):
        with pytest.raises(RemitError) as refused:
            remembered(marks, key, value)
        assert refused.value.code == "inventory.mark.unfit"
    assert len(remembered(marks, "k1", "")) == MOST - 1


def test_the_same_question_has_the_same_digest() -> None:
    assert asked("s", {"a": "1"}) == asked("s", {"a": "1"}) != asked("s", {"a": "2"})


# -- the worker


class Numbers:
    """A connector that yields numbers after the cursor, and remembers each."""

    manifest = ConnectorManifest(
        id="numbers", title="n", source="", observes=(), needs=(), blind_to=(), record_of=("db",), resumable=True
    )
    instance, scope = "i", "scope"

    def __init__(self, reg: Any, say: Any, breaks_at: int = 99) -> None:
        self._names, self._say, self._breaks_at = (reg.A, reg.B, reg.C), say, breaks_at

    def open(self) -> None: ...
    def close(self) -> None: ...

    def fetch(self, scan: Scan) -> Iterator[int]:
        for number in range(int(scan.recalled["cursor"]) if scan.resumed else 0, 3):
            if number == self._breaks_at:
                raise OSError("gone")
            yield number
            scan.remember("cursor", str(number + 1))

    def translate(self, raw: int, scan: Scan) -> list[Fact]:
        return [self._say.identity(self._names[raw])]


def lines_of(connector: Any, recall: Recall, *, dies: bool = False) -> list[dict[str, Any]]:
    job = Job(connector="numbers", source="s", now=NOON, fingerprint_key="00")
    written: list[dict[str, Any]] = []
    try:
        scan(connector, job, written.append, lambda: recall)
    except OSError:
        assert dies
    return written


def test_a_mark_goes_before_the_facts_that_it_belongs_to(reg: Any, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BATCH", 2)
    lines = lines_of(Numbers(reg, say), Recall())
    told = [line.get("value") or len(line.get("facts", ())) for line in lines if line["kind"] in ("mark", "facts")]
    assert told == ["1", 2, "3", 1], "the mark of the last of a batch is not there before it was yielded"
    assert lines[0]["resumable"] is True


def test_discovery_resumes_where_the_worker_died(reg: Any, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BATCH", 1)

    async def write(work: Any) -> Any:
        return work(reg.unit())

    async def nothing() -> None: ...

    control: Any = SimpleNamespace(
        store=SimpleNamespace(write=write, read=write), synchronise=nothing, being_read=set(),
        settings=SimpleNamespace(use=UseSettings()), keys=KeyedAttester(),
        blast_watch=SimpleNamespace(discovered=lambda: None),
    )  # fmt: skip
    question = Question(connector="db", source="q", options={}, asked=asked_of("db", "q", {}, SecretOf.NOBODY))

    async def follow(lines: list[dict[str, Any]]) -> tuple[list[Any], Recall]:
        said = FakeProcess(lines)
        answers = [each async for each in _follow(control, said, question)]  # type: ignore[arg-type]
        return answers, said.told

    async def scene() -> None:
        broken = lines_of(Numbers(reg, say, breaks_at=2), Recall(), dies=True)
        with pytest.raises(Unavailable) as died:
            await follow(broken)
        assert died.value.code == "inventory.worker.died"
        known = Recall(recalled={"cursor": "1"}, resumed=True)
        answers, told = await follow(lines_of(Numbers(reg, say), known))
        assert told == known
        assert answers[0]["resumed"] and answers[-1]["kind"] == "done"
        assert answers[-1]["facts"]["identity"] == 3, "what the first part showed counts"
        assert reg.rows.marks(answers[-1]["source"]) == ({"cursor": "3"}, {})

    asyncio.run(scene())
    assert [reg.named(each).present for each in (reg.A, reg.B, reg.C)] == [True, True, True]


class FakeProcess:
    """A worker that wrote these lines and ended; remembers what it was told."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.stdout = asyncio.StreamReader()
        for line in lines:
            self.stdout.feed_data(msgspec.json.encode(line) + b"\n")
        self.stdout.feed_eof()
        self.stdin = self
        self.told = Recall()

    def write(self, line: bytes) -> None:
        self.told = msgspec.json.decode(line, type=Recall)

    async def drain(self) -> None: ...
    def close(self) -> None: ...

    async def wait(self) -> int:
        return 1
