"""What the X.509 broker refuses before anything happens: options, roles, authorities and folders that will not do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from certificates import certificate, uris, usage
from remit.access.brokers.x509 import X509Broker, X509BrokerFactory
from remit.access.brokers.x509_settings import decode_options, read_role
from remit.access.model import Target
from remit.kernel.errors import Misconfigured
from x509_stage import authority, secret_of


@pytest.mark.parametrize(
    "options",
    [
        {"folder": "relative"},
        {"folder": "/tmp/../etc"},
        {"reload": "/bin/sh -c true"},
        {"reload": "program:../../bin/sh"},
        {"server": "apache"},
        {"shell": "x"},
    ],
    ids=str,
)
def test_options_that_are_not_understood(options: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="option"):
        decode_options(_target(**options))


@pytest.mark.parametrize("text", ["", "remit", "a b", "a path=x", "a uri=spiffe://x/y", "a path=/a path=/b", "a,OU=b"])
def test_roles_that_are_not_understood(text: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        read_role(text)
    assert refused.value.code == "access.x509.role"


def test_an_authority_of_a_trust_domain_is_refused() -> None:
    made = certificate(
        issuer=None, name="td", names=uris("spiffe://example.org"), ca=True,
        key_usage=usage("key_cert_sign", "crl_sign"), extended=None,
    )  # fmt: skip
    with pytest.raises(Misconfigured, match="trust domain"):
        X509BrokerFactory().make(_target(), secret_of(made))


def test_an_authority_that_cannot_sign_lists_is_refused_without_showing_its_key() -> None:
    made = certificate(issuer=None, name="c", ca=True, key_usage=usage("key_cert_sign"), extended=None)
    with pytest.raises(Misconfigured, match="cRLSign") as refused:
        X509BrokerFactory().make(_target(), secret_of(made))
    assert "PRIVATE" not in str(refused.value) + refused.value.next_step
    with pytest.raises(Misconfigured, match="no certificate"):
        X509BrokerFactory().make(_target(), "nothing")


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    broker = X509Broker(_target(folder=str(tmp_path)), secret_of(authority()))
    with pytest.raises(Misconfigured) as refused:
        asyncio.run(broker.open())
    assert refused.value.code == "access.x509.folder"


def _target(**options: str) -> Target:
    return Target(
        name="web", system="x509", host="127.0.0.1", port=443, database="", user="", roles={"read": "reader"},
        options={"folder": "/var/lib/remit/x509/web", **options},
    )  # fmt: skip
