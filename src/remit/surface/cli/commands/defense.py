"""Commands on containment and incidents."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import clock, emit, plain, say, show_table


def quarantine(
    identity: str,
    /,
    *,
    reason: str = "quarantined by hand",
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what would stop; change nothing.")] = False,
    where: Listing | None = None,
) -> None:
    """Deny an identity everything and revoke its leases;
    returns when the decision point has it and each lease is settled.
    """
    where = where or Listing()
    answer: dict[str, Any] = where.admin.post(
        f"{path_of(identity)}/quarantine", {"reason": reason, "dry_run": dry_run}, signed=not dry_run
    )
    if where.format != "table":
        emit(answer, where.format)
        return
    if dry_run:
        say("[bold]dry run[/bold]: nothing was changed; a quarantine would")
    for effect in answer["effects"]:
        say(f"  {plain(effect['kind'])}: {plain(effect['text'])}")
    if dry_run:
        show_dependents(answer)
    else:
        show_table(
            answer["dependants"], [("title", "depends on it"), ("why", "how")], empty="nothing is known to depend on it"
        )
        say(f"quarantined; undo with `remit release {plain(identity)}`")
    if answer.get("open"):
        say("[yellow]not all of it is contained yet[/yellow]; `remit leases` shows what is open")
        sys.exit(1)


def release(identity: str, /, *, reason: str = "the cause is closed", where: Where | None = None) -> None:
    """Let a quarantined identity work again. Needs a registered person; leases are not brought back."""
    (where or Where()).admin.post(f"{path_of(identity)}/release", {"reason": reason}, signed=True)
    say(f"released {plain(identity)}")


def incidents(*, limit: int = 30, where: Listing | None = None) -> None:
    """What was detected, what was done, and how long it took."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/incidents", limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("opened", "when (UTC)"),
        ("severity", "severity"),
        ("title", "what"),
        ("status", "status"),
        ("contained_in", "contained in"),
        ("id", "id"),
    ]
    show_table([{**row, "opened": clock(row["opened"])} for row in rows], columns, empty="no incidents")
