"""What goes wrong around Remit, on purpose: a server that is killed and comes back, and a network that is cut."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from bench.ports import free_port
from remit.kernel.errors import Unavailable
from remit.providers.postgres.local_server import LocalServer

_TRIES = 20
_PIECE = 65536
_REDIS_SECONDS = 60.0
_CREDENTIAL = re.compile("remit_[0-9a-z]{8}_[0-9a-z]{26}")


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started and that live."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill_with_children(pid: int) -> None:
    """SIGKILL to a process and its children: as a machine that loses its power."""
    for each in (pid, *children_of(pid)):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


class Mortal:
    """A PostgreSQL that is killed, or stopped, and started again on the same data and port."""

    def __init__(self, server: LocalServer, stack: ExitStack) -> None:
        self.server = server
        self._stack = stack

    def kill(self) -> None:
        """SIGKILL to all of it; returns when it is gone."""
        kill_with_children(self.server.pid)
        self.reap()

    def stop(self) -> None:
        """A fast shutdown: its data are whole afterwards."""
        os.kill(self.server.pid, signal.SIGINT)
        self.reap()

    def reap(self) -> None:
        """Wait until it has ended."""
        with suppress(ChildProcessError):
            os.waitpid(self.server.pid, 0)

    def start(self) -> None:
        """Start it again; what a dead one's processes still hold is waited for."""
        for attempt in range(_TRIES):
            try:
                self.server = self._stack.enter_context(self.server.started_again())
                return
            except Unavailable:
                if attempt + 1 == _TRIES:
                    raise
                time.sleep(0.1)


class Relay:
    """A network between here and `port`: a TCP port of its own, which can be cut and mended."""

    def __init__(self, port: int, control: Path | None = None) -> None:
        """With `control`, a Unix socket: whoever connects to it cuts the network, and is hung up on when that is done.

        The cut is what a router's reset does: what is open breaks, and nothing new comes through.
        """
        self._to = port
        self._cut = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._control: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()
        if control is not None:
            self._control = socket.socket(socket.AF_UNIX)
            self._control.bind(str(control))
            self._control.listen()
            threading.Thread(target=self._obey, args=(self._control,), daemon=True).start()

    def cut(self) -> None:
        """Nothing gets through from now on."""
        with self._lock:
            self._cut.set()
            found, self._open = self._open, set()
        for each in found:
            _break(each)

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self.cut()
        for each in (self._door, self._control):
            if each is not None:
                # A thread in accept() is woken by this, not by close().
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _obey(self, control: socket.socket) -> None:
        with suppress(OSError):
            while True:
                asker, _ = control.accept()
                with asker:
                    self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return  # closed
            try:
                joined = self._join(near)
            except OSError:
                joined = False  # it was cut while it was being joined
            if not joined:
                _break(near)

    def _join(self, near: socket.socket) -> bool:
        if self._cut.is_set():
            return False
        try:
            far = socket.create_connection(("127.0.0.1", self._to), timeout=5)
        except OSError:
            return False
        far.settimeout(None)
        with self._lock:
            if self._cut.is_set():
                _break(far)
                return False
            self._open |= {near, far}
        for here, there in ((near, far), (far, near)):
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(here, there), daemon=True).start()
        return True

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while piece := here.recv(_PIECE):
                there.sendall(piece)
        with self._lock:
            self._open -= {here, there}
        for each in (here, there):
            _break(each)


class Cache:
    """A Redis of our own that keeps its users in a file, is killed, and comes back with those that were saved."""

    def __init__(self, folder: Path, rights: str) -> None:
        """`rights` are those of the login `remit_broker`; the login `operator` may do everything."""
        self.password = secrets.token_urlsafe(24)
        self._folder = folder
        self.port = free_port()
        users = [
            "user default off",
            f"user operator on >{self.password} ~* &* +@all",
            f"user remit_broker on >{self.password} {rights}",
        ]
        (folder / "users.acl").write_text("\n".join(users) + "\n")
        words = ("bind 127.0.0.1", f"port {self.port}", f"dir {folder}", 'save ""', f"aclfile {folder}/users.acl")
        (folder / "redis.conf").write_text("\n".join(words) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        program = shutil.which("redis-server")
        assert program is not None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, str(self._folder / "redis.conf")], stdout=log, stderr=log)
        deadline = time.monotonic() + _REDIS_SECONDS
        while self.users() is None:
            assert time.monotonic() < deadline, "redis-server answers"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL; works twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def users(self) -> list[str] | None:
        """Names of credentials of any installation that exist now; `None` where it does not answer."""
        import redis

        try:
            with redis.Redis(
                port=self.port, username="operator", password=self.password, decode_responses=True, protocol=2
            ) as operator:
                return [name for name in operator.acl_users() if _CREDENTIAL.fullmatch(name)]
        except redis.RedisError:
            return None


def _break(end: socket.socket) -> None:
    # shutdown() wakes the threads that read from it; close() alone would leave them waiting.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
