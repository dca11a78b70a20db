"""The forced command of every certificate: it runs what was asked, and ends all that this leaves running."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
import time

from remit.providers.ssh.target.processes import descendants, kill, processes

MARK = "REMIT_SSH_LEASE"
SFTP = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
)


def session(name: str, command: str | None) -> int:
    """Run the session's command; when it ends, or its connection does, all that it started ends too."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # What daemonises itself becomes our child and not that of process 1; and sshd's death is told to us.
    libc.prctl(36, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _hung_up)
    libc.prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == 1:
        return 255
    child = os.fork()
    if child == 0:
        _become(name, command)
    status = 0
    with contextlib.suppress(_HungUp, ChildProcessError):
        while True:
            pid, said = os.wait()
            if pid == child:
                status = said
                break
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while left := descendants(table := processes(), {os.getpid()}) - {os.getpid()}:
        kill(table, left, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.WEXITSTATUS(status)


class _HungUp(Exception):
    pass


def _hung_up(number: int, frame: object) -> None:
    raise _HungUp


def _become(name: str, command: str | None) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.environ[MARK] = name
    shell = pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    asked = command if command is not None else os.environ.get("SSH_ORIGINAL_COMMAND")
    if command is None:
        os.environ.pop("SSH_ORIGINAL_COMMAND", None)
    if asked == "internal-sftp":
        asked = next((path for path in SFTP if os.path.exists(path)), asked)
    try:
        if asked is None:
            os.execv(shell, ["-" + os.path.basename(shell)])
        os.execv(shell, [os.path.basename(shell), "-c", asked])
    except OSError as error:
        sys.stderr.write(f"{shell}: {error.strerror}\n")
    os._exit(127)
