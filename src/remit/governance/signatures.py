"""A person's own credential: commands that the person signs with a key that Remit never holds.

The signature covers the canonical JSON of `{audience, body_sha256, method, nonce, path, person, time}`. `audience`
names the installation, so that a command signed for one is worth nothing at another. A verified command becomes an
`Approver`, and nothing else can: where a verb takes one, no identity, socket or row can stand in for a person.

Spec: RFC 8032 (Ed25519); RFC 8785 (canonical JSON).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from remit.defense.model import VerifiedPerson
from remit.governance.model import Person
from remit.governance.ports import GovernanceUnit
from remit.kernel.canonical import Json, canonical, digest
from remit.kernel.clock import parse_rfc3339, rfc3339
from remit.kernel.errors import Denied, Rejected

WINDOW: Final = timedelta(seconds=60)
"""How far the time of a command may lie from ours, either way."""
APPROVER_LIFE: Final = timedelta(minutes=2)
"""How long after its verification an `Approver` may still be used."""
HEADER: Final = "remit-signature"
"""The HTTP header that carries `encode_signed`."""

_MAX_HEADER = 4096
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_HEX = re.compile(r"[0-9a-f]+")
# The signature of an unknown person is checked against this key, so that the work is the same; the answer is not used.
_NOBODY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
# Encodings of points of small order, sign bit cleared: under such a key a signature over *any* message can be made.
_WEAK = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)
_WITNESS = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCommand:
    """What a caller sent: a claim about a person, unverified."""

    person: str
    method: str
    path: str
    """The request target as sent, query included."""
    body_sha256: str
    time: str
    nonce: str
    audience: str
    signature: str
    """128 hex characters."""

    def message(self) -> bytes:
        """The bytes that are signed."""
        return canonical(self.claims())

    def claims(self) -> dict[str, Json]:
        return {
            "audience": self.audience,
            "body_sha256": self.body_sha256,
            "method": self.method,
            "nonce": self.nonce,
            "path": self.path,
            "person": self.person,
            "time": self.time,
        }


class Approver(VerifiedPerson):
    """A registered person whose own credential verified over one command. Only `verify_signed` makes one."""

    __slots__ = ("_at", "_command", "_email", "_name")

    def __init__(self, person: Person, command: SignedCommand, at: datetime, *, witness: object) -> None:
        assert witness is _WITNESS, "an approver is made by verify_signed alone"
        self._name = person.name
        self._email = person.email
        self._command = command
        self._at = at

    @property
    def name(self) -> str:
        return self._name

    @property
    def email(self) -> str:
        return self._email

    @property
    def at(self) -> datetime:
        """When the command was verified."""
        return self._at

    @property
    def command(self) -> SignedCommand:
        """The command that was signed: its method and path say what the person agreed to."""
        return self._command

    def evidence(self) -> Mapping[str, Json]:
        """What a ledger entry keeps, so that the person's own signature can be checked years later."""
        return {"command": self._command.claims(), "signature": self._command.signature}

    def __repr__(self) -> str:
        return f"Approver({self._name!r})"


