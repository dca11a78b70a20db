"""Where the demo plays: a private directory, a PostgreSQL of its own, and Remit as processes of their own."""

from __future__ import annotations

import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from remit.kernel.errors import RemitError
from remit.providers.postgres.local_server import LocalServer, local_server
from remit.surface.cli.client import Admin
from remit.surface.cli.demo.outcome import NotShown, expect
from remit.surface.cli.demo.show import Narrator

_OWN = ("REMIT_", "PG", "DATABASE_URL", "XDG_RUNTIME_DIR")
"""Beginnings of variables that the demo's processes do not take over from whoever starts it."""
_START_SECONDS = 30.0
_COMMAND_SECONDS = 90.0


@dataclass(slots=True)
class Found:
    """What earlier steps leave to later ones."""

    identity: str = ""
    fingerprint: str = ""
    static_password: str = field(default="", repr=False)


class Stage:
    """Starts and ends everything; all processes are ended by the pid that was started here."""

    def __init__(self, root: Path, server: LocalServer | None, narrator: Narrator) -> None:
        self.root = root
        self._server = server
        self.narrator = narrator
        self.program = program()
        self.found = Found()
        self.data = root / "d"
        self.url = ""
        """Of the console, while the control plane runs."""
        self.stays = False
        """Whether it goes on serving at the end."""
        self.tree = root / "acme-shop"
        self._children: list[subprocess.Popen[str]] = []
        self._remit: subprocess.Popen[str] | None = None

    @property
    def server(self) -> LocalServer:
        """Its PostgreSQL, where it has one."""
        assert self._server is not None, "the stage has a PostgreSQL"
        return self._server

    @property
    def admin(self) -> Admin:
        """The running control plane, by its socket."""
        return Admin(self.data / "admin.sock", self.data)

    @property
    def environment(self) -> dict[str, str]:
        """For every process of the demo: nothing of the caller's own installation, databases or keys."""
        mine = {key: value for key, value in os.environ.items() if not key.startswith(_OWN)}
        return {
            **mine,
            "REMIT_DATA": str(self.data),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "TMPDIR": str(self.root),
            "NO_COLOR": "1",
        }

    # -- commands

    def cli(
        self,
        *arguments: str,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        allowed: tuple[int, ...] = (0,),
    ) -> str:
        """Run one command of Remit to its end and return what it printed; raises `NotShown` for another exit code."""
        self.narrator.command(["remit", *arguments])
        done = subprocess.run(
            [*self.program, *arguments],
            input=stdin, capture_output=True, text=True, timeout=_COMMAND_SECONDS, cwd=self.root, check=False,
            env={**self.environment, **(environment or {})},
        )  # fmt: skip
        if done.returncode not in allowed:
            raise NotShown(f"`remit {' '.join(arguments[:2])}` ended with {done.returncode}: {_said(done)}")
        return done.stdout + (done.stderr if done.returncode else "")

    def ask(self, *arguments: str, **options: Any) -> Any:
        """Run one command with `--format json` and return its document."""
        return msgspec.json.decode(self.cli(*arguments, "--format", "json", **options))

    def start_run(self, *arguments: str, quiet: bool = False) -> subprocess.Popen[str]:
        """Start `remit run …` in the background; its output is read from the returned process."""
        if not quiet:
            self.narrator.command(["remit", "run", *arguments])
        child = subprocess.Popen(
            [*self.program, "run", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else subprocess.PIPE,
            text=True, cwd=self.root, env=self.environment, start_new_session=True,
        )  # fmt: skip
        # Those that are over, and that nobody reads from, need not be kept.
        kept = [each for each in self._children if each.stdout is not None or each.poll() is None]
        self._children = [*kept, child]
        return child

    # -- the control plane

    def up(self) -> float:
        """Start `remit up` and return the seconds until it said `ready`."""
        self.narrator.command(["remit", "up", "--data", str(self.data)])
        begun = time.monotonic()
        log = (self.root / "remit.log").open("a")
        with log:
            child = subprocess.Popen(
                [*self.program, "up", "--listen", "127.0.0.1:0", "--agents-listen", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.root,
                env=self.environment, start_new_session=True,
            )  # fmt: skip
        self._remit = child
        assert child.stdout is not None
        line = _first_line(child.stdout, _START_SECONDS)
        if not line.startswith("ready "):
            raise NotShown(f"the control plane did not come up: {self._last_words()}")
        self.url = line.removeprefix("ready ").strip()
        return time.monotonic() - begun

    def kill_remit(self) -> int:
        """End the control plane with SIGKILL, in the middle of whatever it does; returns its pid."""
        child = self._running()
        child.kill()
        child.wait()
        self._remit = None
        _hang_up(child)
        return child.pid

    def stop_remit(self) -> None:
        """End the control plane as an operator does."""
        child = self._running()
        child.terminate()
        child.wait(30)
        self._remit = None
        _hang_up(child)

    def _running(self) -> subprocess.Popen[str]:
        assert self._remit is not None, "the control plane runs"
        return self._remit

    @property
    def remit_pid(self) -> int:
        """Of the running control plane."""
        return self._running().pid

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (self.root / "remit.log").read_text(errors="replace").strip().splitlines()
            return lines[-1][:300] if lines else "it said nothing"
        return "it said nothing"

    # -- waiting

    def until(self, what: str, check: Callable[[], Any], *, seconds: float = 30.0, every: float = 0.1) -> Any:
        """Wait for a true answer of `check` and return it; `NotShown` when it does not come in time."""
        self.narrator.doing(f"waiting: {what}")
        deadline = time.monotonic() + seconds
        while True:
            with suppress(RemitError):
                if answer := check():
                    return answer
            expect(time.monotonic() < deadline, f"{what}: not within {seconds:g} s")
            time.sleep(every)

    # -- the end

    def close(self) -> None:
        """End every process that was started here; works twice."""
        everything = [*self._children, *([self._remit] if self._remit is not None else [])]
        for how, seconds in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
            alive = [child for child in everything if child.poll() is None]
            for child in alive:
                child.send_signal(how)
            deadline = time.monotonic() + seconds
            for child in alive:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.05, deadline - time.monotonic()))
        for child in everything:
            _hang_up(child)
        self._children.clear()
        self._remit = None


@contextmanager
def set_stage(narrator: Narrator, *, keep: bool, postgres: bool = True) -> Iterator[Stage]:
    """A stage for the length of a block; afterwards nothing of it runs, and with `keep` its directory is left."""
    # Sockets lie below: their paths end at 107 bytes, whatever TMPDIR says.
    root = Path(tempfile.mkdtemp(prefix="remit-demo-", dir="/tmp"))
    try:
        with local_server(password=secrets.token_urlsafe(24)) if postgres else nullcontext() as server:
            stage = Stage(root, server, narrator)
            try:
                yield stage
            finally:
                with _undisturbed():
                    stage.close()
    finally:
        if keep:
            narrator.note(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not stop the tidying."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def program() -> list[str]:
    """This very Remit, as another process starts it."""
    return [sys.executable, "-c", "from remit.surface.cli.entry import main; main()"]


def _hang_up(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    # A traceback says what went wrong in its last line.
    told = lines[-1:] if any(line.startswith("Traceback") for line in lines) else lines
    return " ".join(" ".join(told).split())[:500]


def _first_line(stream: IO[str], seconds: float) -> str:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        return ""
