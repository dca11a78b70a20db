"""The whole history of a git repository as blobs to scan: every branch, and what no branch shows any more.

Each object is read once, by our own reader (`packs`): deleted files, amended commits, stashes, what only the reflog
or nothing at all refers to. Messages of commits and texts of tags are read too. Git's program is not needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources.attribution import FirstSeen, Graph
from remit.inventory.secrets.sources.deltas import windows_of
from remit.inventory.secrets.sources.families import Lost, Plan, Share, plan
from remit.inventory.secrets.sources.objects import Large, ObjectStore
from remit.inventory.secrets.sources.packs import (
    BLOB,
    COMMIT,
    MAX_OBJECT_BYTES,
    TAG,
    TREE,
    BadPack,
    Broken,
    Entry,
    Pack,
)

PIECE_BYTES = 8 * 1024 * 1024
OVERLAP_BYTES = 64 * 1024
MAX_LARGE_BYTES = 4 * 1024 * 1024 * 1024
"""Of all objects of a repository that are too large to hold, together."""


class Seen(Protocol):
    """Which objects were scanned before with the same rules: their hits are already known."""

    def known(self, object_id: str) -> bool:
        """Whether the object needs no scan."""
        ...

    def note(self, object_id: str) -> None:
        """The object was scanned, to its end."""
        ...


class NothingSeen:
    """A scan from the beginning."""

    def known(self, object_id: str) -> bool:
        """Never."""
        return False

    def note(self, object_id: str) -> None:
        """Forget it."""


class History:
    """One reading of a repository's objects; the caller notes each object in `seen` once it has scanned it. `close` it.

    Either `blobs` yields everything; or `items` yields shares besides, which any process forked from this one may
    `read`, and the caller says what became of them: `note` and `lose`, then `again` and `rest`.

    `label` names the repository in the paths of blobs: `label/path` as last seen, `label@<id>` where no tree names it,
    and `label: commit <id>: message`.
    `scanned` counts objects yielded here, `known` those that `seen` spared, `bytes_logical` what they amount to.
    """

    def __init__(self, git_dir: str, *, label: str, allowed: str, seen: Seen | None = None, readers: int = 1) -> None:
        """`readers` processes read shares at once: the memory for bases is divided among them."""
        from remit.inventory.connectors.files.walk import Tally  # which itself scans for secrets

        self.scanned = 0
        self.known = 0
        self.bytes_logical = 0
        self._label = label
        self._seen = seen or NothingSeen()
        self._given: set[bytes] = set()
        self._tally = Tally()
        self._large_left = MAX_LARGE_BYTES
        self._paths: dict[bytes, str] | None = None
        self._plans: list[Plan] = []
        self._lost: Counter[str] = Counter()
        self._missed: set[bytes] = set()
        self._store = ObjectStore(git_dir, allowed=allowed)
        for pack in self._store.packs:
            pack.held_limit = max(1 << 20, pack.held_limit // readers)
        self._graph = Graph(self._store, git_dir)

    def close(self) -> None:
        """Close every pack."""
        self._store.close()

    def blobs(self) -> Iterator[Blob | Skipped]:
        """Yield everything that was not scanned before; bounded in memory whatever the repository holds."""
        try:
            for item in self.items():
                if not isinstance(item, Share):
                    yield item
                    continue
                for each in self.read(item):
                    if isinstance(each, Blob):
                        yield each
                    elif isinstance(each, Skipped):
                        yield from self.note(each)
                    else:
                        self.lose(each)
            yield from self.again()
            yield from self.rest()
        finally:
            self.close()

    def items(self) -> Iterator[Blob | Share | Skipped]:
        """Everything that was not scanned before: as shares of packs where an index tells what they hold."""
        yield from self._store.skipped
        # All plans before the first share: who forks then has them all.
        for pack in self._store.packs:
            if pack.is_listed:
                self._plans.append(plan(pack, self._wanted, self._take))
        if any(each.has_blobs for each in self._plans):
            self._name()
        for number, each in enumerate(self._plans):
            yield from self._besides(each)
            yield from each.shares(number)
        for pack in self._store.packs:
            if not pack.is_listed:
                yield from self._whole(pack)
        yield from self._loose(self._store)

    def read(self, share: Share) -> Iterator[Blob | Skipped | Lost]:
        """What to scan of a share that `items` gave, and what could not be had: to be told to `note` and to `lose`."""
        for each in self._plans[share.plan].read(share):
            if isinstance(each, Entry):
                yield from self._give(each)
            elif isinstance(each, Lost):
                yield each
            else:
                yield Skipped(what=f"{self._label}: {share.path}", reason=each.reason, detail=each.detail)
                if each.object_id:
                    yield Lost(share.plan, 0, (each.object_id,))

    def note(self, skipped: Skipped) -> Iterator[Skipped]:
        """What a share could not give: the first of a kind is told at once, the others as a number by `rest`."""
        yield from self._skip(skipped.what, skipped.reason, skipped.detail)

    def lose(self, lost: Lost) -> None:
        """What a share lost may lie elsewhere: see `again`."""
        self._lost[self._plans[lost.plan].pack.path] += lost.count
        self._missed.update(lost.wanted)

    def again(self) -> Iterator[Blob | Skipped]:
        """What was lost in one pack and is whole in another, or by itself."""
        self._missed &= self._given
        self._given -= self._missed
        for pack in self._store.packs if self._missed else ():
            if pack.is_listed and pack.holds_any(self._missed):
                for entry in pack.entries(lambda object_id: object_id in self._missed, lambda object_id: None):
                    if isinstance(entry, Entry):
                        self._missed.discard(entry.object_id)
                        yield from self._give(entry)
        if self._missed:
            yield from self._loose(self._store)

    def rest(self) -> Iterator[Skipped]:
        """What could not be read and was not told one by one."""
        for path, count in self._lost.items():
            if count:
                detail = f"{count} deltas whose base is missing, unreadable or themselves"
                yield from self._skip(f"{self._label}: {path}", "malformed", detail)
        yield from self._tally.rest(self._label)

    def attribute(self, object_ids: Collection[str]) -> dict[str, FirstSeen]:
        """How each object came in (`attribution.attribute`), asked of what is already open."""
        return self._graph.attribute(object_ids)

    def _besides(self, planned: Plan) -> Iterator[Blob | Skipped]:
        """What no share holds."""
        pack = planned.pack
        self._lost[pack.path] += planned.lost
        for broken in planned.broken:
            pieces = pack.pieces(broken) if broken.offset else None
            yield from self._mend(broken, pieces, what=f"{self._label}: {pack.path}")

    def _whole(self, pack: Pack) -> Iterator[Blob | Skipped]:
        """A pack whose objects are known only once they are read."""
        for entry in pack.entries(self._wanted, lambda object_id: _found(self._store, object_id)):
            if isinstance(entry, Entry):
                yield from self._give(entry)
            else:
                pieces = pack.pieces(entry) if entry.offset else None
                yield from self._mend(entry, pieces, what=f"{self._label}: {pack.path}")

    def _wanted(self, object_id: bytes) -> bool:
        if object_id in self._given:
            return False
        if self._seen.known(object_id.hex()):
            self.known += 1
            self._given.add(object_id)
            return False
        return True

    def _take(self, object_id: bytes) -> bool:
        if not self._wanted(object_id):
            return False
        self._given.add(object_id)
        return True

    def _loose(self, store: ObjectStore) -> Iterator[Blob | Skipped]:
        for object_id in store.loose():
            if not self._wanted(object_id):
                continue
            try:
                found = store.get_loose(object_id)
            except Large as large:
                broken = Broken(
                    reason="too-large", detail=str(large), object_id=object_id, size=large.size, kind=large.kind
                )
                yield from self._mend(
                    broken,
                    store.loose_pieces(object_id, large.size),
                    what=f"{self._label}@{object_id.hex()}",
                )
            except BadPack as error:
                yield from self._skip(f"{self._label}@{object_id.hex()}", "malformed", str(error))
            else:
                if found is not None and found[0] == TREE:
                    # Not for scanning; noted, so that the next run does not even open it.
                    self._seen.note(object_id.hex())
                elif found is not None:
                    yield from self._give(Entry(object_id, *found, None))

    def _give(self, entry: Entry) -> Iterator[Blob]:
        name = entry.object_id.hex()
        self._given.add(entry.object_id)
        if entry.kind == BLOB:
            self.scanned += 1
            self.bytes_logical += len(entry.data)
            windows = None if entry.fresh is None else windows_of(entry.data, entry.fresh)
            yield Blob(path=self._path(entry.object_id), data=entry.data, windows=windows, object_id=name)
        elif entry.kind in (COMMIT, TAG):
            self.scanned += 1
            what = "commit" if entry.kind == COMMIT else "tag"
            yield Blob(path=f"{self._label}: {what} {name}: message", data=message_of(entry.data), object_id=name)

    def _path(self, object_id: bytes) -> str:
        """What a blob is called: told by the trees, which are read once something is to be scanned at all."""
        path = self._name().get(object_id)
        return f"{self._label}/{path}" if path else f"{self._label}@{object_id.hex()}"

    def _name(self) -> dict[bytes, str]:
        if self._paths is None:
            self._paths = self._graph.paths()
        return self._paths

    def _mend(self, broken: Broken, pieces: Iterable[bytes] | None, *, what: str) -> Iterator[Blob | Skipped]:
        """Scan in pieces what is only too large; report the rest."""
        if broken.reason != "too-large" or pieces is None or broken.kind != BLOB or self._large_left < broken.size:
            yield from self._skip(what, broken.reason, broken.detail)
            return
        self._large_left -= broken.size
        self._given.add(broken.object_id)
        name = broken.object_id.hex()
        self.scanned += 1
        try:
            yield from in_pieces(pieces, path=self._path(broken.object_id), object_id=name)
        except (BadPack, OSError) as error:
            yield from self._skip(what, "malformed", str(error))

    def _skip(self, what: str, reason: str, detail: str) -> Iterator[Skipped]:
        record = self._tally.skip(what, reason, detail[:200])
        if record is not None:
            yield record


def _found(store: ObjectStore, object_id: bytes) -> tuple[int, bytes] | None:
    try:
        return store.get(object_id)
    except (BadPack, Large):
        return None


def message_of(data: bytes) -> bytes:
    """What a person wrote in a commit or a tag: all that follows the header, which is kept where it is malformed."""
    _, blank, text = data.partition(b"\n\n")
    return text if blank else data


def in_pieces(source: Iterable[bytes], *, path: str, object_id: str = "") -> Iterator[Blob]:
    """Join a stream to blobs of `PIECE_BYTES` that overlap, each told where it begins; memory holds one of them."""
    held, offset, line = bytearray(), 0, 1
    for piece in source:
        held += piece
        while len(held) >= PIECE_BYTES:
            data = bytes(held[:PIECE_BYTES])
            yield Blob(path=path, data=data, object_id=object_id, offset=offset, first_line=line)
            step = PIECE_BYTES - OVERLAP_BYTES
            newline = data.rfind(b"\n", step, step + OVERLAP_BYTES // 2)
            step = newline + 1 if newline >= 0 else step
            line += data.count(b"\n", 0, step)
            offset += step
            del held[:step]
    if held and (offset == 0 or len(held) > OVERLAP_BYTES // 2):
        yield Blob(path=path, data=bytes(held), object_id=object_id, offset=offset, first_line=line)


assert PIECE_BYTES <= MAX_OBJECT_BYTES
