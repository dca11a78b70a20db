"""CA certificates: the self-signed root of a trust domain, and intermediates that an upstream signs for it.

An intermediate is held to its trust domain three times: its SPIFFE ID is that of the domain, a critical name constraint
permits URIs of the domain alone, and its path length says how many CAs may be below it.

Spec: X509-SVID §3.2, §4.1 and §4.2; RFC 5280 §4.2.1.9 and §4.2.1.10; RFC 2986.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from remit.kernel.errors import Misconfigured, Rejected
from remit.trust.authority.x509 import BACKDATED
from remit.trust.spiffe import TrustDomain
from remit.trust.validate import issued_by

CaKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CURVES: Final[Mapping[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
MAX_REQUEST_BYTES: Final = 8 * 1024
MAX_CHAIN: Final = 6
"""Certificates of an upstream, ours included; a verifier takes eight with the leaf."""
LEAST_LIFETIME: Final = timedelta(minutes=1)
"""An intermediate that ends sooner is of no use: nothing could be issued and renewed under it."""
_USAGE = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


def make_key(curve: str) -> ec.EllipticCurvePrivateKey:
    """A new key on `P-256` or `P-384`; `Misconfigured` (`trust.authority.curve`) for another name."""
    if curve not in CURVES:
        raise Misconfigured(
            "trust.authority.curve", f"`{curve[:40]}` is no curve of authorities", next_step="use P-256 or P-384"
        )
    return ec.generate_private_key(CURVES[curve])


def digest_for(key: CaKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that a CA of this key signs with: SHA-384 on P-384, SHA-256 otherwise."""
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256 else hashes.SHA256()


def make_root(
    trust_domain: TrustDomain, key: ec.EllipticCurvePrivateKey, *, serial: int, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """Sign a root for `trust_domain` with its own key; its subject is unique, so that overlapping roots never mix."""
    subject, public = _subject(serial), key.public_key()
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=public, serial_number=serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_own_name(trust_domain), critical=False)
    )
    return builder.sign(key, digest_for(key))


def make_request(trust_domain: TrustDomain, key: ec.EllipticCurvePrivateKey, *, serial: int) -> bytes:
    """The DER of a PKCS#10 request for an intermediate of `trust_domain`; it asks for all that the profile holds."""
    builder = (
        x509.CertificateSigningRequestBuilder(subject_name=_subject(serial))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(_own_name(trust_domain), critical=False)
    )
    limits = _limits(trust_domain)
    if limits is not None:
        builder = builder.add_extension(limits, critical=True)
    return builder.sign(key, digest_for(key)).public_bytes(Encoding.DER)


def read_request(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a PKCS#10 request whose own signature holds; nothing else in it counts.

    Raises `Rejected` (`trust.request.malformed`): too large, not signed by its key, or no key on P-256 or P-384.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise _malformed(f"it is larger than {MAX_REQUEST_BYTES} bytes")
    try:
        found = x509.load_der_x509_csr(request)
        public, signed = found.public_key(), found.is_signature_valid
    except (ValueError, TypeError, InvalidSignature):
        raise _malformed("it cannot be read") from None
    if not signed:
        raise _malformed("its signature does not hold")
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _names():
        raise _malformed("its key is not on P-256 or P-384")
    return public


def sign_intermediate(
    request: bytes,
    *,
    trust_domain: TrustDomain,
    issuer: x509.Certificate,
    key: CaKey,
    serial: int,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Sign an intermediate for the key of `request`, below `issuer`: no CA below it, and URIs of the domain alone.

    It never outlives its issuer. Raises `Rejected` (`trust.request.malformed`).
    """
    public = read_request(request)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder(
            subject_name=_subject(serial), issuer_name=issuer.subject, public_key=public, serial_number=serial
        )
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + lifetime, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(_own_name(trust_domain), critical=False)
    )
    limits = _limits(trust_domain)
    if limits is not None:
        builder = builder.add_extension(limits, critical=True)
    return builder.sign(key, digest_for(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class CaChain:
    """An intermediate that we may sign with, verified up to its root."""

    certificates: tuple[bytes, ...]
    """DER, ours first, the root last; at least two."""
    expires: datetime
    """When the first of them ends."""


def verify_chain(
    chain: Sequence[bytes], public: ec.EllipticCurvePublicKey, *, trust_domain: TrustDomain, now: datetime
) -> CaChain:
    """Verify what an upstream signed: our own key, a CA held to our trust domain, each signed by the next, a root last.

    A chain of an upstream is looked at as closely as a stranger's: what we publish rests on it.
    Raises `Rejected` (`trust.upstream.unfit`) with the reason.
    """
    if not 2 <= len(chain) <= MAX_CHAIN:
        raise _unfit(f"it sent {len(chain)} certificates instead of 2 to {MAX_CHAIN}")
    try:
        certificates = [x509.load_der_x509_certificate(one) for one in chain]
        ours, root = certificates[0], certificates[-1]
        if ours.public_key() != public:
            raise _unfit("the certificate is not for the key that was asked for")
        _check_profile(ours, trust_domain)
        pairs = pairwise(certificates)
        # The leaf below ours is at depth 0: ours is the first CA above it.
        fits = all(issued_by(low, high, depth + 1, trust_domain, now) for depth, (low, high) in enumerate(pairs))
        rooted = issued_by(root, root, len(certificates) - 1, trust_domain, now)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.ExtensionNotFound):
        raise _unfit("a certificate cannot be read, or one that signed is none of a CA") from None
    if not fits or not rooted:
        raise _unfit("the certificates do not lead from ours to a root, each signed by the next and fit to")
    expires = min(one.not_valid_after_utc for one in certificates)
    if expires - now < LEAST_LIFETIME:
        raise _unfit("the intermediate, or what is above it, ends within a minute")
    return CaChain(certificates=tuple(chain), expires=expires)


def _check_profile(ours: x509.Certificate, trust_domain: TrustDomain) -> None:
    try:
        constraints = ours.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = ours.extensions.get_extension_for_class(x509.KeyUsage).value
        names = ours.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ours.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise _unfit(f"our certificate lacks the extension {error.oid.dotted_string}") from None
    if not constraints.ca or not usage.key_cert_sign:
        raise _unfit("our certificate is none of a CA")
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [trust_domain.id]:
        raise _unfit(f"our certificate does not name `{trust_domain.id}`")


def _subject(serial: int) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Remit"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}"),
        ]
    )


def _own_name(trust_domain: TrustDomain) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(trust_domain.id)])


def _limits(trust_domain: TrustDomain) -> x509.NameConstraints | None:
    """URIs of the domain alone. A domain that reads as an address has none: RFC 5280 refuses every such URI then."""
    try:
        ipaddress.ip_address(trust_domain.name)
    except ValueError:
        return x509.NameConstraints([x509.UniformResourceIdentifier(trust_domain.name)], None)
    return None


def _names() -> frozenset[str]:
    return frozenset(curve.name for curve in CURVES.values())


def _malformed(why: str) -> Rejected:
    return Rejected("trust.request.malformed", f"this is no certificate request that we sign: {why}")


def _unfit(why: str) -> Rejected:
    return Rejected(
        "trust.upstream.unfit",
        f"what the upstream authority signed cannot be used: {why}",
        next_step="correct the upstream's role or issuer; the authority before it goes on signing",
    )
