"""Bounded parsers of what configuration is written in: JSON (with comments), YAML, TOML, INI, dotenv.

All return a `Document`: plain values (`None`, booleans, strings, lists, dicts; numbers stay text, so that a password
`0123` survives) and the line on which each was declared. Nothing is executed or constructed but these.
A hostile document (deep, or a bomb of aliases) raises `Malformed`, whose message never quotes the input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Tree: TypeAlias = bool | str | list["Tree"] | dict[str, "Tree"] | None
Path: TypeAlias = tuple[str | int, ...]

MAX_NODES = 60_000
MAX_DEPTH = 48


class Malformed(ValueError):
    """The bytes are not what their name promises. Carries no part of them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: `value`, and for each path within it the line of its declaration (from 1)."""

    value: Tree
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line(self, *path: str | int) -> int | None:
        """The line of what is at `path`, or of the nearest thing above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def mapping(value: Tree) -> dict[str, Tree]:
    """`value` when it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Tree) -> list[Tree]:
    """`value` when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Tree) -> str:
    """`value` when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def decode(data: bytes) -> str:
    """Text of a file: UTF-8 (UTF-16 by its mark), undecodable bytes replaced."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def parse_json(data: bytes) -> Document:
    """Read JSON, or JSON with comments and trailing commas; `Malformed` otherwise."""
    source = decode(data)
    keep = {"parse_int": str, "parse_float": str, "parse_constant": str}
    try:
        try:
            value = json.loads(source, **keep)  # type: ignore[arg-type]
        except json.JSONDecodeError:
            source = _without_comments(source)
            value = json.loads(source, **keep)  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        raise Malformed("no valid JSON") from None
    _bound(value)
    return Document(value, _json_lines(source))


# What is not closed ends with its line or the text: looked for from each of its marks it would take for ever.
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*+"?)|//[^\n]*|/\*(?:.*?\*/|.*)', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:[^"\\\n]|\\.)*+"?)|,(?=\s*+[}\]])')


def _without_comments(source: str) -> str:
    """`source` with each comment replaced by the line ends in it, and without commas that nothing follows."""
    bare = _COMMENT.sub(lambda found: found.group(1) or " " + "\n" * found.group(0).count("\n"), source)
    return _TRAILING_COMMA.sub(lambda found: found.group(1) or "", bare)


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],:\n]', re.DOTALL)


def _json_lines(source: str) -> dict[Path, int]:
    """Where each value of a valid JSON text begins: its key's line, or its own within a list."""
    lines: dict[Path, int] = {}
    path: list[str | int] = []
    line, expects_key, last = 1, False, ""
    for found in _JSON_TOKEN.finditer(source):
        token = found.group(0)
        if token[0] in '{["' and path and isinstance(path[-1], int):
            lines[tuple(path)] = line
        match token[0]:
            case "\n":
                line += 1
            case "{":
                path.append("")
                expects_key = True
            case "[":
                path.append(0)
                lines[tuple(path)] = line
                expects_key = False
            case "}" | "]":
                path.pop()
                expects_key = False
            case ",":
                expects_key = isinstance(path[-1], str)
                if isinstance(path[-1], int):
                    path[-1] += 1
                    lines[tuple(path)] = line
            case '"' if expects_key:
                last = json.loads(token)
                path[-1] = last
                lines.setdefault(tuple(path), line)
                expects_key = False
            case _:
                line += token.count("\n")
    return lines


class _LinesByKey(dict[Path, int]):
    """Lines of a format whose parser keeps none: the keys of a path are looked for one after the other, 2,000 times."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        self._left = 2_000

    def __contains__(self, path: object) -> bool:
        return isinstance(path, tuple) and self.get(path) is not None

    def get(self, path: Path, default: int | None = None) -> int | None:  # type: ignore[override]
        at = 0
        for key in path:
            if isinstance(key, str):
                self._left -= 1
                at = self._source.find(key, at) if self._left > 0 else -1
                if at < 0:
                    return default
        return self._source.count("\n", 0, at) + 1 if path else default


def _bound(value: Tree) -> None:
    budget, pending = MAX_NODES, [(value, 0)]
    while pending:
        node, depth = pending.pop()
        budget -= 1
        if budget < 0 or depth > MAX_DEPTH:
            raise Malformed("too deep or too many values")
        if isinstance(node, dict):
            pending.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, list):
            pending.extend((child, depth + 1) for child in node)


def parse_toml(data: bytes) -> Document:
    """Read TOML; `Malformed` otherwise."""
    import tomllib

    source = decode(data)
    try:
        value = _as_tree(tomllib.loads(source), 0)
    except (tomllib.TOMLDecodeError, RecursionError):
        raise Malformed("no valid TOML") from None
    _bound(value)
    return Document(value, _LinesByKey(source))


def _as_tree(value: object, depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise Malformed("too deep")
    if isinstance(value, dict):
        return {str(key): _as_tree(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_tree(item, depth + 1) for item in value]
    return value if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One `key = value` of an INI-like file."""

    section: str
    key: str
    value: str = field(repr=False)
    line: int


_INI_LINE = re.compile(r"\s*([^\s=:#;\[][^=:]{0,200}?)\s*[=:]\s*(.*)")


def parse_ini(data: bytes, *, separators: str = "=:") -> list[Setting]:
    """Read sections and settings of an INI-like file; a line that is neither is passed over."""
    pattern = _INI_LINE if separators == "=:" else re.compile(r"\s*([^\s=#;\[][^=]{0,200}?)\s*=\s*(.*)")
    section, settings = "", []
    for number, line in enumerate(decode(data).splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[" and (end := stripped.find("]")) > 0:
            section = stripped[1:end].strip()
        elif found := pattern.match(line):
            settings.append(Setting(section, found.group(1), unquote(found.group(2).strip()), number))
    if len(settings) > MAX_NODES:
        raise Malformed("too many settings")
    return settings


def unquote(value: str) -> str:
    """Take one pair of equal quotes off."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'`" else value


_ENV_LINE = re.compile(r"\s*(?:export\s+|set\s+|ENV\s+)?([A-Za-z_][\w.-]{0,199})\s*=\s*(.*)", re.DOTALL)


def parse_dotenv(data: bytes) -> Iterator[Setting]:
    """Yield the settings of an environment file; a quoted value may span lines (at most 200)."""
    lines = decode(data).splitlines()
    number = 0
    while number < len(lines):
        start = number
        number += 1
        found = _ENV_LINE.match(lines[start])
        if not found:
            continue
        value = found.group(2)
        mark = value[:1]
        if mark and mark in "\"'`":
            while value.find(mark, 1) < 0 and number < min(len(lines), start + 200):
                value += "\n" + lines[number]
                number += 1
            end = value.find(mark, 1)
            value = value[1:end] if end > 0 else value[1:]
        else:
            value = re.split(r"\s#", value, maxsplit=1)[0].strip()
        yield Setting("", found.group(1), value, start + 1)
