"""The secrets that are known already, as fingerprints in a file: one a line, sorted, so that two branches merge.

A fingerprint is PBKDF2-HMAC-SHA-256 of the value under the file's random salt. It says nothing of the place: a secret
that moves is not new. Guessing a weak password by it costs `ROUNDS` hashes a guess: keep the file where the code is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

from remit.kernel.errors import Rejected

ROUNDS = 20_000
BEGINNING = b"# remit baseline 1 salt="
MAX_BYTES = 16 * 1024 * 1024
_HEAD = re.compile(r"# remit baseline 1 salt=([0-9a-f]{32})")
_LINE = re.compile(r"kdf:[0-9a-f]{32}|sha256:[0-9a-f]{64}")
"""Of a value; of what names a secret and is public, as the id of an access key, a plain hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A salt, and what is known under it."""

    salt: bytes
    known: frozenset[str] = frozenset()
    kept: bool = True
    """Whether a file holds the salt, or will. One that ends with the run is a key: nobody guesses by it."""

    def fingerprint(self, secret: bytes) -> str:
        """`kdf:` and 32 hexadecimal digits; `run:` and as many where nothing is kept."""
        if not self.kept:
            return "run:" + hmac.digest(self.salt, secret, "sha256").hex()[:32]
        return "kdf:" + hashlib.pbkdf2_hmac("sha256", secret, self.salt, ROUNDS, 16).hex()

    def text(self, known: Iterable[str]) -> str:
        """The file for these fingerprints."""
        note = "# Known secrets by fingerprint: replace them, then remove the line.\n"
        head = f"# remit baseline 1 salt={self.salt.hex()}\n"
        return head + note + "".join(f"{each}\n" for each in sorted(set(known)))


def is_own(value: bytes) -> bool:
    """True of a salt or fingerprint of a baseline: they look random, and are no secrets."""
    return re.fullmatch(rb"(?:salt=|kdf:)?[0-9a-f]{32}|(?:sha256:)?[0-9a-f]{64}", value) is not None


def parse_baseline(data: bytes) -> Baseline:
    """Read a baseline. Raises `Rejected` (`inventory.baseline.malformed`) for what is none, conflict marks included."""
    try:
        lines = data[: MAX_BYTES + 1].decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise _malformed(1) from None
    salt = b""
    known = set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if head := _HEAD.fullmatch(text):
            salt = bytes.fromhex(head.group(1))
        elif _LINE.fullmatch(text):
            known.add(text)
        elif text and not text.startswith("#"):
            raise _malformed(number)
    if not salt or len(data) > MAX_BYTES:
        raise _malformed(1)
    return Baseline(salt=salt, known=frozenset(known))


def _malformed(line: int) -> Rejected:
    return Rejected(
        "inventory.baseline.malformed",
        f"the baseline cannot be read at line {line}",
        next_step="keep both sides of a merge, or write it anew with `remit scan --write-baseline`",
    )
