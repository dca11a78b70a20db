"""Signed notes: a text, and signatures on it by named keys.

`parse_note` reads bytes into an unverified record; `verify_note` gives a `VerifiedNote`. Signatures by keys that the
reader does not know are kept and ignored, so that witnesses can add theirs.

Spec: C2SP signed-note (c2sp.org/signed-note), tlog-cosignature (c2sp.org/tlog-cosignature).
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from remit.kernel.errors import Rejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 100
_DASH = "— "


class Algorithm(enum.IntEnum):
    """The signature types of the specification that are understood here."""

    ED25519 = 1
    COSIGNATURE_V1 = 4
    """Ed25519 with a time, as witnesses sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name of who signs by it. `str()` gives the `name+hex+base64` form."""

    name: str
    algorithm: Algorithm
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name ‖ newline ‖ algorithm ‖ key)."""
        return sha256(self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.algorithm]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


class NoteSigner(Protocol):
    """Signs notes under one name; the private key may live elsewhere."""

    @property
    def key(self) -> VerifierKey: ...

    def sign(self, text: bytes) -> bytes:
        """The raw signature of the note's text, its last newline included."""
        ...


class Ed25519Signer:
    """A signer whose key is in memory. The name should be the log's origin."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        check_key_name(name)
        self._private = private
        public = private.public_key().public_bytes_raw()
        self._key = VerifierKey(name=name, algorithm=Algorithm.ED25519, public=public)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Ed25519Signer:
        """Take the private key from its 32-byte seed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def key(self) -> VerifierKey:
        return self._key

    def sign(self, text: bytes) -> bytes:
        return self._private.sign(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line, unverified."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The line as it stands in a note, without its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedNote:
    """A note as it was read; nothing in it is proved."""

    text: bytes
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A witness saw this checkpoint, consistent with all that it saw before, at `timestamp` (Unix seconds)."""

    witness: str
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedNote:
    """A note that the expected key has signed, and the known witnesses that cosigned it."""

    text: bytes
    signed_by: VerifierKey
    cosignatures: tuple[Cosignature, ...] = ()


def check_key_name(name: str) -> None:
    """Refuse a name that a signature line cannot carry: `Rejected` (`ledger.key.name`)."""
    if not name or len(name) > 200 or "+" in name or not name.isprintable() or any(c.isspace() for c in name):
        raise Rejected("ledger.key.name", f"`{name[:50]}` is no name of a key: no blanks, no `+`, not empty")


def parse_verifier_key(text: str) -> VerifierKey:
    """Read `name+hex+base64`; `Rejected` (`ledger.key.malformed`) when a part is wrong or the id is not the key's."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    check_key_name(name)
    raw = _decode(encoded)
    if raw is None or len(raw) != 33 or raw[0] not in tuple(Algorithm):
        raise Rejected("ledger.key.malformed", "a verifier key is `name+id+base64` of an Ed25519 key")
    key = VerifierKey(name=name, algorithm=Algorithm(raw[0]), public=raw[1:])
    if key.key_id.hex() != key_id:
        raise Rejected("ledger.key.malformed", f"the id `{key_id[:16]}` is not the one of the key of `{name}`")
    return key


def sign_note(text: bytes, *signers: NoteSigner) -> bytes:
    """Write a note: `text` (ending in a newline), an empty line, one signature line for each signer."""
    _check_text(text)
    signatures = [
        NoteSignature(name=signer.key.name, key_id=signer.key.key_id, signature=signer.sign(text)) for signer in signers
    ]
    return format_note(UnverifiedNote(text=text, signatures=tuple(signatures)))


def format_note(note: UnverifiedNote) -> bytes:
    """Write a note with the signatures that it has."""
    return note.text + b"\n" + "".join(f"{s.line()}\n" for s in note.signatures).encode()


def parse_note(data: bytes) -> UnverifiedNote:
    """Read a note of at most 64 KiB and 100 signatures; `Rejected` (`ledger.note.malformed`) otherwise."""
    if len(data) > MAX_NOTE_BYTES:
        raise _malformed(f"it has more than {MAX_NOTE_BYTES} bytes")
    split = data.rfind(b"\n\n")
    if split < 0 or not data.endswith(b"\n"):
        raise _malformed("no empty line sets the signatures apart")
    text, tail = data[: split + 1], data[split + 2 :]
    _check_text(text)
    lines = tail.split(b"\n")[:-1]
    if not 0 < len(lines) <= MAX_SIGNATURES:
        raise _malformed(f"it has {len(lines)} signatures")
    return UnverifiedNote(text=text, signatures=tuple(_parse_signature(line) for line in lines))


def verify_note(note: UnverifiedNote, key: VerifierKey, *, witnesses: Sequence[VerifierKey] = ()) -> VerifiedNote:
    """Prove that `key` signed the note, and collect the cosignatures of `witnesses`.

    Raises `Rejected`: `ledger.note.unsigned` when `key` has not signed, `ledger.note.signature` when a signature
    under `key` or a known witness does not verify. Unknown signers are ignored; repeated lines count once.

    Spec: C2SP signed-note, "Verification"; tlog-cosignature, "cosignature/v1".
    """
    if key.algorithm is not Algorithm.ED25519:
        raise Rejected("ledger.key.malformed", f"the key of `{key.name}` is one of a witness, not of a log")
    known = {(k.name, k.key_id): k for k in (key, *witnesses)}
    signed, cosigned = False, {}
    for signature in note.signatures:
        signer = known.get((signature.name, signature.key_id))
        if signer is None:
            continue
        timestamp = _verify_signature(note.text, signature, signer)
        if signer == key:
            signed = True
        elif timestamp is not None:
            cosigned[signer.name] = Cosignature(witness=signer.name, timestamp=timestamp)
    if not signed:
        raise Rejected(
            "ledger.note.unsigned",
            f"the note carries no signature by `{key.name}` with id `{key.key_id.hex()}`",
            next_step="check that the key belongs to this ledger",
        )
    return VerifiedNote(text=note.text, signed_by=key, cosignatures=tuple(cosigned.values()))


def cosign_message(text: bytes, timestamp: int) -> bytes:
    """What a witness signs: the time, then the note. Spec: C2SP tlog-cosignature, "cosignature/v1"."""
    return f"cosignature/v1\ntime {timestamp}\n".encode() + text


def _verify_signature(text: bytes, signature: NoteSignature, key: VerifierKey) -> int | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw, message, timestamp = signature.signature, text, None
    if key.algorithm is Algorithm.COSIGNATURE_V1:
        timestamp = int.from_bytes(raw[:8], "big")
        raw, message = raw[8:], cosign_message(text, timestamp)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw, message)
    except (InvalidSignature, ValueError):
        raise Rejected(
            "ledger.note.signature",
            f"the signature by `{key.name}` does not verify",
            next_step="keep the file as evidence: it was changed after it was signed, or signed by another key",
        ) from None
    return timestamp


def _parse_signature(line: bytes) -> NoteSignature:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise _malformed("a signature line is no UTF-8") from None
    name, _, encoded = text.removeprefix(_DASH).partition(" ")
    raw = _decode(encoded)
    if not text.startswith(_DASH) or raw is None or len(raw) < 5:
        raise _malformed("a signature line is not `— name base64`")
    check_key_name(name)
    return NoteSignature(name=name, key_id=raw[:4], signature=raw[4:])


def _check_text(text: bytes) -> None:
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise _malformed("the text is no UTF-8") from None
    if not decoded.endswith("\n") or any(c < " " and c != "\n" for c in decoded):
        raise _malformed("the text must end in a newline and hold no other control characters")


def _decode(encoded: str) -> bytes | None:
    """Strict base64: only what `b64encode` would write."""
    try:
        raw = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return raw if base64.b64encode(raw).decode() == encoded else None


def _malformed(why: str) -> Rejected:
    return Rejected("ledger.note.malformed", f"this is no signed note: {why}")
