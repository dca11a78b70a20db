"""What `remit run` says: the plan of a dry run, what was revoked and proved, and why something was refused."""

from __future__ import annotations

import json
import sys
from typing import Any

from remit.kernel.errors import RemitError
from remit.surface.cli.run_options import Options

DENIED = 1
"""The exit code of a dry run that found a need denied."""


def say(text: str) -> None:
    """One line to stderr: stdout is the command's."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_error(error: RemitError) -> None:
    """A refusal, and what to do next."""
    say(f"remit: {error.message}")
    if error.next_step:
        say(f"  → {error.next_step}")


def note(options: Options, text: str) -> None:
    """What is worth knowing, and not asked for with `--quiet` or as JSON."""
    if not options.quiet and not options.json:
        say(f"remit: {text}")


def report(options: Options, granted: Any, revoked: Any, code: int, tree: str) -> None:
    """How the run ended, lease by lease."""
    outcomes = [] if revoked is None else list(revoked.outcomes)
    if options.json:
        from google.protobuf.json_format import MessageToDict

        leases = [MessageToDict(one, preserving_proto_field_name=True) for one in outcomes]
        said = {"grant": granted.grant, "identity": granted.identity, "exit_code": code, "tree": tree, "leases": leases}
        say(json.dumps(said))
        return
    for one in outcomes:
        if one.state in ("revoked", "failed"):
            took = f" in {one.duration_us / 1000:.0f} ms" if one.duration_us else ""
            ended = f", {one.sessions_ended} sessions ended" if one.sessions_ended else ""
            proof = f": refused with `{one.refusal}`" if one.refusal else ""
            note(options, f"revoked {one.principal} on {one.target}{took}{ended}{proof}")
            for left in one.left_behind:
                note(options, f"  left behind: {left}")
        elif one.state == "unproved":
            say(f"remit: revoked {one.principal} on {one.target}, but not proved: {one.trouble}")
        else:
            say(f"remit: {one.principal} on {one.target} is NOT contained yet: {one.trouble or 'still trying'}")
            say("  → remit leases")


def show_plan(options: Options, argv: tuple[str, ...], planned: Any, tree: str) -> int:
    """Print what would happen; 0 where all is allowed, 1 where a need is denied."""
    allowed = all(one.allowed for one in planned.verdicts)
    if options.json:
        needs = [_need(label, one) for label, one in zip(options.labels, planned.verdicts, strict=True)]
        plan = {
            "task": options.task,
            "identity": planned.identity,
            "task_digest": planned.task_digest,
            "command": list(argv),
            "allowed": allowed,
            "approved_grant": planned.approved or None,
            "life_seconds": planned.life_seconds,
            "handover": options.handover,
            "tree": tree,
            "needs": needs,
        }
        sys.stdout.write(json.dumps(plan) + "\n")
        return 0 if allowed else DENIED
    lines = [f"task {options.task} as {planned.identity} ({planned.task_digest})"]
    grant = f"the approved grant {planned.approved}" if planned.approved else "a grant"
    lines.append(f"  under {grant} of at most {_time(planned.life_seconds)}, handed over by {options.handover}")
    lines.append(f"  its processes end with it: {tree}")
    for one in planned.verdicts:
        lines.append(f"  {'allowed' if one.allowed else 'DENIED '} {one.need}")
        lines += [f"          because {reason}" for reason in one.reasons]
        lines += [f"          needs {needed}" for needed in one.needed]
        if one.allowed:
            lines += [f"          {line}" for line in _minted(one)]
    sys.stdout.write("\n".join((*lines, "nothing was minted, nothing was run", "")))
    return 0 if allowed else DENIED


def _minted(one: Any) -> list[str]:
    where = f"{one.target}, database {one.database}" if one.database else one.target
    end = f"ends there by itself within {_time(one.native_seconds)}" if one.native_seconds else "knows no end there"
    safe = "" if one.fail_safe else "; not fail-safe: the target ends no session by itself"
    lines = [f"would mint {one.principal} on {where}, as {one.target_role}", f"{end} unless it is renewed{safe}"]
    return lines + [f"would run {step}" for step in one.steps]


def _need(label: str, one: Any) -> dict[str, Any]:
    return {
        "name": label,
        "need": one.need,
        "allowed": one.allowed,
        "decision": one.decision,
        "reasons": list(one.reasons),
        "needed": list(one.needed),
        "system": one.system,
        "target": one.target,
        "target_role": one.target_role,
        "database": one.database,
        "principal": one.principal,
        "native_seconds": one.native_seconds,
        "fail_safe": one.fail_safe,
        "steps": list(one.steps),
    }


def _time(seconds: int) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
