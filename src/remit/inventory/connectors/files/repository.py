"""What a working tree says of itself: its remote, and who owns which path. Git's program is not asked for this."""

# ruff: noqa: PTH112
# Part of the walk: paths stay strings.
from __future__ import annotations

import os
import re
import stat

from remit.inventory.connectors.files.formats import Malformed, decode, parse_ini
from remit.inventory.connectors.files.record import Repository
from remit.inventory.owners import CODEOWNERS_PATHS, parse_codeowners

_LIMIT = 512 * 1024
_REMOTE = re.compile(
    r"(?:[a-z+]+://(?:[^@/\s]*@)?(?P<host>[\w.-]+)(?::\d+)?/|(?:[\w.-]+@)?(?P<scp>[\w.-]+):)(?P<slug>[\w.~/-]+?)(?:\.git)?/?$"
)


def read_repository(root: str, *, allowed: str) -> Repository | None:
    """Describe the working tree at `root`; `None` when it is none.

    A `.git` file may name a directory elsewhere (worktree, submodule): it counts only below `allowed`.
    """
    git_dir = os.path.join(root, ".git")
    pointer = small_file(git_dir)
    if pointer is not None:
        target = decode(pointer).strip().removeprefix("gitdir:").strip()
        git_dir = os.path.realpath(os.path.join(root, target)) if target and "\0" not in target else ""
        if not git_dir.startswith(allowed.rstrip("/") + "/"):
            return None
    if not os.path.isdir(git_dir):
        return None
    forge, slug = _remote(git_dir)
    rules = next((text for path in CODEOWNERS_PATHS if (text := small_file(os.path.join(root, path))) is not None), b"")
    return Repository(root=root, git_dir=git_dir, forge=forge, slug=slug, owner_rules=parse_codeowners(decode(rules)))


def _remote(git_dir: str) -> tuple[str, str]:
    config = small_file(os.path.join(git_dir, "config")) or small_file(os.path.join(git_dir, "../../config")) or b""
    try:
        urls = {
            setting.section: setting.value
            for setting in parse_ini(config, separators="=")
            if setting.section.startswith('remote "') and setting.key == "url"
        }
    except Malformed:
        return "", ""
    url = urls.get('remote "origin"') or urls.get('remote "upstream"') or next(iter(urls.values()), "")
    return parse_remote(url)


def parse_remote(url: str) -> tuple[str, str]:
    """Host and `owner/repository` of a remote's URL, without the login that it may carry; empty of a local path."""
    found = _REMOTE.fullmatch(url.strip()) if len(url) < 2000 and not url.startswith(("/", ".", "file:")) else None
    if not found:
        return "", ""
    return (found.group("host") or found.group("scp")).lower(), found.group("slug").strip("/")


def small_file(path: str) -> bytes | None:
    """The content of a regular file of at most half a MiB; `None` of anything else. Never waits, follows no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > _LIMIT:
            return None
        return os.read(descriptor, _LIMIT)
    except OSError:
        return None
    finally:
        os.close(descriptor)
