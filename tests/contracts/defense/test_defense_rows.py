"""The contract of defense's rows, on the fake, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from remit.defense.model import (
    Detection,
    Effect,
    Incident,
    IncidentStatus,
    Moment,
    Response,
    ResponseState,
)
from remit.defense.testing import MemoryStore, MemoryUnit
from remit.inventory.model import Severity
from remit.kernel.clock import ManualClock
from servers import LocalServer, postgres_server

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def detection(number: int, **changed: Any) -> Detection:
    made = Detection(
        id=f"dt_{number:026d}",
        rule="defense.x",
        identity="id_1",
        title="t",
        severity=Severity.HIGH,
        confidence=95,
        evidence={"objects": ["a.b"], "client": None},
        event_id="e",
        happened=NOON,
        detected=NOON,
        suggested="quarantine",
        incident="in_1",
        lease="ls_1",
    )
    return replace(made, **changed)


def incident(number: int, **changed: Any) -> Incident:
    made = Incident(
        id=f"in_{number:026d}",
        identity="id_1",
        title="t",
        severity=Severity.HIGH,
        status=IncidentStatus.OPEN,
        opened=NOON,
        happened=NOON,
        detected=NOON,
        updated=NOON,
    )
    return replace(made, **changed)


def response(number: int, **changed: Any) -> Response:
    made = Response(
        id=f"rs_{number:026d}",
        kind="quarantine",
        identity="id_1",
        incident="in_1",
        reason="r",
        by="system:defense",
        automatic=True,
        state=ResponseState.INTENDED,
        environment="production",
        contains=True,
        intended=NOON,
        next_try=NOON,
    )
    return replace(made, **changed)


class Rows:
    """One store, asked synchronously: each call is a unit of work of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._memory = MemoryStore(MemoryUnit(clock=ManualClock(NOON)))

    def all(self, *works: Callable[[Any], Any]) -> list[Any]:
        async def main() -> list[Any]:
            async with self._store() as store:
                return [await store.write(lambda unit, work=work: work(unit.defense)) for work in works]

        return asyncio.run(main())

    @asynccontextmanager
    async def _store(self) -> Any:
        if not self._url:
            yield self._memory
            return
        from remit.storage.database import open_database

        store = await open_database(self._url, clock=ManualClock(NOON), published=lambda events: None)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with postgres_server() as running:
        yield running


async def fresh_database(server: LocalServer) -> str:
    import asyncpg

    name = f"rows_{uuid4().hex}"
    admin = await asyncpg.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database="postgres"
    )
    await admin.execute(f"create database {name}")
    await admin.close()
    return f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{name}"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Rows:
    if request.param == "postgres":
        return Rows(asyncio.run(fresh_database(request.getfixturevalue("server"))))
    return Rows(f"sqlite:///{tmp_path / 'remit.db'}" if request.param == "sqlite" else "")


def test_a_detection_is_kept_once_and_comes_back_as_it_was(rows: Rows) -> None:
    one = detection(1)
    found = rows.all(
        lambda r: r.add_detection(one),
        lambda r: r.add_detection(replace(one, title="other")),
        lambda r: r.detection(one.id),
        lambda r: r.detection("dt_404"),
    )
    assert found == [True, False, one, None]


def test_detections_newest_first_in_pages(rows: Rows) -> None:
    found = rows.all(
        lambda r: [r.add_detection(detection(n, identity=f"id_{n % 2}")) for n in range(5)],
        lambda r: [one.id[-1] for one in r.detections(limit=2)],
        lambda r: [one.id[-1] for one in r.detections(before=detection(3).id, limit=2)],
        lambda r: [one.id[-1] for one in r.detections(identity="id_1")],
        lambda r: len(r.detections_of("in_1")),
        lambda r: list(r.detections_of("in_2")),
    )
    assert found[1:] == [["4", "3"], ["2", "1"], ["3", "1"], 5, []]


def test_identities_of_a_storm_are_counted_once_each(rows: Rows) -> None:
    found = rows.all(
        lambda r: [r.add_detection(detection(n, identity=f"id_{n % 3}")) for n in range(9)],
        lambda r: r.add_detection(detection(10, identity="id_10", detected=NOON - timedelta(seconds=1))),
        lambda r: r.add_detection(detection(11, identity="id_11", rule="defense.y")),
        lambda r: r.count_identities_detected("defense.x", NOON),
    )
    assert found[-1] == 3


