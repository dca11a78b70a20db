"""Commands on rotation: define it, see when it is due, rotate, follow, resume, roll back; and offboarding."""

from __future__ import annotations

import secrets as randomness
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.commands.inventory import path_of
from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_PLANS, _RUNS = "/api/v1/rotations", "/api/v1/rotation-runs"
_MOST = 64 * 1024
_FOLLOW_SECONDS = 0.3
_PHASES = {
    "planned": "planned",
    "publishing": "making the new version",
    "switching": "switching consumers",
    "verifying": "verifying use of the new",
    "revoking": "revoking the old",
    "rolling_back": "rolling back",
}


def define(
    file: Path,
    /,
    *,
    current_stdin: Annotated[
        bool, Parameter(help="Read the present secret, where no consumer can tell it.", negative=())
    ] = False,
    where: Listing | None = None,
) -> None:
    """Define what is rotated, from a TOML file: the login, its consumers, and how it is known to work. You sign it."""
    import tomllib

    where = where or Listing()
    raw = file.read_bytes()
    try:
        plan = tomllib.loads(raw.decode()) if len(raw) <= _MOST else {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Rejected("surface.rotation.file", f"`{file}` is no TOML: {error}") from None
    body: dict[str, Any] = {"plan": plan}
    if current_stdin:
        body |= {"current": sys.stdin.read(_MOST).strip(), "salt": randomness.token_urlsafe(24)}
    made = where.admin.post(_PLANS, body, signed=True)
    if where.format != "table":
        emit(made, where.format)
        return
    say(plain(f"defined {made['name']}: {made['principal']} on {made['target']}, {made['mode']}"))
    say(f"see what it would do: `remit rotate {plain(made['name'])} --dry-run`")


def now(
    name: str,
    /,
    *,
    reason: str = "by hand",
    dry_run: Annotated[
        bool, Parameter(help="Say what would be done and who would notice; change nothing.", negative=())
    ] = False,
    detach: Annotated[bool, Parameter(help="Return at once; it goes on in the control plane.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Rotate a credential without an outage, and prove that the old one is refused.

    NAME is a rotation, or an identity that has one. Exits 1 when it was rolled back or waits for a person.
    `remit rotate NAME` is the same.
    """
    where = where or Listing()
    path = f"{_PLANS}/{quote(name, safe='')}/rotate"
    if dry_run:
        _show_preview(where.admin.post(path, {"dry_run": True}), where)
        return
    run = where.admin.post(path, {"reason": reason})
    if detach:
        _show_run(run, where)
        return
    _follow(run, where)


def ls(
    *,
    rotation: Annotated[str, Parameter(help="Of one plan alone.")] = "",
    limit: int = 50,
    where: Listing | None = None,
) -> None:
    """List rotations, the newest first: where each stands, and how it was proved."""
    where = where or Listing()
    rows = where.admin.get(_RUNS, rotation=rotation, limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("plan", "rotation"), ("phase", "phase"), ("old", "old"), ("new", "new"), ("started", "started"),
               ("said", "proof or trouble"), ("id", "id")]  # fmt: skip
    show_table([{**row, "said": _said(row)} for row in rows], columns, empty="no rotations yet: `remit rotate NAME`")


def plans(*, where: Listing | None = None) -> None:
    """List what is rotated: which login, in which mode, and when it is due."""
    where = where or Listing()
    _show_plans(where.admin.get(_PLANS), where)


def due(*, where: Listing | None = None) -> None:
    """List when each credential is to be rotated, the earliest first."""
    where = where or Listing()
    _show_plans(where.admin.get(f"{_PLANS}/due"), where)


def show(run: str, /, *, where: Listing | None = None) -> None:
    """One rotation: each consumer, what was observed, and the proof."""
    where = where or Listing()
    _show_run(where.admin.get(f"{_RUNS}/{quote(run, safe='')}"), where)


def resume(
    run: str,
    /,
    *,
    accept_unproved: Annotated[
        bool, Parameter(help="Take a revocation that cannot be proved for done, on your own word.", negative=())
    ] = False,
    where: Listing | None = None,
) -> None:
    """Carry on a rotation that is stuck. Exits 1 when it is not over then."""
    where = where or Listing()
    found = where.admin.post(
        f"{_RUNS}/{quote(run, safe='')}/resume", {"accept_unproved": accept_unproved}, signed=accept_unproved
    )
    _show_run(found, where)
    raise SystemExit(0 if found["over"] else 1)


def rollback(run: str, /, *, reason: str = "by hand", where: Listing | None = None) -> None:
    """Put everything back as it was before a rotation; not once the old credential is revoked."""
    where = where or Listing()
    _show_run(where.admin.post(f"{_RUNS}/{quote(run, safe='')}/rollback", {"reason": reason}), where)


def rm(name: str, /, *, where: Where | None = None) -> None:
    """Rotate it no more; the credential stays as it is."""
    (where or Where()).admin.delete(f"{_PLANS}/{quote(name, safe='')}")
    say(f"removed {plain(name)}")


def offboard(
    identity: str,
    /,
    *,
    reason: str = "",
    dry_run: Annotated[
        bool, Parameter(help="Say what would be ended and who would notice; change nothing.", negative=())
    ] = False,
    accept_unproved: Annotated[
        bool, Parameter(help="Retire it though not everything could be tried, on your own word.", negative=())
    ] = False,
    where: Listing | None = None,
) -> None:
    """Let an identity go: deny it, end everything it could act with, try each, and retire it when all is refused.

    Exits 1 when it is not retired, because something is not proved.
    """
    where = where or Listing()
    body = {"reason": reason, "dry_run": dry_run, "accept_unproved": accept_unproved}
    done = where.admin.post(f"{path_of(identity)}/offboard", body, signed=not dry_run)
    if where.format != "table":
        emit(done, where.format)
    else:
        columns = [("kind", "kind"), ("what", "what"), ("state", "state"), ("proof", "proof")]
        show_table(done["items"], columns, empty="nothing is known that it could act with")
        if dry_run:
            show_dependents(done)
        else:
            for each in done["dependents"]:
                say(plain(f"would notice: {each['title']} ({each['relation']}: {each['evidence']})"))
            for text in done["unmeasured"]:
                say(plain(f"not measured: {text}"))
            say("retired" if done["retired"] else f"not retired: {done['unproved']} not proved")
    if not dry_run and not done["retired"]:
        raise SystemExit(1)


def _follow(run: dict[str, Any], where: Listing) -> None:
    told = ""
    while not run["over"] and not run["needs_person"]:
        if where.format == "table" and run["phase"] != told:
            told = run["phase"]
            say(plain(f"… {_PHASES.get(told, told)}"))
        time.sleep(_FOLLOW_SECONDS)
        run = where.admin.get(f"{_RUNS}/{run['id']}")
    _show_run(run, where)
    if run["phase"] != "done":
        raise SystemExit(1)


def _show_run(run: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(run, where.format)
        return
    say(plain(f"{run['id']}: {run['plan']} is {run['phase']}: {run['old']} → {run['new']}"))
    for number, place in enumerate(run["places"], start=1):
        say(plain(f"  consumer {number}: {place}"))
    for what, value in run["seen"].items():
        say(plain(f"  {what.replace('_', ' ')}: {value}"))
    if _said(run):
        say(plain(f"  {_said(run)}"))


def _said(run: dict[str, Any]) -> str:
    proof = run["proof"]
    if "refusal" in proof:
        return f"refused: {proof['refusal']} (control: {proof['control']})" + (
            f"; rolled back: {run['turning']}" if run["turning"] else ""
        )
    return str(run["trouble"] or run["turning"] or proof.get("why", ""))


def _show_preview(found: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(found, where.format)
        return
    say(plain(f"dry run: {found['rotation']} ({found['mode']}): {found['old']} → {found['new']}; nothing was changed"))
    for each in found["consumers"]:
        say(plain(f"  would switch: {each}"))
    if found["sessions"] is not None:
        say(plain(f"  sessions of it now: {found['sessions']}"))
    if found["mode"] == "in-place":
        say("  [bold]in place[/bold]: whoever has not switched yet is refused meanwhile")
    if not found["knows_old"]:
        say("  the present secret is not known: its refusal could not be proved")
    show_dependents(found)
    for text in found["obstacles"]:
        say(plain(f"  in the way: {text}"))
    if found["obstacles"]:
        raise SystemExit(1)


def _show_plans(rows: list[dict[str, Any]], where: Listing) -> None:
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("name", "rotation"), ("principal", "login"), ("target", "target"), ("mode", "mode"), ("tier", "tier"),
               ("how", "by itself"), ("rotated", "rotated"), ("due", "due")]  # fmt: skip
    shown = [{**row, "how": "yes" if row["automatic"] else "no"} for row in rows]
    show_table(shown, columns, empty="nothing is rotated: `remit rotate define FILE`")
