"""Who has heard of a revocation: nobody is counted who did not say so, and nobody is forgotten who may hold something."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from remit.kernel.clock import ManualClock
from remit.trust.revocation import RevocationBoard
from remit.trust.testing import NOON

HOUR = timedelta(hours=1)


def board() -> tuple[RevocationBoard, ManualClock]:
    clock = ManualClock(NOON)
    return RevocationBoard(clock.now), clock


def test_who_is_connected_is_waited_for_until_it_acknowledges() -> None:
    one, _ = board()
    one.connected("ag_1")
    one.connected("stream:2", version=7)
    assert str(one.reached(7)) == "acknowledged 1 of 2, waiting for ag_1"
    one.acknowledge("ag_1", 7)
    assert one.reached(7).complete


def test_an_older_acknowledgement_takes_nothing_back() -> None:
    one, _ = board()
    one.acknowledge("ag_1", 7)
    one.acknowledge("ag_1", 3)
    assert one.reached(7).complete


def test_who_goes_away_is_not_reached_until_what_it_holds_has_expired() -> None:
    one, clock = board()
    one.connected("ag_1", until=NOON + HOUR)
    one.gone("ag_1")
    assert str(one.reached(1)) == "acknowledged 0 of 1, not reached: ag_1"
    clock.advance(HOUR)
    assert one.reached(1).of == 0


def test_who_comes_back_is_reached_when_it_says_so() -> None:
    one, _ = board()
    one.connected("ag_1", until=NOON + HOUR)
    one.gone("ag_1")
    one.connected("ag_1")
    assert not one.reached(1).complete
    one.acknowledge("ag_1", 1)
    assert one.reached(1).complete


def test_a_stream_that_holds_nothing_of_its_own_leaves_no_trace() -> None:
    one, _ = board()
    one.connected("stream:1")
    one.gone("stream:1")
    assert one.reached(1).of == 0


def test_after_a_start_whoever_may_hold_something_is_expected() -> None:
    one, clock = board()
    one.expected({"ag_1": NOON + HOUR})
    assert one.reached(1).away == ("ag_1",)
    clock.advance(HOUR)
    assert one.reached(1).complete


def test_waiting_ends_with_the_last_acknowledgement() -> None:
    async def steps() -> None:
        one, _ = board()
        one.connected("ag_1")
        one.connected("ag_2")
        waiting = asyncio.create_task(one.wait(1, timedelta(seconds=30)))
        for name in ("ag_1", "ag_2"):
            await asyncio.sleep(0)
            assert not waiting.done()
            one.acknowledge(name, 1)
        assert (await waiting).complete

    asyncio.run(steps())


def test_waiting_ends_with_its_time_and_says_who_is_missing() -> None:
    one, _ = board()
    one.connected("ag_1")
    found = asyncio.run(one.wait(1, timedelta(milliseconds=20)))
    assert (found.complete, found.waiting) == (False, ("ag_1",))


def test_many_who_wait_do_not_keep_each_other_awake() -> None:
    async def steps() -> int:
        one, _ = board()
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            one.connected("ag_1")

        one.look = look
        await asyncio.gather(*(one.wait(1, timedelta(milliseconds=50)) for _ in range(5)))
        return looks

    assert asyncio.run(steps()) < 50
