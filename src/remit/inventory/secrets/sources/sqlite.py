"""SQLite databases, read from their pages: nothing is opened, locked, recovered or run.

Each table gives its first rows, up to a bound, as lines of `column = "value"`: a rule sees the name beside it.

Spec: sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from remit.inventory.secrets.sources.budget import Budget, Malformed, Random

ROWS_EACH = 5_000
TABLES = 1_000
MAX_VALUE_BYTES = 256 * 1024
_MAX_DEPTH = 24
_MAX_PAGES_EACH = 50_000
_HEAD = b"SQLite format 3\0"
_COLUMN = re.compile(r"\s*(?:\"((?:[^\"]|\"\")+)\"|`([^`]+)`|\[([^\]]+)\]|'([^']+)'|([^\s,()]+))")
_CONSTRAINTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}

Value = bytes | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """The name of a table, its columns and a sample of its rows."""

    name: str
    columns: tuple[str, ...]
    rows: Iterator[list[Value]]


class Database:
    """A database file; every read is bounded by its `budget`. Raises `Malformed`."""

    def __init__(self, file: Random, budget: Budget) -> None:
        head = file.at(0, 100)
        if len(head) < 100 or not head.startswith(_HEAD):
            raise Malformed("no SQLite database")
        size = int.from_bytes(head[16:18], "big")
        self._page_size = 65536 if size == 1 else size
        if self._page_size < 512 or self._page_size & (self._page_size - 1):
            raise Malformed("a page size that is none")
        self._usable = self._page_size - head[20]
        self._encoding = {2: "utf-16-le", 3: "utf-16-be"}.get(int.from_bytes(head[56:60], "big"), "utf-8")
        self._file, self._budget = file, budget

    def tables(self) -> Iterator[Table]:
        """Every table that the schema names, its rows read when they are asked for."""
        for number, row in enumerate(self._rows(1, TABLES * 4)):
            if number >= TABLES * 4 or len(row) < 5 or row[0] != b"table":
                continue
            name, root, statement = _text(row[1]), row[3], _text(row[4])
            if isinstance(root, int) and root > 0 and not re.search(r"WITHOUT\s+ROWID\s*$", statement, re.I):
                yield Table(name, columns_of(statement), self._rows(root, ROWS_EACH))

    def _rows(self, root: int, limit: int) -> Iterator[list[Value]]:
        stack, visited = [(root, 0)], 0
        seen: set[int] = set()
        while stack and visited < _MAX_PAGES_EACH and limit > 0:
            number, depth = stack.pop()
            if number in seen or number < 1 or depth > _MAX_DEPTH:
                continue
            seen.add(number)
            visited += 1
            page = self._page(number)
            start = 100 if number == 1 else 0
            kind = page[start] if len(page) == self._page_size else 0
            count = int.from_bytes(page[start + 3 : start + 5], "big")
            if kind == 0x05:
                pointers = start + 12
                children = [int.from_bytes(page[start + 8 : start + 12], "big")]
                for n in reversed(range(min(count, self._page_size // 6))):
                    at = int.from_bytes(page[pointers + 2 * n : pointers + 2 * n + 2], "big")
                    children.append(int.from_bytes(page[at : at + 4], "big"))
                stack += [(child, depth + 1) for child in children]
            elif kind == 0x0D:
                for n in range(min(count, self._page_size // 4, limit)):
                    at = int.from_bytes(page[start + 8 + 2 * n : start + 10 + 2 * n], "big")
                    row = self._record(page, at)
                    if row is not None:
                        limit -= 1
                        yield row

    def _page(self, number: int) -> bytes:
        self._budget.spend(self._page_size)
        return self._file.at((number - 1) * self._page_size, self._page_size)

    def _record(self, page: bytes, at: int) -> list[Value] | None:
        """The values of a table's cell; `None` where it makes no sense."""
        size, at = _varint(page, at)
        _, at = _varint(page, at)
        most = self._usable - 35
        if size <= most:
            payload = page[at : at + size]
        else:
            least = (self._usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (self._usable - 4)
            local = local if local <= most else least
            payload = self._overflow(page[at : at + local], page[at + local : at + local + 4], size)
        header, place = _varint(payload, 0)
        values: list[Value] = []
        body = header
        while place < min(header, len(payload)) and len(values) < 2000:
            code, place = _varint(payload, place)
            length = _length(code)
            values.append(self._value(code, payload[body : body + min(length, MAX_VALUE_BYTES)]))
            body += length
        self._budget.spend(64 + 16 * len(values))
        return values or None

    def _value(self, code: int, data: bytes) -> Value:
        if code >= 12:
            is_text = code & 1 and self._encoding != "utf-8"
            return data.decode(self._encoding, "backslashreplace").encode() if is_text else data
        if code == 0:
            return None
        if code in (8, 9):
            return code - 8
        return int.from_bytes(data, "big", signed=True) if code < 7 else None

    def _overflow(self, data: bytes, following: bytes, size: int) -> bytes:
        parts, total = [data], len(data)
        number = int.from_bytes(following, "big")
        limit = min(size, 4 * MAX_VALUE_BYTES)
        while number and total < limit:
            page = self._page(number)
            if len(page) < 8:
                break
            parts.append(page[4 : self._usable])
            total += len(parts[-1])
            number = int.from_bytes(page[:4], "big")
        return b"".join(parts)[:size]


def _text(value: Value) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for n in range(9):
        if at >= len(data):
            return 0, at + 1
        byte = data[at]
        at += 1
        if n == 8:
            return (value << 8) | byte, at
        value = (value << 7) | (byte & 0x7F)
        if not byte & 0x80:
            break
    return value, at


def _length(code: int) -> int:
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[code] if code < 12 else (code - 12) // 2


def columns_of(statement: str) -> tuple[str, ...]:
    """The names of the columns in a `CREATE TABLE`, as far as a simple reader sees them."""
    body = statement[:20_000].partition("(")[2]
    names: list[str] = []
    depth, start = 0, 0
    for at, mark in enumerate(body + ","):
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        if depth < 0 or (mark == "," and depth == 0):
            found = _COLUMN.match(body[start:at])
            name = next((part for part in found.groups() if part), "") if found else ""
            if name and ((found and found.group(5) is None) or name.upper() not in _CONSTRAINTS):
                names.append(name)
            start = at + 1
        if depth < 0:
            break
    return tuple(names)