def sign_command(
    private_key: bytes, *, person: str, method: str, path: str, body: bytes, audience: str, now: datetime, nonce: str
) -> SignedCommand:
    """Sign one command on the person's side. `private_key` is the 32-byte seed; `nonce` is random, 16–64 characters."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    unsigned = SignedCommand(
        person=person,
        method=method.upper(),
        path=path,
        body_sha256=hashlib.sha256(body).hexdigest(),
        time=rfc3339(now),
        nonce=nonce,
        audience=audience,
        signature="",
    )
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(unsigned.message())
    return replace(unsigned, signature=signature.hex())


def encode_signed(signed: SignedCommand) -> str:
    """Write a signed command as the value of one HTTP header."""
    return base64.urlsafe_b64encode(canonical({**signed.claims(), "signature": signed.signature})).decode()


def parse_signed(header: str) -> SignedCommand:
    """Read what `encode_signed` wrote; `Rejected` (`governance.signature.malformed`) otherwise. Verifies nothing."""
    if len(header) > _MAX_HEADER:
        raise _malformed("longer than 4096 characters")
    try:
        fields: Any = msgspec.json.decode(base64.b64decode(header, altchars=b"-_", validate=True), type=dict[str, str])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _malformed("no base64url of a JSON object of strings") from None
    try:
        return SignedCommand(**fields)
    except TypeError:
        raise _malformed("its fields are not those of a signed command") from None


def verify_signed(
    unit: GovernanceUnit, signed: SignedCommand, *, method: str, path: str, body: bytes, audience: str
) -> Approver:
    """Prove that an active registered person signed exactly this command, now, for the first time.

    Run it in a unit of work of its own, before the command's: the nonce is then used up even when the command fails.
    An unknown person, an inactive one and a wrong signature cost the same and give the same answer.

    Raises `Rejected`: `governance.signature.refused`, `.mismatch` (another method, path, body or installation),
    `.stale` (more than 60 s away), `.replayed`, `.malformed`.
    """
    sent = _sent_at(signed)
    person = unit.governance.person(signed.person) if len(signed.person) <= 64 else None
    # 1. The same work for everybody: one look-up, one hash of the body, one verification.
    body_sha256 = hashlib.sha256(body).hexdigest()
    key = bytes.fromhex(person.public_key) if person is not None else _NOBODY
    genuine = _verifies(key, signed)
    bound = (
        signed.method == method.upper()
        and signed.path == path
        and signed.audience == audience
        and hmac.compare_digest(signed.body_sha256.encode(), body_sha256.encode())
    )
    # 2. Who: one answer for unknown, inactive and forged.
    if person is None or not person.active or not genuine:
        raise Rejected(
            "governance.signature.refused",
            "no active registered person signed this",
            next_step="sign with the key that was enrolled; `remit people ls` names who is registered",
        )
    # 3. What and when.
    if not bound:
        raise Rejected(
            "governance.signature.mismatch",
            "the signature covers another command",
            next_step="sign the method, path, body and installation of the very request that is sent",
        )
    if abs(unit.now - sent) > WINDOW:
        raise Rejected(
            "governance.signature.stale",
            "the command was signed more than 60 seconds from now",
            next_step="set the clock of the signing machine, and sign again",
        )
    # 4. Once. INVARIANT: a nonce is remembered for as long as its command could still pass step 3.
    unit.governance.prune_nonces(unit.now)
    if not unit.governance.burn_nonce(person.name, signed.nonce, sent + WINDOW):
        raise Rejected(
            "governance.signature.replayed", "this signed command was used before", next_step="sign it again"
        )
    return Approver(person, signed, unit.now, witness=_WITNESS)


def confirm(unit: GovernanceUnit, approver: Approver) -> Approver:
    """Return `approver` if the person is still active and the verification still fresh; `Denied` otherwise."""
    person = unit.governance.person(approver.name)
    if person is None or not person.active:
        raise Denied("governance.person.inactive", f"`{approver.name}` is no active registered person")
    if not timedelta(0) <= unit.now - approver.at <= APPROVER_LIFE:
        raise Denied(
            "governance.approver.stale", "the person's signature was verified too long ago", next_step="sign again"
        )
    return approver


def signed_by(public_key: bytes, signed: SignedCommand) -> bool:
    """Whether the key made the signature of this command, whenever that was: for evidence that is kept."""
    return _verifies(public_key, signed)


def require_public_key(text: str) -> str:
    """Return the key as 64 lower-case hex characters; `Rejected` (`governance.person.key`) for anything unfit."""
    lowered = text.strip().lower()
    if len(lowered) != 64 or not _HEX.fullmatch(lowered):
        raise Rejected("governance.person.key", "a public key is 64 hex characters (Ed25519)")
    raw = bytes.fromhex(lowered)
    if raw[:31] + bytes([raw[31] & 0x7F]) in _WEAK:
        raise Rejected("governance.person.key", "this public key is weak: anybody can sign under it")
    return lowered


def command_digest(approver: Approver) -> str:
    """`sha256:<hex>` of the command that the approver signed."""
    return digest(approver.command.claims())


def _sent_at(signed: SignedCommand) -> datetime:
    if not _NONCE.fullmatch(signed.nonce):
        raise _malformed("a nonce is 16–64 characters of A–Z, a–z, 0–9, `-` and `_`")
    try:
        return parse_rfc3339(signed.time)
    except (ValueError, OverflowError):
        raise _malformed("its time is no RFC 3339 time") from None


def _verifies(key: bytes, signed: SignedCommand) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    well_formed = len(signed.signature) == 128 and _HEX.fullmatch(signed.signature) is not None
    signature = bytes.fromhex(signed.signature) if well_formed else bytes(64)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed.message())
    except (InvalidSignature, ValueError):
        return False
    return well_formed


def _malformed(why: str) -> Rejected:
    return Rejected("governance.signature.malformed", f"the signature header cannot be read: {why}")
