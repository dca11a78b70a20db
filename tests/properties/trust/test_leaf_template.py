"""The DER template writes exactly what a general certificate builder writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.trust import SpiffeId, TrustDomain
from remit.trust.authority.x509 import LeafSigner, make_root

ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOT = make_root(TrustDomain("remit.test"), ROOT_KEY, serial=7, now=START, lifetime=timedelta(days=1))
SIGNER = LeafSigner(ROOT, ROOT_KEY)
paths = st.from_regex(r"\A(/[a-zA-Z0-9_-]{1,60}){1,30}\Z")
moments = st.datetimes(datetime(1970, 1, 1), datetime(2120, 1, 1)).map(lambda m: m.replace(tzinfo=UTC, microsecond=0))


def built(spiffe_id: SpiffeId, key: ec.EllipticCurvePublicKey, serial: int, start: datetime, end: datetime) -> bytes:
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Remit")])
    builder = (
        x509.CertificateBuilder(ROOT.subject, subject, key, serial, start, end)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT_KEY.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))]), critical=False)
    )
    return builder.sign(ROOT_KEY, hashes.SHA256()).tbs_certificate_bytes


@settings(max_examples=60, deadline=None)
@given(paths, st.integers(1, 2**159 - 1), moments, st.integers(1, 10**8))
def test_template_and_builder_agree_byte_for_byte(path: str, serial: int, start: datetime, seconds: int) -> None:
    spiffe_id = SpiffeId(TrustDomain("remit.test"), path)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    end = start + timedelta(seconds=seconds)
    leaf = x509.load_der_x509_certificate(SIGNER.sign(spiffe_id, key, serial=serial, not_before=start, not_after=end))
    assert leaf.tbs_certificate_bytes == built(spiffe_id, key, serial, start, end)
    leaf.verify_directly_issued_by(ROOT)
