"""Certificates that an operator trusts to name machines, and the path from a machine's certificate to one of them.

Spec: RFC 5280 §6.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from remit.trust.attestors.payload import expired, malformed, unconfigured, untrusted

if TYPE_CHECKING:
    from cryptography.x509.verification import ExtensionPolicy, Policy

MAX_INTERMEDIATES = 7
MAX_ANCHORS = 256
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192


class Anchors:
    """A set of CA certificates for one attestor.

    `pem` is a file's content, one or more certificates. Raises `Misconfigured` (`trust.attestor.anchors`) when there is
    none in it, or one that is no CA: an end certificate among the anchors would vouch for itself.
    """

    def __init__(self, attestor: str, pem: bytes) -> None:
        self._attestor = attestor
        self._roots = self._read(pem)

    def path(self, leaf: bytes, intermediates: Sequence[bytes], now: datetime) -> list[x509.Certificate]:
        """The certificates from this leaf (DER) to an anchor, each valid `now` and fit to sign the one before it.

        The leaf is no CA and may sign no certificates; names and extended usage are for the caller to judge.
        Raises `Rejected` (`trust.proof.malformed`, `.expired`, `.untrusted`).
        """
        from cryptography.x509 import verification as v

        certificate, others = read_certificate(leaf), [read_certificate(one) for one in intermediates]
        require_end(certificate)
        require_in_time(certificate, now)
        builder = v.PolicyBuilder().store(v.Store(self._roots)).time(now).max_chain_depth(MAX_INTERMEDIATES)
        builder = builder.extension_policies(ca_policy=_ca_policy(), ee_policy=v.ExtensionPolicy.permit_all())
        try:
            return list(builder.build_client_verifier().verify(certificate, others).chain)
        except (v.VerificationError, ValueError, TypeError, x509.DuplicateExtension) as error:
            raise untrusted("no path of certificates leads from it to a configured CA") from error

    def _read(self, pem: bytes) -> list[x509.Certificate]:
        try:
            found = x509.load_pem_x509_certificates(pem)
            are_cas = all(_is_ca(one) for one in found)
        except (ValueError, x509.DuplicateExtension):
            raise unconfigured(self._attestor, "its CA file holds no readable PEM certificates") from None
        if not are_cas or len(found) > MAX_ANCHORS:
            raise unconfigured(self._attestor, f"its CA file holds one that is no CA, or more than {MAX_ANCHORS}")
        return found


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate with a key that we verify by: EC on a NIST curve, or RSA of 2,048 to 8,192 bits."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        len(certificate.extensions)
        _ = certificate.subject, certificate.issuer, certificate.signature_hash_algorithm
    except (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion):
        raise malformed("a certificate in it is none") from None
    except UnsupportedAlgorithm:
        raise malformed("a certificate in it has a key or signature of a kind that is not accepted") from None
    require_key(key)
    return certificate


def require_key(key: object) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Refuse keys that prove nothing, or cost too much to verify by."""
    if isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        if key.public_numbers().e < 2**33:
            return key
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
        return key
    raise malformed("a key in it is neither RSA of 2,048 to 8,192 bits nor EC on a NIST curve")


def require_end(certificate: x509.Certificate) -> None:
    """Refuse a CA, which names nobody."""
    usage = _extension(certificate, x509.KeyUsage)
    if _is_ca(certificate) or (isinstance(usage, x509.KeyUsage) and (usage.key_cert_sign or usage.crl_sign)):
        raise untrusted("the certificate is a CA's, which names no machine")


def require_in_time(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse one whose time is over or has not come."""
    if now < certificate.not_valid_before_utc:
        raise expired("its certificate is not valid yet")
    if now >= certificate.not_valid_after_utc:
        raise expired("its certificate has expired")


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, in hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def spki(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    """DER of the SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _is_ca(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return isinstance(constraints, x509.BasicConstraints) and constraints.ca


def _extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _ca_policy() -> ExtensionPolicy:
    """What a CA on the path must say of itself; path length and name constraints are the verifier's own business."""
    from cryptography.x509 import verification as v

    policy = v.ExtensionPolicy.permit_all()
    policy = policy.require_present(x509.BasicConstraints, v.Criticality.AGNOSTIC, _require_ca)
    return policy.may_be_present(x509.KeyUsage, v.Criticality.AGNOSTIC, _require_signer)


def _require_ca(policy: Policy, certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("it is no CA")


def _require_signer(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("it may not sign certificates")
