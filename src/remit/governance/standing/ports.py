"""The rows that standing privilege needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from remit.access.ports import AccessRows
from remit.governance.standing.conversion import Conversion
from remit.governance.standing.model import Day, Span
from remit.kernel.unit import Unit


class StandingRows(Protocol):
    """Spans, days and conversions."""

    def spans(self, *, since: datetime | None = None) -> list[Span]:
        """Those that nothing has ended, and those that ended at or after `since`; without it, the first alone."""
        ...

    def first_seen(self) -> datetime | None:
        """The first observation of all."""
        ...

    def put_spans(self, spans: Iterable[Span]) -> None: ...
    def days(self, since: date) -> dict[date, Day]: ...
    def put_day(self, day: Day) -> None: ...

    def conversion(self, conversion_id: str) -> tuple[Conversion, bytes] | None: ...
    def conversions(self, identity: str = "", *, limit: int = 50) -> Sequence[Conversion]:
        """The newest first."""
        ...

    def insert_conversion(self, conversion: Conversion, sealed: bytes) -> None: ...
    def save_conversion(self, conversion: Conversion, sealed: bytes | None, *, expected: int) -> bool:
        """Replace the one whose revision is `expected`; `None` keeps what is sealed. `False` when it has another."""
        ...


class StandingUnit(Unit, Protocol):
    """A unit of work with the rows of standing privilege, and those of the registry and of leases."""

    @property
    def standing(self) -> StandingRows: ...
    @property
    def access(self) -> AccessRows: ...
    @property
    def inventory(self) -> Any: ...
