"""Commands on policies and decisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import console, emit, plain, say, show_table

_LIMIT = 4 * 1024 * 1024


def read_policies(path: Path) -> str:
    """The Cedar text of a file, or of all `.cedar` files of a folder in the order of their names."""
    files = sorted(path.glob("**/*.cedar")) if path.is_dir() else [path]
    if not files:
        raise Rejected("access.policy.none", f"`{path}` holds no .cedar file")
    text = "\n".join(_read(file) for file in files)
    if len(text) > _LIMIT:
        raise Rejected("access.policy.too_large", f"`{path}` holds more than {_LIMIT} bytes of policies")
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected("access.policy.unreadable", f"`{path}` cannot be read: {error}") from None


def apply(
    path: Path,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=(), help="Check, and say what would change; change nothing.")] = False,
    where: Listing | None = None,
) -> None:
    """Check policies and put them in force.

    They replace the ones in force; the change is signed by you and recorded.
    """
    where = where or Listing()
    text = read_policies(path)
    if dry_run:
        check(path, where=where)
        return
    version = where.admin.post("/api/v1/policies", {"text": text, "source": str(path)}, signed=True)
    if where.format != "table":
        emit(version, where.format)
    else:
        if version["state"] == "staged":
            say(f"staged {version['id']}; another person runs `remit policy activate {version['id']}`")
            return
        say(f"in force: {version['count']} policies, version {version['id']} ({version['digest'][:19]}…)")


def activate(version: str = "", /, *, where: Listing | None = None) -> None:
    """Put a staged version in force, as another person than who staged it; without one, list the versions."""
    where = where or Listing()
    if version:
        answer = where.admin.post(f"/api/v1/policies/{version}/activate", signed=True)
        say(f"in force: {answer['id']} ({answer['digest'][:19]}…)")
        return
    rows = where.admin.get("/api/v1/policies/versions")
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("id", "version"),
        ("state", "state"),
        ("created", "staged"),
        ("by", "by"),
        ("activated_by", "activated by"),
    ]
    show_table(rows, columns, empty="no policies yet")


def check(path: Path, /, *, where: Listing | None = None) -> None:
    """Parse and validate policies against the schema. Exits 1 when something is wrong."""
    from remit.access.policy.check import check as check_policies
    from remit.access.policy.check import errors_of

    where = where or Listing()
    problems = check_policies(read_policies(path))
    if where.format != "table":
        emit(problems, where.format)
    else:
        for problem in problems:
            kind = "error" if problem.error else "advice"
            named = f" policy `{problem.policy}`:" if problem.policy else ""
            console().print(f"{path}:{problem.line}: {kind}:{named} {problem.message}", markup=False)
        say("no problems" if not problems else f"{len(errors_of(problems))} errors, {len(problems)} in all")
    if errors_of(problems):
        sys.exit(1)


def test(path: Path, cases: Path, /, *, where: Listing | None = None) -> None:
    """Run the cases of a YAML file against policies. Exits 1 when one fails."""
    from remit.access.policy.cases import read_cases, run_cases
    from remit.access.policy.compile import compile_policies

    where = where or Listing()
    results = run_cases(read_cases(_read(cases)), compile_policies(read_policies(path)))
    if where.format != "table":
        emit([{"name": each.name, "passed": each.passed, "why": each.why} for each in results], where.format)
    else:
        rows = [
            {"name": each.name, "outcome": "pass" if each.passed else "FAIL", "detail": each.why} for each in results
        ]
        show_table(rows, [("name", "case"), ("outcome", "outcome"), ("detail", "detail")])
    if not all(each.passed for each in results):
        sys.exit(1)


def show(
    *,
    starter: Annotated[
        bool, Parameter(negative=(), help="The starter policies that ship with Remit, not in force.")
    ] = False,
    where: Where | None = None,
) -> None:
    """Print the policies in force, or the starter policies."""
    if starter:
        from remit.access.policy.starter import starter_text

        print(starter_text())
        return
    active = (where or Where()).admin.get("/api/v1/policies")
    if active["text"]:
        print(active["text"])
    else:
        say("no policies are in force: everything is denied. `remit policy show --starter` prints some to begin with")


def replay(path: Path, /, *, limit: int = 1000, where: Listing | None = None) -> None:
    """Decide past requests again under other policies, with today's facts;
    lists what would change. Exits 1 if anything would.
    """
    where = where or Listing()
    found = where.admin.post("/api/v1/policies/replay", {"text": read_policies(path), "limit": limit})
    if where.format != "table":
        emit(found, where.format)
    else:
        columns = [
            ("subject", "subject"),
            ("action", "action"),
            ("resource", "resource"),
            ("before", "was"),
            ("after", "would be"),
        ]
        show_table(found["changes"], columns, empty="nothing would change")
        say(f"[dim]{found['replayed']} decisions replayed[/dim]")
    if found["changes"]:
        sys.exit(1)


def decisions(
    *,
    denied: Annotated[bool, Parameter(negative=(), help="Only denials.")] = False,
    limit: int = 30,
    where: Listing | None = None,
) -> None:
    """The latest decisions, newest first."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/decisions", denied=int(denied), limit=limit)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("time", "when"),
        ("answer", "answer"),
        ("subject", "subject"),
        ("action", "action"),
        ("resource", "resource"),
        ("why", "why"),
        ("id", "id"),
    ]
    show_table([_row(row) for row in rows], columns, empty="no decisions yet")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    request = row["request"]
    return {
        **row,
        "answer": "allow" if row["allowed"] else "deny",
        "subject": row.get("title") or request["subject"]["id"],
        "action": request["action"],
        "resource": request["resource"]["id"],
        "why": "; ".join(reason["text"] or reason["id"] for reason in row["reasons"]),
    }


def explain(decision: str, /, *, where: Listing | None = None) -> None:
    """Why a decision was taken: policies, facts, and what would have changed it."""
    where = where or Listing()
    found = where.admin.get(f"/api/v1/decisions/{decision}")
    if where.format != "table":
        emit(found, where.format)
        return
    out = console()
    answer = "[bold green]allowed[/bold green]" if found["allowed"] else "[bold red]denied[/bold red]"
    row = _row(found)
    asked = plain(f"{row['subject']} → {row['action']} → {row['resource']}")
    out.print(f"{answer}  {asked}  [dim]{found['time']}[/dim]")
    for reason in found["reasons"]:
        out.print(f"  because {reason['effect']} [bold]{plain(reason['id'])}[/bold]: {plain(reason['text'])}")
    for error in found["errors"]:
        out.print(f"  [yellow]error[/yellow] {plain(error)}")
    for needed in found["needed"]:
        out.print(f"  [cyan]would have helped[/cyan] {plain(needed)}")
    out.print("  facts:")
    emit(found["facts"], "yaml")
