"""Commands on policies and decisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.commands.policy_files import read_files, read_text
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import console, emit, plain, say, show_table

if TYPE_CHECKING:
    from remit.access.policy.coverage import Coverage


_DRY = Parameter(negative=(), help="Check, and say what would change; change nothing.")
_CASES = Parameter(help="Test cases (YAML) that come with it; those of a folder are found by themselves.")
_INVARIANTS = Parameter(help="Invariants that it promises; those of a folder are found by themselves.")
_ACCEPT = Parameter(
    name="--accept-broken", negative=(), help="An invariant that you accept as broken, by its id; may be repeated."
)


def apply(
    path: Path,
    /,
    *,
    dry_run: Annotated[bool, _DRY] = False,
    cases: Annotated[Path | None, _CASES] = None,
    invariant: Annotated[Path | None, _INVARIANTS] = None,
    accept_broken: Annotated[tuple[str, ...], _ACCEPT] = (),
    where: Listing | None = None,
) -> None:
    """Check policies, weigh what they promise, and put them in force.

    They replace the ones in force; the change is signed by you and recorded. Their test cases must pass, and what was
    proved of the policies in force must hold of these, or be accepted as broken by its name.
    """
    where = where or Listing()
    files = read_files(path)
    if dry_run:
        check(path, where=where)
        return
    body = {
        "text": files.text,
        "source": str(path),
        "cases": read_text(cases) if cases is not None else files.cases,
        "invariants": read_text(invariant) if invariant is not None else files.invariants,
        "accept_broken": list(accept_broken),
    }
    version = where.admin.post("/api/v1/policies", body, signed=True)
    if where.format != "table":
        emit(version, where.format)
        return
    if version["state"] == "staged":
        say(f"staged {version['id']}; another person runs `remit policy activate {version['id']}`")
    else:
        say(f"in force: {version['count']} policies, version {version['id']} ({version['digest'][:19]}…)")
    _say_weighing(version)


def activate(
    version: str = "",
    /,
    *,
    accept_broken: Annotated[tuple[str, ...], _ACCEPT] = (),
    where: Listing | None = None,
) -> None:
    """Put a staged version in force, as another person than who staged it; without one, list the versions.

    It is checked, its cases are run and its invariants proved once more, against what is in force now.
    """
    where = where or Listing()
    if not version:
        versions(where=where)
        return
    _say_in_force(where, f"/api/v1/policies/{version}/activate", {"accept_broken": list(accept_broken)})


def rollback(
    version: str = "",
    /,
    *,
    accept_broken: Annotated[tuple[str, ...], _ACCEPT] = (),
    where: Listing | None = None,
) -> None:
    """Put an earlier version in force again: the one before, or the one that is named.

    As with every activation, it is another person than who staged it, where there are several.
    """
    where = where or Listing()
    body = {"version": version, "accept_broken": list(accept_broken)}
    _say_in_force(where, "/api/v1/policies/rollback", body)


def _say_in_force(where: Listing, path: str, body: dict[str, Any]) -> None:
    answer = where.admin.post(path, body, signed=True)
    if where.format != "table":
        emit(answer, where.format)
        return
    say(f"in force: {answer['id']} ({answer['digest'][:19]}…)")
    _say_weighing(answer)


def _say_weighing(answer: dict[str, Any]) -> None:
    """What is known of its promises."""
    if answer.get("cases"):
        say(f"{answer['cases']} cases pass")
    if answer.get("proved"):
        say(f"proved: {plain(', '.join(answer['proved']))}")
    for broken in answer.get("broken", ()):
        said = "no longer holds" if broken["kept_before"] else "does not hold"
        say(f"[yellow]broken[/yellow] {plain(broken['invariant'])} {said}: {plain(broken['text'])}")
    if answer.get("unmeasured"):
        say(f"[yellow]not proved[/yellow]: {plain(answer['unmeasured'])}")


def versions(*, where: Listing | None = None) -> None:
    """List policy versions, newest first: staged, in force, and superseded."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/policies/versions")
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [
        ("id", "version"),
        ("state", "state"),
        ("serial", "serial"),
        ("created", "staged"),
        ("by", "by"),
        ("activated", "activated"),
        ("activated_by", "activated by"),
        ("digest", "digest"),
    ]
    shown = [{**row, "serial": row["serial"] or "", "digest": row["digest"][:19]} for row in rows]
    show_table(shown, columns, empty="no policies yet")


