"""Plans, the engine's answers, and the schedule of rotation, on a real store with the fakes of the contract."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from remit.access.rotation.model import STEPS, Login, Mode, Phase, next_login
from remit.access.rotation.template import fill, read_back, require_template
from remit.access.rotation.testing import NEW, OLD, FakeConsumer, RotatorContract
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected
from remit.storage.schema.rotation import access_rotation, access_rotation_run
from remit.wiring.rotation import Rotations
from remit.wiring.settings import RotationSettings
from rotation_stage import START, House, house


def at_home(folder: Path, play: Callable[[House], Awaitable[None]], **how: Any) -> None:
    async def run() -> None:
        async with house(folder, **how) as made:
            await play(made)

    asyncio.run(run())


async def rotated(made: House) -> Any:
    run = await made.engine().begin("app", actor="person:ann", reason="test")
    return await made.engine().drive(run.id)


def test_logins_alternate() -> None:
    assert [next_login(each, Mode.TWO_LOGINS) for each in ("app", "app_b", "app_a")] == ["app_b", "app_a", "app_b"]
    assert next_login("app", Mode.TWO_SECRETS) == "app"


def test_nothing_leads_back_from_a_revocation() -> None:
    assert STEPS[Phase.REVOKING] == {Phase.DONE, Phase.STUCK} and not STEPS[Phase.DONE] | STEPS[Phase.ROLLED_BACK]


@pytest.mark.parametrize("text", ["{secret}", "{user}:{secret}", "postgres://{user_url}:{secret_url}@{host}:{port}/x"])
def test_what_is_filled_is_read_back(text: str) -> None:
    login = dataclasses.replace(NEW, secret="p/w:28%+c")
    assert read_back(require_template(text), fill(text, login))["secret"] == login.secret


def test_both_versions_and_what_lay_in_places_are_sealed_and_then_forgotten(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        run = await made.engine().begin("app", actor="person:ann", reason="test")
        secrets = [OLD.secret.encode()]
        assert not any(secret in path.read_bytes() for path in tmp_path.iterdir() for secret in secrets)
        done = await made.engine().drive(run.id)
        ((_, secret),) = made.admitted()
        assert not any(secret.encode() in path.read_bytes() for path in tmp_path.iterdir())
        _, sealed = await made.store.read(lambda unit: unit.rotations.run(done.id))
        assert sealed == b""

    at_home(tmp_path, play)


def test_every_phase_is_in_the_ledger_with_the_proof(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        await rotated(made)
        rows = await made.store.read(lambda unit: unit.ledger.latest(20, type_prefix="access.rotation."))
        types = [row.type.rpartition(".")[2] for row in rows][::-1]
        assert types == ["defined", "planned", "publishing", "switching", "verifying", "revoking", "done"]
        assert rows[0].data["proof"]["refusal"] == "refused"

    at_home(tmp_path, play)


def test_the_second_rotation_knows_the_secret_of_the_first(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        await rotated(made)
        made.places.places[0].held = None
        made.places.places[1].held = None
        assert (await rotated(made)).proof["refusal"] == "refused"
        assert (await made.plans.get("app")).version == 2

    at_home(tmp_path, play)


def test_what_cannot_be_tried_is_not_done_until_a_person_says_so(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        made.places.places[0].held = None
        await made.define()
        run = await rotated(made)
        assert run.phase is Phase.STUCK and "not proved" in run.trouble
        assert (await made.engine().drive(run.id)).phase is Phase.STUCK
        with pytest.raises(Conflict):
            await made.engine().drive(run.id, back="too late")
        done = await made.engine().drive(run.id, accept="person:ann")
        assert done.phase is Phase.DONE and done.proof["accepted_by"] == "person:ann" and "refusal" not in done.proof

    at_home(tmp_path, play, consumers=1)


def test_one_rotation_of_a_plan_at_a_time(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        await made.engine().begin("app", actor="person:ann", reason="first")
        with pytest.raises(Conflict) as caught:
            await made.engine().begin("app", actor="person:ann", reason="second")
        assert caught.value.code == "access.rotation.busy"
        with pytest.raises(Conflict):
            await made.plans.remove("app", actor="person:ann")

    at_home(tmp_path, play)


def test_a_login_of_somebody_else_is_in_the_way(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        made.places.target.logins["app_b"] = {"of somebody else"}
        await made.define()
        with pytest.raises(Conflict) as caught:
            await made.engine().begin("app", actor="person:ann", reason="test")
        assert caught.value.code == "access.rotation.obstacle" and made.places.target.logins["app_b"]

    at_home(tmp_path, play)


def test_by_hand_it_is_rolled_back_before_the_revocation(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        run = await made.engine().begin("app", actor="person:ann", reason="test")
        done = await made.engine().drive(run.id, back="changed my mind")
        assert done.phase is Phase.ROLLED_BACK and made.admitted() == made.read() == {("app", OLD.secret)}
        assert (await rotated(made)).phase is Phase.DONE

    at_home(tmp_path, play)


def test_use_that_was_seen_before_must_be_seen_after(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        made.places.target.sessions = {"app": 2}
        await made.define(deadline_seconds=0)
        run = await made.engine().begin("app", actor="person:ann", reason="test")
        made.places.target.sessions = {}
        done = await made.engine().drive(run.id)
        assert done.phase is Phase.ROLLED_BACK and "nobody is seen" in done.turning

    at_home(tmp_path, play)


def test_a_row_that_was_changed_outside_is_not_carried_out(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        run = await made.engine().begin("app", actor="person:ann", reason="test")
        plan = (await made.plans.get("app")).as_json() | {"principal": "postgres"}
        await made.store.write(lambda unit: unit.conn.execute(update(access_rotation).values(content=plan)))
        with pytest.raises(Misconfigured):
            await made.engine().drive(run.id)
        content = run.as_json() | {"phase": "revoking"}
        await made.store.write(lambda unit: unit.conn.execute(update(access_rotation_run).values(content=content)))
        with pytest.raises(Misconfigured):
            await made.engine().run(run.id)
        assert made.admitted() == {("app", OLD.secret)}

    at_home(tmp_path, play)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "ls"}, {"name": "A"}, {"mode": "in-place"}, {"consumers": []}, {"tier": 4}, {"tier": True},
        {"health": "rm -rf /"}, {"health": ["rm"]}, {"colour": 1}, {"observe": "no"}, {"principal": ""},
        {"deadline_seconds": 1e9}, {"consumers": [{"path": "/x"}]},
    ],
)  # fmt: skip
def test_a_plan_that_is_not_understood_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async def play(made: House) -> None:
        with pytest.raises(Rejected) as caught:
            await made.define(**change)
        assert caught.value.code == "access.rotation.malformed"

    at_home(tmp_path, play)


def test_it_is_due_by_its_tier_or_its_own_word(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define(tier=1)
        assert made.plans.due(await made.plans.get("app")) == START + timedelta(days=30)
        await made.define(name="own", max_age_days=3)
        assert made.plans.due(await made.plans.get("own")) == START + timedelta(days=3)

    at_home(tmp_path, play)


def rotations(made: House) -> Rotations:
    control: Any = SimpleNamespace(
        settings=SimpleNamespace(rotation=RotationSettings()), store=made.store, keys=made.keys, witness=made.keys,
        clock=made.clock, standing=SimpleNamespace(words=SimpleNamespace(number=lambda identity: None)),
    )  # fmt: skip
    return Rotations(control, made.places)


async def looked(made: House) -> None:
    """Let the loop look once, and what it began end."""
    running = rotations(made)
    loop = asyncio.create_task(running.run())
    for _ in range(300):
        await asyncio.sleep(0.01)
        if running.idle:
            break
    loop.cancel()
    await asyncio.wait({loop})


@pytest.mark.parametrize("automatic, days, version", [(True, 91, 1), (True, 89, 0), (False, 91, 0)])
def test_what_is_due_and_automatic_is_rotated_by_itself(
    tmp_path: Path, automatic: bool, days: int, version: int
) -> None:  # fmt: skip
    async def play(made: House) -> None:
        await made.define(automatic=automatic)
        made.clock.advance(timedelta(days=days))
        await looked(made)
        assert (await made.plans.get("app")).version == version

    at_home(tmp_path, play)


def test_what_was_left_is_resumed_by_the_next_start(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        await made.define()
        run = await made.engine().begin("app", actor="person:ann", reason="test")
        await looked(made)
        assert (await made.engine().run(run.id)).phase is Phase.DONE

    at_home(tmp_path, play)


def test_what_nobody_defined_is_not_found(tmp_path: Path) -> None:
    async def play(made: House) -> None:
        for ask in (made.plans.get("none"), made.engine().run("ro_none"), made.plans.remove("none", actor="x")):
            with pytest.raises(NotFound):
                await ask

    at_home(tmp_path, play)


class TestFake(RotatorContract):
    """The fake keeps the contract that real targets keep."""

    def stage(self) -> Any:
        return _fake_stage()


def _fake_stage() -> Any:
    from contextlib import asynccontextmanager

    from remit.access.rotation.testing import FakeTarget, Fate

    class Stage:
        mode = Mode.TWO_LOGINS
        old, new = OLD, NEW

        def __init__(self) -> None:
            self.rotator = FakeTarget(Fate(), {OLD.user: {OLD.secret}})

        async def admits(self, login: Any) -> bool:
            return (await self.rotator.attempt(login)).admitted

        async def hold(self, login: Any) -> object:
            self.rotator.sessions[login.user] = 1
            return login

        async def is_alive(self, session: Any) -> bool:
            return await self.admits(session)

    @asynccontextmanager
    async def stage() -> Any:
        yield Stage()

    return stage()


def test_a_plug_in_that_fails_as_nobody_expects_is_rolled_back_and_shows_nothing(tmp_path: Path) -> None:
    wrote: list[str] = []

    class Clumsy(FakeConsumer):
        async def publish(self, login: Login) -> None:
            wrote.append(login.secret)
            raise KeyError(login.secret)

    async def play(made: House) -> None:
        made.places.places = [made.places.places[0], Clumsy(made.fate, OLD)]
        await made.define()
        run = await rotated(made)
        assert run.phase is Phase.ROLLED_BACK and "KeyError" in run.turning
        assert made.admitted() == made.read() == {(OLD.user, OLD.secret)}
        assert len(wrote) == 1 and wrote[0] not in str(run.as_json())

    at_home(tmp_path, play)
