"""The life of an authority: which steps are legal, and when the schedule asks for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from remit.kernel.errors import Conflict, NotFound
from remit.trust import AuthorityKind, AuthorityState
from remit.trust.authority import lifecycle
from remit.trust.authority.lifecycle import Step
from remit.trust.testing import NOON, example_authority

ACTIVE = replace(example_authority(1), created=NOON)
PREPARED = example_authority(2, state=AuthorityState.PREPARED)
OLD = example_authority(3, state=AuthorityState.OLD)
DAY = timedelta(days=1)


def due(*authorities: object, after: timedelta) -> Step | None:
    return lifecycle.due(authorities, AuthorityKind.JWT, NOON + after)  # type: ignore[arg-type]


def test_activating_makes_the_one_before_old() -> None:
    changed = {one.id: one.state for one in lifecycle.activate([ACTIVE, PREPARED], PREPARED.id, NOON)}
    assert changed == {ACTIVE.id: AuthorityState.OLD, PREPARED.id: AuthorityState.ACTIVE}


def test_activating_leaves_the_other_kind_alone() -> None:
    other = replace(ACTIVE, kind=AuthorityKind.X509)
    assert [one.id for one in lifecycle.activate([other, PREPARED], PREPARED.id, NOON)] == [PREPARED.id]


@pytest.mark.parametrize("authority", [ACTIVE, OLD])
def test_only_a_prepared_one_is_activated(authority: object) -> None:
    with pytest.raises(Conflict):
        lifecycle.activate([ACTIVE, OLD], authority.id, NOON)  # type: ignore[attr-defined]


def test_the_one_that_signs_is_neither_tainted_nor_revoked() -> None:
    with pytest.raises(Conflict):
        lifecycle.taint([ACTIVE], ACTIVE.id)
    with pytest.raises(Conflict):
        lifecycle.revoke([ACTIVE], ACTIVE.id, NOON)


def test_a_tainted_one_is_still_published_and_a_revoked_one_is_not() -> None:
    assert lifecycle.is_published(lifecycle.taint([OLD], OLD.id))
    assert not lifecycle.is_published(lifecycle.revoke([OLD], OLD.id, NOON))


def test_a_prepared_one_has_signed_nothing_to_taint() -> None:
    with pytest.raises(Conflict):
        lifecycle.taint([PREPARED], PREPARED.id)


def test_an_unknown_one_is_not_found() -> None:
    with pytest.raises(NotFound):
        lifecycle.revoke([ACTIVE], "au_none", NOON)


def test_without_any_the_schedule_prepares_then_activates() -> None:
    assert due(after=timedelta(0)) is Step.PREPARE
    assert due(PREPARED, after=timedelta(0)) is Step.ACTIVATE


def test_a_successor_is_prepared_at_half_life() -> None:
    assert due(ACTIVE, after=DAY / 2 - timedelta(seconds=1)) is None
    assert due(ACTIVE, after=DAY / 2) is Step.PREPARE


def test_a_successor_signs_from_five_sixths() -> None:
    assert due(ACTIVE, PREPARED, after=DAY * 0.8) is None
    assert due(ACTIVE, PREPARED, after=DAY * 0.84) is Step.ACTIVATE


def test_what_signs_no_more_and_has_expired_is_retired() -> None:
    retired = lifecycle.outlived([ACTIVE, OLD], NOON + DAY)
    assert [(one.id, one.state) for one in retired] == [(OLD.id, AuthorityState.REVOKED)]
