"""Which objects of history hold nothing: kept by the installation, so that a second scan reads only what is new.

Kept are keyed hashes of object ids, eight bytes each: neither ids nor contents can be told from the file. It counts
only for the rules that wrote it. Losing it costs time, and a file that somebody changed is no file: it is signed.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
import os
from pathlib import Path

from remit.kernel.unit import Fingerprinter

_SIZE = 8
MOST = 4_000_000
_MAGIC = b"remit scanned 1\n"


class Scanned:
    """The clean objects of one repository; `sources.git.Seen`."""

    def __init__(self, folder: Path | None, repository: str, rules: str, fingerprint: Fingerprinter) -> None:
        """`folder` is ours; `None` remembers nothing. `rules` names the catalogue and the settings of the scan."""
        self._key = bytes.fromhex(fingerprint(b"remit scanned objects\0" + rules.encode()).rpartition(":")[2])
        name = hmac.digest(self._key, repository.encode("utf-8", "surrogateescape"), "sha256").hex()[:32]
        self._file = folder / f"{name}.scanned" if folder else None
        self._old = self._load()
        self._new: set[bytes] = set()

    def known(self, object_id: str) -> bool:
        """Whether an earlier scan found nothing in the object."""
        if not self._old:
            return False
        mark = self._mark(object_id)
        low, high = 0, len(self._old) // _SIZE
        at = bisect.bisect_left(range(low, high), mark, key=self._at)
        return at < high and self._at(at) == mark

    def note(self, object_id: str) -> None:
        """For the reader: it may not say so, for only the scan knows what was found. See `clean`."""

    def clean(self, object_id: str) -> None:
        """Nothing is in the object."""
        if self._file is not None and len(self._new) < MOST:
            self._new.add(self._mark(object_id))

    def save(self) -> None:
        """Keep what was learnt, whole or not at all."""
        if self._file is None or not self._new:
            return
        old = {self._at(index) for index in range(len(self._old) // _SIZE)}
        body = b"".join(sorted(old | self._new)[:MOST])
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._file.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + self._seal(body) + body)
        beside.replace(self._file)

    def _load(self) -> bytes:
        if self._file is None:
            return b""
        try:
            data = self._file.read_bytes()
        except OSError:
            return b""
        head = len(_MAGIC)
        seal, body = data[head : head + 32], data[head + 32 :]
        sound = data.startswith(_MAGIC) and len(body) % _SIZE == 0 and hmac.compare_digest(seal, self._seal(body))
        return body if sound else b""

    def _seal(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"file\0" + hashlib.sha256(body).digest(), "sha256")

    def _mark(self, object_id: str) -> bytes:
        return hmac.digest(self._key, object_id.encode(), "sha256")[:_SIZE]

    def _at(self, index: int) -> bytes:
        return self._old[index * _SIZE : (index + 1) * _SIZE]
