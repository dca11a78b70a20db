"""`remit tier` and `remit describe`: how much is asked of an identity, and what it is for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.options import Listing
from remit.surface.cli.output import console, emit, plain, say, show_table

Level = Literal["human-operated", "pipeline", "autonomous", ""]
Number = Literal["0", "1", "2", "3"]
_COLUMNS = [
    ("title", "identity"), ("kind", "kind"), ("environment", "environment"), ("owner", "owner"), ("counts", "tier"),
    ("said_by", "said by"), ("proposed", "reach demands"), ("because", "because"), ("id", "id"),
]  # fmt: skip
_DAY = 86_400


def tier_set(
    identity: str,
    tier: Number,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; needed where it protects less than what counts now.")] = "",
    dry_run: Annotated[bool, Parameter(help="Say what would change; change nothing.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Say the tier of an identity, 0 the most dangerous. Signed by you; less protection takes a second person."""
    _say(where or Listing(), identity, int(tier), reason, dry_run=dry_run)


def tier_unset(
    identity: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; needed where it protects less than what counts now.")] = "",
    dry_run: Annotated[bool, Parameter(help="Say what would change; change nothing.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Take back the tier that was said: 0 counts for who is privileged, else 1, or what a source says if stricter."""
    _say(where or Listing(), identity, None, reason, dry_run=dry_run)


def tier_ls(
    *,
    tier: Annotated[Number | None, Parameter(help="Only those of this tier.")] = None,
    proposed: Annotated[bool, Parameter(help="Only those of which reach demands another tier.", negative=())] = False,
    limit: int = 100,
    where: Listing | None = None,
) -> None:
    """List identities with the tier that counts, who says so, and what reach and kind demand; the strictest first."""
    where = where or Listing()
    found = where.admin.get("/api/v1/tiers", tier=tier or "", proposed=int(proposed), limit=limit)
    if where.format != "table":
        emit(found["rows"], where.format)
        return
    rows = [
        {**each, "said_by": each["said_by"].removeprefix("person:"), "because": each["why"][0]}
        for each in found["rows"]
    ]
    show_table(rows, _COLUMNS, empty="no such identity")
    if found["total"] > len(rows):
        say(f"{len(rows)} of {found['total']:,}: narrow it, or raise --limit")


def tier_explain(identity: str, /, *, where: Listing | None = None) -> None:
    """The tier that counts, who says so, what it asks, and what reach and kind demand, with the reasons."""
    where = where or Listing()
    found = where.admin.get(f"{path_of(identity)}/tier")
    if where.format != "table":
        emit(found, where.format)
        return
    out = console()
    out.print(f"[bold]{plain(found['title'])}[/bold]: tier {found['counts']}, {plain(said_by(found))}")
    _show_asked(found["asks"])
    out.print(f"reach and kind demand tier {found['proposed']}:")
    for each in found["why"]:
        out.print(f"  {plain(each)}")
    if found["too_lax"]:
        say(plain(f"less is asked of it than that: `remit tier set {found['identity']} {found['proposed']}`"))
    _show_waiting(found)


def describe(
    identity: str,
    /,
    *,
    purpose: Annotated[str | None, Parameter(help='What it is for; "" takes it back.')] = None,
    service: Annotated[str | None, Parameter(help="The business service to which it belongs.")] = None,
    environment: Annotated[str | None, Parameter(help="Where it runs: production, staging, test …")] = None,
    autonomy: Annotated[Level | None, Parameter(help="Who moves it.")] = None,
    reason: Annotated[str, Parameter(help="How you know.")] = "",
    where: Listing | None = None,
) -> None:
    """Say what an identity is for, whatever sources say; without options, show who said what. Signed by you."""
    where = where or Listing()
    given = {"purpose": purpose, "service": service, "environment": environment, "autonomy": autonomy}
    said = {name: value for name, value in given.items() if value is not None}
    if said:
        found = where.admin.post(f"{path_of(identity)}/describe", {**said, "reason": reason}, signed=True)
    else:
        found = where.admin.get(f"{path_of(identity)}/tier")
    if where.format != "table":
        emit(found, where.format)
        return
    rows = [{"field": name, **word} for name, word in sorted(found["words"].items())]
    columns = [("field", "what"), ("value", "is"), ("by", "said by"), ("at", "when"), ("reason", "why")]
    show_table(rows, columns, empty=f"no person said anything of {plain(found['title'])}")


def said_by(found: dict[str, Any]) -> str:
    """Who says the tier that counts, in words."""
    if word := found["person"]:
        return f"said by {word['by'].removeprefix('person:')} at {word['at']}" + (
            f" ({word['reason']})" if word["reason"] else ""
        )
    if found["source"] is not None:
        return f"nobody said one; its source says {found['source']}, which only makes it stricter"
    return "nobody said one"


def _say(where: Listing, identity: str, tier: int | None, reason: str, *, dry_run: bool) -> None:
    body = {"tier": tier, "reason": reason, "dry_run": dry_run}
    found = where.admin.post(f"{path_of(identity)}/tier", body, signed=not dry_run)
    if where.format != "table":
        emit(found, where.format)
        return
    word = "tier not set" if tier is None else f"tier {tier}"
    if dry_run:
        say(
            plain(
                f"{found['title']}: tier {found['was']} counts, and {found['now']} would ({word}); nothing is changed"
            )
        )
        _show_asked(found["would_ask"], found["asks"])
        if found["lowers"]:
            needed = [] if reason else ["a reason (`--reason`)"]
            needed += ["a second person"] if found["four_eyes"] else []
            say("it protects less" + (f": it needs {' and '.join(needed)}" if needed else ""))
        if found["too_lax"]:
            say(plain(f"reach and kind demand tier {found['proposed']}: {'; '.join(found['why'])}"))
        return
    if found["waits"]:
        say(plain(f"{found['title']}: proposed; tier {found['was']} counts until another person repeats the command"))
        _show_waiting(found)
        return
    say(
        plain(
            f"{found['title']}: tier {found['counts']}"
            + (f" (was {found['was']})" if found["was"] != found["now"] else "")
        )
    )
    if found["lowers"]:
        say("it protects less than before" + _alone(found))
    if found["too_lax"]:
        say(plain(f"reach and kind demand tier {found['proposed']}: {'; '.join(found['why'])}"))


def _alone(found: dict[str, Any]) -> str:
    return ", on the word of one person: nobody else is enrolled" if found["persons"] <= 1 else ", on the word of two"


def _show_waiting(found: dict[str, Any]) -> None:
    if wait := found["waiting"]:
        what = "no tier" if wait["tier"] is None else f"tier {wait['tier']}"
        by = wait["by"].removeprefix("person:")
        say(plain(f"{by} asks for {what} ({wait['reason']}); another person repeats it before {wait['until']}"))


def _show_asked(asked: dict[str, Any], before: dict[str, Any] | None = None) -> None:
    """What a tier asks; with `before`, what was asked."""
    rows = [
        {"what": label, "now": _amount(key, (before or asked)[key]), "then": _amount(key, asked[key])}
        for key, label in _ASKED.items()
    ]
    columns = [("what", "it asks"), ("then", "of it")]
    show_table(rows, columns if before is None else [("what", "it asks"), ("now", "now"), ("then", "then")])


_ASKED = {
    "facts_fresh_seconds": "decided on facts at most so old",
    "approved_beside_owner": "a grant needs more than its owner's approval",
    "rotation_days": "its credentials are due to be rotated within",
    "dormant_days": "it is dormant when unused for",
    "leaver_grace_seconds": "it runs on after its owner left for",
    "budget": "its blast radius may score at most",
}


def _amount(key: str, value: int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "no limit" if key == "budget" else "as its plan says"
    if key.endswith("_days"):
        return f"{value} d"
    if not key.endswith("_seconds"):
        return str(value)
    for size, unit in ((_DAY, "d"), (3600, "h"), (60, "min")):
        if value and value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} s"
