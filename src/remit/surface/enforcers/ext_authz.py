"""The door for Envoy's ext_authz by gRPC: `envoy.service.auth.v3.Authorization/Check`.

An answer is always `OK` on the wire and says in itself what Envoy does: `ok_response`, or `denied_response` with
status, headers and a short body. Envoy's `failure_mode_allow` MUST stay false: then no answer is no permit either.

Spec: Envoy, envoy/service/auth/v3/external_auth.proto, attribute_context.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from remit.client.enforce.answers import Answer, is_away, refuses
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.surface.enforcers.askers import Askers
from remit.surface.enforcers.forwarded import Client, Forwarded, checked, pem_chain
from remit.surface.enforcers.gate import Gate
from remit.surface.enforcers.tables import Proof, Proxy
from remit.surface.enforcers.wire import ext_authz_pb2 as wire

SERVICE: Final = "envoy.service.auth.v3.Authorization"
_UNAUTHENTICATED, _PERMISSION_DENIED, _UNAVAILABLE = 16, 7, 14
_CODES: Final[Mapping[int, int]] = {
    200: 0, 401: _UNAUTHENTICATED, 403: _PERMISSION_DENIED, 503: _UNAVAILABLE
}  # fmt: skip


class ExtAuthz:
    """The service, for grpclib."""

    def __init__(self, gate: Gate, askers: Askers) -> None:
        self._gate = gate
        self._askers = askers

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            f"/{SERVICE}/Check": Handler(self.Check, Cardinality.UNARY_UNARY, wire.CheckRequest, wire.CheckResponse)
        }

    async def Check(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        if request is not None:
            await stream.send_message(response(await self._answer(stream.peer._transport, request)))

    async def _answer(self, transport: Any, request: wire.CheckRequest) -> Answer:
        try:
            asker = await self._askers.of_transport(transport)
            _, table = self._gate.table_of(asker)
            if table.proxy is not Proxy.ENVOY:
                return refuses("this enforcement point is no Envoy")
            asked = forwarded(request, believes_certificate=Proof.CERTIFICATE in table.subjects)
        except (Denied, Rejected) as error:
            return refuses(error.message)
        except RemitError as error:
            return is_away(error.message)
        return await self._gate.check(asked, asker)


def forwarded(request: wire.CheckRequest, *, believes_certificate: bool) -> Forwarded:
    """The request that Envoy tells of. `Rejected` (`surface.enforcer.request`, `.certificate`).

    The client is the one of Envoy's own handshake (`source`); the header `x-forwarded-client-cert` does not count.
    """
    attributes = request.attributes
    http, source = attributes.request.http, attributes.source
    client = Client()
    if believes_certificate:
        chain = pem_chain(unquote(source.certificate)) if source.certificate else ()
        client = Client(principal=source.principal, chain=chain)
    return checked(
        Forwarded(
            method=http.method, host=http.host, target=http.path, authorization=_header(http, "authorization"),
            dpop=_header(http, "dpop"), client=client, source=source.address.socket_address.address,
        )
    )  # fmt: skip


def response(answer: Answer) -> wire.CheckResponse:
    """An answer as Envoy reads it."""
    status = wire.Status(code=_CODES[answer.status], message=answer.reason)
    headers = [_option(name, value) for name, value in answer.headers.items()]
    if answer.allowed:
        passed = wire.OkHttpResponse(headers=headers, headers_to_remove=answer.strip)
        return wire.CheckResponse(status=status, ok_response=passed)
    refused = wire.DeniedHttpResponse(
        status=wire.HttpStatus(code=answer.status),
        headers=[*headers, _option("content-type", "application/json")],
        body=answer.body.decode(),
    )
    return wire.CheckResponse(status=status, denied_response=refused)


def _option(name: str, value: str) -> wire.HeaderValueOption:
    option = wire.HeaderValueOption(header=wire.HeaderValue(key=name, value=value))
    option.append.value = False  # in place of what the client sent
    return option


def _header(http: wire.HttpRequest, name: str) -> tuple[str, ...]:
    """Envoy joins the values of one header by commas; a token and a proof have none, so that a second one spoils it."""
    return (http.headers[name],) if name in http.headers else ()
