"""Intents of agents, the tools they may call, and the gateways that ask about each call."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from remit.access.intent.document import make_intent, parse_document
from remit.access.intent.model import ApprovedTool, Session, StoredIntent, ToolCall, ToolClass
from remit.access.model import Decision
from remit.inventory.model import Sensitivity
from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.surface.api.route import Call, Route, Stream
from remit.wiring.intents import TOOL_CALL, GatewayCall

_TAG = "intents"
_PATH = "/api/v1/intents"
_TOOLS = "/api/v1/tools"
_ORIGINS = "argument_origins"
_MAX_SHOWN = 1024


class IntentDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An intent as YAML (`docs/gateways.md`)."""

    document: str


class IntentApproval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The digest of the intent that the approver read."""

    digest: str


class NewTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The definition of a tool that a person read, what it does, and what may flow in and out."""

    name: str
    definition: str
    kind: ToolClass
    label: Sensitivity
    clearance: Sensitivity | None = None
    trusted: bool = False


class Attachment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gateway that begins to serve an intent (its id or task) for one MCP server; `token` proves the agent."""

    intent: str
    server: str
    token: str = ""


class ShownTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    definition: str


class ShownTools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tools that a server shows."""

    server: str
    tools: list[ShownTool]
    token: str = ""


class ToolCallAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call, as the gateway saw it: `origins` are its own records, by JSON pointer."""

    server: str
    epoch: int
    number: int
    tool: str
    definition: str
    arguments: dict[str, Any] = {}
    origins: dict[str, list[str]] = {}
    size: int = 0
    rows: int = 0
    token: str = ""


async def check(call: Call) -> Any:
    wire = parse_document(call.body.document)
    agent = await call.control.resolve(wire.agent)
    made = make_intent(wire, id="", agent=agent, on_behalf_of="", now=call.control.clock.now())
    known = call.control.intents.tools
    return {
        "task": made.task,
        "agent": agent,
        "tools": sorted(made.tools),
        "unapproved": sorted({*made.tools} - {*known}),
    }


async def request(call: Call) -> Any:
    by = call.require_person("asking for an intent")
    wire = parse_document(call.body.document)
    return _shown(await call.control.intents.request(wire, person=by.name, evidence=dict(by.evidence())))


async def approve(call: Call) -> Any:
    by = call.require_person("approving an intent")
    made = await call.control.intents.approve(
        call.path["intent"], digest=call.body.digest, person=by.name, evidence=dict(by.evidence())
    )
    return _shown(made)


async def list_intents(call: Call) -> Any:
    return [_shown(one) for one in await call.control.intents.all(call.integer("limit", 200, most=1000))]


async def show(call: Call) -> Any:
    stored, session = await call.control.intents.show(call.path["intent"])
    return {**_shown(stored), "session": _used(session)}


async def end(call: Call) -> Any:
    ended = await call.control.intents.end(call.path["intent"], actor=call.caller.actor, reason="ended by a person")
    return _shown(ended)


async def list_tools(call: Call) -> Any:
    return [_tool(tool) for tool in call.control.intents.tools.values()]


async def approve_tool(call: Call) -> Any:
    by = call.require_person("approving a tool")
    body: NewTool = call.body
    made = await call.control.intents.approve_tool(
        name=body.name, definition=body.definition, kind=body.kind, label=body.label, clearance=body.clearance,
        trusted=body.trusted, person=by.name, evidence=dict(by.evidence()),
    )  # fmt: skip
    return _tool(made)


async def remove_tool(call: Call) -> Any:
    await call.control.intents.remove_tool(call.path["tool"], actor=call.caller.actor)
    return {"removed": call.path["tool"]}


async def attach(call: Call) -> Any:
    body: Attachment = call.body
    gateway = _gateway(call, body.server)
    if not body.server or len(body.server) > 64 or "/" in body.server:
        raise Rejected("access.intent.server", "a server is named by 1 to 64 characters without `/`")
    agents, proven = await _agents(call, body.token)
    stored, session = await call.control.intents.attach(
        body.intent, server=body.server, gateway=gateway, proven=proven, agents=agents, token=bool(body.token)
    )
    return {**_shown(stored), "epoch": session.gateways[body.server], "session": _used(session)}


async def permitted(call: Call) -> Any:
    body: ShownTools = call.body
    gateway = _gateway(call, body.server)
    if len(body.tools) > _MAX_SHOWN:
        raise Rejected("access.intent.tools", f"a server shows at most {_MAX_SHOWN} tools")
    agent = (await _holder(call, body.token))[0] if body.token else ""
    shown = [(each.name, each.definition) for each in body.tools]
    found = call.control.intents.permitted(call.path["intent"], body.server, shown, gateway=gateway, agent=agent)
    return {"permitted": found}


async def decide(call: Call) -> Any:
    body: ToolCallAsked = call.body
    gateway = _gateway(call, body.server, body.tool)
    seen = {pointer: frozenset(each) for pointer, each in body.origins.items()}
    size = max(body.size, len(msgspec.json.encode(body.arguments)))
    asked = ToolCall(
        tool=body.tool, definition=body.definition, arguments=body.arguments, origins=seen, size=size,
        rows=max(0, body.rows),
    )  # fmt: skip
    agent, proven = ("", None) if not body.token else await _holder(call, body.token)
    if not body.token:
        await call.control.intents.renew(call.path["intent"], body.server, lambda: _agents(call, ""))
    decision = await call.control.intents.call(
        call.path["intent"],
        GatewayCall(server=body.server, epoch=body.epoch, number=body.number, call=asked),
        gateway=gateway,
        agent=agent,
        proven=proven,
    )
    return _answer(decision)


async def watch(call: Call) -> Any:
    lines: AsyncIterator[Any] = call.control.intents.watch(call.path["intent"], gateway=_gateway(call))
    return Stream(lines=lines)


def _gateway(call: Call, server: str = "", tool: str = "") -> str:
    """Who serves it: an administrator's own process, or a point registered for `server` (and the `tool` of it).

    Raises `Denied` (`access.intent.gateway`).
    """
    if call.caller.administrates:
        return call.caller.actor
    enforcer = call.control.enforcers.index.of_spiffe_id(str(call.require_svid().spiffe_id))
    if enforcer is None or not enforcer.covers_action(TOOL_CALL) or _ORIGINS not in enforcer.vouches:
        raise Denied(
            "access.intent.gateway",
            "the caller is no enforcement point that is registered to serve intents",
            next_step=f"`remit enforcer add NAME --spiffe-id ID --actions {TOOL_CALL} --vouches {_ORIGINS}"
            f" --resources 'tool/{server or 'SERVER'}/*'`",
        )
    names = (f"tool/{server}", f"tool/{tool or f'{server}/'}")
    parts = any(each.startswith(f"tool/{server}/") for each in enforcer.resources) and not tool
    if server and not enforcer.covers_resource(names) and not parts:
        raise Denied("access.intent.gateway", f"`{enforcer.name}` is not registered to serve `{server[:64]}`")
    return f"enforcer:{enforcer.name}"


async def _agents(call: Call, token: str) -> tuple[frozenset[str], dict[str, Json]]:
    """Who is proved to be the agent: by its JWT-SVID, or as the process that started the gateway; else nobody."""
    if token:
        agent, proven = await _holder(call, token)
        return frozenset({agent}), proven
    if call.caller.pid is None:
        return frozenset(), {}
    try:
        parent = _parent(call.caller.pid)
        pidfd = os.pidfd_open(parent)
    except (OSError, ValueError, IndexError):
        return frozenset(), {}
    try:
        evidence = await call.control.trust.attest_pid(pidfd, parent)
    except RemitError:
        return frozenset(), {}
    finally:
        os.close(pidfd)
    named = frozenset(entry.identity for entry in call.control.trust.match(evidence) if entry.identity)
    return named, call.control.enforcers.facts_of_evidence(evidence)


async def _holder(call: Call, token: str) -> tuple[str, dict[str, Json]]:
    """The identity that a JWT-SVID proves, and the facts of it."""
    spiffe_id, proven = _proof(call, token)
    return await call.control.resolve(spiffe_id), proven


def _parent(pid: int) -> int:
    status = Path(f"/proc/{pid}/stat").read_bytes()
    return int(status.rpartition(b")")[2].split()[1])


def _proof(call: Call, token: str) -> tuple[str, dict[str, Json]]:
    """The SPIFFE ID of a JWT-SVID for the gateway's audience, and its facts. `Rejected` (`trust.jwt_svid.…`)."""
    claims = call.control.trust.validate_jwt(token, gateway_audience(call))
    facts: dict[str, Json] = {"attested": True, "attestation_method": "jwt-svid", "sender_constraint": ""}
    issued = claims.claims.get("iat")
    if isinstance(issued, int):
        facts["attested_at"] = issued
    return str(claims.spiffe_id), facts


