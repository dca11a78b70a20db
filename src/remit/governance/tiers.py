"""Risk tiers: what is required of an identity follows from what it could do. Pure.

Tier 0 is the most dangerous. What is not known counts as worse: an unknown environment as production, unknown
sensitivity as internal, and an identity that nobody assessed is held to tier 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from remit.inventory.model import Sensitivity

LEAST_STRICT: Final = 3
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
    administers: bool = False
    """It was seen to hold an administrator's rights outside of any grant."""
    becomes_privileged: str = ""
    """Somebody privileged whom it can become, by any way, conditional ones too."""
    becomes_tier: int | None = None
    """The strictest tier that a person said of anybody whom it can become."""
    crosses: bool = False
    """From an environment of lesser weight it reaches into one that is not."""
    acts_alone: bool = False
    """An AI agent of which no person said that somebody operates it."""
    exposed: bool = False
    """A secret of it lies where others can read it."""
    said_by_source: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A tier, and the sentences that led to it: those that decided first."""

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
    """Give the tier that reach and kind demand, with the reasons. Adding a worse fact never gives a safer tier.

    1  who is privileged, or can become somebody who is: 0; where it is proven to be far from production and reaches
       nothing confidential, 1
    2  who reaches restricted resources, or confidential ones in production: 1
    3  who reaches confidential resources, or works in production: 2; the rest: 3
    4  nobody is safer than whom it can become, nor than its source says
    5  an AI agent that acts alone: 2 at the most; 1 where it reaches confidential resources
    6  with a secret that others can read: one tier stricter
    """
    production, where = _production(facts)
    sensitivity = facts.sensitivity or Sensitivity.INTERNAL
    reach = f"reaches {sensitivity.value} resources" + ("" if facts.sensitivity else " (assumed: nothing is known)")
    grave = sensitivity in (Sensitivity.CONFIDENTIAL, Sensitivity.RESTRICTED)
    found = _by_reach(facts, production=production, grave=grave, where=where, reach=reach)
    if facts.becomes_tier is not None:
        found = _at_most(found, facts.becomes_tier, f"can become an identity of tier {facts.becomes_tier}")
    if facts.acts_alone:
        found = _at_most(found, 1 if grave else 2, "is an AI agent that acts alone")
    if facts.exposed and found.number:
        found = _at_most(found, found.number - 1, "a secret of it lies where others can read it: one tier stricter")
    if facts.said_by_source is not None:
        found = _at_most(found, max(0, facts.said_by_source), f"its source says tier {facts.said_by_source}")
    return found


def tier_of_source(value: object) -> int | None:
    """The tier that a source says, `0` to `3` as a number or a digit; `None` for anything else."""
    if isinstance(value, str) and value in ("0", "1", "2", "3"):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LEAST_STRICT else None


def is_lesser(environment: str | None) -> bool:
    """Whether an environment of this name is one for tests and development."""
    return bool(environment) and str(environment).lower() in _LESSER


def unsaid(*, privileged: bool, source: int | None) -> int:
    """The tier that counts where no person said one: a source can only make it stricter."""
    strictest = 0 if privileged else _UNASSESSED
    return strictest if source is None else min(strictest, source)


def requirements_of(tier: int | None) -> Requirements:
    """What is asked of an identity in `tier`; of one without a tier, what tier 1 asks."""
    number = _UNASSESSED if tier is None else tier
    return REQUIREMENTS[min(max(number, 0), len(REQUIREMENTS) - 1)]


def _by_reach(facts: TierFacts, *, production: bool, grave: bool, where: str, reach: str) -> Tier:
    if facts.privileged or facts.administers or facts.becomes_privileged:
        first = "is privileged" if facts.privileged else "administers all the time, outside of any grant"
        if not (facts.privileged or facts.administers):
            first = f"can become {facts.becomes_privileged[:200]}, who is privileged"
        return Tier(number=0 if production or grave else 1, why=(first, where, reach))
    if facts.sensitivity is Sensitivity.RESTRICTED or (grave and production):
        return Tier(number=1, why=(reach, where))
    if grave or (production and facts.sensitivity is not Sensitivity.PUBLIC):
        return Tier(number=2, why=(reach, where))
    return Tier(number=3, why=(reach, where))


def _at_most(found: Tier, number: int, why: str) -> Tier:
    return Tier(number=number, why=(why, *found.why)) if number < found.number else found


def _production(facts: TierFacts) -> tuple[bool, str]:
    if not facts.environment:
        return True, "runs in an unknown environment, taken as production"
    if facts.environment.lower() not in _LESSER:
        return True, f"runs in `{facts.environment}`"
    if not facts.environment_confirmed:
        return True, f"claims to run in `{facts.environment}`, which nobody confirmed"
    if facts.crosses:
        return True, f"runs in `{facts.environment}`, and reaches into another that is none for tests"
    return False, f"runs in `{facts.environment}`"
