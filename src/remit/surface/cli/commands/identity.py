"""Commands on what makes an identity one: why names were joined, splitting and joining by hand."""

from __future__ import annotations

from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import ago, console, emit, plain, say, show_table


def joins(identity: str, /, *, where: Listing | None = None) -> None:
    """Why the names of an identity are one: which names, by what evidence, said by whom, and since when."""
    where = where or Listing()
    found = where.admin.get(f"{path_of(identity)}/joins")
    if where.format != "table":
        emit(found, where.format)
        return
    out = console()
    out.print(f"[bold]{plain(found['identity']['title'])}[/bold]  [dim]{found['identity']['id']}[/dim]")
    for name in found["names"]:
        out.print(f"  {plain(name)}")
    rows = [{**each, "last_seen": ago(each["last_seen"])} for each in found["joins"]]
    columns = [("name", "name"), ("other", "is"), ("how", "by"), ("by", "said by"), ("evidence", "evidence"),
               ("last_seen", "last said")]  # fmt: skip
    show_table(rows, columns, empty="nothing was joined: it has one name, or its names came with it")
    for each in found["apart"]:
        other = each["other"] if each["one"] == found["identity"]["id"] else each["one"]
        say(f"[yellow]kept apart[/yellow] from {plain(other)}: {plain(each['reason'])} ({plain(each['by'])})")


def split(identity: str, name: str, /, *, reason: str, where: Where | None = None) -> None:
    """Take NAME out of an identity: no scan joins the two again. Undo it by `remit identity join`."""
    body = {"name": name, "reason": reason}
    part = (where or Where()).admin.post(f"{path_of(identity)}/split", body, signed=True)
    say(plain(f"{name} is {part['id']}, an identity of its own"))


def join(identity: str, other: str, /, *, reason: str, where: Where | None = None) -> None:
    """Say that two identities are one; the older id stays."""
    body = {"other": other, "reason": reason}
    whole = (where or Where()).admin.post(f"{path_of(identity)}/join", body, signed=True)
    say(plain(f"both are {whole['id']} ({whole['title']})"))
