"""The `SSHSIG` format: signatures by SSH keys that can be mistaken for nothing else that such a key signs.

A host key signs session hashes; the magic and the namespace keep our statements apart from them. `ssh-keygen -Y sign`
makes the same.

Spec: OpenSSH PROTOCOL.sshsig; RFC 4253 §6.6, RFC 5656 §3.1.2, RFC 8332 §3, RFC 8709 §6.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from remit.trust.attestors.payload import malformed, mismatch

_RSA = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
_EC: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "secp256r1": ("ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": ("ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": ("ecdsa-sha2-nistp521", hashes.SHA512()),
}


def verify_sshsig(key: object, signature: bytes, message: bytes, *, namespace: str) -> None:
    """Check the inner signature of an SSHSIG (SHA-512 of the message) by a host's key.

    Raises `Rejected` (`trust.proof.malformed`, `.mismatch`).
    """
    algorithm, rest = take(signature)
    raw, rest = take(rest)
    if rest:
        raise malformed("bytes follow the signature")
    try:
        _verify(key, algorithm.decode("ascii", errors="replace"), raw, signed_bytes(message, namespace=namespace))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise mismatch("the signature is not the host key's over this question") from None


def sign_sshsig(key: object, message: bytes, *, namespace: str) -> bytes | None:
    """The inner signature, or `None` with a key of a kind that is not accepted."""
    data = signed_bytes(message, namespace=namespace)
    if isinstance(key, Ed25519PrivateKey):
        return _string(b"ssh-ed25519") + _string(key.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        return _string(b"rsa-sha2-512") + _string(key.sign(data, padding.PKCS1v15(), hashes.SHA512()))
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _EC:
        name, digest = _EC[key.curve.name]
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return _string(name.encode()) + _string(_mpint(r) + _mpint(s))
    return None


def signed_bytes(message: bytes, *, namespace: str) -> bytes:
    """What the key itself signs."""
    parts = (namespace.encode(), b"", b"sha512", hashlib.sha512(message).digest())
    return b"SSHSIG" + b"".join(_string(part) for part in parts)


def take(blob: bytes) -> tuple[bytes, bytes]:
    """The first string of an SSH message, and what follows it; `Rejected` (`trust.proof.malformed`)."""
    size = int.from_bytes(blob[:4], "big")
    if len(blob) < 4 or len(blob) - 4 < size:
        raise malformed("an SSH message in it is cut short")
    return blob[4 : 4 + size], blob[4 + size :]


def _verify(key: object, algorithm: str, raw: bytes, data: bytes) -> None:
    if isinstance(key, Ed25519PublicKey) and algorithm == "ssh-ed25519":
        key.verify(raw, data)
    elif isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA:
        key.verify(raw, data, padding.PKCS1v15(), _RSA[algorithm])
    elif isinstance(key, ec.EllipticCurvePublicKey) and _EC.get(key.curve.name, ("", None))[0] == algorithm:
        r, rest = take(raw)
        s, rest = take(rest)
        if rest or max(len(r), len(s)) > 67:
            raise malformed("its ECDSA signature is none")
        numbers = (int.from_bytes(r, "big", signed=True), int.from_bytes(s, "big", signed=True))
        key.verify(encode_dss_signature(*numbers), data, ec.ECDSA(_EC[key.curve.name][1]))
    else:
        raise malformed("its signature is of a kind that its key does not make, or that is not accepted")


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _mpint(value: int) -> bytes:
    return _string(value.to_bytes(value.bit_length() // 8 + 1, "big"))
