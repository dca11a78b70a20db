"""Marks: what a connector remembers from one run for the next (ETags, cursors, change numbers)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Rejected

MOST: Final = 64
"""Keys of one source."""
LONGEST_KEY: Final = 200
LONGEST: Final = 4096
"""Bytes of a value."""
RESUMED_WITHIN: Final = timedelta(hours=24)
"""How long after its start an interrupted run can be resumed."""


def remembered(marks: Mapping[str, str], key: str, value: str) -> dict[str, str]:
    """`marks` with one more; an empty value forgets the key. Raises `Rejected` (`inventory.mark.unfit`)."""
    if not value:
        return {each: kept for each, kept in marks.items() if each != key}
    fits = 0 < len(key) <= LONGEST_KEY and len(value.encode("utf-8", "replace")) <= LONGEST
    if not fits or (key not in marks and len(marks) >= MOST):
        raise Rejected(
            "inventory.mark.unfit",
            f"the mark `{key[:60]}` cannot be kept: a source has at most {MOST} of at most {LONGEST} bytes",
            next_step="this is a defect of the connector; what it had read until then is kept",
        )
    return {**marks, key: value}


def asked(source: str, options: Mapping[str, str]) -> str:
    """A digest of what a run was asked to read: only the same question is resumed."""
    question: dict[str, Json] = {"source": source, "options": dict(options)}
    return hashlib.sha256(canonical(question)).hexdigest()
