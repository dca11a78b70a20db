"""Certificates of every shape, right and wrong, made by `cryptography`'s own builder: for tests of who refuses what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
"""Near the true time, so that other verifiers, who know no other, agree on it."""
HOUR = timedelta(hours=1)
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_BITS = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
_counter = iter(range(1, 1_000_000))


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def usage(*bits: str) -> x509.KeyUsage:
    """A key usage of these bits alone."""
    return x509.KeyUsage(**{bit: bit in bits for bit in _BITS})


def uris(*names: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(name) for name in names]


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def certificate(
    *,
    issuer: Made | None,
    name: str,
    names: Sequence[x509.GeneralName] = (),
    ca: bool | None = False,
    path_length: int | None = None,
    key_usage: x509.KeyUsage | None,
    usage_critical: bool = True,
    extended: Sequence[x509.ObjectIdentifier] | None = BOTH,
    begins: datetime = NOW - HOUR,
    ends: datetime = NOW + HOUR,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    key: Any = None,
    digest: hashes.HashAlgorithm | None = None,
) -> Made:
    """One certificate exactly as asked, signed by `issuer` or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    above = issuer or Made(None, key)  # type: ignore[arg-type]
    issued_by = above.certificate.subject if issuer else subject(name)
    builder = (
        x509.CertificateBuilder(issued_by, subject(name), key.public_key(), next(_counter))
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.key.public_key()), critical=False)
    )
    if ca is not None:
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        builder = builder.add_extension(constraints, critical=True)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=usage_critical)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not name)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    return Made(builder.sign(above.key, digest or hashes.SHA256()), key)


def root(domain: str = "remit.test", **settings: Any) -> Made:
    """A root of `domain`, as X509-SVID §4 has a signing certificate."""
    defaults: dict[str, Any] = {
        "issuer": None, "name": f"root {domain} {next(_counter)}", "names": uris(f"spiffe://{domain}"), "ca": True,
        "key_usage": usage("key_cert_sign", "crl_sign"), "extended": None,
    }  # fmt: skip
    return certificate(**{**defaults, **settings})


def intermediate(issuer: Made, domain: str = "remit.test", **settings: Any) -> Made:
    """A signing certificate below `issuer`."""
    return root(domain, **{"issuer": issuer, "name": f"intermediate {next(_counter)}", **settings})


def leaf(issuer: Made, spiffe_id: str = "spiffe://remit.test/job", **settings: Any) -> Made:
    """An X.509-SVID, unless the settings make it another."""
    defaults: dict[str, Any] = {
        "issuer": issuer, "name": "workload", "names": uris(spiffe_id), "key_usage": usage("digital_signature"),
    }  # fmt: skip
    return certificate(**{**defaults, **settings})
