"""Identities and credentials as one CSV table, a row each.

A cell that a spreadsheet would take for a formula begins with an apostrophe: names are of others.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from remit.inventory.records import CredentialRecord, IdentityRecord
from remit.kernel.clock import rfc3339

IDENTITY: Final = (
    "id", "name", "kind", "title", "system", "instance", "state", "owner", "environment", "service", "purpose",
    "autonomy", "tier", "privileged", "created", "last_used", "first_seen", "last_seen", "present",
)  # fmt: skip
CREDENTIAL: Final = (
    "fingerprint", "identity", "kind", "title", "state", "issued", "expires", "last_used", "manager", "exposed",
    "first_seen", "last_seen", "present",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_UNSEEN: Final = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)
"""Control characters but the tab and the line break, and those that turn the direction of text: terminals obey them."""


def identities_csv(records: Iterable[IdentityRecord]) -> Iterator[str]:
    """The head line, and a line for each."""
    yield from _lines(IDENTITY, records)


def credentials_csv(records: Iterable[CredentialRecord]) -> Iterator[str]:
    """The head line, and a line for each."""
    yield from _lines(CREDENTIAL, records)


def _lines(columns: tuple[str, ...], records: Iterable[object]) -> Iterator[str]:
    yield _line(columns)
    for record in records:
        yield _line([_cell(getattr(record, column)) for column in columns])


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return rfc3339(value)
    text = str(value).translate(_UNSEEN)
    return f"'{text}" if text.startswith(_FORMULA) else text
