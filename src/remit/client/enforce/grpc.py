"""gRPC: server interceptors for `grpc` and `grpc.aio`. A method is a path (`/package.Service/Method`) of the routes.

    server = grpc.server(pool, interceptors=[EnforcedServer(guard)])
    server = grpc.aio.server(interceptors=[EnforcedAioServer(guard)])

    [[route]]
    path = "/shop.Orders/Get"
    action = "read"
    resource = "service/orders"

With mutual TLS `identify=spiffe_peer` takes the SPIFFE ID that gRPC verified at the handshake. A refusal is
UNAUTHENTICATED, PERMISSION_DENIED or UNAVAILABLE, with the decision's id in the trailing metadata.

Spec: gRPC, "Status codes and their use"; X509-SVID §5.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import grpc  # type: ignore[import-untyped,unused-ignore]

from remit.client.enforce.answers import Answer
from remit.client.enforce.guard import Asked, Guard, Identified
from remit.kernel.errors import Rejected
from remit.trust.spiffe import SpiffeId

_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class EnforcedServer(grpc.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """For `grpc.server`: decides before the handler sees a message."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of the method; an unknown method is refused as well, not named."""
        handler = continuation(details)
        guard = self._guard

        def admitted(context: grpc.ServicerContext) -> None:
            answer = guard.check(_asked(details, context))
            if not answer.allowed:
                context.set_trailing_metadata(_metadata(answer))
                context.abort(_CODES[answer.status], answer.reason)

        return _wrapped(handler, lambda behaviour: _before(behaviour, admitted))


class EnforcedAioServer(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """The same for `grpc.aio`."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """As `EnforcedServer`."""
        handler = await continuation(details)
        guard = self._guard

        async def admitted(context: Any) -> None:
            answer = await guard.check_async(_asked(details, context))
            if not answer.allowed:
                context.set_trailing_metadata(_metadata(answer))
                await context.abort(_CODES[answer.status], answer.reason)

        streams = handler is not None and handler.response_streaming
        wrap = _before_aio_stream if streams else _before_aio
        return _wrapped(handler, lambda behaviour: wrap(behaviour, admitted))


def spiffe_peer(asked: Asked) -> Identified | None:
    """Whom the TLS of a gRPC connection proved; for `Guard(identify=…)`. The server MUST require client certificates.

    gRPC verified the path to its roots: give it those of one trust domain.
    """
    found = asked.native.auth_context()
    names = [name.decode("ascii", "replace") for name in found.get("peer_spiffe_id", ())]
    if not names:
        everything = found.get("x509_subject_alternative_name", ())
        names = [name.decode("ascii", "replace") for name in everything if name.startswith(b"spiffe://")]
    try:
        (name,) = names
        subject = str(SpiffeId.parse(name))
    except (ValueError, Rejected):
        return None
    facts = {"attested": True, "attestation_method": "x509-svid", "sender_constraint": "mtls"}
    return Identified(subject=subject, facts=facts)


def _asked(details: Any, context: Any) -> Asked:
    sent: Sequence[tuple[str, Any]] = details.invocation_metadata or ()

    def values(name: str) -> tuple[str, ...]:
        return tuple(str(value) for key, value in sent if key == name)

    return Asked(
        method="POST",
        host="",
        path=details.method,
        authorization=values("authorization"),
        dpop=values("dpop"),
        x5t=_thumbprint(context),
        native=context,
    )


def _thumbprint(context: Any) -> str:
    pems = context.auth_context().get("x509_pem_cert", ())
    if not pems:
        return ""
    body = pems[0].decode("ascii", "replace").partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
    digest = hashlib.sha256(base64.b64decode("".join(body.split()))).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _metadata(answer: Answer) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in answer.headers.items() if name != "retry-after")


def _wrapped(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    """The handler with its behaviour wrapped, whichever of the four kinds it is."""
    if handler is None:
        return grpc.unary_unary_rpc_method_handler(wrap(_unimplemented))
    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, behaviour = kinds[handler.request_streaming, handler.response_streaming]
    return make(
        wrap(behaviour),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _before(behaviour: Any, admitted: Callable[[Any], None]) -> Any:
    def guarded(request: Any, context: Any) -> Any:
        admitted(context)
        return behaviour(request, context)

    return guarded


def _before_aio(behaviour: Any, admitted: Callable[[Any], Awaitable[None]]) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        await admitted(context)
        found = behaviour(request, context)
        return await found if isinstance(found, Awaitable) else found

    return guarded


def _before_aio_stream(behaviour: Any, admitted: Callable[[Any], Awaitable[None]]) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        await admitted(context)
        found = behaviour(request, context)
        if not hasattr(found, "__aiter__"):
            await found  # it writes its answers by itself
            return
        async for each in found:
            yield each

    return guarded


def _unimplemented(request: Any, context: Any) -> Any:
    return context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method here")
