"""Secrets in the columns of a database, of rows that its connector read by sample.

A place is `database.schema.table.column`; which row it was is not said: a row of a sample has no name, and may go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from remit.inventory.connectors.files.secret_record import MIN_CONFIDENCE, SecretRead
from remit.inventory.connectors.port import Option, Scan
from remit.inventory.model import EdgeFact, Fact, Place, Relation, Skipped
from remit.inventory.secrets.binding.model import printable
from remit.inventory.secrets.facts import Reach, Spot, facts_of
from remit.inventory.secrets.found import Found
from remit.inventory.secrets.pool import Engine, Job, scan_chunk
from remit.inventory.secrets.sources.database import line_of, row_blobs
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name, credential_name

MOST_ROWS: Final = 10_000
MOST_FOUND: Final = 20_000
"""Of one run; what has more is reported."""


def sample_option(grant: str) -> Option:
    """How a connector offers it: off unless asked for, with the least grant that it needs."""
    return Option(
        name="sample",
        help=f"look for secrets in so many rows of each table (off; at most {MOST_ROWS:,}); needs `{grant}`",
    )


def rows_of(text: str) -> int:
    """The option's number; 0 when it is not given. Raises `Rejected` (`inventory.sample.unfit`)."""
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and int(text) <= MOST_ROWS):
        raise Rejected(
            "inventory.sample.unfit",
            "`sample` is no number of rows",
            next_step=f"write a number from 0 to {MOST_ROWS:,}, such as `--set sample=200`",
        )
    return int(text)


class ColumnScan:
    """One run over the samples of one server; its engine is made when the first sample comes."""

    def __init__(self, system: str, instance: str, scan: Scan) -> None:
        self._system = system
        self._instance = instance
        self._scan = scan
        self._engine: Engine | None = None
        self._left = MOST_FOUND

    def of(self, path: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[SecretRead | Skipped]:
        """Each secret of these rows of the table at `path`, once a column."""
        if not rows or not columns:
            return
        told: set[tuple[str, str]] = set()
        lines = _lines(columns, rows)
        for result in scan_chunk(self._job(), row_blobs(rows, path, columns, place=self._system)):
            if isinstance(result, Skipped):
                yield Skipped(what=printable(path, 400), reason=result.reason, detail=result.detail)
            elif isinstance(result, Found):
                column = _column(lines, columns, result.line)
                if (result.fingerprint, column) in told:
                    continue
                told.add((result.fingerprint, column))
                if self._left == 0:
                    detail = f"more than {MOST_FOUND:,} secrets in the samples"
                    yield Skipped(what=printable(path, 400), reason="too-large", detail=detail)
                    return
                self._left -= 1
                yield SecretRead(found=result, spot=self._spot(path, column))

    def _spot(self, table: str, column: str) -> Spot:
        place = Place(system=f"{self._system}:{self._instance}", path=printable(f"{table}.{column}", 900))
        return Spot(place=place, host=self._instance, within=table, reach=Reach.COLUMN)

    def _job(self) -> Job:
        from remit.inventory.secrets.engine import make_engine

        if self._engine is None:
            self._engine = make_engine(cache=Path(self._scan.cache_dir) if self._scan.cache_dir else None)
        return Job(engine=self._engine, fingerprint=self._scan.fingerprint, min_confidence=MIN_CONFIDENCE)


def column_facts(read: SecretRead, table: Name, scan: Scan) -> Iterator[Fact]:
    """The facts of one secret in a column; `table` (its path is `read.spot.within`) holds it for all who read it."""
    yield from facts_of(read.found, read.spot, now=scan.now)
    yield EdgeFact(
        source=table,
        relation=Relation.HOLDS,
        target=credential_name(read.found.fingerprint),
        evidence=printable(f"in a sample of {read.spot.place.path}", 300),
        place=read.spot.place,
        confidence=read.found.confidence,
        cut="replace the secret, then keep it out of the table: a hash, or a reference to where it is kept",
    )


def _lines(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[tuple[int, int]]:
    """The line at which each value begins in the text that is scanned, and the number of its column."""
    found = []
    line = 1
    for row in rows:
        for number, value in enumerate(row):
            text = line_of(columns[number], value)
            if text:
                found.append((line, number))
                line += text.count(b"\n")
        line += 1
    return found


def _column(lines: Sequence[tuple[int, int]], columns: Sequence[str], line: int) -> str:
    at = bisect_right(lines, (line, len(columns))) - 1
    return columns[lines[max(at, 0)][1]]
