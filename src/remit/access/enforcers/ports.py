"""What enforcement points need: their rows, and an engine that decides for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from remit.access.enforcers.model import Asker, Enforcer
from remit.access.model import Decision, Request
from remit.access.snapshot import Snapshot
from remit.kernel.unit import Unit


class DecisionEngine(Protocol):
    """Decides over a snapshot, for whoever a listener has authenticated.

    The control plane's own, and a local PDP that is fed by the snapshot stream, are two of them: every listener and
    gateway is written against this port alone.
    """

    @property
    def snapshot(self) -> Snapshot:
        """What it knows now: for searches, and for what a resource is called."""
        ...

    async def decide(self, request: Request, asker: Asker) -> Decision:
        """Decide one request, durably: an allow is on disk before it is returned.

        Raises `Denied` (`access.enforcer.foreign`, `.bounds`) when `asker` may not ask this; `Unavailable` when the
        answer cannot be recorded, or too much waits already (`access.decisions.busy`): which is never an allow.
        """
        ...

    def would_allow(self, request: Request, asker: Asker) -> bool:
        """The same answer, neither recorded nor durable: to filter lists by. Raises `Denied` as `decide`."""
        ...


Told = Callable[[bytes | BaseException], None]
"""Gets the answer as the wire has it, or why there is none; called once, on the event loop."""


class HotEngine(DecisionEngine, Protocol):
    """An engine that answers in bytes, many with one sync: what the decision listener drives."""

    def submit(self, body: bytes, read: Callable[[bytes], Request], asker: Asker, tell: Told) -> None:
        """Decide now, and `tell` when it may be known: at once for what needs no sync.

        `body` is the question in bytes, of which `read` makes a request; not asked of one that was answered just now.
        Raises as `decide`, and what `read` raises.
        """
        ...

    def needed(self, request: Request, asker: Asker) -> tuple[str, ...]:
        """What would allow it now, in sentences; not recorded. An answer of `submit` does not say it: it costs more."""
        ...


class EnforcerRows(Protocol):
    """Rows of enforcement points, oldest first."""

    def all(self) -> Sequence[Enforcer]: ...
    def named(self, name: str) -> Enforcer | None:
        """By its name, or its id."""
        ...

    def add(self, enforcer: Enforcer) -> None: ...
    def remove(self, enforcer_id: str) -> bool: ...


class EnforcerUnit(Unit, Protocol):
    """A unit of work with the rows of enforcement points."""

    @property
    def enforcers(self) -> EnforcerRows: ...
