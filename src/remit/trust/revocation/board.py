"""Who is connected, and who has heard of which revocation.

Each connected party says which version it has applied. One that goes away without the newest stays on the board as *not
reached*: until it comes back and says so, or until everything that it holds has expired by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from remit.kernel.errors import Unavailable

MAX_PARTIES = 100_000
_NAMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """An agent, a stream, an enforcement point: `KIND:NAME`."""

    name: str
    version: int
    connected: bool
    until: datetime | None = None
    """When everything that it holds has expired; `None` for one that holds nothing of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far one version got: `acknowledged` of `of` parties."""

    acknowledged: int
    of: int
    waiting: tuple[str, ...]
    """Connected, and has not said so yet; the first twenty."""
    away: tuple[str, ...]
    """Not reached: it went away before; the first twenty."""

    @property
    def complete(self) -> bool:
        return self.acknowledged == self.of

    def __str__(self) -> str:
        text = f"acknowledged {self.acknowledged} of {self.of}"
        if self.waiting:
            text += f", waiting for {', '.join(self.waiting)}"
        if self.away:
            text += f", not reached: {', '.join(self.away)}"
        return text


class RevocationBoard:
    """Belongs to the event loop. `now` tells when a party that is away has nothing left."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.look: Callable[[], None] = lambda: None
        """Called before each count: lets whoever knows parties by itself bring the board up to date."""
        self._parties: dict[str, Party] = {}
        self._moved = asyncio.Event()

    def connected(self, party: str, *, version: int = 0, until: datetime | None = None) -> None:
        """A party is there; it has everything up to `version`, and holds what expires by `until`.

        Raises `Unavailable` (`trust.revocation.parties`) above 100,000 of them.
        """
        known = self._parties.get(party)
        if known is None and len(self._parties) >= MAX_PARTIES:
            self._sweep()
            if len(self._parties) >= MAX_PARTIES:
                raise Unavailable(
                    "trust.revocation.parties", "too many parties are connected", retry_after=timedelta(seconds=30)
                )
        version = max(version, known.version) if known is not None else version
        ends = [one for one in (until, known.until if known is not None else None) if one is not None]
        self._set(Party(name=party, version=version, connected=True, until=max(ends, default=None)))

    def acknowledge(self, party: str, version: int, *, until: datetime | None = None) -> None:
        """The party has applied everything up to `version`; one that was not announced is connected by this."""
        self.connected(party, version=version, until=until)

    def gone(self, party: str, *, until: datetime | None = None) -> None:
        """The party went away. It stays, as not reached, while something that it holds has not expired."""
        known = self._parties.get(party)
        if known is None:
            return
        known = replace(known, until=max((one for one in (until, known.until) if one is not None), default=None))
        if known.until is None or known.until <= self._now():
            del self._parties[party]
            self._notify()
        else:
            self._set(replace(known, connected=False))

    def expected(self, parties: Mapping[str, datetime]) -> None:
        """After a start: who may hold something until when, though it has not spoken to us yet."""
        for name, until in parties.items():
            if name not in self._parties:
                self._set(Party(name=name, version=0, connected=False, until=until))

    def connected_names(self) -> frozenset[str]:
        """Who is there now."""
        return frozenset(one.name for one in self._parties.values() if one.connected)

    def reached(self, version: int) -> Reached:
        """How far this version got, counted over everyone who is there or may still hold something."""
        self.look()
        self._sweep()
        behind = [one for one in self._parties.values() if one.version < version]
        return Reached(
            acknowledged=len(self._parties) - len(behind),
            of=len(self._parties),
            waiting=tuple(sorted(one.name for one in behind if one.connected)[:_NAMES]),
            away=tuple(sorted(one.name for one in behind if not one.connected)[:_NAMES]),
        )

    async def wait(self, version: int, most: timedelta) -> Reached:
        """Return when every party has `version`, or after `most`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + most.total_seconds()
        while not (found := self.reached(version)).complete and (left := deadline - loop.time()) > 0:
            moved = self._moved
            try:
                # Somebody who is away may simply run out: look again now and then.
                await asyncio.wait_for(moved.wait(), min(left, 1.0))
            except TimeoutError:
                continue
        return found

    def parties(self) -> tuple[Party, ...]:
        """Everyone on the board, by name."""
        self.look()
        self._sweep()
        return tuple(sorted(self._parties.values(), key=lambda one: one.name))

    def _set(self, party: Party) -> None:
        if self._parties.get(party.name) != party:
            self._parties[party.name] = party
            self._notify()

    def _sweep(self) -> None:
        now = self._now()
        for name in [
            one.name for one in self._parties.values() if not one.connected and (one.until is None or one.until <= now)
        ]:
            del self._parties[name]

    def _notify(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
