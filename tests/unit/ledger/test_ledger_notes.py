"""Notes, keys, checkpoints and proof files: what is read, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from remit.kernel.errors import Rejected
from remit.ledger.checkpoint import parse_checkpoint, sign_checkpoint, verify_checkpoint
from remit.ledger.directory import TileDirectory
from remit.ledger.merkle import ConsistencyProof, InclusionProof, leaf_hash, verify_consistency, verify_inclusion
from remit.ledger.note import Ed25519Signer, parse_note, parse_verifier_key, sign_note, verify_note
from remit.ledger.proofs import inclusion_bundle, parse_bundle, verify_bundle

SIGNER = Ed25519Signer.from_seed("notes.test/log", b"\x01" * 32)
OTHER = Ed25519Signer.from_seed("notes.test/other", b"\x02" * 32)
CHECKPOINT = sign_checkpoint(7, leaf_hash(b"x"), SIGNER)


def code(call: object, *arguments: object) -> str:
    with pytest.raises(Rejected) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_a_note_with_two_signatures_verifies_for_either_key() -> None:
    note = parse_note(sign_note(b"text\n", SIGNER, OTHER))
    assert {verify_note(note, key).signed_by.name for key in (SIGNER.key, OTHER.key)} == {
        "notes.test/log",
        "notes.test/other",
    }


def test_a_note_that_the_key_has_not_signed_is_refused() -> None:
    assert code(verify_note, parse_note(sign_note(b"text\n", OTHER)), SIGNER.key) == "ledger.note.unsigned"


def test_a_text_with_an_empty_line_keeps_it() -> None:
    assert verify_note(parse_note(sign_note(b"one\n\ntwo\n", SIGNER)), SIGNER.key).text == b"one\n\ntwo\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\nno dash AAAA\n",
        b"text\n\n\xe2\x80\x94 name AAA\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAAAAA\n",
        b"te\x00xt\n\n\xe2\x80\x94 name AAAAAAAAAAA=\n",
        b"te\xffxt\n\n\xe2\x80\x94 name AAAAAAAAAAA=\n",
        b"text\n\n" + b"\xe2\x80\x94 name AAAAAAAAAAA=\n" * 101,
        b"x" * 70_000,
    ],
)
def test_what_is_no_note_is_refused(data: bytes) -> None:
    assert code(parse_note, data) == "ledger.note.malformed"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
def test_a_name_that_a_line_cannot_carry_is_refused(name: str) -> None:
    assert code(Ed25519Signer.from_seed, name, bytes(32)) == "ledger.key.name"


@pytest.mark.parametrize("text", ["", "name", "name+00000000+", "name+zz+AQ==", "+00000000+AAAA"])
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    assert code(parse_verifier_key, text) in {"ledger.key.malformed", "ledger.key.name"}


def test_a_verifier_key_under_another_name_is_refused() -> None:
    assert code(parse_verifier_key, str(SIGNER.key).replace("log", "lag")) == "ledger.key.malformed"


def test_a_verifier_key_reads_back() -> None:
    assert parse_verifier_key(f"{SIGNER.key}\n") == SIGNER.key


@pytest.mark.parametrize(
    "body",
    [
        b"origin\n",
        b"origin\n07\n" + base64.b64encode(bytes(32)) + b"\n",
        b"origin\n-1\n" + base64.b64encode(bytes(32)) + b"\n",
        b"origin\n9223372036854775808\n" + base64.b64encode(bytes(32)) + b"\n",
        b"origin\n7\n" + base64.b64encode(bytes(31)) + b"\n",
        b"origin\n7\nnot base64\n",
        b"\n7\n" + base64.b64encode(bytes(32)) + b"\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(body: bytes) -> None:
    assert code(parse_checkpoint, sign_note(body, SIGNER)) == "ledger.checkpoint.malformed"


def test_unknown_extension_lines_are_kept_and_ignored() -> None:
    body = parse_note(CHECKPOINT.signed).text + b"extension line\n"
    signed = sign_note(body, SIGNER)
    assert parse_checkpoint(signed).extensions == ("extension line",)
    assert verify_checkpoint(signed, SIGNER.key).size == 7


def test_a_checkpoint_reads_back() -> None:
    assert verify_checkpoint(CHECKPOINT.signed, SIGNER.key) == CHECKPOINT


def test_a_proof_of_more_than_64_hashes_is_refused() -> None:
    long = (bytes(32),) * 65
    inclusion = InclusionProof(index=0, size=2, hashes=long)
    consistency = ConsistencyProof(old_size=1, new_size=2, hashes=long)
    assert code(verify_inclusion, bytes(32), inclusion, bytes(32)) == "ledger.proof.malformed"
    with pytest.raises(Rejected):
        verify_consistency(consistency, old_root=bytes(32), new_root=bytes(32))


@pytest.mark.parametrize("extra", [None, b"", b"for the application"])
def test_a_proof_file_reads_back_and_verifies(tmp_path: Path, extra: bytes | None) -> None:
    rows = [b"row %d" % i for i in range(300)]
    log = TileDirectory.open(tmp_path, signer=SIGNER, leaves=lambda start: rows[start:])
    bundle = parse_bundle(inclusion_bundle(log.prove_inclusion(299), log.checkpoint, extra=extra))
    found = verify_bundle(rows[299], bundle, SIGNER.key)
    assert (found.index, found.extra, found.checkpoint) == (299, extra, log.checkpoint)


@pytest.mark.parametrize(
    "head",
    [
        b"c2sp.org/tlog-proof@v2\nindex 0",
        b"c2sp.org/tlog-proof@v1",
        b"c2sp.org/tlog-proof@v1\nindex 00",
        b"c2sp.org/tlog-proof@v1\nindex 0\nAAAA",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"\n".join([base64.b64encode(bytes(32))] * 65),
        b"c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA",
    ],
)
def test_what_is_no_proof_file_is_refused(head: bytes) -> None:
    assert code(parse_bundle, head + b"\n\n" + CHECKPOINT.signed) == "ledger.proof.malformed"
