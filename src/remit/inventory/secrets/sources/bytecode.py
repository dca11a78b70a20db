"""Compiled Python: its constants, beside the names to which they are assigned. Nothing of it is unmarshalled or run.

Spec: CPython, Python/marshal.c (version 4), Lib/importlib/_bootstrap_external.py (magic numbers 3.3–3.14).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from remit.inventory.secrets.sources.budget import Malformed, Unsupported

MAX_OBJECTS = 2_000_000
MAX_DEPTH = 100
_MOST_KEYS = 64
_LOAD_CONST, _KW_NAMES = 100, 172
_STORES = frozenset({90, 95, 97, 125})
"""STORE_NAME, STORE_ATTR, STORE_GLOBAL, STORE_FAST, as numbered from 3.6 to 3.12."""


@dataclass(slots=True)
class _Code:
    code: bytes = b""
    constants: tuple[object, ...] = ()
    names: tuple[object, ...] = ()
    locals: tuple[object, ...] = ()


@dataclass(slots=True)
class _Reader:
    data: bytes
    magic: int
    at: int = 16
    left: int = MAX_OBJECTS
    references: list[object] = field(default_factory=list)
    codes: list[_Code] = field(default_factory=list)

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise Malformed("bytecode that ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def read(self, depth: int = 0) -> object:
        """One object: text and bytes as bytes, tuples, codes; anything else is `None`."""
        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            raise Malformed("bytecode that is too deep or too long")
        code = self.take(1)[0]
        kind = code & 0x7F
        place = -1
        if code & 0x80:
            place = len(self.references)
            self.references.append(None)
        value = self._of(kind, depth)
        if place >= 0:
            self.references[place] = value
        return value

    def _of(self, kind: int, depth: int) -> object:
        match chr(kind):
            case "0" | "N" | "F" | "T" | "S" | ".":
                return None
            case "i":
                self.take(4)
            case "I" | "g":
                self.take(8)
            case "y":
                self.take(16)
            case "f":
                self.take(self.take(1)[0])
            case "x":
                self.take(self.take(1)[0])
                self.take(self.take(1)[0])
            case "l":
                self.take(2 * abs(self.long()))
            case "s" | "u" | "t" | "a" | "A":
                return self.take(self.long())
            case "z" | "Z":
                return self.take(self.take(1)[0])
            case ")":
                return self._several(self.take(1)[0], depth)
            case "(" | "[" | "<" | ">":
                return self._several(self.long(), depth)
            case "{":
                while self.data[self.at : self.at + 1] != b"0":
                    self.read(depth + 1)
                    self.read(depth + 1)
                self.take(1)
            case ":":
                for _ in range(3):
                    self.read(depth + 1)
            case "r":
                number = self.long()
                return self.references[number] if 0 <= number < len(self.references) else None
            case "c":
                self._code(depth)
            case _:
                raise Malformed("bytecode with an unknown mark")
        return None

    def _several(self, count: int, depth: int) -> tuple[object, ...]:
        if count < 0 or count > len(self.data) - self.at:
            raise Malformed("bytecode with more objects than bytes")
        return tuple([self.read(depth + 1) for _ in range(count)])

    def _code(self, depth: int) -> None:
        recent = self.magic >= 3450
        self.take(4 * (6 if 3400 <= self.magic < 3450 else 5))
        code, constants, names, variables = (self.read(depth + 1) for _ in range(4))
        for _ in range(4):
            self.read(depth + 1)
        self.take(4)
        for _ in range(2 if recent else 1):
            self.read(depth + 1)
        self.codes.append(
            _Code(
                code if isinstance(code, bytes) else b"",
                constants if isinstance(constants, tuple) else (),
                names if isinstance(names, tuple) else (),
                variables if isinstance(variables, tuple) else (),
            )
        )


def is_bytecode(head: bytes) -> bool:
    """True of the magic number of Python 3.3 to 3.14 and what follows it."""
    return len(head) >= 20 and head[2:4] == b"\r\n" and 3200 <= int.from_bytes(head[:2], "little") < 3700


def text_of(data: bytes) -> bytes:
    """The constants of a `.pyc` as lines: `name = "value"` where one is assigned or passed by name.

    Raises `Malformed`, `Unsupported`.
    """
    magic = int.from_bytes(data[:2], "little")
    if magic < 3300:
        raise Unsupported("bytecode of a Python before 3.3")
    reader = _Reader(data, magic, at=16 if magic >= 3392 else 12)
    try:
        reader.read()
    except Malformed:
        if not reader.codes:
            raise
    lines: list[bytes] = []
    left = 4 * len(data)  # references let a few bytes stand for many
    for code in reader.codes:
        for line in _lines(code, known=3379 <= magic < 3550):
            left -= len(line) + 8
            if left < 0:
                return b"\n".join(lines) + b"\n"
            lines.append(line)
    return b"\n".join(lines) + b"\n"


def _lines(code: _Code, *, known: bool) -> Iterator[bytes]:
    named: set[int] = set()
    if known:
        steps = [(code.code[at], code.code[at + 1]) for at in range(0, len(code.code) - 1, 2) if code.code[at]]
        for number, (step, argument) in enumerate(steps):
            for name, place in _bindings(code, steps, number, step, argument):
                value = _constant(code, place)
                if value and name:
                    named.add(place)
                    yield b'%b = "%b"' % (name, value)
    for place, constant in enumerate(code.constants):
        if place not in named:
            yield from _flat(constant)


def _bindings(
    code: _Code, steps: list[tuple[int, int]], number: int, step: int, argument: int
) -> list[tuple[bytes, int]]:
    """The (name, constant) that an instruction ties together, by what stands just before it."""
    if step in _STORES and number and steps[number - 1][0] == _LOAD_CONST:
        names = code.locals if step == 125 else code.names
        name = names[argument] if argument < len(names) else None
        return [(name, steps[number - 1][1])] if isinstance(name, bytes) else []
    if step in (_LOAD_CONST, _KW_NAMES) and argument < len(code.constants):
        keys = code.constants[argument]
        if (
            isinstance(keys, tuple)
            and 0 < len(keys) <= min(number, _MOST_KEYS)
            and all(isinstance(key, bytes) for key in keys)
        ):
            before = steps[number - len(keys) : number]
            return [
                (key, place)
                for key, (loads, place) in zip(keys, before, strict=True)
                if loads == _LOAD_CONST and isinstance(key, bytes)
            ]
    return []


def _constant(code: _Code, place: int) -> bytes:
    value = code.constants[place] if place < len(code.constants) else None
    return value if isinstance(value, bytes) else b""


def _flat(value: object) -> Iterator[bytes]:
    """The texts in a constant, and those of a tuple."""
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, bytes) and each:
            yield each
