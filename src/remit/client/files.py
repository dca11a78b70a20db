"""An X.509-SVID as files, for programs that read files: three of one moment, replaced all at once.

`DIR/svid.pem`, `key.pem` and `bundle.pem` are links through `DIR/..data`, which one rename turns to a new directory
(the way of Kubernetes' volumes): no reader ever pairs a new certificate with an old key.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from remit.client.workload import X509Context, X509Identity
from remit.kernel.errors import Misconfigured
from remit.trust.bundle import pem_certificate

_LINK = "..data"
_STAGE = "..svid-"
FILES = ("svid.pem", "key.pem", "bundle.pem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is told of a rotation: the process whose id a file holds, and how."""

    pid_file: Path
    signal: int


class SvidFolder:
    """Keeps one directory up to date. The key is 0600, or 0640 where a `group` shall read it."""

    def __init__(self, folder: Path, *, group: str | None = None, target: Target | None = None) -> None:
        self._folder = folder
        self._gid = _gid(group) if group else -1
        self._target = target

    def write(self, held: X509Context, svid: X509Identity) -> str:
        """Replace the files; returns a note on who was told, for people. Raises `Misconfigured`, `OSError`."""
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=self._folder))
        try:
            roots = held.roots.get(svid.spiffe_id.trust_domain.name, ())
            self._put(stage / "svid.pem", svid.chain_pem, 0o644)
            self._put(stage / "key.pem", svid.key_pem(), 0o640 if self._gid >= 0 else 0o600)
            self._put(stage / "bundle.pem", b"".join(pem_certificate(one) for one in roots), 0o644)
            stage.chmod(0o750 if self._gid >= 0 else 0o700)
            if self._gid >= 0:
                os.chown(stage, -1, self._gid)
            self._turn(stage)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        return self._notify()

    def _put(self, path: Path, content: bytes, mode: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, content)
            if self._gid >= 0:
                os.fchown(handle, -1, self._gid)
            os.fchmod(handle, mode)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _turn(self, stage: Path) -> None:
        """Let the links lead to the new directory, by one rename, and remove what was there before."""
        link = self._folder / _LINK
        fresh = self._folder / f"{_LINK}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(stage.name)
        fresh.replace(link)
        for name in FILES:
            self._link(name)
        for old in self._folder.glob(f"{_STAGE}*"):
            if old.name != stage.name:
                shutil.rmtree(old, ignore_errors=True)

    def _link(self, name: str) -> None:
        path = self._folder / name
        wanted = f"{_LINK}/{name}"
        if path.is_symlink() and os.readlink(path) == wanted:  # noqa: PTH115  (as it is written)
            return
        if path.exists() and not path.is_symlink():
            raise Misconfigured(
                "client.files.occupied",
                f"`{path}` exists and is no link of ours",
                next_step="move it out of the way, or choose another directory",
            )
        fresh = self._folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(wanted)
        fresh.replace(path)

    def _notify(self) -> str:
        if self._target is None:
            return ""
        try:
            pid = int(self._target.pid_file.read_text().strip())
        except (OSError, ValueError):
            return f"; `{self._target.pid_file}` names no process, so nobody was told"
        if pid <= 1:
            return f"; `{self._target.pid_file}` names process {pid}, which is never signalled"
        with suppress(ProcessLookupError):
            os.kill(pid, self._target.signal)
            return f"; told process {pid}"
        return f"; process {pid} is gone"


def _gid(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Misconfigured("client.files.group", f"no group is called `{group[:64]}`") from None
