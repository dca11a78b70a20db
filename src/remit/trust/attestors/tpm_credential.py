"""TPM2_MakeCredential, in software: a secret that only the TPM with the endorsement key can open, and only if the
attestation key of that name lives in the same TPM.

Spec: TPM 2.0 Library, Part 1 (Architecture) rev. 1.59, §11.4.10.2 (KDFa), §11.4.10.3 (KDFe), §24, B.10.4, C.6.4.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from remit.trust.attestors.tpm_structures import Public

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the TPM is given."""

    blob: bytes
    """TPM2B_ID_OBJECT."""
    secret: bytes
    """TPM2B_ENCRYPTED_SECRET."""


def make_credential(
    endorsement: Public, name: bytes, credential: bytes, *, random: Callable[[int], bytes]
) -> Credential:
    """Encrypt `credential` (at most a digest of the endorsement key's size) to this key and this object's name."""
    digest = _HASHES[endorsement.name_hash]()
    assert 0 < len(credential) <= digest.digest_size
    assert endorsement.symmetric_bits, "an endorsement key protects by AES"
    if isinstance(endorsement.key, rsa.RSAPublicKey):
        seed = random(digest.digest_size)
        oaep = padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=b"IDENTITY\0")
        secret = _sized(endorsement.key.encrypt(seed, oaep))
    else:
        seed, point = _agree(endorsement.key, digest)
        secret = _sized(point)
    bits = endorsement.symmetric_bits
    cipher_key = kdfa(endorsement.name_hash, seed, "STORAGE", name, bits=bits)
    mac_key = kdfa(endorsement.name_hash, seed, "INTEGRITY", b"", bits=digest.digest_size * 8)
    identity = _aes_cfb(cipher_key, _sized(credential))
    mac = hmac.digest(mac_key, identity + name, endorsement.name_hash)
    return Credential(blob=_sized(_sized(mac) + identity), secret=secret)


def kdfa(name_hash: str, key: bytes, label: str, context: bytes, *, bits: int) -> bytes:
    """KDFa with an empty second context; `bits` is a multiple of 8."""
    derived, counter = b"", 0
    while len(derived) * 8 < bits:
        counter += 1
        text = counter.to_bytes(4, "big") + label.encode() + b"\0" + context + bits.to_bytes(4, "big")
        derived += hmac.digest(key, text, name_hash)
    return derived[: bits // 8]


def _agree(key: ec.EllipticCurvePublicKey, digest: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """A seed by one-pass ECDH (KDFe over the x coordinates), and the ephemeral point that goes with it."""
    ephemeral = ec.generate_private_key(key.curve)
    size = (key.curve.key_size + 7) // 8
    ours, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    x = ours.x.to_bytes(size, "big")
    info = b"IDENTITY\0" + x + theirs.x.to_bytes(size, "big")
    shared = ephemeral.exchange(ec.ECDH(), key)
    seed = ConcatKDFHash(digest, digest.digest_size, info).derive(shared)
    return seed, _sized(x) + _sized(ours.y.to_bytes(size, "big"))


def _aes_cfb(key: bytes, text: bytes) -> bytes:
    """AES in 128-bit cipher feedback, from a zero vector: each key serves once. (NIST SP 800-38A §6.3.)"""
    block, sealed = Cipher(AES(key), ECB()).encryptor(), bytearray()  # noqa: S305 (one block at a time, inside CFB)
    feedback = bytes(16)
    for at in range(0, len(text), 16):
        mask = block.update(feedback)
        feedback = bytes(t ^ m for t, m in zip(text[at : at + 16], mask, strict=False))
        sealed += feedback
    return bytes(sealed)


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content
