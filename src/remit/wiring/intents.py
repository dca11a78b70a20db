"""Intents in one installation: asked for, approved, served by gateways, ended at once when their agent is.

A call is decided here and nowhere else, under one lock for each family of intents: what a session has read and used is
one truth, however many gateways serve it. What was decided and what it used up are on disk before the gateway hears.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from remit.access.intent import registry
from remit.access.intent.decide import begin, decide_chain
from remit.access.intent.document import WireIntent
from remit.access.intent.model import (
    ApprovedTool,
    Intent,
    Session,
    SessionState,
    StoredIntent,
    ToolCall,
    ToolClass,
    Verdict,
)
from remit.access.model import Decision, Entity, Request
from remit.access.policy.facts import ResourceFacts
from remit.inventory.model import Sensitivity, State
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, Denied, NotFound, RemitError
from remit.kernel.unit import Attester
from remit.wiring.narrowing import Narrow

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.intents")
TOOL_CALL: Final = "tool:call"
_GATEWAY_FULFILS: Final = frozenset({"redact"})
"""What the gateway for tools does itself, every time: a permit may hang on it."""
_LOOK_SECONDS: Final = 0.2
_BEAT_SECONDS: Final = 2.0
_LIVE: Final = frozenset({State.ACTIVE.value, State.ROTATING.value})
_FRESH_SECONDS: Final = 60
Look = Callable[[], Awaitable[tuple[frozenset[str], dict[str, Json]]]]
"""Looks at a process: the identities that it is, and the facts of that."""


def approved_tools(unit: Any, attester: Attester) -> list[ApprovedTool]:
    """Tools whose approval by this installation stands."""
    return [tool for tool in unit.intents.tools() if attester.verify(registry.TOOL, tool.as_json(), tool.signature)]


def tool_facts(tool: ApprovedTool) -> ResourceFacts:
    """A tool as policies name it: `tool/SERVER/TOOL`, as sensitive as what it answers."""
    server = tool.name.partition("/")[0]
    return ResourceFacts(
        name=f"tool/{tool.name}", kind="tool", names=(tool.name,), parents=(f"tool/{server}",),
        sensitivity=tool.label.value,
    )  # fmt: skip


@dataclass(slots=True)
class _Live:
    """An intent that gateways serve now."""

    chain: tuple[StoredIntent, ...]
    """Itself first."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    proven: dict[str, dict[str, Json]] = field(default_factory=dict)
    """Server → what is proved of the agent behind its gateway."""
    last: dict[str, int] = field(default_factory=dict)
    """Server → the newest number of a call of its gateway."""
    gateway: dict[str, str] = field(default_factory=dict)
    """Server → who serves it: nobody else may ask in its name."""

    @property
    def intent(self) -> Intent:
        return self.chain[0].intent

    @property
    def root(self) -> str:
        return self.chain[-1].intent.id


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCall:
    """One call, and which gateway saw it."""

    server: str
    epoch: int
    number: int
    call: ToolCall


