"""Templates become plain policies before anything is checked, proved or signed."""

from __future__ import annotations

import pytest

from remit.access.policy.check import check, errors_of
from remit.access.policy.compile import compile_policies
from remit.access.policy.source import TemplateLink
from remit.access.policy.templates import expand
from remit.kernel.errors import Rejected

TEMPLATE = '@id("t") @reason("of @id(\\"x\\") a team") permit (principal in ?principal, action, resource) when { context.attested };'
PLAIN = '@id("s") @reason("r") forbid (principal, action, resource) when { principal.risk > 90 };'


def link(name: str, template: str = "t", kind: str = "Remit::Identity", entity: str = "team") -> TemplateLink:
    return TemplateLink(template=template, id=name, values={"?principal": (kind, entity)})


def test_each_link_is_a_policy_of_its_own_name() -> None:
    text = expand(f"// why\n{TEMPLATE}\n{PLAIN}", [link("a"), link("b")])
    assert sorted(policy.id for policy in compile_policies(text).policies) == ["a", "b", "s"]
    assert "// why" in text and "?principal" not in text
    assert [policy.source.annotations["reason"] for policy in compile_policies(text).policies][1:] == [
        'of @id("x") a team'
    ] * 2
    assert errors_of(check(text)) == []


def test_a_text_without_templates_stays_as_it_is() -> None:
    assert expand(PLAIN, []) == PLAIN


def test_a_template_that_nothing_links_is_left_out_and_told() -> None:
    assert compile_policies(expand(TEMPLATE + PLAIN, [])).by_id.keys() == {"s"}
    (advice,) = check(TEMPLATE + PLAIN, links=[])
    assert (advice.code, advice.error, advice.policy) == ("access.policy.unlinked-template", False, "t")


def test_what_a_link_makes_is_checked() -> None:
    wrong = check(TEMPLATE, links=[link("a", kind="Remit::Nobody")])
    assert {problem.policy for problem in errors_of(wrong)} == {"a"}
    assert check(TEMPLATE, links=[link("a")]) == []


def test_what_is_staged_has_no_template() -> None:
    assert [problem.code for problem in errors_of(check(TEMPLATE))] == ["access.policy.template"]


@pytest.mark.parametrize("links", [[link("a", template="u")], [link("s")], [link("a"), link("a")]])
def test_a_link_that_does_not_fit_is_refused(links: list[TemplateLink]) -> None:
    with pytest.raises(Rejected) as refused:
        expand(TEMPLATE + PLAIN, links)
    assert refused.value.code == "access.policy.link"


def test_an_id_cannot_break_out_of_its_text() -> None:
    text = expand(TEMPLATE, [link('a") permit(principal, action, resource); //', entity='"; //\n')])
    (policy,) = compile_policies(text).policies
    assert policy.id == 'a") permit(principal, action, resource); //'
