"""Asking for an intent, approving it, ending it; approving tools. Each in the ledger, each by a person.

Who asks and who approves are two persons; neither is the agent, which has no key of a person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from remit.access.intent.attenuate import excess
from remit.access.intent.document import WireIntent, make_intent
from remit.access.intent.model import (
    RANK,
    ApprovedTool,
    Intent,
    IntentState,
    Session,
    SessionState,
    StoredIntent,
    ToolClass,
)
from remit.access.intent.ports import IntentUnit
from remit.inventory.model import Sensitivity
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from remit.kernel.unit import Attester

INTENT, TOOL, SESSION = "access.intent", "access.tool", "access.intent.session"
"""What the installation signs each kind of row as."""
MAX_PARENTS: Final = 8
_TOOL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}/[A-Za-z0-9_.:-]{1,128}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def request_intent(
    unit: IntentUnit, wire: WireIntent, *, agent: str, on_behalf_of: str, actor: str, attester: Attester
) -> StoredIntent:
    """Ask for an intent. `agent` is the identity's id.

    Raises `Rejected` (`access.intent.document`, `.pattern`, `.excess`: more than its parent), `NotFound`.
    """
    intent = make_intent(wire, id=unit.new_id("in"), agent=agent, on_behalf_of=on_behalf_of, now=unit.now)
    if intent.parent:
        chain = chain_of(unit, intent.parent, attester)
        if len(chain) >= MAX_PARENTS:
            raise Rejected("access.intent.excess", f"an intent has at most {MAX_PARENTS} above it")
        _require_less(intent, chain[0].intent)
    stored = StoredIntent(intent=intent, state=IntentState.REQUESTED, requested_by=actor, created=unit.now)
    unit.intents.add(stored)
    unit.record("access.intent.requested", actor=actor, subject=intent.id, data=_told(stored))
    return stored


def approve_intent(unit: IntentUnit, intent_id: str, *, digest: str, approver: str, attester: Attester) -> StoredIntent:
    """Take a person's word for exactly this intent.

    Raises `NotFound`, `Conflict` (`access.intent.state`), `Denied`: `access.intent.void` (another digest),
    `access.intent.self` (who asked approves).
    """
    stored = require_intent(unit, intent_id)
    if stored.state is not IntentState.REQUESTED or stored.intent.expires <= unit.now:
        raise Conflict("access.intent.state", f"the intent `{intent_id[:40]}` does not wait for an approval")
    if digest != stored.intent.digest:
        raise Denied(
            "access.intent.void",
            "the approval is not for this intent as it stands",
            next_step=f"read it again: `remit intent show {stored.intent.id}`",
        )
    if not approver.startswith("person:") or approver == stored.requested_by:
        raise Denied(
            "access.intent.self",
            "who asks for an intent does not approve it",
            next_step="ask another registered person",
        )
    if stored.intent.parent:
        _require_less(stored.intent, chain_of(unit, stored.intent.parent, attester)[0].intent)
    approved = replace(stored, state=IntentState.APPROVED, approver=approver, approved=unit.now)
    approved = replace(approved, signature=attester.sign(INTENT, approved.as_json()))
    unit.intents.change(approved)
    unit.record("access.intent.approved", actor=approver, subject=stored.intent.id, data=_told(approved))
    return approved


def end_intent(unit: IntentUnit, intent_id: str, *, actor: str, reason: str) -> StoredIntent:
    """End it and its session for ever, and those of all below it; again is the same."""
    stored = require_intent(unit, intent_id)
    if stored.state is IntentState.ENDED:
        return stored
    ended = replace(stored, state=IntentState.ENDED, reason=reason[:400])
    unit.intents.change(ended)
    unit.record(
        "access.intent.ended",
        actor=actor,
        subject=intent_id,
        data={"reason": reason[:400], "digest": stored.intent.digest},
    )
    return ended


def chain_of(unit: IntentUnit, intent_id: str, attester: Attester) -> list[StoredIntent]:
    """An approved intent and all above it, itself first. `Denied` (`access.intent.not_approved`), `NotFound`."""
    chain: list[StoredIntent] = []
    while intent_id:
        stored = require_intent(unit, intent_id)
        if not is_genuine(stored, attester) or len(chain) > MAX_PARENTS:
            raise Denied(
                "access.intent.not_approved",
                f"the intent `{intent_id[:40]}` is not approved",
                next_step=f"another person approves it: `remit intent approve {intent_id[:40]}`",
            )
        chain.append(stored)
        intent_id = stored.intent.parent
    return chain


def is_genuine(stored: StoredIntent, attester: Attester) -> bool:
    """Whether this installation approved exactly this, and has not ended it."""
    return stored.state is IntentState.APPROVED and attester.verify(INTENT, stored.as_json(), stored.signature)


def require_intent(unit: IntentUnit, intent_id: str) -> StoredIntent:
    """The intent of that id; `NotFound` (`access.intent.unknown`)."""
    stored = unit.intents.intent(intent_id)
    if stored is None:
        raise NotFound(
            "access.intent.unknown", f"no intent is called `{intent_id[:40]}`", next_step="`remit intent ls`"
        )
    return stored


def require_untainted(stored: StoredIntent, others: Sequence[tuple[Intent, Session]]) -> None:
    """Refuse an intent that was approved after its agent, or one above it, had read what is not trusted.

    What somebody asked for by then may be what the data asked for. `Denied` (`access.intent.tainted`).
    """
    assert stored.approved is not None, "an intent that counts was approved"
    above = {stored.intent.parent}
    for intent, session in others:
        concerns = intent.agent == stored.intent.agent or intent.id in above
        tainted = session.state.tainted
        if intent.id != stored.intent.id and concerns and tainted is not None and tainted <= stored.approved:
            raise Denied(
                "access.intent.tainted",
                f"the agent had read untrusted data under `{intent.id}` before this intent was approved",
                next_step=f"end that session first: `remit intent rm {intent.id}`, then ask for a new intent",
            )


def approve_tool(
    unit: IntentUnit,
    *,
    name: str,
    definition: str,
    kind: ToolClass,
    label: Sensitivity,
    clearance: Sensitivity | None,
    trusted: bool,
    actor: str,
    attester: Attester,
) -> ApprovedTool:
    """Believe that a tool of exactly this definition does what a person read; a later one replaces it.

    Without a clearance a tool that writes is cleared for `internal`, and one that sends for `public`.
    Raises `Rejected` (`access.tool.name`, `.definition`).
    """
    if not _TOOL.fullmatch(name):
        raise Rejected("access.tool.name", f"`{name[:80]}` is no SERVER/TOOL", next_step="e.g. mail/send_mail")
    if not _DIGEST.fullmatch(definition):
        raise Rejected("access.tool.definition", "a definition is named by `sha256:` and 64 hex characters")
    usual = {ToolClass.READ: Sensitivity.RESTRICTED, ToolClass.WRITE: Sensitivity.INTERNAL}
    tool = ApprovedTool(
        name=name,
        definition=definition,
        kind=kind,
        label=label,
        clearance=clearance or usual.get(kind, Sensitivity.PUBLIC),
        trusted=trusted,
        approved=unit.now,
        approved_by=actor,
    )
    tool = replace(tool, signature=attester.sign(TOOL, tool.as_json()))
    unit.intents.put_tool(tool)
    unit.record("access.tool.approved", actor=actor, subject=f"tool:{name}", data=tool.as_json())
    return tool


def remove_tool(unit: IntentUnit, name: str, *, actor: str) -> None:
    """Believe it no more. `NotFound` (`access.tool.unknown`)."""
    if not unit.intents.remove_tool(name):
        raise NotFound(
            "access.tool.unknown", f"no tool `{name[:80]}` is approved", next_step="`remit gateway tools ls`"
        )
    unit.record("access.tool.removed", actor=actor, subject=f"tool:{name}", data={"name": name})


def inherited(state: SessionState, parent: SessionState) -> SessionState:
    """A child begins with what the parent has read."""
    label = state.label if RANK[state.label] >= RANK[parent.label] else parent.label
    return replace(state, label=label, tainted=parent.tainted)


def _require_less(child: Intent, parent: Intent) -> None:
    if found := excess(child, parent):
        raise Rejected(
            "access.intent.excess", f"the intent has more than its parent: {found}", next_step="ask for less"
        )


def _told(stored: StoredIntent) -> dict[str, Json]:
    return {"digest": stored.intent.digest, "intent": stored.intent.as_json(), "requested_by": stored.requested_by}
