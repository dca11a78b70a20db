"""Commands on revocations: what was issued, ended before its time; and who has heard of it."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from cyclopts import Parameter

from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table

_ISSUED = re.compile(
    r"(serial|jti|entry|identity|agent|node|authority|grant|owner):|spiffe://|(en|ag|au|gr)_[0-9A-Z]{26}$",
    re.IGNORECASE,
)


def is_issued(subject: str) -> bool:
    """Whether a subject of `remit revoke` names SVIDs and tokens; otherwise leases, or a static credential."""
    return _ISSUED.match(subject) is not None


def revoke_subject(subject: str, *, reason: str, dry_run: bool, wait: float, unseen: bool, where: Listing) -> None:
    """The part of `remit revoke` that ends SVIDs and tokens; exits 1 when not everyone has heard, or a lease lives."""
    body = {"subject": subject, "reason": reason, "dry_run": dry_run, "wait_seconds": wait, "unseen": unseen}
    answer: dict[str, Any] = where.admin.post("/api/v1/revocations", body)
    if where.format != "table":
        emit(answer, where.format)
    elif dry_run:
        _say_effect(answer, "would fall")
        _say_leases(answer)
        if answer["dependents"]:
            show_dependents(answer)
    else:
        _say_effect(answer, "fell")
        _say_leases(answer)
        if answer["blocks"]:
            say(plain(f"blocked until `remit restore {answer['subject']}`"))
        say(plain(f"{answer['id']} (version {answer['version']}): {answer['reached']['text']}"))
    if not dry_run and (not answer["contained"] or (wait > 0 and not answer["reached"]["complete"])):
        sys.exit(1)


def _say_effect(answer: dict[str, Any], verb: str) -> None:
    fell = ", ".join(f"{number} {kind}" for kind, number in answer["fell"].items()) or "nothing that is valid now"
    say(plain(f"{answer['subject']}: {fell} {verb}"))
    if answer.get("identities"):
        shown, total = answer["identities"][:5], answer["identities_total"]
        say(plain(f"identities: {', '.join(shown)}{f' and {total - 5} more' if total > 5 else ''}"))


def _say_leases(answer: dict[str, Any]) -> None:
    if answer["leases"]:
        show_table(answer["leases"], [("what", "credential"), ("target", "target"), ("state", "state"), ("id", "id")])


def restore(
    subject: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why it may be trusted again.")],
    where: Listing | None = None,
) -> None:
    """Let what was revoked get SVIDs, tokens and leases again: new ones. Takes the subject, or the id rv_….

    What fell stays fallen.
    """
    where = where or Listing()
    path = f"/api/v1/revocations/{quote(subject, safe='')}?{urlencode({'reason': reason})}"
    rows = where.admin.delete(path, signed=True)
    if where.format != "table":
        emit(rows, where.format)
        return
    for one in rows:
        say(plain(f"restored {one['subject']} ({one['id']})"))


def revocations(
    *,
    parties: Annotated[bool, Parameter(negative=(), help="Who is connected, and who has heard of everything.")] = False,
    where: Listing | None = None,
) -> None:
    """List revocations: what fell, what is still blocked, and how many of those connected have acknowledged."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/revocations/parties" if parties else "/api/v1/revocations")
    if where.format != "table":
        emit(rows, where.format)
        return
    if parties:
        columns = [("party", "party"), ("version", "has version"), ("current", "current"), ("connected", "connected")]
        show_table(rows, [*columns, ("until", "holds until")], empty="nobody is connected")
        return
    shown = [
        {
            **row,
            "fell": ", ".join(f"{number} {kind}" for kind, number in row["fell"].items()) or "-",
            "state": "blocked" if row["blocks"] else "restored" if row["restored_at"] else "done",
            "reached": row["reached"]["text"],
        }
        for row in rows
    ]
    columns = [("subject", "subject"), ("state", "state"), ("fell", "fell"), ("reached", "reached"), ("at", "since")]
    show_table(shown, [*columns, ("reason", "reason"), ("id", "id")], empty="nothing is revoked")
