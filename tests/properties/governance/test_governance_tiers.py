"""A worse fact never gives a safer tier."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from remit.governance.tiers import REQUIREMENTS, TierFacts, assess, requirements_of
from remit.inventory.model import Sensitivity

SENSITIVITIES = list(Sensitivity)
facts = st.builds(
    TierFacts,
    privileged=st.booleans(),
    sensitivity=st.none() | st.sampled_from(SENSITIVITIES),
    environment=st.none() | st.sampled_from(["production", "staging", "dev", "TEST", "prod-eu", ""]),
    environment_confirmed=st.booleans(),
)


@given(facts)
def test_a_tier_is_one_of_four_and_says_why(one: TierFacts) -> None:
    tier = assess(one)
    assert 0 <= tier.number <= 3
    assert tier.why


@given(facts)
def test_privilege_never_makes_it_safer(one: TierFacts) -> None:
    assert assess(replace(one, privileged=True)).number <= assess(one).number


@given(facts, st.sampled_from(SENSITIVITIES), st.sampled_from(SENSITIVITIES))
def test_reaching_more_never_makes_it_safer(one: TierFacts, a: Sensitivity, b: Sensitivity) -> None:
    low, high = sorted((a, b), key=SENSITIVITIES.index)
    assert assess(replace(one, sensitivity=high)).number <= assess(replace(one, sensitivity=low)).number


@given(facts)
def test_a_label_that_nobody_confirmed_never_makes_it_safer(one: TierFacts) -> None:
    unconfirmed = replace(one, environment_confirmed=False)
    assert assess(unconfirmed).number <= assess(one).number
    assert assess(unconfirmed).number == assess(replace(one, environment="production")).number


def test_a_graver_tier_asks_for_no_less() -> None:
    for graver, lesser in pairwise(REQUIREMENTS):
        assert graver.attestation_age <= lesser.attestation_age
        assert graver.max_ttl <= lesser.max_ttl
        assert graver.leaver_grace <= lesser.leaver_grace
        assert graver.approvals >= lesser.approvals


def test_who_was_never_assessed_is_held_to_tier_1() -> None:
    assert requirements_of(None) == REQUIREMENTS[1]
