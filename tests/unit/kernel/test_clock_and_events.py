"""Times as text, the manual clock, and the local bus."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.kernel.clock import ManualClock, parse_rfc3339, rfc3339
from remit.kernel.events import Event, LocalBus

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


def _event(number: int) -> Event:
    return Event(id=f"ev_{number}", type="test.thing.done", time=NOON, actor="system:test", subject="x")


@given(moments, moments)
def test_times_as_text_come_back_exactly_and_sort_as_times(one: datetime, other: datetime) -> None:
    assert parse_rfc3339(rfc3339(one)) == one
    assert (rfc3339(one) < rfc3339(other)) == (one < other)


def test_every_offset_is_written_as_utc() -> None:
    there = datetime(2026, 11, 22, 14, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(there) == "2026-11-22T12:00:00.000000Z"


def test_a_time_without_an_offset_is_no_time() -> None:
    with pytest.raises(ValueError, match="offset"):
        parse_rfc3339("2026-11-22T12:00:00")


def test_a_manual_clock_moves_only_when_told_to() -> None:
    clock = ManualClock(NOON)
    assert clock.now() == clock.now()
    before = clock.monotonic()
    clock.advance(timedelta(seconds=3))
    assert (clock.now() - NOON, clock.monotonic() - before) == (timedelta(seconds=3), 3.0)


def test_a_slow_subscriber_loses_its_oldest_events_and_the_bus_says_so() -> None:
    async def scene() -> None:
        bus = LocalBus(depth=3)
        async with bus.subscribe() as slow, bus.subscribe() as other:
            for number in range(5):
                bus.publish(_event(number))
                other.get_nowait()
            assert [slow.get_nowait().id for _ in range(3)] == ["ev_2", "ev_3", "ev_4"]
            assert bus.dropped == 2
        bus.publish(_event(9))
        assert slow.empty() and other.empty()

    asyncio.run(scene())
