"""The refusals that the SPIFFE-ID standard lists, one by one."""

from __future__ import annotations

import pytest

from remit.kernel.errors import Rejected
from remit.trust import SpiffeId, TrustDomain

REFUSED = {
    "another scheme": "https://remit.test/a",
    "no scheme": "remit.test/a",
    "no trust domain": "spiffe:///a",
    "no path": "spiffe://remit.test",
    "a root path": "spiffe://remit.test/",
    "a trailing slash": "spiffe://remit.test/a/",
    "an empty segment": "spiffe://remit.test/a//b",
    "a dot segment": "spiffe://remit.test/a/./b",
    "a double-dot segment": "spiffe://remit.test/../b",
    "a user": "spiffe://me@remit.test/a",
    "a port": "spiffe://remit.test:8420/a",
    "a query": "spiffe://remit.test/a?b=c",
    "a fragment": "spiffe://remit.test/a#b",
    "percent-encoding": "spiffe://remit.test/a%2Fb",
    "an upper-case trust domain": "spiffe://Remit.test/a",
    "a trailing newline": "spiffe://remit.test/a\n",
    "an address in brackets": "spiffe://[::1]/a",
    "more than 2,048 bytes": "spiffe://remit.test/" + "a" * 2048,
    "a trust domain of 256 bytes": f"spiffe://{'a' * 256}/a",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        SpiffeId.parse(text)
    assert refusal.value.code == "trust.spiffe_id.malformed"


@pytest.mark.parametrize("text", ["spiffe://10.0.0.1/a", "spiffe://remit_test/A.b-c_1/...", "spiffe://a/-"])
def test_it_is_read(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text


def test_an_id_of_2048_bytes_is_read() -> None:
    text = "spiffe://remit.test/"
    assert str(SpiffeId.parse(text + "a" * (2048 - len(text))))


@pytest.mark.parametrize("name", ["", "A.test", "a b", "a/b", "a" * 256, "é", "a\n"])
def test_it_is_no_trust_domain(name: str) -> None:
    with pytest.raises(Rejected) as refusal:
        TrustDomain(name)
    assert refusal.value.code == "trust.trust_domain.malformed"


@pytest.mark.parametrize("text", ["remit.test", "spiffe://remit.test", "SPIFFE://remit.test"])
def test_a_trust_domain_is_read_by_name_or_by_id(text: str) -> None:
    assert TrustDomain.parse(text) == TrustDomain("remit.test")


@pytest.mark.parametrize("text", ["spiffe://remit.test/", "spiffe://remit.test/a", "spiffe://", "https://remit.test"])
def test_what_is_more_or_less_than_a_trust_domain_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        TrustDomain.parse(text)
