"""The options of a PostgreSQL target, and names in SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.access.brokers.postgres import install_sql
from remit.access.brokers.postgres_settings import Settings, decode_options
from remit.access.model import Target
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.postgres.script import quote_identifier, quote_literal, session_functions


def test_options_are_decoded() -> None:
    options = {"scram_iterations": "1", "connections": "2", "ownership": "lease", "keep": "a, b"}
    assert decode_options(options) == Settings(iterations=1, connections=2, own=True, keep=("a", "b"))


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"scram_iterations": "0"},
        {"scram_iterations": "-1"},
        {"scram_iterations": "99999999999"},
        {"connections": "many"},
        {"ownership": "nobody"},
    ],
)
def test_a_wrong_option_is_misconfigured(options: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        decode_options(options)
    assert caught.value.code == "access.target.option"


def test_a_group_that_looks_like_a_placeholder_stays_text() -> None:
    assert "ARRAY['@schema@']" in session_functions("test0001", ["@schema@"])


@given(st.text(max_size=30))
def test_a_literal_has_no_open_end(text: str) -> None:
    if "\x00" in text:
        with pytest.raises(Rejected):
            quote_literal(text)
        return
    quoted = quote_literal(text)
    inner = quoted.removeprefix("E")[1:-1]
    assert inner.replace("''", "").count("'") == 0
    assert quoted.startswith("E") == ("\\" in text)


@given(
    st.text(min_size=1, max_size=15).filter(
        lambda text: "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    )
)
def test_an_identifier_has_no_open_end(text: str) -> None:
    assert '"' not in quote_identifier(text)[1:-1].replace('""', "")


def test_the_script_names_only_the_brokers_login_and_groups() -> None:
    target = Target(
        name="t", system="postgres", host="h", port=5432, database="d", user='bro"ker', roles={"r": "app'ro"}
    )
    script = install_sql(target, "test0001")
    assert 'TO "bro""ker"' in script
    assert "ARRAY['app''ro']::text[]" in script
    assert "@" not in script.replace("%@", "")


def test_an_instance_of_another_form_is_rejected() -> None:
    with pytest.raises(Rejected):
        session_functions("Test; --", [])
