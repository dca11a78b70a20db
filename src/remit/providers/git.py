"""Git by its program, for repositories whose owner may be hostile.

A repository's own configuration can run commands (file-system monitors, diff drivers, hooks, helpers, promisor
remotes). So git never sees it: each call gets a directory of its own, made for it, with an empty configuration and a
`HEAD` that names the commit, and reads from the repository only its objects (`GIT_OBJECT_DIRECTORY`).
Arguments are a list, the environment is built from nothing, output and time are bounded, no network is reached.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess  # the point of this module; see above
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REFERENCE = re.compile(r"refs/[\w./+@-]{1,500}")
MAX_OUTPUT_BYTES = 16 * 1024 * 1024


class GitHistory:
    """Asks git who wrote what, within a budget of time for the whole run; `exhausted` tells when that was spent."""

    def __init__(
        self,
        *,
        budget_seconds: float = 15.0,
        timeout_seconds: float = 3.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = budget_seconds
        self._timeout = timeout_seconds
        self._monotonic = monotonic
        self._program = shutil.which("git")
        self._heads: dict[str, str | None] = {}
        self.unasked = 0
        """Files for which the budget, or a missing program, left no answer."""

    def blame(self, *, git_dir: str, root: str, path: str, contents: bytes) -> str:
        """Porcelain blame of `contents` as the present text of `path` (from `root`); empty when git cannot say.

        `git_dir` is the directory with `HEAD`.
        """
        if self._program is None or self._left <= 0:
            self.unasked += 1
            return ""
        head = self._head(git_dir)
        if head is None:
            return ""
        started = self._monotonic()
        try:
            return self._run(head, git_dir, root, ["blame", "--porcelain", "--contents", "-", "--", path], contents)
        finally:
            self._left -= self._monotonic() - started

    def _head(self, git_dir: str) -> str | None:
        if git_dir not in self._heads:
            self._heads[git_dir] = head_commit(Path(git_dir))
        return self._heads[git_dir]

    def _run(self, head: str, git_dir: str, root: str, arguments: list[str], contents: bytes) -> str:
        assert self._program is not None
        with tempfile.TemporaryDirectory(prefix="remit-git-") as empty:
            own = Path(empty)
            (own / "refs").mkdir()
            (own / "HEAD").write_text(head + "\n")
            sha256 = len(head) == 64
            extension = "[extensions]\n\tobjectFormat = sha256\n" if sha256 else ""
            (own / "config").write_text(f"[core]\n\trepositoryformatversion = {int(sha256)}\n{extension}")
            command = [
                self._program, f"--git-dir={own}", f"--work-tree={root}", "--no-pager", "--literal-pathspecs",
                "-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null", "-c", "core.attributesFile=/dev/null",
                "-c", "protocol.allow=never", "-c", "core.quotePath=false", *arguments,
            ]  # fmt: skip
            try:
                done = subprocess.run(
                    command,
                    input=contents,
                    capture_output=True,
                    timeout=max(0.05, min(self._timeout, self._left)),
                    env=_environment(git_dir),
                    cwd=root,
                    check=False,
                )
            except (subprocess.TimeoutExpired, OSError):
                return ""
        if done.returncode != 0 or len(done.stdout) > MAX_OUTPUT_BYTES:
            return ""
        return done.stdout.decode("utf-8", "replace")


def _environment(git_dir: str) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OBJECT_DIRECTORY": str(common_dir(Path(git_dir)) / "objects"),
    }


def head_commit(git_dir: Path) -> str | None:
    """The commit that `HEAD` names, read from files (loose and packed references); `None` when there is none."""
    try:
        target = _small(git_dir / "HEAD")
        for _ in range(5):
            if _COMMIT.fullmatch(target):
                return target
            reference = target.removeprefix("ref:").strip()
            if not _REFERENCE.fullmatch(reference) or ".." in reference:
                return None
            target = _resolve(git_dir, reference)
    except (OSError, ValueError):
        return None
    return None


def common_dir(git_dir: Path) -> Path:
    """Where objects and branches lie: `git_dir` itself, or for a linked worktree the one that it names."""
    try:
        return Path(os.path.normpath(git_dir / _small(git_dir / "commondir")))
    except (OSError, ValueError):
        return git_dir


def _resolve(git_dir: Path, reference: str) -> str:
    shared = common_dir(git_dir)
    for place in (git_dir, shared):
        try:
            return _small(place / reference)
        except FileNotFoundError:
            continue
    packed = _small(shared / "packed-refs", limit=8 * 1024 * 1024)
    found = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(reference)}$", packed, re.MULTILINE)
    return found.group(1) if found else ""


def _small(path: Path, *, limit: int = 1024) -> str:
    """Read a small regular file; never waits on a pipe or follows a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return os.read(descriptor, limit).decode("ascii").strip()
    finally:
        os.close(descriptor)
