"""Certificate revocation lists, against the general builder and parser of another library."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from remit.trust import TrustDomain
from remit.trust.authority.ca import make_root
from remit.trust.revocation.crl import LIFETIME, sign_list
from remit.trust.revocation.model import Fallen
from remit.trust.testing import NOON


def fallen(*serials: int) -> list[Fallen]:
    return [
        Fallen(id=f"{one:x}", kind="x509-svid", revocation="rv_1", at=NOON, expires=NOON + timedelta(hours=1))
        for one in serials
    ]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
@pytest.mark.parametrize("serials", [(), (1,), (2**158, 127, 128, 255, 256)])
def test_a_list_is_what_the_general_builder_writes(curve: ec.EllipticCurve, serials: tuple[int, ...]) -> None:
    key = ec.generate_private_key(curve)
    issuer = make_root(TrustDomain("remit.test"), key, serial=9, now=NOON, lifetime=timedelta(days=1))
    ours = sign_list("au_1", issuer, key, fallen(*serials), number=1_795_382_280_853, now=NOON)

    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder(issuer.subject, NOON, NOON + LIFETIME)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.CRLNumber(1_795_382_280_853), critical=False)
    )
    for one in sorted(serials, key=lambda serial: f"{serial:x}"):
        revoked = x509.RevokedCertificateBuilder(one, NOON).build()
        builder = builder.add_revoked_certificate(revoked)
    algorithm = hashes.SHA256() if curve.name == "secp256r1" else hashes.SHA384()
    theirs = builder.sign(key, algorithm)

    found = x509.load_der_x509_crl(ours.certificate_list)
    assert found.tbs_certlist_bytes == theirs.tbs_certlist_bytes
    assert found.is_signature_valid(issuer.public_key())


def test_pem_is_the_same_list() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = make_root(TrustDomain("remit.test"), key, serial=9, now=NOON, lifetime=timedelta(days=1))
    ours = sign_list("au_1", issuer, key, fallen(7), number=1, now=NOON)
    assert x509.load_pem_x509_crl(ours.pem) == x509.load_der_x509_crl(ours.certificate_list)
