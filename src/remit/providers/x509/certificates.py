"""A client authority of one target: short certificates, and the list of those that it revoked.

Whatever stands for a lease (its key, its serial) comes out of the lease's secret: it can be revoked though all else
was lost.

Spec: RFC 5280 §4.1, §4.2, §5.1, §5.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_MIN_RSA_BITS = 2048
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]{3,40})-----([A-Za-z0-9+/=\s]+)-----END \1-----")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAuthority:
    """The certificate and the key of an authority that signs clients of one target, and nothing else."""

    certificate: x509.Certificate
    key: Any = field(repr=False)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def ends(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def canary(self) -> int:
        """A serial that is on every list of this authority, and on no certificate that anybody gets."""
        return _serial(b"canary", self.certificate.fingerprint(hashes.SHA256()))


def read_authority(text: str) -> ClientAuthority:
    """Read a certificate and its key in PEM, with spaces or lines between. `ValueError` never says any of it."""
    blocks = dict(map(_block, _BLOCK.findall(text)))
    try:
        certificate = x509.load_pem_x509_certificate(blocks["CERTIFICATE"])
    except (ValueError, KeyError):
        raise ValueError("it holds no certificate") from None
    try:
        [private] = [body for label, body in blocks.items() if label.endswith("PRIVATE KEY")]
        key = load_pem_private_key(private, password=None)
    except (ValueError, TypeError):
        raise ValueError("it holds no private key, or one under a password") from None
    _check_authority(certificate, key)
    return ClientAuthority(certificate=certificate, key=key)


def client_key(secret: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key that stands for a lease's secret."""
    wide = hashlib.sha512(b"remit x509 client key\0" + secret.encode()).digest()
    # 256 bits more than the order: no number is more likely than another (FIPS 186-5, A.2.1).
    return ec.derive_private_key(int.from_bytes(wide, "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def private_pem(key: Any) -> str:
    """As OpenSSL, libpq and Go read it."""
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def serial_of(principal: str, secret: str) -> int:
    """128 bits that nobody guesses who has not the secret."""
    return _serial(principal.encode(), secret.encode())


def issue(
    authority: ClientAuthority,
    *,
    principal: str,
    unit: str,
    uri: str,
    key: Any,
    serial: int,
    begins: datetime,
    ends: datetime,
) -> str:
    """A certificate in PEM for logins of a client: `principal` is its common name, `unit` its organisational unit."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"urn:remit:lease:{principal}")]
    if uri:
        names.append(x509.UniformResourceIdentifier(uri))
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, principal),
        ]
    )
    public = authority.certificate.public_key()
    builder = (
        x509.CertificateBuilder(authority.certificate.subject, subject, key.public_key(), serial)
        .not_valid_before(begins)
        .not_valid_after(min(ends, authority.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)  # type: ignore[arg-type]
    )
    return builder.sign(authority.key, _digest(authority.key)).public_bytes(Encoding.PEM).decode()


def revocation_list(
    authority: ClientAuthority, serials: Iterable[int], *, number: int, now: datetime, lasts: timedelta
) -> bytes:
    """The list in PEM: `serials` and the canary; good for `lasts`."""
    public = authority.certificate.public_key()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - timedelta(minutes=5))
        .next_update(min(now + lasts, authority.ends))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)  # type: ignore[arg-type]
    )
    for serial in sorted({*serials, authority.canary}):
        revoked = x509.RevokedCertificateBuilder(serial, now - timedelta(seconds=1)).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(authority.key, _digest(authority.key)).public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A list whose signature was verified."""

    serials: frozenset[int]
    number: int
    next_update: datetime


def read_revocation_list(pem: bytes, authority: ClientAuthority) -> RevocationList | None:
    """What the list says, or None where it is none of this authority."""
    try:
        found = x509.load_pem_x509_crl(pem)
        if not found.is_signature_valid(authority.certificate.public_key()):  # type: ignore[arg-type]
            return None
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return None
    ends = found.next_update_utc or datetime.fromtimestamp(0, UTC)
    return RevocationList(serials=frozenset(one.serial_number for one in found), number=number, next_update=ends)


def _serial(*parts: bytes) -> int:
    digest = hashlib.sha256(b"remit x509 serial\0" + b"\0".join(parts)).digest()
    # Positive, never 0, and always of 16 octets.
    return int.from_bytes(digest[:16], "big") & (1 << 127) - 1 | 1 << 126


def _block(found: tuple[str, str]) -> tuple[str, bytes]:
    label, body = found
    return label, f"-----BEGIN {label}-----\n{''.join(body.split())}\n-----END {label}-----\n".encode()


def _check_authority(certificate: x509.Certificate, key: Any) -> None:
    public = key.public_key()
    weak = not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) or (
        isinstance(key, rsa.RSAPrivateKey) and key.key_size < _MIN_RSA_BITS
    )
    if weak:
        raise ValueError("its key is not of ECDSA, Ed25519, or RSA of 2048 bits and more")
    if public != certificate.public_key():
        raise ValueError("the private key is not of the certificate")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise ValueError("the certificate says no basicConstraints or no keyUsage") from None
    if not constraints.ca or not usage.key_cert_sign or not usage.crl_sign:
        raise ValueError("the certificate may not sign certificates and lists (keyCertSign, cRLSign)")
    if any(name.startswith("spiffe:") for name in _uris(certificate)):
        raise ValueError("it is an authority of a trust domain: make one for this target alone")


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _digest(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _usage(bit: str) -> x509.KeyUsage:
    bits = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{one: one == bit for one in bits})
