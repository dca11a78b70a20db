"""What counts where sources disagree, and what is left where one stops saying something.

Of two claims of an attribute the one by the thing's system of record counts; then the surer one; then the one that was
first said later (not the one scanned last: two sources that disagree must not take turns).
What only a sighting said that is gone, or that now says otherwise, is cleared. What nobody's sighting ever said
(people and Remit itself wrote it) stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from remit.inventory.model import Attribute
from remit.inventory.records import CredentialRecord, IdentityRecord, SightingRecord
from remit.kernel.canonical import Json, canonical

TEXTS = ("environment", "service", "purpose", "autonomy")
COLUMNS = (*TEXTS, "privileged", "created", "last_used")
"""Attributes with a field of their own. A source's `tier` is none: the field is what a person said."""


@lru_cache(maxsize=8192)
def sighting_key(node: str, place: str) -> str:
    """What makes two facts of a source the same sighting."""
    return hashlib.sha256(canonical([node, place])).hexdigest()


def text_of(value: object) -> str | None:
    """A claim as the text of a column, at most 200 characters."""
    return value[:200] if isinstance(value, str) and value else None


def ranked(said: Iterable[SightingRecord], system: str) -> list[SightingRecord]:
    """Sightings of a thing of `system`, those that count most last."""
    return sorted(
        said,
        key=lambda each: (system in each.record_of, each.confidence, each.first_seen, each.source, each.key),
    )


def settled(
    record: IdentityRecord, before: Iterable[SightingRecord], after: Iterable[SightingRecord]
) -> IdentityRecord:
    """The record by what its sightings say now (`after`); `before` are those by which it was made."""
    values: dict[str, Attribute] = {}
    for each in ranked(after, record.system):
        values.update({key: value for key, value in _attributes(each).items() if _counts(key, value)})
    former = list(before)
    gone = {key for each in former for key in _attributes(each)} - values.keys()
    texts: dict[str, Any] = {}
    for column in TEXTS:
        if column in values:
            texts[column] = text_of(values[column])
        elif column in gone:
            texts[column] = None
    kept = {key: value for key, value in record.attributes.items() if key not in gone}
    rest = {key: value for key, value in values.items() if key not in COLUMNS}
    raised = any(_attributes(each).get("privileged") is True for each in former)
    return replace(
        record,
        **texts,
        privileged=values.get("privileged") is True or (record.privileged and not raised),
        attributes={**kept, **rest},
    )


def settled_credential(
    record: CredentialRecord, before: Iterable[SightingRecord], after: Iterable[SightingRecord]
) -> CredentialRecord:
    """The record, exposed where a sighting says so now."""
    raised = any(each.fact.get("exposed") is True for each in before)
    shown = any(each.fact.get("exposed") is True for each in after)
    exposed = shown or (record.exposed and not raised)
    return record if exposed == record.exposed else replace(record, exposed=exposed)


def said_twice(first: Mapping[str, Json], second: Mapping[str, Json]) -> dict[str, Json]:
    """Two facts of one run about one thing at one place, as one: the later counts, a privilege is not lost."""
    merged: dict[str, Json] = {**first, **second}
    one, other = first.get("attributes"), second.get("attributes")
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        both: dict[str, Json] = {**one, **other}
        if one.get("privileged") is True:
            both["privileged"] = True
        merged["attributes"] = both
    if first.get("exposed") is True:
        merged["exposed"] = True
    return merged


def claims(record: IdentityRecord, said: Sequence[SightingRecord]) -> list[dict[str, Any]]:
    """Who says which attribute, by attribute and then what counts most first; `counts` marks what the record shows."""
    rows: list[dict[str, Any]] = []
    decided: set[str] = set()
    sightings = [each for each in said if each.kind == "identity"]
    for each in reversed(ranked(sightings, record.system)):
        for key, value in _attributes(each).items():
            rows.append({
                "attribute": key, "value": value, "source": each.source, "connector": each.connector,
                "place": each.place, "time": each.last_seen, "confidence": each.confidence,
                "of_record": record.system in each.record_of, "counts": key not in decided and _counts(key, value),
            })  # fmt: skip
            if rows[-1]["counts"]:
                decided.add(key)
    return sorted(rows, key=lambda row: row["attribute"])


def _attributes(said: SightingRecord) -> Mapping[str, Any]:
    found = said.fact.get("attributes")
    return found if isinstance(found, Mapping) else {}


def _counts(key: str, value: object) -> bool:
    if key == "privileged":
        return value is True
    return text_of(value) is not None if key in TEXTS else True
