"""The steps of `remit convert --apply`, in the order in which each may be repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from remit.governance.standing.artifacts import PROBE, policy_id, policy_text, probe_text
from remit.governance.standing.conversion import Conversion
from remit.kernel.errors import Conflict
from remit.surface.cli.options import Where
from remit.surface.cli.output import plain, say

_PATH = "/api/v1/conversions"


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write what is to be read, for its owner alone; a file that is there and is not ours is never followed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)


def apply(where: Where, identity: str, *, task: str, role: str, folder: Path) -> dict[str, Any]:
    """Prepare, put the policy in force, try the role under a lease, and only then end the login."""
    body = {"identity": identity, "task": task, "role": role}
    made = _read(where.admin.post(_PATH, body, signed=True))
    say(plain(f"prepared: {made.group} on {made.target} is the role {made.role}"))
    if made.phase.value == "prepared":
        _put_policy(where, made)
        _try(where, made, folder)
    done: dict[str, Any] = where.admin.post(f"{_PATH}/{made.id}/finish", {}, signed=True)
    return done


def _read(found: dict[str, Any]) -> Conversion:
    return Conversion.read({key: value for key, value in found.items() if key != "need"}, "")


def _put_policy(where: Where, made: Conversion) -> None:
    active = where.admin.get("/api/v1/policies")
    addition = policy_text(made)
    if addition in active["text"]:
        return
    if f'@id("{policy_id(made)}")' in active["text"]:
        raise Conflict(
            "governance.conversion.policy_taken", f"another policy is called `{policy_id(made)}`",
            next_step="choose another task with `--task`, or remove that policy",
        )  # fmt: skip
    body = {"text": f"{active['text'].rstrip()}\n\n{addition}", "source": "remit convert"}
    body |= {"cases": active["cases"], "invariants": active["invariants"]}
    version = where.admin.post("/api/v1/policies", body, signed=True)
    if version["state"] != "active":
        raise Conflict(
            "governance.conversion.policy_waits", f"the policy is staged as `{version['id']}`",
            next_step=f"another person: `remit policy activate {version['id']}`; then repeat this command",
        )  # fmt: skip
    say(plain(f"in force: the policy {policy_id(made)}"))


def _try(where: Where, made: Conversion, folder: Path) -> None:
    from remit.providers.postgres.client import driver

    probe, task = folder / "probe.py", made.task + PROBE
    write_files(folder, {"probe.py": probe_text(made, [str(Path(driver().__file__).parents[1])])})
    command = [sys.executable, str(probe.absolute())]
    body = {"name": task, "argv": command, "identity": made.identity, "cwd": str(Path.cwd())}
    body["path"] = os.environ.get("PATH", os.defpath)
    where.admin.post("/api/v1/tasks", body, signed=True)
    try:
        run = [
            sys.executable,
            "-c",
            "import sys; from remit.surface.cli.entry import main; sys.argv[0] = 'remit'; main()",
        ]
        run += ["run", "--data", str(where.data), "--task", task, "--need", made.need, "--env", "--", *command]
        tried = subprocess.run(run, check=False, capture_output=True, text=True, timeout=120)
    finally:
        where.admin.delete(f"/api/v1/tasks/{task}", signed=True)
    if tried.returncode != 0:
        raise Conflict(
            "governance.conversion.probe",
            f"the role does not serve: the probe ended with {tried.returncode}: {tried.stderr.strip()[-400:]}",
            next_step="nothing was taken away: repair that and repeat the command, or `--undo`",
        )
    say("tried: the role serves a task, and was refused when the task had ended")
