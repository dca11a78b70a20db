"""Agents far from the control plane: how they attest, what they are given, what people do about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.providers.tls import split_der
from remit.surface.agent.remote import wire
from remit.surface.api.route import Call, Route, Stream
from remit.trust.agents import Admitted
from remit.trust.attestors.join_token import JoinToken
from remit.trust.model import Evidence, JwtSvid, X509Svid
from remit.trust.proofs import Proof, Question
from remit.wiring.agents import Ask, Handing, View

_TAG = "agents"
_MOST_KEY_BYTES = 256


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A join token: the machine that it is for, and how long it joins."""

    name: str
    labels: list[str] = []
    ttl_seconds: int = 600


# What agents call, by mutual TLS.


async def attest(call: Call) -> Any:
    """Verify a proof of a node; its question, or a certificate for its key."""
    if call.caller.via != "mtls":
        raise Denied(
            "surface.listener.wrong", "agents attest on the listener of agents", next_step="use `trust.listen`"
        )
    body: wire.Attestation = call.body
    public = _public_key(body.public_key)
    agents = call.control.agents
    if body.session:
        seen = await agents.desk.answer(body.session, body.answers, source=call.caller.source)
    else:
        proofs = [Proof(attestor=one.attestor, payload=one.payload) for one in body.proofs]
        found = await agents.desk.present(proofs, source=call.caller.source)
        if isinstance(found, Question):
            return wire.Question(session=found.session, questions=_plain(found.questions))
        seen = found
    return _welcome(call, await agents.registry.attest(seen, public, software=body.software))


async def renew(call: Call) -> Any:
    """An agent's next certificate, where its proof cannot be shown again."""
    body: wire.Renewal = call.body
    public = _public_key(body.public_key)
    return _welcome(call, await call.control.agents.registry.renew(call.require_svid(), public))


async def sync(call: Call) -> Any:
    """What the agent has, and each change of it as it happens: a document a line."""
    presented = call.require_svid()
    call.control.agents.require(presented)

    async def lines() -> AsyncIterator[wire.State]:
        sent: View | None = None
        async for view in call.control.agents.follow(presented):
            yield _difference(sent, view)
            sent = view

    return Stream(lines=lines())


async def sign(call: Call) -> Any:
    """X.509-SVIDs for keys that the agent made."""
    body: wire.SvidBatch = call.body
    if len(body.requests) > wire.MAX_BATCH:
        raise _too_many()
    asks = [
        Ask(entry=one.entry, public=_public_key(one.public_key), seen=_evidence(call, one.seen) if one.seen else None)
        for one in body.requests
    ]
    found = await call.control.agents.x509(call.require_svid(), asks)
    return [_answer(ask.entry, one) for ask, one in zip(asks, found, strict=True)]


async def sign_jwt(call: Call) -> Any:
    """JWT-SVIDs for a process that the agent saw."""
    body: wire.JwtRequest = call.body
    if len(body.entries) > wire.MAX_BATCH:
        raise _too_many()
    seen = _evidence(call, body.seen)
    found = await call.control.agents.jwt(call.require_svid(), body.entries, body.audience, seen)
    return [_jwt_answer(one) for one in found]


async def report(call: Call) -> Any:
    """What the agent handed out, and which revocations it has."""
    body: wire.Report = call.body
    if len(body.handed) > wire.MAX_BATCH:
        raise _too_many()
    handings = [
        Handing(serial=one.serial[:64], entry=one.entry[:32], evidence=_evidence(call, one.seen), at=one.at,
                offline=one.offline)
        for one in body.handed
    ]  # fmt: skip
    await call.control.agents.report(call.require_svid(), handings, body.revocations)
    return {"taken": len(handings)}


# What people call.


async def list_agents(call: Call) -> Any:
    agents = call.control.agents
    return [agents.shown(one) for one in agents.registry.all()]


async def show_agent(call: Call) -> Any:
    agents = call.control.agents
    agent = agents.registry.find(call.path["agent"])
    given = agents.view(agent).entries
    return {
        **agents.shown(agent),
        "node_selectors": sorted(str(one) for one in agent.node_selectors),
        "entries": [{"id": one.id, "spiffe_id": str(one.spiffe_id)} for one in given],
    }


async def evict_agent(call: Call) -> Any:
    agents = call.control.agents
    return agents.shown(await agents.registry.evict(call.path["agent"], actor=call.caller.actor))


async def ban_agent(call: Call) -> Any:
    agents = call.control.agents
    return agents.shown(await agents.ban(call.path["agent"], actor=call.caller.actor))


async def make_token(call: Call) -> Any:
    """A join token: its secret is told in this answer, and nowhere else."""
    body: NewToken = call.body
    actor, ttl = call.caller.actor, timedelta(seconds=body.ttl_seconds)
    token, secret = await call.control.agents.make_token(body.name, labels=body.labels, ttl=ttl, actor=actor)
    return {**_token(token), "secret": secret, "server": call.surface.agents}


