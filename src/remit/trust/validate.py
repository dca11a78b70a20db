"""Verify an X.509-SVID that a peer presents: path, profile, and the trust domain that it may speak for.

Spec: X509-SVID §4 (constraints) and §5 (validation); RFC 5280 §6.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from remit.kernel.errors import Rejected
from remit.trust.bundle import Bundle
from remit.trust.model import PresentedSvid
from remit.trust.name_constraints import within
from remit.trust.spiffe import SpiffeId, TrustDomain

MAX_CHAIN = 8
MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_SIGNATURES = 32
"""How many signatures one chain may cost: who sends many certificates of one name gets no further."""
BundleOf = Callable[[TrustDomain], Bundle | None]
E = TypeVar("E", bound=x509.ExtensionType)
_PURPOSES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
_ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LEAST_RSA_BITS = 2048
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_LEAF_EXTENSIONS = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
# Any policy is good enough for us, so that a CA may state its own, but not demand that we weigh them.
_CA_EXTENSIONS = _LEAF_EXTENSIONS | {ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES}


def validate_x509_svid(chain: Sequence[bytes], bundle_of: BundleOf, now: datetime) -> PresentedSvid:
    """Verify the DER certificates that a peer sent, leaf first, and return whom the leaf names.

    1. the leaf has exactly one URI SAN, a SPIFFE ID with a path; cA is false; keyUsage is critical, has
    digitalSignature, neither keyCertSign nor cRLSign; extKeyUsage, where there is one, has serverAuth and clientAuth;
    2. a path of certificates that are valid `now` leads from it to a root of the bundle of *that* trust domain. Each CA
    on it may sign certificates, for these purposes, these names, and so many CAs below it; keys and digests are strong,
    and no critical extension is left that nobody here understands. A bundle of another domain is never looked at.
    Whoever calls must know that the peer holds the leaf's key (TLS), and asks the revocations besides.

    Raises `Rejected` (`trust.x509_svid.malformed`, `.foreign`, `.expired`, `.untrusted`).
    """
    certificates = [_read(der) for der in _bounded(chain)]
    leaf = certificates[0]
    spiffe_id = identity_of(leaf)
    _check_leaf(leaf)
    bundle = bundle_of(spiffe_id.trust_domain)
    if bundle is None:
        raise Rejected("trust.x509_svid.foreign", f"we hold no bundle of the trust domain `{spiffe_id.trust_domain}`")
    _check_time(leaf, now)
    search = _Search(tuple(_anchors(bundle)), spiffe_id.trust_domain, now)
    if not search.reaches((leaf,), certificates[1:]):
        raise Rejected(
            "trust.x509_svid.untrusted", f"no root of `{spiffe_id.trust_domain}` vouches for the certificate"
        )
    return PresentedSvid(
        spiffe_id=spiffe_id,
        certificate=chain[0],
        serial=leaf.serial_number,
        thumbprint=thumbprint(chain[0]),
        issued=leaf.not_valid_before_utc,
        expires=leaf.not_valid_after_utc,
    )


def thumbprint(der: bytes) -> str:
    """`x5t#S256` of a certificate (RFC 8705 §3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def identity_of(leaf: x509.Certificate) -> SpiffeId:
    """The SPIFFE ID of a leaf, which is its one URI SAN. `Rejected` (`trust.x509_svid.malformed`)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, *_UNREADABLE):
        uris = []
    if len(uris) != 1:
        raise _malformed(f"it has {len(uris)} URI names instead of one")
    try:
        return SpiffeId.parse(uris[0])
    except Rejected as error:
        raise _malformed(error.message) from error


def _bounded(chain: Sequence[bytes]) -> Sequence[bytes]:
    if not 1 <= len(chain) <= MAX_CHAIN or any(len(der) > MAX_CERTIFICATE_BYTES for der in chain):
        raise _malformed(f"it comes with no certificate, more than {MAX_CHAIN}, or one above 16 KiB")
    return chain


def _read(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        strong = _is_strong(certificate.public_key()) and isinstance(certificate.signature_hash_algorithm, _DIGESTS)
        # These are read when they are first asked for: here, so that nothing below can stumble over them.
        _ = (certificate.issuer, certificate.subject, certificate.serial_number, len(certificate.extensions))
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except _UNREADABLE as error:
        raise _malformed("a certificate cannot be read") from error
    if not strong:
        raise _malformed("a certificate has a key or a digest that is too weak, or of a kind that is not used")
    if certificate.serial_number <= 0:
        raise _malformed("a certificate has a serial number that is not positive")
    return certificate


def _anchors(bundle: Bundle) -> Iterator[x509.Certificate]:
    """The roots that can be relied on: one that cannot vouches for nobody, and keeps nobody out."""
    for der in bundle.x509_roots:
        try:
            yield _read(der)
        except Rejected:
            continue


def _is_strong(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _LEAST_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)


def _check_leaf(leaf: x509.Certificate) -> None:
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise _malformed("it is a CA, which never authenticates")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.critical or not usage.value.digital_signature:
        raise _malformed("its key usage is missing, not critical, or without digitalSignature")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise _malformed("its key may sign certificates or revocation lists")
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    if extended is not None and not set(extended.value) >= _PURPOSES:
        raise _malformed("its extended key usage lacks serverAuth or clientAuth")
    if _demands(leaf) - _LEAF_EXTENSIONS:
        raise _malformed("it has a critical extension that is not understood")


@dataclass(slots=True)
class _Search:
    """Looks for a way from a leaf up to an anchor, through the certificates that came with it."""

    anchors: Sequence[x509.Certificate]
    domain: TrustDomain
    now: datetime
    signatures: int = 0

    def reaches(self, path: tuple[x509.Certificate, ...], unused: Sequence[x509.Certificate]) -> bool:
        """Whether an anchor ends `path` (leaf first); each step uses one certificate up, so that it ends."""
        if any(self._may_issue(path, anchor) for anchor in self.anchors):
            return True
        return any(
            self._may_issue(path, one) and self.reaches((*path, one), [other for other in unused if other is not one])
            for one in unused
        )

    def _may_issue(self, path: tuple[x509.Certificate, ...], issuer: x509.Certificate) -> bool:
        """Whether the issuer signed the last certificate of `path`, and may stand above all of it."""
        if issuer.subject != path[-1].issuer:
            return False
        self.signatures += 1
        if self.signatures > MAX_SIGNATURES:
            raise _malformed(f"it takes more than {MAX_SIGNATURES} signatures to follow its chain")
        limits = _extension(issuer, x509.NameConstraints)
        if limits is not None and not all(within(limits.value, one) for one in path):
            return False
        return issued_by(path[-1], issuer, len(path) - 1, self.domain, self.now)


def issued_by(
    child: x509.Certificate, issuer: x509.Certificate, depth: int, domain: TrustDomain, now: datetime
) -> bool:
    """Whether a CA, valid `now` and fit to have `depth` CAs below it, signed the certificate.

    Its name constraints are held against `child` alone: whoever walks a path asks for what is further below.
    """
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc or not _is_fit(issuer, depth, domain):
        return False
    limits = _extension(issuer, x509.NameConstraints)
    if limits is not None and child != issuer and not within(limits.value, child):
        return False
    try:
        child.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature):
        return False
    return True


def _is_fit(issuer: x509.Certificate, depth: int, domain: TrustDomain) -> bool:
    """Whether a certificate is a CA for SVIDs of `domain` with `depth` CAs below it."""
    constraints, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    if constraints is None or not constraints.value.ca or (usage is not None and not usage.value.key_cert_sign):
        return False
    length, extended = constraints.value.path_length, _extension(issuer, x509.ExtendedKeyUsage)
    if length is not None and depth > length:
        return False
    if extended is not None and not (set(extended.value) >= _PURPOSES or _ANY_PURPOSE in extended.value):
        return False
    return not _demands(issuer) - _CA_EXTENSIONS and _speaks_for(issuer, domain)


def _speaks_for(issuer: x509.Certificate, domain: TrustDomain) -> bool:
    """A CA that has a SPIFFE ID has that of the trust domain itself, without a path."""
    names = _extension(issuer, x509.SubjectAlternativeName)
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    return not any(uri.lower().startswith("spiffe:") and uri != domain.id for uri in uris)


def _demands(certificate: x509.Certificate) -> frozenset[ObjectIdentifier]:
    """The critical extensions: who does not understand one of them must refuse the certificate (RFC 5280 §4.2)."""
    return frozenset(one.oid for one in certificate.extensions if one.critical)


def _check_time(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise Rejected("trust.x509_svid.expired", "the certificate is not valid yet", next_step="compare the clocks")
    if now >= certificate.not_valid_after_utc:
        raise Rejected("trust.x509_svid.expired", "the certificate has expired", next_step="fetch a new SVID")


def _extension(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _malformed(why: str) -> Rejected:
    return Rejected("trust.x509_svid.malformed", f"this is no X.509-SVID that we accept: {why}")
