"""Certificate revocation lists: version 2, one for each X.509 authority, written as DER directly.

A list of ten thousand serials is made anew at each revocation, so it is written by hand as the leaves are; a test holds
it to the general builder, byte for byte but for the signature.

Spec: RFC 5280 §5; RFC 5758 §3.2; SPIFFE Workload API §5.2.1 (`crl`).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from remit.trust.authority import der
from remit.trust.revocation.model import Fallen

LIFETIME = timedelta(minutes=10)
"""How long a verifier may go on with a list that it holds."""
REFRESH = LIFETIME / 2
_SIGNATURES = {
    "secp256r1": (ec.ECDSA(hashes.SHA256()), bytes.fromhex("300a06082a8648ce3d040302")),
    "secp384r1": (ec.ECDSA(hashes.SHA384()), bytes.fromhex("300a06082a8648ce3d040303")),
}
_AKI_OID, _NUMBER_OID = (der.tlv(der.OID, bytes.fromhex(oid)) for oid in ("551d23", "551d14"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """One authority's list, as it is published."""

    authority: str
    number: int
    """Rises with each list of the authority (RFC 5280 §5.2.3)."""
    next_update: datetime
    certificate_list: bytes
    """DER."""
    pem: bytes
    """The same as PEM (RFC 7468), which nginx and PostgreSQL read."""
    entries: int


def sign_list(
    authority: str,
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    fallen: Iterable[Fallen],
    *,
    number: int,
    now: datetime,
) -> RevocationList:
    """List the serials of `fallen`, signed with the authority's own key; valid for ten minutes."""
    how, algorithm = _SIGNATURES[key.curve.name]
    entries = [
        der.tlv(der.SEQUENCE, der.integer(int(one.id, 16)), der.time(one.at))
        for one in sorted(fallen, key=lambda one: (one.at, one.id))
    ]
    until = now + LIFETIME
    body = der.tlv(
        der.SEQUENCE,
        der.integer(1),  # version 2
        algorithm,
        issuer.subject.public_bytes(),
        der.time(now),
        der.time(until),
        # RFC 5280 §5.1.2.6: absent when nothing is revoked.
        der.tlv(der.SEQUENCE, *entries) if entries else b"",
        der.tlv(0xA0, der.tlv(der.SEQUENCE, _key_identifier(issuer), _number(number))),
    )
    signed = der.tlv(der.SEQUENCE, body, algorithm, der.tlv(der.BIT_STRING, b"\0", key.sign(body, how)))
    return RevocationList(
        authority=authority,
        number=number,
        next_update=until,
        certificate_list=signed,
        pem=_pem(signed),
        entries=len(entries),
    )


def _key_identifier(issuer: x509.Certificate) -> bytes:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return der.tlv(der.SEQUENCE, _AKI_OID, der.tlv(der.OCTET_STRING, der.tlv(der.SEQUENCE, der.tlv(0x80, identifier))))


def _pem(certificate_list: bytes) -> bytes:
    text = b64encode(certificate_list)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b""))


def _number(number: int) -> bytes:
    return der.tlv(der.SEQUENCE, _NUMBER_OID, der.tlv(der.OCTET_STRING, der.integer(number)))
