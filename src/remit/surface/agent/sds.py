"""Envoy's secret discovery service, version 3, beside the Workload API: a proxy gets its SVID and what it trusts.

Resource names are those that SPIRE has, so that an Envoy configured for SPIRE works unchanged:

    default              the default SVID: certificate chain and key
    spiffe://DOMAIN/PATH the SVID of that name
    ROOTCA               our own roots, for Envoy's default validator, with the revocation lists
    spiffe://DOMAIN      that trust domain alone, for Envoy's SPIFFE validator
    ALL                  our trust domain and each that the workload federates with, for Envoy's SPIFFE validator

A foreign root never comes as a plain `trusted_ca`: it would vouch for names of our own domain. No name at all asks for
every SVID and every trust domain by its own name. The caller is attested as on the Workload API; there is no header.

Spec: Envoy xDS protocol, "State of the World", "ACK/NACK and versioning"; envoy.service.secret.v3; SPIRE agent, SDS.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from remit.kernel.errors import Denied, Rejected
from remit.providers.tls import split_der
from remit.surface.agent.calls import Caller, Callers, received, translated
from remit.surface.agent.peer import uid_of_transport
from remit.surface.agent.sds_wire import sds_pb2 as wire
from remit.surface.agent.server import Allowance
from remit.trust.bundle import Bundle, pem_certificate
from remit.trust.model import Evidence, X509Svid
from remit.trust.ports import WorkloadSource

SERVICE: Final = "envoy.service.secret.v3.SecretDiscoveryService"
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
SECRET: Final = f"{_TLS}.Secret"
DEFAULT, ROOTCA, ALL = "default", "ROOTCA", "ALL"
MAX_NAMES: Final = 128
MAX_NAME_BYTES: Final = 2048
_REQUESTS_PER_SECOND, _REQUEST_BURST = 50.0, 1000
"""What the streams of one uid may ask, beyond opening: an Envoy asks once for each answer that it gets."""
_MARGIN = timedelta(seconds=30)
_log = logging.getLogger("remit.agent")


@dataclass(slots=True)
class Subscription:
    """One stream as the protocol has it: what is asked for, what was answered, and which answer a request is about.

    A request that carries an older nonce than the last is stale and says nothing (xDS, "ACK and NACK semantics").
    A NACK is noted and not answered: the same content would be refused again; the next change goes out as ever.
    """

    names: frozenset[str] | None = None
    """`None` before the first request; empty asks for everything."""
    nonce: str = ""
    version: int = 0
    sent: Sequence[wire.Secret] = ()
    refusals: int = 0
    """How many answers the proxy could not use."""

    def take(self, request: wire.DiscoveryRequest) -> bool:
        """Note a request, and tell whether it asks for something that was not asked for before.

        Raises `Rejected` (`agent.sds.type`, `.names`).
        """
        if request.type_url not in ("", SECRET):
            raise Rejected("agent.sds.type", "only secrets are discovered here", next_step=f"ask for `{SECRET}`")
        if self.nonce and request.response_nonce != self.nonce:
            return False
        if request.HasField("error_detail"):
            self.refusals += 1
        names = frozenset(name for name in request.resource_names if name)
        if len(request.resource_names) > MAX_NAMES or any(len(name.encode()) > MAX_NAME_BYTES for name in names):
            raise Rejected("agent.sds.names", f"a stream asks for at most {MAX_NAMES} names of 2,048 bytes")
        fresh = self.names is None or names != self.names
        self.names = names
        return fresh

    def answer(self, secrets: Sequence[wire.Secret]) -> wire.DiscoveryResponse | None:
        """The next response; `None` when it would say what the last one said."""
        if self.version and list(secrets) == list(self.sent):
            return None
        self.sent, self.version = tuple(secrets), self.version + 1
        self.nonce = f"{self.version:08x}"
        return response(secrets, version=str(self.version), nonce=self.nonce)


class SecretDiscovery:
    """`StreamSecrets` and `FetchSecrets`; `DeltaSecrets` is not offered, and Envoy does not ask for it by default."""

    def __init__(self, source: WorkloadSource, callers: Callers) -> None:
        self._source = source
        self._callers = callers
        self._allowance = Allowance(per_second=_REQUESTS_PER_SECOND, burst=_REQUEST_BURST, monotonic=time.monotonic)

    def __mapping__(self) -> Mapping[str, Handler]:
        messages = (wire.DiscoveryRequest, wire.DiscoveryResponse)
        return {
            f"/{SERVICE}/StreamSecrets": Handler(self.StreamSecrets, Cardinality.STREAM_STREAM, *messages),
            f"/{SERVICE}/FetchSecrets": Handler(self.FetchSecrets, Cardinality.UNARY_UNARY, *messages),
        }

    async def FetchSecrets(self, stream: Stream[Any, Any]) -> None:
        request = await received(stream)
        subscription = Subscription()
        async with self._callers.once(stream) as evidence:
            subscription.take(request)
            assert subscription.names is not None
            secrets, _ = await self._secrets(subscription.names, evidence, whole=True)
        await stream.send_message(subscription.answer(secrets))

    async def StreamSecrets(self, stream: Stream[Any, Any]) -> None:
        uid, subscription = uid_of_transport(stream.peer._transport), Subscription()
        request = await received(stream)
        with translated():
            self._note(uid, subscription, request)
        inbox = _Inbox(stream)
        try:
            async with self._callers.follow(stream) as caller:
                await self._serve(stream, caller, subscription, uid, inbox)
        finally:
            inbox.next.cancel()

    async def _serve(
        self, stream: Stream[Any, Any], caller: Caller, subscription: Subscription, uid: int, inbox: _Inbox
    ) -> None:
        """Answer now, at each change, and at each request for something else, until the proxy closes its side."""
        fresh = True
        while True:
            assert subscription.names is not None
            evidence = await caller.evidence()
            secrets, renew = await self._secrets(subscription.names, evidence, whole=fresh)
            if (answer := subscription.answer(secrets)) is not None:
                await stream.send_message(answer)
            fresh = False
            while not fresh:
                await caller.change(renew, inbox.next)
                if not inbox.next.done():
                    break
                request = inbox.take()
                if request is None:
                    return
                fresh = self._note(uid, subscription, request)

    def _note(self, uid: int, subscription: Subscription, request: wire.DiscoveryRequest) -> bool:
        if not self._allowance.take(uid):
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "this user asks too often; try again in a moment")
        before = subscription.refusals
        fresh = subscription.take(request)
        if subscription.refusals != before:
            said = ascii(request.error_detail.message[:200])
            _log.warning("a proxy of uid %d refused the secrets of version %s: %s", uid, subscription.version, said)
        return fresh

    async def _secrets(
        self, names: frozenset[str], evidence: Evidence, *, whole: bool
    ) -> tuple[list[wire.Secret], datetime | None]:
        """What of `names` this workload may have, by name, and when the first of it should be renewed.

        With `whole`, a name that it may not have is refused; without, as after a withdrawal, it is left out.
        Raises `Denied` (`trust.workload.unknown`, `agent.sds.withdrawn`), `Rejected` (`agent.sds.unknown`).
        """
        entries = self._source.require(evidence)
        own = self._source.bundle
        bundles = {own.trust_domain.id: own, **self._source.federated(entries)}
        found: dict[str, wire.Secret] = {}
        ends: list[datetime] = []
        if ROOTCA in names:
            pem, until = current_lists(self._source.crls(), own, self._source.now())
            found[ROOTCA] = roots_secret(ROOTCA, own, pem)
            ends += [until] if until is not None else []
        if ALL in names:
            found[ALL] = spiffe_secret(ALL, list(bundles.values()))
        found |= {name: spiffe_secret(name, [one]) for name, one in bundles.items() if not names or name in names}
        if not names or names - found.keys():
            svids = await self._source.x509_svids(evidence)
            ends.append(svids.renew)
            asked = names or {str(one.spiffe_id) for one in svids.svids}
            found |= {name: one for name, one in _certificates(svids.svids) if name in asked}
        missing = names - found.keys()
        if missing and whole:
            raise Rejected(
                "agent.sds.unknown",
                f"this workload may not have `{min(missing)[:200]}`",
                next_step=f"use `{DEFAULT}`, `{ROOTCA}`, `{ALL}`, its own SPIFFE ID, or a trust domain's",
            )
        if not found:
            raise Denied("agent.sds.withdrawn", "nothing of what this stream asked for is this workload's any more")
        return [found[name] for name in sorted(found)], min(ends, default=None)


class _Inbox:
    """The requests of a stream, one at a time: `next` is done when one is there, and `take` makes way for another."""

    def __init__(self, stream: Stream[Any, Any]) -> None:
        self._stream = stream
        self.next: asyncio.Future[Any] = asyncio.ensure_future(stream.recv_message())

    def take(self) -> Any:
        """The request that is there; `None` when the proxy has closed its side."""
        try:
            found = self.next.result()
        except (DecodeError, NotImplementedError):
            raise GRPCError(Status.INVALID_ARGUMENT, "the request is no message of this method") from None
        if found is not None:
            self.next = asyncio.ensure_future(self._stream.recv_message())
        return found


def _certificates(svids: Sequence[X509Svid]) -> Iterator[tuple[str, wire.Secret]]:
    """Each SVID under its SPIFFE ID, the first under `default` too; of two with one ID the first counts."""
    for svid in reversed(svids):
        yield str(svid.spiffe_id), certificate_secret(str(svid.spiffe_id), svid)
    yield DEFAULT, certificate_secret(DEFAULT, svids[0])


def certificate_secret(name: str, svid: X509Svid) -> wire.Secret:
    """The chain, leaf first, and the key, in PEM."""
    chain = b"".join(pem_certificate(one) for one in (svid.certificate, *split_der(svid.chain)))
    certificate = wire.TlsCertificate(
        certificate_chain=wire.DataSource(inline_bytes=chain),
        private_key=wire.DataSource(inline_bytes=_pem(b"PRIVATE KEY", svid.key)),
    )
    return wire.Secret(name=name, tls_certificate=certificate)


def roots_secret(name: str, bundle: Bundle, lists: bytes) -> wire.Secret:
    """Roots for Envoy's default validator; `lists` are revocation lists in PEM, or none.

    Only the leaf is looked up: roots and intermediates leave by their own withdrawal from the bundle.
    """
    context = wire.CertificateValidationContext(trusted_ca=wire.DataSource(inline_bytes=bundle.x509_pem))
    if lists:
        context.crl.inline_bytes = lists
        context.only_verify_leaf_cert_crl = True
    return wire.Secret(name=name, validation_context=context)


def spiffe_secret(name: str, bundles: Sequence[Bundle]) -> wire.Secret:
    """Trust domains for Envoy's SPIFFE validator: each verifies with its own roots, and one without any with none."""
    config = wire.SPIFFECertValidatorConfig(
        trust_domains=[
            wire.SPIFFECertValidatorConfig.TrustDomain(
                name=one.trust_domain.name, trust_bundle=wire.DataSource(inline_bytes=one.x509_pem)
            )
            for one in sorted(bundles, key=lambda one: one.trust_domain.name)
            if one.x509_roots
        ]
    )
    typed = AnyMessage(type_url=f"{_TLS}.SPIFFECertValidatorConfig", value=config.SerializeToString(deterministic=True))
    custom = wire.TypedExtensionConfig(name="envoy.tls.cert_validator.spiffe", typed_config=typed)
    return wire.Secret(name=name, validation_context=wire.CertificateValidationContext(custom_validator_config=custom))


