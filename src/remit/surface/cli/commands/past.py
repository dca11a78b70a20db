"""The command that shows the state at a past moment."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from remit.surface.cli.options import Listing
from remit.surface.cli.output import console, emit, plain, say, show_table

_SHOWN = 20


def past(
    what: str,
    /,
    *,
    at: Annotated[str, Parameter(help="A past day (2026-03-03: its end) or time (2026-03-03T12:00:00Z).")],
    where: Listing | None = None,
) -> None:
    """What something could reach at a past moment, and who had approved it. Exits 1 where it did not hold then.

    WHAT is an identity by any name, a credential by its fingerprint, a grant, a lease by its id or its login's name on
    the target, an SVID by its serial, or a token by its id. Each `leaf` is proved by `remit ledger prove LEAF`.
    """
    where = where or Listing()
    found = where.admin.get("/api/v1/past", of=what, at=at)
    if where.format != "table":
        emit(found, where.format)
    else:
        _print(found)
    if not found["thing"].get("held", True):
        raise SystemExit(1)


def _print(found: dict[str, Any]) -> None:
    out, record, thing = console(), found["identity"], found["thing"]
    title = record["title"] if record else thing.get("subject") or thing["id"]
    kind = plain(f"{record['kind']} on {record['system']}") if record else ""
    entries = f"{found['ledger_size']:,} ledger entries"
    out.print(f"[bold]{plain(title)}[/bold]  {kind}  [dim]as of {_clock(found['at'])} UTC, {entries}[/dim]")
    _asked(thing)
    if record:
        rows = (
            ("name", record["name"]), ("state", record["state"] if record["present"] else "gone"),
            ("owner", record["owner"] or "nobody"), ("environment", record["environment"]),
            ("tier", record["tier"]), ("privileged", "yes" if record["privileged"] else "no"),
        )  # fmt: skip
        for key, value in rows:
            if value not in (None, ""):
                out.print(f"  {key:<12} {plain(value)}")
    _policies(found["policies"])
    _grants(found)
    _section("leases", found["lease_count"], [_lease(each) for each in found["leases"]],
             [("principal", "login"), ("target", "target"), ("since", "since"), ("grant", "grant"),
              ("became", "then"), ("leaf", "leaf")])  # fmt: skip
    _section(
        "SVIDs and tokens",
        found["issued_count"],
        [_issued(each) for each in found["issued"]],
        [("kind", "kind"), ("id", "id"), ("good_for", "good for"), ("expires", "until"), ("leaf", "leaf")],
    )
    _section("credentials", len(found["credentials"]),
             [{**each, "expires": _clock(each["expires"])} for each in found["credentials"]],
             [("kind", "kind"), ("title", "title"), ("state", "state"), ("expires", "expires"),
              ("fingerprint", "fingerprint")])  # fmt: skip
    _section(
        "exceptions",
        len(found["exceptions"]),
        [{**each, "by": _names(each["approved_by"]), "until": _clock(each["until"])} for each in found["exceptions"]],
        [("rule", "rule"), ("resource", "resource"), ("by", "approved by"), ("until", "until"), ("leaf", "leaf")],
    )
    _reach(found["reach"])
    if found["leaves"]:
        say(f"[dim]proved by {len(found['leaves'])} ledger entries: `remit ledger prove LEAF`[/dim]")


def _asked(thing: dict[str, Any]) -> None:
    if thing["kind"] == "identity":
        return
    held = "held then" if thing["held"] else "[yellow]did not hold then[/yellow]"
    console().print(f"  {plain(thing['kind'])} {plain(thing['id'])}  {held}")
    if good_for := _good_for(thing):
        console().print(f"  good for     {plain(good_for)}")
    if given := thing.get("given"):
        by = f"the approved grant {given['anchor']}" if given["anchor"] else "policy"
        said = f"{by}, decision {', '.join(given['decisions'])}, leaf {given['leaf']}"
        console().print(f"  given by     {plain(said)}", highlight=False)


def _policies(policies: dict[str, Any] | None) -> None:
    out = console()
    if policies is None:
        out.print("  policies     none were in force: everything was denied")
        return
    staged = f"staged by {_name(policies['staged_by'])}, " if policies["staged_by"] else ""
    by = f"{staged}put in force by {_name(policies['activated_by'])}"
    out.print(f"  policies     {plain(policies['version'])} since {_clock(policies['since'])}, {plain(by)} "
              f"[dim]leaf {policies['leaf']}[/dim]")  # fmt: skip


def _grants(found: dict[str, Any]) -> None:
    rows = []
    for each in found["grants"]:
        approved = ", ".join(f"{_name(one['by'])} (leaf {one['leaf']})" for one in each["approved"])
        rows.append({
            "id": each["id"], "needs": ", ".join(each["needs"]), "reason": each["reason"],
            "asked": _name(each["asked"]["by"]) if each["asked"] else "the task itself",
            "by": approved or f"policy (leaf {each['begun']['leaf']})", "until": _clock(each["until"]),
            "became": _became(each["ended"]),
        })  # fmt: skip
    _section("grants in force", found["grant_count"], rows,
             [("id", "grant"), ("needs", "for"), ("reason", "reason"), ("asked", "asked by"), ("by", "approved by"),
              ("until", "until"), ("became", "then")])  # fmt: skip


def _lease(each: dict[str, Any]) -> dict[str, Any]:
    became = _became(each["ended"]) or ("its end had begun" if each["revoking"] else "")
    return {**each, "since": _clock(each["since"]), "became": became, "leaf": each["issued"]["leaf"]}


def _issued(each: dict[str, Any]) -> dict[str, Any]:
    return {**each, "good_for": _good_for(each), "expires": _clock(each["expires"])}


def _good_for(each: dict[str, Any]) -> str:
    audience = each.get("aud") or each.get("audience") or []
    return " ".join(filter(None, (", ".join(audience), each.get("scope", "")))) or each.get("spiffe_id", "")


def _became(word: dict[str, Any] | None) -> str:
    if word is None:
        return ""
    return f"{word['what']} {_clock(word['at'])} by {_name(word['by'])}"


def _reach(reach: dict[str, Any] | None) -> None:
    out = console()
    if reach is None:
        out.print("\n[bold]reached[/bold]\n  nothing that is known")
        return
    counts = ", ".join(f"{number} {label}" for label, number in reach["by_sensitivity"].items() if number)
    out.print(f"\n[bold]reached[/bold]\n  {reach['resources']} resources ({plain(counts or 'none')}), "
              f"{reach['becomes']} other identities, score {reach['score']}")  # fmt: skip
    for each in reach["things"][:_SHOWN]:
        maybe = " [dim]under conditions[/dim]" if each["conditional"] else ""
        out.print(f"  [bold]{plain(each['title'])}[/bold]  {plain(each['sensitivity'] or 'unknown')}{maybe}")
        way = ", ".join(f"{step['relation']} {step['to']}" for step in each["way"])
        out.print(f"    {plain(way)}  [dim]{plain(each['way'][-1]['evidence'])}[/dim]", highlight=False)
        for grant in each["grants"]:
            by = _names(grant["approved_by"]) or grant["given_by"]
            out.print(f"    [green]by {plain(grant['id'])}, approved by {plain(by)}[/green]", highlight=False)
    if reach["resources"] > _SHOWN:
        say(f"[dim]{_SHOWN} of {reach['resources']}, the worst first[/dim]")


def _clock(text: str | None) -> str:
    """A moment to the second: what is ago now was not so then."""
    return f"{text[:10]} {text[11:19]}" if text else ""


def _names(approvers: list[str]) -> str:
    return ", ".join(map(_name, approvers))


def _name(actor: str) -> str:
    return actor.removeprefix("person:")


def _section(title: str, count: int, rows: list[dict[str, Any]], columns: list[tuple[str, str]]) -> None:
    if not count:
        return
    console().print(f"\n[bold]{title}[/bold]" + (f" [dim]{_SHOWN} of {count}[/dim]" if count > _SHOWN else ""))
    show_table(rows[:_SHOWN], columns)
