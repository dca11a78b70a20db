"""`remit team`: who leads a team, and who belongs to it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table

_PATH = "/api/v1/teams"


def team_set(
    name: str,
    /,
    *,
    lead: Annotated[str, Parameter(help="The person who answers for it.")],
    member: Annotated[list[str] | None, Parameter(help="A person who belongs to it; repeat it.", negative=())] = None,
    reason: Annotated[str, Parameter(help="Why; needed where somebody is let in.")] = "",
    dry_run: Annotated[bool, Parameter(help="Say what would change; change nothing.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Say who leads a team and who belongs to it, all of them. Signed by you; letting in takes a second person."""
    where = where or Listing()
    body = {"name": name, "lead": lead, "members": member or [], "reason": reason, "dry_run": dry_run}
    found = where.admin.post(_PATH, body, signed=not dry_run)
    if where.format != "table":
        emit(found, where.format)
    else:
        _tell(found)


def _tell(found: dict[str, Any]) -> None:
    if not found["gains"] and not found["loses"]:
        say(f"nothing changes: {plain(found['name'])} is led by {plain(found['lead'])}")
        return
    for verb, names in (("gains", found["gains"]), ("loses", found["loses"])):
        if names:
            say(f"  {verb} {plain(', '.join(names))}")
    if found["dry_run"]:
        say("[bold]dry run[/bold]: nothing was changed" + (", and it takes two persons" if found["four_eyes"] else ""))
    elif waits := found["waiting"]:
        say(f"waits for a second person, who repeats this command before {waits['until']}")
    else:
        say(f"{plain(found['name'])} is led by {plain(found['lead'])}, with {len(found['members'])} others")


def team_ls(*, where: Listing | None = None) -> None:
    """List teams with who leads each and who belongs to it, and what waits for a second person."""
    where = where or Listing()
    rows = where.admin.get(_PATH)
    if where.format != "table":
        emit(rows, where.format)
        return
    shown = [
        {**each, "members": ", ".join(each["members"]), "waits": _waits(each["waiting"]),
         "lead": each["lead"] or ("nobody: it ended" if each["registered"] else "nobody yet")}
        for each in rows
    ]  # fmt: skip
    columns = [("name", "team"), ("lead", "lead"), ("members", "members"), ("registered", "since"), ("waits", "waits")]
    show_table(shown, columns, empty="no team is registered: `remit team set NAME --lead PERSON`")


def _waits(waiting: dict[str, Any] | None) -> str:
    if waiting is None:
        return ""
    people = ", ".join([waiting["lead"], *waiting["members"]])
    return f"{people}: asked by {waiting['by'].removeprefix('person:')}, until {waiting['until']}"


def team_rm(
    name: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why.")],
    where: Listing | None = None,
) -> None:
    """End a team: nobody approves for it any more, and what it owned needs another owner. Signed by you."""
    where = where or Listing()
    found = where.admin.post(f"{_PATH}/{quote(name, safe='')}/end", {"reason": reason}, signed=True)
    if where.format != "table":
        emit(found, where.format)
        return
    said = f"; {found['orphans']} identities need another owner: `remit people orphans`" if found["orphans"] else ""
    say(f"{plain(found['team'])} has ended{said}")
