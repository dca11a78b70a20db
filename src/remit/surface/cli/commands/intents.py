"""Commands on intents: what an agent's task may do, asked for by one person and approved by another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import ago, emit, plain, say, show_table

_PATH = "/api/v1/intents"
_COLUMNS = [
    ("task", "task"),
    ("state", "state"),
    ("agent", "agent"),
    ("requested_by", "asked by"),
    ("approver", "approved by"),
    ("expires", "expires"),
    ("id", "id"),
]


def check(file: Path, /, *, where: Listing | None = None) -> None:
    """Check an intent (YAML) without asking for it; says which of its tools nobody has approved yet."""
    where = where or Listing()
    found = where.admin.post(f"{_PATH}/check", {"document": file.read_text(encoding="utf-8")})
    if where.format != "table":
        emit(found, where.format)
        return
    say(f"the intent `{plain(found['task'])}` is well-formed: {len(found['tools'])} tools")
    for name in found["unapproved"]:
        say(f"[yellow]not approved[/yellow] {plain(name)}: `remit gateway tools approve {plain(name)} -- CMD`")


def request(file: Path, /, *, where: Listing | None = None) -> None:
    """Ask for an intent (YAML), signed by you; another person approves it."""
    where = where or Listing()
    found = where.admin.post(_PATH, {"document": file.read_text(encoding="utf-8")}, signed=True)
    if where.format != "table":
        emit(found, where.format)
        return
    say(f"asked for {found['id']} ({plain(found['task'])}); another person: `remit intent approve {found['id']}`")


def approve(
    intent: str,
    /,
    *,
    digest: Annotated[str, Parameter(help="Only if it still has this digest.")] = "",
    where: Listing | None = None,
) -> None:
    """Approve an intent, signed by you: the agent may then do what it says, and no more."""
    where = where or Listing()
    path = f"{_PATH}/{quote(intent, safe='')}"
    shown = where.admin.get(path)
    found = where.admin.post(f"{path}/approve", {"digest": digest or shown["digest"]}, signed=True)
    if where.format != "table":
        emit(found, where.format)
        return
    emit(found["intent"], "yaml")
    say(f"approved {found['id']}, until {plain(found['expires'])}")


def ls(*, where: Listing | None = None) -> None:
    """List intents, newest first."""
    where = where or Listing()
    rows = where.admin.get(_PATH)
    if where.format != "table":
        emit(rows, where.format)
        return
    show_table(rows, _COLUMNS, empty="no intents: `remit intent request FILE`")


def show(intent: str, /, *, where: Listing | None = None) -> None:
    """Show an intent, and what its session has read and used."""
    where = where or Listing()
    found = where.admin.get(f"{_PATH}/{quote(intent, safe='')}")
    if where.format != "table":
        emit(found, where.format)
        return
    say(f"{plain(found['id'])}  {found['state']}  asked by {plain(found['requested_by'])} {ago(found['created'])}")
    emit(found["intent"], "yaml")
    used: dict[str, Any] | None = found["session"]
    if used is not None:
        tainted = ", has read untrusted data" if used["tainted"] else ""
        say(f"session: {used['calls']} calls, {used['bytes']} bytes, read up to {used['label']}{tainted}")
        if used["ended"]:
            say(f"ended: {plain(used['why'])}")


def rm(intent: str, /, *, where: Where | None = None) -> None:
    """End an intent and its session at once, for ever."""
    found = (where or Where()).admin.delete(f"{_PATH}/{quote(intent, safe='')}")
    say(f"ended {plain(found['id'])}")
