"""Commands that show what exists."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

from remit.inventory.records import COUNTED
from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Scanning
from remit.surface.cli.output import ago, console, emit, plain, say, show_table
from remit.surface.cli.sparkline import sparkline
from remit.surface.places import short_place

Said = Literal["0", "1", "2", "3", "none"]
Severe = Literal["critical", "high", "medium", "low", "info"]
_SCREEN = 50
"""Rows of a table, unless more are asked for."""
_PAGE = 1000
"""Identities that the API answers at once."""
_MOST = 10_000
"""Findings that the API answers at once."""


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
    dormant: Annotated[bool, Parameter(negative=(), help="Not used for long, as logs tell.")] = False,
    shared: Annotated[bool, Parameter(negative=(), help="Used by several workloads.")] = False,
    never_used: Annotated[bool, Parameter(negative=(), help="Never used, as logs tell.")] = False,
    tier: Annotated[Said | None, Parameter(help="Which a person said; `none`: nobody said one.")] = None,
    service: Annotated[str, Parameter(help="Only those of this business service.")] = "",
    autonomy: Annotated[str, Parameter(help="human-operated, pipeline or autonomous.")] = "",
    gone: Annotated[bool, Parameter(negative=(), help="Also what no source shows any more.")] = False,
    sort: Annotated[str, Parameter(help="A field; a leading - for descending.", allow_leading_hyphen=True)] = "title",
    limit: Annotated[int | None, Parameter(help="At most so many; default: 50 in a table, else all.")] = None,
    at: Annotated[str, Parameter(help="A past day (2026-03-03) or time: what was there then.")] = "",
    where: Listing | None = None,
) -> None:
    """List identities. `--format json` gives one array with every identity and credential that matches."""
    where = where or Listing()
    filters = {"text": text, "kind": kind, "system": system, "state": state, "environment": environment,
               "owner": owner, "unowned": int(unowned), "privileged": int(privileged), "exposed": int(exposed),
               "tier": tier or "", "service": service, "autonomy": autonomy,
               "finding": _of_use(dormant=dormant, shared=shared, never=never_used), "gone": int(gone)}  # fmt: skip
    narrowed = any(value for key, value in filters.items() if key != "gone")
    if where.format != "table" and not narrowed and not at:
        emit(where.admin.get("/api/v1/inventory", gone=int(gone)), where.format)
        return
    most = _SCREEN if limit is None and where.format == "table" else limit
    found = _matching(where, {**filters, "sort": sort, "at": at}, most)
    if where.format != "table":
        emit(found["rows"], where.format)
        return
    columns = [
        ("title", "identity"),
        ("kind", "kind"),
        ("system", "system"),
        ("environment", "environment"),
        ("service", "service"),
        ("owner", "owner"),
        ("state", "state"),
        ("tier", "tier"),
        ("last_used", "last used"),
        ("id", "id"),
    ]
    show_table(found["rows"], columns, empty="nothing matches; `remit discover files .` looks for more")
    if found["total"] > len(found["rows"]):
        more = f"more than {COUNTED:,}" if found["total"] == COUNTED + 1 else f"{found['total']:,}"
        say(f"[dim]{len(found['rows'])} of {more}; --limit shows more[/dim]")


def _matching(where: Listing, query: dict[str, Any], most: int | None) -> dict[str, Any]:
    """The identities that match, `most` at most, page by page; and how many there are."""
    rows: list[dict[str, Any]] = []
    while True:
        asked = _PAGE if most is None else min(_PAGE, most - len(rows))
        found = where.admin.get("/api/v1/identities", **query, limit=asked, offset=len(rows))
        rows += found["rows"]
        if len(found["rows"]) < asked or len(rows) == most:
            return {"rows": rows, "total": found["total"]}


def _of_use(*, dormant: bool, shared: bool, never: bool) -> str:
    """The rule of the findings that are asked for."""
    rules = [rule for rule, wanted in (("dormant", dormant), ("shared", shared), ("never", never)) if wanted]
    if len(rules) > 1:
        raise Rejected(
            "inventory.filter.several",
            "`--dormant`, `--shared` and `--never-used` exclude each other",
            next_step="ask for one of them at a time",
        )
    return f"use.{rules[0]}" if rules else ""


def show(
    identity: str,
    /,
    *,
    at: Annotated[str, Parameter(help="A past day (2026-03-03) or time: as it was then.")] = "",
    where: Listing | None = None,
) -> None:
    """Everything known of one identity: facts with their sources, credentials, owner, findings, what happened to it."""
    where = where or Listing()
    page = where.admin.get(path_of(identity), at=at)
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
        ("service", record["service"]),
        ("purpose", record["purpose"]),
        ("autonomy", record["autonomy"]),
        ("tier", tier_line(page["tier"]) if page.get("tier") else record["tier"]),
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
    if at:
        _section("reached", page["reaches"], [("relation", "how"), ("head", "what"), ("place", "where")])
        return
    _section(
        "attributes, and who says so",
        page["said"],
        [
            ("attribute", "attribute"),
            ("value", "value"),
            ("connector", "by"),
            ("confidence", "confidence"),
            ("counts", "counts"),
            ("place", "where"),
        ],
    )
    _use(page["use"])
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
    _section("seen by", _places(page["sightings"]), [
        ("connector", "connector"), ("place", "place"), ("last_seen", "last seen"),
    ])  # fmt: skip
    _section("what happened", page["timeline"], [("time", "when"), ("type", "what"), ("actor", "who")])


def _places(sightings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each place once, as it was seen last: of several names of one identity each was seen there."""
    places: dict[tuple[str, str], dict[str, Any]] = {}
    for each in sorted(sightings, key=lambda each: each["last_seen"], reverse=True):
        places.setdefault((each["connector"], each["place"]), each)
    return list(places.values())


