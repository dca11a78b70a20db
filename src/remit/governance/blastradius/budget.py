"""How much an identity of a tier may reach. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from remit.inventory.model import FindingFact, Place, Severity

RULE: Final = "graph.budget-exceeded"
UNASSESSED: Final = 1
"""The tier of an identity that nobody assessed."""
_LOUD: Final = 3
"""A score of so many times the budget is a finding of high severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The highest score by tier; 0 is no limit."""

    by_tier: tuple[int, ...]

    def of(self, tier: int | None) -> int:
        """The budget of one tier."""
        number = UNASSESSED if tier is None else tier
        return self.by_tier[number] if 0 <= number < len(self.by_tier) else 0

    def exceeded(self, tier: int | None, score: int) -> bool:
        """Whether a score is more than the tier may have."""
        budget = self.of(tier)
        return bool(budget) and score > budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """An identity that reaches more than its tier may."""

    identity: str
    name: str
    """Its public name."""
    title: str
    tier: int | None
    score: int
    budget: int

    @property
    def severity(self) -> Severity:
        return Severity.HIGH if self.score > _LOUD * self.budget else Severity.MEDIUM


def finding(excess: Excess, cut: Sequence[str], towards: str) -> FindingFact:
    """The finding, with the cheapest cut (in the target's own words) as the next step."""
    tier = f"tier {excess.tier}" if excess.tier is not None else f"tier {UNASSESSED}, for nobody assessed it"
    first = "; ".join(f"`{each[:300]}`" for each in cut[:3])
    more = f", and {len(cut) - 3} more" if len(cut) > 3 else ""
    return FindingFact(
        rule=RULE,
        severity=excess.severity,
        title=f"{excess.title} reaches more than its tier may",
        detail=f"its score is over the budget of {tier}: {excess.budget}",
        next_step=f"cut it off from what is {towards}: {first}{more}" if first
        else f"see what to cut with `remit blast {excess.identity}`",
        place=Place(system="remit", path=excess.name),
        subject=excess.name,  # type: ignore[arg-type]
    )  # fmt: skip
