"""The SPIFFE Workload API from the workload's side, for asyncio.

Spec: SPIFFE Workload Endpoint §4 (SPIFFE_ENDPOINT_SOCKET), §5 (transport); SPIFFE Workload API §5, §6.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable
from remit.trust.bundle import Bundle, pem_certificate
from remit.trust.spiffe import SpiffeId, TrustDomain

ENDPOINT = "SPIFFE_ENDPOINT_SOCKET"
_HEADER = {"workload.spiffe.io": "true"}
_SECONDS = 30.0
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0
_REGISTER = "register this workload: `remit entry create --selector unix:uid:…`"
"""What to do, where an agent does not say it in brackets behind its refusal, as ours does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Identity:
    """One X.509-SVID with its key."""

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    """DER certificates, the leaf first."""
    key: bytes = field(repr=False)
    """DER, PKCS#8, not encrypted."""
    hint: str = ""

    @property
    def expires(self) -> datetime:
        return self._leaf().not_valid_after_utc

    @property
    def issued(self) -> datetime:
        return self._leaf().not_valid_before_utc

    @property
    def chain_pem(self) -> bytes:
        return b"".join(pem_certificate(one) for one in self.chain)

    def key_pem(self) -> bytes:
        """The private key in PEM, not encrypted: a secret."""
        key = serialization.load_der_private_key(self.key, password=None)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.chain[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Context:
    """Everything that the workload is entitled to now: what was there before and is not here was withdrawn."""

    svids: tuple[X509Identity, ...]
    roots: Mapping[str, tuple[bytes, ...]]
    """DER roots by the name of the trust domain; ours and those that we federate with, never merged."""
    crls: tuple[bytes, ...] = ()

    @property
    def default(self) -> X509Identity:
        return self.svids[0]

    def named(self, hint: str) -> X509Identity:
        """The SVID with this hint or SPIFFE ID. `Rejected` (`client.svid.unknown`)."""
        for one in self.svids:
            if hint in (one.hint, str(one.spiffe_id)):
                return one
        raise Rejected("client.svid.unknown", f"this workload has no SVID called `{hint[:200]}`")

    def bundle_of(self, domain: TrustDomain) -> Bundle | None:
        """The X.509 bundle of a trust domain; `None` where the workload does not trust it."""
        roots = self.roots.get(domain.name)
        if roots is None:
            return None
        from datetime import timedelta

        return Bundle(trust_domain=domain, sequence=0, refresh_hint=timedelta(0), x509_roots=roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtIdentity:
    """One JWT-SVID."""

    spiffe_id: SpiffeId
    token: str = field(repr=False)
    hint: str = ""


class WorkloadApi:
    """A client of the agent at `endpoint` (`unix:///path`); by default what SPIFFE_ENDPOINT_SOCKET names."""

    def __init__(self, endpoint: str | None = None, *, jitter: Callable[[], float] = random.random) -> None:
        self.path = socket_path(endpoint or os.environ.get(ENDPOINT, ""))
        self._jitter = jitter

    async def x509(self) -> X509Context:
        """The X.509-SVIDs and bundles as they are now. `Denied`, `Unavailable`."""
        async with aclosing(self._contexts()) as contexts:
            async for context in contexts:
                return context
        raise _away("the agent closed the stream")

    async def watch_x509(self) -> AsyncIterator[X509Context]:
        """The X.509-SVIDs now and whenever they change; it reconnects for ever while the agent is away.

        Raises `Denied` (`client.identity.none`) when the agent says that this workload is nobody, as the standard asks:
        what it held before MUST be dropped.
        """
        wait = _FIRST_WAIT
        while True:
            try:
                async with aclosing(self._contexts()) as contexts:
                    async for context in contexts:
                        wait = _FIRST_WAIT
                        yield context
            except Unavailable:
                pass
            await asyncio.sleep(wait * (0.5 + self._jitter() / 2))
            wait = min(wait * 2, _LONGEST_WAIT)

    async def jwt(self, audience: str | Sequence[str], *, spiffe_id: str = "") -> JwtIdentity:
        """A JWT-SVID for one or more audiences: the default identity's, or that of `spiffe_id`."""
        return (await self.jwts(audience, spiffe_id=spiffe_id))[0]

    async def jwts(self, audience: str | Sequence[str], *, spiffe_id: str = "") -> tuple[JwtIdentity, ...]:
        """A JWT-SVID of each identity of this workload, for one or more audiences."""
        wire = _wire()
        wanted = [audience] if isinstance(audience, str) else list(audience)
        request = wire.JWTSVIDRequest(audience=wanted, spiffe_id=spiffe_id)
        answer = await self._unary("FetchJWTSVID", request, wire.JWTSVIDResponse)
        return tuple(
            JwtIdentity(spiffe_id=SpiffeId.parse(one.spiffe_id), token=one.svid, hint=one.hint) for one in answer.svids
        )

    async def jwt_bundles(self) -> Mapping[str, Bundle]:
        """The bundles that JWT-SVIDs are verified with, by the name of the trust domain."""
        wire = _wire()
        async with self._stream("FetchJWTBundles", wire.JWTBundlesRequest(), wire.JWTBundlesResponse) as stream:
            message = await asyncio.wait_for(stream.recv_message(), _SECONDS)
            await stream.cancel()
        if message is None:
            raise _away("the agent closed the stream")
        found = {}
        for name, document in message.bundles.items():
            domain = TrustDomain.parse(name)
            found[domain.name] = Bundle.parse(domain, document)
        return found

    async def validate_jwt(self, token: str, audience: str) -> tuple[SpiffeId, dict[str, Any]]:
        """Have the agent verify a JWT-SVID that somebody presented; its SPIFFE ID and claims. `Rejected`."""
        from google.protobuf.json_format import MessageToDict

        wire = _wire()
        request = wire.ValidateJWTSVIDRequest(svid=token, audience=audience)
        answer = await self._unary("ValidateJWTSVID", request, wire.ValidateJWTSVIDResponse)
        return SpiffeId.parse(answer.spiffe_id), MessageToDict(answer.claims)

    async def _contexts(self) -> AsyncGenerator[X509Context, None]:
        wire = _wire()
        async with self._stream("FetchX509SVID", wire.X509SVIDRequest(), wire.X509SVIDResponse) as stream:
            message = await asyncio.wait_for(stream.recv_message(), _SECONDS)
            while message is not None:
                yield _context(message)
                message = await stream.recv_message()
            # The agent ended it: its last word says why.
            await stream.recv_trailing_metadata()

    async def _unary(self, method: str, request: Any, answer: Any) -> Any:
        async with self._stream(method, request, answer, stream=False) as stream:
            message = await asyncio.wait_for(stream.recv_message(), _SECONDS)
        if message is None:
            raise _away("the agent sent no answer")
        return message

    @asynccontextmanager
    async def _stream(self, method: str, request: Any, answer: Any, *, stream: bool = True) -> AsyncIterator[Any]:
        """One call on a connection of its own, its request sent; errors in our words."""
        from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
        from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

        channel = Channel(path=self.path)
        kind = UnaryStreamMethod if stream else UnaryUnaryMethod
        try:
            async with kind(channel, f"/SpiffeWorkloadAPI/{method}", type(request), answer).open(
                metadata=_HEADER
            ) as call:
                await asyncio.wait_for(call.send_message(request, end=True), _SECONDS)
                try:
                    yield call
                except GeneratorExit:
                    await call.cancel()
                    raise
        except GRPCError as error:
            raise _said(error) from None
        except (OSError, TimeoutError, ProtocolError, StreamTerminatedError) as error:
            raise _away(f"{type(error).__name__}") from None
        finally:
            channel.close()


def socket_path(endpoint: str) -> str:
    """The path that an endpoint (`unix:///run/agent.sock`) names. `Rejected` (`client.endpoint.invalid`)."""
    parts = urlsplit(endpoint)
    extra = parts.netloc or parts.query or parts.fragment
    if parts.scheme != "unix" or not parts.path.startswith("/") or extra:
        raise Rejected(
            "client.endpoint.invalid",
            f"`{endpoint[:200]}` names no agent's socket",
            next_step=f"set {ENDPOINT}=unix:///path/to/agent.sock",
        )
    return parts.path


def split_der(text: bytes) -> tuple[bytes, ...]:
    """Cut DER values that stand one after the other. `Rejected` (`client.bundle.broken`)."""
    found, at = [], 0
    while at < len(text):
        if at + 2 > len(text) or text[at] != 0x30:
            raise _broken()
        size, head = text[at + 1], 2
        if size & 0x80:
            count = size & 0x7F
            size, head = int.from_bytes(text[at + 2 : at + 2 + count], "big"), 2 + count
            if not 1 <= count <= 3:
                raise _broken()
        if at + head + size > len(text):
            raise _broken()
        found.append(text[at : at + head + size])
        at += head + size
    return tuple(found)


def _context(message: Any) -> X509Context:
    svids = tuple(
        X509Identity(
            spiffe_id=SpiffeId.parse(one.spiffe_id),
            chain=split_der(one.x509_svid),
            key=one.x509_svid_key,
            hint=one.hint,
        )
        for one in message.svids
    )
    if not svids or not all(one.chain for one in svids):
        raise _broken()
    roots = {SpiffeId.parse(one.spiffe_id).trust_domain.name: split_der(one.bundle) for one in message.svids}
    roots |= {TrustDomain.parse(name).name: split_der(der) for name, der in message.federated_bundles.items()}
    return X509Context(svids=svids, roots=roots, crls=tuple(message.crl))


def _said(error: Any) -> RemitError:
    from grpclib.const import Status

    text = str(error.message or error.status.name.lower().replace("_", " "))
    if error.status is Status.PERMISSION_DENIED:
        why, _, advice = text.removesuffix(")").rpartition(" (") if text.endswith(")") else (text, "", "")
        return Denied("client.identity.none", why or text, next_step=advice or _REGISTER)
    if error.status is Status.INVALID_ARGUMENT:
        return Rejected("client.request.refused", text)
    return _away(text)


def _away(why: str) -> Unavailable:
    return Unavailable(
        "client.agent.away", f"the agent does not answer: {why}", next_step="see that `remit up` or `remit agent` runs"
    )


def _broken() -> Rejected:
    return Rejected("client.bundle.broken", "the agent sent certificates that cannot be read")


def _wire() -> Any:
    from remit.surface.agent.wire import workload_pb2

    return workload_pb2
