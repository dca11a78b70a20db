"""The upstream's token from a file or an inherited descriptor: never from a command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from remit.kernel.errors import Misconfigured

_MOST: Final = 16_384


def bearer_from(path: Path) -> Callable[[], str]:
    """What gives the token in `path`. A file is read anew each time, so that whoever brokers it can replace it; a
    pipe or an inherited descriptor (`/dev/fd/3`) is read once.

    Raises `Misconfigured` (`surface.gateway.bearer`): not there, empty, too long, or readable by others.
    """
    first, rereadable = _read(path)
    return (lambda: _read(path)[0]) if rereadable else (lambda: first)


def _read(path: Path) -> tuple[str, bool]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            regular = stat.S_ISREG(found.st_mode)
            if regular and found.st_mode & 0o077:
                raise _wrong(path, "can be read by others", f"chmod 600 {path}")
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}", "name a file, or a descriptor as /dev/fd/N") from None
    text = raw.decode("ascii", "replace").strip()
    if not text or len(raw) > _MOST or not text.isprintable() or not text.isascii() or " " in text:
        raise _wrong(path, "holds no token", "write the token into it, and nothing else")
    return text, regular and not path.is_relative_to("/dev/fd")


def _wrong(path: Path, why: str, next_step: str) -> Misconfigured:
    return Misconfigured("surface.gateway.bearer", f"`{path}` {why}", next_step=next_step)
