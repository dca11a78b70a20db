"""`remit run github WORKFLOW --job JOB`: the `run:` steps of a GitHub Actions job, here, each as a task of its own.

What a step needs stands in its environment, so that the file stays a workflow that GitHub runs too:

    env:
      REMIT_NEEDS: postgres://orders?role=read redis://cache?role=write

A step with needs is the task `REMIT_TASK.STEP` (without it `github.WORKFLOW.JOB.STEP`). Its script is part of the
task's definition: who changes the workflow has to register it anew. A step without needs runs as it is. What is not
covered is refused by name before anything runs.

Spec: GitHub, "Workflow syntax for GitHub Actions"; "Workflow commands", environment files.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from remit.kernel.errors import Rejected, RemitError
from remit.surface.cli.run_nested import REMIT_RUN, call, loads_code
from remit.surface.cli.run_options import REFUSED, Parser, add_places, split
from remit.surface.cli.run_report import say, say_error

SHELLS: Mapping[str, tuple[str, ...]] = {
    "": ("bash", "-e", "-c"),
    "bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"),
    "sh": ("sh", "-e", "-c"),
    "python": ("python3", "-c"),
}
MAX_FILE_BYTES = 1 << 20
_MOST_CELLS = 256
_WORKFLOW = {"name", "run-name", "on", True, "permissions", "env", "defaults", "jobs", "concurrency"}
_JOB = {"name", "runs-on", "needs", "permissions", "env", "defaults", "steps", "timeout-minutes", "strategy"}
_STEP = {"id", "name", "if", "run", "uses", "with", "shell", "working-directory", "env", "continue-on-error"}
_CONDITIONS = {"": "success", "success()": "success", "always()": "always", "failure()": "failure"}
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_COVERED = re.compile(r"(env|matrix)\.[\w-]+|github\.(workflow|job)|runner\.os|steps\.[\w-]+\.outputs\.[\w-]+")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_HEREDOC = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)<<(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A `run:` step as it will run; `uses: actions/checkout` is none: the tree is here."""

    id: str
    title: str
    script: str
    interpreter: tuple[str, ...]
    folder: str
    shared: Mapping[str, str]
    """Of the workflow and the job; what earlier steps wrote to `GITHUB_ENV` goes before it."""
    env: Mapping[str, str]
    """Its own, which goes before both."""
    condition: str
    may_fail: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job, read and found covered."""

    workflow: str
    name: str
    steps: tuple[Step, ...]
    cells: tuple[Mapping[str, str], ...]
    minutes: int
    notes: tuple[str, ...]


@dataclass(slots=True)
class _State:
    """What steps leave to those after them."""

    env: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: bool = False


def main(argv: Sequence[str]) -> int:
    """Run a job of a workflow file; the exit code is that of the first step that failed, 125 what Remit refused."""
    head, _ = split(argv)
    parser = Parser(prog="remit run github", allow_abbrev=False, description=__doc__.partition("\n")[0])
    parser.usage_line = "remit run github .github/workflows/NAME.yml --job JOB"
    parser.add_argument("workflow", type=Path)
    parser.add_argument("--job", required=True)
    parser.add_argument("--dry-run", action="store_true", help="say what each step would be granted; run nothing")
    add_places(parser)
    said = parser.parse_args(head)
    places = _places(said, head)
    try:
        job = read_job(said.workflow, said.job)
        return _run(job, [*places, *(["--dry-run"] if said.dry_run else [])], dry=said.dry_run)
    except RemitError as error:
        say_error(error)
        return REFUSED


def _places(said: Any, head: Sequence[str]) -> list[str]:
    given = {word.split("=")[0] for word in head}
    places = ["--data", str(said.data)] if "--data" in given else []
    return places + (["--socket-dir", str(said.socket_dir)] if said.socket_dir else [])


def read_job(path: Path, name: str) -> Job:
    """Read one job. Raises `Rejected`: `surface.workflow.malformed`, `surface.workflow.not_covered`."""
    import yaml

    try:
        with path.open("rb") as file:
            document = yaml.safe_load(file.read(MAX_FILE_BYTES))
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        trouble = error.strerror if isinstance(error, OSError) else "it is no YAML"
        raise _malformed(f"`{path}` cannot be read: {trouble}") from None
    jobs = document.get("jobs") if isinstance(document, dict) else None
    if not isinstance(jobs, dict) or not isinstance(jobs.get(name), dict):
        known = ", ".join(f"`{each}`" for each in jobs) if isinstance(jobs, dict) else "none"
        raise _malformed(f"`{path}` has no job `{name[:80]}`; there is {known}")
    job = jobs[name]
    _covered(document, _WORKFLOW, "the workflow")
    _covered(job, _JOB, f"the job `{name}`")
    env = _env(document.get("env")) | _env(job.get("env"))
    defaults = _run_defaults(document) | _run_defaults(job)
    steps = [
        step
        for number, each in enumerate(_list(job.get("steps"), "steps"), 1)
        if (step := _step(each, number, env, defaults)) is not None
    ]
    notes = [f"its job `{each}` is not run first" for each in _words(job.get("needs"))]
    return Job(
        workflow=path.stem,
        name=name,
        steps=tuple(steps),
        cells=tuple(_cells(job.get("strategy"))),
        minutes=_minutes(job.get("timeout-minutes")),
        notes=tuple(notes),
    )


def _step(said: Any, number: int, env: Mapping[str, str], defaults: Mapping[str, str]) -> Step | None:
    if not isinstance(said, dict):
        raise _malformed(f"step {number} is no mapping")
    _covered(said, _STEP, f"step {number}")
    if "uses" in said:
        if str(said["uses"]).startswith("actions/checkout@"):
            return None
        raise _not_covered(f"`uses: {said['uses']}` in step {number}", "run its commands by `run:`")
    if not isinstance(said.get("run"), str):
        raise _malformed(f"step {number} has no `run`")
    condition = str(said.get("if", "")).strip().removeprefix("${{").removesuffix("}}").strip()
    if condition not in _CONDITIONS:
        raise _not_covered(f"`if: {condition[:80]}` in step {number}", "use `always()`, `success()` or `failure()`")
    shell = str(said.get("shell", defaults.get("shell", "")))
    if shell not in SHELLS:
        raise _not_covered(f"`shell: {shell[:80]}` in step {number}", "use bash, sh or python")
    for text in (said["run"], *map(str, _env(said.get("env")).values()), *env.values()):
        for found in _EXPRESSION.finditer(text):
            _known(found[1], number)
    return Step(
        id=str(said.get("id") or number),
        title=str(said.get("name") or said["run"].strip().partition("\n")[0])[:80],
        script=said["run"],
        interpreter=SHELLS[shell],
        folder=str(said.get("working-directory", defaults.get("working-directory", "."))),
        shared=env,
        env=_env(said.get("env")),
        condition=_CONDITIONS[condition],
        may_fail=said.get("continue-on-error") is True,
    )


def _run(job: Job, options: Sequence[str], *, dry: bool) -> int:
    for note in job.notes:
        say(f"remit: {note}")
    code = 0
    with tempfile.TemporaryDirectory(prefix="remit-github-") as folder:
        for cell in job.cells:
            code = _run_cell(job, cell, options, Path(folder), dry=dry) or code
    return code


def _run_cell(job: Job, cell: Mapping[str, str], options: Sequence[str], folder: Path, *, dry: bool) -> int:
    state, first = _State(), 0
    for step in job.steps:
        if not dry and step.condition != "always" and (step.condition == "failure") != state.failed:
            continue
        where = ",".join((job.name, *cell.values()))
        say(f"remit: [{where}] {step.title}")
        code = _run_step(job, step, cell, state, options, folder, dry=dry)
        if code and not step.may_fail:
            state.failed, first = True, first or code
    return first


def _run_step(
    job: Job,
    step: Step,
    cell: Mapping[str, str],
    state: _State,
    options: Sequence[str],
    folder: Path,
    *,
    dry: bool,
) -> int:
    declared = {**step.shared, **state.env, **step.env}
    known = {f"matrix.{key}": value for key, value in cell.items()}
    known |= {"github.workflow": job.workflow, "github.job": job.name, "runner.os": "Linux"}
    known |= {f"steps.{one}.outputs.{key}": text for one, said in state.outputs.items() for key, text in said.items()}
    for name, value in declared.items():
        known[f"env.{name}"] = declared[name] = _filled(value, known)
    needs = declared.pop("REMIT_NEEDS", "").split()
    handover = declared.pop("REMIT_HANDOVER", "file")
    base = declared.pop("REMIT_TASK", "") or f"github.{job.workflow}.{job.name}"
    command = [*step.interpreter, _filled(step.script, known)]
    if dry and not needs:
        return 0
    if needs:
        if name := loads_code(declared):
            raise _not_covered(f"the variable `{name[:80]}` for a step with needs", "take it out: it loads code")
        task = re.sub(r"[^A-Za-z0-9._-]", "-", ".".join((base, step.id, *cell.values())))[:80]
        words = [word for need in needs for word in ("--need", need)]
        life = ["--ttl", f"{job.minutes}m"] if job.minutes else []
        reason = f"workflow {job.workflow}, job {job.name}, step {step.title}"
        mine = ["--task", task, *words, "--handover", handover, *life, "--reason", reason, *options]
        command = [*REMIT_RUN, *mine, "--", *command]
    files = {name: folder / name for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT")}
    for file in files.values():
        file.write_text("")
    env = {**os.environ, **declared, "CI": "true", "GITHUB_JOB": job.name, "GITHUB_WORKFLOW": job.workflow}
    env |= {"GITHUB_WORKSPACE": str(Path.cwd())} | {name: str(file) for name, file in files.items()}
    env["PATH"] = os.pathsep.join((*reversed(state.path), os.environ.get("PATH", os.defpath)))
    code = call(command, env, step.folder)
    state.env |= _assignments(files["GITHUB_ENV"].read_text())
    state.path += files["GITHUB_PATH"].read_text().split()
    state.outputs[step.id] = _assignments(files["GITHUB_OUTPUT"].read_text())
    return code


def _assignments(text: str) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME<<END` and lines up to `END`."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if (match := _HEREDOC.fullmatch(line)) is not None:
            found[match[1]] = "\n".join(iter(partial(next, lines, match[2]), match[2]))
        elif (match := _ASSIGNED.fullmatch(line)) is not None:
            found[match[1]] = match[2]
    return found


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: known.get(found[1], ""), text)


def _known(expression: str, number: int) -> None:
    if expression.startswith("secrets."):
        raise _not_covered(
            f"`{expression[:80]}` in step {number}", "declare what the step needs in `REMIT_NEEDS` instead of a secret"
        )
    if _COVERED.fullmatch(expression) is None:
        raise _not_covered(f"the expression `{expression[:80]}` in step {number}", "set it by `env:`")


def _cells(strategy: Any) -> list[Mapping[str, str]]:
    if strategy is None:
        return [{}]
    matrix = strategy.get("matrix") if isinstance(strategy, dict) else None
    if not isinstance(matrix, dict) or not all(isinstance(values, list) and values for values in matrix.values()):
        raise _not_covered("this `strategy`", "write `matrix:` as lists of plain values")
    for key in ("include", "exclude"):
        if key in matrix:
            raise _not_covered(f"`matrix: {key}`", "write the lists out")
    keys = list(matrix)
    cells = [dict(zip(keys, map(str, values), strict=True)) for values in itertools.product(*matrix.values())]
    if len(cells) > _MOST_CELLS:
        raise _malformed(f"its matrix has more than {_MOST_CELLS} cells")
    return list(cells)


def _covered(said: Mapping[Any, Any], known: set[Any], what: str) -> None:
    for key in said:
        if key not in known:
            raise _not_covered(f"`{str(key)[:80]}` of {what}", "take it out, or let GitHub run this job")


def _env(said: Any) -> dict[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise _malformed("an `env` is no mapping")
    if any(isinstance(value, list | dict) for value in said.values()):
        raise _malformed("a value of an `env` is no plain text")
    return {str(key): str(value).lower() if isinstance(value, bool) else str(value) for key, value in said.items()}


def _run_defaults(said: Mapping[str, Any]) -> dict[str, str]:
    found = (said.get("defaults") or {}).get("run") or {}
    return {str(key): str(value) for key, value in found.items()}


def _list(said: Any, what: str) -> list[Any]:
    if not isinstance(said, list) or not said:
        raise _malformed(f"its `{what}` is no list")
    return said


def _words(said: Any) -> list[str]:
    return [str(each) for each in said] if isinstance(said, list) else [str(said)] if said else []


def _minutes(said: Any) -> int:
    if said is None:
        return 0
    if not isinstance(said, int) or not 1 <= said <= 720:
        raise _malformed("its `timeout-minutes` is not between 1 and 720")
    return said


def _malformed(why: str) -> Rejected:
    return Rejected(
        "surface.workflow.malformed",
        f"the workflow cannot be read: {why}"[:1000],
        next_step="name a workflow file and one of its jobs",
    )


def _not_covered(what: str, instead: str) -> Rejected:
    return Rejected("surface.workflow.not_covered", f"{what} is not covered here"[:1000], next_step=instead)