def test_the_open_incident_is_the_newest_that_is_not_closed(rows: Rows) -> None:
    closed = incident(3, status=IncidentStatus.CLOSED, closed=NOON)
    contained = incident(2, status=IncidentStatus.CONTAINED, contained=NOON, proved=NOON, detections=3)
    found = rows.all(
        lambda r: [r.add_incident(one) for one in (incident(1), incident(2), closed)],
        lambda r: r.update_incident(contained),
        lambda r: (r.open_incident("id_1"), r.open_incident("id_2")),
        lambda r: [one.id[-1] for one in r.incidents()],
        lambda r: [one.id[-1] for one in r.incidents(status="closed")],
        lambda r: [one.id[-1] for one in r.incidents(before=closed.id, limit=1)],
    )
    assert found[2:] == [(contained, None), ["3", "2", "1"], ["3"], ["2"]]


def test_the_time_line_keeps_its_order(rows: Rows) -> None:
    moments = [Moment(incident="in_1", time=NOON, kind="k", text=str(n), data={"n": n}) for n in range(3)]
    found = rows.all(
        *[lambda r, m=m: r.add_moment(m) for m in moments],
        lambda r: list(r.moments("in_1")),
        lambda r: list(r.moments("in_2")),
    )
    assert found[3:] == [moments, []]


def test_a_response_comes_back_with_its_effects(rows: Rows) -> None:
    one = response(1)
    done = replace(
        one,
        state=ResponseState.DONE,
        finished=NOON,
        attempts=2,
        effects=(Effect(kind="revoke", subject="ls_1", text="t", done=True, result={"proved": True, "at": None}),),
        note="n",
    )
    found = rows.all(lambda r: r.add_response(one), lambda r: r.update_response(done), lambda r: r.response(one.id))
    assert found[2] == done


def test_what_was_undone_does_not_stand(rows: Rows) -> None:
    undone = response(2, state=ResponseState.UNDONE, undo_by="person:alice", undo_reason="x", undo_at=NOON)
    found = rows.all(
        lambda r: [r.add_response(one) for one in (response(1, incident="in_2"), undone)],
        lambda r: r.standing_response("id_1", "quarantine"),
        lambda r: r.standing_response("id_1", "quarantine", incident="in_1"),
        lambda r: r.standing_response("id_1", "ticket"),
        lambda r: [one.id[-1] for one in r.responses(identity="id_1")],
    )
    assert found[1:] == [response(1, incident="in_2"), None, None, ["2", "1"]]


def test_a_response_is_claimed_by_one(rows: Rows) -> None:
    until = NOON + timedelta(seconds=50)
    one = response(1, error="x.y")
    found = rows.all(
        lambda r: r.add_response(one),
        lambda r: [due.id for due in r.responses_due(NOON)],
        lambda r: r.claim_response(one.id, attempts=0, now=NOON, until=until),
        lambda r: r.claim_response(one.id, attempts=0, now=NOON, until=until),
        lambda r: r.claim_response(one.id, attempts=1, now=NOON, until=until),
        lambda r: list(r.responses_due(NOON)),
        lambda r: r.claim_response(one.id, attempts=1, now=until, until=until),
        lambda r: (r.response(one.id).attempts, r.response(one.id).error),
    )
    assert found[1:] == [[one.id], True, False, False, [], True, (2, "")]


def test_what_is_done_is_never_due(rows: Rows) -> None:
    found = rows.all(
        lambda r: r.add_response(response(1, state=ResponseState.DONE)),
        lambda r: list(r.responses_due(NOON)),
        lambda r: r.claim_response(response(1).id, attempts=0, now=NOON, until=NOON),
    )
    assert found[1:] == [[], False]


def test_limits_count_what_they_should(rows: Rows) -> None:
    kept = [
        response(1),
        response(2, state=ResponseState.DONE),
        response(3, identity="id_3", automatic=False),
        response(4, identity="id_4", state=ResponseState.UNDONE),
        response(5, identity="id_5", contains=False),
        response(6, identity="id_6", environment="test", intended=NOON - timedelta(seconds=1)),
    ]
    found = rows.all(
        lambda r: [r.add_response(one) for one in kept],
        lambda r: r.count_automatic(NOON),
        lambda r: (r.count_contained("production"), r.count_contained("test"), r.count_contained("")),
    )
    assert found[1:] == [3, (2, 1, 0)]
