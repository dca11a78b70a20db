"""Manifest files → documents. Hostile input costs bounded time and memory; one bad document never hides the others."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from remit.inventory.model import Skipped

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILES = 100_000
_MAX_NODES = 500_000
_MAX_DEPTH = 100
_SUFFIXES = (".yaml", ".yml", ".json")
_PRUNED = frozenset({".git", ".hg", ".svn", "node_modules", ".venv", "__pycache__", ".terraform"})
_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_DIRECTIVE = re.compile(r"^%(?:YAML|TAG)\b.*$", re.MULTILINE)
_SUSPICIOUS_INDENT = re.compile(r"^[ \-?:]{200}", re.MULTILINE)
_BRACKETS = 1_000
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed document with the file (relative to the source) and line where it begins."""

    path: str
    line: int
    body: dict[str, Any]


def find_files(source: Path, stopped: Callable[[], bool] = lambda: False) -> Iterator[Path | Skipped]:
    """The manifest files below `source` (or `source` itself), in order of path; links are not followed."""
    if not source.is_dir():
        yield source
        return
    count = 0
    errors: list[OSError] = []
    for folder, folders, files in os.walk(source, onerror=errors.append):
        folders[:] = sorted(name for name in folders if name not in _PRUNED)
        for name in sorted(files):
            if not name.endswith(_SUFFIXES):
                continue
            count += 1
            if count > MAX_FILES:
                yield Skipped(what=str(source), reason="too-large", detail=f"more than {MAX_FILES} manifest files")
                return
            yield Path(folder) / name
        if stopped():
            return
    for error in errors:
        yield Skipped(what=str(error.filename), reason="unreadable", detail=error.strerror or "")


def read_documents(file: Path, shown: str) -> Iterator[Document | Skipped]:
    """Read one file; `shown` is its name in facts."""
    data = _read(file, shown)
    if isinstance(data, Skipped):
        yield data
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield Skipped(what=shown, reason="malformed", detail="not UTF-8")
        return
    if file.suffix == ".json" or text.lstrip()[:1] == "{":
        yield from _json(data, text, shown, chart=_in_chart(file))
    else:
        yield from _yaml(text, shown, chart=_in_chart(file))


def _read(file: Path, shown: str) -> bytes | Skipped:
    try:
        # O_NONBLOCK: a pipe must not stop us. O_NOFOLLOW: a link leads out of the tree that was named.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return Skipped(what=shown, reason="unreadable", detail=error.strerror or "")
    with os.fdopen(descriptor, "rb") as stream:
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Skipped(what=shown, reason="not-supported", detail="not a regular file")
            data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return Skipped(what=shown, reason="unreadable", detail=error.strerror or "")
    if len(data) > MAX_FILE_BYTES:
        return Skipped(what=shown, reason="too-large", detail=f"larger than {MAX_FILE_BYTES} bytes")
    return data


def _in_chart(file: Path) -> bool:
    """Tell whether the file is a template of a Helm chart."""
    return any(
        parent.name == "templates" and (parent.parent / "Chart.yaml").exists() for parent in list(file.parents)[:6]
    )


def _json(data: bytes, text: str, shown: str, *, chart: bool) -> Iterator[Document | Skipped]:
    try:
        body = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, ValueError):
        # YAML in braces, several JSON documents, or a template: the slow path tells.
        yield from _yaml(text, shown, chart=chart)
        return
    if isinstance(body, dict):
        yield Document(shown, 1, body)


def _yaml(text: str, shown: str, *, chart: bool) -> Iterator[Document | Skipped]:
    for line, part in _split(text):
        where = shown if line == 1 else f"{shown}:{line}"
        if chart and "{{" in part:
            yield Skipped(what=where, reason="not-supported", detail="a template of a Helm chart: render it first")
            continue
        try:
            body = _parse(part)
        except _TooLargeError as error:
            yield Skipped(what=where, reason="too-large", detail=str(error))
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            template = "{{" in part
            detail = "a template: render it first" if template else _problem(error)
            yield Skipped(what=where, reason="not-supported" if template else "malformed", detail=detail)
        else:
            if isinstance(body, dict):
                yield Document(shown, line, body)


def _problem(error: Exception) -> str:
    """What is wrong, never quoting the document: it may hold secrets."""
    mark = getattr(error, "problem_mark", None)
    return f"not YAML near line {mark.line + 1} of the document" if mark is not None else "not YAML"


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Documents with their first line. A `---` in column 0 always begins a document, so a bad one ends there."""
    start, line = 0, 1
    for match in [*_SEPARATOR.finditer(text), None]:
        end = match.start() if match else len(text)
        part = _DIRECTIVE.sub("", text[start:end])
        if part.strip():
            # The separator's own line may carry content (`--- {a: b}`) or nothing but its end.
            blank = len(part) - len(part.lstrip("\r\n"))
            yield line + part[:blank].count("\n"), part
        if match:
            line += text.count("\n", start, match.end())
            start = match.end()


class _TooLargeError(Exception):
    """A document that would cost more than it can be worth."""


def _parse(text: str) -> Any:
    if text.count("{") + text.count("[") > _BRACKETS or _SUSPICIOUS_INDENT.search(text):
        _check_depth(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Refuse nesting beyond `_MAX_DEPTH` before the C parser recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _TooLargeError(f"nested deeper than {_MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_size(root: Any) -> None:
    """Refuse a document whose aliases expand beyond `_MAX_NODES`, or contain themselves."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        children = _children(node)
        if done:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children)
            open_nodes.discard(id(node))
            if sizes[id(node)] > _MAX_NODES:
                raise _TooLargeError(f"more than {_MAX_NODES} nodes, aliases expanded")
        elif id(node) in open_nodes:
            raise _TooLargeError("an alias that contains itself")
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in children)


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [item for pair in node.value for item in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
