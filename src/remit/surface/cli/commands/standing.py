"""Commands on standing privilege: what stands outside of grants, and how it becomes a grant."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import NotFound
from remit.surface.cli.convert import apply as run_apply
from remit.surface.cli.convert import write_files
from remit.surface.cli.dependents import show_dependents
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table, visible

_PATH = "/api/v1/conversions"


def ls(
    *,
    days: Annotated[int, Parameter(help="How many days back.")] = 30,
    limit: Annotated[int, Parameter(help="At most so many rows of the table.")] = 50,
    where: Listing | None = None,
) -> None:
    """List who holds privileged rights without a task, the worst first: hours by day and week, total and trend.

    Hours under a task's lease are shown beside them. Before the first observation everything is unmeasured.
    """
    where = where or Listing()
    found = where.admin.get("/api/v1/standing", days=days)
    if where.format != "table":
        emit(found, where.format)
        return
    rows = [_row(each) for each in found["standing"]]
    columns = [("title", "identity"), ("system", "system"), ("level", "may"), ("standing_now", "rights now"),
               ("hours_day", "h/day"), ("hours_week", "h/week"), ("trend", "trend"),
               ("granted_hours_week", "granted h"),
               ("owner", "owner"), ("identity", "id")]  # fmt: skip
    show_table(rows[:limit], columns, empty="no privileged right stands outside of grants")
    if len(rows) > limit:
        say(f"{len(rows) - limit} more: `--limit {len(rows)}`")
    for text in found["unmeasured"]:
        say(plain(f"not measured: {text}"))
    _say_total(found)


def _row(each: dict[str, Any]) -> dict[str, Any]:
    numbers = ("hours_day", "hours_week", "granted_hours_week")
    return {**each, **{name: f"{each[name]:.1f}" for name in numbers}, "trend": _signed(each["trend"])}


def _say_total(found: dict[str, Any]) -> None:
    total = found["total"]
    if found["measured_since"] is None:
        say("unmeasured: nothing was observed yet")
        return
    say(
        plain(
            f"total: {total['hours_week']:.1f} privileged hours this week (trend: {_signed(total['trend'])}), "
            f"{total['granted_hours_week']:.1f} under grants; "
            f"as things stand {total['hours_per_day_now']} more each day"
        )
    )
    say(plain(f"measured since {found['measured_since']}"))


def _signed(hours: float | None) -> str:
    return "unmeasured" if hours is None else f"{hours:+.1f}"


def convert(
    identity: str = "",
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The folder for what is written (default: `convert-LOGIN`).")] = None,
    task: Annotated[str, Parameter(help="The task's name (default: the login's).")] = "",
    role: Annotated[str, Parameter(help="The role as needs name it (default: the login's name).")] = "",
    command: Annotated[str, Parameter(help="The workload's command, as it stands in what is written.")] = "",
    dry_run: Annotated[bool, Parameter(help="Show everything; write nothing.", negative=())] = False,
    apply: Annotated[bool, Parameter(help="Do it: role, policy, a run, then the login's end.", negative=())] = False,
    undo: Annotated[bool, Parameter(help="Give the login back as it was. You sign.", negative=())] = False,
    yes: Annotated[bool, Parameter(help="Do not ask.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Turn a login that stands into a role that tasks lease: policy, role, commands and the workload's change.

    Without `--apply` nothing changes but the folder. Without an identity it lists conversions.
    """
    where = where or Listing()
    if not identity:
        _list(where)
        return
    if undo:
        _undo(where, identity)
        return
    words = shlex.split(command)
    body = {"identity": identity, "task": task, "role": role, "command": words}
    held = where.admin.get(_PATH, identity=identity) if apply else []
    begun = [each for each in held[:1] if each["phase"] in ("planned", "prepared", "removing")]
    if apply and begun:
        _finished(_apply(where, identity, task, role, out or Path(f"convert-{begun[0]['task']}")), where)
        return
    plan = where.admin.post(_PATH, {**body, "dry_run": True})
    folder = out or Path(f"convert-{plan['task']}")
    _show_plan(plan, where, folder, dry_run=dry_run)
    if not dry_run:
        write_files(folder, plan["files"])
    if plan["obstacles"]:
        raise SystemExit(1)
    if apply and not dry_run:
        if not yes and not _confirmed(plan):
            raise SystemExit(1)
        _finished(_apply(where, identity, task, role, folder), where)


def _apply(where: Listing, identity: str, task: str, role: str, folder: Path) -> dict[str, Any]:
    return run_apply(where, identity, task=task, role=role, folder=folder)


def _finished(done: dict[str, Any], where: Listing) -> None:
    if where.format != "table":
        emit(done, where.format)
    else:
        said = done["proof"].get("refusal") or done["proof"].get("why") or done["trouble"]
        say(plain(f"{done['id']}: {done['login']} is {done['phase']}" + (f": {said}" if said else "")))
        for text in done["left"]:
            say(plain(text))
    if done["phase"] not in ("done", "undone"):
        raise SystemExit(1)


def _undo(where: Listing, identity: str) -> None:
    found = where.admin.get(_PATH, identity=identity)
    if not found:
        raise NotFound("governance.conversion.none", "it was never converted", next_step="`remit convert ID`")
    _finished(where.admin.post(f"{_PATH}/{found[0]['id']}/undo", {}, signed=True), where)


def _list(where: Listing) -> None:
    rows = where.admin.get(_PATH)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("login", "login"), ("need", "need"), ("task", "task"), ("phase", "phase"), ("moved", "since"),
               ("id", "id")]  # fmt: skip
    show_table(rows, columns, empty="nothing was converted yet: `remit convert ID`")


def _show_plan(plan: dict[str, Any], where: Listing, folder: Path, *, dry_run: bool) -> None:
    if where.format != "table":
        if dry_run:
            emit(plan, where.format)
        return
    if dry_run:
        for name, text in plan["files"].items():
            sys.stdout.write(f"--- {name}\n{visible_lines(text)}\n")
    say(plain(f"{plan['login']} on {plan['target']} → {plan['need']}; nothing was changed on the target"))
    if not dry_run:
        say(plain(f"written: {folder}/README.md has the order of steps"))
    for text in plan["obstacles"]:
        say(plain(f"in the way: {text}"))
    if dry_run:
        show_dependents(plan)


def visible_lines(text: str) -> str:
    """What may be shown of a text of several lines."""
    return "\n".join(visible(line) for line in text.splitlines())


def _confirmed(plan: dict[str, Any]) -> bool:
    if not sys.stdin.isatty():
        say("`--apply` asks first: repeat it with `--yes`")
        return False
    say(plain(f"{plan['login']} will not be admitted any more. Does the workload run by `remit run` already? [y/N]"))
    return sys.stdin.readline().strip().lower() in ("y", "yes")
