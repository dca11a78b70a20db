"""Every process of Remit is killed at a random moment of `remit run` loops: nothing is left, nothing is done twice.

1. A PostgreSQL, a control plane, a task; three loops of `remit run`, each run with a lease of its own. Mostly a lease
   is waited for, or many moments would lie before the first.
2. At a random moment SIGKILL, in a random order, to the control plane, every supervisor and what they started.
3. `remit up` again: it sweeps. No role of ours is left without a live lease, the ledger verifies, and no lease has two
   revocations.

REMIT_KILL_MOMENTS sets how many moments (default 8), REMIT_KILL_SEED which.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from remit.providers.postgres.local_server import available_postgres
from remit.surface.cli.demo import files, shop
from remit.surface.cli.demo.move import NEED, add_target
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage, set_stage

MOMENTS = int(os.environ.get("REMIT_KILL_MOMENTS", "8"))
SEED = os.environ.get("REMIT_KILL_SEED", "1")
LOOPS = 3
LIVE = {"issuing", "active", "revoking", "unproved"}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if not available_postgres():
        pytest.skip("postgres: no initdb found")
    with set_stage(Narrator(Console(quiet=True)), keep=False) as made:
        shop.run(shop.build(made.server, secrets.token_urlsafe(18)))
        files.write_policy(made.tree / "policy/shop.cedar")
        made.up()
        add_target(made)
        made.cli("task", "add", "brief", "--", sleep_program())
        yield made


def sleep_program() -> str:
    found = shutil.which("sleep")
    assert found is not None
    return found


class Loops:
    """Supervisors that come and go, until everything is killed."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._seconds = [f"{chance.uniform(0, 0.6):.2f}" for _ in range(1000)]
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._threads = [threading.Thread(target=self._loop) for _ in range(LOOPS)]
        for thread in self._threads:
            thread.start()

    def _loop(self) -> None:
        while not self._over.is_set():
            with self._lock:
                if self._over.is_set():
                    return
                command = ("--task", "brief", "--need", NEED, "--", sleep_program(), self._seconds.pop())
                run = self._stage.start_run(*command, quiet=True)
                self._running.append(run)
            run.wait()

    def end(self) -> list[int]:
        """Start no more; the pids that run now."""
        self._over.set()
        with self._lock:
            return [run.pid for run in self._running if run.poll() is None]

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


def descendants(pids: list[int]) -> set[int]:
    """These processes and everything below them."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, waiting = set(pids), list(pids)
    while waiting:
        above = waiting.pop()
        below = [pid for pid, parent in parents.items() if parent == above and pid not in found]
        found.update(below)
        waiting += below
    return found


def kill_everything(stage: Stage, loops: Loops, chance: random.Random) -> None:
    pids = list(descendants([stage.remit_pid, *loops.end()]))
    chance.shuffle(pids)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(chance.choice((0, 0, 0.01)))
    stage.kill_remit()
    loops.join()


def orphans(stage: Stage) -> set[str]:
    """Credentials on the server that no live lease explains."""
    roles = set(shop.run(shop.remit_roles(stage.server)))
    return roles - {each["principal"] for each in stage.admin.get("/api/v1/leases", limit=10_000)}


def unsettled(stage: Stage) -> list[str]:
    rows = stage.admin.get("/api/v1/leases", limit=10_000)
    return [each["id"] for each in rows if each["state"] in LIVE]


def revocations(stage: Stage) -> Counter[str]:
    told: Counter[str] = Counter()
    before: dict[str, int] = {}
    while entries := stage.admin.get("/api/v1/ledger/entries", type="access.lease.revoked", limit=1000, **before):
        told.update(each["subject"] for each in entries)
        before = {"before": entries[-1]["leaf"]}
        if before["before"] == 0:
            break
    return told


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_a_random_moment_it_leaves_nothing_and_does_nothing_twice(stage: Stage, moment: int) -> None:
    chance = random.Random(f"{SEED}/{moment}")
    # 1.
    loops = Loops(stage, chance)
    if chance.random() < 0.75:
        stage.until("a lease is there to be lost", lambda: unsettled(stage), seconds=60, every=0.02)
    time.sleep(chance.uniform(0, 1.2))
    # 2.
    kill_everything(stage, loops, chance)
    # 3.
    stage.up()
    stage.until("every lease has ended", lambda: not unsettled(stage), seconds=60)
    stage.until("no credential is left without a lease", lambda: not orphans(stage), seconds=60)
    assert shop.run(shop.remit_roles(stage.server)) == []
    assert stage.ask("ledger", "verify")["verified"]
    assert {lease: times for lease, times in revocations(stage).items() if times > 1} == {}
