"""YAML by its events: scalars, lists and mappings with their lines, never objects, aliases counted each time.

Spec: YAML 1.1 as libyaml reads it; of the implicit types only null and the booleans `true` and `false` are resolved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remit.inventory.connectors.files.formats import MAX_DEPTH, MAX_NODES, Document, Malformed, Path, Tree


def parse_yaml(data: bytes) -> list[Document]:
    """Read every document of a YAML stream (at most 200); `Malformed` when it is none, or a bomb."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(yaml.parse(data, Loader=loader))
    try:
        return list(builder.documents())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, StopIteration):
        raise Malformed("no valid YAML") from None


_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class _Builder:
    """Builds values from parser events under one budget of nodes, in which an alias costs what it stands for."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._budget = MAX_NODES
        self._anchors: dict[str, tuple[Tree, int]] = {}
        self._lines: dict[Path, int] = {}

    def documents(self) -> Iterator[Document]:
        count = 0
        for event in self._events:
            if type(event).__name__ == "DocumentStartEvent":
                count += 1
                if count > 200:
                    raise Malformed("too many documents")
                self._anchors, self._lines = {}, {}
                value = self._value(next(self._events), ())
                yield Document(value, self._lines)

    def _spend(self, nodes: int, path: Path) -> None:
        self._budget -= nodes
        if self._budget < 0 or len(path) > MAX_DEPTH:
            raise Malformed("too deep or too many values")

    def _value(self, event: Any, path: Path) -> Tree:
        before = self._budget
        self._spend(1, path)
        self._lines.setdefault(path, event.start_mark.line + 1)
        kind = type(event).__name__
        if kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise Malformed("an alias of nothing")
            value, cost = self._anchors[event.anchor]
            self._spend(cost, path)
            return value
        if kind == "ScalarEvent":
            value = _scalar(event)
        elif kind == "SequenceStartEvent":
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor:
            self._anchors[event.anchor] = (value, before - self._budget)
        return value

    def _sequence(self, path: Path) -> Tree:
        items: list[Tree] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> Tree:
        entries: dict[str, Tree] = {}
        merged: list[Tree] = []
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            line = event.start_mark.line + 1
            key = self._value(event, (*path, "?"))
            self._lines.pop((*path, "?"), None)
            inner = (*path, "?" if isinstance(key, list | dict) else _key(key))
            self._lines[inner] = line
            value = self._value(next(self._events), inner)
            if key == "<<":
                merged.extend(value if isinstance(value, list) else [value])
            elif not isinstance(key, list | dict):
                entries[_key(key)] = value
        for source in merged:
            for name, value in (source if isinstance(source, dict) else {}).items():
                self._spend(1, path)
                entries.setdefault(name, value)
        return entries


def _key(key: bool | str | None) -> str:
    return key if isinstance(key, str) else {None: "null", True: "true", False: "false"}[key]


def _scalar(event: Any) -> Tree:
    if event.implicit[0] and not event.style:
        if event.value in _NULL:
            return None
        return _BOOLEAN.get(event.value, str(event.value))
    return str(event.value)
