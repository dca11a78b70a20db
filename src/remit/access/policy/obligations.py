"""Obligations of a permit: which are already met by what was proven.

| obligation | met when |
|---|---|
| `fresh-attestation[: SECONDS]` | the subject is attested, and that is at most SECONDS old (60 without a number) |
| `step-up[: SECONDS]` | a second proof (`step_up_at`) is at most SECONDS old (300 without a number) |
| `approval` | the request names a grant, and a person approved its very digest |
| `approval: WHO` | the same, and those people approved it (`access.policy.approvals`); `automatic`: policy did |
| `lifetime: SECONDS` | never by itself: the token service and the leases of tasks end what they issue by then |
| any other | never by itself: an enforcement point that is registered for the kind must do it |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from remit.access.model import Obligation
from remit.access.policy.compile import CompiledPolicy
from remit.access.policy.facts import CLOCK_SKEW_SECONDS
from remit.kernel.canonical import Json

BUILT_IN = frozenset({"fresh-attestation", "step-up", "approval"})
"""Kinds that proven facts can meet."""
LIFETIME = "lifetime"
"""What is issued lives that many seconds at most: done by whoever issues (tokens, leases)."""
ISSUERS = frozenset({LIFETIME})
"""What issuers of this installation fulfil."""
ANY = ("*",)
"""A grant whose approvals fill whatever a permit asks for."""
_FRESH_SECONDS = 60
_STEP_UP_SECONDS = 300


def unmet(
    permits: Iterable[CompiledPolicy],
    context: Mapping[str, Json],
    *,
    approved: bool,
    now_seconds: int,
    answered: tuple[str, ...] = ANY,
) -> tuple[Obligation, ...]:
    """Obligations of *all* satisfied permits: a broad permit without any never takes away those of a careful one.

    `approved` says that the request names a grant, checked, whose very digest a person approved; `answered` are the
    requirements (`approval: WHO`) that its approvals fill.
    """
    left: dict[Obligation, None] = {}
    for policy in permits:
        for obligation in policy.obligations:
            if not is_met(obligation, context, approved=approved, answered=answered, now_seconds=now_seconds):
                left[obligation] = None
    return tuple(left)


def is_met(
    obligation: Obligation,
    context: Mapping[str, Json],
    *,
    approved: bool,
    now_seconds: int,
    answered: tuple[str, ...] = ANY,
) -> bool:
    """Tell whether proven facts already meet `obligation`."""
    limit = limit_of(obligation)
    if obligation.kind == "fresh-attestation":
        age = context.get("attestation_age")
        return context["attested"] is True and isinstance(age, int) and limit is not None and 0 <= age <= limit
    if obligation.kind == "step-up":
        at = context.get("step_up_at")
        return isinstance(at, int) and limit is not None and -CLOCK_SKEW_SECONDS <= now_seconds - at <= limit
    if obligation.kind == "approval":
        filled = approved and (not obligation.detail or answered == ANY)
        return filled or bool(obligation.detail and obligation.detail in answered)
    return False


def lifetime_of(obligations: Iterable[Obligation]) -> int | None:
    """The shortest life in seconds that permits ask for (`lifetime: SECONDS`); None where none does.

    One that states no number lets nothing live: 0.
    """
    asked = [each.detail for each in obligations if each.kind == LIFETIME]
    return min((_seconds(detail, 0) or 0 for detail in asked), default=None)


def limit_of(obligation: Obligation) -> int | None:
    """Within how many seconds the proof must lie; None, which nothing meets, where the policy states no number."""
    return _seconds(obligation.detail, _STEP_UP_SECONDS if obligation.kind == "step-up" else _FRESH_SECONDS)


def _seconds(detail: str, default: int) -> int | None:
    """The limit that a policy states; None, which nothing meets, where it is no number."""
    if not detail:
        return default
    return int(detail) if detail.isascii() and detail.isdigit() and len(detail) <= 9 else None
