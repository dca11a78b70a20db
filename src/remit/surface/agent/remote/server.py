"""The control plane as its agent sees it: verbs over mutual TLS, and the stream of what the agent has.

The server is believed for one reason only: its certificate is an X.509-SVID of exactly `spiffe://DOMAIN/remit/server`,
verified against the bundle that the agent holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.control_plane import ControlPlane
from remit.surface.agent.remote import wire
from remit.surface.agent.remote.identity import NodeIdentity
from remit.surface.problem import from_problem
from remit.trust.agents.model import server_id
from remit.trust.authority.x509 import public_info
from remit.trust.bundle import Bundle
from remit.trust.validate import validate_x509_svid

T = TypeVar("T")
SILENCE_SECONDS = 30.0
"""A stream on which nothing comes for this long is dead: the control plane says something every ten seconds."""


class Server:
    """One control plane. Every verb raises its errors, `Unavailable` (`agent.server.away`) when it does not answer."""

    def __init__(self, host: str, port: int, *, now: Callable[[], datetime], software: str) -> None:
        self._now = now
        self._software = software
        self._bundle: Bundle | None = None
        self._plane = ControlPlane(host, port, check=self._check)

    def trust(self, bundle: Bundle, identity: NodeIdentity | None) -> None:
        """From now on hold the server to this bundle, and be this agent."""
        self._bundle = bundle
        self._plane.use(bundle.x509_roots, identity.pem if identity is not None else b"")

    def close(self) -> None:
        self._plane.close()

    async def attest(self, payloads: Mapping[str, Mapping[str, Any]], key: ec.EllipticCurvePrivateKey) -> Any:
        """Show proofs; returns a `wire.Question` or a `wire.Welcome`."""
        proofs = [wire.NodeProof(attestor=name, payload=dict(payload)) for name, payload in payloads.items()]
        return await self._attestation(wire.Attestation(proofs=proofs, **self._self(key)))

    async def answer(
        self, session: str, answers: Mapping[str, Mapping[str, Any]], key: ec.EllipticCurvePrivateKey
    ) -> Any:
        """Answer the questions of a session; returns a `wire.Welcome`."""
        plain = {name: dict(one) for name, one in answers.items()}
        return await self._attestation(wire.Attestation(session=session, answers=plain, **self._self(key)))

    async def renew(self, key: ec.EllipticCurvePrivateKey) -> wire.Welcome:
        body = wire.Renewal(public_key=public_info(key.public_key()))
        return await self._post("/trust/v1/agent/renew", body, wire.Welcome)

    async def sign(self, requests: Sequence[wire.SvidRequest]) -> list[wire.SvidAnswer]:
        """An answer for each request, in their order; at most `wire.MAX_BATCH` of them."""
        found = await self._post(
            "/trust/v1/agent/svids", wire.SvidBatch(requests=list(requests)), list[wire.SvidAnswer]
        )
        if len(found) != len(requests):
            raise _nonsense("it answered another number of requests than were asked")
        return found

    async def sign_jwt(self, entries: Sequence[str], audience: Sequence[str], seen: wire.Seen) -> list[wire.JwtAnswer]:
        body = wire.JwtRequest(entries=list(entries), audience=list(audience), seen=seen)
        return await self._post("/trust/v1/agent/jwt", body, list[wire.JwtAnswer])

    async def report(self, report: wire.Report) -> None:
        await self._post("/trust/v1/agent/report", report, dict[str, Any])

    async def follow(self) -> AsyncIterator[wire.State]:
        """What the agent has: everything at first, then changes, until an error ends it."""
        async with self._plane.stream("/trust/v1/agent/sync", silence=SILENCE_SECONDS) as (status, lines):
            if status != 200:
                raise from_problem(_problem([line async for line in lines], status))
            async for line in lines:
                state = _decode(line, wire.State)
                if state.problem is not None:
                    raise from_problem(dict(state.problem))
                yield state
        raise Unavailable("agent.server.away", "the control plane ended the stream")

    async def _attestation(self, body: wire.Attestation) -> Any:
        kind: Any = wire.Question | wire.Welcome
        return await self._post("/trust/v1/agents/attest", body, kind)

    async def _post(self, path: str, body: msgspec.Struct, kind: type[T]) -> T:
        answer = await self._plane.request("POST", path, msgspec.json.encode(body))
        if answer.status != 200:
            raise from_problem(_problem([answer.body], answer.status))
        return _decode(answer.body, kind)

    def _self(self, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        return {"public_key": public_info(key.public_key()), "software": self._software}

    def _check(self, chain: Sequence[bytes]) -> None:
        """Refuse every server but the control plane of our own trust domain."""
        bundle = self._bundle
        assert bundle is not None, "`trust` says whom to believe"
        presented = validate_x509_svid(
            chain, lambda domain: bundle if domain == bundle.trust_domain else None, self._now()
        )
        if presented.spiffe_id != server_id(bundle.trust_domain):
            raise Rejected("agent.server.identity", f"it is `{presented.spiffe_id}`")


def _decode(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError):
        raise _nonsense("its answer is not what this agent understands") from None


def _problem(lines: Sequence[bytes], status: int) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(b"".join(lines))
    except msgspec.DecodeError:
        found = None
    if isinstance(found, dict) and "code" in found:
        # 401 is how the listener says that a certificate does not count.
        return {**found, "status": 403 if status == 401 else status}
    return {"status": 503, "code": "agent.server.away", "title": f"the control plane answered with status {status}"}


def _nonsense(why: str) -> Misconfigured:
    return Misconfigured(
        "agent.server.unlike", f"the control plane is of another kind than this agent: {why}",
        next_step="run the same version of both",
    )  # fmt: skip
