"""Which objects of a pack are to be read, and in what order: so that several processes may each read a share of them.

A pack whose index tells every id is planned as a whole: families of deltas in depth-first order, each base before
what is made from it, cut into shares of about the same work. Whoever reads a share makes for itself the bases under
its first object (git's chains are short), holds a base only while the share has deltas to come, and needs nothing of
any other share.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from remit.inventory.secrets.sources.packs import (
    BLOB,
    FAILURES,
    MAX_OBJECT_BYTES,
    TREE,
    Broken,
    Entry,
    Pack,
)

_WEIGHT = 1_200
"""Of one share: a few hundred blobs, or some megabytes of bases."""
_OF_BLOB = 4
"""What a blob weighs against a commit; and so does each `1 << _SIZE_SHIFT` bytes of what is packed."""
_SIZE_SHIFT = 12


class Share(NamedTuple):
    """Objects first..last (excluded) of the order in plan `plan`; what a reader of it needs besides is the plan."""

    plan: int
    first: int
    last: int
    path: str
    """For people."""
    size: int
    """As many bytes as it may be counted for."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Deltas that could not be made because what they are made from could not; `wanted` of them were asked for."""

    plan: int
    count: int
    wanted: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The objects of one pack that are to be read."""

    pack: Pack
    order: array[int]
    wanted: bytearray
    """By number: whether the object itself is asked for, or only a base."""
    broken: tuple[Broken, ...]
    """Bases that no share holds: of no known kind, or too large to hold."""
    lost: int
    """Deltas that no base leads to."""

    @property
    def has_blobs(self) -> bool:
        """Whether any file is to be read at all."""
        kinds = self.pack.listing.kinds
        return any(self.wanted[number] and kinds[number] == BLOB for number in self.order)

    def shares(self, number: int) -> Iterator[Share]:
        """All of the order, cut where a share has its weight."""
        kinds, sizes = self.pack.listing.kinds, self.pack.listing.sizes
        first = weight = 0
        for place, each in enumerate(self.order):
            weight += (_OF_BLOB if kinds[each] == BLOB else 1) + (sizes[each] >> _SIZE_SHIFT)
            if weight >= _WEIGHT:
                yield Share(number, first, place + 1, self.pack.path, weight << _SIZE_SHIFT)
                first, weight = place + 1, 0
        if first < len(self.order):
            yield Share(number, first, len(self.order), self.pack.path, weight << _SIZE_SHIFT)

    def read(self, share: Share) -> Iterator[Entry | Broken | Lost]:
        """What the share holds and was asked for; what cannot be had, once; at the end, what was lost by that."""
        pack, listing = self.pack, self.pack.listing
        numbers = self.order[share.first : share.last]
        own = set(numbers)
        left = Counter(listing.bases[number] for number in numbers)
        bad: set[int] = set()
        lost: list[int] = []
        for number in numbers:
            base = listing.bases[number]
            if base >= 0 and base not in own and base not in bad:
                own.add(base)
                if not self._make(base):
                    bad.add(base)
            if base in bad:
                bad.add(number)
                lost.append(number)
                continue
            try:
                data, fresh = pack.content(number)
            except FAILURES as error:
                bad.add(number)
                yield pack.broken(number, error)
                continue
            finally:
                left[base] -= 1
                if not left[base]:
                    pack.drop(base)
            if number in left:
                pack.hold(number, data)
            if self.wanted[number]:
                yield Entry(listing.ids[number], listing.kinds[number], data, fresh)
        for number in own:
            pack.drop(number)
        if lost:
            yield Lost(share.plan, len(lost), tuple(listing.ids[number] for number in lost if self.wanted[number]))

    def _make(self, base: int) -> bool:
        """Hold a base that belongs to a share before this one."""
        try:
            self.pack.hold(base, self.pack.content(base)[0])
        except FAILURES:
            return False
        return True


def plan(pack: Pack, wanted: Callable[[bytes], bool], take: Callable[[bytes], bool]) -> Plan:
    """Which objects of `pack` are to be read so that those `wanted(id)` can be had; `take(id)` claims each, once.

    For a pack that `is_listed`: the base of every delta is known to be in it, or to be nowhere.
    """
    listing = pack.listing
    first, following = pack.families()
    needed = pack.needed(wanted)
    kinds, bases, sizes = listing.kinds, listing.bases, listing.sizes
    order, met = array("q"), bytearray(len(pack))
    broken: list[Broken] = []
    for root in range(len(pack)):
        if bases[root] != -1 or kinds[root] == TREE:
            continue
        if kinds[root] == 0:
            met[root] = 1
            detail = "no object of a known kind"
            broken.append(Broken(reason="malformed", detail=detail, object_id=listing.ids[root]))
        elif needed[root] and sizes[root] > MAX_OBJECT_BYTES:
            met[root] = 1
            if take(listing.ids[root]):
                broken.append(pack.too_large(root))
        elif needed[root]:
            _descend(root, first, following, needed, met, kinds, order)
    asked = bytearray(len(pack))
    for number in order:
        asked[number] = take(listing.ids[number])
    lost = sum(1 for number in range(len(pack)) if needed[number] and not met[number] and kinds[number] != TREE)
    return Plan(pack, order, asked, tuple(broken), lost)


def _descend(
    root: int, first: array[int], following: array[int], needed: bytearray, met: bytearray, kinds: bytearray,
    order: array[int],
) -> None:  # fmt: skip
    stack = [root]
    while stack:
        number = stack.pop()
        if met[number]:
            continue
        met[number] = 1
        order.append(number)
        children = []
        child = first[number]
        while child >= 0:
            if needed[child]:
                kinds[child] = kinds[number]
                children.append(child)
            child = following[child]
        children.reverse()
        stack += children
