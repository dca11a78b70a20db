"""What a developer is about to commit, by git's program in the developer's own repository.

Only for the developer's own command line: it lets git read the repository's configuration, as `git commit` does.
"""

from __future__ import annotations

import os
import shutil
import subprocess  # the point of this module; see above
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from remit.kernel.errors import Misconfigured, Rejected

_TIMEOUT_SECONDS = 60
MAX_BLOB_BYTES = 64 * 1024 * 1024
_NOTHING = "0" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """One file of the index that differs from `HEAD`."""

    path: str
    """From the root of the working tree."""
    data: bytes = field(repr=False)
    before: bytes = field(repr=False)
    """Its content in `HEAD`; empty of a new file."""


def top_level(start: Path) -> Path:
    """The root of the working tree round `start`. Raises `Rejected` (`providers.git.no-repository`)."""
    return Path(os.fsdecode(_git(start, "rev-parse", "--show-toplevel").removesuffix(b"\n")))


def hooks_directory(root: Path) -> Path:
    """Where git looks for hooks, whatever `core.hooksPath` says."""
    return (root / os.fsdecode(_git(root, "rev-parse", "--git-path", "hooks").removesuffix(b"\n"))).resolve()


def staged(root: Path) -> Iterator[Staged]:
    """Every added or changed file of the index, as it would be committed."""
    head = _git(root, "rev-parse", "--verify", "-q", "HEAD", allowed=(0, 1)).decode().strip()
    against = head or _git(root, "hash-object", "-t", "tree", os.devnull).decode().strip()
    listing = _git(
        root, "diff-index", "--cached", "--raw", "-z", "--no-abbrev", "--diff-filter=ACMRT", "--no-renames", against
    )
    fields = listing.split(b"\0")
    for about, path in zip(fields[::2], fields[1::2], strict=False):
        _, new_mode, old, new, _ = about.decode().split(" ", 4)
        if new_mode in ("120000", "160000"):
            continue
        yield Staged(path=os.fsdecode(path), data=_blob(root, new), before=_blob(root, old))


def _blob(root: Path, object_id: str) -> bytes:
    if set(object_id) <= set(_NOTHING):
        return b""
    size = int(_git(root, "cat-file", "-s", object_id))
    return _git(root, "cat-file", "blob", object_id) if size <= MAX_BLOB_BYTES else b""


def _git(root: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise Misconfigured("providers.git.missing", "git is not installed", next_step="install git, or scan a path")
    try:
        done = subprocess.run(
            [program, "-C", str(root), "--no-pager", "-c", "core.fsmonitor=false", *arguments],
            capture_output=True, timeout=_TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Rejected("providers.git.slow", "git did not answer", next_step="run it again, or scan a path") from None
    if done.returncode not in allowed:
        raise Rejected(
            "providers.git.no-repository", f"git cannot read `{str(root)[:200]}`", next_step="go into a repository"
        )
    return done.stdout
