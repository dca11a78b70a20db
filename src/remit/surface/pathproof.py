"""A path proof for a program and for a page, and the prover that weighs policies in a process of its own."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.governance.pathproof.model import REACH, RULE, Opening, Report, Verdict
from remit.inventory.graph.cuts import Cut
from remit.surface.prover import Prover
from remit.wiring.paths import path_json

if TYPE_CHECKING:
    from remit.access.policy.lifecycle import Weighed

_prover: Final = Prover()
NAMES_SHOWN: Final = 200
_NAMED: Final = 5
CONVERT_COST: Final = 12
"""Moving a login to leases, beside the costs of cuts: more work than a statement, and what uses it goes on."""


async def weigh(text: str, *, invariants: str) -> Weighed:
    """Prove invariants of a policy text. Raises as `Prover.weigh`."""
    return await _prover.weigh(text, invariants=invariants)


def report_json(report: Report) -> dict[str, Any]:
    """Everything of a report; names are cut at `NAMES_SHOWN`, counts are whole."""
    return {
        "scope": report.scope,
        "time": report.now,
        "closed": not report.obstacles,
        "obstacles": list(report.obstacles),
        "counts": dict(report.counts),
        "graph": dict(report.graph),
        "policy": {**msgspec.to_builtins(report.policy), "holds": report.policy.holds},
        "verdicts": [_verdict(each) for each in report.verdicts],
        "guards": msgspec.to_builtins(report.guards[:NAMES_SHOWN]),
        "exceptions": [
            {"id": each.id, "expires": each.expires, "untested": list(each.untested)} for each in report.excuses
        ],
        "bypasses": msgspec.to_builtins(report.bypasses),
        "blind": list(report.blind),
        "refused": list(report.refused),
        "cut_short": report.cut_short,
    }


def _verdict(one: Verdict) -> dict[str, Any]:
    return {
        "status": one.status.value,
        "resources": list(one.resources[:NAMES_SHOWN]),
        "titles": list(one.titles[:NAMES_SHOWN]),
        "number": len(one.resources),
        "decided": one.decided,
        "excepted": one.excepted,
        "open": one.open,
        "conditional": one.conditional,
        "unmeasured": list(one.unmeasured),
        "exceptions": list(one.excuses),
        "openings": [
            {"identity": each.identity, "title": each.title, "kind": each.kind, "conditional": each.conditional,
             "path": path_json(each.path), "close": closing(each, one.resources[0])}
            for each in one.openings
        ],
        "last_steps": [
            {"source": each.edge.source, "relation": each.edge.relation.value, "target": each.edge.target,
             "actions": list(each.edge.actions), "evidence": each.edge.evidence, "cut": each.edge.cut,
             "open": each.openings, "conditional": each.conditional}
            for each in one.last_steps
        ],
        "close": ways_to_close(one),
    }  # fmt: skip


def ways_to_close(one: Verdict) -> list[dict[str, Any]]:
    """How all open ways of a verdict are closed at once, the cheapest first: a cut, leases, and last an exception."""
    if not one.openings:
        return []
    found = _cuts(one.cut)
    logins = [each for each in one.openings if _converts(each)]
    if logins and len(logins) == one.open + one.conditional:
        found.append(_leases(logins))
    return [*sorted(found, key=_cost), _excepted(one, all_cut=bool(found))]


def _excepted(one: Verdict, *, all_cut: bool) -> dict[str, Any]:
    """An exception: where no cut closes everything, for those alone whom none cuts off."""
    left = [] if all_cut else [each for each in one.openings if not _cuts(each.cut)]
    said = _exception([each.identity for each in (left or one.openings)[:_NAMED]], one.resources[0])
    rest = one.open + one.conditional - min(len(left or one.openings), _NAMED)
    return {**said, "note": f"then prove again: {rest} more"} if rest else said


def closing(opening: Opening, resource: str) -> list[dict[str, Any]]:
    """How one open way is closed, the cheapest first."""
    found = _cuts(opening.cut) + ([_leases([opening])] if _converts(opening) else [])
    return [*sorted(found, key=_cost), _exception([opening.identity], resource)]


def _cuts(cut: Cut | None) -> list[dict[str, Any]]:
    if cut is None or not cut.possible or not cut.edges or not cut.stated:
        return []
    words = list(dict.fromkeys(each.price.how for each in cut.edges))
    return [{"how": "cut", "cost": cut.cost, "commands": words[:NAMES_SHOWN], "note": cut.note}]


def _leases(logins: list[Opening]) -> dict[str, Any]:
    commands = [f"remit convert {shlex.quote(each.identity)}" for each in logins]
    return {"how": "leases", "cost": CONVERT_COST * len(logins), "commands": commands,
            "note": "the work goes on, by decisions"}  # fmt: skip


def _exception(identities: list[str], resource: str) -> dict[str, Any]:
    named = " ".join(f"--identity {shlex.quote(each)}" for each in identities)
    command = (
        f"remit exception request --control {RULE} {named} --action {REACH} --resource {shlex.quote(resource)} "
        "--reason … --compensating …"
    )
    note = "nothing is closed: another person answers for it, until it ends"
    return {"how": "exception", "cost": None, "commands": [command], "note": note}


def _cost(way: dict[str, Any]) -> int:
    return int(way["cost"])


def _converts(opening: Opening) -> bool:
    """Whether `remit convert` turns this identity's login into leases."""
    return opening.kind == "database-role" and opening.path.nodes[-1].name.startswith("urn:remit:postgres:")
