"""Proofs that were shown: each counts once, on every node, across restarts.

A proof is known by a digest, and forgotten an hour after it has expired: by then it is refused for its age, on any
clock that is not further behind. When no more can be remembered, none is accepted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from remit.kernel.clock import Clock
from remit.kernel.errors import Rejected, Unavailable
from remit.kernel.unit import Store, Unit
from remit.trust.model import Evidence

KEPT_AFTER_EXPIRY: Final = timedelta(hours=1)
KEPT_WITHOUT_EXPIRY: Final = timedelta(hours=24)
_LONGEST: Final = timedelta(days=3660)
_PRUNED_AT_ONCE: Final = 10_000


class SpentRows(Protocol):
    """The rows of spent proofs in one unit of work."""

    def spend(self, digest: str, *, attestor: str, until: datetime, now: datetime) -> bool:
        """Remember a proof; tells whether it was new."""
        ...

    def held(self) -> int:
        """How many are remembered."""
        ...

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        """Delete at most `limit` that need not be remembered after this moment; returns how many."""
        ...


class SpentUnit(Unit, Protocol):
    """A unit of work with the rows of spent proofs."""

    @property
    def proofs(self) -> SpentRows: ...


def spend(unit: SpentUnit, evidence: Sequence[Evidence]) -> int:
    """Spend the proofs that these pieces of evidence name; returns how many there were.

    Whoever issues something for a proof may do it in the same unit of work. Raises `Rejected` (`trust.proof.replayed`)
    when one was spent before: then none of them is.
    """
    number = 0
    for one in evidence:
        proof = one.facts.get("proof")
        if proof is None:
            continue
        digest = hashlib.sha256(f"{one.attestor}\0{proof}".encode()).hexdigest()
        if not unit.proofs.spend(digest, attestor=one.attestor, until=_until(one, unit.now), now=unit.now):
            raise Rejected(
                "trust.proof.replayed",
                "the proof was presented before",
                next_step="get a new one for each presentation",
            )
        number += 1
    return number


class SpentProofs:
    """Spends proofs in a store, within a bound."""

    def __init__(self, store: Store[SpentUnit], *, clock: Clock, capacity: int) -> None:
        self._store = store
        self._clock = clock
        self._capacity = capacity
        self._held: int | None = None
        """At most so many are remembered, as far as this node knows; `None` before it has counted."""

    async def spend(self, evidence: Sequence[Evidence]) -> None:
        """Spend durably. `Rejected` (`trust.proof.replayed`), `Unavailable` (`trust.proof.full`)."""
        if not any("proof" in one.facts for one in evidence):
            return
        if self._held is None or self._held + len(evidence) > self._capacity:
            await self.forget()
        if self._held is None or self._held + len(evidence) > self._capacity:
            raise Unavailable(
                "trust.proof.full",
                "no more proofs can be remembered, so that none is accepted",
                next_step="wait until older ones have expired",
                retry_after=timedelta(minutes=1),
            )
        spent = await self._store.write(lambda unit: spend(unit, evidence))
        self._held += spent

    async def forget(self) -> None:
        """Forget those whose time is over, and count the rest again: other nodes spend as well."""

        def work(unit: SpentUnit) -> int:
            unit.proofs.forget(unit.now, limit=_PRUNED_AT_ONCE)
            return unit.proofs.held()

        self._held = await self._store.write(work)


def _until(evidence: Evidence, now: datetime) -> datetime:
    """Until when a proof must be remembered."""
    expires = evidence.facts.get("proof_expires")
    if not isinstance(expires, int):
        return now + KEPT_WITHOUT_EXPIRY
    return min(datetime.fromtimestamp(expires, UTC), now + _LONGEST) + KEPT_AFTER_EXPIRY
