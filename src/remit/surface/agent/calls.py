"""What every service on the agent's socket does alike: read a request, know the caller, follow it, say our errors.

A stream follows one process for as long as it is open. The process is attested when the stream begins, whenever
entries, bundles or authorities change, when its program changes, and every five minutes; its end ends the stream.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import DecodeError
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, RemitError, Unavailable
from remit.surface.agent.peer import Peer, peer_of
from remit.surface.agent.programs import Programs, Watched
from remit.trust.model import Evidence
from remit.trust.ports import WorkloadSource

REQUEST_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 300.0
"""How often a stream looks at its process anew, whatever else happens."""
_LOOK_FOR_END_SECONDS = 10.0
"""The same, where no pidfd tells of the process's end."""

Rendered: TypeAlias = tuple[Any, datetime | None]
"""A message, and the moment at which it should be made anew (`None`: only on change)."""
Refused: TypeAlias = Callable[[RemitError, Peer], Awaitable[None]]
"""Hears of each caller that got nothing, and why."""


class Followers(Protocol):
    """Counts the open streams, and which version of the revocations each has sent to its caller."""

    @property
    def version(self) -> int: ...
    def connected(self, party: str) -> None: ...
    def acknowledge(self, party: str, version: int) -> None: ...
    def gone(self, party: str) -> None: ...


async def heard_by_nobody(error: RemitError, peer: Peer) -> None:
    """For a place that keeps no account of refusals."""


class Callers:
    """The callers of one socket: makes a `Caller` of each stream. `programs` notices when they change."""

    def __init__(
        self,
        source: WorkloadSource,
        *,
        programs: Programs | None = None,
        refused: Refused = heard_by_nobody,
        followers: Followers | None = None,
    ) -> None:
        self._source = source
        self._followers = followers
        self._streams = itertools.count(1)
        self._programs = programs or Programs()
        self._refused = refused

    @asynccontextmanager
    async def once(self, stream: Stream[Any, Any]) -> AsyncIterator[Evidence]:
        """The evidence of who calls, for a call with one answer."""
        with translated():
            require_ready(self._source)
            with peer_of(stream) as peer:
                async with self._accounted(peer):
                    yield await self._source.attest(peer)

    @asynccontextmanager
    async def follow(self, stream: Stream[Any, Any]) -> AsyncIterator[Caller]:
        """Follow who calls for as long as the block lasts; our errors leave it as gRPC's."""
        with translated(), peer_of(stream) as peer:
            async with self._accounted(peer), _end_of(peer) as ended, self._programs.watching(peer) as program:
                caller = Caller(self._source, peer, ended, program)
                if self._followers is None:
                    yield caller
                    return
                party = caller.counted(self._followers, next(self._streams))
                try:
                    yield caller
                finally:
                    self._followers.gone(party)

    @asynccontextmanager
    async def _accounted(self, peer: Peer) -> AsyncIterator[None]:
        try:
            yield
        except (Denied, Rejected) as error:
            await self._refused(error, peer)
            raise


class Caller:
    """The process behind one open stream."""

    def __init__(self, source: WorkloadSource, peer: Peer, ended: asyncio.Future[int], program: Watched) -> None:
        self._source = source
        self._peer = peer
        self._ended = ended
        self._program = program
        self._version = -1
        self._followers: Followers | None = None
        self._party = ""
        self._revocations = 0

    def counted(self, followers: Followers, number: int) -> str:
        """Let `followers` know this stream; returns its name there."""
        self._followers, self._party = followers, f"stream:{self._peer.pid}.{number}"
        followers.connected(self._party)
        return self._party

    async def evidence(self) -> Evidence:
        """Look at the process, now; `change` counts from here. `Rejected` (`trust.peer.…`), `Unavailable`."""
        require_ready(self._source)
        self._version = self._source.version
        self._revocations = self._followers.version if self._followers is not None else 0
        self._program.rearm()
        return await self._source.attest(self._peer)

    async def change(self, renew: datetime | None, *others: asyncio.Future[Any]) -> None:
        """Wait until there is a reason to look again: a change, the moment to renew, the end, or one of `others`.

        What came of `evidence` was sent: the caller has what was revoked until then.
        """
        if self._followers is not None:
            self._followers.acknowledge(self._party, self._revocations)
        most = _LOOK_AGAIN_SECONDS if self._peer.pidfd >= 0 else _LOOK_FOR_END_SECONDS
        if renew is not None:
            most = min(most, max(0.0, (renew - self._source.now()).total_seconds()))
        moved = asyncio.ensure_future(self._source.changed(self._version))
        try:
            awaited: set[asyncio.Future[Any]] = {moved, self._ended, self._program.changed, *others}
            await asyncio.wait(awaited, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()


def require_ready(source: WorkloadSource) -> None:
    """Raises `Unavailable` (`trust.service.closed`) until the source is open."""
    if not source.ready:
        raise Unavailable("trust.service.closed", "the authority is not ready")


async def received(stream: Stream[Any, Any]) -> Any:
    """The one request of a call, or the first of a stream."""
    try:
        message = await asyncio.wait_for(stream.recv_message(), REQUEST_SECONDS)
    except TimeoutError:
        raise GRPCError(Status.DEADLINE_EXCEEDED, "the request did not arrive in time") from None
    except (DecodeError, NotImplementedError):
        raise GRPCError(Status.INVALID_ARGUMENT, "the request is no message of this method") from None
    if message is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "the request is missing")
    return message


@asynccontextmanager
async def _end_of(peer: Peer) -> AsyncIterator[asyncio.Future[int]]:
    """A future that is done when the process has ended, in the kernel's own word: its pidfd becomes readable."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    if peer.pidfd < 0:
        yield ended
        return

    def note() -> None:
        loop.remove_reader(peer.pidfd)
        ended.set_result(peer.pid)

    loop.add_reader(peer.pidfd, note)
    try:
        yield ended
    finally:
        loop.remove_reader(peer.pidfd)


@contextmanager
def translated() -> Iterator[None]:
    """Say our errors in gRPC's codes."""
    try:
        yield
    except RemitError as error:
        text = f"{error.message} ({error.next_step})" if error.next_step else error.message
        raise GRPCError(_status(error), text) from None


def _status(error: RemitError) -> Status:
    match error:
        case Denied():
            return Status.PERMISSION_DENIED
        case Rejected() if error.code.startswith("trust.peer."):
            return Status.PERMISSION_DENIED
        case Rejected():
            return Status.INVALID_ARGUMENT
        case NotFound():
            return Status.NOT_FOUND
        case Conflict():
            return Status.FAILED_PRECONDITION
        case Unavailable():
            return Status.UNAVAILABLE
        case _:
            return Status.INTERNAL
