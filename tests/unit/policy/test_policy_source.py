"""Policy text: statements, ids, lines, and what is refused."""

from __future__ import annotations

import pytest

from remit.access.policy.source import read_policies, scan
from remit.kernel.errors import Rejected

PERMIT = "permit(principal, action, resource);"


def test_ids_are_annotations_or_positions() -> None:
    sources = read_policies(f'{PERMIT}\n@id("named") {PERMIT}\n{PERMIT}')
    assert [source.id for source in sources] == ["policy0", "named", "policy2"]


def test_a_semicolon_in_a_string_or_comment_ends_nothing() -> None:
    text = 'permit(principal, action, resource) // a; "b\nwhen { context.a == "x;\\";y" };\n' + PERMIT
    assert len(read_policies(text)) == 2


def test_lines_are_those_of_the_statement_not_of_its_comments() -> None:
    sources = read_policies(f"// one\n\n{PERMIT} // two\n// three\n{PERMIT}")
    assert [source.line for source in sources] == [3, 5]


def test_only_comments_are_no_policies() -> None:
    assert read_policies("// nothing; here\n") == ()


def test_the_first_line_is_the_reason_where_none_is_given() -> None:
    (source,) = read_policies('@id("x")\n// why\n@note("y;)")\nforbid(principal, action, resource)\nwhen { true };')
    assert source.reason == "forbid(principal, action, resource)"


def test_a_reason_is_what_its_author_wrote() -> None:
    (source,) = read_policies(f'@reason("because") {PERMIT}')
    assert source.reason == "because"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("permit(principal, action,", "access.policy.syntax", 1),
        (f"{PERMIT}\npermit(principal,\n action, resource) when {{ foo }};", "access.policy.syntax", 3),
        (f"{PERMIT}\npermit(principal == ?principal, action, resource);", "access.policy.template", 2),
        (f'@id("a") {PERMIT}\n\n@id("a") {PERMIT}', "access.policy.duplicate-id", 3),
        (f"{PERMIT}\njunk", "access.policy.syntax", 2),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, code: str, line: int) -> None:
    _, problems = scan(text)
    assert [(problem.code, problem.line) for problem in problems] == [(code, line)]


def test_a_bad_policy_does_not_hide_the_others() -> None:
    sources, problems = scan(f"permit(nobody);\n{PERMIT}")
    assert (len(sources), len(problems)) == (1, 1)


def test_an_enormous_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Rejected) as refused:
        read_policies(" " * (9 << 20))
    assert refused.value.code == "access.policy.too-large"


def test_a_condition_beyond_the_parser_is_refused() -> None:
    deep = "!(true && " * 400 + "false" + ")" * 400
    with pytest.raises(Rejected) as refused:
        read_policies(f"permit(principal, action, resource) when {{ {deep} }};")
    assert refused.value.code in ("access.policy.too-deep", "access.policy.syntax")