def response(secrets: Sequence[wire.Secret], *, version: str, nonce: str) -> wire.DiscoveryResponse:
    """The secrets as Envoy reads them: each in an `Any` of Envoy's own type."""
    packed = [AnyMessage(type_url=SECRET, value=one.SerializeToString(deterministic=True)) for one in secrets]
    return wire.DiscoveryResponse(version_info=version, resources=packed, type_url=SECRET, nonce=nonce)


def current_lists(lists: Sequence[bytes], bundle: Bundle, now: datetime) -> tuple[bytes, datetime | None]:
    """Revocation lists in PEM, and until when they are good; nothing, unless they cover every root that signs.

    Envoy refuses a leaf whose issuer has no list, or an old one: lists that are not whole would refuse everyone. So an
    agent that is cut off takes them away half a minute before they end, and goes on by the SVIDs' own expiry.
    """
    known = [x509.load_der_x509_crl(one) for one in lists]
    ends = [one.next_update_utc - _MARGIN for one in known if one.next_update_utc is not None]
    if not known or len(ends) != len(known) or min(ends) <= now:
        return b"", None
    roots = {x509.load_der_x509_certificate(one).subject for one in bundle.x509_roots}
    issuers = {one.issuer for one in known}
    # Below an upstream's root it is our intermediates that sign, and that have the lists.
    if not roots <= issuers and issuers <= roots:
        return b"", None
    return b"".join(_pem(b"X509 CRL", one) for one in lists), min(ends)


def _pem(label: bytes, der: bytes) -> bytes:
    text = b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN " + label + b"-----", *lines, b"-----END " + label + b"-----", b""))
