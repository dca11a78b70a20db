"""Commands on leaks: list them, look at one, drive it to a proven refusal, or close it on one's own word."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing
from remit.surface.cli.output import clock, emit, plain, say, show_table

_LEAKS = "/api/v1/leaks"
_FOLLOW_SECONDS = 0.2
_ENOUGH = ("critical", "high", "medium")
"""What `--all` drives: what lies in tests and examples is shown, and left alone."""
_STAGES = {
    "found": "looking up whose it is",
    "reopened": "looking up whose it is",
    "bound": "telling who answers for it",
    "told": "looking who would notice",
    "mapped": "trying it at its own system",
    "waiting-for-owner": "trying it at its own system",
    "ending": "ending it",
    "ended": "trying the old one",
    "refused": "refused",
}


def ls(
    *,
    closed: Annotated[bool, Parameter(help="Those that are closed too.", negative=())] = False,
    limit: int = 500,
    where: Listing | None = None,
) -> None:
    """List leaked credentials, the worst first: where each stands, who answers, how long it took to contain."""
    where = where or Listing()
    rows = where.admin.get(_LEAKS, closed="yes" if closed else "", limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("severity", "severity"), ("stage", "stage"), ("title", "what"), ("whose", "identity"), ("owner", "owner"),
        ("found", "found"), ("said", "contained, or in the way"), ("short", "leak"),
    ]  # fmt: skip
    show_table([_row(row) for row in rows], columns, empty="none is known: `remit discover files DIR`")


def show(leak: str, /, *, where: Listing | None = None) -> None:
    """One leak: whose, who was told, who would notice, what was done, and the proof.

    LEAK is its fingerprint, or the beginning of it.
    """
    where = where or Listing()
    found = where.admin.get(_path(leak))
    if where.format != "table":
        emit(found, where.format)
        return
    _show(found)


def drive(
    leak: str | None = None,
    /,
    *,
    all: Annotated[bool, Parameter(help="Every leak of medium severity or worse.", negative=())] = False,
    dry_run: Annotated[
        bool, Parameter(help="Say what would be done and who would notice; change nothing.", negative=())
    ] = False,
    where: Listing | None = None,
) -> None:
    """Drive a leaked credential to its end: tell its owner, end it, and prove that the old value is refused.

    Exits 1 while something is not contained: then it says what its owner has to do; driven again, it goes on.
    """
    where = where or Listing()
    if all == (leak is not None):
        raise Rejected("surface.leak.which", "name one leak, or `--all`", next_step="`remit leak ls` lists them")
    names, left = _chosen(where) if leak is None else ([leak], 0)
    ends = [_one(name, where, dry_run) for name in names]
    if where.format != "table":
        emit(ends if leak is None else ends[0], where.format)
    elif leak is None:
        said = "" if dry_run else f", {sum(each['contained_in_ms'] is not None for each in ends)} contained"
        say(f"{len(ends)} leaks{said}; {left} of low severity left alone")
    if not dry_run and any(each["contained_in_ms"] is None for each in ends):
        raise SystemExit(1)


def close(leak: str, /, *, reason: str, where: Listing | None = None) -> None:
    """Close a leak on your own word, where nothing can prove it. You sign it; it never counts as contained."""
    where = where or Listing()
    done = where.admin.post(f"{_path(leak)}/close", {"reason": reason}, signed=True)
    if where.format != "table":
        emit(done, where.format)
        return
    say(plain(f"closed by {done['closed_by']}: {done['reason']}"))


def _chosen(where: Listing) -> tuple[list[str], int]:
    rows = where.admin.get(_LEAKS, limit=5000)
    chosen = [row["fingerprint"] for row in rows if row["severity"] in _ENOUGH]
    return chosen, len(rows) - len(chosen)


def _one(name: str, where: Listing, dry_run: bool) -> dict[str, Any]:
    path, table = f"{_path(name)}/drive", where.format == "table"
    if dry_run:
        seen: dict[str, Any] = where.admin.post(path, {"dry_run": True})
        if table:
            _show_preview(seen)
        return seen
    leak: dict[str, Any] = where.admin.post(path, {})
    if table:
        say(plain(f"{leak['fingerprint'][:21]}: {leak['title']}"))
    told = ""
    while leak["busy"]:
        if table and leak["stage"] != told:
            told = leak["stage"]
            say(plain(f"… {_STAGES.get(told, told)}"))
        time.sleep(_FOLLOW_SECONDS)
        leak = where.admin.get(_path(leak["fingerprint"]))
    if table:
        _show(leak)
    return leak


def _show_preview(seen: dict[str, Any]) -> None:
    would = seen["would"]
    say(plain(f"{seen['fingerprint'][:21]}: {seen['title']} ({seen['severity']}, {seen['stage']})"))
    say(plain(f"  of: {seen['identity_title'] or 'nobody knows whose it is'}"))
    say(plain(f"  would tell: {', '.join(seen['would_tell']) or 'nobody is known'}"))
    match would["way"]:
        case "rotation":
            say(plain(f"  would try it, then rotate `{would['plan']}`: {would['principal']} on {would['target']}"))
        case "broker":
            say(plain(f"  would try it, then end the login {would['principal']} on {would['target']}"))
        case _:
            say(plain(f"  would try it; {seen['why']}"))
            say(plain(f"  for its owner: {seen['instruction']}"))
    show_dependents(seen)


def _show(leak: dict[str, Any]) -> None:
    say(plain(f"{leak['fingerprint']}: {leak['title']}"))
    where = f"at {leak['place']} ({leak['places']})" if leak["places"] else "in no file that can be read again"
    say(plain(f"  {leak['stage']}, {leak['severity']}, found {clock(leak['found'])} UTC, {where}"))
    say(plain(f"  of: {leak['identity_title'] or 'nobody knows whose it is'}; owner: {leak['owner'] or 'none'}"))
    for each in leak["told"]:
        by = f" by {', '.join(each['channels'])}" if each["channels"] else ", on no channel"
        say(plain(f"  told: {each['who'] or each['how']}{by}"))
    _show_who_notices(leak)
    if leak["intent"]:
        say(plain(f"  ended by {leak['intent']['way']}: {leak['intent']['principal']} on {leak['intent']['target']}"))
    if leak["proof"]:
        say(plain(f"  refused: {leak['proof']['refusal']} (control: {leak['proof']['control']})"))
    if leak["contained_in_ms"] is not None:
        say(plain(f"  contained in {_span(leak['contained_in_ms'])}"))
    elif leak["reason"]:
        say(plain(f"  closed by {leak['closed_by']}, not proved: {leak['reason']}"))
    if leak["trouble"]:
        say(plain(f"  in the way: {leak['trouble']}"))
    if leak["instruction"]:
        say(plain(f"  for its owner: {leak['instruction']}"))


def _show_who_notices(leak: dict[str, Any]) -> None:
    for each in leak["dependents"][:20]:
        say(plain(f"  would notice: {each['title']} ({each['relation']}: {each['evidence']})"))
    if leak["dependents_count"] > 20:
        say(f"  … and {leak['dependents_count'] - 20} more")
    for text in leak["unmeasured"]:
        say(plain(f"  not measured: {text}"))


def _row(leak: dict[str, Any]) -> dict[str, Any]:
    span = leak["contained_in_ms"]
    said = f"contained in {_span(span)}" if span is not None else leak["trouble"] or leak["reason"]
    return {**leak, "whose": leak["identity_title"], "said": said, "short": leak["fingerprint"][:21]}


def _span(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _path(leak: str) -> str:
    return f"{_LEAKS}/{quote(leak, safe='')}"
