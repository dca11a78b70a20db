"""SVIDs and tokens of a past moment, the grants under them, and what was revoked by then: all by the ledger."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from remit.kernel.clock import parse_rfc3339

LONGEST: Final = timedelta(hours=4)
"""No SVID or token lives longer, and no grant of the token service."""
MOST_ISSUED: Final = 5_000
_OVERLAP: Final = timedelta(minutes=2)
"""Longer than a transaction may take: what it wrote bears the moment at which it began."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED: Final = re.compile(r"[A-Za-z0-9_.~:-]{1,128}")
_SERIAL: Final = re.compile(r"(?:serial:)?(?:0x)?([0-9a-f][0-9a-f:]{0,80})", re.IGNORECASE)
_SVID, _TOKEN, _GRANTED = "trust.svid.issued", "trust.token.issued", "trust.token.granted"
_MADE, _SPREAD, _RESTORED, _ENDED = (f"trust.revocation.{each}" for each in ("made", "spread", "restored", "ended"))
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class PastIssued:
    """What was handed out, as of one moment."""

    def __init__(self, unit: Any, at: datetime) -> None:
        self._unit = unit
        self._at = at
        self._first, self._before = self._leaves(at - min(LONGEST, at - _EARLIEST), at)

    def _leaves(self, since: datetime, until: datetime) -> tuple[int, int]:
        """The leaves among which everything of a time lies; others may lie there too."""
        ledger = self._unit.ledger
        return ledger.size_at(since - _OVERLAP), ledger.size_at(until + _OVERLAP)

    def find(self, given: str) -> tuple[dict[str, Any], str] | None:
        """The SVID or token of this serial or `jti`, and whom its entry is about; of those that were alive lately."""
        wanted = [given.removeprefix("jti:")]
        if serial := _SERIAL.fullmatch(given):
            wanted.append(serial[1].replace(":", "").lower().lstrip("0") or "0")
        for each in filter(_NAMED.fullmatch, dict.fromkeys(wanted)):
            told = self._unit.past.told(
                (_SVID, _TOKEN), until=self._at, first=self._first, before=self._before, holding=each
            )
            for entry in told:
                found = issued_json(entry)
                if found["id"] == each:
                    return found, entry.subject
        return None

    def grant(self, given: str) -> tuple[dict[str, Any], str] | None:
        """The grant of the token service of this id, given by then or later, and whom it is of."""
        milliseconds = 0
        for each in given.partition("_")[2][:10]:
            milliseconds = milliseconds * 32 + _CROCKFORD.index(each)
        try:
            made = datetime.fromtimestamp(milliseconds / 1000, UTC)
            first, before = self._leaves(made, made + _OVERLAP)
        except (OverflowError, ValueError, OSError):
            return None  # a year that no clock shows
        for entry in self._unit.past.told((_GRANTED,), first=first, before=before, holding=given):
            if entry.data.get("id") == given:
                return _grant_json(entry), entry.subject
        return None

    def alive(self, subjects: Collection[str]) -> list[dict[str, Any]]:
        """SVIDs and tokens of these: issued, not expired, and fallen under no revocation. The newest first."""
        told = self._unit.past.told(
            (_SVID, _TOKEN), until=self._at, subjects=subjects, first=self._first, before=self._before,
            limit=MOST_ISSUED,
        )  # fmt: skip
        return self.standing([issued_json(each) for each in told])

    def standing(self, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of `found` that had not expired, nor been revoked."""
        alive = [each for each in found if parse_rfc3339(each["expires"]) > self._at]
        fallen = self._fallen() if alive else set()
        return [each for each in alive if fallen.isdisjoint((each["id"], each["authority"] or each["id"]))]

    def given(self, subjects: Collection[str]) -> dict[str, dict[str, Any]]:
        """The grants of the token service on which tokens of then may rest, by id."""
        told = self._unit.past.told(
            (_GRANTED,), until=self._at, subjects=subjects, first=self._first, before=self._before, limit=MOST_ISSUED
        )
        return {found["id"]: found for found in map(_grant_json, told)}

    def _fallen(self) -> set[str]:
        """The serials, token ids and authorities that were revoked lately."""
        within: dict[str, Any] = {"until": self._at, "first": self._first, "before": self._before}
        past = self._unit.past
        named = past.subjects((_MADE, "trust.token.returned"), **within)
        ended = {each.partition(":")[2] for each in named if each.startswith(("serial:", "jti:", "authority:"))}
        for each in past.told((_SPREAD,), **within):
            ended |= {str(one[0]) for one in each.data["fallen"]}
        return ended | {str(each.data["id"]) for each in past.told(("trust.authority.revoked",), until=self._at)}


def blocking(unit: Any, at: datetime, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """The revocations that held at a moment, by each of `wanted` (as `identity:…`) to which nothing was given then."""
    made: dict[str, Any] = {}
    members: dict[str, list[str]] = {}
    for entry in reversed(unit.past.told((_MADE, _SPREAD, _RESTORED, _ENDED), until=at)):
        data = entry.data
        match entry.type:
            case "trust.revocation.made":
                made[data["id"]] = entry
            case "trust.revocation.spread":
                members.setdefault(data["id"], []).extend(data["members"])
            case _:
                made.pop(data["id"], None)
    found: dict[str, dict[str, Any]] = {}
    for name, entry in made.items():
        data = entry.data
        for each in (data["subject"], *members.get(name, ())) if data["blocks"] else ():
            if each in wanted:
                found[each] = {
                    "id": name, "subject": data["subject"], "reason": data["reason"], "by": entry.actor,
                    "at": entry.time, "leaf": entry.leaf_index,
                }  # fmt: skip
    return found


def issued_json(entry: Any) -> dict[str, Any]:
    """An SVID or token as its entry has it."""
    data, token = entry.data, entry.type == _TOKEN
    said = ("aud", "scope", "act", "client", "details", "cnf", "grant") if token else ("audience", "spiffe_id", "agent")
    return {
        "kind": data.get("kind", ""), "id": data.get("jti" if token else "serial", ""), "issued": entry.time,
        "expires": data["expires"], "subject": data.get("sub", data.get("spiffe_id", "")),
        "proof": data.get("proof" if token else "evidence", ""), "leaf": entry.leaf_index,
        "authority": data.get("authority", ""),
        **{key: data[key] for key in said if data.get(key)},
    }  # fmt: skip


def _grant_json(entry: Any) -> dict[str, Any]:
    data = entry.data
    return {
        "id": str(data["id"]), "leaf": entry.leaf_index, "at": entry.time, "decisions": list(data["decisions"]),
        "anchor": data["anchor"], "until": data["expires"], "subject": data["subject"], "aud": list(data["resources"]),
        "scope": " ".join(data["scopes"]),
    }  # fmt: skip


def anchors_of(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The approved grants on which grants of the token service rest."""
    return (each["anchor"] for each in found if each["anchor"])
