"""From telemetry to containment, by itself; and when it is left to a person."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from remit.defense.model import QueryClass, ResponseState, TargetActivity
from remit.defense.responses import Limits
from remit.inventory.model import Skipped, State
from remit.kernel.errors import Unavailable
from remit.kernel.events import Event, LocalBus


def rogue(scene: Any, identity: str = "id_1", event: str = "e1", **changed: Any) -> TargetActivity:
    seen: dict[str, Any] = {
        "id": event,
        "target": "orders",
        "principal": f"remit_abc_{identity}",
        "at": scene.clock.now() - timedelta(seconds=2),
        "query_class": QueryClass.SET_ROLE,
        "objects": ("admin",),
        **changed,
    }
    return TargetActivity(**seen)


def observe(scene: Any, *batch: Any) -> Any:
    async def both() -> Any:
        kept = await scene.watch.observe(batch)
        await scene.watch.settle()
        return kept

    return asyncio.run(both())


def kinds(scene: Any) -> list[str]:
    return [response.kind for response in reversed(scene.unit.defense.responses())]


def test_a_rogue_session_is_contained_and_timed(scene: Any) -> None:
    scene.identity()
    scene.lease()
    [detection] = observe(scene, rogue(scene))
    incident = scene.unit.defense.incident(detection.incident)
    assert scene.unit.identities.get("id_1").state is State.QUARANTINED
    assert incident.time_to_contain == timedelta(seconds=2)
    assert [m.kind for m in scene.unit.defense.moments(incident.id)] == ["detected", "intended", "contained"]


def test_the_same_event_twice_is_one_detection(scene: Any) -> None:
    scene.identity()
    scene.lease()
    assert len(observe(scene, rogue(scene), rogue(scene))) == 1
    scene.start()
    assert observe(scene, rogue(scene)) == ()


def test_repeats_are_told_once_in_a_while(scene: Any) -> None:
    scene.identity()
    scene.lease()
    observe(scene, rogue(scene, event="e1"))
    assert observe(scene, rogue(scene, event="e2")) == ()
    scene.clock.advance(timedelta(minutes=11))
    assert len(observe(scene, rogue(scene, event="e3"))) == 1


def test_detections_of_one_identity_are_one_incident(scene: Any) -> None:
    scene.identity()
    scene.lease()
    kept = observe(scene, rogue(scene), rogue(scene, event="e2", query_class=QueryClass.CREATE, objects=("loot",)))
    assert len({detection.incident for detection in kept}) == 1
    assert scene.unit.defense.incidents()[0].detections == 2
    assert kinds(scene) == ["quarantine"]


def test_what_is_not_sure_enough_becomes_a_ticket(scene: Any) -> None:
    scene.identity()
    scene.lease()
    observe(scene, rogue(scene, query_class=QueryClass.CODE, objects=()))
    assert kinds(scene) == ["ticket"]
    assert scene.unit.identities.get("id_1").state is State.ACTIVE


def test_an_old_event_contains_nothing_by_itself(scene: Any) -> None:
    scene.identity()
    scene.lease()
    observe(scene, rogue(scene, at=scene.clock.now() - timedelta(hours=2)))
    assert kinds(scene) == ["ticket"]


@pytest.mark.parametrize(
    ("limits", "contained"),
    [
        (Limits(share_percent=100, storm_identities=3), 2),
        (Limits(share_percent=100, per_hour=2), 2),
        (Limits(share_percent=0, floor=2), 2),
        (Limits(share_percent=100, never=frozenset({"id_0"})), 4),
        (Limits(share_percent=100), 5),
    ],
)
def test_a_storm_is_downgraded_to_tickets(scene: Any, limits: Limits, contained: int) -> None:
    scene.limits = limits
    scene.start()
    for n in range(5):
        scene.identity(f"id_{n}")
        scene.lease(f"id_{n}")
    observe(scene, *(rogue(scene, f"id_{n}", f"e{n}") for n in range(5)))
    assert sorted(kinds(scene)) == ["quarantine"] * contained + ["ticket"] * (5 - contained)
    notes = [r.note for r in scene.unit.defense.responses() if r.kind == "ticket"]
    assert all(notes)


def test_the_hour_passes(scene: Any) -> None:
    scene.limits = Limits(share_percent=100, per_hour=1)
    scene.start()
    for n in range(2):
        scene.identity(f"id_{n}")
        scene.lease(f"id_{n}")
    observe(scene, rogue(scene, "id_0", "e0"))
    scene.clock.advance(timedelta(hours=1, seconds=1))
    observe(scene, rogue(scene, "id_1", "e1"))
    assert kinds(scene) == ["quarantine", "quarantine"]


def test_a_query_that_runs_on_through_many_samples_is_one_event(scene: Any) -> None:
    scene.identity()
    for _ in range(5):
        observe(scene, rogue(scene, query_class=QueryClass.READ, at=scene.clock.now()))
    assert len(scene.watch.recent.latest()) == 1


def test_what_cannot_be_read_is_counted(scene: Any) -> None:
    observe(scene, Skipped(what="log:1", reason="malformed"))
    assert scene.watch.skipped == 1


def test_a_detection_of_nobody_is_dropped(scene: Any) -> None:
    scene.lease("id_gone")
    assert observe(scene, rogue(scene, "id_gone")) == ()


def test_a_crash_between_detection_and_response_loses_neither(scene: Any) -> None:
    scene.identity()
    scene.lease()
    scene.containment.broken = [ValueError("a bug")]
    observe(scene, rogue(scene))
    [pending] = scene.unit.defense.responses()
    assert pending.state is ResponseState.INTENDED
    scene.start()
    assert asyncio.run(scene.responder.resume(exclusive=True)) == 1


def bus_event(scene: Any, type: str, **data: Any) -> Event:
    return Event(id="ev_1", type=type, time=scene.clock.now(), actor="system:x", subject="ls_1", data=data)


async def follow(scene: Any, *events: Event) -> None:
    bus = LocalBus()
    running = asyncio.create_task(scene.watch.run(bus))
    await asyncio.sleep(0)
    while not bus._queues:
        await asyncio.sleep(0)
    for event in events:
        bus.publish(event)
    for _ in range(200):
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_bus_is_followed(scene: Any) -> None:
    scene.identity()
    scene.unit.facts.names["", "spiffe://remit.local/job"] = "id_1"
    changed = {"spiffe_id": "spiffe://remit.local/job", "path": "/opt/job", "before": "aa", "now": "bb"}
    asyncio.run(follow(scene, bus_event(scene, "trust.binary.changed", **changed)))
    assert scene.unit.identities.get("id_1").state is State.QUARANTINED


def test_a_database_that_is_away_for_a_moment_loses_no_event(scene: Any) -> None:
    scene.identity()
    scene.unit.facts.names["", "spiffe://remit.local/job"] = "id_1"
    real, failures = scene.store.read, [Unavailable("storage.database.failed", "away")]

    async def flaky(query: Any) -> Any:
        if failures and "_inspect" in query.__code__.co_names:
            raise failures.pop()
        return await real(query)

    scene.store.read = flaky
    changed = {"spiffe_id": "spiffe://remit.local/job", "path": "/opt/job", "before": "aa", "now": "bb"}
    asyncio.run(follow(scene, bus_event(scene, "trust.binary.changed", **changed)))
    assert not failures
    assert scene.unit.identities.get("id_1").state is State.QUARANTINED


def test_a_proof_that_comes_late_ends_the_clock(scene: Any) -> None:
    scene.identity()
    lease = scene.lease()
    scene.containment.unprovable.add(lease.id)
    [detection] = observe(scene, rogue(scene))
    scene.clock.advance(timedelta(seconds=10))
    scene.containment.held["id_1"] = []
    asyncio.run(follow(scene, bus_event(scene, "access.lease.revoked", identity="id_1")))
    assert scene.unit.defense.incident(detection.incident).time_to_contain == timedelta(seconds=12)


def test_a_response_that_is_under_way_is_let_go_before_the_watch_has_ended(scene: Any) -> None:
    begun, responses = asyncio.Event(), []

    async def carry_out(response: str) -> None:
        responses.append(asyncio.current_task())
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(100):  # a connection is being closed
                await asyncio.sleep(0)

    async def run() -> None:
        scene.identity()
        scene.lease()
        scene.responder.carry_out = carry_out
        watching = asyncio.create_task(scene.watch.run(LocalBus()))
        await asyncio.sleep(0)
        await scene.watch.observe([rogue(scene)])
        await begun.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert all(one.done() for one in responses)

    asyncio.run(run())
