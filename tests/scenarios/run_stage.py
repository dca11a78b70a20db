"""An agent in a process of its own, on a real store and socket, for the scenarios of `remit run`.

Run as a program it serves `DIR/agent.sock` until it is ended; SIGUSR1 announces a change. Its decision point allows
everything while `DIR/denied` does not exist. Targets of the system `folder` are directories: a credential is a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import BrokerManifest, Check
from remit.access.brokers.presentation import Credential, Presentation, url_of
from remit.access.grants import Grants
from remit.access.leases.cgroups import LocalCgroups
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import LeaseSettings
from remit.access.leases.processes import LocalProcesses
from remit.access.leases.watching import TaskWatch
from remit.access.model import (
    Decision,
    Effect,
    Minted,
    MintOrder,
    Proved,
    Reason,
    Request,
    Revocation,
    RevokeOrder,
    Target,
)
from remit.access.targets import OpenBrokers, Targets
from remit.access.tasks.attest import WaitingTaskAttestor
from remit.access.tasks.command import measure, open_command
from remit.access.tasks.register import Tasks
from remit.access.tasks.start import TaskStarter
from remit.kernel.catalog import Catalog
from remit.kernel.clock import SystemClock
from remit.kernel.ids import new_id
from remit.storage.keys import KeyRing, load_key_file
from remit.storage.sqlite import SqliteStore
from remit.trust.attestors.unix import UnixAttestor

ROOT = Path(__file__).parents[2]
QUICK = LeaseSettings(backoff=timedelta(milliseconds=50), late_sweep=timedelta(seconds=1))


class FolderBroker:
    """Mints files into a directory that outlives every agent."""

    def __init__(self, target: Target) -> None:
        self.folder = Path(target.host)

    async def open(self) -> None:
        assert self.folder.is_dir()

    async def close(self) -> None:
        return

    async def mint(self, order: MintOrder) -> Minted:
        (self.folder / order.principal).write_text(order.secret)
        return Minted(principal=order.principal, settings={"folder": str(self.folder), "user": order.principal})

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        return [one for one in principals if (self.folder / one).exists()]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        for order in orders:
            (self.folder / order.principal).unlink(missing_ok=True)
        proof = Proved(refusal="ENOENT no such credential", control="read the folder")
        return [Revocation(principal=one.principal, gone=True, sessions_ended=0, proof=proof) for one in orders]

    async def sweep(self, instance: str) -> Sequence[str]:
        return [path.name for path in self.folder.iterdir() if path.name.startswith(f"remit_{instance}_")]

    async def check(self) -> Sequence[Check]:
        return ()


class FolderFactory:
    id = "folder"
    manifest = BrokerManifest(id="folder", title="a folder", needs=(), fail_safe=True)

    def make(self, target: Target, secret: str) -> FolderBroker:
        return FolderBroker(target)

    def locate(self, url: str) -> Location:
        return read_location(url, schemes={self.id: 1}, write_as=f"{self.id}://USER@HOST")

    def present(self, credential: Credential) -> Presentation:
        return Presentation(url=url_of(self.id, credential))


class FileSwitch:
    """Allows while a file does not exist."""

    def __init__(self, denied: Path) -> None:
        self._denied = denied

    async def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> Decision:
        allowed, now = not self._denied.exists(), datetime.now(UTC)
        effect = Effect.PERMIT if allowed else Effect.FORBID
        reason = Reason(id="switch", effect=effect, text="it is open" if allowed else "it is shut")
        return Decision(id=new_id("dc", now), time=now, request=request, allowed=allowed, reasons=(reason,))


class State:
    """The parts of an installation below the agent, opened on DIR."""

    def __init__(self, folder: Path) -> None:
        from remit.wiring.brokers import broker_factories

        self.folder = folder
        self.clock = SystemClock()
        self.store: Any = SqliteStore(folder / "remit.db", clock=self.clock, published=lambda events: None)
        self.keys = KeyRing(load_key_file(folder / "kek", create=True), load_key_file(folder / "fpk", create=True))
        catalog: Any = Catalog("broker", (FolderFactory(), *broker_factories()))
        self.targets = Targets(store=self.store, sealer=self.keys, attester=self.keys, factories=catalog)
        self.tasks = Tasks(store=self.store, attester=self.keys)

    async def open(self) -> None:
        await asyncio.to_thread(self.store.migrate)
        self.store.start()
        await self.store.write(lambda unit: self.keys.load(unit.conn, unit.now, unit.new_id))


async def serve(folder: Path) -> None:
    """The agent, until it is ended."""
    from remit.surface.agent.peer import peer_of
    from remit.surface.agent.server import Limits
    from remit.surface.agent.server import serve as serve_agent
    from remit.surface.agent.tasks import TaskService

    state = State(folder)
    await state.open()
    brokers, decisions = OpenBrokers(state.targets), FileSwitch(folder / "denied")
    engine = LeaseEngine(
        store=state.store,
        sealer=state.keys,
        attester=state.keys,
        brokers=brokers,
        decisions=decisions,
        processes=TaskWatch(LocalProcesses(), LocalCgroups()),
        clock=state.clock,
        instance="scene001",
        settings=QUICK,
    )
    unix = UnixAttestor()

    async def attest(pidfd: int, pid: int) -> Any:
        return await asyncio.to_thread(unix.attest_pid, pidfd, pid, state.clock.now())

    starter = TaskStarter(
        tasks=state.tasks,
        targets=state.targets,
        grants=Grants(store=state.store, attester=state.keys),
        engine=engine,
        decisions=decisions,
        attestor=WaitingTaskAttestor(attest),
        clock=state.clock,
    )
    await engine.start(exclusive=True)
    wait = timedelta(seconds=60)
    service = TaskService(starter=starter, engine=engine, brokers=brokers, peer_of=peer_of, proof_wait=wait)
    changes: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: changes.add(loop.create_task(engine.on_change())))
    await serve_agent(folder / "agent.sock", (service,), Limits())
    print("ready", flush=True)
    await asyncio.Event().wait()


class Stage:
    """What a scenario has: an installation in a short directory, its agent, and its ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accounts = folder / "orders"
        self.accounts.mkdir()
        self.env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "REMIT_DATA": str(folder)}
        self.env.pop("REMIT_AGENT_SOCK", None)
        self.env["XDG_RUNTIME_DIR"] = str(folder)
        folder.chmod(0o700)
        self.agent: subprocess.Popen[str] | None = None
        self._runs: list[subprocess.Popen[str]] = []
        self.arrange(lambda state: state.targets.add(self._folder_target(), "x", actor="person:ann"))

    def _folder_target(self) -> Target:
        return Target(
            name="orders",
            system="folder",
            host=str(self.accounts),
            port=1,
            database="db",
            user="admin",
            roles={"read": "app_ro", "write": "app_rw"},
        )

    def arrange(self, scene: Callable[[State], Any]) -> Any:
        """Do something to the installation while no agent runs on it."""

        async def run() -> Any:
            state = State(self.folder)
            await state.open()
            try:
                return await scene(state)
            finally:
                await state.store.close()

        return asyncio.run(run())

    def register(self, name: str, *argv: str) -> None:
        """Register a command as a task."""
        command = open_command(argv, os.environ["PATH"])
        program = measure(command)
        command.close()
        self.arrange(
            lambda state: state.tasks.register(name, identity=f"id_{name}", program=program, actor="person:ann")
        )

    def start_agent(self) -> None:
        self.agent = subprocess.Popen(
            [sys.executable, __file__, str(self.folder)], env=self.env, stdout=subprocess.PIPE, text=True
        )
        assert self.agent.stdout is not None
        assert self.agent.stdout.readline() == "ready\n"

    def kill_agent(self) -> None:
        """SIGKILL: it gets no chance to tidy up."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
            assert self.agent.stdout is not None
            self.agent.stdout.close()
            self.agent = None

    def command(self, task: str, *argv: str, options: Sequence[str] = (), needs: Sequence[str] = ()) -> list[str]:
        needs = needs or ["folder://orders?role=read"]
        words = [word for need in needs for word in ("--need", need)]
        program = "import sys; from remit.surface.cli.run import main; sys.exit(main(sys.argv[1:]))"
        return [sys.executable, "-c", program, "--task", task, *words, *options, "--", *argv]

    def run(self, task: str, *argv: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """`remit run` to its end."""
        return subprocess.run(
            self.command(task, *argv, **how), env=self.env, capture_output=True, text=True, timeout=60, check=False
        )

    def begin(self, task: str, *argv: str, **how: Any) -> subprocess.Popen[str]:
        """`remit run` in the background; waits until its credential exists."""
        before = len(self.credentials())
        process = subprocess.Popen(
            self.command(task, *argv, **how), env=self.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._runs.append(process)
        until(lambda: len(self.credentials()) > before or process.poll() is not None)
        return process

    def credentials(self) -> set[str]:
        """What exists on the target."""
        return {path.name for path in self.accounts.iterdir()}

    def recorded(self, kind: str) -> list[str]:
        """Subjects of the ledger's entries of one kind, while no agent runs."""

        async def read(state: State) -> list[str]:
            rows = await state.store.read(lambda unit: unit.ledger.latest(10_000, type_prefix=kind))
            return [row.subject for row in rows]

        found: list[str] = self.arrange(read)
        return found

    def close(self) -> None:
        for process in self._runs:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.kill_agent()
        shutil.rmtree(self.folder, ignore_errors=True)


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until it holds, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """Direct children of a process."""
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextmanager
def stage() -> Iterator[Stage]:
    """A fresh stage with no agent yet; Unix sockets need a short path."""
    made = Stage(Path(tempfile.mkdtemp(prefix="remit-run-test-", dir="/tmp")))
    try:
        yield made
    finally:
        made.close()


def summary(stderr: str) -> dict[str, Any]:
    """The line that `--format json` writes to stderr."""
    line = next(line for line in stderr.splitlines() if line.startswith("{"))
    said: dict[str, Any] = json.loads(line)
    return said


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
