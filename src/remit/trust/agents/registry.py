"""The agents that may serve: attested, renewed, evicted, banned. An agent's record gives rights, so it is signed.

Held in memory and looked up for each call. All methods belong to the event loop that opened the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Denied, NotFound
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Store
from remit.trust.agents.model import SIGNED_AS, Agent, AgentState, agent_id_path, is_agent_path, name_of, title_of
from remit.trust.agents.ports import AgentUnit
from remit.trust.attestors.node import NodeSelectors
from remit.trust.model import Entry, Evidence, PresentedSvid, Selector, X509Svid
from remit.trust.service import TrustService
from remit.trust.spiffe import SpiffeId

AGENT_TTL = timedelta(hours=1)
FORGOTTEN_AFTER = timedelta(days=7)
"""How long after its SVID's end an agent that does not come back is still listed."""
_PAGE = 10_000
_MOST_SOFTWARE = 80
_FACTS_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """An agent with the X.509-SVID that it is known by from now on."""

    agent: Agent
    svid: X509Svid


class AgentRegistry:
    """The agents of one trust domain.

    `single_use` names attestors whose proof cannot be shown again: their agents renew by their own SVID, the others
    attest anew. `banned` says of a SPIFFE ID whether an agent was banned by it, whatever the rows say now.
    """

    def __init__(
        self,
        store: Store[AgentUnit],
        *,
        trust: TrustService,
        attester: Attester,
        clock: Clock,
        single_use: Collection[str] = (),
        banned: Callable[[str], bool] = lambda spiffe_id: False,
    ) -> None:
        self._store = store
        self._trust = trust
        self._attester = attester
        self._clock = clock
        self._single_use = frozenset(single_use)
        self._banned = banned
        self._agents: dict[str, Agent] = {}
        self._by_spiffe_id: dict[SpiffeId, str] = {}
        self.refused: tuple[str, ...] = ()
        """Ids of rows that were not signed here, or were put back."""

    async def open(self) -> None:
        """Read the agents that count."""
        self._agents, self._by_spiffe_id, refused, after = {}, {}, [], ""
        while page := await self._page(after):
            for agent in page:
                if self._is_genuine(agent):
                    self._keep(agent)
                else:
                    refused.append(agent.id)
            after = page[-1].id
        self.refused = tuple(refused)

    def all(self) -> tuple[Agent, ...]:
        """Every agent, oldest attestation first."""
        return tuple(sorted(self._agents.values(), key=lambda one: (one.attested, one.id)))

    def find(self, name: str) -> Agent:
        """The agent of this id, name (`ATTESTOR/NAME`) or SPIFFE ID; `NotFound` (`trust.agent.unknown`)."""
        found = self._agents.get(name)
        if found is None:
            found = next((one for one in self._agents.values() if name in (one.title, str(one.spiffe_id))), None)
        if found is None:
            raise NotFound(
                "trust.agent.unknown", f"no agent is called `{name[:200]}`", next_step="`remit agent ls` lists them"
            )
        return found

    def renews_itself(self, agent: Agent) -> bool:
        """Whether it renews by its own SVID, since its proof cannot be shown twice."""
        return not self._single_use.isdisjoint(agent.attestor.split("+"))

    def authenticate(self, presented: PresentedSvid) -> Agent:
        """The active agent that this verified X.509-SVID is of.

        Raises `Denied`: `trust.agent.stranger` for any other identity, `.evicted`, `.banned`, and `.replaced` when
        the certificate is not the one that the agent has now, or had just before.
        """
        agent = self._agents.get(self._by_spiffe_id.get(presented.spiffe_id, ""))
        if agent is None or not is_agent_path(presented.spiffe_id.path):
            raise Denied(
                "trust.agent.stranger",
                f"`{presented.spiffe_id}` is no agent of this control plane",
                next_step="attest as an agent first: `remit agent --server …`",
            )
        _require_active(agent)
        if f"{presented.serial:x}" not in (agent.serial, agent.previous):
            raise Denied(
                "trust.agent.replaced",
                f"agent `{agent.title}` has another certificate by now",
                next_step="if you did not start it anew, somebody else attested as this node: ban it",
            )
        return agent

    async def attest(self, evidence: Evidence, public: ec.EllipticCurvePublicKey, *, software: str = "") -> Admitted:
        """Admit the node that `evidence` proves, with a certificate for `public`; in the ledger before it returns.

        A node that is known attests anew: its certificates of before count no longer. Raises `Denied`
        (`trust.agent.banned`).
        """
        name = name_of(evidence)
        spiffe_id = SpiffeId(self._trust.trust_domain, agent_id_path(evidence.attestor, name))
        known = self._agents.get(self._by_spiffe_id.get(spiffe_id, ""))
        if self._banned(str(spiffe_id)) or (known is not None and known.state is AgentState.BANNED):
            raise _banned(title_of(evidence.attestor, name))
        agent_id = known.id if known is not None else new_id("ag", self._clock.now())
        svid = await self._sign(agent_id, spiffe_id, public, evidence)

        def work(unit: AgentUnit) -> Agent:
            before = unit.agents.agent(agent_id)
            if before is not None and before.state is AgentState.BANNED:
                raise _banned(before.title)
            agent = Agent(
                id=agent_id,
                spiffe_id=spiffe_id,
                attestor=evidence.attestor,
                name=name,
                selectors=_of_the_node(evidence.selectors),
                state=AgentState.ACTIVE,
                generation=max(before.generation if before else 0, known.generation if known else 0) + 1,
                serial=f"{svid.serial:x}",
                evidence=evidence.digest,
                attested=unit.now,
                expires=svid.expires,
                seen=unit.now,
                software=_printable(software),
            )
            data: dict[str, Json] = {**agent.as_json(), "facts": _bounded(evidence.facts)}
            if before is not None and before.state is AgentState.ACTIVE and before.expires > unit.now:
                data["replaces"] = before.serial
            return self._write(unit, agent, "trust.agent.attested", agent.title, data)

        return Admitted(agent=self._keep(await self._store.write(work)), svid=svid)

    async def renew(self, presented: PresentedSvid, public: ec.EllipticCurvePublicKey) -> Admitted:
        """Give an agent that cannot attest twice its next certificate. `Denied` (`trust.agent.reattest` and others)."""
        agent = self.authenticate(presented)
        if not self.renews_itself(agent):
            raise Denied(
                "trust.agent.reattest",
                f"an agent proved by `{agent.attestor}` attests anew instead of renewing",
                next_step="present the proof again",
            )
        seen = Evidence(
            attestor=agent.attestor,
            selectors=agent.selectors,
            facts={"agent": agent.id, "renewed_by": f"{presented.serial:x}"},
            observed=self._clock.now(),
        )
        svid = await self._sign(agent.id, agent.spiffe_id, public, seen)

        def work(unit: AgentUnit) -> Agent:
            now = unit.agents.agent(agent.id)
            if now is None or now.generation != agent.generation:
                raise _evicted(agent.title)
            _require_active(now)
            renewed = replace(now, previous=f"{presented.serial:x}", serial=f"{svid.serial:x}", expires=svid.expires)
            return self._write(unit, renewed, None, agent.title, {})

        return Admitted(agent=self._keep(await self._store.write(work)), svid=svid)

    async def evict(self, name: str, *, actor: str) -> Agent:
        """End its service now; the node may attest again. Again is no error. `NotFound`, or `Conflict`."""
        agent = self.find(name)
        if agent.state is AgentState.BANNED:
            raise Conflict("trust.agent.banned", f"agent `{agent.title}` is banned, which is more than evicted")
        return await self._end(agent, AgentState.EVICTED, actor)

    async def ban(self, name: str, *, actor: str) -> Agent:
        """End its service now, and never admit the node by this name again. Again is no error. `NotFound`."""
        return await self._end(self.find(name), AgentState.BANNED, actor)

    async def note_seen(self, seen: dict[str, datetime]) -> None:
        """Remember when these agents last spoke."""
        known = {agent_id: at for agent_id, at in seen.items() if agent_id in self._agents}
        for agent_id, at in known.items():
            self._agents[agent_id] = replace(self._agents[agent_id], seen=at)
        if known:
            await self._store.write(lambda unit: unit.agents.note_seen(known))

    async def forget(self) -> int:
        """Remove agents whose SVID ended long ago; banned ones stay. Returns how many."""
        before = self._clock.now() - FORGOTTEN_AFTER
        old = [one for one in self._agents.values() if one.expires < before and one.state is not AgentState.BANNED]
        if not old:
            return 0

        def work(unit: AgentUnit) -> list[Agent]:
            # One may have come back since: what its row says now counts.
            gone = [one for one in old if (now := unit.agents.agent(one.id)) is None or now.expires < before]
            for agent in gone:
                unit.agents.remove_agent(agent.id)
                unit.record("trust.agent.forgotten", actor="system:trust", subject=agent.id, data={"name": agent.title})
            return gone

        gone = await self._store.write(work)
        for agent in gone:
            self._drop(agent)
        return len(gone)

    async def _end(self, agent: Agent, state: AgentState, actor: str) -> Agent:
        if agent.state is state:
            return agent

        def work(unit: AgentUnit) -> Agent:
            ended = replace(unit.agents.agent(agent.id) or agent, state=state)
            return self._write(unit, ended, f"trust.agent.{state.value}", actor, ended.as_json())

        ended = self._keep(await self._store.write(work))
        self._trust.wake()
        return ended

    async def _sign(
        self, agent_id: str, spiffe_id: SpiffeId, public: ec.EllipticCurvePublicKey, evidence: Evidence
    ) -> X509Svid:
        entry = Entry(
            id=agent_id,
            spiffe_id=spiffe_id,
            selectors=evidence.selectors,
            x509_ttl=AGENT_TTL,
            jwt_ttl=timedelta(minutes=5),
            created=self._clock.now(),
        )
        (svid,) = await self._trust.x509_for([(entry, public)], evidence, agent=agent_id)
        return svid

    def _write(self, unit: AgentUnit, agent: Agent, type: str | None, actor: str, data: dict[str, Json]) -> Agent:
        signed = replace(agent, signature=self._attester.sign(SIGNED_AS, agent.as_json()))
        unit.agents.put_agent(signed)
        if type is not None:
            unit.record(type, actor=actor, subject=agent.id, data=data)
        return signed

    def _keep(self, agent: Agent) -> Agent:
        known = self._agents.get(self._by_spiffe_id.get(agent.spiffe_id, ""))
        if known is not None and known.id != agent.id:
            self._drop(known)
        self._agents[agent.id] = agent
        self._by_spiffe_id[agent.spiffe_id] = agent.id
        return agent

    def _drop(self, agent: Agent) -> None:
        self._agents.pop(agent.id, None)
        self._by_spiffe_id.pop(agent.spiffe_id, None)

    def _is_genuine(self, agent: Agent) -> bool:
        return self._attester.verify(SIGNED_AS, agent.as_json(), agent.signature)

    async def _page(self, after: str) -> list[Agent]:
        return list(await self._store.read(lambda unit: unit.agents.agents(after=after, limit=_PAGE)))


def _of_the_node(selectors: frozenset[Selector]) -> frozenset[Selector]:
    """What an attestor proved, without what only our own records say."""
    return frozenset(one for one in selectors if one.attestor != NodeSelectors.id)


def _bounded(facts: Mapping[str, Json]) -> dict[str, Json]:
    """Facts that an entry of the ledger holds as they are, with everything else that it must say."""
    return dict(facts) if len(canonical(dict(facts))) <= _FACTS_BYTES else {"facts": "too many to keep here"}


def _require_active(agent: Agent) -> None:
    match agent.state:
        case AgentState.EVICTED:
            raise _evicted(agent.title)
        case AgentState.BANNED:
            raise _banned(agent.title)


def _evicted(title: str) -> Denied:
    return Denied("trust.agent.evicted", f"agent `{title}` was evicted", next_step="let the node attest again")


def _banned(title: str) -> Denied:
    return Denied("trust.agent.banned", f"agent `{title}` is banned", next_step="give the machine a new identity")


def _printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable() and one.isascii())[:_MOST_SOFTWARE]
