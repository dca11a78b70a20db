"""The cgroup of one run: whatever the task starts is in it, however it daemonises, and all of it ends at once.

Needs cgroup v2 and the right to make a group below our own (root, a delegated systemd unit, a container with a writable
group). Without them the supervisor is the subreaper of what the task leaves behind: that sees the same processes for as
long as the supervisor itself lives.

Spec: cgroups(7), "Cgroups v2 delegation"; Linux, Documentation/admin-guide/cgroup-v2.rst, `cgroup.kill`.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "remit-run-"
_MINE = re.compile(r"remit-run-([0-9]+)-[0-9a-f]{8}")
_SECONDS = 2.0


class Tree:
    """The group of one task. `path` is `None` where there can be none, and `why` says what is missing."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.why = ""
        try:
            above = own_group()
            _remove_abandoned(above)
            made = above / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
            made.mkdir()
            self.path = made
        except (OSError, LookupError) as error:
            self.why = str(error.strerror or error) if isinstance(error, OSError) else str(error.args[0])

    @property
    def kind(self) -> str:
        """`cgroup` or `subreaper`."""
        return "subreaper" if self.path is None else "cgroup"

    def told(self) -> str:
        """How far we see, for a person."""
        if self.path is not None:
            return "a cgroup of its own holds all of them"
        return (
            f"no cgroup can be made here ({self.why}), so the supervisor adopts what is left behind; if it is killed "
            "by SIGKILL, that goes on without credentials"
        )

    def take(self, pidfd: int) -> None:
        """Move the process behind a pidfd into the group; where that is not allowed there is no group."""
        if self.path is None:
            return
        try:
            said = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
            pid = next(line.split()[1] for line in said if line.startswith("Pid:"))
            (self.path / "cgroup.procs").write_text(pid)
        except OSError as error:
            self.why = error.strerror or "it cannot be joined"
            self.close()

    def close(self) -> None:
        """End what is in the group and remove it; works twice."""
        path, self.path = self.path, None
        if path is not None:
            end_group(path)


def own_group() -> Path:
    """The folder of our own group in cgroup v2. `LookupError` where none is mounted."""
    return _folder_of(_group_of("self"))


def group_of(pid: int, *, of: int) -> Path | None:
    """The folder of the group that supervisor `of` made and process `pid` is in, in the kernel's words; else `None`."""
    with suppress(OSError, LookupError):
        name = _group_of(str(pid))
        match = _MINE.fullmatch(name.rpartition("/")[2])
        if match is not None and int(match[1]) == of:
            return _folder_of(name)
    return None


def end_group(path: Path) -> bool:
    """Kill everything in a group, and remove it with the groups below; whether nothing is left, within two seconds."""
    end = time.monotonic() + _SECONDS
    while True:
        with suppress(OSError):
            (path / "cgroup.kill").write_text("1")
        for folder, _, _ in os.walk(path, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106  (what os.walk gives is text)
        if not path.exists():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.005)


def _group_of(pid: str) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    raise LookupError("this kernel has no cgroup v2")


def _folder_of(name: str) -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            root, point = before.split(" ")[3:5]
            return Path(_plain(point)) / _below(name, _plain(root))
    raise LookupError("no cgroup v2 is mounted")


def _below(name: str, root: str) -> str:
    """A group's name relative to what is mounted; in a container the mount is not the root of the hierarchy."""
    if root == "/" or name == "/":
        return name.strip("/")
    return name.removeprefix(root).strip("/")


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _remove_abandoned(above: Path) -> None:
    """Groups of supervisors that were killed, once they are empty."""
    with suppress(OSError):
        for entry in os.scandir(above):
            match = _MINE.fullmatch(entry.name)
            if match is not None and not Path(f"/proc/{match[1]}").exists():
                with suppress(OSError):
                    os.rmdir(entry.path)  # noqa: PTH106
