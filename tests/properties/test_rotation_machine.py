"""Rotation, killed at any effect and resumed by a fresh engine: it ends, and never without a login that works."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.access.rotation.model import FINAL, Phase, Run
from remit.access.rotation.testing import OLD, Fate, Killed
from remit.kernel.errors import Conflict
from rotation_stage import House, house

kills = st.lists(
    st.tuples(st.booleans(), st.integers(1, 9), st.frozensets(st.integers(1, 9), max_size=3)), max_size=4
)  # fmt: skip


async def finished(made: House, run: Run, fates: list[tuple[bool, int, frozenset[int]]]) -> Run:
    """Drive it; each fate kills one process, and the next takes over."""
    for before, number, away in [*fates, (False, 0, frozenset())]:
        made.fated(Fate(kill_before=number if before else 0, kill_after=0 if before else number, away=away))
        for _ in range(5):  # the world may be away for long: the house tries again
            try:
                run = await made.engine().drive(run.id)
            except Killed:
                break
            assert_somebody_gets_in(made)
            if run.phase in FINAL:
                return run
    return run


def assert_somebody_gets_in(made: House) -> None:
    """INVARIANT: what a consumer holds is admitted, unless it is the broken place itself."""
    assert all(each in made.admitted() for each in made.read() if each[1] != "something else")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fates=kills, breaks=st.sampled_from(["nothing", "place", "health", "session"]))
def test_killed_anywhere_it_ends_done_or_as_it_was(
    fates: list[tuple[bool, int, frozenset[int]]], breaks: str
) -> None:  # fmt: skip
    async def play(folder: Path) -> None:
        async with house(folder) as made:
            made.places.places[1].broken = breaks == "place"
            made.places.is_healthy = breaks != "health"
            made.places.target.sessions = {"app": 1} if breaks == "session" else {}
            await made.define(health=["/bin/true"] if breaks == "health" else [], deadline_seconds=0)
            run = await made.engine().begin("app", actor="person:ann", reason="property")
            run = await finished(made, run, fates)
            old = ("app", OLD.secret)
            assert run.phase in FINAL, run
            if run.phase is Phase.DONE:
                assert breaks == "nothing"
                assert old not in made.admitted() and len(made.read()) == 1 and made.read() == made.admitted()
                assert (await made.plans.get("app")).principal == "app_b"
            else:
                assert made.read() == made.admitted() == {old}
                assert (await made.plans.get("app")).principal == "app"

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("before", [True, False])
def test_every_kill_point_of_a_good_rotation_ends_done(tmp_path: Path, number: int, before: bool) -> None:
    async def play() -> None:
        async with house(tmp_path) as made:
            await made.define()
            run = await made.engine().begin("app", actor="person:ann", reason="sweep")
            run = await finished(made, run, [(before, number, frozenset())])
            assert run.phase is Phase.DONE and ("app", OLD.secret) not in made.admitted()

    asyncio.run(play())


def test_a_driver_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    async def play() -> None:
        async with house(tmp_path) as made:
            await made.define()
            run = await made.engine().begin("app", actor="person:ann", reason="race")
            first, second = made.engine(), made.engine()
            done = await asyncio.gather(first.drive(run.id), second.drive(run.id), return_exceptions=True)
            raced = [one for one in done if isinstance(one, Conflict)]
            assert len(raced) <= 1 and (await second.drive(run.id)).phase is Phase.DONE
            assert made.read() == made.admitted()

    asyncio.run(play())
