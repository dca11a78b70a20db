"""The kernel's word about a supervisor's child, and the files that it will execute.

Spec: pidfd_open(2); proc_pid_stat(5), fields 4 and 22; proc_pid_fd(5).
"""

from __future__ import annotations

import os
import re
import select
import stat
from pathlib import Path

from remit.access.model import ProcessTask
from remit.access.ports import TaskSubject
from remit.access.tasks.command import INTERPRETERS, hash_file, identity_of
from remit.access.tasks.model import Program
from remit.kernel.errors import Rejected
from remit.surface.agent.tree import group_of
from remit.trust.process import Peer, boot_id, effective_ids, start_ticks_of

_ARGUMENT_BYTES = 32 * 1024
_FLAG = re.compile(r"-[bBdEIOPqsSuv]+")
"""Options of Python that change nothing of which file is executed."""


class Child:
    """A waiting child of a verified peer: its pidfd, and its program's files, all open until `close`.

    Made by `verify_child`; blocks for file I/O, so make it in a thread.
    """

    def __init__(self, *, pid: int, uid: int, gid: int, ticks: int, pidfd: int) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.pidfd = pidfd
        self.process = ProcessTask(boot_id=boot_id(), pid=pid, start_ticks=ticks)
        self.program: Program | None = None
        self.group: Path | None = None
        """The cgroup of its run, which ends with it; see `group_of_run`."""
        self._executable = -1
        self._script = -1
        self._measured: dict[int, tuple[int, int, int, int, int]] = {}

    def open_program(self, peer: Peer, executable: int, script: int | None, arguments: tuple[str, ...]) -> Program:
        """Open the files through the peer's own descriptors, and hash them.

        Raises `Rejected`: `agent.file.unreadable`, and what `hash_file` raises.
        """
        self._executable, path = _open_of(peer, executable)
        self._script, script_path = (-1, "") if script is None else _open_of(peer, script)
        program = Program(
            executable=path,
            sha256=hash_file(self._executable),
            script=script_path,
            script_sha256="" if self._script < 0 else hash_file(self._script),
            arguments=arguments,
        )
        return self._measure(peer, program)

    def _measure(self, peer: Peer, program: Program) -> Program:
        self.program = program
        for handle in self._files():
            self._measured[handle] = identity_of(os.fstat(handle))
        if not peer.alive() or self.ended():
            raise _gone(self.pid)
        return program

    def subject(self) -> TaskSubject:
        """What an attestor is asked about."""
        assert self.program is not None
        return TaskSubject(
            pid=self.pid,
            uid=self.uid,
            gid=self.gid,
            pidfd=self.pidfd,
            file=self._executable,
            path=self.program.executable,
            sha256=self.program.sha256,
        )

    def own_program(self, peer: Peer) -> tuple[Program, tuple[str, ...]]:
        """What the peer itself executes now, by the kernel's word, and its arguments.

        A Python interpreter's script is the file that its command line names first; an interpreter without a script is
        its arguments, and any other program is its file. Raises `Rejected`: `agent.file.unreadable`.
        """
        at = f"/proc/{self.pid}"
        self._executable, path = _open_at(f"{at}/exe", "the program of the caller")
        argv = _arguments_of(self.pid)
        flags = next((n for n, word in enumerate(argv[1:], 1) if not _FLAG.fullmatch(word)), len(argv))
        script_path, interpreter = "", INTERPRETERS.fullmatch(Path(path).name) is not None
        if interpreter and flags < len(argv) and not argv[flags].startswith("-"):
            self._script, script_path = _open_at(str(Path(f"{at}/cwd", argv[flags])), f"`{argv[flags][:200]}`")
        pinned = argv[1:] if interpreter and not script_path else None
        program = Program(
            executable=path,
            sha256=hash_file(self._executable),
            script=script_path,
            script_sha256="" if self._script < 0 else hash_file(self._script),
            arguments=pinned,
        )
        return self._measure(peer, program), argv

    def unchanged(self) -> bool:
        """Whether the measured files are still what was measured."""
        return all(identity_of(os.fstat(handle)) == seen for handle, seen in self._measured.items())

    def ended(self) -> bool:
        """Whether the process has ended."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Give every descriptor back; works twice."""
        for handle in (*self._files(), self.pidfd):
            if handle >= 0:
                os.close(handle)
        self._executable = self._script = self.pidfd = -1
        self._measured.clear()

    def __del__(self) -> None:
        # A handler that is cancelled while a thread makes it never learns of it.
        self.close()

    def _files(self) -> tuple[int, ...]:
        return tuple(handle for handle in (self._executable, self._script) if handle >= 0)


