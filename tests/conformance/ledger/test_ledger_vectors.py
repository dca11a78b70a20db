"""Known answers for RFC 9162 hashing and for signed notes.

EMPTY, LEAVES, ROOTS, PATHS, CONSISTENCY: the eight-leaf tree of the Certificate Transparency reference code
(`merkletree/merkle_tree_test.cc`), used by `transparency-dev/merkle` and others; RFC 6962 and RFC 9162 hash alike.
NOTE, VKEY: the example in the documentation of Go's `golang.org/x/mod/sumdb/note`.
TILE_PATHS: the documentation of `Tile` in `golang.org/x/mod/sumdb/tlog`; C2SP tlog-tiles, "Tiles".
"""

from __future__ import annotations

import pytest

from remit.kernel.errors import Rejected
from remit.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    ConsistencyProof,
    InclusionProof,
    MemoryTree,
    leaf_hashes,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from remit.ledger.note import parse_note, parse_verifier_key, verify_note
from remit.ledger.tiles import Tile, encode_number, parse_path

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
TILE_PATHS = {
    "tile/4/x001/x234/067.p/1": Tile(level=4, number=1_234_067, width=1),
    "tile/4/x001/x234/067": Tile(level=4, number=1_234_067),
    "tile/0/000": Tile(level=0, number=0),
    "tile/entries/999.p/255": Tile(level=None, number=999, width=255),
    "tile/entries/x001/000": Tile(level=None, number=1000),
}


def hashes(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(text) for text in texts)


def test_the_empty_tree_has_the_known_root() -> None:
    assert EMPTY_ROOT.hex() == EMPTY


@pytest.mark.parametrize("size", range(1, 9))
def test_a_growing_tree_has_the_known_roots(size: int) -> None:
    tree = CompactRange()
    tree.extend(leaf_hashes(LEAVES[:size]))
    assert tree.root().hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_inclusion_proofs_are_the_known_ones_and_verify(index: int, size: int) -> None:
    leaves = leaf_hashes(LEAVES[:size])
    proof = prove_inclusion(index, size, MemoryTree(leaves).node)
    assert proof.hashes == hashes(PATHS[index, size])
    verify_inclusion(leaves[index], proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_proofs_are_the_known_ones_and_verify(old: int, new: int) -> None:
    proof = prove_consistency(old, new, MemoryTree(leaf_hashes(LEAVES[:new])).node)
    assert proof.hashes == hashes(CONSISTENCY[old, new])
    verify_consistency(proof, old_root=bytes.fromhex(ROOTS[old - 1]), new_root=bytes.fromhex(ROOTS[new - 1]))


def test_a_known_inclusion_proof_for_another_size_is_rejected() -> None:
    proof = InclusionProof(index=5, size=16, hashes=hashes(PATHS[5, 8]))
    with pytest.raises(Rejected):
        verify_inclusion(leaf_hashes(LEAVES)[5], proof, bytes.fromhex(ROOTS[7]))


def test_a_known_consistency_proof_for_another_root_is_rejected() -> None:
    proof = ConsistencyProof(old_size=6, new_size=8, hashes=hashes(CONSISTENCY[6, 8]))
    with pytest.raises(Rejected):
        verify_consistency(proof, old_root=bytes.fromhex(ROOTS[4]), new_root=bytes.fromhex(ROOTS[7]))


def test_the_note_of_gos_documentation_verifies() -> None:
    assert verify_note(parse_note(NOTE.encode()), parse_verifier_key(VKEY)).signed_by.name == "PeterNeumann"


def test_the_verifier_key_of_gos_documentation_is_written_as_it_was_read() -> None:
    assert str(parse_verifier_key(VKEY)) == VKEY


def test_the_note_of_gos_documentation_with_another_word_is_rejected() -> None:
    note = parse_note(NOTE.replace("answer", "Answer").encode())
    with pytest.raises(Rejected) as caught:
        verify_note(note, parse_verifier_key(VKEY))
    assert caught.value.code == "ledger.note.signature"


@pytest.mark.parametrize("path", TILE_PATHS)
def test_tile_paths_are_read_and_written(path: str) -> None:
    assert parse_path(path) == TILE_PATHS[path]
    assert TILE_PATHS[path].path == path


@pytest.mark.parametrize(
    "path",
    [
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/1000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/data/000",
        "tile/0/../000",
        "/tile/0/000",
        "tile/0/000\n",
    ],
)
def test_a_path_that_is_not_of_a_tile_is_rejected(path: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_path(path)
    assert caught.value.code == "ledger.tile.path"


def test_numbers_are_grouped_by_three_digits() -> None:
    assert encode_number(123_456_789) == "x123/x456/789"
