"""The inventory's records as rows, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from remit.inventory.model import IdentityKind, Sensitivity, State
from remit.inventory.records import EdgeRecord, IdentityRecord, ResourceRecord, SourceRecord

R = TypeVar("R")
_CHUNK = 500
_WORDS = ("kind", "state", "sensitivity")
"""Columns that keep the value of a closed vocabulary."""


def chunks(values: Sequence[R]) -> Iterator[Sequence[R]]:
    """Parts small enough for the parameters of one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def row_of(record: Any) -> dict[str, Any]:
    """A record as a row of its table."""
    row = {name: getattr(record, name) for name in _names(record.__class__)}
    for name in _WORDS:
        if isinstance(value := row.get(name), Enum):
            row[name] = value.value
    if "skipped" in row:
        row["skipped"] = [dict(each) for each in row["skipped"]]
    if "record_of" in row:
        row["record_of"] = list(row["record_of"])
    return row


@cache
def _names(record: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def identity_of(row: dict[str, Any]) -> IdentityRecord:
    """A row as a record."""
    return IdentityRecord(**{**row, "kind": IdentityKind(row["kind"]), "state": State(row["state"])})


def resource_of(row: dict[str, Any]) -> ResourceRecord:
    """A row as a record."""
    sensitivity = None if row["sensitivity"] is None else Sensitivity(row["sensitivity"])
    return ResourceRecord(**{**row, "sensitivity": sensitivity})


def source_of(row: dict[str, Any]) -> SourceRecord:
    """A row as a record; its marks are asked for by themselves."""
    kept = {field.name: row[field.name] for field in fields(SourceRecord)}
    return SourceRecord(**{**kept, "skipped": tuple(row["skipped"]), "record_of": tuple(row["record_of"])})


def edge_of(row: dict[str, Any]) -> EdgeRecord:
    """A row as a record."""
    return EdgeRecord(**{**row, "actions": tuple(row["actions"]), "conditions": tuple(row["conditions"])})
