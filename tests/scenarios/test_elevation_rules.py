"""Elevation on a control plane: who must approve, emergencies, what is elevated all the time."""

from __future__ import annotations

import http.server
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from elevation_stage import NEED, Stage, play
from remit.access.grants import lease_request
from remit.access.model import Grant, GrantKind, GrantState
from remit.access.policy import lifecycle
from remit.access.policy.check import check
from remit.access.policy.obligations import ISSUERS
from remit.inventory.model import State
from remit.kernel.errors import Conflict, Denied, Misconfigured, Rejected
from remit.providers.notify import read_channels
from remit.surface.api.routes.grants import take_approval


async def state_of(stage: Stage, grant: Grant) -> GrantState:
    return (await stage.control.grants.get(grant.id)).grant.state


def test_two_of_three_must_approve_before_it_holds() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask()
        assert (await stage.approve(grant, "ben")).state is GrantState.REQUESTED
        assert not (await stage.decide(grant)).allowed
        with pytest.raises(Conflict, match="already"):
            await stage.approve(grant, "ben")
        assert (await stage.approve(grant, "cho")).state is GrantState.APPROVED
        assert (await stage.decide(grant)).allowed

    play(scene, owed="approval: 2 of [ana ben cho]")


def test_who_is_not_asked_for_cannot_approve() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask()
        with pytest.raises(Denied, match="none of those"):
            await stage.approve(grant, "ben")
        assert (await stage.approve(grant, "cho")).state is GrantState.APPROVED

    play(scene, owed="approval: person/cho")


def test_the_owner_alone_is_not_enough_for_tier_0() -> None:
    async def scene(stage: Stage) -> None:
        await stage.own("ben")
        grant = await stage.ask()
        assert (await stage.approve(grant, "ben")).state is GrantState.REQUESTED
        assert (await stage.approve(grant, "cho")).state is GrantState.APPROVED

    play(scene, owed="approval: owner", privileged=True)


def test_the_owner_is_enough_below_tier_0() -> None:
    async def scene(stage: Stage) -> None:
        await stage.own("ben")
        assert (await stage.approve(await stage.ask(), "ben")).state is GrantState.APPROVED

    play(scene, owed="approval: owner")


def test_policy_approves_by_itself_where_it_says_so() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask()
        assert grant.state is GrantState.APPROVED
        assert (await stage.decide(grant)).allowed
        definition = await stage.control.tasks.get("fix")
        assert definition is not None
        assert await stage.control.grants.usable(definition, (NEED,), stage.control.clock.now()) is not None

    play(scene, owed="approval: automatic")


def test_a_machine_asks_and_a_person_answers() -> None:
    async def scene(stage: Stage) -> None:
        grant = await stage.ask(by=stage.identity)
        assert (await stage.approve(grant, "ben")).state is GrantState.APPROVED

    play(scene)


def test_nobody_approves_outside_the_hours_of_the_policy() -> None:
    async def scene(stage: Stage) -> None:
        now = stage.control.clock.now()
        start, end = (f"{(now.hour + hours) % 24:02}:00" for hours in (2, 3))
        await stage.policies(f"approval: anyone within {start}-{end}")
        with pytest.raises(Denied, match="nobody approve this now"):
            await stage.approve(await stage.ask())

    play(scene)


def test_a_task_may_have_so_many_requests_waiting_and_no_more() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(20):
            await stage.ask()
        with pytest.raises(Conflict, match="wait already"):
            await stage.ask()

    play(scene)


def test_a_request_that_nobody_answers_lapses() -> None:
    async def scene(stage: Stage) -> None:
        definition = await stage.control.tasks.get("fix")
        assert definition is not None
        grant = await stage.control.grants.request(
            definition, (NEED,), life=None, pending=timedelta(seconds=1), reason="x", actor="person:ana"
        )
        await stage.tamper(expires=stage.control.clock.now() - timedelta(seconds=1))
        with pytest.raises(Conflict, match="does not wait"):
            await stage.approve(grant)
        await stage.control.grant_keeper.look()
        assert await state_of(stage, grant) is GrantState.EXPIRED

    play(scene)


def test_constant_elevation_is_reported_with_a_policy_that_checks() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(3):
            await stage.ask()
        (found,) = await stage.control.grant_keeper.constant()
        assert (found.task, found.count) == ("fix", 3)
        assert not check(found.proposal)

    play(scene, owed="approval: automatic", weekly=2)


def test_the_proposed_policy_gives_what_was_asked_for() -> None:
    async def scene(stage: Stage) -> None:
        for _ in range(3):
            await stage.ask()
        (found,) = await stage.control.grant_keeper.constant()

        def work(unit: Any) -> None:
            staged = lifecycle.stage(unit, found.proposal, by="person:ana")
            lifecycle.activate(unit, staged.id, by="person:ben", attester=stage.control.keys)

        await stage.control.store.write(work)
        await stage.control.synchronise()
        definition = await stage.control.tasks.get("fix")
        assert definition is not None
        asked = lease_request(definition, NEED, {"attested": True, "attested_at": 0, "task": "fix"})
        answer = await stage.control.decisions.decide(asked, fulfils=ISSUERS)
        assert answer.allowed
        assert [reason.id for reason in answer.reasons] == ["fix-1"]

    play(scene, owed="approval: automatic", weekly=2)


