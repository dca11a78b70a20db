"""Who first committed a blob, when and under which path: asked only for the blobs in which something was found.

One walk over commits, oldest first; a tree seen once is never opened again, so the walk costs as much as there are
distinct trees. First over what references reach, then, for what is still without an author, over the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from remit.inventory.secrets.sources.objects import Large, ObjectStore, read_small
from remit.inventory.secrets.sources.packs import COMMIT, TAG, TREE, BadPack

MAX_COMMITS = 1_000_000
MAX_TREES = 3_000_000
MAX_DEPTH = 200
MAX_PATHS = 2_000_000
MAX_NAMED_TREES = 1_000_000
_MOST_KEPT = 200_000
"""Commits that are kept to be asked again, and four times as many entries of trees that need no second look."""
_MAX_REFERENCES = 200_000
_ID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_TREE = re.compile(rb"tree ([0-9a-f]{40,64})\n")
_PARENT = re.compile(rb"^parent ([0-9a-f]{40,64})$", re.M)
_AUTHOR = re.compile(rb"^author ([^\n]*?) ?<([^<>\n]*)> (\d{1,12})", re.M)
_COMMITTED = re.compile(rb"^committer [^\n]*> (\d{1,12})", re.M)
_ENTRY = {size: re.compile(rb"\d{5,6} [^\0]{1,4096}\0.{%d}" % size, re.S) for size in (20, 32)}
_TAGGER = re.compile(rb"^tagger ([^\n]*?) ?<([^<>\n]*)> (\d{1,12})", re.M)
_TARGET = re.compile(rb"object ([0-9a-f]{40,64})\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSeen:
    """Where a blob came into history."""

    commit: str
    """In hexadecimal; empty when no commit holds it (staged or stashed once, and dropped)."""
    author: str
    """`Name <address>`, as the author wrote it: a claim, not a proof."""
    when: datetime | None
    path: str
    reachable: bool
    """Whether a branch, tag or stash still leads to it; what is not reachable is still in the repository."""


@dataclass(frozen=True, slots=True)
class _Commit:
    object_id: bytes
    tree: bytes
    parents: tuple[bytes, ...]
    author: str
    written: int
    committed: int


@dataclass(frozen=True, slots=True)
class _Tag:
    object_id: bytes
    author: str
    written: int
    reachable: bool


def attribute(git_dir: str, object_ids: Collection[str], *, allowed: str) -> dict[str, FirstSeen]:
    """For each object that the repository can tell of: its first commit, author, time and path.

    Commits and tags among `object_ids` are attributed to themselves. What is missing from the answer was not found
    within the bounds, or its repository is damaged there.
    """
    if not object_ids:
        return {}
    store = ObjectStore(git_dir, allowed=allowed)
    try:
        return Graph(store, git_dir).attribute(object_ids)
    finally:
        store.close()


class Graph:
    """The commits of a repository and the trees under them; commits are read once, however often one asks."""

    def __init__(self, store: ObjectStore, git_dir: str) -> None:
        self._store = store
        self._git_dir = git_dir
        self._tags: dict[bytes, _Tag] = {}
        self._kept: tuple[list[_Commit], list[_Commit]] | None = None
        self._wanted: set[bytes] = set()
        self._found: dict[str, FirstSeen] = {}
        self._trees: set[bytes] = set()
        self._known: dict[bytes, set[bytes]] = {}
        self._entries = 0

    def attribute(self, object_ids: Collection[str]) -> dict[str, FirstSeen]:
        """As the function `attribute`."""
        self._forget({bytes.fromhex(each) for each in object_ids})
        reached, lost = self._groups()
        for tag in self._tags.values():
            if tag.object_id in self._wanted:
                self._tell(tag.object_id, tag.object_id, tag.author, tag.written, "", tag.reachable)
        self._walk(reached, reachable=True)
        self._walk(lost, reachable=False)
        for object_id in self._wanted:
            self._found[object_id.hex()] = FirstSeen(commit="", author="", when=None, path="", reachable=False)
        return self._found

    def paths(self) -> dict[bytes, str]:
        """The path at which each blob was last seen, as far as `MAX_PATHS` and `MAX_NAMED_TREES` reach."""
        self._forget(set())
        named: dict[bytes, str] = {}
        # Those that references reach before the rest, and the newest first.
        for commit in (each for group in self._groups() for each in reversed(group)):
            if len(named) >= MAX_PATHS or len(self._trees) >= MAX_NAMED_TREES:
                break
            for path, object_id in self.files_of(commit.tree):
                named.setdefault(object_id, path.decode("utf-8", "backslashreplace")[:1024])
        return named

    def _forget(self, wanted: set[bytes]) -> None:
        self._wanted, self._found = wanted, {}
        self._trees, self._known, self._entries = set(), {}, 0

    def _groups(self) -> tuple[list[_Commit], list[_Commit]]:
        """All commits, oldest first: those that references reach, and the others."""
        if self._kept is not None:
            return self._kept
        reached = self._commits(references(self._git_dir, self._store))
        lost = self._commits(self._all_commits(), but=reached)
        groups = _oldest_first(reached), _oldest_first(lost)
        if len(reached) + len(lost) <= _MOST_KEPT:
            self._kept = groups
        return groups

    def _get(self, object_id: bytes, kind: int) -> bytes | None:
        try:
            found = self._store.get(object_id)
        except (BadPack, Large):
            return None
        return found[1] if found is not None and found[0] == kind else None

    def _all_commits(self) -> Iterator[bytes]:
        for pack in self._store.packs:
            yield from pack.ids_of(COMMIT)
        yield from self._store.loose()

    def _commits(self, tips: Iterator[bytes], but: dict[bytes, _Commit] | None = None) -> dict[bytes, _Commit]:
        """Every commit from `tips` on, but for those already known."""
        found: dict[bytes, _Commit] = {}
        seen: set[bytes] = set(but or ())
        for tip in tips:
            stack = [tip]
            while stack and len(found) < MAX_COMMITS:
                object_id = stack.pop()
                if object_id in seen:
                    continue
                seen.add(object_id)
                try:
                    got = self._store.get(object_id)
                except (BadPack, Large):
                    continue
                if got is None:
                    continue
                if got[0] == TAG:
                    stack += self._of_tag(object_id, got[1], reachable=but is None)
                elif got[0] == COMMIT and (commit := _parse(object_id, got[1])) is not None:
                    found[object_id] = commit
                    stack += commit.parents
        return found

    def _of_tag(self, object_id: bytes, data: bytes, *, reachable: bool) -> list[bytes]:
        if object_id not in self._tags and len(self._tags) < MAX_COMMITS:
            tagger = _TAGGER.search(data)
            self._tags[object_id] = _Tag(
                object_id, _person(tagger), int(tagger.group(3)) if tagger else 0, reachable=reachable
            )
        target = _TARGET.match(data)
        return [bytes.fromhex(target.group(1).decode())] if target and len(target.group(1)) in (40, 64) else []

    def _walk(self, commits: list[_Commit], *, reachable: bool) -> None:
        for commit in commits:
            if not self._wanted:
                return
            if commit.object_id in self._wanted:
                self._tell(commit.object_id, commit.object_id, commit.author, commit.written, "", reachable)
            self._open(commit, reachable)

    def _open(self, commit: _Commit, reachable: bool) -> None:
        for path, object_id in self.files_of(commit.tree):
            if object_id in self._wanted:
                where = path.decode("utf-8", "backslashreplace")
                self._tell(object_id, commit.object_id, commit.author, commit.written, where, reachable)

    def files_of(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Path and id of each file below a tree, but for what lies in trees that were opened before."""
        entry = _ENTRY[self._store.hash_size]
        stack = [(root, b"", 0)]
        while stack:
            tree, path, depth = stack.pop()
            if tree in self._trees or depth > MAX_DEPTH or len(self._trees) > MAX_TREES:
                continue
            self._trees.add(tree)
            for each in self._unmet(path, entry.findall(self._get(tree, TREE) or b"")):
                mode, name, object_id = self._parts(each)
                if mode == b"40000":
                    if object_id not in self._trees:
                        stack.append((object_id, path + name + b"/", depth + 1))
                elif mode != b"160000":
                    yield path + name, object_id

    def _unmet(self, path: bytes, entries: list[bytes]) -> list[bytes]:
        """Those that no tree at this path had before: one version of a directory has most in common with the next."""
        known = self._known.setdefault(path, set())
        unmet = [each for each in entries if each not in known]
        if self._entries < _MOST_KEPT * 4:
            self._entries += len(unmet)
            known.update(unmet)
        return unmet

    def _parts(self, entry: bytes) -> tuple[bytes, bytes, bytes]:
        mode, _, name = entry[: -self._store.hash_size - 1].partition(b" ")
        return mode, name, entry[-self._store.hash_size :]

    def _tell(self, what: bytes, commit: bytes, author: str, when: int, path: str, reachable: bool) -> None:
        self._wanted.discard(what)
        self._found[what.hex()] = FirstSeen(
            commit=commit.hex(), author=author, when=_moment(when), path=path[:4096], reachable=reachable
        )


