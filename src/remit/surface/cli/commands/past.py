"""The command that shows the state at a past moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import Parameter

from remit.surface.cli.options import Listing
from remit.surface.cli.output import console, emit, plain, say, show_table

_SHOWN = 20
_WRAPPED = ("good_for", "title", "resource", "reason", "subject", "rule", "fingerprint")


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
    record, thing = found["identity"], found["thing"]
    title = record["title"] if record else thing.get("subject") or thing["id"]
    kind = plain(f"{record['kind']} on {record['system']}") if record else ""
    entries = f"{found['ledger_size']:,} ledger entries"
    _line(f"[bold]{plain(title)}[/bold]  {kind}  [dim]as of {_clock(found['at'])} UTC, {entries}[/dim]", at=0)
    _asked(thing)
    if record:
        rows = (
            ("name", record["name"]), ("state", record["state"] if record["present"] else "gone"),
            ("owner", _name(record["owner"] or "nobody")), ("environment", record["environment"]),
            ("tier", record["tier"]), ("privileged", "yes" if record["privileged"] else "no"),
        )  # fmt: skip
        for key, value in rows:
            if value not in (None, ""):
                _fact(key, plain(value))
    _policies(found["policies"])
    _grants(found)
    _leases(found)
    _section("SVIDs and tokens", found["issued_count"], map(_issued, found["issued"]),
             kind="kind", id="id", good_for="good for", expires="until", leaf="leaf")  # fmt: skip
    _section("credentials", found["credential_count"], map(_shown, found["credentials"]),
             kind="kind", title="title", state="state", expires="expires", fingerprint="fingerprint")  # fmt: skip
    _section("exceptions", len(found["exceptions"]), map(_shown, found["exceptions"]),
             rule="rule", resource="resource", approved_by="approved by", until="until", leaf="leaf")  # fmt: skip
    _section("revoked, and not restored", len(found["revocations"]), map(_shown, found["revocations"]),
             subject="what", reason="reason", by="by", at="since", leaf="leaf")  # fmt: skip
    _reach(found["reach"])
    if found["leaves"]:
        say(f"[dim]proved by {len(found['leaves'])} ledger entries: `remit ledger prove LEAF`[/dim]")


def _asked(thing: dict[str, Any]) -> None:
    if thing["kind"] == "identity":
        return
    held = "held then" if thing["held"] else "[yellow]did not hold then[/yellow]"
    _line(f"{plain(thing['kind'])} {plain(thing['id'])}  {held}")
    if good_for := _good_for(thing):
        _fact("good for", plain(good_for))
    if given := thing.get("given"):
        by = f"the approved grant {given['anchor']}" if given["anchor"] else "policy"
        said = f"{by}, decision {', '.join(given['decisions'])}, leaf {given['leaf']}"
        _fact("given by", plain(said))
        if not given["in_force"]:
            _fact("", "[yellow]the approved grant had ended: introspection said no[/yellow]")


def _policies(policies: dict[str, Any] | None) -> None:
    if policies is None:
        _fact("policies", "none were in force: everything was denied")
        return
    staged = f"staged by {_name(policies['staged_by'])}, " if policies["staged_by"] else ""
    by = f"{staged}put in force by {_name(policies['activated_by'])}"
    since = f"{plain(policies['version'])} since {_clock(policies['since'])}"
    _fact("policies", f"{since}, {plain(by)} [dim]leaf {policies['leaf']}[/dim]")


def _grants(found: dict[str, Any]) -> None:
    _heading("grants in force", found["grant_count"])
    for each in found["grants"][:_SHOWN]:
        kind = "" if each["kind"] in ("usual", "run") else f"  [yellow]{plain(each['kind'])}[/yellow]"
        _line(f"[bold]{plain(each['id'])}[/bold]  {plain(', '.join(each['needs']))}{kind}")
        if each["revoked"]:
            _line(f"[yellow]revoked: {plain(each['revoked'])}[/yellow]", at=4)
        if each["reason"]:
            _line(f"reason: {plain(each['reason'])}", at=4)
        asked = _said(each["asked"]) if each["asked"] else "the task itself"
        approved = ", ".join(map(_said, each["approved"])) or f"policy (leaf {each['begun']['leaf']})"
        _line(f"asked by {plain(asked)}, approved by {plain(approved)}", at=4)
        _line(f"until {_clock(each['until'])}{plain(_became(each['ended']))}", at=4)


def _leases(found: dict[str, Any]) -> None:
    _heading("leases", found["lease_count"])
    for each in found["leases"][:_SHOWN]:
        _line(f"[bold]{plain(each['principal'])}[/bold]  on {plain(each['target'])}")
        _line(f"{plain(each['id'])} under {plain(each['grant'])}", at=4)
        became = _became(each["ended"]) or ("; its end had begun" if each["revoking"] else "")
        _line(f"since {_clock(each['since'])} (leaf {each['issued']['leaf']}){plain(became)}", at=4)


def _heading(title: str, count: int) -> None:
    if count:
        console().print(f"\n[bold]{title}[/bold]" + (f" [dim]{_SHOWN} of {count}[/dim]" if count > _SHOWN else ""))


def _line(text: str, *, at: int = 2) -> None:
    """Markup from column `at` on, wrapped below itself; `:one:` in a name is no picture."""
    from rich.padding import Padding
    from rich.text import Text

    console().print(Padding(Text.from_markup(text, emoji=False), (0, 0, 0, at), expand=False))


def _fact(key: str, value: str) -> None:
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=14)
    row.add_column(overflow="fold")
    row.add_row(f"  {key}", Text.from_markup(value, emoji=False))
    console().print(row)


def _said(word: dict[str, Any]) -> str:
    return f"{_name(word['by'])} (leaf {word['leaf']})"


def _issued(each: dict[str, Any]) -> dict[str, Any]:
    return _shown({**each, "good_for": _good_for(each)})


def _shown(each: dict[str, Any]) -> dict[str, Any]:
    """A row whose moments are clock times, and whose people are names."""
    said: dict[str, Any] = {key: _clock(each[key]) for key in ("at", "until", "expires") if key in each}
    if "by" in each:
        said["by"] = _name(each["by"])
    return {**each, **said, "approved_by": _names(each.get("approved_by", []))}


def _good_for(each: dict[str, Any]) -> str:
    audience = each.get("aud") or each.get("audience") or []
    return " ".join(filter(None, (", ".join(audience), each.get("scope", "")))) or each.get("spiffe_id", "")


def _became(word: dict[str, Any] | None) -> str:
    return f"; {word['what']} {_clock(word['at'])} by {_said(word)}" if word else ""


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
        _line(f"[bold]{plain(each['title'])}[/bold]  {plain(each['sensitivity'] or 'unknown')}{maybe}")
        way = ", ".join(f"{step['relation']} {step['to']}" for step in each["way"])
        _line(f"{plain(way)}  [dim]{plain(each['way'][-1]['evidence'] if each['way'] else '')}[/dim]", at=4)
        for grant in each["grants"]:
            by = _names(grant["approved_by"]) or grant["given_by"]
            _line(f"[green]by {plain(grant['id'])}, approved by {plain(by or 'unknown')}[/green]", at=4)
    if reach["resources"] > _SHOWN:
        say(f"[dim]{_SHOWN} of {reach['resources']}, the worst first[/dim]")


def _clock(text: str | None) -> str:
    """A moment to the second: what is ago now was not so then."""
    return f"{text[:10]} {text[11:19]}" if text else ""


def _names(approvers: list[str]) -> str:
    return ", ".join(map(_name, approvers))


def _name(actor: str) -> str:
    return actor.removeprefix("person:")


def _section(heading: str, count: int, rows: Iterable[dict[str, Any]], /, **columns: str) -> None:
    if count:
        _heading(heading, count)
        show_table(list(rows)[:_SHOWN], list(columns.items()), wrap=_WRAPPED)
