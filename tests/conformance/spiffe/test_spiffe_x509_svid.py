"""X509-SVID, clause by clause (spiffe/spiffe standards/X509-SVID.md): what we issue, and what we accept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from spiffe_issued import issued

from certificates import NOW, Made, intermediate, leaf, root, uris, usage
from remit.kernel.errors import Rejected
from remit.trust import Bundle, TrustDomain
from remit.trust.validate import validate_x509_svid


def ours() -> x509.Certificate:
    return x509.load_der_x509_certificate(issued().x509.certificate)


def authority() -> x509.Certificate:
    (der,) = issued().bundle.x509_roots
    return x509.load_der_x509_certificate(der)


def names(certificate: x509.Certificate) -> x509.Extension[x509.SubjectAlternativeName]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def accepted(*chain: Made, anchor: Made) -> bool:
    bundle = Bundle(
        trust_domain=TrustDomain("remit.test"), sequence=1, refresh_hint=timedelta(minutes=5), x509_roots=(anchor.der,)
    )
    try:
        validate_x509_svid(
            [one.der for one in chain], lambda domain: bundle if domain.name == "remit.test" else None, NOW
        )
    except Rejected as error:
        assert error.code.startswith("trust.x509_svid.")
        return False
    return True


ROOT = root()


# What we issue.


def test_2_the_spiffe_id_is_the_only_uri_name() -> None:
    found = names(ours()).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert found == ["spiffe://remit.test/job"]


def test_2_names_are_critical_exactly_when_the_subject_is_empty() -> None:
    for one in (ours(), authority()):
        assert names(one).critical is (not one.subject.rdns)


def test_3_2_a_leaf_has_a_path() -> None:
    assert issued().x509.spiffe_id.path == "/job"


def test_3_1_a_signing_certificate_has_no_path() -> None:
    found = names(authority()).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert found == ["spiffe://remit.test"]


def test_4_1_a_leaf_is_no_ca_and_a_signing_certificate_is_one() -> None:
    constraints = [one.extensions.get_extension_for_class(x509.BasicConstraints) for one in (ours(), authority())]
    assert [one.value.ca for one in constraints] == [False, True]
    assert all(one.critical for one in constraints)


def test_4_3_key_usage_is_critical_and_a_leaf_only_signs() -> None:
    found = ours().extensions.get_extension_for_class(x509.KeyUsage)
    assert found.critical
    assert found.value == usage("digital_signature")


def test_4_3_a_signing_certificate_signs_certificates() -> None:
    found = authority().extensions.get_extension_for_class(x509.KeyUsage)
    assert found.critical
    assert found.value == usage("key_cert_sign", "crl_sign")


def test_4_4_a_leaf_serves_both_sides_of_tls() -> None:
    found = set(ours().extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert found == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_the_key_is_the_certificates_and_pkcs8_without_encryption() -> None:
    key: Any = load_der_private_key(issued().x509.key, password=None)
    assert key.public_key() == ours().public_key()


def test_what_we_issue_we_accept() -> None:
    found = validate_x509_svid([issued().x509.certificate], lambda domain: issued().bundle, datetime.now(UTC))
    assert str(found.spiffe_id) == "spiffe://remit.test/job"


# What we accept.


def test_5_1_a_path_to_a_root_of_the_bundle_is_accepted() -> None:
    between = intermediate(ROOT)
    assert accepted(leaf(ROOT), anchor=ROOT)
    assert accepted(leaf(between), between, anchor=ROOT)


def test_5_1_a_path_to_no_root_is_refused() -> None:
    assert not accepted(leaf(root()), anchor=ROOT)


def test_2_more_than_one_uri_name_is_refused() -> None:
    assert not accepted(leaf(ROOT, names=uris("spiffe://remit.test/a", "spiffe://remit.test/b")), anchor=ROOT)


def test_2_other_names_besides_are_accepted() -> None:
    mixed = [*uris("spiffe://remit.test/a"), x509.DNSName("a.remit.test"), x509.RFC822Name("a@remit.test")]
    assert accepted(leaf(ROOT, names=mixed), anchor=ROOT)


def test_5_2_the_scheme_is_checked() -> None:
    assert not accepted(leaf(ROOT, "https://remit.test/job"), anchor=ROOT)


def test_5_2_a_leaf_without_a_path_is_refused() -> None:
    assert not accepted(leaf(ROOT, "spiffe://remit.test"), anchor=ROOT)


def test_5_2_a_ca_is_no_leaf() -> None:
    as_leaf = leaf(ROOT, ca=True, key_usage=usage("digital_signature"))
    assert not accepted(as_leaf, anchor=ROOT)
    assert not accepted(ROOT, anchor=ROOT)


@pytest.mark.parametrize("bit", ["key_cert_sign", "crl_sign"])
def test_5_2_a_leaf_that_may_sign_certificates_or_lists_is_refused(bit: str) -> None:
    assert not accepted(leaf(ROOT, key_usage=usage("digital_signature", bit)), anchor=ROOT)


def test_4_3_a_leaf_without_digital_signature_is_refused() -> None:
    assert not accepted(leaf(ROOT, key_usage=usage("key_agreement")), anchor=ROOT)


def test_4_2_name_constraints_of_a_signing_certificate_hold() -> None:
    for host, fine in (("remit.test", True), ("other.test", False)):
        limits = [(x509.NameConstraints(uris(host), None), True)]
        between = intermediate(ROOT, extra=limits)
        assert accepted(leaf(between), between, anchor=ROOT) is fine


def test_4_1_path_length_constraints_hold() -> None:
    short = root(path_length=0)
    between = intermediate(short)
    assert accepted(leaf(short), anchor=short)
    assert not accepted(leaf(between), between, anchor=short)


def test_a_signing_certificate_with_the_id_of_a_workload_or_of_another_domain_is_refused() -> None:
    for name in ("spiffe://remit.test/ca", "spiffe://other.test"):
        between = intermediate(ROOT, names=uris(name))
        assert not accepted(leaf(between), between, anchor=ROOT)


def test_a_signing_certificate_without_a_spiffe_id_is_accepted() -> None:
    plain = root(names=())
    assert accepted(leaf(plain), anchor=plain)
