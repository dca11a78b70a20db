"""The folder that a server reads its list of revoked clients from, and the book of leases beside it.

One small file for each lease says its serial, its certificate, and whether it may live: the list is made of them anew
each time, so that nothing is forgotten by whoever writes it. Writers wait for each other, whatever process they are.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from remit.kernel.errors import Misconfigured, Unavailable
from remit.providers.x509.certificates import (
    ClientAuthority,
    RevocationList,
    read_revocation_list,
    revocation_list,
)

LIST = "clients.crl"
AUTHORITY = "clients.pem"
LASTS = timedelta(days=90)
REFRESHED_BELOW = timedelta(days=60)
_KEPT_AFTER = 3600
"""Seconds for which a revoked serial stays on the list after its certificate's end: clocks of servers differ."""
_MAX_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A lease in the book."""

    principal: str
    serial: str
    """Hexadecimal."""
    ends: int
    """Unix time of its certificate's end."""
    unit: str = ""
    certificate: str = ""
    revoked: bool = False

    @property
    def number(self) -> int:
        return int(self.serial, 16)


@dataclass(slots=True)
class Folder:
    """The folder of one target; its methods block, and are for a thread."""

    path: Path
    authority: ClientAuthority
    now: Callable[[], datetime]
    _seen: dict[str, tuple[int, Entry]] = field(default_factory=dict)
    _gone: dict[str, Entry] = field(default_factory=dict)
    """What we revoked: it is put back where the folder came back from a backup."""
    _stamp: int = 0

    def prepare(self) -> None:
        """Write what a server needs to start. `Misconfigured` (`access.x509.folder`) where the folder will not do."""
        try:
            found = self.path.lstat()
        except OSError as error:
            raise self._bad(f"it cannot be read: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise self._bad("it is no folder of ours alone to write to")
        try:
            self._book.mkdir(mode=0o700, exist_ok=True)
            with self._locked():
                if self._reads(AUTHORITY) != self.authority.pem.encode():
                    self._replace(AUTHORITY, self.authority.pem.encode())
        except OSError as error:
            raise self._bad(f"it cannot be written: {error.strerror}") from None
        self.tend()

    def entry(self, principal: str) -> Entry | None:
        """What the book says of one lease."""
        return self._gone.get(principal) or self._load(principal)

    def put(self, entry: Entry) -> Entry:
        """Write a lease that has no entry yet; returns what the book says of it then."""
        with self._writing():
            if (known := self.entry(entry.principal)) is not None:
                return known
            self._replace(f"leases/{entry.principal}", json.dumps(asdict(entry)).encode(), mode=0o600)
            return entry

    def live(self) -> Sequence[str]:
        """The leases that may log in."""
        return sorted(one.principal for one in self._entries().values() if not one.revoked)

    def revoke(self, entries: Sequence[Entry]) -> RevocationList:
        """Strike these and write the list anew; returns it as read back."""
        with self._writing():
            for entry in entries:
                gone = replace(entry, revoked=True)
                self._gone[gone.principal] = gone
            return self._write_list()

    def tend(self) -> bool:
        """Write the list again where it is missing, broken, lacks somebody or runs out; whether it was so."""
        with self._writing():
            entries = self._entries()
            missing = any(name not in entries or not entries[name].revoked for name in self._gone)
            wanted = {one.number for one in entries.values() if one.revoked and self._matters(one)}
            known = self.read_list()
            if not missing and known is not None and wanted <= known.serials and not self._runs_out(known):
                return False
            self._write_list()
            return True

    def read_list(self) -> RevocationList | None:
        """The list as it lies there; None where it is none of this target's authority."""
        return read_revocation_list(self._reads(LIST), self.authority)

    def _runs_out(self, known: RevocationList) -> bool:
        return known.next_update < min(self.now() + REFRESHED_BELOW, self.authority.ends)

    def _write_list(self) -> RevocationList:
        for principal, gone in list(self._gone.items()):
            if not self._matters(gone):
                del self._gone[principal]
            elif (known := self._load(principal)) is None or not known.revoked:
                self._replace(f"leases/{principal}", json.dumps(asdict(gone)).encode(), mode=0o600)
        entries = self._entries()
        for entry in entries.values():
            if entry.revoked and not self._matters(entry):
                (self._book / entry.principal).unlink(missing_ok=True)
        before, now = self.read_list(), self.now()
        number = max(before.number + 1 if before else 0, int(now.timestamp() * 1000))
        serials = {one.number for one in entries.values() if one.revoked and self._matters(one)}
        text = revocation_list(self.authority, serials, number=number, now=now, lasts=LASTS)
        self._replace(LIST, text, stamp=self._next_stamp())
        written = self.read_list()
        if written is None or not serials <= written.serials or written.number != number:
            raise Unavailable("access.x509.list", "the list of revoked certificates is not what was written")
        return written

    def _matters(self, entry: Entry) -> bool:
        return entry.ends + _KEPT_AFTER > self.now().timestamp()

    def _entries(self) -> Mapping[str, Entry]:
        names = [one.name for one in os.scandir(self._book) if not one.name.startswith(".")]
        return {name: entry for name in names if (entry := self._load(name)) is not None}

    def _load(self, principal: str) -> Entry | None:
        path = self._book / principal
        try:
            found = path.stat()
            if (known := self._seen.get(principal)) is not None and known[0] == found.st_mtime_ns:
                return known[1]
            entry = Entry(**json.loads(path.read_bytes()[:_MAX_BYTES]))
            _ = entry.number
        except (OSError, ValueError, TypeError):
            self._seen.pop(principal, None)
            return None
        self._seen[principal] = (found.st_mtime_ns, entry)
        return entry

    def _reads(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return b""

    def _next_stamp(self) -> int:
        """A second that no list had before.

        Since 1.27.4 nginx takes a file for unchanged by its inode and the second of its change, and a new file may get
        the inode of one that was replaced a moment ago.
        """
        try:
            before = int((self.path / LIST).stat().st_mtime)
        except OSError:
            before = 0
        self._stamp = max(int(self.now().timestamp()), before + 1, self._stamp + 1)
        return self._stamp

    def _replace(self, name: str, content: bytes, *, mode: int = 0o644, stamp: int = 0) -> None:
        """All of it or nothing: who reads the name at any moment reads one version whole."""
        path = self.path / name
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            if stamp:
                os.utime(handle, (stamp, stamp))
            os.fsync(handle)
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._locked():
                yield
        except OSError as error:
            raise Unavailable("access.x509.unwritten", f"`{self.path}` cannot be written: {error.strerror}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @property
    def _book(self) -> Path:
        return self.path / "leases"

    def _bad(self, why: str) -> Misconfigured:
        return Misconfigured(
            "access.x509.folder",
            f"the folder `{str(self.path)[:200]}` cannot carry the list of revoked certificates: {why}",
            next_step=f"`install -d -m 755 -o USER {self.path}`, for the user that Remit runs as",
        )
