"""SPIFFE-ID, clause by clause (spiffe/spiffe standards/SPIFFE-ID.md)."""

from __future__ import annotations

import string

import pytest

from remit.kernel.errors import Rejected
from remit.trust import SpiffeId, TrustDomain


def refused(text: str) -> bool:
    try:
        SpiffeId.parse(text)
    except Rejected as error:
        return error.code in ("trust.spiffe_id.malformed", "trust.trust_domain.malformed")
    return False


@pytest.mark.parametrize("scheme", ["spiffe", "SPIFFE", "Spiffe"])
def test_2_the_scheme_is_spiffe_in_any_case(scheme: str) -> None:
    assert str(SpiffeId.parse(f"{scheme}://remit.test/a")) == "spiffe://remit.test/a"


@pytest.mark.parametrize(
    "text", ["http://remit.test/a", "spiffe:/remit.test/a", "spiffe:remit.test/a", "//remit.test/a", ""]
)
def test_2_another_scheme_is_invalid(text: str) -> None:
    assert refused(text)


def test_2_the_host_must_not_be_empty() -> None:
    assert refused("spiffe:///a")


@pytest.mark.parametrize("text", ["me@remit.test", "me:pw@remit.test", "remit.test:443", "[::1]"])
def test_2_there_is_no_user_information_and_no_port(text: str) -> None:
    assert refused(f"spiffe://{text}/a")


@pytest.mark.parametrize("text", ["?", "?q=1", "#", "#f", "/b?q", "/b#f"])
def test_2_there_is_no_query_and_no_fragment(text: str) -> None:
    assert refused(f"spiffe://remit.test/a{text}")


@pytest.mark.parametrize("text", ["%41", "%2f", "b%20c", "%"])
def test_2_there_is_no_percent_encoding(text: str) -> None:
    assert refused(f"spiffe://remit.test/{text}")
    assert refused(f"spiffe://remit{text}.test/a")


def test_2_1_a_trust_domain_is_of_lower_case_letters_digits_dot_dash_underscore() -> None:
    allowed = set(string.ascii_lowercase + string.digits + ".-_")
    for code in range(0x21, 0x7F):
        assert refused(f"spiffe://a{chr(code)}b.test/x") is (chr(code) not in allowed and chr(code) != "/"), chr(code)


def test_2_1_a_trust_domain_has_at_most_255_bytes() -> None:
    assert not refused(f"spiffe://{'a' * 255}/x")
    assert refused(f"spiffe://{'a' * 256}/x")


@pytest.mark.parametrize("name", ["10.0.0.1", "1", "localhost", "-", "_a.b-c", "a..b", ".a", "a."])
def test_2_1_a_trust_domain_that_looks_like_an_address_or_a_name_means_nothing_by_it(name: str) -> None:
    assert TrustDomain.parse(f"spiffe://{name}").name == name
    assert not refused(f"spiffe://{name}/a")


def test_2_2_a_path_segment_is_of_letters_digits_dot_dash_underscore() -> None:
    allowed = set(string.ascii_letters + string.digits + ".-_")
    for code in range(0x20, 0x7F):
        assert refused(f"spiffe://remit.test/a{chr(code)}b") is (chr(code) not in allowed and chr(code) != "/"), chr(
            code
        )


@pytest.mark.parametrize("path", ["/a//b", "//a", "/.", "/..", "/a/.", "/a/../b", "/a/", "/"])
def test_2_2_there_is_no_empty_or_dotted_segment_and_no_trailing_slash(path: str) -> None:
    assert refused(f"spiffe://remit.test{path}")


@pytest.mark.parametrize("path", ["/...", "/.a", "/a..b", "/-", "/_"])
def test_2_2_dots_within_a_segment_are_allowed(path: str) -> None:
    assert not refused(f"spiffe://remit.test{path}")


def test_2_2_a_path_is_case_sensitive() -> None:
    assert SpiffeId.parse("spiffe://remit.test/A") != SpiffeId.parse("spiffe://remit.test/a")


@pytest.mark.parametrize(
    "text", ["spiffe://remit.tést/a", "spiffe://remit.test/é", "spiffe://remit.test/a\u200b", "spiffe://remit.test/a\n"]
)
def test_2_other_characters_are_invalid(text: str) -> None:
    assert refused(text)


def test_2_3_2048_bytes_are_accepted_and_no_more() -> None:
    longest = "spiffe://remit.test/" + "a" * (2048 - len("spiffe://remit.test/"))
    assert str(SpiffeId.parse(longest)) == longest
    assert refused(longest + "a")


def test_2_3_none_longer_is_generated() -> None:
    with pytest.raises(Rejected):
        SpiffeId(TrustDomain("remit.test"), "/" + "a" * 2048)
