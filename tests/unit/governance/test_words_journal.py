"""What people said of identities, by the journal: a row makes a tier stricter, and two that become one shed none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.governance.reach import highest
from remit.governance.tiers import Requirements, is_lesser, requirements_of, tier_of_source, unsaid
from remit.inventory.model import IdentityKind, Sensitivity, State
from remit.inventory.records import IdentityRecord
from remit.wiring.words_journal import WordJournal

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def record(**more: Any) -> IdentityRecord:
    return IdentityRecord(
        id="id_a", name="urn:remit:x:y:z:a", kind=IdentityKind.SERVICE_ACCOUNT, title="a", system="x", instance="y",
        state=State.ACTIVE, first_seen=NOON, last_seen=NOON, **more,
    )  # fmt: skip


def said(tier: int | None, proposal: str | None = None) -> dict[str, Any]:
    return {"tier": tier, "by": "person:ana", "at": "2026-11-23T12:00:00Z", "reason": "", "proposal": proposal}


def journal(**tiers: int) -> WordJournal:
    made = WordJournal()
    for identity, tier in tiers.items():
        made.note_tier(identity, said(tier))
    return made


@pytest.mark.parametrize(("word", "row", "counts"), [(2, 2, 2), (2, None, 2), (2, 3, 2), (2, 0, 0), (0, 3, 0)])
def test_a_row_makes_a_tier_that_was_said_stricter_and_nothing_else(word: int, row: int | None, counts: int) -> None:
    assert journal(id_a=word).lay(record(tier=row)).tier == counts


@pytest.mark.parametrize(("row", "source", "privileged", "known"), [
    (None, None, False, None), (3, None, False, 1), (3, None, True, 0), (0, None, False, 0),
    (None, 3, False, 1), (None, 0, False, 0),
])  # fmt: skip
def test_where_nobody_said_one_rows_and_sources_loosen_nothing(
    row: int | None, source: int | None, privileged: bool, known: int | None
) -> None:
    attributes = {} if source is None else {"tier": source}
    assert WordJournal().lay(record(tier=row, privileged=privileged, attributes=attributes)).tier == known


def test_a_word_taken_back_leaves_it_to_the_sources() -> None:
    made = journal(id_a=3)
    made.note_tier("id_a", said(None))
    assert made.lay(record()).tier is None


@pytest.mark.parametrize(("older", "younger", "left"), [
    (3, 0, 0), (0, 3, 0), (3, 2, 2), (3, None, 1), (None, 3, 1), (None, 0, 0), (None, None, None),
])  # fmt: skip
def test_of_two_that_are_one_the_stricter_tier_counts_and_a_lax_one_was_said_of_both(
    older: int | None, younger: int | None, left: int | None
) -> None:
    made = journal(**{name: tier for name, tier in (("id_a", older), ("id_b", younger)) if tier is not None})
    made.merge("id_b", "id_a")
    assert (made.number("id_a"), made.number("id_b")) == (left, None)


@pytest.mark.parametrize("spoken", ["id_a", "id_b"])
def test_who_was_privileged_and_unsaid_loses_nothing_by_being_joined_with_another(spoken: str) -> None:
    made = journal(**{spoken: 3})
    made.merge("id_b", "id_a")
    assert made.lay(record(privileged=True, tier=1)).tier == 0
    made.note_tier("id_a", said(2))
    assert made.lay(record(privileged=True)).tier == 2


def test_a_tier_that_was_said_of_both_counts_for_the_privileged_too() -> None:
    made = journal(id_a=2, id_b=3)
    made.merge("id_b", "id_a")
    assert made.lay(record(privileged=True)).tier == 2


@pytest.mark.parametrize(("whole", "part"), [(0, 0), (1, 1), (2, None), (3, None)])
def test_a_strict_tier_is_not_shed_by_a_split_and_a_lax_one_is_not_inherited(whole: int, part: int | None) -> None:
    made = journal(id_a=whole)
    made.split("id_b", "id_a")
    assert (made.number("id_a"), made.number("id_b")) == (whole, part)


def test_what_a_person_said_is_laid_over_the_row_and_a_row_that_differs_is_told() -> None:
    made = WordJournal()
    made.note_words(
        "id_a", {"words": {"environment": "lab"}, "by": "person:ana", "at": "2026-11-23T12:00:00Z", "reason": ""}
    )
    row = record(environment="production")
    assert made.lay(row).environment == "lab"
    assert made.loosened(row)
    made.note_words("id_a", {"words": ["environment"], "by": "person:ana", "at": "2026-11-23T12:00:00Z", "reason": ""})
    assert made.lay(row).environment == "production"
    assert not made.loosened(row)


def test_a_proposal_that_was_put_in_force_is_spent() -> None:
    made = WordJournal()
    made.note_tier("id_a", said(3, "tp_1"))
    assert made.is_spent("tp_1")
    assert not made.is_spent("tp_2")


@pytest.mark.parametrize(("minutes", "past"), [(-1, True), (1, False)])
def test_what_was_asked_before_a_tier_was_said_is_past(minutes: int, past: bool) -> None:
    assert journal(id_a=0).is_past("id_a", NOON + timedelta(minutes=minutes)) is past


@pytest.mark.parametrize("value", [-1, 4, "4", "", True, None, 1.0, "one", []])
def test_what_is_no_tier_is_none_of_a_source(value: object) -> None:
    assert tier_of_source(value) is None


def test_who_is_privileged_counts_as_tier_0_and_others_as_1_until_somebody_says_so() -> None:
    assert [unsaid(privileged=each, source=None) for each in (True, False)] == [0, 1]
    assert requirements_of(None) == requirements_of(unsaid(privileged=False, source=None))
    assert isinstance(requirements_of(3), Requirements)


def test_what_only_a_source_calls_public_counts_as_internal() -> None:
    assert highest({"public": 3}) is Sensitivity.INTERNAL
    assert highest({"public": 3, "restricted": 1}) is Sensitivity.RESTRICTED
    assert highest({"unknown": 3}) is None


def test_an_environment_without_a_name_is_none_for_tests() -> None:
    assert [is_lesser(each) for each in (None, "", "prod", "Test")] == [False, False, False, True]
