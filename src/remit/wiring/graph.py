"""The access graph of the registry as it is now, or was, and what is asked of it.

The registry is read once and then only where it changed; how much each identity reaches is kept up to date behind every
change, so that a decision reads it as a fact.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from remit.access.edges import OwnEdges, own_access
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import Blast
from remit.inventory.graph.blast import blast as spread
from remit.inventory.graph.keeper import AsOf, Keeper, Radius, View
from remit.inventory.graph.mirror import Changes, Mirror
from remit.inventory.graph.model import Node
from remit.inventory.native import bucket_among, names_of_native
from remit.inventory.oidc_subjects import join_subjects
from remit.kernel.errors import RemitError
from remit.kernel.ids import credential_name
from remit.wiring.own_edges import OwnReading, past_records

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.graph")
_DEBOUNCE_SECONDS: Final = 0.3
_SHARE: Final = 4
"""How many times as long as it took to count once nothing is counted again."""
_OVERLAP: Final = timedelta(minutes=2)
"""Longer than a transaction may take: what it wrote bears the moment at which it began."""


class Graphs:
    """Keeps the graph, and the numbers of it, in step with the registry."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._lock = asyncio.Lock()
        self._mirror: Mirror | None = None
        self._keeper: Keeper | None = None
        self._graph: AccessGraph | None = None
        self._uncounted = Changes()
        self._read: AsOf | None = None
        self._view: View | None = None
        self._told: View | None = None
        """The numbers that decisions go by. Others count as well: what they counted must be told too."""
        self._outdated = True
        self._wake = asyncio.Event()
        self._own = OwnReading(control)
        self._joined: OwnEdges | None = None

    def outdated(self) -> None:
        """The registry changed: the next who asks gets another."""
        self._outdated = True
        self._wake.set()

    async def now(self) -> AccessGraph:
        """The access graph of the registry as it is now."""
        async with self._lock:
            await self._refresh()
            if self._graph is None:
                assert self._mirror is not None
                self._graph = await asyncio.to_thread(self._mirror.graph)
            return self._graph

    async def at(self, moment: datetime, own: OwnEdges | None = None) -> AccessGraph:
        """The access graph as it was at `moment`, our own grants and leases of then in it (`own`, once read); not kept.

        A name that has come to mean another identity since means the one of now. Before the registry began there is
        nothing.
        """
        instance = self._control.instance

        def work(unit: Any) -> tuple[Mirror, OwnEdges | None]:
            mirror = Mirror.read_past(unit.inventory, moment)
            if own is not None or not unit.ledger.size_at(moment):
                return mirror, own
            return mirror, own_access(past_records(unit, instance, moment), unit.inventory.resolve)

        def build() -> AccessGraph:
            if beside is not None:
                mirror.stand_beside(beside.nodes(), chain(beside.edges(), join_subjects(mirror.mentioned)))
            return mirror.graph()

        mirror, beside = await self._control.store.read(work)
        return await asyncio.to_thread(build)

    async def node(self, given: str, graph: AccessGraph | None = None) -> str:
        """The node that `given` means: an identity by any name, a credential by its fingerprint, any other by its own.

        Raises what `ControlPlane.resolve` raises.
        """
        graph = graph or await self.now()
        node = credential_name(given) if given.startswith(("sha256:", "hmac:")) else given
        if node in graph:
            return node
        native = next((each for each in names_of_native(given) if each in graph), None)
        native = native or bucket_among(given, (each.name for each in graph.nodes))
        return native or await self._control.resolve(given)

    async def blast(self, given: str, at: datetime | None = None) -> Blast:
        """What reaching `given` gives, now or at a past moment."""
        graph = await self.now() if at is None else await self.at(at)
        node = await self.node(given, graph)
        return await asyncio.to_thread(spread, graph, node)

    # -- the numbers of all

    def radius(self, name: str) -> Radius | None:
        """How much the identity (or other node) of this name reaches, as last counted; `None` where it is not known.

        Costs no search. `as_of` tells of which state of the registry it is.
        """
        return None if self._view is None else self._view.radius(name)

    def resources_reached(self, identity: str) -> int | None:
        """How many resources an identity reaches, as decisions were told; `None` where it is not known.

        Not as last counted: a number read ahead of its telling would never be corrected.
        """
        return None if self._told is None else self._told.resources(identity)

    async def top(self, number: int = 20) -> list[tuple[Node, Radius]]:
        """The identities that reach most, by score."""
        async with self._lock:
            await self._settle()
            assert self._keeper is not None
            listed = await asyncio.to_thread(self._keeper.top, number)
            return [(node, radius) for node in listed if (radius := self.radius(node.name)) is not None]

    async def settle(self) -> None:
        """Return when everything that was committed before the call is counted."""
        async with self._lock:
            await self._settle()

    async def run(self) -> None:
        """Count again after each change, and tell the decision point whose number moved. Never returns."""
        feed = self._control.feed
        feed.reaches = self.resources_reached
        while True:
            self._wake.clear()
            began = time.monotonic()
            try:
                async with self._lock:
                    await self._settle()
                    moved = await asyncio.to_thread(self._moved)
                    self._told = self._view
                    feed.remeasure(moved)
            except RemitError as error:
                _log.warning("the access graph is not counted: %s", error)
                self._wake.set()  # no change needs to come for it to be tried again
            took = time.monotonic() - began
            await self._wake.wait()
            # More is coming while a source is read: it is counted together, and what is costly less often.
            await asyncio.sleep(max(_DEBOUNCE_SECONDS, _SHARE * took))

    def _moved(self) -> list[str]:
        """The identities that reach another number of resources than decisions go by; with the lock."""
        now, told, keeper = self._view, self._told, self._keeper
        assert now is not None
        assert keeper is not None
        if now is told:
            return []
        return [each for each in keeper.identities() if told is None or told.resources(each) != now.resources(each)]

    # -- how

    async def _refresh(self) -> None:
        """Read what changed; with the lock."""
        again = self._mirror is None or self._outdated
        self._outdated = False
        try:
            if again:
                await self._read_changes()
            await self._stand_beside(again)
        except BaseException:
            # Half of it may be in the mirror: everything is read again.
            self._mirror = self._keeper = self._graph = None
            self._outdated = True
            raise

    async def _read_changes(self) -> None:
        mirror, read = self._mirror, self._read

        def work(unit: Any) -> tuple[Mirror, Changes | None, AsOf]:
            as_of = AsOf(sequence=unit.ledger.size(), time=unit.now)
            # A clock that was set back would hide what was written since: then everything is read.
            if mirror is None or read is None or unit.now < read.time:
                return Mirror.read(unit.inventory), None, as_of
            return mirror, mirror.refresh(unit.inventory, read.time - _OVERLAP), as_of

        found, changes, self._read = await self._control.store.read(work)
        if changes is None:
            self._mirror, self._keeper, self._graph, self._uncounted = found, None, None, Changes()
            self._joined = None
        elif changes:
            self._note(changes)

    async def _stand_beside(self, again: bool) -> None:
        """Our own grants, leases and targets, and the subjects that trust policies let in by patterns."""
        own, mirror = await self._own.now(), self._mirror
        if mirror is None or (own == self._joined and not again):
            return

        def work() -> Changes:
            return mirror.stand_beside(own.nodes(), chain(own.edges(), join_subjects(mirror.mentioned)))

        changes = await asyncio.to_thread(work)
        self._joined = own
        if changes:
            self._note(changes)

    def _note(self, changes: Changes) -> None:
        self._graph = None
        self._uncounted.nodes |= changes.nodes
        self._uncounted.edges |= changes.edges

    async def _settle(self) -> None:
        """Bring the numbers up to date with the registry; with the lock."""
        await self._refresh()
        assert self._mirror is not None
        assert self._read is not None
        changes, self._uncounted = self._uncounted, Changes()
        if self._keeper is not None and not changes and self._view is not None:
            return
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            keeper = await asyncio.to_thread(Keeper, self._mirror)
        else:
            await asyncio.to_thread(keeper.follow, changes)
        self._view = await asyncio.to_thread(keeper.view, self._read)
        self._keeper = keeper
