"""Teams: one person answers for each, and others belong to it. Who belongs decides whose approvals count.

Whoever says it signs it. To let in somebody, or to give a team another lead, takes a reason, and a second person where
there is one, who repeats the very command within a day; to let somebody go takes one. The journal of authority keeps
it: a row of the database alone lets nobody approve.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol

from remit.governance.lifecycle import require_reason
from remit.governance.model import Team, TeamProposal
from remit.governance.people import leave_team, require_person
from remit.governance.ports import GovernanceUnit
from remit.governance.signatures import Approver, confirm
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Denied, Misconfigured, NotFound, Rejected
from remit.kernel.unit import Attester

REGISTERED: Final = "governance.team.registered"
ENDED: Final = "governance.team.ended"
PROPOSED: Final = "governance.team.proposed"
SIGNED_AS: Final = "governance.team.proposal"
WAITS: Final = timedelta(days=1)
MOST_MEMBERS: Final = 200
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9/._-]{0,127}")


class TeamJudgement(Protocol):
    """What counts, by the journal of authority."""

    def people_of(self, team: str) -> tuple[str, ...] | None:
        """The names of who belongs to it, its lead first; `None` where there is no such team."""
        ...

    def is_spent_team(self, proposal: TeamProposal) -> bool:
        """Whether it was put in force, or the team was changed since."""
        ...

    def is_person(self, actor: str) -> bool:
        """Whether `person:NAME` is enrolled and active."""
        ...

    @property
    def person_count(self) -> int:
        """How many persons are enrolled and active."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamMove:
    """What became of a team that was said."""

    team: Team
    """As it is asked for."""
    gains: tuple[str, ...]
    """Who belongs to it, or leads it, and did not before."""
    loses: tuple[str, ...]
    waits: TeamProposal | None = None
    """What waits for a second person; nothing has changed then."""


def look(
    unit: GovernanceUnit, name: str, *, lead: str, members: Iterable[str], judgement: TeamJudgement, by: str
) -> TeamMove:
    """What saying a team would do; nothing is changed.

    Raises `Rejected` (`governance.team.name`, `.members`), `NotFound` (`governance.person.unknown`), `Denied`
    (`governance.owner.inactive`).
    """
    checked = checked_name(name)
    leader = _active(unit, lead, judgement)
    others = sorted({_active(unit, each, judgement) for each in members} - {leader})
    if len(others) > MOST_MEMBERS:
        raise Rejected("governance.team.members", f"a team has at most {MOST_MEMBERS} members besides its lead")
    known, row = judgement.people_of(checked) or (), unit.governance.team(checked)
    # The row is of this very moment, the journal's word may be a commit behind: who is in both was let in, and not out.
    in_row = {row.lead, *row.members} if row is not None and row.active else set()
    led = known[:1] == (leader,) and row is not None and row.lead == leader
    now = (leader, *others)
    gains = {*now} - ({*known} & in_row) | (set() if led else {leader})
    team = Team(name=checked, lead=leader, members=tuple(others), active=True, registered=unit.now, registered_by=by)
    return TeamMove(team=team, gains=tuple(sorted(gains)), loses=tuple(sorted({*known} - {*now})))


def set_team(
    unit: GovernanceUnit, name: str, *, lead: str, members: Iterable[str], by: Approver, reason: str,
    judgement: TeamJudgement, attester: Attester,
) -> TeamMove:  # fmt: skip
    """Say who leads a team and who belongs to it. Said again, it is the same team.

    Raises as `look`, and `Rejected` (`governance.reason.missing`), `Denied` (`governance.team.own`), `Misconfigured`
    (`governance.team.forged`).
    """
    confirm(unit, by)
    actor = f"person:{by.name}"
    move = look(unit, name, lead=lead, members=members, judgement=judgement, by=actor)
    if not move.gains and not move.loses:
        return move
    text = require_reason(reason) if move.gains or reason.strip() else ""
    first: TeamProposal | None = None
    if move.gains and judgement.person_count > 1:
        first = _waiting(unit, move.team, judgement, attester)
        if first is None:
            return replace(move, waits=_propose(unit, move.team, by, text, attester))
        if first.by == actor:
            raise Denied(
                "governance.team.own", "whoever lets somebody into a team does not do it alone",
                next_step=f"another person repeats the command for {move.team.name}, with the same people",
            )  # fmt: skip
    _put(unit, move.team)
    unit.governance.drop_team_proposal(move.team.name)
    unit.record(
        REGISTERED, actor=actor, subject=move.team.actor,
        data={
            "lead": f"person:{move.team.lead}", "members": [f"person:{each}" for each in move.team.members],
            "reason": text, "at": rfc3339(unit.now), "approval": by.evidence(), "proposal": first.id if first else None,
            "proposed_by": first.by if first else None, "proposed_with": dict(first.approval) if first else None,
        },
    )  # fmt: skip
    return move


