"""Trees and proofs against the definition of RFC 9162, written down naively."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.kernel.errors import Rejected
from remit.ledger.frontier import Frontier
from remit.ledger.merkle import (
    CompactRange,
    MemoryTree,
    leaf_hashes,
    prove_consistency,
    prove_inclusion,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from remit.ledger.tiles import Tile, encode_bundle, iterate_bundle, node_source, parse_path, split_hashes, tile_holding

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
LEAVES = leaf_hashes([b"%d" % i for i in range(70_000)])
SIZES = st.integers(1, 600)


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162 §2.1.1, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 §2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], known: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162 §2.1.4.1."""
    if m == len(leaves):
        return [] if known else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], known), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


@relaxed
@given(SIZES)
def test_every_way_to_a_root_gives_the_defined_one(size: int) -> None:
    leaves = LEAVES[:size]
    grown = CompactRange()
    grown.extend(leaves)
    assert {grown.root(), root_of(leaves), MemoryTree(leaves).root()} == {naive_root(leaves)}


@relaxed
@given(SIZES, st.data())
def test_inclusion_proofs_are_the_defined_ones_and_verify(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    proof = prove_inclusion(index, size, MemoryTree(leaves).node)
    assert list(proof.hashes) == naive_path(index, leaves)
    verify_inclusion(leaves[index], proof, naive_root(leaves))


@relaxed
@given(SIZES, st.data())
def test_consistency_proofs_are_the_defined_ones_and_verify(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    leaves = LEAVES[:size]
    proof = prove_consistency(old, size, MemoryTree(leaves).node)
    assert list(proof.hashes) == naive_subproof(old, leaves, True)
    verify_consistency(proof, old_root=naive_root(leaves[:old]), new_root=naive_root(leaves))


@relaxed
@given(SIZES.filter(lambda n: n > 1), st.data())
def test_an_inclusion_proof_with_one_changed_bit_is_rejected(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = prove_inclusion(index, size, MemoryTree(LEAVES[:size]).node)
    place = data.draw(st.integers(0, len(proof.hashes) - 1))
    changed = bytearray(proof.hashes[place])
    changed[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    spoilt = replace(proof, hashes=(*proof.hashes[:place], bytes(changed), *proof.hashes[place + 1 :]))
    with pytest.raises(Rejected):
        verify_inclusion(LEAVES[index], spoilt, naive_root(LEAVES[:size]))


@relaxed
@given(SIZES.filter(lambda n: n > 1), st.data())
def test_an_inclusion_proof_for_another_leaf_is_rejected(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))
    proof = replace(prove_inclusion(index, size, MemoryTree(LEAVES[:size]).node), index=other)
    with pytest.raises(Rejected):
        verify_inclusion(LEAVES[index], proof, naive_root(LEAVES[:size]))


@relaxed
@given(SIZES.filter(lambda n: n > 1), st.data())
def test_no_hashes_make_a_changed_history_consistent(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size - 1))
    forged = [b"\x07" * 32, *LEAVES[1:size]]
    proof = prove_consistency(old, size, MemoryTree(forged).node)
    with pytest.raises(Rejected):
        verify_consistency(proof, old_root=naive_root(LEAVES[:old]), new_root=naive_root(forged))


@relaxed
@given(st.lists(st.integers(0, 700), min_size=1, max_size=6))
def test_a_log_that_grows_in_steps_has_the_tiles_of_one_that_grew_at_once(steps: list[int]) -> None:
    entries = [b"%d" % i for i in range(sum(steps))]
    stepwise, files = Frontier(), {}
    for step in steps:
        stepwise, changed = stepwise.extended(entries[stepwise.size : stepwise.size + step])
        files |= {file.tile: file.data for file in changed}
    at_once, expected = Frontier().extended(entries)
    assert stepwise == at_once
    assert {file.tile: file.data for file in expected}.items() <= files.items()


@relaxed
@given(st.sampled_from([1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000]), st.data())
def test_proofs_from_tiles_verify_across_their_seams(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root = root_of(LEAVES[:size])
    tiles = _tiles(size)
    proof = prove_inclusion(index, size, node_source(lambda tile: split_hashes(tiles[tile]), size))
    verify_inclusion(LEAVES[index], proof, root)


@relaxed
@given(st.integers(0, 63), st.integers(0, 10**12), st.integers(1, 256))
def test_a_tiles_path_reads_back(level: int, number: int, width: int) -> None:
    tile = Tile(level=level, number=number, width=width)
    assert parse_path(tile.path) == tile


@relaxed
@given(st.lists(st.binary(max_size=80), max_size=30))
def test_a_bundle_reads_back(entries: list[bytes]) -> None:
    assert list(iterate_bundle(encode_bundle(entries))) == entries


@relaxed
@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=8), st.data())
def test_a_bundle_that_is_cut_never_gives_an_entry_that_was_not_written(
    entries: list[bytes], data: st.DataObject
) -> None:
    whole = encode_bundle(entries)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    read = []
    try:
        for entry in iterate_bundle(cut):
            read.append(entry)
    except Rejected:
        pass
    assert read == entries[: len(read)]
    assert len(read) < len(entries)


_known: dict[int, dict[Tile, bytes]] = {}


def _tiles(size: int) -> dict[Tile, bytes]:
    """The tiles over the first `size` of LEAVES, by their definition."""
    if size not in _known:
        tiles, level, hashes = {}, 0, LEAVES[:size]
        while hashes:
            chunks = [hashes[i : i + 256] for i in range(0, len(hashes), 256)]
            for number, chunk in enumerate(chunks):
                tiles[tile_holding(level, number, size)] = b"".join(chunk)
            hashes = [root_of(chunk) for chunk in chunks if len(chunk) == 256]
            level += 1
        _known[size] = tiles
    return _known[size]