def verify_child(peer: Peer, pid: int, *, itself: bool = False) -> Child:
    """Take the process `pid` as a child of `peer`, which runs as the same user; or as the peer `itself`.

    Raises `Rejected`: `agent.child.gone`, `agent.child.foreign`.
    """
    if pid <= 1:
        raise _foreign(pid)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise _gone(pid) from None
    try:
        # The pidfd pins a process; what is read by number is of it only if it has not ended when all is read.
        ticks, parent, ids = start_ticks_of(pid), _parent_of(pid), effective_ids(pid)
        if (pid if itself else parent) != peer.pid or ids[0] != peer.uid:
            raise _foreign(pid)
        child = Child(pid=pid, uid=ids[0], gid=ids[1], ticks=-1 if ticks is None else ticks, pidfd=pidfd)
        if ticks is None or child.ended() or not peer.alive():
            raise _gone(pid)
    except BaseException:
        os.close(pidfd)
        raise
    return child


def group_of_run(child: Child, peer: Peer) -> Path | None:
    """The cgroup that the peer made for this child alone; `None` where there is none.

    Believed only where the kernel says that the child is in it, it bears the peer's number, and it is the peer's own
    folder: what the peer may end itself, we end for it.
    """
    path = group_of(child.pid, of=peer.pid)
    try:
        return path if path is not None and path.stat().st_uid == peer.uid else None
    except OSError:
        return None


def _parent_of(pid: int) -> int:
    try:
        said = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        raise _gone(pid) from None
    return int(said.rpartition(b")")[2].split()[1])


def _open_of(peer: Peer, number: int) -> tuple[int, str]:
    """Open again the regular file that the peer has open as `number`; its path as the peer's kernel names it."""
    if number < 0:
        raise _unreadable(f"descriptor `{number}` of the caller", "it is no regular file")
    return _open_at(f"/proc/{peer.pid}/fd/{number}", f"descriptor `{number}` of the caller")


def _open_at(link: str, what: str) -> tuple[int, str]:
    try:
        if not stat.S_ISREG(Path(link).stat().st_mode):
            raise _unreadable(what, "it is no regular file")
        handle = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(what, (error.strerror or "it cannot be opened").lower()) from None
    path = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115  (a link of /proc, not a path)
    if not stat.S_ISREG(os.fstat(handle).st_mode) or not path.isprintable() or len(path) > 4096:
        os.close(handle)
        raise _unreadable(what, "it is no regular file with a plain path")
    return handle, path


def _arguments_of(pid: int) -> tuple[str, ...]:
    with Path(f"/proc/{pid}/cmdline").open("rb") as file:
        said = file.read(_ARGUMENT_BYTES + 1)
    if len(said) > _ARGUMENT_BYTES:
        raise _unreadable("the command line of the caller", "it is longer than 32 KiB")
    return tuple(word.decode("utf-8", "replace") for word in said.removesuffix(b"\0").split(b"\0"))


def _unreadable(what: str, why: str) -> Rejected:
    return Rejected(
        "agent.file.unreadable",
        f"{what} cannot be read as a program: {why}",
        next_step="let the agent run as root, or as the user that runs the task, and make the program readable",
    )


def _gone(pid: int) -> Rejected:
    return Rejected("agent.child.gone", f"process `{pid}` has ended", next_step="start the task again")


def _foreign(pid: int) -> Rejected:
    return Rejected(
        "agent.child.foreign",
        f"process `{pid}` is no child of the caller, or runs as another user",
        next_step="run the task through `remit run`, in the same process namespace as the agent",
    )