def end_team(unit: GovernanceUnit, name: str, *, by: Approver, reason: str, judgement: TeamJudgement) -> int:
    """End a team: nobody approves for it any more. Returns how many identities need another owner.

    Raises `NotFound` (`governance.team.unknown`) and `Rejected` (`governance.reason.missing`).
    """
    confirm(unit, by)
    checked, text = checked_name(name), require_reason(reason)
    known = unit.governance.team(checked)
    if known is None or (not known.active and judgement.people_of(checked) is None):
        raise NotFound("governance.team.unknown", f"no team `{checked}` is registered", next_step="`remit team ls`")
    unit.governance.update_team(replace(known, active=False, members=()))
    unit.governance.drop_team_proposal(checked)
    unit.record(
        ENDED, actor=f"person:{by.name}", subject=known.actor,
        data={"lead": f"person:{known.lead}", "reason": text, "at": rfc3339(unit.now), "approval": by.evidence()},
    )  # fmt: skip
    return leave_team(unit, known)


def waiting(unit: GovernanceUnit, team: str, judgement: TeamJudgement, attester: Attester) -> TeamProposal | None:
    """What waits for a second person; what gives nothing, or was changed outside Remit, is shown to nobody."""
    found = unit.governance.team_proposal(team)
    if found is None or not _is_open(unit, found, judgement) or not _is_genuine(found, team, attester):
        return None
    return found


def checked_name(name: str) -> str:
    """A team's name as it is kept; `Rejected` (`governance.team.name`)."""
    word = name.strip().lower().removeprefix("team:").removeprefix("@")
    if _NAME.fullmatch(word) is None:
        raise Rejected("governance.team.name", "a team's name is 1–128 of a–z, 0–9, `/`, `.`, `_`, `-`")
    return word


def _active(unit: GovernanceUnit, name: str, judgement: TeamJudgement) -> str:
    person = require_person(unit, name)
    if not person.active or not judgement.is_person(person.actor):
        raise Denied("governance.owner.inactive", f"`{person.name}` is inactive and belongs to no team")
    return person.name


def _put(unit: GovernanceUnit, team: Team) -> None:
    if unit.governance.team(team.name) is None:
        unit.governance.add_team(team)
    else:
        unit.governance.update_team(team)


def _is_open(unit: GovernanceUnit, found: TeamProposal, judgement: TeamJudgement) -> bool:
    in_time = unit.now - found.at <= WAITS
    return in_time and judgement.is_person(found.by) and not judgement.is_spent_team(found)


def _is_genuine(found: TeamProposal, team: str, attester: Attester) -> bool:
    return found.team == team and attester.verify(SIGNED_AS, found.content(), found.signature)


def _waiting(unit: GovernanceUnit, team: Team, judgement: TeamJudgement, attester: Attester) -> TeamProposal | None:
    """The proposal of the very same team that another can put in force."""
    found = unit.governance.team_proposal(team.name)
    if found is None or (found.lead, found.members) != (team.lead, team.members):
        return None
    if not _is_open(unit, found, judgement):
        return None
    if not _is_genuine(found, team.name, attester):
        raise Misconfigured(
            "governance.team.forged", f"the proposal for the team `{team.name}` was changed outside Remit",
            next_step="look who writes into the database; say other people to replace it",
        )  # fmt: skip
    return found


def _propose(unit: GovernanceUnit, team: Team, by: Approver, reason: str, attester: Attester) -> TeamProposal:
    made = TeamProposal(
        id=unit.new_id("tp"), team=team.name, lead=team.lead, members=team.members, reason=reason,
        by=f"person:{by.name}", at=unit.now, approval=by.evidence(),
    )  # fmt: skip
    signed = replace(made, signature=attester.sign(SIGNED_AS, made.content()))
    unit.governance.propose_team(signed)
    unit.record(PROPOSED, actor=made.by, subject=team.actor, data=made.content())
    return signed
