"""The unix attestor: user, groups, executable and its digest, as the kernel shows them for one process.

What keeps it honest:
- the process is held by a pidfd (or its start time) and asked for after everything was read, so that no successor of
  the same pid was read by mistake;
- the uid and gid are those that the kernel noted at connect, and must still be the effective ones: a process that has
  since executed a set-uid binary is refused;
- the executable is opened through `/proc/PID/exe` and hashed by descriptor: replacing the file changes nothing;
- its path becomes a selector only when opening that path from here leads to the same file: a private mount or a chroot
  cannot pass its own binary off as `/usr/bin/…`.

What it cannot see: which script an interpreter runs, and whether another process of the same user shares the socket.

Spec: proc(5); SO_PEERCRED, SO_PEERPIDFD in unix(7).
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust.model import Evidence, Selector
from remit.trust.process import Peer, boot_id, effective_ids, peer_of_pid, status_of

MAX_EXECUTABLE_BYTES = 1024**3
_KEYS = {
    "uid": "the effective user id, a decimal number",
    "gid": "the effective group id, a decimal number",
    "user": "the name of the user",
    "group": "the name of the group",
    "supplementary_gid": "the id of a supplementary group",
    "supplementary_group": "the name of a supplementary group",
    "path": "the absolute path of the executable, without symbolic links",
    "sha256": "the SHA-256 of the executable, 64 lower-case hexadecimal digits",
}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_NAME = re.compile(r"[^\s:]{1,255}")
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[^/\x00]+)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORMS: Mapping[str, Callable[[str], bool]] = {
    "uid": lambda v: _NUMBER.fullmatch(v) is not None and int(v) < 2**32 - 1,
    "gid": lambda v: _NUMBER.fullmatch(v) is not None and int(v) < 2**32 - 1,
    "supplementary_gid": lambda v: _NUMBER.fullmatch(v) is not None and int(v) < 2**32 - 1,
    "user": lambda v: _NAME.fullmatch(v) is not None,
    "group": lambda v: _NAME.fullmatch(v) is not None,
    "supplementary_group": lambda v: _NAME.fullmatch(v) is not None,
    "path": lambda v: _PATH.fullmatch(v) is not None,
    "sha256": lambda v: _SHA256.fullmatch(v) is not None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """The file that a process executes, as it was opened through its own process directory."""

    path: str
    """Empty when the path leads elsewhere from here."""
    sha256: str


class UnixAttestor:
    """Attests local processes; `hash_cache` digests are remembered by the file's identity and times."""

    id = "unix"
    keys: Mapping[str, str] = _KEYS

    def __init__(self, *, hash_cache: int = 4096) -> None:
        self._digests = DigestCache(hash_cache)

    def check(self, selector: Selector) -> None:
        """Refuse a key that it does not know, or a value that it could never produce."""
        form = _FORMS.get(selector.key)
        if form is None:
            raise Rejected(
                "trust.selector.unknown",
                f"`{selector}` has no key of the unix attestor",
                next_step=f"use one of: {', '.join(_KEYS)}",
            )
        if not form(selector.value):
            raise Rejected(
                "trust.selector.malformed",
                f"`{str(selector)[:200]}` could never match",
                next_step=f"`unix:{selector.key}` takes {_KEYS[selector.key]}",
            )

    def attest(self, peer: Peer, now: datetime) -> Evidence:
        """Look at the process behind `peer`.

        Raises `Rejected`: `trust.peer.gone` when it ended or was replaced meanwhile, `trust.peer.changed` when it has
        changed its user since it connected.
        """
        status = status_of(peer.pid)
        selectors = [_selector("uid", peer.uid), _selector("gid", peer.gid), *_supplementary(status)]
        selectors += _named(peer)
        unseen: list[str] = []
        facts: dict[str, Json] = {"pid": peer.pid, "start_ticks": peer.start_ticks, "boot_id": boot_id()}
        seen = self._executable(peer.pid)
        if isinstance(seen, Executable):
            selectors.append(_selector("sha256", seen.sha256))
            if seen.path:
                selectors.append(_selector("path", seen.path))
            else:
                unseen.append("path: it does not lead to the executed file from here")
        else:
            unseen.append(seen)
        # INVARIANT: nothing read above counts unless the very process is still there now.
        ids = effective_ids(peer.pid)
        if not peer.alive():
            raise Rejected("trust.peer.gone", f"process `{peer.pid}` ended while it was looked at")
        if ids != (peer.uid, peer.gid):
            raise Rejected(
                "trust.peer.changed",
                f"process `{peer.pid}` runs as another user or group than when it connected",
                next_step="connect again as the user that it is now",
            )
        return Evidence(
            attestor=self.id, selectors=frozenset(selectors), facts=facts, unseen=tuple(unseen), observed=now
        )

    def attest_pid(self, pidfd: int, pid: int, now: datetime) -> Evidence:
        """As `attest`, for a child that its runner presents by number and pidfd; the caller keeps its pidfd."""
        with peer_of_pid(pidfd, pid) as peer:
            return self.attest(peer, now)

    def _executable(self, pid: int) -> Executable | str:
        """The executable, or a sentence that says why it cannot be seen."""
        link = f"/proc/{pid}/exe"
        try:
            path = os.readlink(link)  # noqa: PTH115 (bytes of the link as they are, no Path normalisation)
            descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return f"executable: {os.strerror(error.errno or 0).lower()}"
        try:
            sha256 = self._digests.of(descriptor)
            if sha256 is None:
                return "executable: it is no plain file of a bounded size that stays as it is"
            return Executable(path=path if _leads_to(path, descriptor) else "", sha256=sha256)
        except OSError as error:
            return f"executable: {os.strerror(error.errno or 0).lower()}"
        finally:
            os.close(descriptor)


class DigestCache:
    """SHA-256 digests of open files, remembered under device, inode, size, modification and change time.

    The change time cannot be set back by the file's owner, so that a rewritten file is always read again.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, descriptor: int) -> str | None:
        """The digest of an open file; `None` when it is no regular file, too large, or changes while it is read."""
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or before.st_size > MAX_EXECUTABLE_BYTES:
            return None
        key = _file_key(before)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        with open(descriptor, "rb", closefd=False) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _file_key(os.fstat(descriptor)) != key:
            return None
        with self._lock:
            self._known[key] = digest
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return digest


def _file_key(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _leads_to(path: str, descriptor: int) -> bool:
    if _PATH.fullmatch(path) is None or any("\ud800" <= c <= "\udfff" or c < " " or c == "\x7f" for c in path):
        return False
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))  # noqa: PTH116
    except OSError:
        return False


def _selector(key: str, value: object) -> Selector:
    return Selector("unix", key, str(value))


def _supplementary(status: Mapping[str, str]) -> list[Selector]:
    selectors = []
    for gid in status.get("Groups", "").split():
        selectors.append(_selector("supplementary_gid", gid))
        name = _group_name(int(gid))
        if name:
            selectors.append(_selector("supplementary_group", name))
    return selectors


def _named(peer: Peer) -> list[Selector]:
    selectors = []
    try:
        selectors.append(_selector("user", pwd.getpwuid(peer.uid).pw_name))
    except KeyError:
        pass
    group = _group_name(peer.gid)
    if group:
        selectors.append(_selector("group", group))
    return selectors


def _group_name(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None