def gateway_audience(call: Call) -> str:
    """The audience of JWT-SVIDs with which agents prove themselves to gateways."""
    return f"{call.control.trust.trust_domain.id}/gateway/mcp"


def _answer(decision: Decision) -> dict[str, Any]:
    first = decision.reasons[0] if decision.reasons else None
    return {
        "decision": decision.id,
        "allowed": decision.allowed,
        "reason": first.id if first is not None else "",
        "text": first.text if first is not None else "",
        "needed": list(decision.needed),
        "obligations": [{"kind": each.kind, "detail": each.detail} for each in decision.obligations],
    }


def _shown(stored: StoredIntent) -> dict[str, Any]:
    intent = stored.intent
    return {
        "id": intent.id,
        "task": intent.task,
        "agent": intent.agent,
        "state": stored.state.value,
        "digest": intent.digest,
        "expires": intent.expires,
        "requested_by": stored.requested_by,
        "created": stored.created,
        "approver": stored.approver,
        "approved": stored.approved,
        "reason": stored.reason,
        "intent": intent.as_json(),
    }


def _used(session: Session | None) -> dict[str, Any] | None:
    return None if session is None else dict(session.as_json())


def _tool(tool: ApprovedTool) -> dict[str, Any]:
    return dict(tool.as_json())


