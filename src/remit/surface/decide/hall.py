"""The hall of the decision listener: every connection of every door, whose turn it is, and what becomes of a request.

    1  a request arrives whole and waits in its party's line; over its share it is told to come again (503) at once
    2  on its turn the door says who asks; where that takes time (a token), the request steps aside
    3  an evaluation is decided at once and answered when it is on disk; batches and searches run beside

Who owes us a request, or does not read what it asked for, is shown out: a tick a second looks at everybody.

INVARIANT: an answer that permits leaves only after the engine said that it is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, Protocol

from remit.access.enforcers.model import Asker
from remit.access.enforcers.ports import HotEngine
from remit.access.model import Decision, Request
from remit.kernel.clock import Clock
from remit.kernel.errors import RemitError, Unavailable
from remit.surface.api import authzen
from remit.surface.api.authzen_json import read_request
from remit.surface.api.authzen_search import SearchDesk
from remit.surface.api.metrics import DECISIONS
from remit.surface.decide.http import Connection, Exchange, head_of
from remit.surface.decide.points import REPORT_PATH, SNAPSHOT_PATH, PointDesk
from remit.surface.decide.turns import Turns
from remit.wiring.hot import answer_json, sees_facts

_log = logging.getLogger("remit.decide")
_TURN: Final = 256
"""Requests that are served in one turn of the loop: some milliseconds."""
_ASIDE: Final = 256
"""Requests that take their time (tokens, batches, searches) at the same time."""
_ASIDE_SHARE: Final = 192
"""Of those, one party's at most."""
_LARGE: Final = 64
"""Requests with a large body that are held at the same time."""
_EVALUATION: Final = authzen.EVALUATION_PATH.encode()
_EVALUATIONS: Final = authzen.EVALUATIONS_PATH.encode()
_METADATA: Final = authzen.METADATA_PATH.encode()
_SEARCHES: Final = {path.encode(): kind for kind, path in authzen.SEARCH_PATHS.items()}
_POSTED: Final = frozenset({_EVALUATION, _EVALUATIONS, SNAPSHOT_PATH, REPORT_PATH, *_SEARCHES})
_READING: Final = frozenset({b"GET", b"HEAD"})
_ALLOW_GET, _ALLOW_POST = b"\r\nAllow: GET, HEAD", b"\r\nAllow: POST"
_JSON: Final = b"application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long and how many; ticks are seconds."""

    connections: int = 4096
    connections_per_party: int = 1024
    request_ticks: int = 10
    """For a whole request to arrive."""
    idle_ticks: int = 75
    unread_ticks: int = 10
    """For answers to be read."""


class Door(Protocol):
    """One socket: it knows who comes through it."""

    url: str
    """Under which callers know us here."""

    def host(self, connection: Connection) -> Hashable:
        """Whose connection it is before anything is proved: a user, an address."""
        ...

    def enter(self, connection: Connection) -> None: ...
    def leave(self, connection: Connection) -> None: ...

    def asker(self, connection: Connection) -> Asker | None:
        """Who it is, as far as that is known without waiting. Raises `Denied` for somebody who is nobody."""
        ...

    def is_known(self, exchange: Exchange) -> bool:
        """Whether the token of this request was verified before: nothing is looked up, nothing is waited for."""
        ...

    async def ask(self, exchange: Exchange) -> Asker:
        """Who sends this request; waits where it must. Raises `RemitError`."""
        ...


