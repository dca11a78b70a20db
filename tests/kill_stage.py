"""An installation where each step of a lease's life can be the last thing that a process, a server or a network does.

Run as a program, `kill_stage.py FOLDER COMMAND…` is `remit COMMAND…` with the functions of `STEPS` wrapped: the file
`FOLDER/armed/STEP` says who is to fall when the step is reached, and `FOLDER/pids/NAME` whom that means. It strikes
once, from within the process that reaches the step, and is told by `FOLDER/struck/STEP`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.faults import Mortal, Relay, kill_with_children

ENGINE, BROKER, SQL = "remit.access.leases", "remit.access.brokers.postgres", "remit.providers.postgres.leases"
CHILD = "remit.surface.cli.waiting_child"
LIVE = {"issuing", "active", "revoking", "unproved"}
NEED = "postgres://shop?role=report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A point in a lease's life: before or after a function, in the phase in which it is reached."""

    name: str
    phase: str
    where: str
    function: str
    after: bool = True
    runner: bool = False
    """The supervisor reaches it, not the control plane."""


STEPS = (
    # 1. Decided, written, minted, tried, written again, told.
    Step(name="decided", phase="issue", where=f"{ENGINE}.issuing:Issuing", function="write_intent", after=False),
    Step(name="intended", phase="issue", where=f"{ENGINE}.issuing:Issuing", function="write_intent"),
    Step(name="mint-asked", phase="issue", where=SQL, function="mint", after=False),
    Step(name="minted", phase="issue", where=SQL, function="mint"),
    Step(name="login-tried", phase="issue", where=f"{BROKER}:PostgresBroker", function="mint"),
    Step(name="activated", phase="issue", where=f"{ENGINE}.issuing:Issuing", function="activate"),
    Step(name="answered", phase="issue", where="remit.surface.agent.tasks:TaskService", function="_granted"),
    Step(
        name="handed-over", phase="issue", where=f"{CHILD}:WaitingChild", function="release", after=False, runner=True
    ),
    Step(name="released", phase="issue", where=f"{CHILD}:WaitingChild", function="release", runner=True),
    # 2. Asked for on the target, done there, written.
    Step(name="renewal-asked", phase="renew", where=SQL, function="renew", after=False),
    Step(name="renewed", phase="renew", where=SQL, function="renew"),
    Step(name="renewal-written", phase="renew", where=f"{ENGINE}.renewal:Renewal", function="_tell"),
    # 3. Ended, written, locked, sessions ended, cleaned, removed, proved, written.
    Step(name="end-seen", phase="revoke", where=f"{CHILD}:WaitingChild", function="reap", runner=True),
    Step(name="revoking", phase="revoke", where=f"{ENGINE}.revoker:Revoker", function="enqueue", after=False),
    Step(name="lock-asked", phase="revoke", where=SQL, function="lock", after=False),
    Step(name="locked", phase="revoke", where=SQL, function="lock"),
    Step(name="sessions-ended", phase="revoke", where=SQL, function="end_sessions"),
    Step(name="cleaned", phase="revoke", where=SQL, function="remove", after=False),
    Step(name="removed", phase="revoke", where=SQL, function="remove"),
    Step(name="proved", phase="revoke", where=f"{BROKER}:PostgresBroker", function="_prove"),
    Step(name="concluded", phase="revoke", where=f"{ENGINE}.revoker:Revoker", function="_write_outcome"),
)
VICTIMS = ("remit", "runner", "target", "network", "disk")
NO_MORE_THAN = 1024
"""Bytes. With this limit on the size of files Remit can write to none of its own any more."""
_OUTAGE = 0.1
"""Seconds: long enough to be run into."""


# Within the processes of Remit.


