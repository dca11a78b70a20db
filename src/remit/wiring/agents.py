"""Agents far from the control plane: who they are, what each may have, what they did."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable
from remit.trust.agents import Agent, AgentRegistry, AgentState
from remit.trust.attestors.join_token import JoinToken, JoinTokens
from remit.trust.bundle import Bundle
from remit.trust.model import AuthorityState, Entry, Evidence, JwtSvid, PresentedSvid, Selector, X509Svid
from remit.trust.ports import IssuedFilter
from remit.trust.reach import left_to_show

if TYPE_CHECKING:
    from remit.trust.proofs import ProofDesk
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.agents")
MAX_ENTRIES = 10_000
"""That one agent is given, oldest first."""
BEAT_SECONDS = 10.0
"""How long a stream is silent at most."""
_SEEN_EVERY = 60.0
_MOST_TOKENS = 1000
_SIGNATURES_PER_SECOND = 200.0
_SIGNATURES_SAVED = 4000
_FACTS_BYTES = 8192
_USABLE = (AuthorityState.ACTIVE, AuthorityState.OLD)
SINGLE_USE = ("join_token",)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What an agent has at one moment."""

    node: frozenset[Selector]
    entries: tuple[Entry, ...]
    bundle: Bundle
    federated: Mapping[str, Bundle]
    crls: tuple[bytes, ...]
    authorities: tuple[str, ...]
    revocations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One X.509-SVID that an agent asks for: the entry, the key that it made, and for whom."""

    entry: str
    public: ec.EllipticCurvePublicKey
    seen: Evidence | None = None
    """`None` when it is fetched ahead of any process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handing:
    """An SVID that an agent handed to a process of its node, as it reports."""

    serial: str
    entry: str
    evidence: Evidence
    at: datetime
    offline: bool


@dataclass(slots=True)
class Session:
    """What is known of an agent while it is connected, or was since the start."""

    streams: int = 0
    seen: datetime | None = None
    tokens: float = float(_SIGNATURES_SAVED)
    counted: float = field(default=0.0)
    acknowledged: int = -1


