"""Responses: rehearsed, limited, done once, finished after a crash, undone by a person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from remit.defense.model import Dependant, IncidentStatus, ResponseState, VerifiedPerson
from remit.defense.responses import Limits
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, RemitError, Unavailable


class Alice(VerifiedPerson):
    name = "alice"

    def evidence(self) -> Mapping[str, Json]:
        return {"signature": "aa"}


def order(scene: Any, identity: str = "id_1", kind: str = "quarantine", **more: Any) -> Any:
    return asyncio.run(scene.responder.order(identity, kind, reason="odd", by="system:local-owner", **more))


def state(scene: Any, identity: str = "id_1") -> State:
    return scene.unit.identities.get(identity).state


def test_a_quarantine_denies_then_revokes(scene: Any) -> None:
    scene.identity()
    lease = scene.lease()
    done = order(scene)
    assert scene.containment.calls == ["quarantine", "revoke"]
    assert done.state is ResponseState.DONE
    assert [(e.kind, e.subject, e.result["proved"]) for e in done.effects] == [
        ("deny", "id_1", True),
        ("revoke", lease.id, True),
    ]


def test_the_intent_is_in_the_ledger_before_the_deed(scene: Any) -> None:
    scene.identity()
    seen: list[list[str]] = []
    before = scene.containment.quarantine

    async def spying(*args: Any, **named: Any) -> Any:
        seen.append(scene.unit.types())
        return await before(*args, **named)

    scene.containment.quarantine = spying
    order(scene)
    assert seen[0][-1] == "defense.response.intended"
    assert "defense.response.completed" in scene.unit.types()


def test_the_dry_run_takes_the_same_steps_and_changes_nothing(scene: Any) -> None:
    scene.identity()
    scene.lease()
    scene.dependencies.by_identity["id_1"] = (Dependant(id="id_2", title="billing", why="uses its database"),)
    plan = asyncio.run(scene.responder.plan("id_1"))
    assert (scene.containment.calls, scene.unit.entries, state(scene)) == ([], [], State.ACTIVE)
    done = order(scene)
    assert [(e.kind, e.subject) for e in plan.effects] == [(e.kind, e.subject) for e in done.effects]
    assert [d.title for d in plan.dependants] == ["billing"]


def test_twice_is_once(scene: Any) -> None:
    scene.identity()
    first, second = order(scene), order(scene)
    assert first.id == second.id
    assert scene.containment.calls == ["quarantine", "revoke"]


def test_a_containment_that_was_undone_behind_our_back_is_repeated(scene: Any) -> None:
    scene.identity()
    first = order(scene)
    scene.unit.identities.set_state("id_1", State.ACTIVE, expected=State.QUARANTINED)
    assert order(scene).id != first.id
    assert state(scene) is State.QUARANTINED


def test_the_times_of_an_incident(scene: Any) -> None:
    scene.identity()
    scene.lease()
    done = order(scene)
    incident = scene.unit.defense.incident(done.incident)
    assert incident.status is IncidentStatus.CONTAINED
    assert incident.time_to_contain == timedelta(0)
    assert [m.kind for m in scene.unit.defense.moments(incident.id)] == ["ordered", "intended", "contained"]


def test_what_is_unproved_is_contained_but_not_proved(scene: Any) -> None:
    scene.identity()
    lease = scene.lease()
    scene.containment.unprovable.add(lease.id)
    incident = scene.unit.defense.incident(order(scene).incident)
    assert incident.contained is not None
    assert incident.time_to_contain is None


def test_a_failed_attempt_stands_and_is_tried_again(scene: Any) -> None:
    scene.identity()
    scene.containment.broken = [Unavailable("x.y.z", "no")]
    with pytest.raises(Unavailable):
        order(scene)
    scene.clock.advance(timedelta(seconds=2))
    assert asyncio.run(scene.responder.resume()) == 1
    assert state(scene) is State.QUARANTINED


def test_the_same_failure_again_is_one_line(scene: Any) -> None:
    scene.identity()
    scene.containment.broken = [Unavailable("x.y.z", "no") for _ in range(4)]
    with pytest.raises(Unavailable):
        order(scene)
    for _ in range(3):
        scene.clock.advance(timedelta(minutes=6))
        asyncio.run(scene.responder.resume())
    assert scene.unit.types().count("defense.response.failed") == 1


def test_a_killed_process_finishes_at_its_next_start(scene: Any) -> None:
    scene.identity()
    scene.lease()

    class Killed(BaseException):
        pass

    async def dies(*_: Any, **__: Any) -> Any:
        raise Killed

    alive, scene.containment.revoke_leases = scene.containment.revoke_leases, dies
    with pytest.raises(Killed):
        order(scene)
    scene.containment.revoke_leases = alive
    scene.start()
    assert asyncio.run(scene.responder.resume()) == 0, "another node may still be at it"
    assert asyncio.run(scene.responder.resume(exclusive=True)) == 1
    assert scene.containment.held["id_1"] == []


def test_two_nodes_do_not_do_the_same(scene: Any) -> None:
    scene.identity()
    scene.containment.broken = [Unavailable("x.y.z", "no")]
    with pytest.raises(Unavailable):
        order(scene)
    scene.clock.advance(timedelta(seconds=2))
    scene.containment.calls.clear()

    async def both() -> None:
        await asyncio.gather(scene.responder.resume(), scene.responder.resume())

    asyncio.run(both())
    assert scene.containment.calls == ["quarantine", "revoke"]


def test_one_that_fails_hides_no_other(scene: Any) -> None:
    for identity in ("id_1", "id_2"):
        scene.identity(identity)
        scene.containment.broken = [Unavailable("x.y.z", "no")]
        with pytest.raises(Unavailable):
            order(scene, identity)
    scene.clock.advance(timedelta(seconds=2))
    scene.containment.broken = [ValueError("a bug")]
    assert asyncio.run(scene.responder.resume()) == 1


def test_a_person_releases(scene: Any) -> None:
    scene.identity()
    done = order(scene)
    asyncio.run(scene.responder.release("id_1", by=Alice(), reason="cleaned"))
    assert state(scene) is State.ACTIVE
    assert scene.containment.settled_for == ["id_1"]
    assert scene.unit.defense.response(done.id).state is ResponseState.UNDONE
    assert scene.unit.defense.incident(done.incident).status is IncidentStatus.CLOSED
    undone = next(e for e in scene.unit.entries if e.type == "defense.response.undone")
    assert (undone.actor, undone.data["approval"]) == ("person:alice", {"signature": "aa"})


def test_a_release_waits_for_the_attempt_that_is_under_way(scene: Any) -> None:
    scene.identity()
    scene.containment.broken = [Unavailable("x.y.z", "no")]
    with pytest.raises(Unavailable):
        order(scene)
    [pending] = scene.unit.defense.responses()
    scene.unit.defense.update_response(replace(pending, error="", next_try=scene.clock.now() + timedelta(seconds=30)))
    with pytest.raises(RemitError) as caught:
        asyncio.run(scene.responder.release("id_1", by=Alice(), reason="x"))
    assert caught.value.code == "defense.response.running"


def test_a_release_ends_an_attempt_that_waits(scene: Any) -> None:
    scene.identity()
    scene.containment.broken = [Unavailable("x.y.z", "no")]
    with pytest.raises(Unavailable):
        order(scene)
    asyncio.run(scene.responder.release("id_1", by=Alice(), reason="x"))
    scene.clock.advance(timedelta(hours=1))
    assert asyncio.run(scene.responder.resume()) == 0
    assert state(scene) is State.ACTIVE


@pytest.mark.parametrize("kind", ["revoke-leases", "ticket"])
def test_what_cannot_be_undone_says_so(scene: Any, kind: str) -> None:
    scene.identity()
    order(scene, kind=kind)
    with pytest.raises(RemitError) as caught:
        asyncio.run(scene.responder.release("id_1", by=Alice(), reason="x", kind=kind))
    assert caught.value.code == "defense.response.irreversible"


def test_revoking_leaves_the_identity_in_service(scene: Any) -> None:
    scene.identity()
    scene.lease()
    order(scene, kind="revoke-leases")
    assert (scene.containment.calls, state(scene)) == (["revoke"], State.ACTIVE)


def test_a_ticket_is_a_file_and_a_message(scene: Any) -> None:
    scene.identity()
    done = order(scene, kind="ticket")
    path = scene.tickets / f"{done.id}.json"
    assert json.loads(path.read_text()) == {"identity": "id_1", "reason": "odd"} == scene.poster.posted[done.id]
    assert (path.stat().st_mode & 0o777, scene.tickets.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [p.name for p in scene.tickets.iterdir()] == [path.name]


def test_a_silent_receiver_does_not_keep_the_file(scene: Any) -> None:
    scene.identity()
    scene.poster.broken = [Unavailable("webhook.unreachable", "no")]
    with pytest.raises(Unavailable):
        order(scene, kind="ticket")
    assert len(list(scene.tickets.iterdir())) == 1
    scene.clock.advance(timedelta(seconds=2))
    asyncio.run(scene.responder.resume())
    assert (len(scene.poster.posted), len(list(scene.tickets.iterdir()))) == (1, 1)


def test_a_folder_that_cannot_be_written_is_an_error_with_a_next_step(scene: Any) -> None:
    scene.identity()
    scene.tickets.write_text("a file where the folder should be")
    with pytest.raises(RemitError) as caught:
        order(scene, kind="ticket")
    assert caught.value.code == "defense.ticket.unwritten"
    assert caught.value.next_step


def test_never_is_never_without_a_signature(scene: Any) -> None:
    scene.limits = Limits(never=frozenset({"id_1"}))
    scene.start()
    scene.identity()
    with pytest.raises(Denied):
        order(scene)
    assert order(scene, override=Alice()).state is ResponseState.DONE
    intended = next(e for e in scene.unit.entries if e.type == "defense.response.intended")
    assert intended.data["override"] == {"signature": "aa"}


def test_a_share_of_an_environment_at_once_is_the_most(scene: Any) -> None:
    scene.limits = Limits(share_percent=10, floor=1)
    scene.start()
    for n in range(20):
        scene.identity(f"id_{n}")
    scene.identity("id_test", environment="test")
    order(scene, "id_0")
    order(scene, "id_test")
    with pytest.raises(Denied) as caught:
        order(scene, "id_1")
    assert caught.value.code == "defense.response.limited"
    asyncio.run(scene.responder.release("id_0", by=Alice(), reason="x"))
    assert order(scene, "id_1").state is ResponseState.DONE


def test_the_plan_says_what_the_limits_would_say(scene: Any) -> None:
    scene.limits = Limits(never=frozenset({"id_1"}))
    scene.start()
    scene.identity()
    assert "never contained" in asyncio.run(scene.responder.plan("id_1")).blocked


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_an_order_has_a_reason(scene: Any, reason: str) -> None:
    scene.identity()
    with pytest.raises(RemitError) as caught:
        asyncio.run(scene.responder.order("id_1", "quarantine", reason=reason, by="system:local-owner"))
    assert caught.value.code == "defense.reason.missing"


def test_an_unknown_identity(scene: Any) -> None:
    with pytest.raises(RemitError) as caught:
        order(scene, "id_404")
    assert caught.value.code == "defense.identity.unknown"
