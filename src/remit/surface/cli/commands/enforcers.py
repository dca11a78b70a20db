"""Commands on enforcement points."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import ago, emit, plain, say, show_table

_COLUMNS = [
    ("name", "name"),
    ("spiffe_id", "SPIFFE ID"),
    ("uid", "uid"),
    ("about", "may ask about"),
    ("fulfils", "fulfils"),
    ("id", "id"),
]


def add(
    name: str,
    /,
    *,
    spiffe_id: Annotated[str, Parameter(help="The SPIFFE ID that proves it.")],
    uid: Annotated[int | None, Parameter(help="Processes of this user are it as well, on Unix sockets.")] = None,
    fulfils: Annotated[
        list[str] | None,
        Parameter(help="Kinds of obligation that it does itself, e.g. step-up,redact.", negative=()),
    ] = None,
    vouches: Annotated[
        list[str] | None,
        Parameter(help="Proven facts that it may state of its requests, e.g. source_address.", negative=()),
    ] = None,
    resources: Annotated[
        list[str] | None,
        Parameter(help="What it may ask about: KIND/NAME, or a prefix ending in `*`. None: everything.", negative=()),
    ] = None,
    actions: Annotated[
        list[str] | None, Parameter(help="Actions, or a prefix such as tool:*. None: every action.", negative=())
    ] = None,
    where: Listing | None = None,
) -> None:
    """Register an enforcement point: it may ask for decisions about others. Signed by you."""
    where = where or Listing()
    body = {
        "name": name,
        "spiffe_id": spiffe_id,
        "uid": uid,
        "fulfils": _parts(fulfils),
        "vouches": _parts(vouches),
        "resources": _parts(resources),
        "actions": _parts(actions),
    }
    found = where.admin.post("/api/v1/enforcers", body, signed=True)
    if where.format != "table":
        emit(found, where.format)
    else:
        _print([found])
        say(f"snapshot key  {plain(found['snapshot_key'])}")


def ls(*, where: Listing | None = None) -> None:
    """List enforcement points."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/enforcers")
    if where.format != "table":
        emit(rows, where.format)
    else:
        _print(rows)


def show(enforcer: str, /, *, where: Listing | None = None) -> None:
    """Show one enforcement point, by its name or id."""
    where = where or Listing()
    found = where.admin.get(f"/api/v1/enforcers/{quote(enforcer, safe='')}")
    if where.format != "table":
        emit(found, where.format)
        return
    _print([found])
    say(f"vouches for   {plain(', '.join(found['vouches']) or 'nothing')}")
    say(f"registered    {ago(found['created'])}, by {plain(found['created_by'])}")
    say(f"snapshot key  {plain(found['snapshot_key'])}")


def rm(enforcer: str, /, *, where: Where | None = None) -> None:
    """Forget an enforcement point: it may ask about nobody but itself, at once."""
    found = (where or Where()).admin.delete(f"/api/v1/enforcers/{quote(enforcer, safe='')}")
    say(f"removed {plain(found['name'])}")


def _parts(given: list[str] | None) -> list[str]:
    """Values may be repeated, or stand together with commas."""
    return [part.strip() for each in given or () for part in each.split(",") if part.strip()]


def _print(rows: list[dict[str, Any]]) -> None:
    shown = [{**row, "about": _about(row), "fulfils": ", ".join(row["fulfils"]), "uid": _uid(row)} for row in rows]
    empty = "no enforcement points: `remit enforcer add NAME --spiffe-id spiffe://…`"
    show_table(shown, _COLUMNS, empty=empty)


def _about(row: dict[str, Any]) -> str:
    return f"{', '.join(row['actions']) or 'any action'} on {', '.join(row['resources']) or 'anything'}"


def _uid(row: dict[str, Any]) -> str:
    return "" if row["uid"] is None else str(row["uid"])
