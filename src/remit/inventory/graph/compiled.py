"""Whether the compiled kernels are here (extra `graph`), and where their machine code is kept.

Machine code that is read back is trusted like the program: it is kept in a folder that only this user can write, never
in the package. Where there is no such folder it is compiled in the process, each time anew.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import threading
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

KERNELS_FROM_EDGES: Final = 20_000
"""A smaller graph is searched in plain Python: the compiler alone would take more memory and time than it saves."""

_lock = threading.Lock()


@lru_cache(maxsize=1)
def has_kernels() -> bool:
    """Whether numba and numpy are installed; tells without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in ("numba", "numpy"))


def kernels() -> ModuleType | None:
    """The kernels, or `None` where the extra `graph` is not installed. The first call takes a second or more."""
    if not has_kernels():
        return None
    with _lock:
        return _load()


@lru_cache(maxsize=1)
def _load() -> ModuleType:
    import numba

    settings: Any = numba.config
    before = settings.CACHE_DIR
    folder = _folder()
    if folder is not None and not before:
        # Read where a function is decorated: who else uses numba in this process keeps its own place.
        settings.CACHE_DIR = str(folder)
    try:
        module = importlib.import_module("remit.inventory.graph.kernels")
        compiler = numba.njit(cache=folder is not None or bool(before), nogil=True, boundscheck=False)
        for name in module.KERNELS:
            # In place, so that they call one another compiled.
            setattr(module, name, compiler(getattr(module, name)))
        return module
    finally:
        settings.CACHE_DIR = before


@lru_cache(maxsize=1)
def _folder() -> Path | None:
    """A folder of this user that nobody else can write, made where it is missing."""
    home = os.environ.get("XDG_CACHE_HOME") or (f"{os.environ['HOME']}/.cache" if os.environ.get("HOME") else "")
    if not home.startswith("/"):
        return None
    folder = Path(home) / "remit" / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return folder if private and os.access(folder, os.W_OK | os.X_OK) else None
