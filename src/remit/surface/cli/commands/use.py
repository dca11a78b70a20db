"""Who uses an identity."""

from __future__ import annotations

from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.options import Listing
from remit.surface.cli.output import console, emit, plain, say, show_table
from remit.surface.cli.sparkline import sparkline


def use(identity: str, /, *, where: Listing | None = None) -> None:
    """Who uses it: last use, a line of days, consumers and environments, from the logs that were read."""
    where = where or Listing()
    found = where.admin.get(f"{path_of(identity)}/use")
    if where.format != "table":
        emit(found, where.format)
        return
    if not found["measured"]:
        say("not measured: no log was read that would show its use; read one with `remit discover use LOG`")
        return
    out = console()
    out.print(f"last used {plain(found['last'] or 'never')}, {found['count']:,} uses, {found['failures']:,} refused")
    if window := found["window"]:
        since, until = plain(window["since"])[:10], plain(window["until"])[:10]
        out.print(f"the log of {plain(window['system'])} {plain(window['instance'])} tells from {since} to {until}")
    out.print(f"{sparkline(found['days'])}  the last {len(found['days'])} days", highlight=False)
    if found["environments"]:
        out.print(f"environments: {plain(', '.join(found['environments']))}")
    if found["people"]:
        out.print(f"[yellow]by a person:[/yellow] {plain(', '.join(found['people']))}")
    show_table(found["consumers"], [("consumer", "consumer"), ("count", "uses")], empty="no consumer was told")