async def list_tokens(call: Call) -> Any:
    return [_token(one) for one in await call.control.agents.tokens()]


async def remove_token(call: Call) -> Any:
    return _token(await call.control.agents.remove_token(call.path["token"], actor=call.caller.actor))


# Between the wire and what is meant.


def _token(token: JoinToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "labels": list(token.labels),
        "created": token.created,
        "expires": token.expires,
        "spent": token.spent,
    }


def _welcome(call: Call, admitted: Admitted) -> wire.Welcome:
    agent, svid = admitted.agent, admitted.svid
    return wire.Welcome(
        agent=agent.id,
        name=agent.title,
        spiffe_id=str(agent.spiffe_id),
        chain=[svid.certificate, *split_der(svid.chain)],
        authority=svid.authority,
        issued=svid.issued,
        expires=svid.expires,
        renews=call.control.agents.registry.renews_itself(agent),
        bundle=call.control.trust.bundle_document(),
    )


def _plain(questions: Mapping[str, Mapping[str, Json]]) -> dict[str, dict[str, Any]]:
    return {attestor: dict(question) for attestor, question in questions.items()}


def _difference(sent: View | None, view: View) -> wire.State:
    def differs(name: str) -> bool:
        return sent is None or getattr(sent, name) != getattr(view, name)

    return wire.State(
        node=sorted(map(str, view.node)) if differs("node") else None,
        entries=[wire.WireEntry.of(one) for one in view.entries] if differs("entries") else None,
        bundle=view.bundle.document() if differs("bundle") else None,
        federated={name: one.document() for name, one in view.federated.items()} if differs("federated") else None,
        crls=list(view.crls) if differs("crls") else None,
        authorities=list(view.authorities) if differs("authorities") else None,
        revocations=view.revocations if differs("revocations") else None,
    )


def _evidence(call: Call, seen: wire.Seen) -> Evidence:
    if len(seen.selectors) > wire.MAX_SELECTORS or len(seen.unseen) > wire.MAX_SELECTORS:
        raise Rejected("trust.agent.claim", f"an agent claims at most {wire.MAX_SELECTORS} selectors of one process")
    return call.control.agents.local_evidence(seen.attestor, seen.selectors, seen.facts, seen.unseen, seen.observed)


def _public_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """A key on P-256. `Rejected` (`trust.agent.key`)."""
    try:
        key = serialization.load_der_public_key(der) if len(der) <= _MOST_KEY_BYTES else None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Rejected("trust.agent.key", "the public key is no SubjectPublicKeyInfo of a key on P-256")
    return key


def _answer(entry: str, found: X509Svid | RemitError) -> wire.SvidAnswer:
    if isinstance(found, RemitError):
        return wire.SvidAnswer(entry=entry, problem=found.code)
    return wire.SvidAnswer(entry=entry, chain=[found.certificate, *split_der(found.chain)], authority=found.authority)


def _jwt_answer(svid: JwtSvid) -> wire.JwtAnswer:
    return wire.JwtAnswer(
        entry=svid.entry,
        token=svid.token,
        token_id=svid.token_id,
        authority=svid.authority,
        issued=svid.issued,
        expires=svid.expires,
    )


def _too_many() -> Rejected:
    return Rejected("trust.agent.batch", f"a request takes at most {wire.MAX_BATCH} of them")


ROUTES = [
    Route(
        method="POST",
        path="/trust/v1/agents/attest",
        summary="Attest a node (mutual TLS listener only)",
        handler=attest,
        body=wire.Attestation,
        public=True,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/trust/v1/agent/renew",
        summary="An agent's next certificate",
        handler=renew,
        body=wire.Renewal,
        mtls=True,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/trust/v1/agent/sync",
        summary="What an agent has, as it changes",
        handler=sync,
        mtls=True,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/trust/v1/agent/svids",
        summary="X.509-SVIDs for an agent's workloads",
        handler=sign,
        body=wire.SvidBatch,
        mtls=True,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/trust/v1/agent/jwt",
        summary="JWT-SVIDs for an agent's workload",
        handler=sign_jwt,
        body=wire.JwtRequest,
        mtls=True,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/trust/v1/agent/report",
        summary="What an agent handed out, and has",
        handler=report,
        body=wire.Report,
        mtls=True,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/join-tokens",
        summary="Join tokens, without their secrets",
        handler=list_tokens,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/join-tokens",
        summary="Make a join token",
        handler=make_token,
        body=NewToken,
        tag=_TAG,
    ),
    Route(
        method="DELETE",
        path="/api/v1/join-tokens/{token}",
        summary="Withdraw a join token",
        handler=remove_token,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/agents", summary="Agents", handler=list_agents, tag=_TAG),
    Route(
        method="POST",
        path="/api/v1/agents/{agent:path}/evict",
        summary="End an agent's service",
        handler=evict_agent,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/agents/{agent:path}/ban",
        summary="Never admit a node again",
        handler=ban_agent,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/agents/{agent:path}",
        summary="One agent, and what it serves",
        handler=show_agent,
        tag=_TAG,
    ),
]
