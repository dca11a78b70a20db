"""The secret scan of the files connector: the whole tree, and the history of the repositories in it.

What a structured reader has told of the same place is not told again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from remit.inventory.connectors.files.choose import role_of
from remit.inventory.connectors.files.host import account_of
from remit.inventory.connectors.files.record import Repository
from remit.inventory.connectors.files.repository import read_repository
from remit.inventory.connectors.files.secret_record import SecretOptions, SecretRead
from remit.inventory.connectors.files.walk import printable
from remit.inventory.connectors.port import Scan
from remit.inventory.model import Place, Skipped
from remit.inventory.secrets.facts import Reach, Spot
from remit.inventory.secrets.found import Found
from remit.inventory.secrets.survey import MAX_FOUND, Sighting, Survey
from remit.inventory.secrets.survey import Repository as Read

_Past: TypeAlias = dict[str, dict[tuple[str, str], Sighting]]


class SecretScan:
    """One run below `root`."""

    def __init__(
        self,
        root: str,
        options: SecretOptions,
        *,
        host: str,
        accounts: Mapping[int, str],
        homes: Mapping[str, str],
        told: Callable[[str, Found], bool],
    ) -> None:
        """`told` says whether a structured reader has recorded this credential at this path."""
        self._root = root
        self._options = options
        self._host = host
        self._accounts = accounts
        self._homes = homes
        self._repositories: dict[str, Repository] = {}
        self._told = told

    def run(self, scan: Scan) -> Iterator[SecretRead | Skipped]:
        """Every secret of the files, with the commit that brought it in, then those that only history shows."""
        from remit.inventory.secrets.engine import make_engine

        cache = Path(scan.cache_dir) if scan.cache_dir else None
        survey = Survey(
            engine=make_engine(cache=cache),
            fingerprint=scan.fingerprint,
            min_confidence=self._options.min_confidence,
            workers=self._options.workers,
            remembered=cache / "scanned" if cache else None,
            stopped=scan.stopped,
            progress=scan.progress,
        )
        files: list[Found] = []
        git_dirs: list[str] = []
        for item in survey.files((self._root,), git_dirs):
            if isinstance(item, Skipped):
                yield item
            elif len(files) < MAX_FOUND:
                files.append(item.found)
            else:
                yield Skipped(what=printable(self._root), reason="too-large", detail=f"more than {MAX_FOUND} secrets")
                break
        past = yield from self._histories(survey, git_dirs)
        for found in files:
            spot = self._of_file(found, past)
            if not self._told(spot.place.path, found):
                yield SecretRead(found=found, spot=spot)
        for root, sightings in past.items():
            for sighting in sightings.values():
                yield SecretRead(found=sighting.found, spot=self._of_history(sighting, self._repositories[root]))

    def _histories(self, survey: Survey, git_dirs: list[str]) -> Generator[Skipped, None, _Past]:
        """What the history of each repository shows, by fingerprint and path."""
        past: _Past = {}
        for git_dir in git_dirs:
            repository = _repository(git_dir, self._root)
            self._repositories[repository.root] = repository
            known = past.setdefault(repository.root, {})
            if not self._options.history:
                continue
            for item in survey.history(Read(root=repository.root, git_dir=git_dir, allowed=self._root)):
                if isinstance(item, Skipped):
                    yield item
                else:
                    known.setdefault((item.found.fingerprint, item.path), item)
        return past

    def _of_file(self, found: Found, past: _Past) -> Spot:
        path = found.path if found.path.startswith("/") else f"{self._root.rstrip('/')}/{found.path}"
        file = path.partition("!")[0]
        directory, _, name = file.rpartition("/")
        repository = self._repository_of(file)
        within = os.path.relpath(file, repository.root) if repository else file
        key = (found.fingerprint, within + path[len(file) :])
        before = past.get(repository.root, {}).pop(key, None) if repository else None
        spot = Spot(
            place=Place(system=f"host:{self._host}", path=printable(path), line=found.line or None),
            host=self._host,
            role=role_of(directory, name, self._root),
            repository=repository,
            within=within,
        )
        try:
            seen = os.lstat(file)
        except OSError:
            seen = None
        if seen is not None:
            account = account_of(directory, seen.st_uid, self._accounts, self._homes)
            spot = replace(spot, account=account, open_to_all=bool(seen.st_mode & stat.S_IROTH))
        return _with_commit(replace(spot, tracked=before is not None), before)

    def _of_history(self, sighting: Sighting, repository: Repository) -> Spot:
        first = sighting.first
        commit = first.commit if first else ""
        where = f"{repository.root}/{sighting.path}" if first and first.path else sighting.found.path
        directory, _, name = where.partition("!")[0].rpartition("/")
        reach = Reach.HISTORY if first is None or first.reachable else Reach.UNREACHABLE
        shown = f"{where}@{commit[:12]}" if commit and first and first.path else where
        spot = Spot(
            place=Place(system=f"host:{self._host}", path=printable(shown), line=sighting.found.line or None),
            host=self._host,
            role=role_of(directory, name, self._root),
            repository=repository,
            within=sighting.path,
            reach=reach,
            tracked=True,
        )
        return _with_commit(spot, sighting)

    def _repository_of(self, path: str) -> Repository | None:
        """The innermost working tree in which a file lies."""
        at = path
        while len(at) > 1:
            at = at.rpartition("/")[0]
            if at in self._repositories:
                return self._repositories[at]
        return None


def _with_commit(spot: Spot, sighting: Sighting | None) -> Spot:
    first = sighting.first if sighting else None
    if first is None:
        return spot
    return replace(spot, commit=first.commit, author=first.author, committed=first.when)


def _repository(git_dir: str, allowed: str) -> Repository:
    """The working tree of a git directory; a bare one, or that of a submodule, stands for itself."""
    if git_dir.endswith("/.git"):
        found = read_repository(git_dir.removesuffix("/.git"), allowed=allowed)
        if found is not None:
            return found
    return Repository(root=git_dir, git_dir=git_dir)
