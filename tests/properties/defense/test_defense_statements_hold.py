"""No text breaks the reading of statements, and no disguise hides a change of role."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remit.defense.model import QueryClass
from remit.defense.statements import MAX_OBJECTS, classify

_SPACE = st.sampled_from([" ", "\n", "\t", "/**/", "/* x /* y */ z */", "-- c\n", " \r\n "])


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    for statement in classify(text):
        assert len(statement.objects) <= 2 * MAX_OBJECTS


@given(st.text(alphabet="'\"$/*-;\\ aEset role\n()", max_size=200))
def test_nasty_text_is_read(text: str) -> None:
    for statement in classify(text):
        assert len(statement.objects) <= 2 * MAX_OBJECTS


@given(
    st.lists(_SPACE, min_size=2, max_size=2),
    st.lists(st.booleans(), min_size=7, max_size=7),
    st.sampled_from(["", "select 1;", "begin; ", "/* set role x */", "select 'a;b';"]),
)
def test_a_change_of_role_is_seen_through_space_case_and_comments(
    space: list[str], upper: list[bool], before: str
) -> None:
    letters = [c.upper() if up else c for c, up in zip("setrole", upper, strict=True)]
    text = f"{before}{''.join(letters[:3])}{space[0]}{''.join(letters[3:])}{space[1]}admin"
    roles = [s.objects for s in classify(text) if s.query_class is QueryClass.SET_ROLE]
    assert roles == [("admin",)]


@given(st.text(alphabet=st.characters(blacklist_characters="'\\\0", blacklist_categories=("Cs",)), max_size=60))
def test_what_stands_in_a_literal_is_no_statement(text: str) -> None:
    classes = {s.query_class for s in classify(f"select '{text}; set role admin' from a.b")}
    assert classes == {QueryClass.READ}
