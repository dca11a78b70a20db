"""The DER template writes exactly what a general certificate builder writes, on each curve and at any length."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.kernel.errors import Rejected
from remit.trust import SpiffeId, TrustDomain
from remit.trust.authority.ca import make_key, make_root
from remit.trust.authority.x509 import LeafSigner, public_info, public_point

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CURVES = ("P-256", "P-384")
HASH = {"P-256": hashes.SHA256(), "P-384": hashes.SHA384()}
KEYS = {curve: make_key(curve) for curve in CURVES}
ROOTS = {
    curve: make_root(TrustDomain("remit.test"), key, serial=7, now=START, lifetime=timedelta(days=1))
    for curve, key in KEYS.items()
}
SIGNERS = {curve: LeafSigner(ROOTS[curve], KEYS[curve]) for curve in CURVES}
curves = st.sampled_from(CURVES)
paths = st.from_regex(r"\A(/[a-zA-Z0-9_-]{1,60}){1,30}\Z")
moments = st.datetimes(datetime(1970, 1, 1), datetime(2120, 1, 1)).map(lambda m: m.replace(tzinfo=UTC))


def built(
    curve: str, spiffe_id: SpiffeId, key: ec.EllipticCurvePublicKey, serial: int, start: datetime, end: datetime
) -> x509.Certificate:
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Remit")])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(KEYS[curve].public_key())
    builder = (
        x509.CertificateBuilder(ROOTS[curve].subject, subject, key, serial, start, end)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority, critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))]), critical=False)
    )
    return builder.sign(KEYS[curve], HASH[curve])


@settings(max_examples=120, deadline=None)
@given(curves, curves, paths, st.integers(1, 2**159 - 1), moments, st.integers(1, 10**8))
def test_template_and_builder_agree_byte_for_byte(
    authority: str, curve: str, path: str, serial: int, start: datetime, seconds: int
) -> None:
    spiffe_id = SpiffeId(TrustDomain("remit.test"), path)
    key, end = make_key(curve).public_key(), start + timedelta(seconds=seconds)
    der = SIGNERS[authority].sign(spiffe_id, key, serial=serial, not_before=start, not_after=end)
    leaf = x509.load_der_x509_certificate(der)
    whole = built(authority, spiffe_id, key, serial, start.replace(microsecond=0), end.replace(microsecond=0))
    assert leaf.tbs_certificate_bytes == whole.tbs_certificate_bytes
    assert leaf.signature_algorithm_oid == whole.signature_algorithm_oid
    assert leaf.signature_algorithm_parameters.algorithm.name == HASH[authority].name  # type: ignore[union-attr]
    leaf.verify_directly_issued_by(ROOTS[authority])


@pytest.mark.parametrize("curve", CURVES)
def test_a_public_key_is_written_as_the_library_writes_it(curve: str) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = make_key(curve).public_key()
    assert public_info(public) == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1()])
def test_a_key_on_another_curve_is_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(Rejected) as refused:
        public_point(ec.generate_private_key(curve).public_key())
    assert refused.value.code == "trust.svid.curve"
