"""The listener of agents and workloads: TLS with our own X.509-SVID, and the peer's, where it has one.

1. OpenSSL makes the handshake: TLS 1.2 or 1.3, no resumption, and a certificate that a peer shows must lead to a root
   that we know, of whichever trust domain;
2. the chain is then verified again by the rules of SPIFFE, against the bundle of the very domain that it names: what
   one domain signed in the name of another is refused, whatever OpenSSL found;
3. each request asks again whether the SVID is still valid and not revoked: a connection outlives neither.

Our certificate and the roots are replaced on the way, without a connection lost: each handshake takes those of now.

Spec: X509-SVID §5; RFC 8446; RFC 8705 §2 for what is bound to the certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import ASGIApp, Receive, Scope, Send

from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable
from remit.providers.tls import harden, load_identity, load_roots, peer_chain, split_der
from remit.surface.api.app import error_response
from remit.surface.peers import Listeners, PeerProtocol
from remit.trust.agents.model import server_id
from remit.trust.bundle import Bundle, pem_certificate
from remit.trust.issue import renewal
from remit.trust.model import AuthorityState, Entry, Evidence, PresentedSvid, X509Svid
from remit.trust.spiffe import TrustDomain
from remit.trust.validate import validate_x509_svid
from remit.wiring import ControlPlane

_log = logging.getLogger("remit.mtls")
_HANDSHAKE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 2.0
_AGAIN_SECONDS = 5.0
_CONNECTIONS = 4096
_SERVER_TTL = timedelta(hours=1)
_USABLE = (AuthorityState.ACTIVE, AuthorityState.OLD)


class MutualTls:
    """One such listener over an application; `open`, then `run` as a task, `close` at the end."""

    def __init__(self, control: ControlPlane, app: ASGIApp) -> None:
        self._control = control
        self._listeners = Listeners(_Guard(control, app), connections=_CONNECTIONS)
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._svid: X509Svid | None = None
        self._roots: tuple[bytes, ...] = ()
        self._current: ssl.SSLContext | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port (a free one where 0 was asked for). `Unavailable` (`surface.listen.taken`)."""
        await self._refresh()
        assert self._current is not None
        outer = self._current
        outer.sni_callback = self._choose
        try:
            found = await self._listeners.tcp(
                host, port, via="mtls", ssl=outer, protocol=partial(_MtlsProtocol, control=self._control),
                ssl_handshake_timeout=_HANDSHAKE_SECONDS, ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(
                "surface.listen.taken",
                f"cannot listen on {host}:{port}: {error.strerror}",
                next_step="stop what listens there, or set `trust.listen` to another HOST:PORT, or to nothing",
            ) from None
        self._task = asyncio.create_task(self._follow(), name="remit-mtls")
        return found

    async def close(self) -> None:
        """Stop; may follow a failed `open`."""
        self._control.agents.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._listeners.close()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, with or without a server name: certificate and roots of this moment."""
        if self._current is not None:
            connection.context = self._current

    async def _follow(self) -> None:
        trust, seen = self._control.trust, -1
        while True:
            try:
                seen = trust.version
                await self._refresh()
                pause = self._until_renewal()
            except (RemitError, OSError) as error:  # no descriptor is free, or OpenSSL takes not what it is given
                _log.warning("the certificate of the mTLS listener cannot be renewed: %s", error)
                pause = _AGAIN_SECONDS
            # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the change.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await trust.changed(seen)

    def _until_renewal(self) -> float:
        assert self._svid is not None
        return max(0.1, (renewal(self._svid) - self._control.clock.now()).total_seconds())

    async def _refresh(self) -> None:
        """Make the context anew when our certificate is due, or the roots are others."""
        roots = tuple(dict.fromkeys(root for bundle in _bundles(self._control) for root in bundle.x509_roots))
        key, svid = self._key, self._svid
        if svid is None or key is None or self._is_due(svid):
            key, svid = await self._issue()
        elif roots == self._roots:
            return
        self._current = _server_context(svid, key, roots)
        # Only now: what was issued and is not in use would pass for fresh.
        self._key, self._svid, self._roots = key, svid, roots

    def _is_due(self, svid: X509Svid) -> bool:
        state = next((one.state for one in self._control.trust.authorities() if one.id == svid.authority), None)
        return state not in _USABLE or self._control.clock.now() >= renewal(svid)

    async def _issue(self) -> tuple[ec.EllipticCurvePrivateKey, X509Svid]:
        key, now, trust = ec.generate_private_key(ec.SECP256R1()), self._control.clock.now(), self._control.trust
        entry = Entry(
            id="",
            spiffe_id=server_id(trust.trust_domain),
            selectors=frozenset(),
            x509_ttl=_SERVER_TTL,
            jwt_ttl=_SERVER_TTL,
            created=now,
        )
        seen = Evidence(attestor="self", selectors=frozenset(), facts={"listener": "mtls"}, observed=now)
        (svid,) = await trust.x509_for([(entry, key.public_key())], seen, agent="")
        return key, svid


def verify_chain(control: ControlPlane, chain: Sequence[bytes]) -> PresentedSvid:
    """The SVID that a peer showed, good against its own domain's bundle, not revoked, and free to act here.

    Raises `Rejected`, and `Denied` for a partner without a relation in force.
    """
    presented = validate_x509_svid(chain, lambda domain: bundle_of(control, domain), control.clock.now())
    _require_good(control, presented)
    return presented


def bundle_of(control: ControlPlane, domain: TrustDomain) -> Bundle | None:
    """The bundle of a trust domain, ours or a partner's: never two of them together."""
    trust = control.trust
    return trust.bundle if domain == trust.trust_domain else trust.foreign_bundles.get(domain.name)


def _bundles(control: ControlPlane) -> list[Bundle]:
    return [control.trust.bundle, *control.trust.foreign_bundles.values()]


def _server_context(svid: X509Svid, key: ec.EllipticCurvePrivateKey, roots: Sequence[bytes]) -> ssl.SSLContext:
    context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL
    load_roots(context, roots)
    load_identity(context, private_pem(svid, key))
    return context


def private_pem(svid: X509Svid, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Our private key and what certifies it, as one PEM text. A secret."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = [svid.certificate, *split_der(svid.chain)]
    return private + b"".join(map(pem_certificate, chain))


class _MtlsProtocol(PeerProtocol):
    """Adds `svid` to the request's state, or `refused`: why the certificate that the peer showed does not count."""

    def __init__(self, *, control: ControlPlane, **how: Any) -> None:
        super().__init__(**how)
        self._control = control

    def connection_made(self, transport: Any) -> None:
        self.app_state = {**self.app_state, **self._seen(transport)}
        super().connection_made(transport)

    def _seen(self, transport: Any) -> dict[str, Any]:
        chain = peer_chain(transport.get_extra_info("ssl_object"))
        try:
            return {"svid": verify_chain(self._control, chain) if chain else None}
        except RemitError as error:
            return {"svid": None, "refused": error}


class _Guard:
    """Refuses, request by request, a peer whose certificate does not count, or no longer."""

    def __init__(self, control: ControlPlane, app: ASGIApp) -> None:
        self._control = control
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._refusal(scope["state"]) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        response = error_response(Denied("surface.proof.refused", error.message, next_step=error.next_step))
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    def _refusal(self, state: Mapping[str, Any]) -> RemitError | None:
        svid: PresentedSvid | None = state.get("svid")
        if svid is None:
            return state.get("refused")
        try:
            _require_good(self._control, svid)
        except RemitError as error:
            return error
        return None


def _require_good(control: ControlPlane, svid: PresentedSvid) -> None:
    """What is asked of a certificate at each request: what was good at the handshake may not be any more."""
    now = control.clock.now()
    if svid.expires <= now:
        raise Rejected("trust.x509_svid.expired", "the certificate has expired", next_step="fetch a new SVID")
    control.federation.require(svid.spiffe_id, now)
    if control.svid_revoked(svid):
        raise Rejected("trust.x509_svid.revoked", "the certificate was revoked", next_step="fetch a new SVID")
