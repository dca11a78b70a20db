"""Merkle trees as RFC 9162 hashes them: roots, and proofs that an outsider can check.

A tree is seen through a *node source*: `node(level, index)` gives the root of the perfect subtree over the leaves
`index·2^level … (index+1)·2^level − 1`. Everything else is recomputed from such nodes.

Spec: RFC 9162 §2.1 (the same hashing as RFC 6962 §2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TypeAlias

from remit.kernel.errors import Rejected

HASH_BYTES = 32
MAX_PROOF_HASHES = 64
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves: the hash of the empty string."""

NodeSource: TypeAlias = Callable[[int, int], bytes]
"""`node(level, index)`: the 32-byte root of one perfect subtree."""


def leaf_hash(data: bytes) -> bytes:
    """Hash one entry as a leaf. Spec: RFC 9162 §2.1.1."""
    return sha256(b"\x00" + data).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """Hash many entries as leaves, in order."""
    return [sha256(b"\x00" + data).digest() for data in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children. Spec: RFC 9162 §2.1.1."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Hash a list of leaf hashes to its root.

    The list may also be roots of equal perfect subtrees, of which the last may be smaller or imperfect: a tree
    splits at the largest power of two, so that pairing neighbours level by level gives the same hash.
    """
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        paired = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]


class CompactRange:
    """A growing tree, kept as the roots of its perfect subtrees (at most 63 hashes, however many leaves)."""

    __slots__ = ("_roots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash: as many merges as the old size has trailing one bits."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._roots.pop(), leaf)
            size >>= 1
        self._roots.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots of the perfect subtrees, largest first."""
        return tuple(self._roots)

    def root(self) -> bytes:
        """The root of the whole tree."""
        if not self._roots:
            return EMPTY_ROOT
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root


class MemoryTree:
    """A tree small enough to keep every node; serves proofs over one batch."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.size = len(leaves)
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            self._levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])

    def node(self, level: int, index: int) -> bytes:
        """The root of one perfect subtree."""
        return self._levels[level][index]

    def root(self) -> bytes:
        """The root of the whole tree."""
        return range_root(self.node, 0, self.size) if self.size else EMPTY_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """Says that a leaf is number `index` of a tree with `size` leaves. `hashes` run leaf to root, at most 64."""

    index: int
    size: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """Says that a tree of `new_size` leaves begins with the `old_size` leaves of an older one; at most 64 hashes."""

    old_size: int
    new_size: int
    hashes: tuple[bytes, ...]


def range_root(node: NodeSource, start: int, stop: int) -> bytes:
    """The root over the leaves `start … stop-1`, where `start` is where a split of an RFC 9162 tree can fall."""
    width = stop - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(width)
    return node_hash(range_root(node, start, middle), range_root(node, middle, stop))


def prove_inclusion(index: int, size: int, node: NodeSource) -> InclusionProof:
    """Make the proof for leaf `index` of the tree of `size` leaves.

    Raises `Rejected` (`ledger.proof.out_of_range`) unless `index` < `size`. Spec: RFC 9162 §2.1.3.1 (PATH).
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise _out_of_range(f"leaf `{index}` is not in a tree of {size}")
    start, stop, path = 0, size, []
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(range_root(node, middle, stop))
            stop = middle
        else:
            path.append(range_root(node, start, middle))
            start = middle
    return InclusionProof(index=index, size=size, hashes=tuple(reversed(path)))


def prove_consistency(old_size: int, new_size: int, node: NodeSource) -> ConsistencyProof:
    """Make the proof that the tree of `new_size` leaves extends that of `old_size`.

    Raises `Rejected` (`ledger.proof.out_of_range`) unless 1 ≤ `old_size` ≤ `new_size`.
    Spec: RFC 9162 §2.1.4.1 (PROOF and SUBPROOF).
    """
    if not 1 <= old_size <= new_size <= MAX_SIZE:
        raise _out_of_range(f"a tree of {new_size} cannot extend one of {old_size}")
    start, stop, known, path = 0, new_size, True, []
    while stop != old_size:
        middle = start + _split(stop - start)
        if old_size <= middle:
            path.append(range_root(node, middle, stop))
            stop = middle
        else:
            path.append(range_root(node, start, middle))
            start, known = middle, False
    if not known:
        path.append(range_root(node, start, stop))
    return ConsistencyProof(old_size=old_size, new_size=new_size, hashes=tuple(reversed(path)))


def verify_inclusion(leaf: bytes, proof: InclusionProof, root: bytes) -> None:
    """Prove that the leaf hash `leaf` is number `proof.index` of the tree with this `root`.

    Returns only when it is. Raises `Rejected` (`ledger.proof.mismatch`, `ledger.proof.malformed`): the caller keeps
    its old checkpoint and raises an incident, it never retries.

    Spec: RFC 9162 §2.1.3.2.
    """
    _check_shape(proof.hashes, leaf, root)
    # 1. Compare leaf_index from the inclusion_proof_v2 structure against tree_size; fail when it is not less.
    if not 0 <= proof.index < proof.size <= MAX_SIZE:
        raise _mismatch(f"the proof puts leaf `{proof.index}` into a tree of {proof.size}")
    # 2. Set fn to leaf_index and sn to tree_size - 1.  3. Set r to hash.
    fn, sn, r = proof.index, proof.size - 1, leaf
    # 4. For each value p in the inclusion_path:
    for p in proof.hashes:
        # a. If sn is 0, stop and fail: the path is too long.
        if sn == 0:
            raise _mismatch("the proof is longer than the tree is high")
        # b. If LSB(fn) is set, or fn = sn: r = HASH(0x01 || p || r), and skip the levels without a right sibling.
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        # Otherwise r = HASH(0x01 || r || p).
        else:
            r = node_hash(r, p)
        # c. Finally, right-shift fn and sn by one.
        fn, sn = fn >> 1, sn >> 1
    # 5. Compare sn to 0 and r to root_hash.
    if sn != 0 or not compare_digest(r, root):
        raise _mismatch(f"the proof does not lead from leaf `{proof.index}` to the signed root")


def verify_consistency(proof: ConsistencyProof, *, old_root: bytes, new_root: bytes) -> None:
    """Prove that the newer tree extends the older one.

    Returns only when it does. A tree extends the empty tree, and itself with an equal root, without hashes.
    Raises `Rejected` (`ledger.proof.mismatch`, `ledger.proof.malformed`): keep the older checkpoint as evidence.

    Spec: RFC 9162 §2.1.4.2.
    """
    _check_shape(proof.hashes, old_root, new_root)
    first, second = proof.old_size, proof.new_size
    if not 0 <= first <= second <= MAX_SIZE:
        raise _mismatch(f"a tree of {second} cannot extend one of {first}")
    if first == second or first == 0:
        expected = new_root if first else EMPTY_ROOT
        if proof.hashes or not compare_digest(old_root, expected):
            raise _mismatch("trees of the same size have different roots")
        return
    # 1. If consistency_path is an empty array, stop and fail.
    if not proof.hashes:
        raise _mismatch("the proof is empty")
    # 2. If first is an exact power of 2, prepend first_hash to the path.
    path = [old_root, *proof.hashes] if first & (first - 1) == 0 else list(proof.hashes)
    # 3. Set fn to first - 1 and sn to second - 1.  4. If LSB(fn) is set, shift both until it is not.
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    # 5. Set both fr and sr to the first value in the path.
    fr = sr = path[0]
    # 6. For each subsequent value c in the path:
    for c in path[1:]:
        # a. If sn is 0, stop and fail.
        if sn == 0:
            raise _mismatch("the proof is longer than the tree is high")
        # b. If LSB(fn) is set, or fn = sn: fr = HASH(0x01 || c || fr), sr = HASH(0x01 || c || sr), skip levels.
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        # Otherwise sr = HASH(0x01 || sr || c).
        else:
            sr = node_hash(sr, c)
        # c. Finally, right-shift fn and sn by one.
        fn, sn = fn >> 1, sn >> 1
    # 7. Verify that fr is first_hash, sr is second_hash and sn is 0.
    if sn != 0 or not compare_digest(fr, old_root) or not compare_digest(sr, new_root):
        raise _mismatch(f"the tree of {second} does not begin with the tree of {first}")


def _split(width: int) -> int:
    """The largest power of two smaller than `width` (≥ 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_shape(hashes: tuple[bytes, ...], *others: bytes) -> None:
    if len(hashes) > MAX_PROOF_HASHES:
        raise Rejected("ledger.proof.malformed", f"a proof has at most {MAX_PROOF_HASHES} hashes")
    if any(len(h) != HASH_BYTES for h in (*hashes, *others)):
        raise Rejected("ledger.proof.malformed", "a hash in the proof is not 32 bytes long")


def _mismatch(message: str) -> Rejected:
    return Rejected("ledger.proof.mismatch", message, next_step="keep both checkpoints as evidence and do not retry")


def _out_of_range(message: str) -> Rejected:
    return Rejected("ledger.proof.out_of_range", message, next_step="ask for a leaf or size below the checkpoint's")
