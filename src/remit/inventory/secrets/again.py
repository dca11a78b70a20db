"""A secret read again from where it was found, for one attempt with it: a file, a member of an archive, a git object.

Nothing of it is kept: the value goes to whoever asked, in memory. The fingerprint decides what is taken, so that a
place which has changed meanwhile, or lies, gives nothing that was not leaked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from remit.inventory.model import Skipped
from remit.inventory.secrets.binding import bind
from remit.inventory.secrets.found import Attempt, Verdict, find
from remit.inventory.secrets.model import Blob
from remit.kernel.canonical import Json
from remit.kernel.unit import Fingerprinter

if TYPE_CHECKING:
    from remit.inventory.secrets.pool import Engine
    from remit.inventory.secrets.sources.objects import ObjectStore

MOST_PLACES = 50
"""Of one secret: it is the same wherever it lies, and one place is enough."""
_COMMIT = re.compile(r"(?P<head>.*)(?:@[0-9a-f]{12,64}|: (?:commit|tag) [0-9a-f]{40,64}: message)", re.S)
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HISTORY = ("only in history", "unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """A place in which a secret lies: `file`, `file!member`, or a path of a repository's history."""

    path: str
    in_history: bool = False
    object_id: str = ""
    """The git object, in hexadecimal, where the scan told it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgain:
    """The secret, and what its own issuer said of it where that was asked."""

    secret: bytes = field(repr=False)
    place: Lying
    verdict: Verdict | None = None


def lying(place: str, fact: Mapping[str, Json]) -> Lying | None:
    """Read where a fact says that a secret lies: `host:<instance>:<path>[:<line>]`; `None` for no path."""
    path = "/" + place.partition("/")[2]
    head, _, line = path.rpartition(":")
    path = head if line.isdecimal() and head else path
    about = fact.get("attributes")
    about = about if isinstance(about, Mapping) else {}
    object_id = about.get("object_id")
    known = object_id if isinstance(object_id, str) and _OBJECT.fullmatch(object_id) else ""
    return Lying(path=path, in_history=about.get("reach") in _HISTORY, object_id=known) if len(path) > 1 else None


class Reader:
    """Reads again what has one of the fingerprints `wanted`."""

    def __init__(
        self,
        wanted: frozenset[str],
        *,
        engine: Callable[[], Engine],
        fingerprint: Fingerprinter,
        structured: Callable[[Path, Fingerprinter], Iterable[object]],
        attempt: Attempt | None = None,
    ) -> None:
        """`structured` reads a file as its format says, and shows the fingerprinter every secret in it."""
        self._wanted = wanted
        self._make = engine
        self._engine: Engine | None = None
        self._fingerprint = fingerprint
        self._structured = structured
        self._attempt = attempt

    def read(self, places: Iterable[Lying]) -> ReadAgain | None:
        """The secret from the first place that still has it; `None` where none does."""
        for place in list(dict.fromkeys(places))[:MOST_PLACES]:
            found = self._of_history(place) if place.in_history else self._of_file(place)
            if found is not None:
                return found
        return None

    def _of_file(self, place: Lying) -> ReadAgain | None:
        from remit.inventory.secrets.sources.tree import Tree

        file = place.path.partition("!")[0]
        if not Path(file).is_file():
            return None
        try:
            found = self._first(Tree(file).blobs(), place)
        except OSError:
            return None
        return found or self._as_its_format_says(Path(file), place)

    def _as_its_format_says(self, file: Path, place: Lying) -> ReadAgain | None:
        """Some secrets no rule sees: the reader of the format told them, and tells them again."""
        seen: list[bytes] = []

        def compare(secret: bytes) -> str:
            fingerprint = self._fingerprint(secret)
            if fingerprint in self._wanted:
                seen.append(secret)
            return fingerprint

        for _ in self._structured(file, compare):
            if seen:
                break
        return ReadAgain(secret=seen[0], place=place) if seen else None

    def _of_history(self, place: Lying) -> ReadAgain | None:
        matched = _COMMIT.fullmatch(place.path)
        head = matched.group("head") if matched else place.path
        for root, git_dir in _repositories(head):
            found = self._first(_object(git_dir, root, place.object_id, head), place) if place.object_id else None
            # What an older scan told has no object: then all of the history is read.
            found = found or self._first(_everything(git_dir, root), place)
            if found is not None:
                return found
        return None

    def _first(self, blobs: Iterable[Blob | Skipped], place: Lying) -> ReadAgain | None:
        if self._engine is None:
            self._engine = self._make()
        for blob in blobs:
            if isinstance(blob, Skipped):
                continue
            for hit in self._engine.scan(blob):
                last: list[bytes] = []

                def keep(secret: bytes, last: list[bytes] = last) -> str:
                    last.append(secret)
                    return self._fingerprint(secret)

                found = find(hit, blob, keep)
                if last and not self._wanted.isdisjoint({found.fingerprint, found.keyed}):
                    # Only what is wanted is tried: what lies beside it is none of our business.
                    verdict = self._attempt(hit, bind(hit, blob)) if self._attempt else None
                    return ReadAgain(secret=last[-1], place=place, verdict=verdict)
        return None


def _repositories(path: str) -> Iterator[tuple[str, str]]:
    """Each working tree, or git directory, above `path`, the innermost first."""
    from remit.inventory.connectors.files.repository import read_repository

    at = path
    while len(at) > 1:
        if (Path(at) / "HEAD").is_file() and (Path(at) / "objects").is_dir():
            yield at, at
        elif os.path.lexists(f"{at}/.git"):
            found = read_repository(at, allowed="/")
            if found is not None:
                yield at, found.git_dir
        at = at.rpartition("/")[0]


def _object(git_dir: str, root: str, object_id: str, path: str) -> Iterator[Blob | Skipped]:
    from remit.inventory.secrets.sources.expand import expand
    from remit.inventory.secrets.sources.git import message_of
    from remit.inventory.secrets.sources.objects import Large, ObjectStore
    from remit.inventory.secrets.sources.packs import BLOB, COMMIT, TAG, BadPack

    store: ObjectStore = ObjectStore(git_dir, allowed=root)
    try:
        try:
            found = store.get(bytes.fromhex(object_id))
        except (BadPack, Large):
            return
        if found is None:
            return
        kind, data = found
        if kind == BLOB:
            yield from expand(Blob(path=path.partition("!")[0], data=data, object_id=object_id))
        elif kind in (COMMIT, TAG):
            yield Blob(path=path, data=message_of(data), object_id=object_id)
    finally:
        store.close()


def _everything(git_dir: str, root: str) -> Iterator[Blob | Skipped]:
    from remit.inventory.secrets.sources.expand import expand
    from remit.inventory.secrets.sources.git import History

    for blob in History(git_dir, label=root, allowed=root).blobs():
        if isinstance(blob, Skipped):
            yield blob
        else:
            yield from (blob,) if blob.offset else expand(blob)
