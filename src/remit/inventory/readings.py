"""Readings: how a source was asked, when it is read again by itself, and what its last whole run changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from remit.kernel.canonical import Json

SHOWN: Final = 200
"""Entries of a diff that are kept of each kind of change and thing; the counts are whole."""
_UNSAID: Final = frozenset({"owner", "state", "tier", "merged_into", "present", "first_seen", "identity", "name", "id"})
"""Fields of a record that no source says: people do, or joining does."""
_MOMENTS: Final = frozenset({"created", "last_used", "issued", "expires"})
_LONGEST: Final = 80
UNITS: Final[Mapping[str, int]] = MappingProxyType({"s": 1, "m": 60, "h": 3_600, "d": 86_400})
"""Seconds of each letter of a span."""


def span(seconds: int) -> str:
    """Seconds as people write them: `90s`, `30m`, `6h`, `1d`."""
    unit = next((each for each in ("d", "h", "m") if seconds % UNITS[each] == 0), "s")
    return f"{seconds // UNITS[unit]}{unit}"


class SecretOf(Enum):
    """Who can give the secret that a source needs."""

    NOBODY = "none"
    """It needs none of us: a file, this host, or a login that the server itself has."""
    TARGET = "target"
    """The credential of a registered target."""
    PERSON = "person"
    """It was given with the command, and is kept nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run was asked to read. `source` is empty where it held a secret."""

    connector: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret: SecretOf = SecretOf.NOBODY
    signature: str = ""
    """By this installation, over `terms` of one source: nobody else says what is read again."""

    def terms(self, source: str) -> dict[str, Json]:
        """What is signed: how the source of that id is read."""
        return {
            "connector": self.connector, "source": self.source, "options": dict(self.options),
            "secret": self.secret.value, "id": source,
        }  # fmt: skip

    def as_json(self) -> dict[str, Json]:
        """The form that is kept."""
        kept = self.terms("")
        del kept["id"]
        return {**kept, "signature": self.signature}


def asked_of(connector: str, source: str, options: Mapping[str, str], secret: SecretOf) -> Asked:
    """What may be remembered of a question: an address with a password in it, or such an option, is forgotten."""
    if any(map(_holds_secret, (source, *options.values()))):
        return Asked(connector=connector, source="", secret=SecretOf.PERSON)
    if secret is SecretOf.PERSON:
        return Asked(connector=connector, source=source, options=options, secret=secret)
    return Asked(connector=connector, source=source, options=options, secret=secret)


def read_asked(kept: Mapping[str, Any]) -> Asked:
    """What `Asked.as_json` gave."""
    return Asked(
        connector=kept["connector"],
        source=kept["source"],
        options=kept["options"],
        secret=SecretOf(kept["secret"]),
        signature=str(kept.get("signature", "")),
    )


def _holds_secret(text: str) -> bool:
    for each in text.split(","):
        if "://" in each:
            try:
                found = urlsplit(each.strip())
                if found.password is not None or (found.username and found.hostname is None):
                    return True
            except ValueError:
                return True  # what cannot be read is not kept
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One source: how it was asked, its last whole run, its schedule."""

    source: str
    asked: Asked
    begun: datetime | None = None
    finished: datetime | None = None
    diff: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    signature: str = ""
    due: datetime | None = None
    tried: datetime | None = None
    failures: int = 0
    trouble: str = ""

    @property
    def every(self) -> int | None:
        """Seconds between the starts of two readings; None where it is read only by command."""
        return None if self.plan is None else int(self.plan["every"])


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, str]]:
    """Which fields of a record differ, with both values in brief. What no source says is left out."""
    rows = []
    for key, old, new in _pairs(before, after):
        if old != new:
            rows.append({"field": key, "before": _brief(_told(key, old)), "after": _brief(_told(key, new))})
    return rows


def _told(key: str, value: object) -> object:
    """A moment as people read it: rows keep microseconds."""
    if key not in _MOMENTS or not isinstance(value, int):
        return value
    return f"{datetime.fromtimestamp(value / 1e6, UTC):%Y-%m-%d %H:%M}"


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = sorted({*before, *after} - _UNSAID - {"attributes"})
    pairs = [(key, before.get(key), after.get(key)) for key in keys]
    one, other = before.get("attributes") or {}, after.get("attributes") or {}
    return pairs + [(key, one.get(key), other.get(key)) for key in sorted({*one, *other})]


def _brief(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


class Changes:
    """What a run changed, counted whole and listed in bounds."""

    def __init__(self, *, first: bool, since: datetime | None, at: datetime) -> None:
        self._head: dict[str, Json] = {
            "first": first, "since": None if since is None else since.isoformat(), "at": at.isoformat(),
        }  # fmt: skip
        self._counts: dict[str, dict[str, int]] = {
            change: {"identity": 0, "credential": 0, "finding": 0} for change in ("new", "gone", "changed")
        }
        self._entries: list[dict[str, Json]] = []
        self._listed = not first

    def add(self, change: str, kind: str, number: int, entries: list[dict[str, Json]]) -> None:
        """`number` things of a kind; of a first reading, where all is new, nothing is listed."""
        self._counts[change][kind] += number
        if self._listed:
            self._entries += [{"change": change, "kind": kind, **each} for each in entries[:SHOWN]]

    def as_json(self) -> dict[str, Json]:
        """The form that is kept and shown."""
        listed: dict[tuple[Json, Json], int] = {}
        for each in self._entries:
            at = (each["change"], each["kind"])
            listed[at] = listed.get(at, 0) + 1
        total = sum(number for kinds in self._counts.values() for number in kinds.values())
        unlisted = total - sum(listed.values()) if self._listed else 0
        return {**self._head, **{k: dict(v) for k, v in self._counts.items()}, "entries": list(self._entries),
                "unlisted": unlisted}  # fmt: skip