def check(path: Path, /, *, where: Listing | None = None) -> None:
    """Parse and validate policies against the schema. Exits 1 when something is wrong."""
    from remit.access.policy.check import check as check_policies
    from remit.access.policy.check import errors_of

    where = where or Listing()
    files = read_files(path)
    problems = check_policies(files.written, links=files.links)
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


def test(
    path: Path,
    cases: Path | None = None,
    /,
    *,
    coverage: Annotated[
        bool, Parameter(negative=(), help="Say which clauses no case has shown true, or false.")
    ] = False,
    min: Annotated[
        float | None, Parameter(help="Exit 1 when less than this share of clauses is covered, in percent.")
    ] = None,
    where: Listing | None = None,
) -> None:
    """Run the cases of a YAML file, or those beside the policies of a folder. Exits 1 when one fails."""
    from remit.access.policy.cases import read_cases, run_cases
    from remit.access.policy.compile import compile_policies
    from remit.access.policy.coverage import cover

    where = where or Listing()
    files = read_files(path)
    read = read_cases(read_text(cases) if cases is not None else files.cases)
    if not read:
        raise Rejected("access.policy.cases", f"`{cases or path}` holds no case", next_step="name a file of cases")
    policies = compile_policies(files.text)
    results = run_cases(read, policies)
    failed = not all(each.passed for each in results)
    measured = cover(policies, [each.decision for each in results]) if coverage or min is not None else None
    if where.format != "table":
        told = [{"name": each.name, "passed": each.passed, "why": each.why} for each in results]
        emit(told if measured is None else {"cases": told, "coverage": _coverage(measured)}, where.format)
    else:
        rows = [
            {"name": each.name, "outcome": "pass" if each.passed else "FAIL", "detail": each.why} for each in results
        ]
        show_table(rows, [("name", "case"), ("outcome", "outcome"), ("detail", "detail")])
        if measured is not None:
            _show_coverage(measured)
    if failed or (measured is not None and min is not None and measured.percent < min):
        sys.exit(1)


def _coverage(measured: Coverage) -> dict[str, Any]:
    return {
        "percent": measured.percent,
        "policies": [
            {"policy": each.policy, "line": each.line, "applied": each.applied, "seen": each.seen,
             "wanted": each.wanted, "gaps": each.gaps()}
            for each in measured.policies
        ],
    }  # fmt: skip


def _show_coverage(measured: Coverage) -> None:
    gaps = [{"policy": each.policy, "gap": gap} for each in measured.policies for gap in each.gaps()]
    if gaps:
        show_table(gaps, [("policy", "policy"), ("gap", "not covered")])
    say(f"{measured.percent:g} % of the clauses of {len(measured.policies)} policies are covered")


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


def schema(
    *,
    cedar: Annotated[bool, Parameter(negative=(), help="As Cedar's own schema, for editors and other tools.")] = False,
    where: Listing | None = None,
) -> None:
    """Print what a policy can say: every attribute, its type, who says it, and what it means. Needs no server."""
    from remit.access.policy.schema import STANDARD
    from remit.access.policy.words import words

    if cedar:
        print(STANDARD.schema(), end="")
        return
    where = where or Listing()
    rows = [
        {"attribute": each.path, "type": each.kind.value, "always": each.always, "says": each.says,
         "meaning": each.sentence}
        for each in words()
    ]  # fmt: skip
    if where.format != "table":
        emit(rows, where.format)
        return
    shown = [{**row, "attribute": f"{row['attribute']}{'' if row['always'] else '?'}"} for row in rows]
    show_table(shown, [(name, name) for name in ("attribute", "type", "says", "meaning")])
    say("`?`: not always there, so test with `has` first. What a caller says counts under `context.claimed` alone")


def replay(path: Path, /, *, limit: int = 1000, where: Listing | None = None) -> None:
    """Decide past requests again under other policies, with today's facts;
    lists what would change. Exits 1 if anything would.
    """
    where = where or Listing()
    found = where.admin.post("/api/v1/policies/replay", {"text": read_files(path).text, "limit": limit})
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


_RERUN = Parameter(negative=(), help="Decide it again, with the policies and the facts of its moment.")
_POLICIES = Parameter(help="With --rerun: other policies, of a file, a folder, or a version (`pv_…`).")


