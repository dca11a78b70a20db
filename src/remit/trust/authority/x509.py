"""X.509-SVIDs: the leaf certificates that an authority signs.

Leaves are written from a DER template: only serial, times, key and SPIFFE ID differ between two of them, and writing
those bytes is several times quicker than a general builder. A property test holds it to the builder, byte for byte.

Spec: X509-SVID §2, §4 and appendix A; RFC 5280 §4; RFC 5758 §3.2.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remit.kernel.errors import Rejected
from remit.trust.authority import der
from remit.trust.spiffe import SpiffeId

BACKDATED = timedelta(seconds=30)
"""A certificate is valid from this long before its issue, for peers whose clocks are behind."""
_PLAIN: Final = serialization.NoEncryption()
_P256: Final = ec.SECP256R1()
_SIGNATURES: Final[Mapping[str, tuple[ec.ECDSA, bytes]]] = {
    "secp256r1": (ec.ECDSA(hashes.SHA256()), bytes.fromhex("300a06082a8648ce3d040302")),
    "secp384r1": (ec.ECDSA(hashes.SHA384()), bytes.fromhex("300a06082a8648ce3d040303")),
}
"""By the authority's curve: how it signs, and the AlgorithmIdentifier that says so."""
_LEAF_SUBJECT_DER = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Remit")]).public_bytes()
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
# subjectKeyIdentifier around its 20 bytes
_SKI_HEAD = der.tlv(der.SEQUENCE, _SKI_OID, der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, bytes(20))))[:-20]
_SKI_BYTES: Final = 20
_NAMES_KEPT: Final = 4096
_VERSION_3 = b"\xa0\x03\x02\x01\x02"
_INFO_HEADS: Final[Mapping[str, bytes]] = {
    "secp256r1": bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"),
    "secp384r1": bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200"),
}
"""By curve: a SubjectPublicKeyInfo up to its uncompressed point."""
_INFO_OF_POINT: Final = {65: _INFO_HEADS["secp256r1"], 97: _INFO_HEADS["secp384r1"]}
"""The same by the length of the point."""
_POINT_OF_P256: Final = 65


def serial_number(entropy: Callable[[int], bytes]) -> int:
    """A serial of 159 random bits, never 0: positive and at most 20 bytes (RFC 5280 §4.1.2.2)."""
    return int.from_bytes(entropy(20), "big") >> 1 or 1


class LeafSigner:
    """Signs leaves under one CA, on P-256 or P-384; what does not change between leaves is encoded once."""

    def __init__(self, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        self._key = key
        self._how, self._algorithm = _SIGNATURES[key.curve.name]
        self._issuer = self._algorithm + issuer.subject.public_bytes()
        self._authority_key = der.tlv(
            der.SEQUENCE, _AKI_OID, der.tlv(der.OCTET_STRING, der.tlv(der.SEQUENCE, der.tlv(0x80, identifier)))
        )
        self._named: OrderedDict[SpiffeId, tuple[bytes, bytes]] = OrderedDict()
        self._period: tuple[datetime, datetime, bytes] | None = None
        self.expires = issuer.not_valid_after_utc

    def sign(
        self,
        spiffe_id: SpiffeId,
        public: ec.EllipticCurvePublicKey,
        *,
        serial: int,
        not_before: datetime,
        not_after: datetime,
    ) -> bytes:
        """The DER of an X.509-SVID for `public`, a key on P-256 or P-384; times are cut to whole seconds."""
        point = public_point(public)
        return self.sign_point(spiffe_id, point, serial=serial, not_before=not_before, not_after=not_after)

    def sign_point(
        self, spiffe_id: SpiffeId, point: bytes, *, serial: int, not_before: datetime, not_after: datetime
    ) -> bytes:
        """The same for the uncompressed point of a key on P-256 (65 bytes) or P-384 (97 bytes)."""
        before, after = self._name(spiffe_id)
        tbs = der.tlv(
            der.SEQUENCE,
            _VERSION_3,
            der.integer(serial),
            self._issuer,
            self._validity(not_before, not_after),
            _LEAF_SUBJECT_DER,
            _INFO_OF_POINT[len(point)],
            point,
            before,
            # Method 1 of RFC 5280 §4.2.1.2: SHA-1 of the public point, an identifier and no more.
            hashlib.sha1(point, usedforsecurity=False).digest(),
            after,
        )
        signature = self._key.sign(tbs, self._how)
        return der.tlv(der.SEQUENCE, tbs, self._algorithm, der.tlv(der.BIT_STRING, b"\0", signature))

    def _name(self, spiffe_id: SpiffeId) -> tuple[bytes, bytes]:
        """The extensions of a leaf of this id, without the 20 bytes of its key's identifier: before and after them."""
        known = self._named.get(spiffe_id)
        if known is not None:
            return known
        uri = der.tlv(0x86, str(spiffe_id).encode())
        before = _FIXED_EXTENSIONS + _SKI_HEAD
        after = self._authority_key + der.tlv(
            der.SEQUENCE, _SAN_OID, der.tlv(der.OCTET_STRING, der.tlv(der.SEQUENCE, uri))
        )
        extensions = der.tlv(0xA3, der.tlv(der.SEQUENCE, before, bytes(_SKI_BYTES), after))
        found = (extensions[: -len(after) - _SKI_BYTES], after)
        self._named[spiffe_id] = found
        if len(self._named) > _NAMES_KEPT:
            self._named.popitem(last=False)
        return found

    def _validity(self, not_before: datetime, not_after: datetime) -> bytes:
        """The Validity of a leaf; those of one burst often share the second."""
        kept = self._period
        first, last = not_before.replace(microsecond=0), not_after.replace(microsecond=0)
        if kept is not None and kept[0] == first and kept[1] == last:
            return kept[2]
        encoded = der.tlv(der.SEQUENCE, der.time(first), der.time(last))
        self._period = (first, last, encoded)
        return encoded


def public_point(public: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point; `Rejected` (`trust.svid.curve`) unless the key is on P-256 or P-384."""
    if public.curve.name not in _INFO_HEADS:
        raise Rejected(
            "trust.svid.curve", f"the curve `{public.curve.name}` is not used here", next_step="use P-256 or P-384"
        )
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def public_info(public: ec.EllipticCurvePublicKey) -> bytes:
    """The SubjectPublicKeyInfo in DER; `Rejected` (`trust.svid.curve`) unless the key is on P-256 or P-384."""
    point = public_point(public)
    return _INFO_HEADS[public.curve.name] + point


def private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS#8 in DER, not encrypted: for the workload itself, or for the sealer."""
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, _PLAIN)


def make_leaf_key() -> tuple[bytes, bytes]:
    """A new key on P-256 for a workload: its PKCS#8 in DER, not encrypted, and its uncompressed point."""
    private = private_bytes(ec.generate_private_key(_P256))
    # RFC 5915: an ECPrivateKey ends with the public point; no other call is needed to have it.
    return private, private[-_POINT_OF_P256:]


def load_private(der_bytes: bytes) -> ec.EllipticCurvePrivateKey:
    """Read what `private_bytes` wrote."""
    key = serialization.load_der_private_key(der_bytes, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
