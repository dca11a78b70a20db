"""Risk tiers: what is required of an identity follows from what it could do. Pure.

Tier 0 is the most dangerous. What is not known counts as worse: an unknown environment as production, unknown
sensitivity as internal, and an identity that nobody assessed is held to tier 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from remit.inventory.model import Sensitivity

_UNASSESSED: Final = 1
_LESSER: Final = frozenset({"dev", "develop", "development", "test", "testing", "qa", "sandbox", "local", "ci", "demo"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TierFacts:
    """What the tier rests on. `None` is: not known."""

    privileged: bool
    """Administers a system, grants rights, or can become somebody who does."""
    sensitivity: Sensitivity | None
    """The highest that it reaches."""
    environment: str | None
    environment_confirmed: bool = False
    """A label that only its source claims cannot lower the tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A tier, and the sentences that led to it."""

    number: int
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a tier asks of every identity in it."""

    owner: bool
    attestation_age: timedelta
    """How old the proof of what it is may be when it asks for access."""
    max_ttl: timedelta
    """The longest that one grant may last."""
    approvals: int
    """Persons who must approve a grant."""
    leaver_grace: timedelta
    """How long it may run on when its owner has left, before it is suspended."""
    review_every: timedelta


REQUIREMENTS: Final[tuple[Requirements, ...]] = (
    Requirements(
        owner=True,
        attestation_age=timedelta(minutes=5),
        max_ttl=timedelta(minutes=15),
        approvals=1,
        leaver_grace=timedelta(0),
        review_every=timedelta(days=30),
    ),
    Requirements(
        owner=True,
        attestation_age=timedelta(minutes=15),
        max_ttl=timedelta(hours=1),
        approvals=1,
        leaver_grace=timedelta(days=1),
        review_every=timedelta(days=90),
    ),
    Requirements(
        owner=True,
        attestation_age=timedelta(hours=1),
        max_ttl=timedelta(hours=8),
        approvals=0,
        leaver_grace=timedelta(days=7),
        review_every=timedelta(days=180),
    ),
    Requirements(
        owner=True,
        attestation_age=timedelta(hours=24),
        max_ttl=timedelta(hours=24),
        approvals=0,
        leaver_grace=timedelta(days=30),
        review_every=timedelta(days=365),
    ),
)
"""By tier number."""


def assess(facts: TierFacts) -> Tier:
    """Give the tier of an identity, with the reasons. Adding a worse fact never gives a safer tier."""
    production, where = _production(facts)
    sensitivity = facts.sensitivity or Sensitivity.INTERNAL
    reach = f"reaches {sensitivity.value} resources" + ("" if facts.sensitivity else " (assumed: nothing is known)")
    grave = sensitivity in (Sensitivity.CONFIDENTIAL, Sensitivity.RESTRICTED)
    if facts.privileged:
        why = ("is privileged", where, reach)
        return Tier(number=0 if production or grave else 1, why=why)
    if sensitivity is Sensitivity.RESTRICTED or (grave and production):
        return Tier(number=1, why=(reach, where))
    if grave or (production and sensitivity is not Sensitivity.PUBLIC):
        return Tier(number=2, why=(reach, where))
    return Tier(number=3, why=(reach, where))


def requirements_of(tier: int | None) -> Requirements:
    """What is asked of an identity in `tier`; of one without a tier, what tier 1 asks."""
    number = _UNASSESSED if tier is None else tier
    return REQUIREMENTS[min(max(number, 0), len(REQUIREMENTS) - 1)]


def _production(facts: TierFacts) -> tuple[bool, str]:
    if not facts.environment:
        return True, "runs in an unknown environment, taken as production"
    if facts.environment.lower() not in _LESSER:
        return True, f"runs in `{facts.environment}`"
    if not facts.environment_confirmed:
        return True, f"claims to run in `{facts.environment}`, which nobody confirmed"
    return False, f"runs in `{facts.environment}`"
