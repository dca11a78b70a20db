"""A child that waits until it is told to execute an open file, and dies with its supervisor.

Spec: prctl(2) PR_SET_PDEATHSIG; fexecve(3).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from remit.access.tasks.command import Command

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 100
FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
NOT_EXECUTABLE, NOT_FOUND = 126, 127


class WaitingChild:
    """Forked, waiting on a pipe. Fork before anything heavy is imported or any thread is started."""

    def __init__(self, command: Command) -> None:
        read_go, self._go = os.pipe2(os.O_CLOEXEC)
        self._report, write_report = os.pipe2(os.O_CLOEXEC)
        # The signals that are forwarded wait until the supervisor listens to them; the child takes them as usual.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        supervisor = os.getpid()
        # Loaded before the fork: after it the child does only what cannot fail for lack of a lock.
        libc = ctypes.CDLL(None, use_errno=True)
        # What a task puts into the background becomes our child, not init's: it still is the task, and ends with it.
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._report)
            _become(command, read_go, write_report, supervisor, libc)
        os.close(read_go)
        os.close(write_report)
        self.pidfd = os.pidfd_open(self.pid)
        self.exit_code: int | None = None

    def release(self, env: Mapping[str, str], *, script: str = "", keep: bool = False) -> str:
        """Let it execute its file with this environment; returns why it could not, or nothing.

        `script` is the name by which an interpreter is told its script: a link to the descriptor. With `keep` the
        child stays, has the file executed by a child of its own, and lives until all that this one started has ended.
        """
        message = json.dumps({"env": dict(env), "script": script, "keep": keep}).encode(
            "ascii"
        )  # what is no ASCII is escaped, stray bytes included
        try:
            view = memoryview(len(message).to_bytes(8, "big") + message)
            while view:
                view = view[os.write(self._go, view) :]
        except BrokenPipeError:
            return "it was ended before it began"
        os.close(self._go)
        self._go = -1
        said = os.read(self._report, 16)
        return os.strerror(int(said)) if said else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to this very process."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        """Its exit code once it has ended: its own, or 128 + the signal that ended it. Waits for it."""
        if self.exit_code is None:
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.exit_code = code if code >= 0 else 128 - code
        return self.exit_code

    def end_adopted(self) -> None:
        """End what it left in the background, within half a second; call it when the child itself has been reaped."""
        for _ in range(_ROUNDS):
            left = _children()
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def reap_adopted(self) -> None:
        """Take note of background processes that have ended, while the child runs."""
        with suppress(ChildProcessError):
            while seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if seen.si_pid == self.pid:
                    return
                os.waitpid(seen.si_pid, 0)

    def close(self) -> None:
        """End it if it still waits, and give every descriptor back."""
        if self.exit_code is None:
            self.kill()
            self.reap()
        for handle in (self._go, self._report, self.pidfd):
            if handle >= 0:
                os.close(handle)
        self._go = self._report = self.pidfd = -1


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def _become(command: Command, go: int, report: int, supervisor: int, libc: ctypes.CDLL) -> None:
    """The child's side: never returns."""
    try:
        bound = libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
        # The supervisor may have died before the line above: then nobody would ever kill us.
        if not bound or os.getppid() != supervisor:
            os._exit(125)
        said = _wait(go)
        if said is None:
            os._exit(125)
        if said["keep"]:
            os.close(go)
            _keep_for(os.getpid(), report, libc)
        argv = list(command.argv)
        if command.script >= 0:
            os.set_inheritable(command.script, True)
            argv[command.script_at] = said["script"]
        # Python ignores SIGPIPE and SIGXFSZ; what we execute does not expect that.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.execve(command.executable, argv, said["env"])  # noqa: S606  (a shell is what we do not want)
    except OSError as error:
        os.write(report, str(error.errno or 0).encode())
        os._exit(NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE)
    finally:
        os._exit(NOT_EXECUTABLE)


def _keep_for(keeper: int, report: int, libc: ctypes.CDLL) -> None:
    """Fork: the child returns and becomes the command; the keeper waits for all that it leaves behind, and never does.

    What the command puts into the background is adopted by the keeper. Its exit code is the command's own.
    """
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    awaited = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    command = os.fork()
    if command == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != keeper:
            os._exit(125)
        return
    os.close(report)
    code, alive = 0, True
    while True:
        info = signal.sigwaitinfo(awaited)
        if info.si_signo != signal.SIGCHLD:
            # What the terminal sends has reached everybody already; what is meant for us is meant for the task.
            for pid in ([command] if alive else _children()) if info.si_code <= 0 else ():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, info.si_signo)
            continue
        try:
            while (seen := os.waitpid(-1, os.WNOHANG))[0]:
                if seen[0] == command:
                    ended = os.waitstatus_to_exitcode(seen[1])
                    code, alive = ended if ended >= 0 else 128 - ended, False
        except ChildProcessError:
            os._exit(code)


def _wait(go: int) -> dict[str, Any] | None:
    length = int.from_bytes(_exactly(go, 8), "big")
    message = _exactly(go, length)
    if length == 0 or len(message) < length:
        return None
    said: dict[str, Any] = json.loads(message)
    return said


def _exactly(handle: int, length: int) -> bytes:
    data = b""
    while len(data) < length and (chunk := os.read(handle, min(length - len(data), 1 << 16))):
        data += chunk
    return data
