"""The compiled database of patterns on disk: ours alone, whole or not there."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
_SEAL = 32


def load_or_build(folder: Path | None, identity: str, build: Callable[[], bytes]) -> bytes:
    """The database for `identity` from `folder`, or built anew and written there; `None` keeps nothing.

    A file is refused (and built anew) unless it is a plain file of ours that nobody else may write, with the digest
    that it was written with. What cannot be written is not an error: the next start compiles again.
    """
    if folder is None:
        return build()
    key = hashlib.sha256(f"{platform.machine()}\n{_processor()}\n{identity}".encode()).hexdigest()[:32]
    path = folder / f"secret-rules-{key}.db"
    kept = _read(path)
    if kept is not None:
        return kept
    content = build()
    _write(path, content)
    return content


def _processor() -> str:
    """What decides which code Vectorscan compiles for: the processor's flags, where the system tells them."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return platform.processor()


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        ours = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if not stat.S_ISREG(status.st_mode) or not ours or status.st_size > MAX_BYTES:
            return None
        content = file.read(MAX_BYTES + 1)
    seal, body = content[:_SEAL], content[_SEAL:]
    return body if hashlib.sha256(body).digest() == seal else None


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