def explain(
    decision: str,
    /,
    *,
    rerun: Annotated[bool, _RERUN] = False,
    policies: Annotated[str, _POLICIES] = "",
    where: Listing | None = None,
) -> None:
    """Why a decision was taken: policies, facts, the very clauses that failed, and what would have allowed it.

    With --rerun it is decided again, and exits 1 when anything comes out otherwise.
    """
    where = where or Listing()
    if rerun or policies:
        _decide_again(decision, policies, where)
        return
    found = where.admin.get(f"/api/v1/decisions/{decision}")
    if where.format != "table":
        emit(found, where.format)
        return
    out = console()
    answer = "[bold green]allowed[/bold green]" if found["allowed"] else "[bold red]denied[/bold red]"
    row = _row(found)
    asked = plain(f"{row['subject']} → {row['action']} → {row['resource']}")
    out.print(f"{answer}  {asked}  [dim]{found['time']}[/dim]", soft_wrap=True)
    by_policy = {each["policy"]: each for each in found["explanation"]["determining"]}
    for reason in found["reasons"]:
        line = f"  because {reason['effect']} [bold]{plain(reason['id'])}[/bold]: {plain(reason['text'])}"
        out.print(line, soft_wrap=True)
        _say_held(by_policy.get(reason["id"]))
    for error in found["errors"]:
        out.print(f"  [yellow]error[/yellow] {plain(error)}", soft_wrap=True)
    told = found["explanation"]
    _say_nearly(told)
    if not told["nearly"] and not told["steps"]:
        for needed in found["needed"]:
            out.print(f"  [cyan]would have helped[/cyan] {plain(needed)}", soft_wrap=True)
    _say_steps(told)
    named = told["policies"]
    if named["note"]:
        out.print(f"  [yellow]explained by the policies in force now[/yellow]: {plain(named['note'])}")
    else:
        out.print(f"  [dim]policies of its moment: {named['version'] or named['digest'][:19]}[/dim]")
    out.print("  facts:")
    emit(found["facts"], "yaml")


def _say_held(found: dict[str, Any] | None) -> None:
    """By which clauses a policy decided, and where it stands."""
    if found is not None:
        clauses = "; ".join(each["sentence"] for each in found["clauses"])
        console().print(f"    [dim]line {found['line']}[/dim] {plain(clauses)}", soft_wrap=True)


def _say_nearly(told: dict[str, Any]) -> None:
    """The policies that nearly decided it, and what each lacked."""
    for found in told["nearly"]:
        console().print(f"  [cyan]nearly[/cyan] {plain(found['sentence'])}", soft_wrap=True)


def _say_steps(told: dict[str, Any]) -> None:
    """What would have allowed it."""
    out = console()
    if told["steps"]:
        sure = ", all of it together" if told["shown_to_allow"] else ""
        out.print(f"  what would have allowed it{sure}:")
    for step in told["steps"]:
        out.print(f"    {plain(step['fact'])}: {plain(step['needs'])} (was {plain(step['was'])})", soft_wrap=True)
        out.print(f"      [dim]{plain(step['how'])}[/dim]", soft_wrap=True)
        if step["command"]:
            out.print(f"      $ {plain(step['command'])}", soft_wrap=True)


def _decide_again(decision: str, policies: str, where: Listing) -> None:
    body: dict[str, Any] = {}
    if policies.startswith("pv_"):
        body["version"] = policies
    elif policies:
        body["text"] = read_files(Path(policies)).text
    found = where.admin.post(f"/api/v1/decisions/{decision}/rerun", body)
    if where.format != "table":
        emit(found, where.format)
    else:
        named, out = found["policies"], console()
        which = plain(named["version"] or policies or "none")
        out.print(f"[dim]policies: {which}[/dim]", soft_wrap=True)
        if not found["asked"]:
            out.print("refused by something else than policy, which no policy changes")
        elif found["same"]:
            out.print(f"same: {found['after']}, by {plain(', '.join(found['by']) or 'no policy')}", soft_wrap=True)
        else:
            for line in found["differs"]:
                out.print(f"differs: {plain(line)}", soft_wrap=True)
            for each in found["explanation"]["determining"]:
                out.print(f"  {plain(each['sentence'])}", soft_wrap=True)
            _say_nearly(found["explanation"])
    if not found["same"]:
        sys.exit(1)
