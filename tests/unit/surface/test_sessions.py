"""Sign-in codes and console sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remit.kernel.clock import ManualClock
from remit.surface.sessions import CODE_LIFE, SESSION_LIFE, Sessions

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def sessions(clock: ManualClock) -> Sessions:
    return Sessions(clock)


def test_a_code_becomes_a_session_once(sessions: Sessions) -> None:
    code = sessions.mint_code(1000)
    token, session = sessions.exchange(code) or ("", None)
    assert sessions.check(token) == session
    assert session is not None and session.uid == 1000
    assert sessions.exchange(code) is None


@pytest.mark.parametrize(("late", "good"), [(timedelta(microseconds=-1), True), (timedelta(0), False)])
def test_a_code_lasts_sixty_seconds(sessions: Sessions, clock: ManualClock, late: timedelta, good: bool) -> None:
    code = sessions.mint_code(0)
    clock.advance(CODE_LIFE + late)
    assert (sessions.exchange(code) is not None) is good


@pytest.mark.parametrize(("late", "good"), [(timedelta(microseconds=-1), True), (timedelta(0), False)])
def test_a_session_ends_by_itself(sessions: Sessions, clock: ManualClock, late: timedelta, good: bool) -> None:
    token, _ = sessions.exchange(sessions.mint_code(0)) or ("", None)
    clock.advance(SESSION_LIFE + late)
    assert (sessions.check(token) is not None) is good


def test_signing_out_ends_it(sessions: Sessions) -> None:
    token, _ = sessions.exchange(sessions.mint_code(0)) or ("", None)
    sessions.end(token)
    assert sessions.check(token) is None


@pytest.mark.parametrize("wrong", ["", "x", "0" * 43, "\x00", "é"])
def test_what_was_never_given_out_opens_nothing(sessions: Sessions, wrong: str) -> None:
    sessions.mint_code(0)
    assert sessions.exchange(wrong) is None
    assert sessions.check(wrong) is None


def test_neither_codes_nor_cookies_are_kept_in_clear(sessions: Sessions) -> None:
    code = sessions.mint_code(0)
    token, session = sessions.exchange(code) or ("", None)
    kept = repr(sessions._codes) + repr(sessions._sessions) + repr(session)
    assert code not in kept and token not in kept


def test_asking_for_ever_more_codes_takes_no_more_memory(sessions: Sessions) -> None:
    first = sessions.mint_code(0)
    codes = [sessions.mint_code(0) for _ in range(1500)]
    assert len(sessions._codes) <= 1000
    assert sessions.exchange(first) is None
    assert sessions.exchange(codes[-1]) is not None
