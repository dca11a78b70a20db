"""X.509: the self-signed root of the trust domain, and the leaf certificates that it signs.

Leaves are written from a DER template: only serial, times, key and SPIFFE ID differ between two of them, and writing
those bytes is several times quicker than a general builder. A property test holds it to the builder, byte for byte.

Spec: X509-SVID §2 to §4 and appendix A; RFC 5280 §4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remit.kernel.errors import Rejected
from remit.trust.authority import der
from remit.trust.spiffe import SpiffeId, TrustDomain

BACKDATED = timedelta(seconds=30)
"""A certificate is valid from this long before its issue, for peers whose clocks are behind."""
_ECDSA = ec.ECDSA(hashes.SHA256())
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_LEAF_SUBJECT = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Remit")])
_LEAF_SUBJECT_DER = _LEAF_SUBJECT.public_bytes()
_FIXED_EXTENSIONS = b"".join(
    (
        # keyUsage, critical: digitalSignature
        bytes.fromhex("300e0603551d0f0101ff040403020780"),
        # extKeyUsage: serverAuth, clientAuth
        bytes.fromhex("301d0603551d250416301406082b0601050507030106082b06010505070302"),
        # basicConstraints, critical: cA=false
        bytes.fromhex("300c0603551d130101ff04023000"),
    )
)
_SKI_OID, _AKI_OID, _SAN_OID = (der.tlv(der.OID, bytes.fromhex(oid)) for oid in ("551d0e", "551d23", "551d11"))
_POINT_BYTES = 65


def serial_number(entropy: Callable[[int], bytes]) -> int:
    """A serial of 159 random bits, never 0: positive and at most 20 bytes (RFC 5280 §4.1.2.2)."""
    return int.from_bytes(entropy(20), "big") >> 1 or 1


def make_root(
    trust_domain: TrustDomain, key: ec.EllipticCurvePrivateKey, *, serial: int, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """Sign a root for `trust_domain` with its own key; its subject is unique, so that overlapping roots never mix."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Remit"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}"),
        ]
    )
    public = key.public_key()
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=public, serial_number=serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_root_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(trust_domain.id)]),
            critical=False,
        )
    )
    return builder.sign(key, hashes.SHA256())


def _root_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class LeafSigner:
    """Signs leaves under one root; what does not change between leaves is encoded once."""

    def __init__(self, root: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        self._key = key
        self._issuer = root.subject.public_bytes()
        self._authority_key = der.tlv(
            der.SEQUENCE, _AKI_OID, der.tlv(der.OCTET_STRING, der.tlv(der.SEQUENCE, der.tlv(0x80, identifier)))
        )
        self.expires = root.not_valid_after_utc

    def sign(
        self,
        spiffe_id: SpiffeId,
        public: ec.EllipticCurvePublicKey,
        *,
        serial: int,
        not_before: datetime,
        not_after: datetime,
    ) -> bytes:
        """The DER of an X.509-SVID for `public`, which must be a P-256 key; times are cut to whole seconds."""
        tbs = self._to_be_signed(spiffe_id, public, serial, not_before, not_after)
        signature = self._key.sign(tbs, _ECDSA)
        return der.tlv(der.SEQUENCE, tbs, _ECDSA_WITH_SHA256, der.tlv(der.BIT_STRING, b"\0", signature))

    def _to_be_signed(
        self,
        spiffe_id: SpiffeId,
        public: ec.EllipticCurvePublicKey,
        serial: int,
        not_before: datetime,
        not_after: datetime,
    ) -> bytes:
        info = public_info(public)
        # Method 1 of RFC 5280 §4.2.1.2: SHA-1 of the public point, an identifier and no more.
        identifier = hashlib.sha1(info[-_POINT_BYTES:], usedforsecurity=False).digest()
        uri = der.tlv(0x86, str(spiffe_id).encode())
        extensions = der.tlv(
            der.SEQUENCE,
            _FIXED_EXTENSIONS,
            der.tlv(der.SEQUENCE, _SKI_OID, der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, identifier))),
            self._authority_key,
            der.tlv(der.SEQUENCE, _SAN_OID, der.tlv(der.OCTET_STRING, der.tlv(der.SEQUENCE, uri))),
        )
        return der.tlv(
            der.SEQUENCE,
            b"\xa0\x03\x02\x01\x02",  # version 3
            der.integer(serial),
            _ECDSA_WITH_SHA256,
            self._issuer,
            der.tlv(der.SEQUENCE, der.time(not_before), der.time(not_after)),
            _LEAF_SUBJECT_DER,
            info,
            der.tlv(0xA3, extensions),
        )


def public_info(public: ec.EllipticCurvePublicKey) -> bytes:
    """The SubjectPublicKeyInfo in DER; `Rejected` (`trust.svid.curve`) unless the key is on P-256."""
    if not isinstance(public.curve, ec.SECP256R1):
        raise Rejected("trust.svid.curve", f"the curve `{public.curve.name}` is not used here", next_step="use P-256")
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 in DER, not encrypted: for the workload itself, or for the sealer."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_private(der_bytes: bytes) -> ec.EllipticCurvePrivateKey:
    """Read what `private_bytes` wrote."""
    key = serialization.load_der_private_key(der_bytes, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
