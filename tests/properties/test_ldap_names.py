"""Names and filters of directories: whatever a value holds, it stays a value."""

import re
import string

import pytest
from cryptography.x509 import Name
from cryptography.x509.oid import NameOID
from hypothesis import assume, given
from hypothesis import strategies as st

from remit.kernel.errors import Rejected
from remit.providers.ldap.names import (
    child,
    escape_filter,
    escape_value,
    is_below,
    parse_name,
    same_name,
    split_names,
)

VALUES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda text: text.strip(" ") != ""
)
NASTY = st.text(alphabet=' ,+"\\<>;=#*()\x00aé\u2028', min_size=1, max_size=12).filter(
    lambda text: text.strip(" ") != ""
)
BASE = "ou=leases,dc=example,dc=org"


@given(VALUES | NASTY)
def test_a_value_in_a_name_is_read_back_and_makes_no_part_of_its_own(value: str) -> None:
    parts = parse_name(child("cn", value, BASE))
    assert parts[0] == (("cn", value),)
    assert parts[1:] == parse_name(BASE)


@given(VALUES | NASTY)
def test_another_reader_of_names_agrees(value: str) -> None:
    assume(len(value.encode()) <= 64)  # that reader knows X.520's bound of a common name
    read = Name.from_rfc4514_string(f"CN={escape_value(value)},OU=leases,DC=example,DC=org")
    assert len(read.rdns) == 4
    assert [one.value for one in read.get_attributes_for_oid(NameOID.COMMON_NAME)] == [value]


@given(VALUES | NASTY)
def test_a_value_in_a_filter_has_no_meaning_and_is_read_back(value: str) -> None:
    written = escape_filter(value)
    assert set(written) <= set(string.printable) - set("*()\x00")
    raw = re.sub(rb"\\([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), written.encode())
    assert raw.decode() == value


@given(VALUES | NASTY, VALUES | NASTY)
def test_names_with_semicolons_between_are_taken_apart_again(one: str, other: str) -> None:
    names = child("cn", one, BASE), child("cn", other, BASE)
    assert [parse_name(name) for name in split_names(";".join(names))] == [parse_name(name) for name in names]


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_rejected(text: str) -> None:
    try:
        assert parse_name(text)
    except Rejected as refused:
        assert refused.code == "access.ldap.name"


def test_case_and_spaces_do_not_tell_names_apart_and_a_suffix_is_no_ancestor() -> None:
    assert same_name("CN=Ann  Lee, OU=People,dc=Example") == same_name("cn=ann lee,ou=people,DC=example")
    assert is_below("cn=a,ou=leases,dc=x", "OU=Leases,dc=x") and is_below("dc=x", "dc=x")
    assert not is_below("cn=a,ou=xleases,dc=x", "ou=leases,dc=x") and not is_below("dc=x", "cn=a,dc=x")


@pytest.mark.parametrize(
    "text", ["", "cn", "cn=", "=a", "cn=#0401", "cn=a\\", "cn=a\\zz", "cn=a,,dc=b", 'cn="a"', "cn=\\ff"]
)
def test_what_is_no_name_is_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        parse_name(text)


def test_a_value_that_begins_or_ends_with_a_space_is_written_with_care() -> None:
    assert escape_value(" a ") == "\\ a\\ " and escape_value("#a") == "\\#a"
