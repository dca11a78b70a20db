"""Obligations of a permit: which are already met by what was proven.

| obligation | met when |
|---|---|
| `fresh-attestation[: SECONDS]` | the subject is attested, and that is at most SECONDS old (60 without a number) |
| `step-up[: SECONDS]` | a second proof (`step_up_at`) is at most SECONDS old (300 without a number) |
| `approval` | the request names a grant, and a person approved its very digest |
| any other | never by itself: an enforcement point that is registered for the kind must do it |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from remit.access.model import Obligation
from remit.access.policy.compile import CompiledPolicy
from remit.access.policy.facts import CLOCK_SKEW_SECONDS
from remit.kernel.canonical import Json

_FRESH_SECONDS = 60
_STEP_UP_SECONDS = 300


def unmet(
    permits: Iterable[CompiledPolicy], context: Mapping[str, Json], *, approved: bool, now_seconds: int
) -> tuple[Obligation, ...]:
    """Obligations of *all* satisfied permits: a broad permit without any never takes away those of a careful one.

    `approved` says that the request names a grant, checked, whose very digest a person approved.
    """
    left: dict[Obligation, None] = {}
    for policy in permits:
        for obligation in policy.obligations:
            if not is_met(obligation, context, approved=approved, now_seconds=now_seconds):
                left[obligation] = None
    return tuple(left)


def is_met(obligation: Obligation, context: Mapping[str, Json], *, approved: bool, now_seconds: int) -> bool:
    """Tell whether proven facts already meet `obligation`."""
    if obligation.kind == "fresh-attestation":
        limit = _seconds(obligation.detail, _FRESH_SECONDS)
        age = context.get("attestation_age")
        return context["attested"] is True and isinstance(age, int) and limit is not None and 0 <= age <= limit
    if obligation.kind == "step-up":
        limit = _seconds(obligation.detail, _STEP_UP_SECONDS)
        at = context.get("step_up_at")
        return isinstance(at, int) and limit is not None and -CLOCK_SKEW_SECONDS <= now_seconds - at <= limit
    if obligation.kind == "approval":
        return approved
    return False


def _seconds(detail: str, default: int) -> int | None:
    """The limit that a policy states; None, which nothing meets, where it is no number."""
    if not detail:
        return default
    return int(detail) if detail.isascii() and detail.isdigit() and len(detail) <= 9 else None
