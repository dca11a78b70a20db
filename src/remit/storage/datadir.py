"""The data directory: who may read what, one instance at a time, sockets whose paths fit.

DIR is 0711 so that workloads reach `agent.sock` (0666) and nothing else; all other files are 0600 in 0700 folders.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from remit.kernel.errors import Misconfigured, Unavailable

_SOCKET_PATH = 107
"""`sun_path` holds 108 bytes, the last of them zero."""


@dataclass(slots=True)
class DataDir:
    """Paths of one instance, and its exclusive lock."""

    root: Path
    sockets: Path
    _lock: int | None = field(default=None, repr=False)

    @classmethod
    def at(cls, root: Path, socket_dir: Path | None = None) -> DataDir:
        """Name the directory; nothing is touched yet."""
        root = root.absolute()
        return cls(root=root, sockets=(socket_dir or root).absolute())

    @property
    def database(self) -> Path:
        return self.root / "remit.db"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def admin_socket(self) -> Path:
        return self.sockets / "admin.sock"

    @property
    def agent_socket(self) -> Path:
        return self.sockets / "agent.sock"

    @property
    def decide_socket(self) -> Path:
        return self.sockets / "decide.sock"

    @property
    def config(self) -> Path:
        return self.root / "remit.toml"

    def prepare(self) -> None:
        """Make what is missing, correct modes that are too wide, and take the lock.

        Raises `Misconfigured` (`storage.socket.path`, `storage.datadir.foreign`) or `Unavailable`
        (`storage.datadir.locked`) when another instance runs on it.
        """
        for socket_path in (self.admin_socket, self.agent_socket, self.decide_socket):
            if len(os.fsencode(socket_path)) > _SOCKET_PATH:
                raise Misconfigured(
                    "storage.socket.path",
                    f"the socket path `{socket_path}` is longer than {_SOCKET_PATH} bytes",
                    next_step="give a shorter `--data`, or `--socket-dir` on a short path",
                )
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.sockets.mkdir(mode=0o711, parents=True, exist_ok=True)
            if self.root.stat().st_uid not in (os.geteuid(), 0):
                raise Misconfigured("storage.datadir.foreign", f"`{self.root}` belongs to another user")
            self.root.chmod(0o711)
            for folder in (self.keys, self.ledger):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._take_lock()
            self._tighten()
        except OSError as error:
            raise Misconfigured(
                "storage.datadir.unusable",
                f"`{self.root}` cannot be used: {error.strerror}",
                next_step="choose `--data`",
            ) from None

    def _take_lock(self) -> None:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise Unavailable(
                "storage.datadir.locked",
                f"another instance (pid {holder}) runs on `{self.root}`",
                next_step="stop it, or give this one its own `--data`",
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self._lock = handle

    def _tighten(self) -> None:
        for path in self.root.iterdir():
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) or stat.S_ISSOCK(mode):
                continue
            wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
            if stat.S_IMODE(mode) & ~wanted:
                path.chmod(wanted)

    def release(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
