"""The control plane's side of HTTP gateways: who sends a request, may it, and the secret that goes with it.

    POST /enforce/v1/gateway/ask      one request: proof, action, resource, and the secret that its route injects
    POST /enforce/v1/gateway/still    which of the permits that a gateway still serves have ended, and why

Answered to registered enforcement points alone, on `DIR/enforce.sock` and by mutual TLS. The subject is found here,
from proof; a gateway states none. What is permitted is remembered with its proof for as long as the gateway asks about
it, so that a quarantine, a revocation, or another policy ends streams that run.
"""

from __future__ import annotations

import base64
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.access.enforcers.model import Asker, Enforcer
from remit.access.model import Entity, Request
from remit.client.enforce.answers import STEP_UP, Answer, challenges, is_away, refuses, steps_up
from remit.client.enforce.paths import canonical_path
from remit.kernel.errors import Denied, NotFound, Rejected, RemitError, Unavailable
from remit.surface.enforcers.forwarded import MAX_CERTIFICATES, Client, Forwarded, checked
from remit.surface.enforcers.gate import reason_of, require_enforcer
from remit.surface.enforcers.subjects import Proofs, Sender, Subjects
from remit.surface.enforcers.tables import Proof, Proxy, Table
from remit.trust.process import peer_of_pid
from remit.trust.tokens.present import kind_of
from remit.wiring.secrets import INJECTS, lend

if TYPE_CHECKING:
    from remit.access.model import Decision
    from remit.wiring import ControlPlane

PREFIX: Final = "/enforce/v1/gateway/"
ASK, STILL = PREFIX + "ask", PREFIX + "still"
LEND_SECONDS: Final = 5
"""For how long a gateway may begin to use a secret that it got."""
_REMEMBERED: Final = 65_536
_AT_ONCE: Final = 4096


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process of this machine, as the kernel named it to the gateway."""

    pid: int
    start_ticks: int


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request at a gateway; of the proofs the first that is there counts: token, certificate, process."""

    method: str
    host: str
    target: str
    action: str
    kind: str
    name: str
    scheme: str = "http"
    audience: str = ""
    authorization: list[str] = []
    dpop: list[str] = []
    chain: list[str] = []
    """Base64 of DER certificates, leaf first, of the gateway's own handshake."""
    process: Process | None = None
    secret: str = ""
    """What its route injects."""

    def __repr__(self) -> str:
        return f"Ask({self.method!r}, {self.action!r}, {self.kind!r}, {self.name!r})"


