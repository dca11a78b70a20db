"""How much of what there is do we see?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from remit.surface.cli.options import Listing
from remit.surface.cli.output import ago, console, emit, plain, say, show_table


def coverage(
    *,
    blind: Annotated[bool, Parameter(help="Also what each connector in use cannot see.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """How much is seen: systems that are named and not read, what sources could not show, and blind spots."""
    where = where or Listing()
    found = where.admin.get("/api/v1/coverage")
    if where.format != "table":
        emit(found, where.format)
        return
    out = console()
    out.print(
        f"[bold]{found['share_of_systems']} %[/bold] of the systems that something names are read "
        f"({found['systems_covered']} of {found['systems']}); "
        f"[bold]{found['share_of_identities']} %[/bold] of the identities are shown by their own system "
        f"({found['identities_of_record']:,} of {found['identities']:,})"
    )
    rows = [
        {**each, "connect": ", ".join(f"remit discover {name}" for name in each["connectors"]) or "no connector"}
        for each in found["uncovered"][:30]
    ]
    if rows:
        out.print("\n[bold]named, and not read[/bold]")
        columns = [("system", "system"), ("instance", "instance"), ("names", "names"), ("connect", "would read it")]
        show_table(rows, columns)
    if len(found["uncovered"]) > len(rows):
        say(f"[dim]{len(found['uncovered']) - len(rows)} more: --format json[/dim]")
    lacking = [each for each in found["sources"] if each["skipped"] or each["stale"]]
    if lacking:
        out.print("\n[bold]sources that did not show everything[/bold]")
        for each in lacking:
            each["read"] = ago(each["read"]) if each["read"] else "never whole"
            each["why"] = ", ".join(f"{count} {reason}" for reason, count in each["reasons"].items())
        columns = [
            ("connector", "connector"),
            ("scope", "scope"),
            ("read", "read"),
            ("skipped", "not seen"),
            ("why", "why"),
        ]
        show_table(lacking, columns)
    if found["unknown_in_logs"]:
        out.print("\n[bold]in logs, and known to nothing else[/bold]")
        for each in found["unknown_in_logs"][:20]:
            out.print(plain(each), highlight=False)
    if blind and found["blind"]:
        out.print("\n[bold]what connectors cannot see[/bold]")
        show_table(found["blind"], [("connector", "connector"), ("what", "what"), ("why", "why")])
    elif found["blind"]:
        say(f"[dim]{len(found['blind'])} blind spots of the connectors in use: `remit coverage --blind`[/dim]")
