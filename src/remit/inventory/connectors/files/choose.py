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
    """Understands one sort of file. `read` is pure: bytes → facts, both on the sheet; it may raise `ValueError`."""

    id: str
    reads: str
    """For a person."""
    patterns: tuple[Pattern, ...]
    read: Callable[[Sheet], None]
    system: bool = False
    """Reads what a distribution installs too (units, not libraries)."""


@dataclass(frozen=True, slots=True)
class _Rule:
    rank: tuple[bool, int]
    """Rules bound to a directory come first, then the order in which readers are listed."""
    under: tuple[str, ...]
    reader: Reader
    regex: re.Pattern[str] | None = None

    def fits(self, directory: str) -> bool:
        return not self.under or any(directory == place or directory.endswith("/" + place) for place in self.under)


class Chooser:
    """Maps (directory, name) to a reader with two look-ups and one match for nearly every file."""

    def __init__(self, readers: Iterable[Reader]) -> None:
        self._names: dict[str, list[_Rule]] = {}
        self._suffixes: dict[str, list[_Rule]] = {}
        self._regexes: list[_Rule] = []
        self._whole: list[_Rule] = []
        for order, reader in enumerate(readers):
            for pattern in reader.patterns:
                rule = _Rule((not pattern.under, order), pattern.under, reader)
                for key in pattern.names:
                    self._names.setdefault(key, []).append(rule)
                for key in pattern.suffixes:
                    self._suffixes.setdefault(key, []).append(rule)
                if pattern.regex:
                    self._regexes.append(_Rule(rule.rank, pattern.under, reader, re.compile(pattern.regex)))
                elif not (pattern.names or pattern.suffixes):
                    self._whole.append(rule)
        sources = [rule.regex.pattern for rule in self._regexes if rule.regex]
        self._any = re.compile("|".join(f"(?:{source})" for source in sources) or r"(?!)")
        self._directories: dict[str, Reader | None] = {}

    def choose(self, directory: str, name: str) -> Reader | None:
        """The reader for the file `name` in `directory` (absolute); `None` for nearly all."""
        lower = name.lower()
        dot = lower.rfind(".")
        rules: list[_Rule] = [*self._names.get(lower, ()), *(self._suffixes.get(lower[dot:], ()) if dot >= 0 else ())]
        if self._any.fullmatch(lower):
            rules += [rule for rule in self._regexes if rule.regex and rule.regex.fullmatch(lower)]
        if rules and (fitting := [rule for rule in rules if rule.fits(directory)]):
            fitting.sort(key=lambda rule: rule.rank)
            return fitting[0].reader
        return self._of_directory(directory)

    def _of_directory(self, directory: str) -> Reader | None:
        """The reader of every file of a directory; the last answer is remembered: files come directory by directory."""
        if directory not in self._directories:
            self._directories = {directory: next((rule.reader for rule in self._whole if rule.fits(directory)), None)}
        return self._directories[directory]


_VENDOR = re.compile(
    r"/(?:site-packages|dist-packages|node_modules|bower_components|vendor|third[_-]party|\.cargo/registry|go/pkg/mod|"
    r"\.m2/repository|\.rustup|\.pyenv/versions|\.gradle)(?:/|$)|^/(?:usr/(?:lib|lib64|share|include|src|libexec)|lib|lib64)(?:/|$)"
)
_TEST = re.compile(
    r"(?:^|/)(?:tests?|testing|test[_-]?data|fixtures?|__tests__|__fixtures__|specs?|mocks?|vectors|testcases)(?:/|$)",
    re.I,
)
_EXAMPLE = re.compile(
    r"(?:^|/)(?:examples?|samples?|templates?|skeleton|boilerplate|playground|tutorials?)(?:/|$)", re.I
)
_DOCUMENT = re.compile(r"(?:^|/)(?:docs?|documentation|man|wiki)(?:/|$)", re.I)
_EXAMPLE_FILE = re.compile(
    r".*[.\-_](?:examples?|samples?|templates?|tmpl|tpl|dist|defaults?|schema|test|ci)(?:\.\w+)?", re.I
)


@lru_cache(maxsize=4096)
def role_of_directory(directory: str, root: str) -> Role:
    """What the path says of its files' purpose: library by the whole path, the rest by what lies below `root`."""
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
