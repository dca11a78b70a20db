"""Every token is in the ledger, durably, before it leaves the process; what proofs it cost is spent in that commit.

Commits are grouped: what is issued while one write runs goes into the next. What was refused is in the ledger too, in
entries of bounded number and size, so that a flood of refusals cannot fill it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.errors import RemitError, Unavailable
from remit.kernel.unit import Store
from remit.trust.model import Issued
from remit.trust.tokens.model import Spend
from remit.trust.tokens.ports import TokenUnit
from remit.trust.tokens.replay import replayed

MAX_PENDING: Final = 10_000
MAX_BATCH: Final = 500
MAX_TOLD: Final = 64
"""Refusals that one entry tells of; the others are counted by their code."""
TOLD_WITHIN: Final = timedelta(seconds=1)
TOLD_EVERY: Final = timedelta(minutes=1)
"""A refusal is told at once; those of the minute after it are told together."""
_log = logging.getLogger("remit.tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What one request commits: proofs that it spends and, where it issued, what the ledger says of that."""

    spends: tuple[Spend, ...] = ()
    issued: Issued | None = None
    type: str = ""
    actor: str = ""
    subject: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class _Waiting:
    deed: Deed
    done: asyncio.Future[None]


class Journal:
    """Writes deeds in groups."""

    def __init__(self, store: Store[TokenUnit]) -> None:
        self._store = store
        self._pending: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def commit(self, deed: Deed) -> None:
        """Return when it is durable. Raises what the store raises; then nothing may be handed out.

        `Rejected` (`trust.token.replayed`) when a proof was spent before, on whatever node; then nothing of the deed is
        recorded. `Unavailable` (`trust.token.flooded`) when too many wait already.
        """
        if len(self._pending) >= MAX_PENDING:
            raise Unavailable(
                "trust.token.flooded", "too many tokens are being issued", retry_after=timedelta(seconds=1)
            )
        waiting = _Waiting(deed, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._drain())
        # The writer is a task of its own: a caller that goes away leaves the others' group as it is.
        await waiting.done

    async def close(self) -> None:
        """Wait until everything that was accepted is written."""
        if self._writer is not None:
            await self._writer

    async def _drain(self) -> None:
        while self._pending:
            group = [self._pending.popleft() for _ in range(min(len(self._pending), MAX_BATCH))]
            try:
                kept = await self._store.write(lambda unit, group=group: _record(unit, [one.deed for one in group]))  # type: ignore[misc]
            except Exception as error:  # supervisor: whatever it is, it is each waiting caller's answer
                for one in group:
                    _fail(one.done, error)
            else:
                for one, is_kept in zip(group, kept, strict=True):
                    if not is_kept:
                        _fail(one.done, replayed())
                    elif not one.done.cancelled():
                        one.done.set_result(None)


def _record(unit: TokenUnit, deeds: Sequence[Deed]) -> list[bool]:
    """Write those whose proofs are unspent; tells of each whether it was."""
    kept: list[bool] = []
    issued: list[Issued] = []
    for deed in deeds:
        fresh = not [one for one in deed.spends if not unit.tokens.spend(one)]
        kept.append(fresh)
        if fresh and deed.type:
            unit.record(deed.type, actor=deed.actor, subject=deed.subject, data=deed.data)
        if fresh and deed.issued is not None:
            issued.append(deed.issued)
    if issued:
        unit.trust.note_issued(issued)
    return kept


def _fail(done: asyncio.Future[None], error: Exception) -> None:
    if not done.cancelled():
        done.set_exception(error)
        done.exception()  # whoever waited may be gone


class Refusals:
    """Gathers what was refused, and tells the ledger of it: the first at once, a flood as one entry a minute."""

    def __init__(self, store: Store[TokenUnit]) -> None:
        self._store = store
        self._told: list[Json] = []
        self._more: Counter[str] = Counter()

    def note(self, error: RemitError, *, at: str, client: str) -> None:
        """Remember one. `at` is the endpoint; `client` is who proved itself, or empty."""
        if len(self._told) < MAX_TOLD:
            self._told.append({"code": error.code, "endpoint": at, "client": client, "why": error.message[:300]})
        else:
            self._more[error.code] += 1

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await asyncio.sleep(TOLD_WITHIN.total_seconds())
            if not self._told or loop.time() < due:
                continue
            due = loop.time() + TOLD_EVERY.total_seconds()
            try:
                await self.flush()
            except RemitError as error:
                _log.warning("refusals of tokens are not in the ledger yet: %s", error)

    async def flush(self) -> None:
        """Write what was noted, if anything."""
        if not self._told:
            return
        told, more = self._told, self._more
        data: dict[str, Json] = {"refused": told, "more": dict(more)}
        self._told, self._more = [], Counter()
        try:
            await self._store.write(
                lambda unit: unit.record("trust.token.refused", actor="system:trust", subject="tokens", data=data)
            )
        except BaseException:
            self._told = [*told, *self._told][:MAX_TOLD]
            self._more += more
            raise
