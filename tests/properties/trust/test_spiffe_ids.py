"""SPIFFE IDs: what is written is read back, and nothing outside the grammar is read at all."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.kernel.errors import Rejected
from remit.trust import SpiffeId, TrustDomain

DOMAIN_CHARACTERS = string.ascii_lowercase + string.digits + ".-_"
PATH_CHARACTERS = string.ascii_letters + string.digits + ".-_"
domains = st.text(DOMAIN_CHARACTERS, min_size=1, max_size=255)
segments = st.text(PATH_CHARACTERS, min_size=1, max_size=40).filter(lambda text: text not in (".", ".."))
paths = st.lists(segments, min_size=1, max_size=8).map(lambda parts: "/" + "/".join(parts))


@given(domains, paths)
def test_an_id_reads_back_as_it_was_written(domain: str, path: str) -> None:
    made = SpiffeId(TrustDomain(domain), path)
    assert SpiffeId.parse(str(made)) == made


@given(domains, paths, st.sampled_from(["SPIFFE://", "Spiffe://", "sPiFfE://"]))
def test_the_scheme_may_be_in_any_case_and_is_written_in_lower(domain: str, path: str, scheme: str) -> None:
    assert str(SpiffeId.parse(scheme + domain + path)) == f"spiffe://{domain}{path}"


@given(domains, paths, st.data())
def test_one_illegal_character_anywhere_is_refused(domain: str, path: str, data: st.DataObject) -> None:
    text = domain + path
    at = data.draw(st.integers(0, len(text)))
    illegal = data.draw(st.sampled_from([*"%?#@: \\\"'<>\n\x00é", "%2e"]))
    with pytest.raises(Rejected, match="no SPIFFE ID"):
        SpiffeId.parse(f"spiffe://{text[:at]}{illegal}{text[at:]}")


@given(st.text(max_size=300))
def test_whatever_is_read_is_written_the_same(text: str) -> None:
    try:
        parsed = SpiffeId.parse(text)
    except Rejected:
        return
    assert str(parsed).removeprefix("spiffe://") == text[len("spiffe://") :]


@given(domains, paths)
def test_case_counts_in_the_path_and_is_refused_in_the_domain(domain: str, path: str) -> None:
    if path != path.upper():
        upper = SpiffeId(TrustDomain(domain), path.upper())
        assert upper != SpiffeId(TrustDomain(domain), path)
    if domain != domain.upper():
        with pytest.raises(Rejected):
            TrustDomain(domain.upper())