def _use(use: dict[str, Any]) -> None:
    """Last use, consumers and a line of days, where a log tells of them."""
    if not use["measured"]:
        return
    out = console()
    out.print("\n[bold]use[/bold]")
    out.print(f"  last used {ago(use['last']) or 'never'}, {use['count']:,} uses, {use['failures']:,} refused")
    out.print(f"  {sparkline(use['days'])}  the last {len(use['days'])} days", highlight=False)
    if use["consumers"]:
        show_table(use["consumers"][:20], [("consumer", "consumer"), ("count", "uses")])


def _section(title: str, rows: list[dict[str, Any]], columns: list[tuple[str, str]]) -> None:
    if rows:
        console().print(f"\n[bold]{title}[/bold]")
        show_table(rows[:20], columns)


def tier_line(found: dict[str, Any]) -> str:
    """The tier that counts, who says so, and whether reach demands another."""
    word = found["person"]
    by = f"said by {word['by'].removeprefix('person:')}" if word else "nobody said one"
    if found["proposed"] == found["counts"]:
        return f"{found['counts']} ({by})"
    return f"{found['counts']} ({by}; reach and kind demand {found['proposed']}: {found['why'][0]})"


def findings(
    text: str = "",
    /,
    *,
    severity: Annotated[Severe | None, Parameter(help="Only those of this severity.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many; default: 50 in a table, else all.")] = None,
    where: Scanning | None = None,
) -> None:
    """What is wrong, worst first. Exits 1 when there is anything."""
    where = where or Scanning()
    most = limit if limit is not None else _SCREEN if where.format == "table" else _MOST
    one_more = most + 1 if 0 <= most < _MOST else most
    found = where.admin.get("/api/v1/findings", text=text, severity=severity or "", limit=one_more)
    rows = found["rows"][:most]
    if where.format == "sarif":
        from remit.surface.cli.sarif import sarif

        emit(sarif(rows), "sarif")
    elif where.format != "table":
        emit(rows, where.format)
    else:
        _show_findings(rows, found["counts"], narrowed=bool(text or severity))
    if len(found["rows"]) > most or len(rows) == _MOST:
        say(f"[dim]the first {len(rows):,}; --limit shows more, {_MOST:,} at most[/dim]")
    if found["rows"]:
        sys.exit(1)


def _show_findings(rows: list[dict[str, Any]], counts: dict[str, int], *, narrowed: bool) -> None:
    columns = [("severity", "severity"), ("title", "what"), ("place", "where"), ("next_step", "next")]
    short = [{**row, "place": short_place(row["place"])} for row in rows]
    wrap = ("title", "place") if sys.stdout.isatty() else ()  # a line each, for what reads lines
    show_table(short, columns, wrap=wrap, empty="no findings")
    told = ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "none"
    say(f"[dim]{'in all: ' if narrowed else ''}{told}[/dim]")
