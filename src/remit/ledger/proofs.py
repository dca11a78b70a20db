"""Proofs as files: what a holder can show to somebody who has only the log's public key.

Spec: C2SP tlog-proof (c2sp.org/tlog-proof), version 1.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from remit.kernel.errors import Rejected
from remit.ledger.batches import Batch, parse_batch
from remit.ledger.checkpoint import Checkpoint, verify_checkpoint
from remit.ledger.merkle import HASH_BYTES, MAX_PROOF_HASHES, InclusionProof, leaf_hash, verify_inclusion
from remit.ledger.note import MAX_NOTE_BYTES, VerifierKey

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_MAX_EXTRA_BYTES: Final = 65_535
_MAX_BUNDLE_BYTES: Final = MAX_NOTE_BYTES + 2 * _MAX_EXTRA_BYTES
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedBundle:
    """An inclusion proof with its checkpoint, as it was read; nothing in it is proved."""

    index: int
    hashes: tuple[bytes, ...]
    extra: bytes | None
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IncludedEntry:
    """An entry that is proved to be leaf `index` of the log that signed `checkpoint`."""

    entry: bytes
    index: int
    checkpoint: Checkpoint
    extra: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """Step one for a record of a segment: it is number `proof.index` of a batch."""

    seq: int
    record: bytes
    proof: InclusionProof
    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedRecord:
    """A record that is proved to be in a batch, and the batch in the log."""

    seq: int
    record: bytes
    batch: Batch
    entry: IncludedEntry


def inclusion_bundle(proof: InclusionProof, checkpoint: Checkpoint, *, extra: bytes | None = None) -> bytes:
    """Write a proof and its checkpoint as one text file; `extra` is for the application and not proved."""
    assert proof.size == checkpoint.size
    lines = [_HEADER]
    if extra is not None:
        lines.append(f"extra {base64.b64encode(extra).decode()}")
    lines.append(f"index {proof.index}")
    lines.extend(base64.b64encode(h).decode() for h in proof.hashes)
    return "\n".join([*lines, "", ""]).encode() + checkpoint.signed


def parse_bundle(data: bytes) -> UnverifiedBundle:
    """Read a proof file of at most 192 KiB and 64 hashes; `Rejected` (`ledger.proof.malformed`)."""
    head, separator, checkpoint = data.partition(b"\n\n")
    if len(data) > _MAX_BUNDLE_BYTES or not separator or not head.isascii():
        raise _malformed("it is too large, or no empty line sets the checkpoint apart")
    lines = head.decode().split("\n")
    if lines.pop(0) != _HEADER:
        raise _malformed(f"its first line is not `{_HEADER}`")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _decode(lines.pop(0).removeprefix("extra "))
    found = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if found is None or len(lines) > MAX_PROOF_HASHES:
        raise _malformed(f"it needs one index and at most {MAX_PROOF_HASHES} hashes")
    hashes = tuple(_decode(line) for line in lines)
    if any(len(h) != HASH_BYTES for h in hashes):
        raise _malformed("a hash is not 32 bytes long")
    return UnverifiedBundle(index=int(found[1]), hashes=hashes, extra=extra, checkpoint=checkpoint)


def verify_bundle(
    entry: bytes,
    bundle: UnverifiedBundle,
    key: VerifierKey,
    *,
    origin: str | None = None,
    witnesses: Sequence[VerifierKey] = (),
) -> IncludedEntry:
    """Prove that `entry` is in the log of `key` at the place that the bundle names.

    Raises `Rejected` (`ledger.checkpoint.*`, `ledger.proof.mismatch`). Spec: C2SP tlog-proof, "Verification".
    """
    checkpoint = verify_checkpoint(bundle.checkpoint, key, origin=origin, witnesses=witnesses)
    proof = InclusionProof(index=bundle.index, size=checkpoint.size, hashes=bundle.hashes)
    verify_inclusion(leaf_hash(entry), proof, checkpoint.root)
    return IncludedEntry(entry=entry, index=bundle.index, checkpoint=checkpoint, extra=bundle.extra)


class _RecordFile(msgspec.Struct, forbid_unknown_fields=True):
    """The wire form of a two-step proof, version 1; a field is added with a new version, never renamed."""

    v: int
    seq: int
    record: str
    path: list[str]
    entry: str
    bundle: str


def record_bundle(step_one: RecordProof, *, entry: bytes, bundle: bytes) -> bytes:
    """Write a two-step proof as one JSON file: the record in its batch, and the batch's `entry` in its `bundle`."""
    return msgspec.json.encode(
        _RecordFile(
            v=1,
            seq=step_one.seq,
            record=base64.b64encode(step_one.record).decode(),
            path=[base64.b64encode(h).decode() for h in step_one.proof.hashes],
            entry=base64.b64encode(entry).decode(),
            bundle=bundle.decode(),
        )
    )


def verify_record_bundle(
    data: bytes, key: VerifierKey, *, origin: str | None = None, witnesses: Sequence[VerifierKey] = ()
) -> ProvedRecord:
    """Prove a record by the file that `record_bundle` wrote.

    Raises `Rejected` (`ledger.proof.malformed`, `ledger.batch.malformed`, `ledger.proof.mismatch`,
    `ledger.checkpoint.*`).
    """
    try:
        file = msgspec.json.decode(data, type=_RecordFile)
    except msgspec.DecodeError as error:
        raise _malformed(str(error)) from None
    if file.v != 1:
        raise _malformed(f"its version is {file.v} and not 1")
    # 1. The batch's entry is in the log.
    entry = verify_bundle(
        _decode(file.entry), parse_bundle(file.bundle.encode()), key, origin=origin, witnesses=witnesses
    )
    batch = parse_batch(entry.entry, entry.index)
    if batch is None:
        raise _malformed("its entry records no batch")
    # 2. The record is in the batch, at the place that its number says.
    record = _decode(file.record)
    proof = InclusionProof(
        index=file.seq - batch.first_seq, size=batch.size, hashes=tuple(_decode(line) for line in file.path)
    )
    verify_inclusion(leaf_hash(record), proof, batch.root)
    return ProvedRecord(seq=file.seq, record=record, batch=batch, entry=entry)


def _decode(encoded: str) -> bytes:
    try:
        raw = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _malformed("a line is no base64") from None
    if base64.b64encode(raw).decode() != encoded:
        raise _malformed("a line is no canonical base64")
    return raw


def _malformed(why: str) -> Rejected:
    return Rejected("ledger.proof.malformed", f"this is no proof: {why}")