class Agents:
    """Made by the control plane once trust is open; `open`, then `run` as a task."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._trust = control.trust
        self._sessions: dict[str, Session] = {}
        self._tokens = JoinTokens(control.witness)
        self._stopping = False
        self.registry = AgentRegistry(
            control.store,
            trust=control.trust,
            attester=control.witness,
            clock=control.clock,
            single_use=SINGLE_USE,
            banned=control.standing.is_banned,
        )

    async def open(self) -> None:
        """Read the agents that count."""
        await self.registry.open()

    def stop(self) -> None:
        """End every stream: the agents come back to whoever serves next."""
        self._stopping = True
        self._trust.wake()

    async def run(self) -> None:
        """Note who was seen, and forget who is long gone, until cancelled."""
        while True:
            await asyncio.sleep(_SEEN_EVERY)
            try:
                await self.registry.note_seen(dict(self._seen()))
                await self.registry.forget()
            except RemitError as error:
                _log.warning("agents are noted later: %s", error)

    # Who calls.

    def require(self, presented: PresentedSvid) -> Agent:
        """The active agent behind a verified SVID. `Denied` (see `AgentRegistry.authenticate`)."""
        agent = self.registry.authenticate(presented)
        if self._control.revocations.is_blocked(agent=agent.id, spiffe_id=str(agent.spiffe_id)):
            raise Denied(
                "trust.agent.banned",
                f"agent `{agent.title}` was revoked",
                next_step="restore it, or give the machine a new identity",
            )
        self._session(agent.id).seen = self._control.clock.now()
        return agent

    async def ban(self, name: str, *, actor: str) -> Agent:
        """Never admit the node by this name again, and revoke everything that went through its agent. `NotFound`."""
        agent = await self.registry.ban(name, actor=actor)
        await self._control.revocations.revoke(f"agent:{agent.id}", reason="its agent was banned", actor=actor)
        return agent

    def connected(self, agent_id: str) -> bool:
        """Whether it follows us now."""
        session = self._sessions.get(agent_id)
        return session is not None and session.streams > 0

    def acknowledged(self, agent_id: str) -> int:
        """The version of the revocations that it said it has; -1 for none since our start."""
        session = self._sessions.get(agent_id)
        return -1 if session is None else session.acknowledged

    @property
    def following(self) -> tuple[str, ...]:
        """Ids of the agents that follow us now: those whose acknowledgement is waited for."""
        return tuple(one for one, session in self._sessions.items() if session.streams)

    @property
    def desk(self) -> ProofDesk:
        """Where nodes show their proofs."""
        return self._control.proofs

    # Join tokens.

    async def make_token(
        self, name: str, *, labels: Sequence[str], ttl: timedelta, actor: str
    ) -> tuple[JoinToken, str]:
        """A token for one machine, and its secret. `Rejected` (`trust.join_token.name`, `.lifetime`)."""
        return await self._control.store.write(
            lambda unit: self._tokens.create(unit, name=name, actor=actor, ttl=ttl, labels=labels)
        )

    async def tokens(self) -> Sequence[JoinToken]:
        """The tokens that are kept, spent ones included."""
        return await self._control.store.read(lambda unit: unit.join_tokens.list(limit=_MOST_TOKENS))

    async def remove_token(self, token_id: str, *, actor: str) -> JoinToken:
        """Withdraw a token. `NotFound` (`trust.join_token.unknown`)."""
        return await self._control.store.write(lambda unit: self._tokens.remove(unit, token_id, actor=actor))

    # What it may have.

    def view(self, agent: Agent) -> View:
        """Everything that the agent is given at this moment."""
        trust = self._trust
        entries = trust.entries_for(agent.node_selectors)
        if len(entries) > MAX_ENTRIES:
            _log.warning("agent %s is given %d of its %d entries", agent.title, MAX_ENTRIES, len(entries))
        given = entries[:MAX_ENTRIES]
        return View(
            node=agent.node_selectors,
            entries=given,
            bundle=trust.bundle,
            federated={one.trust_domain.name: one for one in trust.federated(given).values()},
            crls=tuple(trust.crls()),
            authorities=tuple(one.id for one in trust.authorities() if one.state in _USABLE),
            revocations=self.revocation_version,
        )

    @property
    def revocation_version(self) -> int:
        """The version of the revocations that an agent acknowledges."""
        return self._control.revocations.version

    async def follow(self, presented: PresentedSvid) -> AsyncIterator[View]:
        """What the agent has, now and at each change, and every ten seconds besides, until it may no longer.

        Raises `Denied` when it was evicted or banned, or its certificate ran out or was revoked.
        """
        agent = self.require(presented)
        with self._follows(agent.id):
            while not self._stopping:
                version = self._trust.version
                agent = self.require(presented)
                self._require_valid(presented)
                yield self.view(agent)
                try:
                    # Not `wait_for`: before Python 3.12 it loses a cancellation that comes with the change.
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self._trust.changed(version)
                except TimeoutError:
                    continue

    async def x509(self, presented: PresentedSvid, asks: Sequence[Ask]) -> list[X509Svid | RemitError]:
        """An X.509-SVID for each ask, or why there is none. `Denied`, `Unavailable` for all of them."""
        agent = self.require(presented)
        self._count(agent.id, len(asks))
        reached = self._reach(agent)
        refused = {number: why for number, ask in enumerate(asks) if (why := _refusal(agent, reached, ask)) is not None}
        granted = {number: (reached[ask.entry], ask) for number, ask in enumerate(asks) if number not in refused}
        ahead = [number for number, (_, ask) in granted.items() if ask.seen is None]
        groups = [ahead, *([number] for number in granted if number not in ahead)]
        made = await asyncio.gather(*(self._sign(agent, [granted[one] for one in group]) for group in groups if group))
        self._holds(agent, [one.expires for group in made for one in group])
        svids = dict(
            zip((one for group in groups for one in group), (one for group in made for one in group), strict=True)
        )
        # What was withdrawn while the ledger was written is not handed out.
        still = self._reach(self.require(presented))
        return [
            refused[number] if number in refused else svids[number] if ask.entry in still else _unreached(agent)
            for number, ask in enumerate(asks)
        ]

    async def _sign(self, agent: Agent, granted: Sequence[tuple[Entry, Ask]]) -> tuple[X509Svid, ...]:
        keys = [(entry, ask.public) for entry, ask in granted]
        return await self._trust.x509_for(keys, self._evidence(agent, granted[0][1].seen), agent=agent.id)

    async def jwt(
        self, presented: PresentedSvid, entry_ids: Sequence[str], audience: Sequence[str], seen: Evidence
    ) -> tuple[JwtSvid, ...]:
        """JWT-SVIDs for a process that the agent saw. Raises as `x509`, and `Rejected` for the audience."""
        agent = self.require(presented)
        self._count(agent.id, len(entry_ids))
        reached = self._reach(agent)
        entries = [reached[one] for one in entry_ids if one in reached and _is_shown(reached[one], agent, seen)]
        if not entries or len(entries) != len(entry_ids):
            raise _unreached(agent)
        svids = await self._trust.jwt_for(entries, self._evidence(agent, seen), audience, agent=agent.id)
        self._holds(agent, [one.expires for one in svids])
        still = self._reach(self.require(presented))
        return tuple(one for one in svids if one.entry in still)

    # What it did.

    async def report(self, presented: PresentedSvid, handings: Sequence[Handing], revocations: int) -> None:
        """Put what the agent handed out in the ledger, and count its acknowledgement of the revocations."""
        agent = self.require(presented)
        if handings:
            self._count(agent.id, len(handings))
            await self._control.store.write(lambda unit: self._record(unit, agent, handings))
        if revocations >= 0:
            self._session(agent.id).acknowledged = revocations
            self._control.revocations.acknowledge(agent.id, revocations)

    def _record(self, unit: Any, agent: Agent, handings: Sequence[Handing]) -> None:
        for one in handings:
            found = unit.trust.issued(IssuedFilter(now=unit.now, id=one.serial, agent=agent.id), limit=1)
            # An agent speaks of what went through it: of anything else it says nothing that is believed.
            issued = found[0] if found else None
            data: dict[str, Json] = {
                "serial": one.serial,
                "agent": agent.id,
                "entry": issued.entry if issued else one.entry,
                "known": issued is not None,
                "evidence": one.evidence.digest,
                "facts": dict(one.evidence.facts),
                "at": rfc3339(one.at),
                "offline": one.offline,
            }
            subject = (issued.identity or issued.spiffe_id) if issued else agent.id
            unit.record("trust.svid.handed", actor=agent.title, subject=subject, data=data)

    # Inside.

    def _holds(self, agent: Agent, ends: Sequence[datetime]) -> None:
        """Until when a revocation must be told to this agent."""
        if ends:
            self._control.revocations.connected(agent.id, until=max(ends))
            if not self.connected(agent.id):
                self._control.revocations.gone(agent.id)

    def _reach(self, agent: Agent) -> dict[str, Entry]:
        return {entry.id: entry for entry in self._trust.entries_for(agent.node_selectors)}

    def _evidence(self, agent: Agent, seen: Evidence | None) -> Evidence:
        """What the agent says it saw, with what we know of its node. Its facts are kept apart, and bounded."""
        facts: dict[str, Json] = {"agent": agent.id, "node": agent.title}
        if seen is None:
            facts["ahead"] = True
            return Evidence(
                attestor=agent.attestor, selectors=agent.node_selectors, facts=facts, observed=self._control.clock.now()
            )
        return replace(
            seen,
            attestor=f"{agent.attestor}+{seen.attestor}",
            selectors=seen.selectors | agent.node_selectors,
            facts={**seen.facts, **facts},
        )

    def local_evidence(self, attestor: str, selectors: Sequence[str], facts: Mapping[str, Json],
                       unseen: Sequence[str], observed: datetime) -> Evidence:  # fmt: skip
        """What an agent claims of a process: only what attestors of processes say. `Rejected` (`trust.agent.claim`)."""
        claimed = frozenset(Selector.parse(one) for one in selectors)
        foreign = sorted({one.attestor for one in claimed} - self._trust.local_attestors)
        if foreign:
            raise Rejected(
                "trust.agent.claim", f"an agent says nothing of `{foreign[0]}`: it looks at processes of its own node"
            )
        bounded = dict(facts) if len(canonical(dict(facts))) <= _FACTS_BYTES else {"facts": "too many to keep"}
        return Evidence(
            attestor=attestor[:80], selectors=claimed, facts=bounded, unseen=tuple(unseen), observed=observed
        )

    def _require_valid(self, presented: PresentedSvid) -> None:
        if presented.expires <= self._control.clock.now() or self._control.svid_revoked(presented):
            raise Denied("trust.agent.expired", "the agent's certificate has expired or was revoked")

    def _count(self, agent_id: str, wanted: int) -> None:
        """Take from what the agent may ask for: 200 a second, saved up to 4,000."""
        session, now = self._session(agent_id), self._control.clock.monotonic()
        gained = (now - session.counted) * _SIGNATURES_PER_SECOND
        session.tokens, session.counted = min(float(_SIGNATURES_SAVED), session.tokens + gained), now
        if session.tokens < wanted:
            raise Unavailable(
                "trust.agent.flooded", "this agent asks for more than one node needs", retry_after=timedelta(seconds=1)
            )
        session.tokens -= wanted

    def _session(self, agent_id: str) -> Session:
        return self._sessions.setdefault(agent_id, Session())

    @contextmanager
    def _follows(self, agent_id: str) -> Iterator[None]:
        session, revocations = self._session(agent_id), self._control.revocations
        session.streams += 1
        revocations.connected(agent_id)
        try:
            yield
        finally:
            session.streams -= 1
            if not session.streams:
                revocations.gone(agent_id)

    def _seen(self) -> Iterator[tuple[str, datetime]]:
        for agent_id, session in self._sessions.items():
            if session.seen is not None:
                yield agent_id, session.seen
                session.seen = self._control.clock.now() if session.streams else None

    def shown(self, agent: Agent) -> dict[str, Any]:
        """An agent as commands and the console show it."""
        return {
            "id": agent.id,
            "name": agent.title,
            "spiffe_id": str(agent.spiffe_id),
            "state": self._state(agent),
            "connected": self.connected(agent.id),
            "attestor": agent.attestor,
            "selectors": sorted(str(one) for one in agent.selectors),
            "attested": rfc3339(agent.attested),
            "expires": rfc3339(agent.expires),
            "seen": rfc3339(agent.seen) if agent.seen else None,
            "software": agent.software,
            "serial": agent.serial,
            "acknowledged": self.acknowledged(agent.id),
        }

    def _state(self, agent: Agent) -> str:
        if agent.state is AgentState.ACTIVE and agent.expires <= self._control.clock.now():
            return "expired"
        return agent.state.value


def _is_shown(entry: Entry, agent: Agent, seen: Evidence) -> bool:
    return left_to_show(entry.selectors, agent.node_selectors) <= seen.selectors


def _refusal(agent: Agent, reached: Mapping[str, Entry], ask: Ask) -> RemitError | None:
    entry = reached.get(ask.entry)
    if entry is None or (ask.seen is not None and not _is_shown(entry, agent, ask.seen)):
        return _unreached(agent)
    return None


def _unreached(agent: Agent) -> Denied:
    return Denied(
        "trust.agent.reach",
        f"an entry is not for a workload of agent `{agent.title}`",
        next_step="`remit entry ls` shows selectors; `remit agent show` those of the node",
    )