def fill_disk(pid: int, size: int = NO_MORE_THAN) -> None:
    """No file that the process writes to may grow beyond `size` from now on: writes fail as on a full disk."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def strike(folder: Path, step: str) -> None:
    """Let fall who is named for this step, if anybody is."""
    with suppress(FileNotFoundError):
        (folder / "armed" / step).rename(folder / "struck" / step)
        victim = (folder / "struck" / step).read_text()
        if victim == "network":
            with socket.socket(socket.AF_UNIX) as relay:
                relay.connect(str(folder / "cut.sock"))
                relay.recv(1)
        elif victim == "target":
            kill_with_children(int((folder / "pids/target").read_text()))
        elif victim == "disk":
            fill_disk(int((folder / "pids/remit").read_text()))
        else:
            os.kill(int((folder / "pids" / victim).read_text()), signal.SIGKILL)


def wrapped(function: Callable[..., Any], step: Step, folder: Path) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def later(*given: Any, **named: Any) -> Any:
            if not step.after:
                strike(folder, step.name)
            result = await function(*given, **named)
            if step.after:
                strike(folder, step.name)
            return result

        return later

    @wraps(function)
    def now(*given: Any, **named: Any) -> Any:
        if not step.after:
            strike(folder, step.name)
        result = function(*given, **named)
        if step.after:
            strike(folder, step.name)
        return result

    return now


def hurry() -> None:
    """Renew every second and wait for nothing long, for a sweep of many steps is to end."""
    from remit.access.leases import engine
    from remit.access.leases.model import LeaseSettings

    quick = LeaseSettings(
        native_ttl=timedelta(seconds=30),
        renew_at=0.01,
        backoff=timedelta(milliseconds=50),
        backoff_ceiling=timedelta(milliseconds=200),
        target_timeout=timedelta(seconds=10),
        sweep_every=timedelta(seconds=1),
        late_sweep=timedelta(milliseconds=300),
    )
    vars(engine)["LeaseSettings"] = lambda: quick


def main(folder: Path, command: list[str]) -> None:
    for step in STEPS:
        if command[0] == ("run" if step.runner else "up"):
            module, _, name = step.where.partition(":")
            owner = importlib.import_module(module)
            owner = getattr(owner, name) if name else owner
            setattr(owner, step.function, wrapped(getattr(owner, step.function), step, folder))
    if command[0] == "up":
        hurry()
    from remit.surface.cli.entry import main as remit

    sys.argv = ["remit", *command]
    remit()


# Within the test.


class KillStage:
    """The installation, its PostgreSQL behind a network, and runs of a task that would sleep for ten minutes."""

    def __init__(self, stage: Any, stack: ExitStack) -> None:
        self.stage = stage
        self.folder = stage.root / "kill"
        for name in ("armed", "struck", "pids"):
            (self.folder / name).mkdir(parents=True)
        stage.program = [sys.executable, __file__, str(self.folder)]
        self.target = Mortal(stage.server, stack)
        self.relay = Relay(stage.server.port, self.folder / "cut.sock")
        stack.callback(self.relay.close)
        self._tell("target", stage.server.pid)
        self._seen = 0
        self.sleep = str(shutil.which("sleep"))

    def _tell(self, name: str, pid: int) -> None:
        (self.folder / "pids" / name).write_text(str(pid))

    def up(self) -> None:
        self.stage.up()
        self._tell("remit", self.stage.remit_pid)

    def arm(self, step: Step, victim: str) -> None:
        for name in ("armed", "struck"):
            for left in (self.folder / name).iterdir():
                left.unlink()
        (self.folder / "armed" / step.name).write_text(victim)

    def run(self) -> subprocess.Popen[str]:
        run = self.stage.start_run("--task", "brief", "--need", NEED, "--", self.sleep, "600", quiet=True)
        self._tell("runner", run.pid)
        return run

    def await_strike(self, step: Step) -> None:
        self.stage.until(f"{step.name} is reached", (self.folder / "struck" / step.name).exists, seconds=60, every=0.01)

    def mend(self, victim: str) -> None:
        """Start again, or join again, what fell."""
        if victim in ("network", "disk"):
            time.sleep(_OUTAGE)
        if victim == "remit":
            self.stage.kill_remit()
            self.up()
        elif victim == "target":
            self.target.reap()
            self.target.start()
            self._tell("target", self.target.server.pid)
        elif victim == "network":
            self.relay.mend()
        elif victim == "disk":
            fill_disk(self.stage.remit_pid, resource.RLIM_INFINITY)

    # What stands at the end.

    def leases(self) -> list[dict[str, Any]]:
        return list(self.stage.admin.get("/api/v1/leases", limit=10_000))

    def unsettled(self) -> list[str]:
        return [each["id"] for each in self.leases() if each["state"] in LIVE]

    def roles(self) -> list[str]:
        from remit.surface.cli.demo import shop

        return shop.run(shop.remit_roles(self.target.server))

    def settled(self) -> bool:
        return not self.unsettled() and not self.roles()

    def revoked_since(self) -> Counter[str]:
        """How often each lease was revoked, of the ledger's entries since the last call."""
        told: Counter[str] = Counter()
        before: dict[str, int] = {}
        newest = self._seen
        while entries := self.stage.admin.get(
            "/api/v1/ledger/entries", type="access.lease.revoked", limit=100, **before
        ):
            fresh = [each for each in entries if each["leaf"] >= self._seen]
            told.update(each["subject"] for each in fresh)
            newest = max([newest, *(each["leaf"] + 1 for each in fresh)])
            if len(fresh) < len(entries) or entries[-1]["leaf"] == 0:
                break
            before = {"before": entries[-1]["leaf"]}
        self._seen = newest
        return told

    def verify(self) -> int:
        """The size of the ledger, verified from its files by its public key alone."""
        from remit.ledger.note import parse_verifier_key
        from remit.ledger.verify import verify_directory

        folder = self.stage.data / "ledger"
        return verify_directory(folder, parse_verifier_key((folder / "key.pub").read_text().strip())).size


@contextmanager
def kill_stage() -> Iterator[KillStage]:
    """Serve an installation with the target `shop` behind a relay, a policy and the task `brief`."""
    from rich.console import Console

    from remit.surface.cli.demo import files, shop
    from remit.surface.cli.demo.show import Narrator
    from remit.surface.cli.demo.stage import set_stage

    with set_stage(Narrator(Console(quiet=True)), keep=False) as stage, ExitStack() as stack:
        shop.run(shop.build(stage.server, secrets.token_urlsafe(18)))
        files.write_policy(stage.tree / "policy/shop.cedar")
        made = KillStage(stage, stack)
        made.up()
        add_target(made, made.relay.port)
        stage.cli("policy", "apply", str(stage.tree / "policy"))
        stage.cli("task", "add", "brief", "--", made.sleep)
        yield made


def add_target(made: KillStage, port: int) -> None:
    server = made.stage.server
    url = f"postgres://{server.user}@{server.host}:{port}/shop"
    made.stage.cli(
        "target", "add", "postgres", "--name", "shop", "--url", url, "--role", "report=app_report", "--role",
        "write=app_rw", "--password-stdin", stdin=f"{server.password}\n",
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
