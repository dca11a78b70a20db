"""Column types that are the same on every engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from remit.kernel.canonical import Json, canonical

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@lru_cache(maxsize=1024)
def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int | None) -> datetime | None:
    """The time that `micros` wrote."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def as_micros(value: datetime | None) -> int | None:
    """What a column of `Moment` keeps."""
    return None if value is None else micros(value)


class Encoded(str):
    """Canonical text already, for a column of `JsonText`: made of values that such a column gave."""

    __slots__ = ()


def as_json(value: Json) -> str | None:
    """What a column of `JsonText` keeps."""
    if value is None or type(value) is Encoded:
        return value
    return canonical(value).decode()


class Moment(TypeDecorator[datetime]):
    """An aware UTC time, kept as microseconds since 1970: exact, sortable, without an engine's time zones."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return as_micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return moment(value)


class JsonText(TypeDecorator[Any]):
    """A JSON value, kept as canonical text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str | None:
        return as_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)
