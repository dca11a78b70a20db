"""Values from the columns of databases as blobs to scan: pure; who reads the rows is the connector of the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from remit.inventory.secrets.model import Blob

BLOB_BYTES = 1024 * 1024
MAX_VALUE_BYTES = 256 * 1024
_INLINE_BYTES = 2_000


def sample_blobs(rows: Iterable[object], table: str, column: str, *, place: str = "") -> Iterator[Blob]:
    """Yield the sampled values of one column, as lines of `column = "value"`, in blobs of about a MiB.

    Each of `rows` is a value, or a row of one. `place` goes before the path `table.column`.
    """
    path = f"{place}!{table}.{column}" if place else f"{table}.{column}"
    values = (row[0] if isinstance(row, tuple | list) and row else row for row in rows)
    yield from _joined((line_of(column, value) for value in values), path)


def row_blobs(rows: Iterable[Sequence[object]], table: str, columns: Sequence[str], *, place: str) -> Iterator[Blob]:
    """As `sample_blobs`, of whole rows: what stands beside a secret (its user, its host) stays beside it."""

    def lines() -> Iterator[bytes]:
        for row in rows:
            for number, value in enumerate(row):
                yield line_of(columns[number] if number < len(columns) else f"column{number}", value)
            yield b"\n"

    yield from _joined(lines(), f"{place}!{table}")


def line_of(column: str, value: object) -> bytes:
    """One value with its name; a long one, or one of several lines, stands as it is."""
    if value is None or isinstance(value, bool):
        return b""
    raw = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else str(value).encode("utf-8", "replace")
    raw = raw[:MAX_VALUE_BYTES]
    if len(raw) > _INLINE_BYTES or b"\n" in raw or b'"' in raw:
        return b"%b:\n%b\n" % (column.encode("utf-8", "replace"), raw)
    return b'%b = "%b"\n' % (column.encode("utf-8", "replace"), raw) if raw else b""


def _joined(lines: Iterable[bytes], path: str) -> Iterator[Blob]:
    held: list[bytes] = []
    size, first = 0, 1
    for line in lines:
        if not line:
            continue
        held.append(line)
        size += len(line)
        if size >= BLOB_BYTES:
            data = b"".join(held)
            yield Blob(path=path, data=data, first_line=first)
            first += data.count(b"\n")
            held, size = [], 0
    if size:
        yield Blob(path=path, data=b"".join(held), first_line=first)