def _oldest_first(commits: dict[bytes, _Commit]) -> list[_Commit]:
    # Ancestors were met later than what descends from them: in one second, they come first.
    oldest = list(commits.values())
    oldest.reverse()
    oldest.sort(key=lambda each: each.committed)
    return oldest


def references(git_dir: str, store: ObjectStore) -> Iterator[bytes]:
    """Whatever a reference names: `HEAD` and its like, branches, tags and the last stash, loose and packed."""
    count = 0
    for value in _reference_values(git_dir, store.common):
        match = _ID.match(value)
        if match and len(match.group()) == store.hash_size * 2:
            yield bytes.fromhex(match.group().decode())
            count += 1
            if count >= _MAX_REFERENCES:
                return


def _reference_values(git_dir: str, common: str) -> Iterator[bytes]:
    for place in dict.fromkeys((git_dir, common)):
        for name in ("HEAD", "ORIG_HEAD", "FETCH_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD"):
            yield from read_small(os.path.join(place, name), limit=1 << 16).splitlines()
        for directory, _, names in os.walk(os.path.join(place, "refs"), followlinks=False):
            for name in names:
                yield read_small(os.path.join(directory, name), limit=128)
    yield from read_small(os.path.join(common, "packed-refs"), limit=64 << 20).splitlines()
    for directory, _, names in os.walk(os.path.join(common, "worktrees"), followlinks=False):
        if "HEAD" in names:
            yield read_small(os.path.join(directory, "HEAD"), limit=128)


def _parse(object_id: bytes, data: bytes) -> _Commit | None:
    header = data.partition(b"\n\n")[0]
    tree = _TREE.match(header)
    if tree is None or len(tree.group(1)) not in (40, 64):
        return None
    parents = [each for each in _PARENT.findall(header) if len(each) in (40, 64)]
    author, committed = _AUTHOR.search(header), _COMMITTED.search(header)
    return _Commit(
        object_id,
        bytes.fromhex(tree.group(1).decode()),
        tuple(bytes.fromhex(each.decode()) for each in parents),
        _person(author),
        int(author.group(3)) if author else 0,
        int(committed.group(1)) if committed else 0,
    )


def _person(match: re.Match[bytes] | None) -> str:
    if match is None:
        return ""
    name, address = (part.decode("utf-8", "replace")[:200] for part in match.group(1, 2))
    return f"{name} <{address}>".strip()


def _moment(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < 32_503_680_000 else None
