"""`python -m bench.soak [MINUTES]`: `remit run` and SIGKILL again and again; nothing may leak, and nothing may grow.

In each round tasks come and go, and some of their supervisors are killed; every fifth round all of Remit is. Then no
credential may be left. The memory of the control plane is read after each round, and compared within one life of it.
REMIT_SOAK_MINUTES is the same as the argument (default 2), REMIT_SOAK_SEED chooses the moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from bench.installation import NEED, TASK, installation
from remit.surface.cli.demo import shop
from remit.surface.cli.demo.outcome import NotShown, expect
from remit.surface.cli.demo.stage import Stage

_RUNS = 8
_ROUNDS_OF_A_LIFE = 5
_GROWTH = 1.15
"""From the second round of a life to its last, the memory may grow by so much."""


def main(minutes: float) -> int:
    """Soak; 0 when nothing leaked."""
    out = Console()
    moments = random.Random(os.environ.get("REMIT_SOAK_SEED", "remit"))
    deadline = time.monotonic() + minutes * 60
    rounds = 0
    try:
        with installation("sleep") as stage:
            while rounds == 0 or time.monotonic() < deadline:
                rounds += _life(stage, moments, out, deadline)
            size = stage.ask("ledger", "verify")["size"]
            leases = stage.admin.get("/api/v1/summary")["leases"]
        expect(set(leases) <= {"revoked", "failed"}, f"every lease came to its end: {leases}")
        expect(sum(leases.values()) >= rounds, f"there were leases to lose: {leases}")
    except NotShown as leaked:
        out.print(f"[bold red]{leaked}[/bold red]")
        return 1
    out.print(f"[green]{rounds} rounds, {sum(leases.values())} leases, {size} ledger entries verified[/green]")
    return 0


def _life(stage: Stage, moments: random.Random, out: Console, deadline: float) -> int:
    """Rounds under one control plane, which is then killed in the middle of one more; the number of rounds."""
    memory: list[float] = []
    while len(memory) < _ROUNDS_OF_A_LIFE and (len(memory) < 2 or time.monotonic() < deadline):
        runs = _start(stage, moments)
        for run in runs[: _RUNS // 4]:
            run.send_signal(signal.SIGKILL)
        for run in runs:
            run.wait(60)
        _swept(stage)
        memory.append(_resident_megabytes(stage.remit_pid))
        out.print(f"no credential left; the control plane holds {memory[-1]:.0f} MB")
    expect(memory[-1] <= memory[1] * _GROWTH, f"memory stays flat within a life: {memory} MB")
    runs = _start(stage, moments)
    stage.kill_remit()
    for run in runs:
        run.send_signal(signal.SIGKILL)
        run.wait(10)
    stage.up()
    _swept(stage)
    out.print("[dim]everything of Remit was killed; restarted, and no credential left[/dim]")
    return len(memory) + 1


def _start(stage: Stage, moments: random.Random) -> list[subprocess.Popen[str]]:
    """Tasks of up to a second; returns at a random moment after the first has its lease."""
    found = [str(moments.uniform(0.2, 1)) for _ in range(_RUNS)]
    command = ("--task", TASK, "--need", NEED, "--", "/bin/sleep")
    runs = [stage.start_run(*command, seconds, quiet=True) for seconds in found]
    stage.until("a task has its lease", lambda: stage.admin.get("/api/v1/leases"), seconds=60, every=0.02)
    time.sleep(moments.uniform(0, 1))
    return runs


def _swept(stage: Stage) -> None:
    stage.until("no credential is left", lambda: not shop.run(shop.remit_roles(stage.server)), seconds=60)
    stage.until("no lease is left", lambda: not stage.admin.get("/api/v1/leases"), seconds=60)


def _resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells the memory of a process")


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("REMIT_SOAK_MINUTES", "2")
    raise SystemExit(main(float(given)))
