"""Decide about one request at a proxy: the way from what the proxy tells to what it does.

    1  the point that asks is registered (its connection proves it), and has a table
    2  the path has one spelling, and a route names what the request is; else it is refused
    3  a proof says who sent it
    4  the decision, durable before it is told; 5  its obligations: done by the point, or asked of the client

Each step that fails refuses. What is not known in time is `503`, which no proxy takes for a permit.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from remit.access.enforcers.model import Asker, Enforcer
from remit.access.enforcers.ports import HotEngine
from remit.access.model import Decision, Entity, Obligation, Request
from remit.access.policy.obligations import limit_of
from remit.client.enforce.answers import (
    STEP_UP,
    Answer,
    challenges,
    is_away,
    passes,
    refuses,
    steps_up,
)
from remit.client.enforce.paths import canonical_path
from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable
from remit.surface.enforcers.forwarded import Forwarded
from remit.surface.enforcers.subjects import Sender, Subjects
from remit.surface.enforcers.tables import Proof, Proxy, Table, Tables

_log = logging.getLogger("remit.enforcers")
WEB: Final = (Proxy.ENVOY, Proxy.NGINX, Proxy.TRAEFIK)
_UNPROVED: Final = "surface.enforcer.proof"
_OURS: Final = b"\0"
"""Before a question that is told apart by its bytes: no JSON begins so, and no other listener asks the same."""


class _Policy(msgspec.Struct):
    text: str


class _Why(msgspec.Struct):
    policies: list[_Policy]
    needed: tuple[str, ...]


class _Context(msgspec.Struct):
    id: str
    reason: _Why
    obligations: tuple[Obligation, ...] = ()


class Told(msgspec.Struct):
    """What the engine answers, as far as a proxy asks."""

    decision: bool
    context: _Context


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Told)


class Gate:
    """One decision after the other, for registered enforcement points. Belongs to the event loop."""

    def __init__(self, tables: Tables, subjects: Subjects, engine: HotEngine) -> None:
        self.tables = tables
        self.engine = engine
        self._subjects = subjects

    def table_of(self, asker: Asker) -> tuple[Enforcer, Table]:
        """What a proxy that asks is configured for. `Denied` (`access.enforcer.unregistered`, `.table`)."""
        enforcer = require_enforcer(asker)
        return enforcer, self.tables.require(enforcer.name, *WEB)

    async def check(self, asked: Forwarded, asker: Asker) -> Answer:
        """Whether the request passes; every reason why it does not is an answer, never an exception of ours."""
        try:
            enforcer, table = self.table_of(asker)
            path = canonical_path(asked.target)
        except RemitError as error:
            return refuses(error.message)
        route = table.routes.match(asked.method, asked.host, path)
        if route is None:
            return refuses("no route names this request")
        if route.public:
            return passes(decision="", subject="", strip=table.strip)
        try:
            sender = await self._subjects.find(asked, table, enforcer, audience=route.audience)
        except Unavailable as error:
            return is_away(error.message)
        except RemitError as error:
            return _unproved(error, asked, table)
        request = Request(
            subject=Entity(type="identity", id=sender.subject),
            action=route.action,
            resource=Entity(type=route.kind, id=route.name),
            claimed={"method": asked.method, "path": path},
            proven=sender.facts,
        )
        try:
            told = await self._ask(request, asker)
            reason = "" if told.decision else self._reason(told, request, asker)
        except Denied as error:
            return refuses(error.message)
        except RemitError as error:
            _log.warning("no decision for %s: %s", enforcer.name, error)
            return is_away(error.message)
        return answer_of(told, reason, sender, table)

    async def _ask(self, request: Request, asker: Asker) -> Told:
        """The decision, on disk with many others before it is known here. Raises as `DecisionEngine.decide`."""
        done: asyncio.Future[bytes | BaseException] = asyncio.get_running_loop().create_future()

        def tell(answer: bytes | BaseException) -> None:
            if not done.done():  # who asked may have gone
                done.set_result(answer)

        self.engine.submit(_OURS + _encode(request), lambda _: request, asker, tell)
        answer = await done
        if isinstance(answer, bytes):
            return _decoder.decode(answer)
        if isinstance(answer, RemitError):
            raise answer
        raise Unavailable("access.decisions.lost", "the decision was not recorded")

    def _reason(self, told: Told, request: Request, asker: Asker) -> str:
        """One short sentence: the first thing that would have helped, else the first policy that refused."""
        needed = told.context.reason.needed or self.engine.needed(request, asker)
        if needed:
            return f"needs {needed[0]}"
        return told.context.reason.policies[0].text if told.context.reason.policies else "denied"


def require_enforcer(asker: Asker) -> Enforcer:
    """The registered point that asks. `Denied` (`access.enforcer.unregistered`)."""
    if asker.enforcer is None:
        raise Denied(
            "access.enforcer.unregistered",
            f"`{asker.name}` is no registered enforcement point",
            next_step="have it registered: `remit enforcer add NAME --spiffe-id ID`",
        )
    return asker.enforcer


def answer_of(told: Told, reason: str, sender: Sender, table: Table) -> Answer:
    """What a decision is for a proxy: pass, refuse, or come back with fresher proof."""
    decision, owed = told.context.id, told.context.obligations
    if told.decision:
        left = [f"{each.kind}: {each.detail}" if each.detail else each.kind for each in owed]
        return passes(decision=decision, subject=sender.subject, obligations=left, strip=table.strip)
    wanted = [each for each in owed if each.kind in STEP_UP]
    if wanted and len(wanted) == len(owed) and limit_of(wanted[0]) is not None:
        return steps_up(wanted[0].kind, limit_of(wanted[0]), reason, decision=decision)
    return refuses(reason, decision=decision)


def reason_of(decision: Decision) -> str:
    """One short sentence: the first thing that would have helped, else the first policy that refused."""
    if decision.needed:
        return f"needs {decision.needed[0]}"
    return decision.reasons[0].text if decision.reasons else "denied"


def _unproved(error: RemitError, asked: Forwarded, table: Table) -> Answer:
    if error.code == _UNPROVED and Proof.TOKEN not in table.subjects:
        return refuses(error.message)  # nothing that a header could mend
    dpop = bool(asked.dpop) or any(value.lower().startswith("dpop ") for value in asked.authorization)
    if error.code == _UNPROVED:
        return challenges(error.message)
    said = "invalid_dpop_proof" if error.code.startswith("trust.dpop.") else "invalid_token"
    message = error.message if isinstance(error, Rejected) else "the proof does not count"
    return challenges(message, error=said, dpop=dpop)