ROUTES = [
    Route(method=method, path=path, summary=summary, handler=handler, body=body, mtls=mtls, tag=_TAG)
    for method, path, summary, handler, body, mtls in (
        ("POST", f"{_PATH}/check", "Check an intent", check, IntentDocument, False),
        ("POST", _PATH, "Ask for an intent", request, IntentDocument, False),
        ("GET", _PATH, "Intents, newest first", list_intents, None, False),
        ("POST", f"{_PATH}/attach", "Serve an intent, as a gateway", attach, Attachment, True),
        ("GET", f"{_PATH}/{{intent}}", "An intent, and what it has used", show, None, False),
        ("POST", f"{_PATH}/{{intent}}/approve", "Approve an intent", approve, IntentApproval, False),
        ("POST", f"{_PATH}/{{intent}}/tools", "Which tools of a server may be called", permitted, ShownTools, True),
        ("POST", f"{_PATH}/{{intent}}/calls", "Decide a call of a tool", decide, ToolCallAsked, True),
        ("POST", f"{_PATH}/{{intent}}/watch", "Follow a session to its end", watch, None, True),
        ("DELETE", f"{_PATH}/{{intent}}", "End an intent at once", end, None, False),
        ("GET", _TOOLS, "Approved tools", list_tools, None, False),
        ("POST", _TOOLS, "Approve the definition of a tool", approve_tool, NewTool, False),
        ("DELETE", f"{_TOOLS}/{{tool:path}}", "Believe a tool no more", remove_tool, None, False),
    )
]
