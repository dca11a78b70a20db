"""The SPIFFE Workload API on a Unix socket: existing SPIFFE clients and proxies get their identities here unchanged.

Each call:
1. the caller MUST send `workload.spiffe.io: true` (it keeps browsers and confused proxies out), else INVALID_ARGUMENT;
2. the kernel says which process connected, and its attestor what that process is;
3. no entry for it is PERMISSION_DENIED, an authority that is not ready UNAVAILABLE;
4. a stream sends the whole set at once, and again whenever it changes: what is absent from a message is withdrawn.
   The process is looked at again each time, and its stream ends when it does.

Spec: SPIFFE Workload Endpoint §4 to §6; SPIFFE Workload API §4 to §6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, RemitError, Unavailable
from remit.surface.agent.peer import Peer, peer_of
from remit.surface.agent.server import AgentServer, Limits, serve
from remit.surface.agent.wire import workload_pb2 as wire
from remit.surface.agent.wire.workload_grpc import SpiffeWorkloadAPIBase
from remit.trust.model import Evidence
from remit.trust.service import TrustService

SECURITY_HEADER = "workload.spiffe.io"
_REQUEST_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 300.0
"""How often a stream looks at its process anew: it may have executed another binary."""
_LOOK_FOR_END_SECONDS = 10.0
"""The same, where no pidfd tells of the process's end."""

Rendered: TypeAlias = tuple[Any, datetime | None]
"""A message, and the moment at which it should be made anew (`None`: only on change)."""


async def serve_workload_api(
    sock_path: Path,
    trust: TrustService,
    extra_handlers: Sequence[Any] = (),
    *,
    limits: Limits | None = None,
) -> AgentServer:
    """Serve the Workload API, and other gRPC services beside it, on `sock_path`; see `server.serve` for what it raises.

    `trust` need not be open yet: callers hear UNAVAILABLE until it is.
    """
    return await serve(sock_path, (WorkloadApi(trust), *extra_handlers), limits or Limits())


class WorkloadApi(SpiffeWorkloadAPIBase):
    """The five methods of the service `SpiffeWorkloadAPI`."""

    def __init__(self, trust: TrustService) -> None:
        self._trust = trust

    async def FetchX509SVID(self, stream: Stream[Any, Any]) -> None:
        async def render(evidence: Evidence) -> Rendered:
            found = await self._trust.x509_svids(evidence)
            roots, hints = found.bundle.x509_der, _Hints()
            message = wire.X509SVIDResponse(
                svids=[
                    wire.X509SVID(
                        spiffe_id=str(svid.spiffe_id),
                        x509_svid=svid.certificate,
                        x509_svid_key=svid.key,
                        bundle=roots,
                        hint=hints.once(svid.hint),
                    )
                    for svid in found.svids
                ]
            )
            return message, found.renew

        await self._follow(stream, render)

    async def FetchX509Bundles(self, stream: Stream[Any, Any]) -> None:
        async def render(evidence: Evidence) -> Rendered:
            self._trust.require(evidence)
            bundle = self._trust.bundle
            return wire.X509BundlesResponse(bundles={bundle.trust_domain.id: bundle.x509_der}), None

        await self._follow(stream, render)

    async def FetchJWTBundles(self, stream: Stream[Any, Any]) -> None:
        async def render(evidence: Evidence) -> Rendered:
            self._trust.require(evidence)
            bundle = self._trust.bundle
            return wire.JWTBundlesResponse(bundles={bundle.trust_domain.id: bundle.jwt_document()}), None

        await self._follow(stream, render)

    async def FetchJWTSVID(self, stream: Stream[Any, Any]) -> None:
        with _translated():
            request = await _received(stream)
            self._check_ready()
            with peer_of(stream) as peer:
                evidence = await self._trust.attest(peer)
            svids = await self._trust.jwt_svids(evidence, list(request.audience), spiffe_id=request.spiffe_id)
        hints = _Hints()
        message = wire.JWTSVIDResponse(
            svids=[
                wire.JWTSVID(spiffe_id=str(svid.spiffe_id), svid=svid.token, hint=hints.once(svid.hint))
                for svid in svids
            ]
        )
        await stream.send_message(message)

    async def ValidateJWTSVID(self, stream: Stream[Any, Any]) -> None:
        with _translated():
            request = await _received(stream)
            self._check_ready()
            with peer_of(stream) as peer:
                self._trust.require(await self._trust.attest(peer))
            found = self._trust.validate_jwt(request.svid, request.audience)
        claims = Struct()
        claims.update(dict(found.claims))
        await stream.send_message(wire.ValidateJWTSVIDResponse(spiffe_id=str(found.spiffe_id), claims=claims))

    async def _follow(self, stream: Stream[Any, Any], render: Callable[[Evidence], Awaitable[Rendered]]) -> None:
        """Send what `render` makes of the caller's evidence, now and whenever it differs, until the caller is gone."""
        with _translated():
            await _received(stream)
            with peer_of(stream) as peer:
                async with _end_of(peer) as ended:
                    sent = None
                    while True:
                        self._check_ready()
                        version = self._trust.version
                        message, renew = await render(await self._trust.attest(peer))
                        if message != sent:
                            await stream.send_message(message)
                            sent = message
                        most = _LOOK_AGAIN_SECONDS if peer.pidfd >= 0 else _LOOK_FOR_END_SECONDS
                        await self._sleep(version, renew, ended, most)

    async def _sleep(self, version: int, renew: datetime | None, ended: asyncio.Future[int], most: float) -> None:
        """Wait for a change, for the moment to renew, or for the end of the caller's process; `most` seconds."""
        if renew is not None:
            most = min(most, max(0.0, (renew - self._trust.now()).total_seconds()))
        changed = asyncio.ensure_future(self._trust.changed(version))
        try:
            await asyncio.wait({changed, ended}, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    def _check_ready(self) -> None:
        if not self._trust.ready:
            raise Unavailable("trust.service.closed", "the authority is not ready")


class _Hints:
    """Hands each hint out once: in one response a hint names one SVID."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def once(self, hint: str) -> str:
        if hint in self._seen:
            return ""
        self._seen.add(hint)
        return hint


async def _received(stream: Stream[Any, Any]) -> Any:
    """The request of a call that carries the security header."""
    metadata = stream.metadata
    if metadata is None or metadata.getall(SECURITY_HEADER, []) != ["true"]:
        raise GRPCError(Status.INVALID_ARGUMENT, f"security header missing from request: {SECURITY_HEADER}")
    try:
        message = await asyncio.wait_for(stream.recv_message(), _REQUEST_SECONDS)
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
def _translated() -> Iterator[None]:
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
