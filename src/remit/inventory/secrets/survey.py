"""One scan of a tree and of the history of its repositories: sources → pool → what was found, and where it came in.

History comes with its first commit and author, and only what the tree does not show: a secret that lies in a file at
the same path is told once, with the commit that brought it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from remit.inventory.connectors.files.secret_record import MIN_CONFIDENCE
from remit.inventory.model import Skipped
from remit.inventory.secrets.found import Attempt, Found
from remit.inventory.secrets.pool import Clean, Engine, Item, Job, Result, Unseen, crew_size, scan
from remit.inventory.secrets.scanned import Scanned
from remit.inventory.secrets.sources.families import Lost
from remit.kernel.unit import Fingerprinter

if TYPE_CHECKING:
    from remit.inventory.secrets.sources.attribution import FirstSeen
    from remit.inventory.secrets.sources.git import History

MAX_FOUND = 100_000
"""Of one scan; what has more is reported, and left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One secret, where it is and how it came there."""

    found: Found
    root: str = ""
    """The working tree of the repository whose history shows it; empty for a file."""
    first: FirstSeen | None = None

    @property
    def path(self) -> str:
        """The path from `root`; for a file, its own path."""
        return self.first.path if self.first and self.first.path else self.found.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository whose history is to be read."""

    root: str
    git_dir: str
    allowed: str
    """Nothing outside of this directory is opened, whatever the repository says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How to scan."""

    engine: Engine
    fingerprint: Fingerprinter
    min_confidence: int = MIN_CONFIDENCE
    workers: int | None = None
    remembered: Path | None = None
    """A folder of ours in which clean objects of history are remembered; `None`: each scan reads everything."""
    attempt: Attempt | None = None
    """How to try what is found; `None`: nothing is tried."""
    stopped: Callable[[], bool] = lambda: False
    progress: Callable[[int, str], None] = field(default=lambda done, where: None)

    def files(self, paths: Iterable[str], repositories: list[str] | None = None) -> Iterator[Sighting | Skipped]:
        """Scan files and trees, whatever is packed within files included; `repositories` gets the git directories."""
        from remit.inventory.secrets.sources.tree import Tree

        trees = [Tree(path, stopped=self.stopped) for path in paths]
        unseen = _Unseen()
        # One scan of them all: many files on a command line are one chunk, not many.
        for result in self.blobs(itertools.chain.from_iterable(tree.files_and_blobs() for tree in trees)):
            if isinstance(result, Found):
                yield Sighting(found=result)
            elif isinstance(result, Skipped):
                yield result
            elif isinstance(result, Unseen):
                yield from unseen.note(result)
        yield from unseen.rest(", ".join(tree.root for tree in trees)[:2000])
        if repositories is not None:
            repositories.extend(each for tree in trees for each in tree.repositories)

    def history(self, repository: Repository) -> Iterator[Sighting | Skipped]:
        """Scan every object of a repository, and say of each secret how it came in; each secret once a path."""
        from remit.inventory.secrets.sources.git import History

        scanned = Scanned(self.remembered, repository.git_dir, self._rules(), self.fingerprint)
        history = History(
            repository.git_dir,
            label=repository.root,
            allowed=repository.allowed,
            seen=scanned,
            readers=self.workers or crew_size(),
        )
        try:
            found: list[Found] = []
            whole = yield from self._objects(history, scanned, found, repository)
            if whole:
                scanned.save()
            yield from _attributed(found, repository, history)
        finally:
            history.close()

    def _objects(
        self, history: History, scanned: Scanned, found: list[Found], repository: Repository
    ) -> Generator[Sighting | Skipped, None, bool]:
        """Fill `found` and `scanned`; answers whether everything was scanned."""
        whole = True
        # What one pack lost another may have: so a second look, at next to nothing.
        for items in (history.items, history.again):
            for result in self.blobs(items(), history) if whole else ():
                if isinstance(result, Clean):
                    for object_id in result.object_ids:
                        scanned.clean(object_id)
                elif isinstance(result, Skipped):
                    whole = whole and result.what != "the secret scan"
                    yield result
                elif isinstance(result, Unseen):
                    yield from history.note(result.skipped) if result.skipped else ()
                elif isinstance(result, Lost):
                    history.lose(result)
                elif len(found) < MAX_FOUND:
                    found.append(result)
                else:
                    yield Skipped(what=repository.root, reason="too-large", detail=f"more than {MAX_FOUND} secrets")
                    return False
        yield from history.rest()
        return whole

    def blobs(self, blobs: Iterable[Item | Skipped], history: History | None = None) -> Iterator[Result]:
        """Scan these; shares among them are of `history`."""
        job = Job(
            engine=self.engine,
            fingerprint=self.fingerprint,
            min_confidence=self.min_confidence,
            attempt=self.attempt,
            read=history.read if history else None,
        )
        return scan(blobs, job, workers=self.workers, stopped=self.stopped, progress=self.progress)

    def _rules(self) -> str:
        return f"{rules_digest()} {self.min_confidence}"


class _Unseen:
    """What was not seen in files that the workers read: the first of each reason, and a count of the rest."""

    def __init__(self) -> None:
        from remit.inventory.connectors.files.walk import Tally  # which itself scans for secrets

        self._tally = Tally()
        self._media = 0

    def note(self, unseen: Unseen) -> Iterator[Skipped]:
        if unseen.skipped is None:
            self._media += 1
            return
        record = self._tally.skip(unseen.skipped.what, unseen.skipped.reason, unseen.skipped.detail)
        if record is not None:
            yield record

    def rest(self, root: str) -> Iterator[Skipped]:
        if self._media:
            yield Skipped(what=root, reason="pruned", detail=f"pictures, sound, film and fonts ×{self._media}")
        yield from self._tally.rest(root)


@functools.cache
def rules_digest() -> str:
    """Names the rules and all code that judges: a scan by others says nothing of these."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(here.rglob("*.py")):
        digest.update(f"{file.relative_to(here)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _attributed(found: list[Found], repository: Repository, history: History) -> Iterator[Sighting]:
    """The oldest sighting of each secret at each path."""
    ids = {each.object_id for each in found if each.object_id}
    first = history.attribute(ids) if ids else {}
    best: dict[tuple[str, str], Sighting] = {}
    for each in found:
        seen = first.get(each.object_id)
        sighting = Sighting(found=_placed(each, seen), root=repository.root, first=seen)
        key = (each.fingerprint, sighting.path)
        before = best.get(key)
        best[key] = sighting if before is None else _older(before, sighting)
    yield from best.values()


def _placed(found: Found, seen: FirstSeen | None) -> Found:
    """What lies in an archive keeps its place within it."""
    if seen is None or not seen.path:
        return found
    _, mark, member = found.path.partition("!")
    return replace(found, path=seen.path + mark + member)


def _older(one: Sighting, other: Sighting) -> Sighting:
    """The earlier of two; reachable as soon as one of them is."""
    first, second = one.first, other.first
    if first is None or second is None:
        return one if first is not None else other
    earlier = other if second.when and (not first.when or second.when < first.when) else one
    assert earlier.first is not None
    reachable = first.reachable or second.reachable
    return replace(earlier, first=replace(earlier.first, reachable=reachable))
