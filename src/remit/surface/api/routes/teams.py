"""Who belongs together? Teams: who leads each, and who else may approve for it."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.governance import teams
from remit.kernel.clock import rfc3339
from remit.surface.api.route import Call, Route

_TAG = "governance"


class NewTeam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team: who answers for it, and who else belongs to it. `dry_run` changes nothing."""

    name: str
    lead: str
    members: list[str] = []
    reason: str = ""
    dry_run: bool = False


class EndTeam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: str


async def list_teams(call: Call) -> Any:
    control = call.control

    def read(unit: Any) -> list[dict[str, Any]]:
        rows, after = [], ""
        while page := unit.governance.teams(after=after):
            rows += [_row(control, unit, team.name, team) for team in page]
            after = page[-1].name
        known = {each["name"] for each in rows}
        fresh = [each.team for each in unit.governance.team_proposals() if each.team not in known]
        return [*rows, *(row for name in fresh if (row := _row(control, unit, name, None))["waiting"])]

    return await control.store.read(read)


def _row(control: Any, unit: Any, name: str, team: Any) -> dict[str, Any]:
    known = control.standing.people_of(name)
    waits = teams.waiting(unit, name, control.standing, control.keys)
    return {
        "name": name, "lead": known[0] if known else None, "members": list(known[1:]) if known else [],
        "active": known is not None, "registered": team.registered if team else None,
        "registered_by": team.registered_by if team else "", "waiting": _waits(waits),
    }  # fmt: skip


async def set_team(call: Call) -> Any:
    body: NewTeam = call.body
    control = call.control
    if body.dry_run:
        actor = f"person:{call.caller.approver.name}" if call.caller.approver else ""
        move = await control.store.read(
            lambda unit: teams.look(
                unit, body.name, lead=body.lead, members=body.members, judgement=control.standing, by=actor
            )
        )
        return {**_move(move), "dry_run": True, "four_eyes": bool(move.gains) and control.standing.person_count > 1}
    by = call.require_person("to say who belongs to a team")
    move = await control.store.write(
        lambda unit: teams.set_team(
            unit, body.name, lead=body.lead, members=body.members, by=by, reason=body.reason,
            judgement=control.standing, attester=control.keys,
        )
    )  # fmt: skip
    await control.synchronise()
    return {**_move(move), "dry_run": False, "four_eyes": move.waits is not None}


async def end_team(call: Call) -> Any:
    body: EndTeam = call.body
    by = call.require_person("to end a team")
    control = call.control
    orphans = await control.store.write(
        lambda unit: teams.end_team(unit, call.path["team"], by=by, reason=body.reason, judgement=control.standing)
    )
    await control.synchronise()
    return {"team": teams.checked_name(call.path["team"]), "orphans": orphans}


def _move(move: teams.TeamMove) -> dict[str, Any]:
    team = move.team
    return {
        "name": team.name, "lead": team.lead, "members": list(team.members), "gains": list(move.gains),
        "loses": list(move.loses), "waiting": _waits(move.waits),
    }  # fmt: skip


def _waits(proposal: Any) -> dict[str, Any] | None:
    if proposal is None:
        return None
    return {
        "lead": proposal.lead, "members": list(proposal.members), "by": proposal.by, "reason": proposal.reason,
        "until": rfc3339(proposal.at + teams.WAITS),
    }  # fmt: skip


ROUTES = [
    Route(method="GET", path="/api/v1/teams", summary="Teams, who leads each, and who belongs to it",
          handler=list_teams, tag=_TAG),
    Route(method="POST", path="/api/v1/teams", summary="Say who leads a team and who belongs to it; signed by a person",
          handler=set_team, body=NewTeam, tag=_TAG),
    Route(method="POST", path="/api/v1/teams/{team:path}/end", summary="End a team; signed by a person",
          handler=end_team, body=EndTeam, tag=_TAG),
]  # fmt: skip
