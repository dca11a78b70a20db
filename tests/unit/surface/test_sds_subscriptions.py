"""The protocol of one SDS stream, without a stream: what is new, what is stale, what is refused, what is said again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certificates import NOW, Made, intermediate, leaf, root
from remit.kernel.errors import Rejected
from remit.surface.agent.sds import (
    MAX_NAMES,
    SECRET,
    Subscription,
    certificate_secret,
    current_lists,
    roots_secret,
    spiffe_secret,
)
from remit.surface.agent.sds_wire import sds_pb2 as wire
from remit.trust import Bundle, TrustDomain, X509Svid
from remit.trust.spiffe import SpiffeId


def request(*names: str, nonce: str = "", error: str | None = None, type_url: str = SECRET) -> wire.DiscoveryRequest:
    made = wire.DiscoveryRequest(resource_names=names, response_nonce=nonce, type_url=type_url)
    if error is not None:
        made.error_detail.message = error
    return made


def secrets(*names: str) -> list[wire.Secret]:
    return [wire.Secret(name=name) for name in names]


def answered(*names: str) -> tuple[Subscription, str]:
    """A stream that asked for these names and has its first answer, and that answer's nonce."""
    stream = Subscription()
    assert stream.take(request(*names))
    first = stream.answer(secrets(*names))
    assert first is not None
    return stream, first.nonce


def test_the_first_request_is_answered_whatever_nonce_it_carries_from_before() -> None:
    assert Subscription().take(request("default", nonce="from another stream"))


def test_an_acknowledgement_asks_for_nothing() -> None:
    stream, nonce = answered("default")
    assert not stream.take(request("default", nonce=nonce))
    assert stream.answer(secrets("default")) is None


def test_another_set_of_names_asks_for_something() -> None:
    stream, nonce = answered("default")
    assert stream.take(request("default", "ROOTCA", nonce=nonce))
    second = stream.answer(secrets("ROOTCA", "default"))
    assert second is not None
    assert (second.version_info, len(second.resources)) == ("2", 2)
    assert second.nonce != nonce


def test_names_in_another_order_or_twice_are_the_same_names() -> None:
    stream, nonce = answered("a", "b")
    assert not stream.take(request("b", "a", "b", "", nonce=nonce))


def test_a_stale_request_says_nothing() -> None:
    stream, nonce = answered("default")
    stream.answer(secrets("other"))
    assert not stream.take(request("ROOTCA", nonce=nonce))
    assert stream.names == frozenset({"default"})


def test_a_refused_answer_is_counted_and_not_sent_again_until_something_changes() -> None:
    stream, nonce = answered("default")
    assert not stream.take(request("default", nonce=nonce, error="no such key"))
    assert stream.refusals == 1
    assert stream.answer(secrets("default")) is None
    assert stream.answer(secrets("default", "more")) is not None


def test_a_change_has_a_new_version_and_nonce() -> None:
    stream, nonce = answered("default")
    changed = stream.answer([wire.Secret(name="default", tls_certificate=wire.TlsCertificate())])
    assert changed is not None
    assert changed.version_info == "2"
    assert changed.nonce != nonce


@pytest.mark.parametrize(
    "bad",
    [
        request("a", type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster"),
        request(*map(str, range(MAX_NAMES + 1))),
        request("x" * 3000),
    ],
)
def test_another_type_or_too_many_names_are_refused(bad: wire.DiscoveryRequest) -> None:
    with pytest.raises(Rejected):
        Subscription().take(bad)


def bundle(*roots: Made, domain: str = "remit.test") -> Bundle:
    return Bundle(
        trust_domain=TrustDomain(domain),
        sequence=1,
        refresh_hint=timedelta(minutes=5),
        x509_roots=tuple(one.der for one in roots),
    )


def test_a_certificate_comes_with_its_chain_leaf_first() -> None:
    anchor = root()
    between = intermediate(anchor)
    made = leaf(between)
    svid = X509Svid(
        spiffe_id=SpiffeId.parse("spiffe://remit.test/job"), entry="en", authority="au", serial=1, certificate=made.der,
        chain=between.der, key=b"key", issued=NOW, expires=NOW,
    )  # fmt: skip
    secret = certificate_secret("default", svid)
    chain = x509.load_pem_x509_certificates(secret.tls_certificate.certificate_chain.inline_bytes)
    assert chain == [made.certificate, between.certificate]
    assert secret.tls_certificate.private_key.inline_bytes.startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_a_trust_domain_without_roots_is_left_out_so_that_the_others_stay_usable() -> None:
    secret = spiffe_secret("ALL", [bundle(root()), bundle(domain="empty.test")])
    typed = secret.validation_context.custom_validator_config.typed_config
    config = wire.SPIFFECertValidatorConfig.FromString(typed.value)
    assert [one.name for one in config.trust_domains] == ["remit.test"]


def crl(issuer: Made, ends: datetime) -> bytes:
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.subject, NOW - timedelta(hours=1), ends)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_lists_are_handed_out_only_while_they_cover_every_root() -> None:
    first, second, soon = root(), root(), NOW + timedelta(minutes=5)
    whole = [crl(first, soon), crl(second, soon + timedelta(minutes=1))]
    pem, until = current_lists(whole, bundle(first, second), NOW)
    assert (pem.count(b"BEGIN X509 CRL"), until) == (2, soon - timedelta(seconds=30))
    assert current_lists(whole[:1], bundle(first, second), NOW) == (b"", None)
    assert current_lists([], bundle(first), NOW) == (b"", None)


def test_a_list_that_is_about_to_end_is_not_handed_out() -> None:
    anchor = root()
    assert current_lists([crl(anchor, NOW + timedelta(seconds=30))], bundle(anchor), NOW) == (b"", None)


def test_lists_of_intermediates_need_none_of_their_upstreams_root() -> None:
    upstream = root()
    pem, _ = current_lists([crl(intermediate(upstream), NOW + timedelta(minutes=5))], bundle(upstream), NOW)
    assert pem


def test_roots_without_lists_have_no_crl() -> None:
    context = roots_secret("ROOTCA", bundle(root()), b"").validation_context
    assert not context.HasField("crl")
    assert not context.only_verify_leaf_cert_crl


def test_our_copy_of_the_messages_has_envoys_numbers() -> None:
    """The numbers of Envoy's own .proto files; the real Envoy of the scenarios reads them too."""
    numbers = {
        "DiscoveryRequest": {"version_info": 1, "node": 2, "resource_names": 3, "type_url": 4, "response_nonce": 5, "error_detail": 6},
        "DiscoveryResponse": {"version_info": 1, "resources": 2, "type_url": 4, "nonce": 5},
        "Secret": {"name": 1, "tls_certificate": 2, "validation_context": 4},
        "TlsCertificate": {"certificate_chain": 1, "private_key": 2},
        "CertificateValidationContext": {"trusted_ca": 1, "crl": 7, "custom_validator_config": 12, "only_verify_leaf_cert_crl": 14},
        "TypedExtensionConfig": {"name": 1, "typed_config": 2},
        "SPIFFECertValidatorConfig": {"trust_domains": 1},
        "DataSource": {"inline_bytes": 2},
    }  # fmt: skip
    ours = {name: {one.name: one.number for one in getattr(wire, name).DESCRIPTOR.fields} for name in numbers}
    assert ours == numbers
