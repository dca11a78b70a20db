"""The SPIFFE Workload API on a Unix socket: existing SPIFFE clients and proxies get their identities here unchanged.

Each call:
1. the caller MUST send `workload.spiffe.io: true` (it keeps browsers and confused proxies out), else INVALID_ARGUMENT;
2. the kernel says which process connected, and its attestor what that process is;
3. no entry for it is PERMISSION_DENIED, an authority that is not ready UNAVAILABLE;
4. a stream sends the whole set at once, and again whenever it changes: what is absent from a message is withdrawn.
   The process is looked at again each time, and its stream ends when it does (see `calls`).

Spec: SPIFFE Workload Endpoint §4 to §6; SPIFFE Workload API §4 to §6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.reflection.service import ServerReflection
from grpclib.server import Stream

from remit.surface.agent.calls import Callers, Followers, Refused, Rendered, heard_by_nobody, received
from remit.surface.agent.programs import Programs
from remit.surface.agent.sds import SecretDiscovery
from remit.surface.agent.server import AgentServer, Limits, serve
from remit.surface.agent.wire import workload_pb2 as wire
from remit.surface.agent.wire.workload_grpc import SpiffeWorkloadAPIBase
from remit.trust.model import Evidence
from remit.trust.ports import WorkloadSource

SECURITY_HEADER = "workload.spiffe.io"


async def serve_workload_api(
    sock_path: Path,
    trust: WorkloadSource,
    extra_handlers: Sequence[Any] = (),
    *,
    limits: Limits | None = None,
    programs: Programs | None = None,
    refused: Refused = heard_by_nobody,
    followers: Followers | None = None,
) -> AgentServer:
    """Serve `workload_handlers`, and other gRPC services beside them; see `server.serve` for what it raises.

    `trust` need not be open yet: callers hear UNAVAILABLE until it is.
    """
    handlers = (*workload_handlers(trust, programs=programs, refused=refused, followers=followers), *extra_handlers)
    return await serve(sock_path, handlers, limits or Limits())


def workload_handlers(
    source: WorkloadSource,
    *,
    programs: Programs | None = None,
    refused: Refused = heard_by_nobody,
    followers: Followers | None = None,
) -> tuple[Any, ...]:
    """What every agent serves to workloads: the Workload API, Envoy's SDS, and gRPC reflection of the former.

    `programs` notices when a caller executes another program; `refused` hears of each caller that got nothing;
    `followers` counts the streams and what each has sent.
    """
    callers = Callers(source, programs=programs, refused=refused, followers=followers)
    api = WorkloadApi(source, callers)
    served = ServerReflection.extend([api])
    return (*served, SecretDiscovery(source, callers))


class WorkloadApi(SpiffeWorkloadAPIBase):
    """The five methods of the service `SpiffeWorkloadAPI`."""

    def __init__(self, trust: WorkloadSource, callers: Callers) -> None:
        self._trust = trust
        self._callers = callers

    async def FetchX509SVID(self, stream: Stream[Any, Any]) -> None:
        async def render(evidence: Evidence) -> Rendered:
            found = await self._trust.x509_svids(evidence)
            roots, hints = found.bundle.x509_der, _Hints()
            message = wire.X509SVIDResponse(
                svids=[
                    wire.X509SVID(
                        spiffe_id=str(svid.spiffe_id),
                        x509_svid=svid.certificate + svid.chain,
                        x509_svid_key=svid.key,
                        bundle=roots,
                        hint=hints.once(svid.hint),
                    )
                    for svid in found.svids
                ],
                crl=self._trust.crls(),
                federated_bundles=self._foreign_x509(evidence),
            )
            return message, found.renew

        await self._follow(stream, render)

    async def FetchX509Bundles(self, stream: Stream[Any, Any]) -> None:
        async def render(evidence: Evidence) -> Rendered:
            bundle, foreign = self._trust.bundle, self._foreign_x509(evidence)
            bundles = {bundle.trust_domain.id: bundle.x509_der, **foreign}
            return wire.X509BundlesResponse(crl=self._trust.crls(), bundles=bundles), None

        await self._follow(stream, render)

    async def FetchJWTBundles(self, stream: Stream[Any, Any]) -> None:
        async def render(evidence: Evidence) -> Rendered:
            bundle, foreign = self._trust.bundle, self._trust.federated(self._trust.require(evidence))
            bundles = {bundle.trust_domain.id: bundle.jwt_document()}
            bundles |= {name: one.jwt_document() for name, one in foreign.items()}
            return wire.JWTBundlesResponse(bundles=bundles), None

        await self._follow(stream, render)

    async def FetchJWTSVID(self, stream: Stream[Any, Any]) -> None:
        request = await _received(stream)
        async with self._callers.once(stream) as evidence:
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
        request = await _received(stream)
        async with self._callers.once(stream) as evidence:
            self._trust.require(evidence)
            found = self._trust.validate_jwt(request.svid, request.audience)
        claims = Struct()
        claims.update(dict(found.claims))
        await stream.send_message(wire.ValidateJWTSVIDResponse(spiffe_id=str(found.spiffe_id), claims=claims))

    def _foreign_x509(self, evidence: Evidence) -> dict[str, bytes]:
        """The roots of each foreign trust domain that the workload's entries federate with."""
        foreign = self._trust.federated(self._trust.require(evidence))
        return {name: one.x509_der for name, one in foreign.items()}

    async def _follow(self, stream: Stream[Any, Any], render: Callable[[Evidence], Awaitable[Rendered]]) -> None:
        """Send what `render` makes of the caller's evidence, now and whenever it differs, until the caller is gone."""
        await _received(stream)
        async with self._callers.follow(stream) as caller:
            sent = None
            while True:
                message, renew = await render(await caller.evidence())
                if message != sent:
                    await stream.send_message(message)
                    sent = message
                await caller.change(renew)


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
    return await received(stream)