class Hall:
    """Every connection of some doors, over one engine. Belongs to the event loop."""

    def __init__(
        self,
        engine: HotEngine,
        searches: SearchDesk | None,
        points: PointDesk | None = None,
        *,
        clock: Clock,
        bounds: Bounds | None = None,
    ) -> None:
        self._engine = engine
        self._searches = searches
        self._points = points
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._turns: Turns[Exchange] = Turns()
        self._connections: dict[Connection, Hashable] = {}
        self._parties: Counter[Hashable] = Counter()
        self._aside: set[asyncio.Task[None]] = set()
        self._soon = False
        self._ticking: asyncio.TimerHandle | None = None
        self.tick = 1
        self.heads: dict[int, bytes] = {}
        self.decided = {True: 0, False: 0}
        self.large = 0
        """Requests with a large body that are held."""
        self._aside_of: Counter[Hashable] = Counter()
        self.turned_away = 0
        """Requests that were told to come again."""

    def open(self) -> None:
        """Begin to tick."""
        self._beat()

    async def close(self) -> None:
        """Let what is under way end, within two seconds, and hang up."""
        deadline = asyncio.get_running_loop().time() + 2
        while (
            any(each.busy and not each.streams for each in self._connections)
            and asyncio.get_running_loop().time() < deadline
        ):
            await asyncio.sleep(0.02)
        if self._ticking is not None:
            self._ticking.cancel()
        for task in self._aside:
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()

    # Connections.

    def admit(self, connection: Connection) -> bool:
        """Take a connection in; when there are too many, the one that owes us a request longest makes room."""
        host = connection.door.host(connection)
        if self._parties[host] >= self._bounds.connections_per_party:
            return False
        if len(self._connections) >= self._bounds.connections:
            owing = min((each for each in self._connections if not each.busy), key=_since, default=None)
            if owing is None:
                return False
            owing.abort()
            self.release(owing)
        self._connections[connection] = host
        self._parties[host] += 1
        return True

    def release(self, connection: Connection) -> None:
        """Forget a connection; may be called again."""
        host = self._connections.pop(connection, None)
        if host is not None:
            self._parties[host] -= 1
            if not self._parties[host]:
                del self._parties[host]

    def takes_large(self) -> bool:
        """Whether there is room for one more large body; it is counted then."""
        if self.large >= _LARGE:
            return False
        self.large += 1
        return True

    def head(self, status: int) -> bytes:
        """The beginning of an answer, made once a tick."""
        made = self.heads[status] = head_of(status, formatdate(self._clock.now().timestamp(), usegmt=True).encode())
        return made

    def _beat(self) -> None:
        self.tick += 1
        self.heads.clear()
        for allowed, count in self.decided.items():
            if count:
                DECISIONS.labels("true" if allowed else "false").inc(count)
                self.decided[allowed] = 0
        for connection in list(self._connections):
            if connection.is_over(self._bounds):
                connection.abort()
        self._ticking = asyncio.get_running_loop().call_later(1.0, self._beat)

    # Requests.

    def arrived(self, exchange: Exchange) -> None:
        """A request is whole: it waits for its turn, or is told to come again."""
        # A token that counts makes a party of its bearer; one that nobody knows is a word of its sender's host.
        party = self._connections.get(exchange.connection)
        if exchange.authorization and exchange.connection.door.is_known(exchange):
            party = exchange.authorization
        if not self._turns.put(party, exchange):
            self._turn_away(exchange)
        elif not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._soon = False
        self._turns.serve(_TURN, self._work)
        if self._turns and not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _work(self, exchange: Exchange) -> None:
        try:
            if exchange.path == _EVALUATION and exchange.method == b"POST" and not exchange.authorization:
                asker = exchange.connection.asker()
                if asker is not None:
                    self._evaluate(exchange, asker)
                    return
            elif not self._is_known(exchange):
                return
            self._step_aside(exchange)
        except RemitError as error:
            exchange.refuse(error)
        except Exception:
            _log.exception("a decision could not be made")
            exchange.refuse(RemitError("surface.server.failed", "the decision point failed"))

    def _is_known(self, exchange: Exchange) -> bool:
        """Answer what needs nobody to be known."""
        path, query, _ = exchange.path.partition(b"?")
        if path == _METADATA and exchange.method in _READING:
            exchange.reply(200, authzen.metadata(exchange.connection.door.url))
        elif path == _METADATA:
            exchange.reply(405, _problem("surface.method.unknown", "this path takes GET", 405), _ALLOW_GET)
        elif path not in _POSTED or query:
            exchange.reply(404, _problem("surface.path.unknown", "no such path", 404))
        elif exchange.method != b"POST":
            exchange.reply(405, _problem("surface.method.unknown", "this path takes POST", 405), _ALLOW_POST)
        else:
            return True
        return False

    def _evaluate(self, exchange: Exchange, asker: Asker) -> None:
        if exchange.kind != _JSON:
            authzen.require_json(exchange.kind.decode("latin-1"))
        self._engine.submit(bytes(exchange.body), read_request, asker, exchange.told)

    def _step_aside(self, exchange: Exchange) -> None:
        """Go on with a request that takes its time beside the others, if there is room."""
        party = self._connections.get(exchange.connection)
        if len(self._aside) >= _ASIDE or self._aside_of[party] >= _ASIDE_SHARE:
            self._turn_away(exchange)
            return
        task = asyncio.get_running_loop().create_task(self._take_time(exchange))
        self._aside.add(task)
        self._aside_of[party] += 1
        task.add_done_callback(lambda done: self._came_back(done, party))

    def _came_back(self, task: asyncio.Task[None], party: Hashable) -> None:
        self._aside.discard(task)
        self._aside_of[party] -= 1
        if not self._aside_of[party]:
            del self._aside_of[party]

    async def _take_time(self, exchange: Exchange) -> None:
        try:
            asker = await exchange.connection.door.ask(exchange)
            if exchange.path == _EVALUATION:
                self._evaluate(exchange, asker)
                return
            authzen.require_json(exchange.kind.decode("latin-1"))
            if exchange.path == SNAPSHOT_PATH:
                self._desk_of_points().open_stream(exchange, asker)
                return
            status, body = await self._answer(exchange, asker)
            exchange.reply(status, body)
        except RemitError as error:
            exchange.refuse(error)
        except Exception:
            _log.exception("a decision could not be made")
            exchange.refuse(RemitError("surface.server.failed", "the decision point failed"))

    async def _answer(self, exchange: Exchange, asker: Asker) -> authzen.Answer:
        body, kind = bytes(exchange.body), _SEARCHES.get(exchange.path)
        if exchange.path == REPORT_PATH:
            return await self._desk_of_points().report(exchange, asker)
        if kind is None:
            facts = sees_facts(asker)
            show: authzen.Show = lambda decision: answer_json(decision, facts=facts)  # noqa: E731
            return await authzen.evaluations(body, self._decider(asker), show)
        if self._searches is None:
            raise Unavailable("access.search.elsewhere", "this listener answers no searches")
        return await self._searches.search(kind, body, asker)

    def _desk_of_points(self) -> PointDesk:
        if self._points is None:
            raise Unavailable("access.snapshot.elsewhere", "this listener streams no snapshots and takes no reports")
        return self._points

    def _decider(self, asker: Asker) -> Callable[[Request], Awaitable[Decision]]:
        async def decide(request: Request) -> Decision:
            decision = await self._engine.decide(request, asker)
            self.decided[decision.allowed] += 1
            return decision

        return decide

    def _turn_away(self, exchange: Exchange) -> None:
        self.turned_away += 1
        exchange.reply(503, _BUSY)


def _problem(code: str, message: str, status: int, next_step: str = "") -> bytes:
    return authzen.problem(RemitError(code, message, next_step=next_step), status)


def _since(connection: Connection) -> int:
    return connection.since


_BUSY: Final = _problem("access.decisions.busy", "too many requests wait already", 503, "try again in a moment")
