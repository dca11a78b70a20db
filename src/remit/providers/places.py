"""Files in which programs keep credentials: read bounded, replaced in one step, never seen half written.

A place often lies in a folder of the program that reads it, and Remit often is root. Whoever owns such a folder could
lead us elsewhere by a symbolic link: links are followed only where root or we ourselves made them, and every step on
the way, and what is done at its end, is relative to a folder that we have open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from remit.kernel.errors import Misconfigured, Rejected

MAX_BYTES: Final = 1024 * 1024
_MOST_LINKS: Final = 40
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_place(path: str) -> str | None:
    """The text of a regular file; `None` when there is none. `Rejected` (`providers.place.…`)."""
    found = _read(path)
    return None if found is None else found[0]


def replace_place(path: str, text: str) -> None:
    """Put `text` there in one step; owner and mode stay as they are, and a new file is for its owner alone (0600).

    What is written lies beside it, under a name of its own and 0600, until it is whole; a failure leaves nothing.
    """
    try:
        with _folder_of(path) as (folder, name):
            _replace(path, text, folder, name)
    except FileNotFoundError as error:
        raise _unusable(path, error.strerror or "error") from None


def _replace(path: str, text: str, folder: int, name: str) -> None:
    kept = _kept(path, folder, name)
    beside = f".{name}.remit-new"
    try:
        # One that a crash left is ours: nobody else may write into this folder.
        _unlink(beside, folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            if kept is not None:
                if (kept.st_uid, kept.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, kept.st_uid, kept.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(kept.st_mode))
            os.fsync(descriptor)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        _sync(folder)
    except OSError as error:
        raise _unusable(path, error.strerror or "error") from None
    finally:
        with suppress(OSError):
            _unlink(beside, folder)


def remove_place(path: str) -> None:
    """Take the file away; one that is not there is away."""
    try:
        with _folder_of(path) as (folder, name):
            _unlink(name, folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error.strerror or "error") from None


def read_private(path: str) -> str:
    """A secret's file without its line end; `Misconfigured` (`providers.place.open`) if others may read it."""
    found = _read(path)
    if found is None:
        raise _unusable(path, "it does not exist")
    text, seen = found
    if stat.S_IMODE(seen.st_mode) & 0o077:
        raise Misconfigured(
            "providers.place.open", f"others may read the secret in `{path[:200]}`", next_step=f"chmod 600 {path[:200]}"
        )
    secret = text.strip()
    if not secret or not secret.isascii() or not secret.isprintable():
        raise _unusable(path, "it holds no secret")
    return secret


def _read(path: str) -> tuple[str, os.stat_result] | None:
    try:
        with _folder_of(path) as (folder, name):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or "error") from None
    with os.fdopen(descriptor, "rb") as file:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise _unusable(path, "it is no regular file")
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise _unusable(path, "it is larger than 1 MiB")
    try:
        return raw.decode(), seen
    except UnicodeDecodeError:
        raise _unusable(path, "it is no UTF-8") from None


@contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    """The folder of a place, open, and the place's name in it. `FileNotFoundError` without that folder."""
    above, _, name = path.rpartition("/")
    if not path.startswith("/") or name in ("", ".", ".."):
        raise _unusable(path, "it is no absolute path of a file")
    try:
        folder = _walk(path, above)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unusable(path, error.strerror or "error") from None
    try:
        yield folder, name
    finally:
        os.close(folder)


def _walk(path: str, above: str) -> int:
    """Open the folder step by step; a link of somebody else's on the way is not followed."""
    steps, links = [step for step in reversed(above.split("/")) if step not in ("", ".")], 0
    at = os.open("/", _FOLDER)
    try:
        while steps:
            step = steps.pop()
            try:
                below = os.open(step, _FOLDER, dir_fd=at)
            except NotADirectoryError:
                target = _trusted_link(path, step, at)
                links += 1
                if links > _MOST_LINKS:
                    raise _unusable(path, "too many links lead to it") from None
                steps += [each for each in reversed(target.split("/")) if each not in ("", ".")]
                if not target.startswith("/"):
                    continue
                below = os.open("/", _FOLDER)
            os.close(at)
            at = below
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)


def _trusted_link(path: str, step: str, at: int) -> str:
    """Where a link leads that root or we made; its owner is that of the very link that is read."""
    link = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        seen = os.fstat(link)
        if not stat.S_ISLNK(seen.st_mode):
            raise _unusable(path, "one step on its way is no folder")
        if seen.st_uid not in (0, os.geteuid()):
            raise _unusable(path, "a link of another user is on its way")
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _kept(path: str, folder: int, name: str) -> os.stat_result | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or "error") from None
    if not stat.S_ISREG(found.st_mode):
        raise _unusable(path, "it is no regular file")
    return found


def _unlink(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _sync(folder: int) -> None:
    os.fsync(folder)


def _unusable(path: str, why: str) -> Rejected:
    return Rejected(
        "providers.place.unusable",
        f"the file `{path[:200]}` cannot be used: {why}",
        next_step="see that Remit's user may read and replace it, and that it is a plain file",
    )
