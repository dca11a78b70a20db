"""Commands that show what exists."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Scanning
from remit.surface.cli.output import ago, console, emit, plain, say, show_table, visible
from remit.surface.places import short_place


def path_of(identity: str) -> str:
    """The API path of an identity by id or name."""
    return f"/api/v1/identities/{quote(identity, safe='')}"


def ls(
    text: str = "",
    /,
    *,
    kind: str = "",
    system: str = "",
    state: str = "",
    environment: str = "",
    owner: str = "",
    unowned: Annotated[bool, Parameter(negative=())] = False,
    privileged: Annotated[bool, Parameter(negative=())] = False,
    exposed: Annotated[bool, Parameter(negative=(), help="With a secret outside a manager.")] = False,
    gone: Annotated[bool, Parameter(negative=(), help="Also what no source shows any more.")] = False,
    sort: Annotated[str, Parameter(help="A field; a leading - for descending.", allow_leading_hyphen=True)] = "title",
    limit: int = 50,
    where: Listing | None = None,
) -> None:
    """List identities. `--format json` gives one array with every identity and credential that matches."""
    where = where or Listing()
    filters = {"text": text, "kind": kind, "system": system, "state": state, "environment": environment,
               "owner": owner, "unowned": int(unowned), "privileged": int(privileged), "exposed": int(exposed),
               "gone": int(gone)}  # fmt: skip
    narrowed = any(value for key, value in filters.items() if key != "gone")
    if where.format != "table" and not narrowed:
        emit(where.admin.get("/api/v1/inventory", gone=int(gone)), where.format)
        return
    found = where.admin.get("/api/v1/identities", **filters, sort=sort, limit=min(limit, 1000))
    if where.format != "table":
        emit(found["rows"], where.format)
        return
    columns = [
        ("title", "identity"),
        ("kind", "kind"),
        ("system", "system"),
        ("environment", "environment"),
        ("owner", "owner"),
        ("state", "state"),
        ("last_used", "last used"),
        ("id", "id"),
    ]
    show_table(found["rows"], columns, empty="nothing matches; `remit discover files .` looks for more")
    if found["total"] > len(found["rows"]):
        say(f"[dim]{len(found['rows'])} of {found['total']:,}; --limit shows more[/dim]")


def show(identity: str, /, *, where: Listing | None = None) -> None:
    """Everything known of one identity: facts with their sources, credentials, owner, findings, what happened to it."""
    where = where or Listing()
    page = where.admin.get(path_of(identity))
    if where.format != "table":
        emit(page, where.format)
        return
    record = page["identity"]
    out = console()
    where_from = plain(f"{record['kind']} on {record['system']}")
    out.print(f"[bold]{plain(record['title'])}[/bold]  {where_from}  [dim]{record['id']}[/dim]")
    rows = [
        ("name", record["name"]),
        ("state", record["state"]),
        ("owner", plain(record["owner"] or "") or "[yellow]nobody[/yellow]"),
        ("environment", record["environment"]),
        ("purpose", record["purpose"]),
        ("tier", record["tier"]),
        ("privileged", "yes" if record["privileged"] else "no"),
        ("last used", ago(record["last_used"])),
        ("first seen", ago(record["first_seen"])),
        ("last seen", ago(record["last_seen"])),
    ]
    for key, value in rows:
        if value not in (None, ""):
            out.print(f"  {key:<12} {value if key == 'owner' else plain(value)}")
    _section(
        "credentials",
        page["credentials"],
        [
            ("kind", "kind"),
            ("title", "title"),
            ("state", "state"),
            ("exposed", "exposed"),
            ("expires", "expires"),
            ("fingerprint", "fingerprint"),
        ],
    )
    _section(
        "proposed owners",
        page["proposals"],
        [("owner", "owner"), ("confidence", "confidence"), ("method", "by"), ("evidence", "evidence")],
    )
    _section(
        "leases",
        page["leases"],
        [("principal", "principal"), ("target", "target"), ("state", "state"), ("created", "created")],
    )
    _section("findings", page["findings"], [("severity", "severity"), ("title", "what"), ("place", "where")])
    _section("seen by", page["sightings"], [("connector", "connector"), ("place", "place"), ("last_seen", "last seen")])
    _section("what happened", page["timeline"], [("time", "when"), ("type", "what"), ("actor", "who")])


def _section(title: str, rows: list[dict[str, Any]], columns: list[tuple[str, str]]) -> None:
    if rows:
        console().print(f"\n[bold]{title}[/bold]")
        show_table(rows[:20], columns)


def findings(text: str = "", /, *, severity: str = "", limit: int = 50, where: Scanning | None = None) -> None:
    """What is wrong, worst first. Exits 1 when there is anything."""
    where = where or Scanning()
    found = where.admin.get("/api/v1/findings", text=text, severity=severity, limit=limit)
    if where.format == "sarif":
        from remit.surface.cli.sarif import sarif

        emit(sarif(found["rows"]), "sarif")
    elif where.format != "table":
        emit(found["rows"], where.format)
    else:
        rows = [{**row, "place": short_place(row["place"])} for row in found["rows"]]
        columns = [("severity", "severity"), ("title", "what"), ("place", "where"), ("next_step", "next")]
        show_table(rows, columns, empty="no findings")
        counts = ", ".join(f"{number} {name}" for name, number in found["counts"].items())
        say(f"[dim]{counts or 'none'}[/dim]")
    if found["rows"]:
        sys.exit(1)


def blast(
    identity: str,
    /,
    *,
    svg: Annotated[Path | None, Parameter(help="Write the picture to this file.")] = None,
    where: Listing | None = None,
) -> None:
    """What one compromised credential or identity reaches, each with the path that proves it."""
    where = where or Listing()
    path = f"{path_of(identity)}/blast"
    if svg is not None:
        svg.write_text(where.admin.text(path, **{"as": "svg"}), encoding="utf-8")
        say(f"picture: {plain(svg)}")
    if where.format != "table":
        emit(where.admin.get(path, **{"as": "json"}), where.format)
        return
    print(visible(where.admin.text(path, **{"as": "text"})))


def deps(identity: str, /, *, where: Listing | None = None) -> None:
    """Who depends on it: places that hold its credentials, workloads that run as it, and when each was last seen."""
    where = where or Listing()
    found = where.admin.get(f"{path_of(identity)}/dependents")
    if where.format != "table":
        emit(found, where.format)
        return
    show_table(
        found["dependents"],
        [("title", "who"), ("relation", "how"), ("evidence", "evidence"), ("place", "where")],
        empty="nothing is known to depend on it",
    )
    for line in found["unmeasured"]:
        say(f"[yellow]not measured:[/yellow] {plain(line)}")