class Still(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ids of decisions whose requests are under way."""

    flows: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    gateway: str
    request: Request
    asked: Ask = field(repr=False)


class Counter:
    """Answers gateways. Belongs to the event loop."""

    def __init__(self, control: ControlPlane, subjects: Subjects, proofs: Proofs) -> None:
        self._control = control
        self._subjects = subjects
        self._proofs = proofs
        self._flows: OrderedDict[str, _Flow] = OrderedDict()

    async def serve(self, path: str, raw: bytes, asker: Asker, state: Mapping[str, Any]) -> dict[str, Any]:
        """As `answer`; a secret is not given over a connection that somebody on the way could read."""
        if state.get("svid") is None and state.get("peer") is None:
            raise Denied(
                "surface.gateway.channel",
                "gateways ask over `enforce.sock` or by mutual TLS",
                next_step="run `remit gateway http` on this machine, or give it `--server`",
            )
        return await self.answer(path, raw, asker, local=state.get("svid") is None)

    async def answer(self, path: str, raw: bytes, asker: Asker, *, local: bool) -> dict[str, Any]:
        """The answer to one question; only a gateway of this machine (`local`) can name a process of it.

        `Denied` to who is no registered point, `Rejected`, `NotFound`."""
        enforcer = require_enforcer(asker)
        try:
            if path == ASK:
                asked = msgspec.json.decode(raw, type=Ask)
                if asked.process is not None and not local:
                    raise Rejected("surface.gateway.elsewhere", "a process of another machine proves nothing here")
                return await self._ask(asked, asker, enforcer)
            if path == STILL:
                return await self._still(msgspec.json.decode(raw, type=Still), asker, enforcer)
        except msgspec.DecodeError as error:
            raise Rejected("surface.body.invalid", f"the body is not what this operation takes: {error}") from None
        raise NotFound("surface.path.unknown", "no such path")

    async def _ask(self, asked: Ask, asker: Asker, enforcer: Enforcer) -> dict[str, Any]:
        try:
            sender = await self._sender(asked, enforcer)
            request = Request(
                subject=Entity(type="identity", id=sender.subject),
                action=asked.action,
                resource=Entity(type=asked.kind, id=asked.name),
                claimed={"method": asked.method, "path": _path(asked)},
                proven=sender.facts,
            )
            decision = await self._control.desk.decide(request, asker)
        except Unavailable as error:
            return _shown(is_away(error.message))
        except RemitError as error:
            return _shown(_unproved(error, asked))
        answer = _answer_of(decision, sender, injects=bool(asked.secret))
        if not answer.allowed:
            return _shown(answer)
        lent: dict[str, Any] = {}
        if asked.secret:
            try:
                value = await lend(self._control, asked.secret, decision, enforcer, subject=sender.subject)
            except Unavailable as error:
                return _shown(is_away(error.message))
            except RemitError as error:
                return _shown(refuses(error.message, decision=decision.id))
            lent = {"secret": value.decode("ascii"), "seconds": LEND_SECONDS}
        self._remember(decision.id, _Flow(gateway=enforcer.name, request=request, asked=asked))
        return {**_shown(answer), **lent}

    # What is still permitted.

    async def _still(self, asked: Still, asker: Asker, enforcer: Enforcer) -> dict[str, Any]:
        if len(asked.flows) > _AT_ONCE:
            raise Rejected("surface.body.invalid", f"at most {_AT_ONCE} flows are asked about at once")
        ended: dict[str, str] = {}
        for name in asked.flows:
            flow = self._flows.get(name)
            if flow is None or flow.gateway != enforcer.name:
                ended[name] = "the control plane does not know of it"
                continue
            try:
                holds = await self._holds(flow, asker)
            except Unavailable:
                raise
            except RemitError as error:
                ended[name] = error.message
            else:
                if not holds:
                    ended[name] = "it is permitted no more"
            if name in ended:
                self._flows.pop(name, None)
            else:
                self._flows.move_to_end(name)
        return {"ended": ended}

    async def _holds(self, flow: _Flow, asker: Asker) -> bool:
        asked = flow.asked
        if asked.authorization:
            token = asked.authorization[0].partition(" ")[2]
            if kind_of(token) is None:
                self._proofs.jwt_svid(token, asked.audience)
            elif await self._proofs.standing(token) is None:
                raise Denied("surface.enforcer.token", "the access token counts no more")
        elif asked.chain:
            self._proofs.svid(_chain(asked))
        return self._control.desk.would_allow(flow.request, asker)

    def _remember(self, name: str, flow: _Flow) -> None:
        if len(self._flows) >= _REMEMBERED:
            self._flows.popitem(last=False)
        self._flows[name] = flow

    # Who it is.

    async def _sender(self, asked: Ask, enforcer: Enforcer) -> Sender:
        if asked.authorization or asked.chain:
            proofs = frozenset({Proof.TOKEN, Proof.CERTIFICATE})
            forwarded = checked(
                Forwarded(
                    method=asked.method, host=asked.host, target=asked.target,
                    authorization=tuple(asked.authorization), dpop=tuple(asked.dpop),
                    client=Client(chain=_chain(asked)),
                )
            )  # fmt: skip
            table = Table(proxy=Proxy.ENVOY, subjects=proofs, scheme=asked.scheme)
            return await self._subjects.find(forwarded, table, enforcer, audience=asked.audience)
        if asked.process is not None:
            return await self._of_process(asked.process)
        raise Rejected("surface.enforcer.proof", "the request brings no proof of who sends it")

    async def _of_process(self, process: Process) -> Sender:
        """The registered workload that a process of this machine is, attested now."""
        try:
            pidfd = os.pidfd_open(process.pid)
        except (OSError, OverflowError):
            raise _stranger(process) from None
        try:
            peer = peer_of_pid(pidfd, process.pid)
        finally:
            os.close(pidfd)
        with peer:
            if peer.start_ticks != process.start_ticks:
                raise _stranger(process)
            evidence = await self._control.trust.attest(peer)
        # Not the oldest that is admitted: a program whose identity is out of service does not go on as another.
        entries = self._control.trust.registered(evidence)
        if not entries:
            raise _stranger(process)
        facts = self._control.enforcers.facts_of_evidence(evidence)
        return Sender(subject=str(entries[0].spiffe_id), facts=facts)


def _answer_of(decision: Decision, sender: Sender, *, injects: bool) -> Answer:
    """What a decision is for a gateway: it does no obligation but that a secret is injected."""
    done = {INJECTS} if injects else set()
    left = {each.kind for each in decision.obligations} - done
    if decision.allowed and not left:
        return Answer(allowed=True, status=200, decision=decision.id, subject=sender.subject)
    if decision.allowed:
        kinds = ", ".join(sorted(left))
        return refuses(f"the permit asks for what this gateway does not do: {kinds}", decision=decision.id)
    first = decision.obligations[0] if decision.obligations else None
    if first is not None and {each.kind for each in decision.obligations} <= STEP_UP and first.detail.isdecimal():
        return steps_up(first.kind, int(first.detail), reason_of(decision), decision=decision.id)
    return refuses(reason_of(decision), decision=decision.id)


def _unproved(error: RemitError, asked: Ask) -> Answer:
    if error.code in ("surface.enforcer.proof", "surface.enforcer.audience") and asked.audience:
        return challenges(error.message)
    if asked.authorization and isinstance(error, Rejected):
        said = "invalid_dpop_proof" if error.code.startswith("trust.dpop.") else "invalid_token"
        return challenges(error.message, error=said, dpop=bool(asked.dpop))
    return refuses(error.message)


def _shown(answer: Answer) -> dict[str, Any]:
    return {
        "allowed": answer.allowed,
        "status": answer.status,
        "reason": answer.reason,
        "decision": answer.decision,
        "subject": answer.subject,
        "headers": dict(answer.headers) if not answer.allowed else {},
    }


def _path(asked: Ask) -> str:
    return canonical_path(asked.target) if asked.target.startswith("/") else asked.target[:512]


def _chain(asked: Ask) -> tuple[bytes, ...]:
    if len(asked.chain) > MAX_CERTIFICATES:
        raise Rejected("surface.enforcer.certificate", "the chain of the client is too long")
    try:
        return tuple(base64.b64decode(one, validate=True) for one in asked.chain)
    except ValueError:
        raise Rejected("surface.enforcer.certificate", "the chain of the client is no base64") from None


def _stranger(process: Process) -> Rejected:
    return Rejected(
        "surface.gateway.stranger",
        f"process {process.pid} is no registered workload",
        next_step="register it: `remit entry create`",
    )
