"""The command that shows blast radii."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table, visible
from remit.surface.cli.sparkline import sparkline

_PATH = "/api/v1/blast"


def blast(
    identity: str = "",
    /,
    *,
    owner: Annotated[str, Parameter(help="All that one owner answers for, together.")] = "",
    vendor: Annotated[str, Parameter(help="What a vendor ships into pipelines.")] = "",
    host: Annotated[str, Parameter(help="Everything on one host.")] = "",
    repository: Annotated[str, Parameter(help="A repository and its pipelines.")] = "",
    within: Annotated[str, Parameter(help="Also what is reached in this time: 90s, 5m, 2h.")] = "",
    top: Annotated[bool, Parameter(help="List the largest radii, against their budgets.", negative=())] = False,
    trend: Annotated[bool, Parameter(help="Show the radius by day; without an ID the estate's.", negative=())] = False,
    days: Annotated[int, Parameter(help="How many days of the trend.")] = 30,
    limit: Annotated[int, Parameter(help="How many of the largest.")] = 20,
    svg: Annotated[Path | None, Parameter(help="Write the picture to this file.")] = None,
    at: Annotated[str, Parameter(help="A past day (2026-03-03) or time: what it reached then.")] = "",
    where: Listing | None = None,
) -> None:
    """What one compromised credential, identity, resource, host, vendor, repository or owner reaches, with the proof.

    Below the tree: the ways to the most sensitive things, how much is reached before containment, the cheapest cut, and
    what a quarantine would stop.
    """
    where = where or Listing()
    if top:
        _top(where, limit)
        return
    if trend:
        _trend(where, identity, days)
        return
    asked = {"of": identity, "owner": owner, "vendor": vendor, "host": host, "repository": repository}
    given = {key: value for key, value in asked.items() if value}
    if len(given) != 1:
        raise Rejected(
            "inventory.blast.start", "one start is needed: an ID, --owner, --vendor, --host or --repository",
            next_step="`remit blast ID`, or `remit blast --top`",
        )  # fmt: skip
    query = {**given, "at": at, "within": within}
    if svg is not None:
        svg.write_text(where.admin.text(_PATH, **{**query, "as": "svg"}), encoding="utf-8")
        say(f"picture: {plain(svg)}")
    if where.format != "table":
        emit(where.admin.get(_PATH, **{**query, "as": "json"}), where.format)
        return
    print(visible(where.admin.text(_PATH, **{**query, "as": "text"})))


def _top(where: Listing, limit: int) -> None:
    found = where.admin.get(f"{_PATH}/top", limit=limit)
    if where.format != "table":
        emit(found, where.format)
        return
    rows = [{**each, "worst": _worst(each["by_sensitivity"]), "budget": _budget(each)} for each in found["rows"]]
    columns = [("title", "identity"), ("score", "score"), ("resources", "resources"), ("worst", "of them"),
               ("becomes", "becomes"), ("tier", "tier"), ("budget", "budget"), ("owner", "owner"),
               ("identity", "id")]  # fmt: skip
    show_table(rows, columns, empty="no identity is known")


def _budget(each: dict[str, Any]) -> str:
    if each["budget"] is None:
        return "none"
    return f"{each['budget']} exceeded" if each["exceeded"] else str(each["budget"])


def _worst(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[label]} {label}" for label in ("restricted", "confidential") if counts.get(label))


def _trend(where: Listing, identity: str, days: int) -> None:
    query: dict[str, Any] = {"days": days, **({"of": identity} if identity else {})}
    found = where.admin.get(f"{_PATH}/trend", **query)
    if where.format != "table":
        emit(found, where.format)
        return
    known = [each for each in found["days"] if each["measured"]]
    if not known:
        say("[dim]no sample yet[/dim]")
        return
    line = sparkline([{"count": each["score"] or 0} for each in found["days"]])
    first, last = known[0], known[-1]
    print(visible(f"{line}  score {first['score']} on {first['day']} → {last['score']} on {last['day']}"))
    columns = [("day", "day"), ("score", "score"), ("resources", "resources"), ("becomes", "becomes")]
    show_table(_changes(known), columns, empty="")


def _changes(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The days on which it was another than on the day before."""
    found = days[:1]
    for each in days[1:]:
        if any(each[key] != found[-1][key] for key in ("score", "resources", "becomes")):
            found.append(each)
    return found
