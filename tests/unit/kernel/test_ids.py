"""Identifiers: ULIDs that sort by time, names that nobody can forge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remit.kernel.ids import credential_name, is_id, name, new_id, parse_name, ulid

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1), timezones=st.just(UTC))
parts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def _decoded(text: str) -> int:
    value = 0
    for letter in text:
        value = value * 32 + _ALPHABET.index(letter)
    return value


@given(moments, st.binary(min_size=10, max_size=10))
def test_a_ulid_is_the_crockford_base32_of_its_milliseconds_and_its_entropy(now: datetime, entropy: bytes) -> None:
    made = ulid(now, entropy=entropy)
    assert len(made) == 26
    assert _decoded(made) >> 80 == int(now.timestamp() * 1000)
    assert (_decoded(made) & (1 << 80) - 1).to_bytes(10, "big") == entropy


@given(moments, moments, st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ulids_of_different_milliseconds_sort_as_their_times(
    one: datetime, other: datetime, first: bytes, second: bytes
) -> None:
    earlier, later = sorted((one, other))
    if later - earlier >= timedelta(milliseconds=2):
        assert ulid(earlier, entropy=first) < ulid(later, entropy=second)


def test_ids_of_one_instant_differ() -> None:
    assert len({new_id("gr", NOON) for _ in range(2000)}) == 2000


def test_an_id_is_told_by_its_prefix_and_form() -> None:
    made = new_id("ls", NOON)
    assert is_id("ls", made)
    assert not is_id("gr", made)
    for forged in (made.lower(), made + "0", made[:-1], f"x{made}", f"ls_8{made[4:]}", f"ls_{'U' * 26}", "ls_", ""):
        assert not is_id("ls", forged)


@given(parts, parts, parts, parts)
@example("postgres", "a:b", "role", "50%25 :/?#[]@\n\x00é")
@example("", "", "", "")
def test_a_name_comes_apart_into_what_it_was_made_of(system: str, instance: str, kind: str, local: str) -> None:
    made = name(system, instance, kind, local)
    assert parse_name(made) == (system, instance, kind, local)
    assert made.isascii() and made.isprintable() and " " not in made


@given(st.tuples(parts, parts, parts, parts), st.tuples(parts, parts, parts, parts))
@example(("a", "b:c", "d", "e"), ("a", "b", "c:d", "e"))
def test_two_things_never_have_one_name(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    first, second = name(*one), name(*other)  # type: ignore[call-arg]
    assert (first == second) == (one == other)


@pytest.mark.parametrize("text", ["", "urn:remit", "urn:remit:a:b:c", "urn:remit:a:b:c:d:e", "urn:other:a:b:c:d", "x"])
def test_what_is_no_name_of_ours_is_not_read_as_one(text: str) -> None:
    assert parse_name(text) is None


def test_a_credential_is_named_by_its_fingerprint() -> None:
    parsed = parse_name(credential_name("sha256:abcd"))
    assert parsed == ("credential", "sha256", "fingerprint", "abcd")
    assert unquote(credential_name("hmac:00")) == "urn:remit:credential:hmac:fingerprint:00"
