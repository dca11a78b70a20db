"""The sockets of enforcement points, and what verifies proofs for them.

    DIR/enforce.sock        HTTP, for proxies on this machine
    DIR/ext-authz.sock      gRPC, for Envoys on this machine
    [enforcers] listen      HTTP on a loopback port, for proxies that speak no Unix sockets; empty for none
    mutual TLS, 8421        HTTP below `/enforce/v1/`, for proxies anywhere

Any local user may connect the sockets: who is no registered enforcement point gets no answer but a refusal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.surface.agent.server import Limits, serve
from remit.surface.decide.callers import revocations_of
from remit.surface.enforcers.askers import Askers
from remit.surface.enforcers.ext_authz import ExtAuthz
from remit.surface.enforcers.gate import Gate
from remit.surface.enforcers.http import EnforceApp
from remit.surface.enforcers.kubernetes import Reviews
from remit.surface.enforcers.remembered import RememberedTokens
from remit.surface.enforcers.subjects import Subjects
from remit.surface.enforcers.tables import Tables
from remit.surface.gateways.http.counter import Counter
from remit.surface.mtls import verify_chain
from remit.surface.peers import Listeners, PeerProtocol
from remit.trust import jose
from remit.trust.tokens import Places
from remit.wiring.tokens import TokenRevocations

if TYPE_CHECKING:
    from remit.surface.context import Surface
    from remit.trust.model import PresentedSvid, SvidClaims
    from remit.trust.tokens.model import Held

HTTP_SOCKET, GRPC_SOCKET = "enforce.sock", "ext-authz.sock"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_CONNECTIONS: Final = 4096
_SOCKET_PATH: Final = 107
_GRPC: Final = Limits(calls_per_second=20_000.0, burst=20_000, message_bytes=512 * 1024)


class ControlProofs:
    """Implements `subjects.Proofs` on the control plane."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        control = self._control = surface.control
        self._remembered = RememberedTokens(
            control.trust.validate_jwt,
            lambda: (*revocations_of(control), control.trust.version),
            own=control.trust.trust_domain,
        )

    async def standing(self, token: str) -> Held | None:
        surface = self._surface
        issuer = self._control.settings.tokens.issuer.rstrip("/") or surface.url
        return await self._control.tokens.standing(token, Places(issuer=issuer, base=surface.url))

    async def attestation(self, held: Held) -> Mapping[str, Json]:
        return await self._control.token_grants.attestation(held.grant)

    def jwt_svid(self, token: str, audience: str) -> SvidClaims:
        now = self._control.clock.now()
        found = self._remembered.find(token, audience, now)
        jti, issued = found.claims.get("jti"), jose.moment(found.claims, "iat")
        if TokenRevocations(self._control).is_revoked(
            id=jti if isinstance(jti, str) else "",
            spiffe_id=str(found.spiffe_id),
            issued_at=issued or now,
        ):
            raise Rejected("surface.enforcer.token", "the JWT-SVID is revoked")
        return found

    def svid(self, chain: Sequence[bytes]) -> PresentedSvid:
        return verify_chain(self._control, chain)

    def facts_of_svid(self, svid: PresentedSvid) -> Mapping[str, Json]:
        return self._control.enforcers.facts_of_svid(svid)


class Enforcing:
    """The doors of one server: `open`, `close`; `app` is for other listeners as well."""

    def __init__(self, surface: Surface) -> None:
        control = surface.control
        self._control = control
        file = control.settings.data.root / control.settings.enforcers.file
        self.tables = Tables(file, time.monotonic)
        self._askers = Askers(control, time.monotonic)
        proofs = ControlProofs(surface)
        subjects = Subjects(proofs, control.clock)
        self._gate = Gate(self.tables, subjects, control.desk)
        self._counter = Counter(control, subjects, proofs)
        self.app = EnforceApp(self._gate, Reviews(self.tables, control.desk), self._askers, self._counter.serve)
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.port = 0

    async def open(self) -> None:
        """Read the tables and listen. Raises `Misconfigured`, `Unavailable` (`surface.listen.taken`)."""
        self.tables.open()
        self._closing.append(self._askers.close)
        sockets, listen = self._control.settings.data.sockets, self._control.settings.enforcers.listen
        _require_short(sockets / GRPC_SOCKET)
        listeners = _Listeners(self.app, connections=_CONNECTIONS)
        self._closing.append(listeners.close)
        await listeners.unix(sockets / HTTP_SOCKET, mode=0o666, via="enforce")
        grpc = await serve(sockets / GRPC_SOCKET, [ExtAuthz(self._gate, self._askers)], _GRPC)

        async def end() -> None:
            grpc.close()
            await grpc.wait_closed()

        self._closing.append(end)
        if listen:
            self.port = await _listen(listeners, listen)

    async def close(self) -> None:
        """Stop; may follow a failed `open`."""
        while self._closing:
            await self._closing.pop()()


class _Protocol(PeerProtocol):
    """Adds the transport to the request's state: who is at its other end is asked when it matters."""

    def connection_made(self, transport: Any) -> None:
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Listeners(Listeners):
    def _protocol(self, via: str, protocol: Callable[..., PeerProtocol] = _Protocol) -> Any:
        return super()._protocol(via, _Protocol)


def _require_short(path: Path) -> None:
    if len(os.fsencode(path)) > _SOCKET_PATH:
        raise Misconfigured(
            "storage.socket.path",
            f"the socket path `{path}` is longer than {_SOCKET_PATH} bytes",
            next_step="give a shorter `--data`, or `--socket-dir` on a short path",
        )


async def _listen(listeners: Listeners, listen: str) -> int:
    from remit.surface.server import address_of

    host, port = address_of(listen)
    if host not in _LOOPBACK:
        raise Misconfigured(
            "surface.listen.plain",
            f"`{host}` is not loopback, and this listener speaks plain HTTP",
            next_step="let proxies of other machines use the mTLS listener",
        )
    try:
        return await listeners.tcp(host, port, via="enforce")
    except OSError as error:
        raise Unavailable(
            "surface.listen.taken",
            f"cannot listen on {host}:{port}: {error.strerror}",
            next_step="set `enforcers.listen` to another HOST:PORT, or to nothing",
        ) from None
