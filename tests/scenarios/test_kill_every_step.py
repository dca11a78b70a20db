"""Each step of a lease's life is the last thing that Remit, a supervisor, the target or the network does.

1. `remit run` of a task that would sleep for ten minutes; at the step, once, the victim falls: SIGKILL to `remit up`
   (control plane and agent), to the supervisor, to all of PostgreSQL; the network between them is cut; or Remit can
   write no file any more, as on a full disk.
2. What fell comes back; the task is told to end, if it has not ended.
3. No role of ours is left, every lease has come to its end, none was revoked twice, nothing of the task runs, and the
   ledger verifies from its files.

A third of the table, each step with one or two victims in turn, is run here; REMIT_KILL_FULL=1 runs all of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_kill_anything import descendants

from kill_stage import STEPS, VICTIMS, KillStage, Step, kill_stage
from remit.providers.postgres.local_server import available_postgres

FULL = bool(os.environ.get("REMIT_KILL_FULL"))
TABLE = [
    pytest.param(step, victim, id=f"{step.phase}-{step.name}-{victim}")
    for row, step in enumerate(STEPS)
    for column, victim in enumerate(VICTIMS)
    if FULL or (row + column) % 3 == 0
]


@pytest.fixture(scope="module")
def house() -> Iterator[KillStage]:
    if not available_postgres():
        pytest.skip("postgres: no initdb found")
    with kill_stage() as made:
        yield made


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def sleeping(run: subprocess.Popen[str]) -> set[int]:
    """The processes of the task, once it runs."""
    return {pid for pid in descendants([run.pid]) if command_of(pid) == "sleep"}


def end(run: subprocess.Popen[str]) -> None:
    if run.poll() is None:
        run.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(("step", "victim"), TABLE)
def test_whoever_falls_at_whichever_step_nothing_is_left(house: KillStage, step: Step, victim: str) -> None:
    until = house.stage.until
    # 1.
    house.arm(step, victim)
    run = house.run()
    task: set[int] = set()
    if step.phase == "revoke":
        task = until("the task runs", lambda: sleeping(run), seconds=60, every=0.01)
        end(run)
    house.await_strike(step)
    task |= descendants([run.pid]) - {run.pid}
    # 2.
    house.mend(victim)
    end(run)
    run.wait(60)
    # 3.
    until("every lease has ended, and every role is gone", house.settled, seconds=60, every=0.05)
    until("nothing of the task runs", lambda: not any(command_of(pid) == "sleep" for pid in task), every=0.02)
    assert [lease for lease, times in house.revoked_since().items() if times > 1] == []
    assert house.verify() > 0
