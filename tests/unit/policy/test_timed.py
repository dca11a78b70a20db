"""Which policies hang on the moment."""

from __future__ import annotations

import pytest

from remit.access.policy.source import read_policies
from remit.access.policy.timed import looks_at_time


def looks(clause: str) -> bool:
    (source,) = read_policies(f"permit(principal, action, resource) when {{ {clause} }};")
    return looks_at_time(source.est)


@pytest.mark.parametrize(
    "clause",
    [
        'context.time > datetime("2026-01-01")',
        'context has time && context.time < datetime("2026-01-01")',
        "context == context.claimed",
        "if context.attested then context has time else false",
        'principal.tier == 1 || [context.time].contains(datetime("2026-01-01"))',
        "{a: context}.a.attested",
    ],
)
def test_a_policy_that_reads_the_time_does(clause: str) -> None:
    assert looks(clause)


@pytest.mark.parametrize(
    "clause",
    [
        "context.attested && context.attestation_age < 60",
        'context.claimed has time && resource.name == "time"',
        "principal.time == 3",
        'context.claimed.purpose like "*context.time*"',
    ],
)
def test_a_policy_that_does_not_does_not(clause: str) -> None:
    assert not looks(clause)
