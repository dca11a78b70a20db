"""The console's pages on intents: what agents' tasks may do, what sessions have read and used, what was refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from remit.access.intent.model import Constraint, Intent, Session, StoredIntent
from remit.surface.api.route import Call
from remit.surface.console.render import page
from remit.surface.views import decision_row, with_titles

if TYPE_CHECKING:
    from remit.surface.context import Surface

_LOOKED_AT = 500
"""Decisions that are looked through for those of one intent."""
_MILLION = 1_000_000


async def overview(surface: Surface, call: Call) -> Response:
    """Intents, newest first, and the tools that persons approved."""
    rows = await surface.control.intents.all(200)
    known = await _titles(surface, rows)
    tools = sorted(surface.control.intents.tools.values(), key=lambda each: each.name)
    return page("intents.html", here="/intents", rows=rows, known=known, tools=tools)


async def intent(surface: Surface, call: Call) -> Response:
    """One intent as it is approved, read alone, with its session, its chain, and its latest refusals."""
    stored, session = await surface.control.intents.show(call.path["intent"])
    rows = await surface.control.intents.all(1000)
    by_id = {one.intent.id: one for one in rows}
    above: list[StoredIntent] = []
    at = stored.intent.parent
    while at in by_id and len(above) < 9:
        above.append(by_id[at])
        at = by_id[at].intent.parent
    calls = await _calls(surface, stored.intent.id)
    known = await _titles(surface, [stored])
    return page(
        "intent.html",
        here="/intents",
        s=stored,
        i=stored.intent,
        who=known.get(stored.intent.agent, stored.intent.agent),
        above=above,
        below=[one for one in rows if one.intent.parent == stored.intent.id],
        tools=[_tool(name, stored.intent) for name in sorted(stored.intent.tools)],
        used=_used(stored.intent, session),
        session=session,
        calls=calls,
    )


async def _titles(surface: Surface, rows: Sequence[StoredIntent]) -> dict[str, str]:
    """Identity → its title: people do not read ids."""
    ids = {one.intent.agent for one in rows}
    found = await surface.control.store.read(lambda unit: unit.inventory.identities(ids))
    return {each: found[each].title for each in ids if each in found}


async def _calls(surface: Surface, intent_id: str) -> list[dict[str, Any]]:
    records = await surface.control.latest_decisions(limit=_LOOKED_AT)
    mine = [each for each in records if (each["facts"].get("intent") or {}).get("id") == intent_id]
    shown = await with_titles(surface.control, mine[:50])
    return [{**decision_row(each), "i": each["facts"]["intent"], "refused": not each["allowed"]} for each in shown]


def _tool(name: str, intent: Intent) -> dict[str, Any]:
    rule = intent.tools[name]
    arguments = [
        {"name": each, "required": each in rule.arguments.required, "text": ", ".join(_words(constraint))}
        for each, constraint in rule.arguments.properties.items()
    ]
    return {"name": name, "arguments": arguments, "calls": rule.calls, "clearance": rule.clearance}


def _words(one: Constraint) -> list[str]:
    """What a constraint admits, in a few words."""
    found = [one.kind] if one.kind else []
    found += [f"one of {', '.join(str(each) for each in one.enum[:8])}"] if one.enum else []
    found += [f"like {one.pattern}"] if one.pattern else []
    found += [f"from {one.minimum}"] if one.minimum is not None else []
    found += [f"to {one.maximum}"] if one.maximum is not None else []
    found += [f"at most {one.max_length} long"] if one.max_length is not None else []
    return found + ([f"out of {' or '.join(sorted(one.origins))}"] if one.origins is not None else [])


def _used(intent: Intent, session: Session | None) -> list[tuple[str, str, str]]:
    """What of the budget is used: name, used, most."""
    state, budget = (session.state if session is not None else None), intent.budget
    rows: list[tuple[str, float, float | None]] = [
        ("calls", state.calls if state else 0, budget.calls),
        ("bytes", state.bytes if state else 0, budget.bytes),
        ("rows", state.rows if state else 0, budget.rows),
        ("amount", state.amount / _MILLION if state else 0, budget.amount),
    ]
    return [(name, f"{used:,g}", f"{most:,g}") for name, used, most in rows if most is not None]
