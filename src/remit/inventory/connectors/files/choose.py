"""Which reader is for which file: by its name and directory alone, so that nothing else is ever opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from remit.inventory.connectors.files.record import Role
from remit.inventory.connectors.files.sheet import Sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Files by basename (lower case): exact names, extensions, or a regular expression; every file when none is given.

    `under`: the directory must be, or end with, one of these; anywhere when empty.
    """

    names: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    regex: str = ""
    under: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Understands one sort of file. `read` is pure: bytes on a sheet → facts on the sheet; it may raise `ValueError`."""

    id: str
    reads: str
    """For a person."""
    patterns: tuple[Pattern, ...]
    read: Callable[[Sheet], None]
    system: bool = False
    """Reads what a distribution installs too (units, not libraries)."""


_Hit = tuple[tuple[str, ...], Reader]


class Chooser:
    """Maps (directory, name) to a reader with two look-ups for nearly every file."""

    def __init__(self, readers: Iterable[Reader]) -> None:
        self._names: dict[str, list[_Hit]] = {}
        self._suffixes: dict[str, list[_Hit]] = {}
        self._regexes: list[tuple[re.Pattern[str], tuple[str, ...], Reader]] = []
        self._whole: list[_Hit] = []
        sources = []
        for reader in readers:
            for pattern in reader.patterns:
                for key in pattern.names:
                    self._names.setdefault(key, []).append((pattern.under, reader))
                for key in pattern.suffixes:
                    self._suffixes.setdefault(key, []).append((pattern.under, reader))
                if pattern.regex:
                    self._regexes.append((re.compile(pattern.regex), pattern.under, reader))
                    sources.append(pattern.regex)
                if not (pattern.names or pattern.suffixes or pattern.regex):
                    self._whole.append((pattern.under, reader))
        self._any = re.compile("|".join(f"(?:{source})" for source in sources) or r"(?!)")
        self.of_directory = lru_cache(maxsize=4096)(self._of_directory)

    def choose(self, directory: str, name: str) -> Reader | None:
        """The reader for the file `name` in `directory` (absolute); `None` for nearly all."""
        lower = name.lower()
        if (hits := self._names.get(lower)) and (reader := _fitting(hits, directory)):
            return reader
        if self._any.fullmatch(lower):
            for regex, under, reader in self._regexes:
                if regex.fullmatch(lower) and _lies_under(directory, under):
                    return reader
        dot = lower.rfind(".")
        if dot >= 0 and (hits := self._suffixes.get(lower[dot:])) and (reader := _fitting(hits, directory)):
            return reader
        return self.of_directory(directory)

    def _of_directory(self, directory: str) -> Reader | None:
        return _fitting(self._whole, directory)


def _fitting(hits: Iterable[_Hit], directory: str) -> Reader | None:
    return next((reader for under, reader in hits if _lies_under(directory, under)), None)


def _lies_under(directory: str, under: tuple[str, ...]) -> bool:
    return not under or any(directory == place or directory.endswith("/" + place) for place in under)


_VENDOR = re.compile(
    r"/(?:site-packages|dist-packages|node_modules|bower_components|vendor|third[_-]party|\.cargo/registry|go/pkg/mod|"
    r"\.m2/repository|\.rustup|\.pyenv/versions|\.gradle)(?:/|$)|^/(?:usr/(?:lib|lib64|share|include|src|libexec)|lib|lib64)(?:/|$)"
)
_TEST = re.compile(r"(?:^|/)(?:tests?|testing|test[_-]?data|fixtures?|__tests__|__fixtures__|specs?|mocks?|vectors|testcases)(?:/|$)", re.I)
_EXAMPLE = re.compile(r"(?:^|/)(?:examples?|samples?|templates?|skeleton|boilerplate|playground|tutorials?)(?:/|$)", re.I)
_DOCUMENT = re.compile(r"(?:^|/)(?:docs?|documentation|man|wiki)(?:/|$)", re.I)
_EXAMPLE_FILE = re.compile(r".*[.\-_](?:examples?|samples?|templates?|tmpl|tpl|dist|defaults?|schema|test|ci)(?:\.\w+)?", re.I)


@lru_cache(maxsize=4096)
def role_of_directory(directory: str, root: str) -> Role:
    """What the path says of the purpose of its files: libraries by the whole path, the rest by what lies below `root`."""
    if _VENDOR.search(directory):
        return Role.VENDOR
    below = directory[len(root) :]
    for pattern, role in ((_TEST, Role.TEST), (_EXAMPLE, Role.EXAMPLE), (_DOCUMENT, Role.DOCUMENTATION)):
        if pattern.search(below):
            return role
    return Role.LIVE


def role_of(directory: str, name: str, root: str) -> Role:
    """As `role_of_directory`, and `.env.example` is an example wherever it lies."""
    role = role_of_directory(directory, root)
    return Role.EXAMPLE if role is Role.LIVE and _EXAMPLE_FILE.fullmatch(name) else role
