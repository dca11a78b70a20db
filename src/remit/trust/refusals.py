"""Refused proofs in the ledger, counted: the first at once, a flood as one entry a minute for each sort.

A sort is an attestor and an error code: both come from a closed set, so that nobody fills memory or ledger with them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock, rfc3339
from remit.kernel.errors import RemitError, Unavailable
from remit.kernel.unit import Store, Unit

EVENT: Final = "trust.proof.refused"
EVERY: Final = timedelta(minutes=1)
MAX_SORTS: Final = 512
MAX_SOURCES: Final = 8
MAX_DETAIL: Final = 300
_log = logging.getLogger("remit.trust")


@dataclass(slots=True, kw_only=True)
class _Sort:
    told: float
    """When the ledger last heard of it, on the monotonic clock."""
    count: int = 0
    first: datetime | None = None
    detail: str = ""
    sources: list[str] = field(default_factory=list)


class RefusalLog:
    """Tells the ledger of refused proofs, within bounds."""

    def __init__(self, store: Store[Unit], *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._sorts: OrderedDict[tuple[str, str], _Sort] = OrderedDict()

    async def __call__(self, attestor: str, code: str, detail: str, source: str) -> None:
        """Count a refusal; it is in the ledger when this returns, or within a minute when there were others."""
        key = (attestor, code)
        sort = self._sorts.get(key)
        if sort is None:
            if len(self._sorts) >= MAX_SORTS:
                key, sort = ("", "trust.proof.various"), self._sorts.get(("", "trust.proof.various"))
            sort = sort or _Sort(told=float("-inf"))
            self._sorts[key] = sort
        sort.count += 1
        sort.first = sort.first or self._clock.now()
        sort.detail = detail[:MAX_DETAIL]
        if source not in sort.sources and len(sort.sources) < MAX_SOURCES:
            sort.sources.append(source[:100])
        if self._clock.monotonic() - sort.told >= EVERY.total_seconds():
            await self._tell([key])

    async def tend(self) -> None:
        """Tell what was counted since; the composition root calls it each minute, and once more at the end."""
        await self._tell([key for key, sort in self._sorts.items() if sort.count])
        now = self._clock.monotonic()
        for key in [key for key, sort in self._sorts.items() if not sort.count and now - sort.told > 600]:
            del self._sorts[key]

    async def _tell(self, keys: list[tuple[str, str]]) -> None:
        """One write for all; while the store is away they are counted on."""
        taken: dict[tuple[str, str], Mapping[str, Json]] = {}
        for key in keys:
            sort = self._sorts[key]
            taken[key] = {
                "attestor": key[0],
                "code": key[1],
                "count": sort.count,
                "first": rfc3339(sort.first or self._clock.now()),
                "detail": sort.detail,
                "sources": list(sort.sources),
            }
            sort.told, sort.count, sort.first, sort.sources = self._clock.monotonic(), 0, None, []

        def work(unit: Unit) -> None:
            for (attestor, _), data in taken.items():
                unit.record(EVENT, actor="system:trust", subject=f"attestor:{attestor or 'none'}", data=data)

        if not taken:
            return
        try:
            await self._store.write(work)
        except RemitError as error:
            _log.warning("refused proofs cannot be recorded now: %s", error)
            for key, data in taken.items():
                count = data["count"]
                self._sorts[key].count += count if isinstance(count, int) else 0


class SourceLimit:
    """A bucket of presentations for each source: `burst` at once, then `per_minute`."""

    def __init__(self, clock: Clock, *, per_minute: int = 60, burst: int = 20, sources: int = 10_000) -> None:
        self._clock = clock
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._sources = sources
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __call__(self, source: str) -> None:
        """Take one; `Unavailable` (`trust.proof.busy`) when the bucket is empty."""
        now = self._clock.monotonic()
        left, at = self._buckets.pop(source, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._rate)
        taken = left >= 1
        self._buckets[source] = (left - 1 if taken else left, now)
        if len(self._buckets) > self._sources:
            self._buckets.popitem(last=False)
        if not taken:
            raise Unavailable(
                "trust.proof.busy",
                "no proof is taken just now: this source has presented too many",
                retry_after=timedelta(seconds=(1 - left) / self._rate),
            )
