"""(d) The control plane dies by SIGKILL while it holds 50 leases; after the restart each is revoked exactly once."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

from remit.surface.cli.demo import shop
from remit.surface.cli.demo.move import NEED
from remit.surface.cli.demo.outcome import NotShown, Step, expect
from remit.surface.cli.demo.stage import Stage

_TASK = "batch"
_LEASES = 50
_AT_ONCE = 10


def act(stage: Stage) -> Iterator[str]:
    """1. 50 tasks  2. SIGKILL  3. half of them end unwatched  4. restart  5. the rest ends watched  6. count."""
    # 1.
    runs = _start_tasks(stage)
    held = {str(each["id"]) for each in _leases(stage) if each["state"] == "active"}
    expect(len(held) == _LEASES, f"{_LEASES} leases are active (there are {len(held)})")
    on_server = len(shop.run(shop.remit_roles(stage.server)))
    expect(on_server == _LEASES, f"each is a role on the server (there are {on_server})")

    # 2. and 3. No warning and no goodbye, neither to Remit nor to half of the tasks.
    pid = stage.kill_remit()
    half = runs[: _LEASES // 2]
    for run in half:
        run.send_signal(signal.SIGKILL)
    for run in half:
        run.wait(10)
    left = len(shop.run(shop.remit_roles(stage.server)))
    yield f"`remit up` (pid {pid}) killed by SIGKILL holding {_LEASES} leases: {left} roles left on the server"

    # 4. What it finds at the start it takes over.
    seconds = stage.up()
    dead = stage.until(
        "the leases of dead tasks are revoked", lambda: _enough(_revoked(stage, held), len(half)), seconds=30
    )
    yield f"restarted in {seconds:.1f} s; {dead} leases of tasks that had ended meanwhile were revoked"

    # 5.
    for run in runs[len(half) :]:
        run.send_signal(signal.SIGTERM)
    stage.until("every lease is revoked", lambda: _revoked(stage, held) == _LEASES, seconds=30)
    yield f"the other {_LEASES - dead} were watched again, and revoked when their tasks ended"

    # 6.
    yield from _count(stage, held)


def _start_tasks(stage: Stage) -> list[subprocess.Popen[str]]:
    """50 supervisors with a task each: 50 times `remit run`, ten at a time, for the machine's sake."""
    sleep = shutil.which("sleep")
    if sleep is None:
        raise NotShown("there is a program to run (`sleep`)")
    stage.cli("task", "add", _TASK, "--", sleep)
    command = ["--task", _TASK, "--need", NEED, "--", sleep, "600"]
    stage.narrator.command(["remit", "run", *command])
    stage.narrator.note(f"{_LEASES} times, each a process of its own")
    runs: list[subprocess.Popen[str]] = []
    for wanted in range(_AT_ONCE, _LEASES + 1, _AT_ONCE):
        runs += [stage.start_run(*command, quiet=True) for _ in range(_AT_ONCE)]
        stage.until(f"{wanted} leases are active", lambda: _enough(_active(stage), wanted), seconds=40)  # noqa: B023
    return runs


def _count(stage: Stage, held: set[str]) -> Iterator[str]:
    """By the ledger, and by the server."""
    entries = stage.admin.get("/api/v1/ledger/entries", type="access.lease.revoked", limit=1000)
    counts: Counter[str] = Counter(lease for entry in entries for lease in _named(entry) & held)
    expect(set(counts) == held, f"the ledger tells a revocation of each (of {len(counts)} it does)")
    expect(set(counts.values()) == {1}, f"each was revoked exactly once (the most: {max(counts.values())})")
    yield f"ledger: {counts.total()} entries `access.lease.revoked` for {len(counts)} leases, one for each"
    roles = shop.run(shop.remit_roles(stage.server))
    expect(not roles, f"no role is left on the server (left: {roles[:3]})")
    yield "no `remit_…` role is left on PostgreSQL"


def _named(entry: dict[str, Any]) -> set[str]:
    return {entry["subject"], *(value for value in entry["data"].values() if isinstance(value, str))}


def _leases(stage: Stage) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = stage.admin.get("/api/v1/leases", all=1, limit=500)
    return [each for each in rows if each["task"] == _TASK]


def _active(stage: Stage) -> int:
    return sum(each["state"] == "active" for each in _leases(stage))


def _revoked(stage: Stage, held: set[str]) -> int:
    return sum(each["state"] == "revoked" and each["id"] in held for each in _leases(stage))


def _enough(number: int, wanted: int) -> int:
    return number if number >= wanted else 0


STEP = Step(
    name="d",
    title=f"The control plane is killed while it holds {_LEASES} leases",
    shown=f"SIGKILL with {_LEASES} leases, each of a `remit run` of its own; then each is revoked exactly once",
    act=act,
)