class Intents:
    """Made by the control plane; `open` reads the tools that count, `run` ends what must end."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._store = control.store
        self._witness = control.witness
        self._live: dict[str, _Live] = {}
        self._sessions: dict[str, Session] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self.tools: Mapping[str, ApprovedTool] = {}

    async def open(self) -> None:
        """Read which tools are approved."""
        found = await self._store.read(lambda unit: approved_tools(unit, self._witness))
        self.tools = {tool.name: tool for tool in found}

    async def run(self) -> None:
        """End the sessions of agents that are no longer in service, and of intents that expired."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for live in list(self._live.values()):
                if why := self._over(live):
                    try:
                        await self.end(live.intent.id, actor="system:intents", reason=why)
                    except RemitError as error:  # calls are refused all the same; tried again
                        _log.warning("the session of %s cannot be ended yet: %s", live.intent.id, error)

    # Asking, approving, ending.

    async def request(self, wire: WireIntent, *, person: str, evidence: Mapping[str, Json]) -> StoredIntent:
        """Ask for an intent, as a person. Raises as `registry.request_intent`, and as `ControlPlane.resolve`."""
        agent = await self._control.resolve(wire.agent)
        actor = f"person:{person}"

        def work(unit: Any) -> StoredIntent:
            made = registry.request_intent(
                unit, wire, agent=agent, on_behalf_of=actor, actor=actor, attester=self._witness
            )
            _signed(unit, "intent request", made.intent.id, actor, evidence)
            return made

        return await self._store.write(work)

    async def approve(self, intent_id: str, *, digest: str, person: str, evidence: Mapping[str, Json]) -> StoredIntent:
        """Approve it, as another person. Raises as `registry.approve_intent`."""

        def work(unit: Any) -> StoredIntent:
            approver = f"person:{person}"
            made = registry.approve_intent(unit, intent_id, digest=digest, approver=approver, attester=self._witness)
            _signed(unit, "intent approve", intent_id, approver, evidence)
            return made

        return await self._store.write(work)

    async def end(self, intent_id: str, *, actor: str, reason: str) -> StoredIntent:
        """End an intent, its session, and those below it; gateways are told at once."""

        def work(unit: Any) -> StoredIntent:
            ended = registry.end_intent(unit, intent_id, actor=actor, reason=reason)
            session = unit.intents.session(intent_id)
            if session is not None and session.ended is None:
                unit.intents.put_session(self._sign(replace(session, ended=unit.now, why=reason[:400])))
            return ended

        async with self._family(await self._root_of(intent_id)):
            ended = await self._store.write(work)
            self._sessions.pop(intent_id, None)
            for each in [live for live in self._live.values() if intent_id in {one.intent.id for one in live.chain}]:
                self._live.pop(each.intent.id, None)
                each.why = reason
                each.ended.set()
        return ended

    async def all(self, limit: int) -> Sequence[StoredIntent]:
        return await self._store.read(lambda unit: unit.intents.intents(limit))

    async def show(self, intent_id: str) -> tuple[StoredIntent, Session | None]:
        """An intent and what it has used. `NotFound`."""
        return await self._store.read(
            lambda unit: (registry.require_intent(unit, intent_id), unit.intents.session(intent_id))
        )

    async def approve_tool(
        self,
        *,
        name: str,
        definition: str,
        kind: ToolClass,
        label: Sensitivity,
        clearance: Sensitivity | None,
        trusted: bool,
        person: str,
        evidence: Mapping[str, Json],
    ) -> ApprovedTool:
        """Approve the definition of a tool; it counts when this returns. Raises as `registry.approve_tool`."""
        actor = f"person:{person}"

        def work(unit: Any) -> ApprovedTool:
            made = registry.approve_tool(
                unit, name=name, definition=definition, kind=kind, label=label, clearance=clearance, trusted=trusted,
                actor=actor, attester=self._witness,
            )  # fmt: skip
            _signed(unit, "tool approve", f"tool:{name}", actor, evidence)
            return made

        made = await self._store.write(work)
        await self._tools_changed()
        return made

    async def remove_tool(self, name: str, *, actor: str) -> None:
        """Believe a tool no more, at once."""
        await self._store.write(lambda unit: registry.remove_tool(unit, name, actor=actor))
        await self._tools_changed()

    async def _tools_changed(self) -> None:
        await self.open()
        await self._control.reload()

    # What gateways do.

    async def attach(
        self,
        wanted: str,
        *,
        server: str,
        gateway: str,
        proven: Mapping[str, Json],
        agents: frozenset[str] = frozenset(),
        token: bool = False,
    ) -> tuple[StoredIntent, Session]:
        """Let a gateway serve an intent (by its id or task) for one server; an older gateway of it is fenced off.

        `agents` are the identities that proof names: by a token, which must be the agent's, or by the process that
        started the gateway, which may be another's: its proof is then not the agent's.
        Raises `NotFound`, `Denied` (`access.intent.not_approved`, `.agent`, `.tainted`, `.foreign`), `Conflict`
        (`access.intent.over`).
        """

        def work(unit: Any) -> tuple[tuple[StoredIntent, ...], dict[str, Session]]:
            chain = tuple(registry.chain_of(unit, _named(unit, wanted), self._witness))
            self._require_usable(unit, chain, agents if token else None)
            if not any(name.startswith(f"{server}/") for name in chain[0].intent.tools):
                raise Denied("access.intent.foreign", f"the intent has no tool of the server `{server}`")
            sessions = self._sessions_of(unit, chain)
            mine = sessions[chain[0].intent.id]
            mine = self._sign(replace(mine, gateways={**mine.gateways, server: mine.gateways.get(server, 0) + 1}))
            sessions[mine.intent] = mine
            for each in sessions.values():
                unit.intents.put_session(each)
            unit.record(
                "access.intent.attached", actor=gateway, subject=mine.intent,
                data={"server": server, "epoch": mine.gateways[server], "agent": chain[0].intent.agent},
            )  # fmt: skip
            return chain, sessions

        async with self._family(await self._root_of(wanted)):
            chain, sessions = await self._store.write(work)
            self._sessions.update(sessions)
            live = self._live.setdefault(chain[0].intent.id, _Live(chain))
            live.chain = chain
            live.proven[server] = dict(proven) if live.intent.agent in agents else {}
            live.last[server] = 0
            live.gateway[server] = gateway
        if why := self._over(live):
            await self.end(live.intent.id, actor="system:intents", reason=why)
            raise Conflict("access.intent.over", f"the intent `{live.intent.id}` is over: {why}")
        return chain[0], self._sessions[live.intent.id]

    async def call(
        self,
        intent_id: str,
        asked: GatewayCall,
        *,
        gateway: str,
        agent: str = "",
        proven: Mapping[str, Json] | None = None,
    ) -> Decision:
        """Decide one call, durably, with what it uses up. `Conflict` (`access.intent.detached`): attach first."""
        live = self._require_live(intent_id, agent)
        async with self._family(live.root):
            if self._live.get(intent_id) is not live:
                live = self._require_live(intent_id, agent)
            now = self._control.clock.now()
            asked = replace(asked, call=replace(asked.call, risk=self._risk(live.intent.agent)))
            states = [(one.intent, self._sessions[one.intent.id].state) for one in live.chain]
            verdicts = self._standing_refusal(live, asked, states[0][1], gateway) or decide_chain(
                states, asked.call, self.tools.get(asked.call.tool), now
            )
            request = self._request(live, asked, {**live.proven.get(asked.server, {}), **(proven or {})})
            narrow = Narrow(live.intent, asked.call, states[0][1], verdicts[-1])
            decision = await self._control.decisions.decide(
                request, fulfils=_GATEWAY_FULFILS, asker=gateway, narrowed=narrow
            )
            if self._sessions[live.intent.id].gateways.get(asked.server) == asked.epoch:
                live.last[asked.server] = max(asked.number, live.last.get(asked.server, 0))
            if decision.allowed:
                await self._used(live, verdicts)
        return decision

    async def renew(self, intent_id: str, server: str, look: Look) -> None:
        """Look again at the process that started a gateway, when what it proved is a minute old."""
        live = self._live.get(intent_id)
        proven = live.proven.get(server, {}) if live is not None else {}
        at = proven.get("attested_at")
        if live is None or not isinstance(at, int) or self._control.clock.now().timestamp() - at < _FRESH_SECONDS:
            return
        agents, found = await look()
        if live.proven.get(server) is proven:  # another gateway may have attached: of its process it says nothing
            live.proven[server] = dict(found) if live.intent.agent in agents else {}

    def permitted(
        self, intent_id: str, server: str, shown: Sequence[tuple[str, str]], *, gateway: str, agent: str = ""
    ) -> list[str]:
        """Of the tools that a server shows (`name`, definition), those that may be called at all: to list."""
        live = self._require_live(intent_id, agent)
        if live.gateway.get(server) != gateway:
            raise _not_served(intent_id)
        found = []
        for name, definition in shown:
            tool = self.tools.get(f"{server}/{name}")
            if tool is None or tool.definition != definition:
                continue
            if any(tool.name not in one.intent.tools for one in live.chain):
                continue
            call = ToolCall(tool=tool.name, definition=definition, arguments={}, origins={}, size=0)
            asked = GatewayCall(server=server, epoch=0, number=0, call=call)
            if self._control.pdp.evaluate_fast(self._request(live, asked, live.proven.get(server, {}))):
                found.append(name)
        return found

    async def watch(self, intent_id: str, *, gateway: str) -> AsyncIterator[dict[str, str]]:
        """A line at once, one every few seconds, and a last one when the session ends, with why."""
        live = self._require_live(intent_id)
        if gateway not in live.gateway.values():
            raise _not_served(intent_id)
        while not live.ended.is_set():
            yield {"state": "open"}
            try:
                await asyncio.wait_for(live.ended.wait(), _BEAT_SECONDS)
            except TimeoutError:
                continue
        yield {"state": "ended", "why": live.why}

    # Inside.

    def _over(self, live: _Live) -> str:
        """Why the session must end now; empty while it need not."""
        snapshot = self._control.feed.cell.current()
        facts = snapshot.identity(live.intent.agent)
        if facts is None:
            return "the agent is no longer known"
        if (why := snapshot.quarantined.get(facts.id)) is not None:
            return f"the agent is quarantined: {why}"
        if facts.state not in _LIVE:
            return f"the agent is {facts.state}"
        return "it expired" if self._control.clock.now() >= live.intent.expires else ""

    def _require_live(self, intent_id: str, agent: str = "") -> _Live:
        live = self._live.get(intent_id)
        if live is None:
            raise Conflict(
                "access.intent.detached", f"no gateway serves the intent `{intent_id[:40]}`", next_step="attach first"
            )
        if agent and agent != live.intent.agent:
            raise Denied("access.intent.agent", f"the intent `{live.intent.id}` is another agent's")
        return live

    def _require_usable(self, unit: Any, chain: tuple[StoredIntent, ...], agents: frozenset[str] | None) -> None:
        stored = chain[0]
        if agents is not None and stored.intent.agent not in agents:
            raise Denied("access.intent.agent", f"the intent `{stored.intent.id}` is another agent's")
        if any(one.intent.expires <= unit.now for one in chain):
            raise Conflict("access.intent.over", f"the intent `{stored.intent.id}` is over: it expired")
        others = [
            (registry.require_intent(unit, session.intent).intent, session) for session in unit.intents.open_sessions()
        ]
        in_force = [(intent, session) for intent, session in others if intent.expires > unit.now]
        registry.require_untainted(stored, in_force)

    def _sessions_of(self, unit: Any, chain: tuple[StoredIntent, ...]) -> dict[str, Session]:
        """The sessions of a chain, from the topmost down; those that there are not yet begin with what is above."""
        found: dict[str, Session] = {}
        above: SessionState | None = None
        for one in reversed(chain):
            session = unit.intents.session(one.intent.id)
            if session is None:
                state = begin(one.intent, unit.now)
                state = state if above is None else registry.inherited(state, above)
                session = self._sign(Session(intent=one.intent.id, state=state, gateways={}))
            elif not self._witness.verify(registry.SESSION, session.as_json(), session.signature):
                raise Denied("access.intent.session", f"the session of `{one.intent.id}` was not written here")
            if session.ended is not None:
                raise Conflict("access.intent.over", f"the intent `{one.intent.id}` is over: {session.why}")
            found[one.intent.id], above = session, session.state
        return found

    def _risk(self, agent: str) -> int:
        facts = self._control.feed.cell.current().identity(agent)
        return 100 if facts is None else facts.risk

    def _standing_refusal(
        self, live: _Live, asked: GatewayCall, state: SessionState, gateway: str
    ) -> tuple[Verdict, ...]:
        session = self._sessions[live.intent.id]
        if live.ended.is_set():
            return (_refused("session", f"the session has ended: {live.why}", state),)
        if session.gateways.get(asked.server) != asked.epoch or live.gateway.get(asked.server) != gateway:
            return (_refused("session", f"another gateway serves `{asked.server}` now", state),)
        if not asked.call.tool.startswith(f"{asked.server}/"):
            return (_refused("tool", f"the gateway of `{asked.server}` asks about another server's tool", state),)
        if asked.number <= live.last.get(asked.server, 0):
            return (_refused("replay", "a call of this number was decided before", state),)
        return ()

    def _request(self, live: _Live, asked: GatewayCall, proven: Mapping[str, Json]) -> Request:
        intent, state = live.intent, self._sessions[live.intent.id].state
        origins = sorted({origin for seen in asked.call.origins.values() for origin in seen or {"unknown"}})
        return Request(
            subject=Entity(type="identity", id=intent.agent),
            action=TOOL_CALL,
            resource=Entity(type="tool", id=asked.call.tool),
            proven={
                **proven, "task": intent.task, "intent": intent.id, "on_behalf_of": intent.on_behalf_of,
                "tool": asked.call.tool, "data_label": state.label.value, "tainted": state.tainted is not None,
                "argument_origins": origins,
            },
        )  # fmt: skip

    async def _used(self, live: _Live, verdicts: Sequence[Verdict]) -> None:
        moved = [
            self._sign(replace(self._sessions[one.intent.id], state=verdict.after))
            for one, verdict in zip(live.chain, verdicts, strict=True)
        ]

        def work(unit: Any) -> None:
            for session in moved:
                unit.intents.put_session(session)

        await self._store.write(work)
        self._sessions.update({session.intent: session for session in moved})

    def _sign(self, session: Session) -> Session:
        return replace(session, signature=self._witness.sign(registry.SESSION, session.as_json()))

    async def _root_of(self, wanted: str) -> str:
        """The topmost intent above one: what a family has in common."""

        def read(unit: Any) -> str:
            at = registry.require_intent(unit, _named(unit, wanted))
            for _ in range(registry.MAX_PARENTS + 1):
                if not at.intent.parent:
                    break
                at = registry.require_intent(unit, at.intent.parent)
            return at.intent.id

        return await self._store.read(read)

    def _family(self, root: str) -> asyncio.Lock:
        return self._locks.setdefault(root, asyncio.Lock())


def _not_served(intent_id: str) -> Denied:
    return Denied("access.intent.gateway", f"the caller does not serve the intent `{intent_id[:40]}`")


def _refused(clause: str, text: str, state: SessionState) -> Verdict:
    return Verdict(allowed=False, clause=clause, text=text, after=state)


def _named(unit: Any, wanted: str) -> str:
    """The id of an intent that is named by its id or its task. `NotFound` (`access.intent.unknown`)."""
    if unit.intents.intent(wanted) is not None:
        return wanted
    now: datetime = unit.now
    found: Iterable[StoredIntent] = unit.intents.approved_for(wanted)
    for stored in found:
        if stored.intent.expires > now:
            return stored.intent.id
    raise NotFound(
        "access.intent.unknown", f"no approved intent is called `{wanted[:80]}`", next_step="`remit intent ls`"
    )


def _signed(unit: Any, step: str, subject: str, actor: str, evidence: Mapping[str, Json]) -> None:
    unit.record(
        "governance.approval.signed", actor=actor, subject=subject, data={"step": step, "approval": dict(evidence)}
    )
