"""Commands that say who depends on something, and try it out."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table

_PATH = "/api/v1/screams"
_OVER = ("restored", "withdrawn")
_FOLLOW_SECONDS = 0.5


def deps(
    subject: str,
    /,
    *,
    stored: Annotated[
        bool, Parameter(help="Do not ask its server who is connected now; answer from what was read.", negative=())
    ] = False,
    where: Listing | None = None,
) -> None:
    """Who depends on it, by evidence: logs, sessions, leases, configuration, copies of the secret, trust.

    SUBJECT is an identity, a credential by its fingerprint, or a resource. Each consumer is said with what a revocation
    now would do to it, how fresh that is, and whom to ask; and what makes the answer incomplete.
    """
    where = where or Listing()
    found = where.admin.get(f"/api/v1/dependencies/{quote(subject, safe='')}", **({"stored": 1} if stored else {}))
    if where.format != "table":
        emit(found, where.format)
        return
    show_dependents(found, dry_run=False)


def start(
    identity: str,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; it goes into the ledger.")] = "who depends on it is to be found out",
    share: Annotated[int, Parameter(help="Percent of its consumers, or sessions, that are held back.")] = 10,
    seconds: Annotated[int, Parameter(help="How long, at most 900.")] = 60,
    by: Annotated[
        Literal["", "decision", "postgres", "redis"],
        Parameter(help="What holds it back (default: its own server where that is a target, else decisions)."),
    ] = "",
    dry_run: Annotated[bool, Parameter(help="Say what would be done and who would notice.", negative=())] = False,
    detach: Annotated[bool, Parameter(help="Return at once; it goes on in the control plane.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Hold an identity back for a moment, and hear who screams. You sign; where there are two persons, a second begins.

    It is restored by itself: at the end, at the first scream of a tier 0 or 1, and whatever is killed meanwhile.
    Exits 1 when somebody screamed.
    """
    where = where or Listing()
    body = {
        "identity": identity, "reason": reason, "share": share, "seconds": seconds, "by": by, "dry_run": dry_run,
    }  # fmt: skip
    made = where.admin.post(_PATH, body, signed=not dry_run)
    if dry_run:
        _show_preview(made, where)
        return
    while not detach and made["phase"] not in (*_OVER, "proposed"):
        time.sleep(_FOLLOW_SECONDS)
        made = where.admin.get(f"{_PATH}/{made['id']}")
    _show(made, where)
    if made["heard"]:
        raise SystemExit(1)


def status(identity: str = "", /, *, where: Listing | None = None) -> None:
    """Scream tests, the newest first: what runs, who screamed, what was restored."""
    where = where or Listing()
    rows = where.admin.get(_PATH, identity=identity)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("id", "test"), ("identity", "identity"), ("means", "by"), ("phase", "phase"), ("outcome", "outcome"),
               ("said", "screams"), ("started", "started"), ("actor", "by whom")]  # fmt: skip
    show_table(rows, columns, empty="no scream test yet: `remit scream start ID --dry-run`")


def stop(test: str, /, *, where: Listing | None = None) -> None:
    """End a test now, by its id (sc_…) or its identity's, and restore. A proposal is withdrawn."""
    where = where or Listing()
    _show(where.admin.post(f"{_PATH}/{quote(test, safe='')}/stop", {}), where)


def _show_preview(seen: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(seen, where.format)
    else:
        on = f"{seen['login']} on {seen['target']}" if seen["target"] else "decisions"
        say(plain(f"dry run: would hold back {seen['share']} % by {on} for {seen['seconds']} s"))
        say(plain(f"  {seen['does']}"))
        say(plain(f"  fail-safe: {seen['fails_safe']}"))
        say(f"  ends at the first scream: {'yes' if seen['stops_at_first'] else 'no, at the end of its time'}")
        if seen["four_eyes"]:
            say("  a second person begins it")
        for text in seen["notes"]:
            say(plain(f"  {text}"))
        for text in seen["obstacles"]:
            say(plain(f"  in the way: {text}"))
        show_dependents(seen)
    if seen["obstacles"]:
        raise SystemExit(1)


def _show(test: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(test, where.format)
        return
    say(plain(f"{test['id']}: {test['phase']}" + (f" ({test['outcome']})" if test["outcome"] else "")))
    if test["phase"] == "proposed":
        terms = f"--share {test['share']} --seconds {test['seconds']} --by {test['means']}"
        say(plain(f"another person runs, within an hour: `remit scream start {test['identity']} {terms}`"))
        return
    rows = [{**each, "tier": "not set" if each["tier"] is None else each["tier"]} for each in test["heard"]]
    columns = [("who", "who screamed"), ("count", "times"), ("tier", "tier"), ("words", "what it was told")]
    show_table(rows, columns, empty=test["said"])
    if test["trouble"]:
        say(plain(test["trouble"]))
