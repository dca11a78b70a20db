"""What a command line really executes: its file opened once, its interpreter and script for a script.

Everything that follows (hashing, deciding, executing) uses these very descriptors, so that a path that is swapped in
between changes nothing. Imports nothing heavy: `remit run` starts with this.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from remit.access.tasks.model import Program
from remit.kernel.errors import NotFound, Rejected

MAX_FILE_BYTES = 2 << 30
"""The largest file that is hashed as a program."""
MAX_ARGUMENTS = 4096
_SHEBANG_BYTES = 256
INTERPRETERS = re.compile(r"(?:python|pypy|perl|ruby|node|nodejs|php|lua|bash|dash|zsh|ksh|sh|tclsh|Rscript)[0-9.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An opened command: `executable` and `script` are descriptors (close-on-exec), the latter `-1` without a script.

    `argv` is what the new process gets; its element `script_at` names the script by descriptor when there is one.
    """

    executable: int
    path: str
    """The path under which the executable was found."""
    script: int
    script_path: str
    script_at: int
    argv: tuple[str, ...]
    pinned: bool
    """An interpreter without a script: what it does is in its arguments, so these are part of the definition."""

    def close(self) -> None:
        """Close both descriptors."""
        os.close(self.executable)
        if self.script >= 0:
            os.close(self.script)


def open_command(argv: Sequence[str], search: str) -> Command:
    """Find `argv[0]` on the path list `search`, open it, and follow one `#!` line.

    Raises `NotFound` (`access.command.unknown`) and `Rejected` (`access.command.unusable`).
    """
    if not argv or not argv[0] or len(argv) > MAX_ARGUMENTS:
        raise Rejected("access.command.unusable", "no command to run", next_step="write it after `--`")
    path = _find(argv[0], search)
    opened = _open_program(path)
    try:
        line = _shebang(opened)
        if line is not None:
            return _script(opened, path, line, argv, search)
        return _interpreted(opened, path, argv)
    except BaseException:
        os.close(opened)
        raise


def measure(command: Command) -> Program:
    """Hash what was opened. Reads the files whole: call it in a thread from an event loop."""
    return Program(
        executable=_name_of(command.executable),
        sha256=hash_file(command.executable),
        script=_name_of(command.script) if command.script >= 0 else "",
        script_sha256=hash_file(command.script) if command.script >= 0 else "",
        arguments=command.argv[1:] if command.pinned else None,
    )


def hash_file(handle: int) -> str:
    """SHA-256 of a regular file, 64 hexadecimal digits; the file's offset is left alone.

    Raises `Rejected`: `access.command.unusable` for anything but a regular file of at most 2 GiB,
    `access.command.changing` when it changed while it was read.
    """
    before = os.fstat(handle)
    if not stat.S_ISREG(before.st_mode) or before.st_size > MAX_FILE_BYTES:
        raise Rejected("access.command.unusable", "the command is no regular file of at most 2 GiB")
    state = hashlib.sha256()
    offset = 0
    while chunk := os.pread(handle, 1 << 20, offset):
        state.update(chunk)
        offset += len(chunk)
        if offset > MAX_FILE_BYTES:
            break
    if identity_of(os.fstat(handle)) != identity_of(before) or offset != before.st_size:
        raise Rejected(
            "access.command.changing",
            "the command's file changed while it was read",
            next_step="run it again when nothing writes to it",
        )
    return state.hexdigest()


def _name_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115  (a link of /proc, not a path)


def identity_of(seen: os.stat_result) -> tuple[int, int, int, int, int]:
    """What changes when a file's bytes are changed or the file is another one."""
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _find(name: str, search: str) -> str:
    if "/" in name:
        return os.path.abspath(name)  # noqa: PTH100  (Path.resolve would follow links: argv[0] keeps the name used)
    for folder in search.split(os.pathsep):
        path = os.path.join(os.path.abspath(folder or "."), name)  # noqa: PTH100
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return path
    raise NotFound(
        "access.command.unknown", f"the command `{name}` is not found", next_step="check its name and your PATH"
    )


def _open_program(path: str) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(
                "access.command.unknown", f"the command `{path}` does not exist", next_step="check its path"
            ) from None
        raise Rejected("access.command.unusable", f"the command `{path}` cannot be read: {error.strerror}") from None
    seen = os.fstat(handle)
    if not stat.S_ISREG(seen.st_mode) or not seen.st_mode & 0o111:
        os.close(handle)
        raise Rejected(
            "access.command.unusable", f"`{path}` is no executable file", next_step=f"`chmod +x {shlex.quote(path)}`"
        )
    return handle


def _shebang(handle: int) -> str | None:
    head = os.pread(handle, _SHEBANG_BYTES, 0)
    if not head.startswith(b"#!"):
        return None
    return os.fsdecode(head[2:].split(b"\n", 1)[0]).strip()


def _script(opened: int, path: str, line: str, argv: Sequence[str], search: str) -> Command:
    name, _, option = line.partition(" ")
    words = [name, option.strip()] if option.strip() else [name]
    if os.path.basename(name) == "env":  # noqa: PTH119
        words = _through_env(option.strip(), path)
        words[0] = _find(words[0], search)
    if not words[0].startswith("/"):
        raise Rejected("access.command.unusable", f"the first line of `{path}` names no absolute interpreter")
    interpreter = _open_program(words[0])
    if _shebang(interpreter) is not None:
        os.close(interpreter)
        raise Rejected("access.command.unusable", f"the interpreter of `{path}` is itself a script")
    return Command(
        executable=interpreter,
        path=words[0],
        script=opened,
        script_path=path,
        script_at=len(words),
        argv=(*words, path, *argv[1:]),
        pinned=False,
    )


def _through_env(option: str, path: str) -> list[str]:
    """`#!/usr/bin/env python3` and `#!/usr/bin/env -S python3 -u`: what env would start, without env in between."""
    words = shlex.split(option.removeprefix("-S")) if option.startswith("-S") else option.split(" ", 1)
    if not words or words[0].startswith("-") or "=" in words[0]:
        raise Rejected(
            "access.command.unusable",
            f"the first line of `{path}` asks more of env than to find an interpreter",
            next_step="name the interpreter by its absolute path",
        )
    return words


def _interpreted(opened: int, path: str, argv: Sequence[str]) -> Command:
    """`python3 job.py` binds the script as `./job.py` would; `python3 -c …` binds its arguments."""
    interpreter = INTERPRETERS.fullmatch(os.path.basename(path)) is not None  # noqa: PTH119
    script, script_path, script_at = -1, "", 0
    if interpreter and len(argv) > 1 and not argv[1].startswith("-"):
        script_path, script_at = os.path.abspath(argv[1]), 1  # noqa: PTH100
        try:
            script = os.open(script_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise NotFound(
                "access.command.unknown",
                f"the script `{argv[1]}` cannot be opened: {error.strerror}",
                next_step="check its path",
            ) from None
    return Command(
        executable=opened,
        path=path,
        script=script,
        script_path=script_path,
        script_at=script_at,
        argv=(path, *argv[1:]),
        pinned=interpreter and script < 0,
    )
