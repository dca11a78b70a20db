"""`validate_x509_svid` against chains that would be believed too easily; two other verifiers give their opinion."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from certificates import BOTH, HOUR, NOW, Made, certificate, intermediate, leaf, root, subject, uris, usage
from remit.kernel.errors import Rejected
from remit.trust.bundle import Bundle
from remit.trust.model import PresentedSvid
from remit.trust.spiffe import TrustDomain
from remit.trust.validate import MAX_CHAIN, validate_x509_svid


def bundle(domain: str, *roots: Made) -> Bundle:
    return Bundle(
        trust_domain=TrustDomain(domain),
        sequence=1,
        refresh_hint=timedelta(minutes=5),
        x509_roots=tuple(one.der for one in roots),
    )


def validated(chain: Sequence[Made], *roots: Made, others: Mapping[str, Sequence[Made]] | None = None) -> PresentedSvid:
    held = {"remit.test": bundle("remit.test", *roots)}
    held |= {name: bundle(name, *made) for name, made in (others or {}).items()}
    return validate_x509_svid([one.der for one in chain], lambda domain: held.get(domain.name), NOW)


def refusal(chain: Sequence[Made], *roots: Made, **more: Any) -> str:
    with pytest.raises(Rejected) as refused:
        validated(chain, *roots, **more)
    return refused.value.code


ROOT = root()
MALFORMED, UNTRUSTED = "trust.x509_svid.malformed", "trust.x509_svid.untrusted"


def test_a_leaf_under_a_root_names_its_workload() -> None:
    made = leaf(ROOT)
    found = validated([made], ROOT)
    assert str(found.spiffe_id) == "spiffe://remit.test/job"
    assert (found.certificate, found.serial) == (made.der, made.certificate.serial_number)


def test_a_path_through_intermediates_in_any_order_is_found() -> None:
    first = intermediate(ROOT)
    second = intermediate(first)
    made = leaf(second)
    assert validated([made, second, first], ROOT)
    assert validated([made, first, second], ROOT)
    assert validated([made, second, first, ROOT], ROOT)


def test_a_cross_signed_intermediate_is_tried_by_each_of_its_issuers() -> None:
    old, key = root(), ec.generate_private_key(ec.SECP256R1())
    by_old = intermediate(old, name="crossed", key=key)
    by_ours = intermediate(ROOT, name="crossed", key=key)
    assert validated([leaf(by_old), by_old, by_ours], ROOT)


def test_a_chain_that_stops_below_a_root_is_untrusted() -> None:
    first = intermediate(ROOT)
    assert refusal([leaf(first)], ROOT) == UNTRUSTED
    assert refusal([leaf(intermediate(first)), first], ROOT) == UNTRUSTED


def test_a_root_that_the_peer_sends_along_is_not_believed() -> None:
    own = root()
    assert refusal([leaf(own), own], ROOT) == UNTRUSTED


def test_a_root_that_cannot_be_relied_on_vouches_for_nobody_and_keeps_nobody_out() -> None:
    weak = root(key=rsa.generate_private_key(65537, 1024))
    assert validated([leaf(ROOT)], weak, ROOT)
    assert refusal([leaf(weak)], weak, ROOT) == UNTRUSTED


def test_a_forged_signature_is_untrusted() -> None:
    forger = root(name="the same name")
    ours = root(name="the same name")
    assert refusal([leaf(forger)], ours) == UNTRUSTED


def test_the_root_of_another_domain_does_not_speak_for_ours() -> None:
    partner = root("partner.test")
    assert refusal([leaf(partner)], ROOT, others={"partner.test": [partner]}) == UNTRUSTED
    assert validated([leaf(partner, "spiffe://partner.test/job")], ROOT, others={"partner.test": [partner]})
    assert refusal([leaf(ROOT, "spiffe://partner.test/job")], ROOT, others={"partner.test": [partner]}) == UNTRUSTED


def test_a_domain_without_a_bundle_is_foreign() -> None:
    assert refusal([leaf(ROOT, "spiffe://nobody.test/job")], ROOT) == "trust.x509_svid.foreign"


WRONG_LEAVES: Mapping[str, dict[str, Any]] = {
    "two URI names": {"names": uris("spiffe://remit.test/a", "spiffe://remit.test/b")},
    "the same URI name twice": {"names": uris("spiffe://remit.test/a", "spiffe://remit.test/a")},
    "a second URI name of another scheme": {"names": uris("spiffe://remit.test/a", "https://remit.test/a")},
    "no URI name": {"names": [x509.DNSName("remit.test")]},
    "no names": {"names": ()},
    "another scheme": {"names": uris("https://remit.test/job")},
    "no path": {"names": uris("spiffe://remit.test")},
    "an empty path": {"names": uris("spiffe://remit.test/")},
    "a dotted path": {"names": uris("spiffe://remit.test/a/../b")},
    "a query": {"names": uris("spiffe://remit.test/a?b=c")},
    "a CA": {"ca": True, "key_usage": usage("digital_signature", "key_cert_sign")},
    "a CA in name only": {"ca": True},
    "no key usage": {"key_usage": None},
    "key usage not critical": {"usage_critical": False},
    "no digitalSignature": {"key_usage": usage("key_encipherment")},
    "keyCertSign": {"key_usage": usage("digital_signature", "key_cert_sign")},
    "cRLSign": {"key_usage": usage("digital_signature", "crl_sign")},
    "extended key usage without clientAuth": {"extended": (ExtendedKeyUsageOID.SERVER_AUTH,)},
    "extended key usage without serverAuth": {"extended": (ExtendedKeyUsageOID.CLIENT_AUTH,)},
    "extended key usage of another kind": {"extended": (ExtendedKeyUsageOID.CODE_SIGNING,)},
    "an unknown critical extension": {
        "extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)]
    },
    "name constraints, critical, on a leaf": {"extra": [(x509.NameConstraints(uris("remit.test"), None), True)]},
    "a weak RSA key": {"key": rsa.generate_private_key(65537, 1024)},
    "a curve that is not used": {"key": ec.generate_private_key(ec.SECP256K1())},
    "a kind of key that is not used": {"key": ed25519.Ed25519PrivateKey.generate()},
    "a short digest": {"digest": hashes.SHA224()},
}


@pytest.mark.parametrize("settings", WRONG_LEAVES.values(), ids=WRONG_LEAVES.keys())
def test_a_leaf_that_is_no_svid_is_malformed(settings: dict[str, Any]) -> None:
    assert refusal([leaf(ROOT, **settings)], ROOT) == MALFORMED


RIGHT_LEAVES: Mapping[str, dict[str, Any]] = {
    "another DNS name besides": {"names": [*uris("spiffe://remit.test/job"), x509.DNSName("job.remit.test")]},
    "an empty subject": {"name": ""},
    "no extended key usage": {"extended": None},
    "more extended key usage": {"extended": (*BOTH, ExtendedKeyUsageOID.CODE_SIGNING)},
    "no basic constraints": {"ca": None},
    "key encipherment and agreement": {"key_usage": usage("digital_signature", "key_encipherment", "key_agreement")},
    "an unknown extension that is not critical": {
        "extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False)]
    },
    "RSA": {"key": rsa.generate_private_key(65537, 2048)},
    "P-384": {"key": ec.generate_private_key(ec.SECP384R1())},
    "the scheme in capitals": {"names": uris("SPIFFE://remit.test/job")},
}


@pytest.mark.parametrize("settings", RIGHT_LEAVES.values(), ids=RIGHT_LEAVES.keys())
def test_what_the_standard_leaves_open_is_accepted(settings: dict[str, Any]) -> None:
    assert str(validated([leaf(ROOT, **settings)], ROOT).spiffe_id) == "spiffe://remit.test/job"


@pytest.mark.parametrize(
    ("begins", "ends"), [(NOW - 2 * HOUR, NOW), (NOW - 2 * HOUR, NOW - HOUR), (NOW + timedelta(seconds=1), NOW + HOUR)]
)
def test_a_leaf_outside_its_time_is_expired(begins: Any, ends: Any) -> None:
    assert refusal([leaf(ROOT, begins=begins, ends=ends)], ROOT) == "trust.x509_svid.expired"


def test_an_expired_ca_vouches_for_nobody() -> None:
    past = root(ends=NOW)
    above = intermediate(ROOT, ends=NOW)
    future = intermediate(ROOT, begins=NOW + timedelta(seconds=1))
    assert refusal([leaf(past)], past) == UNTRUSTED
    assert refusal([leaf(above), above], ROOT) == UNTRUSTED
    assert refusal([leaf(future), future], ROOT) == UNTRUSTED


WRONG_CAS: Mapping[str, dict[str, Any]] = {
    "no CA": {"ca": False},
    "no basic constraints": {"ca": None},
    "no keyCertSign": {"key_usage": usage("digital_signature", "crl_sign")},
    "the SPIFFE ID of another domain": {"names": uris("spiffe://partner.test")},
    "the SPIFFE ID of a workload": {"names": uris("spiffe://remit.test/job")},
    "extended key usage of another kind": {"extended": (ExtendedKeyUsageOID.CODE_SIGNING,)},
    "an unknown critical extension": {
        "extra": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)]
    },
    "policy constraints": {"extra": [(x509.PolicyConstraints(0, None), True)]},
}


@pytest.mark.parametrize("settings", WRONG_CAS.values(), ids=WRONG_CAS.keys())
def test_an_intermediate_that_is_not_fit_vouches_for_nobody(settings: dict[str, Any]) -> None:
    above = intermediate(ROOT, **settings)
    assert refusal([leaf(above), above], ROOT) == UNTRUSTED


def test_a_leaf_does_not_vouch_for_another() -> None:
    workload = leaf(ROOT)
    assert refusal([leaf(workload, "spiffe://remit.test/admin"), workload], ROOT) == UNTRUSTED


def test_a_weak_ca_makes_the_chain_malformed() -> None:
    weak = intermediate(ROOT, key=rsa.generate_private_key(65537, 1024))
    assert refusal([leaf(weak), weak], ROOT) == MALFORMED


def test_a_path_length_counts_the_cas_below() -> None:
    short = root(path_length=0)
    one = root(path_length=1)
    assert validated([leaf(short)], short)
    below_short, below_one = intermediate(short), intermediate(one)
    assert refusal([leaf(below_short), below_short], short) == UNTRUSTED
    assert validated([leaf(below_one), below_one], one)
    deeper = intermediate(below_one)
    assert refusal([leaf(deeper), deeper, below_one], one) == UNTRUSTED


def constrained(permitted: Any = None, excluded: Any = None, **leaf_settings: Any) -> list[Made]:
    above = intermediate(ROOT, extra=[(x509.NameConstraints(permitted, excluded), True)])
    return [leaf(above, **leaf_settings), above]


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


ID = uris("spiffe://remit.test/job")
WITHIN: Mapping[str, list[Made]] = {
    "the host itself": constrained(uris("remit.test")),
    "hosts below": constrained(uris(".test")),
    "in capitals": constrained(uris("REMIT.test")),
    "another host is excluded": constrained(None, uris("other.test")),
    "a DNS name below": constrained(dns("test"), names=[*ID, *dns("job.remit.test")]),
    "no name of the form": constrained(dns("example.com")),
    "the subject": constrained([x509.DirectoryName(subject("WORKLOAD"))]),
    "an address": constrained(
        [x509.IPAddress(ip_network("10.0.0.0/8"))], names=[*ID, x509.IPAddress(ip_network("10.1.2.3/32")[0])]
    ),
}
BEYOND: Mapping[str, list[Made]] = {
    "another host": constrained(uris("other.test")),
    "a host that ends alike": constrained(uris(".it.test")),
    "only hosts below": constrained(uris(".remit.test")),
    "excluded": constrained(None, uris("remit.test")),
    "excluded from above": constrained(None, uris(".test")),
    "both permitted and excluded": constrained(uris("remit.test"), uris("remit.test")),
    "a DNS name beside": constrained(dns("example.com"), names=[*ID, *dns("job.remit.test")]),
    "a DNS name that ends alike": constrained(dns("mit.test"), names=[*ID, *dns("remit.test")]),
    "a wildcard around an exclusion": constrained(None, dns("a.remit.test"), names=[*ID, *dns("*.remit.test")]),
    "another subject": constrained([x509.DirectoryName(subject("somebody"))]),
    "a mail address under a limit on mail": constrained(
        [x509.RFC822Name("remit.test")], names=[*ID, x509.RFC822Name("a@remit.test")]
    ),
    "another address": constrained(
        None, [x509.IPAddress(ip_network("10.0.0.0/8"))], names=[*ID, x509.IPAddress(ip_network("10.1.2.3/32")[0])]
    ),
}


@pytest.mark.parametrize("chain", WITHIN.values(), ids=WITHIN.keys())
def test_a_name_within_the_constraints_is_accepted(chain: list[Made]) -> None:
    assert validated(chain, ROOT)


@pytest.mark.parametrize("chain", BEYOND.values(), ids=BEYOND.keys())
def test_a_name_beyond_the_constraints_is_refused(chain: list[Made]) -> None:
    assert refusal(chain, ROOT) == UNTRUSTED


def test_constraints_of_a_ca_hold_for_everything_below_it() -> None:
    limited = intermediate(ROOT, names=(), extra=[(x509.NameConstraints(dns("example.com"), None), True)])
    free = intermediate(limited, names=())
    outside = leaf(free, names=[*ID, *dns("job.remit.test")])
    assert refusal([outside, free, limited], ROOT) == UNTRUSTED


def test_a_chain_is_bounded_in_length_and_size() -> None:
    made = leaf(ROOT)
    assert refusal([], ROOT) == MALFORMED
    assert refusal([made, *[ROOT] * MAX_CHAIN], ROOT) == MALFORMED
    big = leaf(ROOT, names=[*ID, *dns(*(f"{number:04d}.remit.test" for number in range(1000)))])
    assert refusal([big], ROOT) == MALFORMED


def test_many_certificates_of_one_name_do_not_cost_many_signatures() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    crossed = [root(name="one", key=key) for _ in range(MAX_CHAIN - 1)]
    assert refusal([leaf(crossed[0]), *crossed], root(name="one")) == MALFORMED


GOOD = leaf(ROOT).der


@pytest.mark.parametrize(
    "chain",
    [[b""], [b"\x30"], [b"\x30\x82\xff\xff"], [b"not a certificate"], [b"\x30\x00"], [GOOD, b""], [GOOD, b"\x30\x00"],
     [GOOD + b"\0"], [GOOD[:-1]]],
)  # fmt: skip
def test_bytes_that_are_no_certificate_are_malformed(chain: list[bytes]) -> None:
    with pytest.raises(Rejected) as refused:
        validate_x509_svid(chain, lambda domain: bundle(domain.name, ROOT), NOW)
    assert refused.value.code == MALFORMED


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of what it warns, we refuse
@pytest.mark.parametrize("bit", range(8))
def test_a_damaged_certificate_is_refused_and_nothing_worse(bit: int) -> None:
    whole = leaf(ROOT)
    for at in range(len(whole.der)):
        damaged = whole.der[:at] + bytes([whole.der[at] ^ 1 << bit]) + whole.der[at + 1 :]
        try:
            validate_x509_svid([damaged], lambda domain: bundle("remit.test", ROOT), NOW)
        except Rejected:
            continue
        # Only the frame of the signature allows for another form: a count of unused bits.
        signed = x509.load_der_x509_certificate(damaged).tbs_certificate_bytes
        assert signed == whole.certificate.tbs_certificate_bytes


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of what it warns, we refuse
@pytest.mark.parametrize("bit", range(8))
def test_a_damaged_intermediate_is_refused_and_nothing_worse(bit: int) -> None:
    between = intermediate(ROOT)
    made = leaf(between)
    for at in range(len(between.der)):
        damaged = between.der[:at] + bytes([between.der[at] ^ 1 << bit]) + between.der[at + 1 :]
        try:
            validate_x509_svid([made.der, damaged], lambda domain: bundle("remit.test", ROOT), NOW)
        except Rejected:
            continue
        signed = x509.load_der_x509_certificate(damaged).tbs_certificate_bytes
        assert signed == between.certificate.tbs_certificate_bytes


# Others' opinion, on the same chains.


def by_cryptography(chain: Sequence[Made], anchor: Made) -> bool:
    """Client verification by `cryptography`: path, times, constraints; it knows nothing of SPIFFE."""
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([anchor.certificate]))
        .time(NOW)
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
                x509.AuthorityKeyIdentifier, verification.Criticality.AGNOSTIC, None
            ),
            ee_policy=verification.ExtensionPolicy.webpki_defaults_ee(),
        )
        .build_client_verifier()
    )
    try:
        verifier.verify(chain[0].certificate, [one.certificate for one in chain[1:]])
    except verification.VerificationError:
        return False
    return True


def by_openssl(chain: Sequence[Made], anchor: Made, folder: Path) -> bool:
    (folder / "root.pem").write_bytes(anchor.pem)
    (folder / "leaf.pem").write_bytes(chain[0].pem)
    (folder / "between.pem").write_bytes(b"".join(one.pem for one in chain[1:]))
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", folder / "root.pem"]
    if len(chain) > 1:
        command += ["-untrusted", folder / "between.pem"]
    return subprocess.run([*command, folder / "leaf.pem"], capture_output=True, check=False).returncode == 0


def chains() -> dict[str, tuple[list[Made], Made]]:
    """Chains that differ only in what RFC 5280 itself decides."""
    above, short = intermediate(ROOT), root(path_length=0)
    below_short = intermediate(short)
    no_ca = intermediate(ROOT, ca=False)
    expired = intermediate(ROOT, ends=NOW - timedelta(minutes=5))
    no_sign = intermediate(ROOT, key_usage=usage("crl_sign"))
    stranger = root()
    return {
        "a leaf": ([leaf(ROOT)], ROOT),
        "an intermediate": ([leaf(above), above], ROOT),
        "a missing intermediate": ([leaf(above)], ROOT),
        "no CA between": ([leaf(no_ca), no_ca], ROOT),
        "an expired CA between": ([leaf(expired), expired], ROOT),
        "no keyCertSign between": ([leaf(no_sign), no_sign], ROOT),
        "a path too long": ([leaf(below_short), below_short], short),
        "a stranger's root": ([leaf(stranger), stranger], ROOT),
        "an expired leaf": ([leaf(ROOT, begins=NOW - 2 * HOUR, ends=NOW - timedelta(minutes=5))], ROOT),
        "a leaf of tomorrow": ([leaf(ROOT, begins=NOW + HOUR, ends=NOW + 2 * HOUR)], ROOT),
        "a critical extension": ([leaf(ROOT, **WRONG_LEAVES["an unknown critical extension"])], ROOT),
        "a DNS name beside": (BEYOND["a DNS name beside"], ROOT),
        "a DNS name below": (WITHIN["a DNS name below"], ROOT),
    }


@pytest.mark.parametrize("name", chains().keys())
def test_two_other_verifiers_are_of_the_same_opinion(name: str, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl: not found")
    chain, anchor = chains()[name]
    try:
        ours = bool(validated(chain, anchor))
    except Rejected:
        ours = False
    assert (ours, ours) == (by_cryptography(chain, anchor), by_openssl(chain, anchor, tmp_path))


def test_a_certificate_of_version_1_is_malformed() -> None:
    made = certificate(issuer=ROOT, name="old", key_usage=None, extended=None, ca=None)
    assert refusal([made], ROOT) == MALFORMED
