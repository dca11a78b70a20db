"""Signatures by the keys of machines: which algorithms count, and how they are checked and made.

RSA is PSS or PKCS #1 v1.5 with SHA-256 or longer; EC is ECDSA with a digest of at least 256 bits, DER-encoded.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from remit.trust.attestors.payload import malformed, mismatch

PSS = "rsa-pss-sha256"
ECDSA = {
    "secp256r1": ("ecdsa-sha256", hashes.SHA256()),
    "secp384r1": ("ecdsa-sha384", hashes.SHA384()),
    "secp521r1": ("ecdsa-sha512", hashes.SHA512()),
}
"""For each curve the one algorithm that its keys sign by."""


def verify_signature(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, algorithm: str, signature: bytes, message: bytes
) -> None:
    """Check a signature that a prover made; the key decides which algorithm it must be.

    Raises `Rejected` (`trust.proof.malformed`, `.mismatch`).
    """
    expected = PSS if isinstance(key, rsa.RSAPublicKey) else ECDSA[key.curve.name][0]
    if algorithm != expected:
        raise malformed(f"its key signs by `{expected}` alone")
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, _pss(), hashes.SHA256())
        else:
            key.verify(signature, message, ec.ECDSA(ECDSA[key.curve.name][1]))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise mismatch("the signature is not the key's over this question") from None


def sign(key: object, message: bytes) -> tuple[str, bytes] | None:
    """Sign as `verify_signature` expects it: algorithm and signature, or `None` with a key of another kind."""
    if isinstance(key, rsa.RSAPrivateKey):
        return PSS, key.sign(message, _pss(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in ECDSA:
        name, digest = ECDSA[key.curve.name]
        return name, key.sign(message, ec.ECDSA(digest))
    return None


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