# Emergencies, on real HTTP channels.


@contextmanager
def channels(number: int, *, failing: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A file of channels by apprise's `json://`, with a server that takes them, but for the last `failing`."""
    heard: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if "bad" in self.path else 200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "channels"
        kinds = ["good"] * (number - failing) + ["bad"] * failing
        place = f"127.0.0.1:{server.server_address[1]}"
        path.write_text("".join(f"c{at} json://user:hidden@{place}/{kind}\n" for at, kind in enumerate(kinds)))
        path.chmod(0o600)
        try:
            yield str(path), heard
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


async def break_glass(stage: Stage, by: str = "ana") -> Any:
    grant = await stage.ask(by=by, kind=GrantKind.BREAK_GLASS)
    body = json.dumps({"digest": grant.digest}).encode()
    person = await stage.sign(by, f"/api/v1/grants/{grant.id}/approve", body)
    return await take_approval(stage.control, grant.id, grant.digest, person, body)


def test_an_emergency_takes_one_signature_and_two_channels_hear_of_it() -> None:
    pytest.importorskip("apprise")

    async def scene(stage: Stage) -> None:
        answer = await break_glass(stage)
        assert answer["state"] == "approved"
        assert [("BREAK-GLASS" in each["title"], answer["link"] in each["message"]) for each in heard] == [
            (True, True)
        ] * 2
        grant = (await stage.control.grants.get(answer["id"])).grant
        assert (await stage.decide(grant)).allowed  # although two others would have to approve

    with channels(2) as (file, heard):
        play(scene, owed="approval: person/ben and person/cho", channels_file=file)


@pytest.mark.parametrize(("number", "failing"), [(0, 0), (1, 0), (2, 1)])
def test_the_glass_is_not_broken_unheard(number: int, failing: int) -> None:
    pytest.importorskip("apprise")

    async def scene(stage: Stage) -> None:
        with pytest.raises(Denied, match="unheard") as refused:
            await break_glass(stage)
        assert "hidden" not in refused.value.message
        (stored,) = await stage.control.grants.list(asked=True)
        assert stored.grant.state is GrantState.DENIED

    with channels(number, failing=failing) as (file, _):
        play(scene, channels_file=file)


def test_an_emergency_has_a_hard_cap() -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(Rejected, match="between 1 s and 1 h"):
            await stage.ask(kind=GrantKind.BREAK_GLASS, life=3601)

    play(scene)


def test_an_emergency_that_nobody_reviews_suspends_its_identity() -> None:
    pytest.importorskip("apprise")

    async def scene(stage: Stage) -> None:
        answer = await break_glass(stage)
        assert not await stage.control.grant_keeper.look_at_emergencies()  # it still lasts
        await stage.control.grants.withdraw(answer["id"], actor="person:ana", reason="done")
        assert await stage.control.grant_keeper.look_at_emergencies() == (stage.identity,)
        assert stage.control.grants.settled(await stage.control.grants.get(answer["id"]))
        record = await stage.control.store.read(lambda unit: unit.inventory.identities([stage.identity]))
        assert record[stage.identity].state is State.SUSPENDED

    with channels(2) as (file, _):
        play(scene, channels_file=file, review_days=0)


def test_a_review_by_another_person_keeps_it_in_service() -> None:
    pytest.importorskip("apprise")

    async def scene(stage: Stage) -> None:
        answer = await break_glass(stage)
        grants = stage.control.grants
        with pytest.raises(Conflict, match="not over"):
            await grants.review(answer["id"], by="person:ben", finding="needed")
        await grants.withdraw(answer["id"], actor="person:ana", reason="done")
        with pytest.raises(Denied, match="other than"):
            await grants.review(answer["id"], by="person:ana", finding="needed")
        stored = await grants.review(answer["id"], by="person:ben", finding="it was needed")
        assert not await stage.control.grant_keeper.look_at_emergencies()
        forged = replace(stored, review={**stored.review, "finding": "another"})
        assert not grants.reviewed(forged)

    with channels(2) as (file, _):
        play(scene, channels_file=file, review_days=0)


def test_a_channel_s_address_is_in_no_repr_and_no_file_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "channels"
    path.write_text("# ours\nchat json://user:hidden@127.0.0.1:1/x\n")
    path.chmod(0o644)
    with pytest.raises(Misconfigured, match="others"):
        read_channels(path)
    path.chmod(0o600)
    assert "hidden" not in repr(read_channels(path))
    path.write_text("chat json://user:hidden@h/x\nchat json://user:hidden@h/y\n")
    with pytest.raises(Misconfigured) as refused:
        read_channels(path)
    assert "hidden" not in refused.value.message
