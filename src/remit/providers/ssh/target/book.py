"""What is kept on the host: leases that are admitted, those that are gone, connections, and the list of the revoked."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from remit.providers.ssh.target.processes import runs

PRINCIPAL = re.compile(r"remit_[a-z0-9]{8}_[0-9a-hjkmnp-tv-z]{26}")
KEPT_AFTER = 3600
"""Seconds for which a revocation stays in the list after the certificate's own end: clocks differ."""


class Refused(Exception):
    """A request that is not carried out: a code, and words without secrets."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class State:
    """A folder of root's: leases that are admitted, those that are gone, connections, and the revocation list."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.krl = self._in("krl")
        self.authority = self._in("ca.pub")

    def _in(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def init(self) -> None:
        for part in ("", "leases", "gone", "sessions"):
            os.makedirs(self._in(part), mode=0o755, exist_ok=True)
        with self.locked():
            self.write_krl()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with open(self._in("lock"), "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def lease(self, name: str) -> dict[str, Any] | None:
        return _read(self._in("leases", name))

    def gone(self, name: str) -> dict[str, Any] | None:
        return _read(self._in("gone", name))

    def leases(self) -> list[str]:
        return [name for name in os.listdir(self._in("leases")) if PRINCIPAL.fullmatch(name)]

    def accounts(self) -> set[str]:
        """Accounts that leases may use, as root wrote them down."""
        with open(self._in("accounts")) as file:
            return set(file.read().split())

    def is_live(self, name: str) -> bool:
        lease = self.lease(name)
        return lease is not None and self.gone(name) is None and lease["expires"] > time.time()

    def keep(self, name: str, lease: Mapping[str, Any]) -> None:
        _write(self._in("leases", name), json.dumps(lease))

    def bury(self, name: str, serial: int, until: int) -> dict[str, Any]:
        """Write down that it is gone, before anything that knew it is removed."""
        known = self.gone(name) or self.lease(name)
        gone = {"serial": serial, "until": until, "account": ""}
        if known is not None:
            gone.update(until=known["until"], account=known["account"])
        if self.gone(name) is None:
            _write(self._in("gone", name), json.dumps(gone))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._in("leases", name))
        return dict(gone, known=known is not None)

    def write_krl(self) -> None:
        """Replace the list of revoked certificates by one that `ssh-keygen` made and reads again.

        sshd admits nobody, the administrator included, while the list is missing or broken: it is only ever renamed.
        """
        lines, now = [], time.time()
        for name in os.listdir(self._in("gone")):
            entry = self.gone(name) if PRINCIPAL.fullmatch(name) else None
            if entry is None:
                continue
            if entry["until"] + KEPT_AFTER < now:
                os.unlink(self._in("gone", name))
            else:
                lines += [f"serial: {entry['serial']}", f"id: {name}"]
        fresh, spec = self.krl + ".new", self.krl + ".spec"
        _write(spec, "".join(line + "\n" for line in lines))
        ssh_keygen("-q", "-k", "-f", fresh, "-s", self.authority, spec)
        ssh_keygen("-Q", "-l", "-f", fresh)
        os.chmod(fresh, 0o644)
        _sync(fresh)
        os.replace(fresh, self.krl)
        _sync(self.folder)

    # Connections: one empty file for each, named by the process that serves it.

    def note(self, name: str, pid: int, start: int) -> None:
        folder = self._in("sessions", name)
        for _ in range(8):
            # Whoever forgets an empty folder may do so in between.
            with contextlib.suppress(FileNotFoundError):
                os.makedirs(folder, mode=0o755, exist_ok=True)
                os.close(os.open(os.path.join(folder, f"{pid}-{start}"), os.O_CREAT | os.O_WRONLY, 0o600))
                return
        raise Refused("noted", "the connection could not be noted")

    def noted(self) -> dict[str, set[int]]:
        """Principal → processes of sshd that serve it now; what has ended is forgotten."""
        found: dict[str, set[int]] = {}
        for name in os.listdir(self._in("sessions")):
            alive = set()
            folder = self._in("sessions", name)
            for entry in _listed(folder):
                pid, start = (int(part) for part in entry.split("-"))
                if runs(pid, start):
                    alive.add(pid)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, entry))
            if alive:
                found[name] = alive
            else:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return found


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path) as file:
            read: dict[str, Any] = json.load(file)
            return read
    except (FileNotFoundError, ValueError):
        return None


def _write(path: str, text: str) -> None:
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def ssh_keygen(*words: str) -> None:
    # Imported here: sshd waits for `principals` at every login.
    import shutil
    import subprocess

    program = shutil.which("ssh-keygen", path="/usr/bin:/usr/local/bin:/bin") or "ssh-keygen"
    done = subprocess.run([program, *words], capture_output=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Refused("krl", "ssh-keygen: " + done.stderr.decode(errors="replace")[:200])
