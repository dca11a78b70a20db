"""Checkpoints: signed tree heads, as three lines of a signed note.

`parse_checkpoint` gives what somebody says; only `verify_checkpoint` makes a `Checkpoint`.

Spec: C2SP tlog-checkpoint (c2sp.org/tlog-checkpoint).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from remit.kernel.errors import Rejected
from remit.ledger.merkle import HASH_BYTES, MAX_SIZE
from remit.ledger.note import (
    Cosignature,
    NoteSigner,
    UnverifiedNote,
    VerifierKey,
    parse_note,
    sign_note,
    verify_note,
)

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedCheckpoint:
    """A tree head as it was read; nothing in it is proved."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...]
    note: UnverifiedNote


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head that the log's key has signed: `size` leaves, 32-byte `root`."""

    origin: str
    size: int
    root: bytes
    cosignatures: tuple[Cosignature, ...]
    """What known witnesses added: without one, and without an older checkpoint, a rollback cannot be seen."""
    signed: bytes
    """The whole signed note."""


def format_body(origin: str, size: int, root: bytes) -> bytes:
    """The text that is signed: origin, decimal size, root in base64, a line each."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def sign_checkpoint(size: int, root: bytes, signer: NoteSigner) -> Checkpoint:
    """Sign a tree head; its origin is the signer's name."""
    assert 0 <= size <= MAX_SIZE
    assert len(root) == HASH_BYTES
    origin = signer.key.name
    signed = sign_note(format_body(origin, size, root), signer)
    return Checkpoint(origin=origin, size=size, root=root, cosignatures=(), signed=signed)


def parse_checkpoint(data: bytes) -> UnverifiedCheckpoint:
    """Read a checkpoint of at most 64 KiB; `Rejected` (`ledger.checkpoint.malformed`, `ledger.note.malformed`)."""
    note = parse_note(data)
    lines = note.text.decode().split("\n")[:-1]
    if len(lines) < 3 or not all(lines):
        raise _malformed("it needs an origin, a size and a root, a line each")
    origin, size, encoded, *extensions = lines
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise _malformed("the size is no plain decimal number")
    return UnverifiedCheckpoint(
        origin=origin, size=int(size), root=_parse_root(encoded), extensions=tuple(extensions), note=note
    )


def verify_checkpoint(
    data: bytes, key: VerifierKey, *, origin: str | None = None, witnesses: Sequence[VerifierKey] = ()
) -> Checkpoint:
    """Prove that `key` signed this tree head for the log `origin` (the key's name unless told otherwise).

    Raises `Rejected`: `ledger.checkpoint.signature` when the key has not signed it, `ledger.checkpoint.origin` when
    it speaks of another log, `ledger.checkpoint.malformed` when it cannot be read.
    """
    checkpoint = parse_checkpoint(data)
    try:
        verified = verify_note(checkpoint.note, key, witnesses=witnesses)
    except Rejected as error:
        raise Rejected(
            "ledger.checkpoint.signature", f"the checkpoint is not proved: {error}", next_step=error.next_step
        ) from error
    expected = key.name if origin is None else origin
    if checkpoint.origin != expected:
        raise Rejected(
            "ledger.checkpoint.origin",
            f"the checkpoint is of the log `{checkpoint.origin[:200]}`, not of `{expected}`",
            next_step="use the key of that log, or name its origin",
        )
    return Checkpoint(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root,
        cosignatures=verified.cosignatures,
        signed=data,
    )


def is_signed_by(checkpoint: Checkpoint, key: VerifierKey) -> bool:
    """Whether a line of a verified checkpoint names `key`; a log signs anew after its key was changed."""
    lines = parse_note(checkpoint.signed).signatures
    return any((line.name, line.key_id) == (key.name, key.key_id) for line in lines)


def _parse_root(encoded: str) -> bytes:
    try:
        root = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        root = b""
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != encoded:
        raise _malformed("the root is no base64 of 32 bytes")
    return root


def _malformed(why: str) -> Rejected:
    return Rejected("ledger.checkpoint.malformed", f"this is no checkpoint: {why}")
