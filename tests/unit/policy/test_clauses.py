"""Which clause failed: one policy, one request, one sentence."""

from __future__ import annotations

import pytest

from remit.access.model import Entity
from remit.access.policy.clauses import Sight, failed_clauses, held_clauses
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.entities import EntityTable
from remit.access.policy.facts import IdentityFacts
from remit.access.policy.remedy import find_remedy
from remit.access.policy.situation import MOMENT, Asked, Situation
from remit.access.policy.steps import needs_text

SITUATION = Situation(
    identity=IdentityFacts(id="id_1", name="n", kind="workload", tier=2, labels=(("team", "pay"),)),
    action="read",
    resource=Entity(type="service", id="crm"),
    proven={"attested": True, "attested_at": int(MOMENT.timestamp()) - 1200, "selectors": ["unix:uid:1"]},
    claimed={"tool": "mail"},
)


def sight(policies: CompiledPolicies) -> Sight:
    asked = Asked.of(SITUATION.decide(policies))
    assert asked is not None
    return Sight(asked.principal, asked.action, asked.resource, asked.context, EntityTable({}))


def said(clauses: str) -> list[str]:
    policies = compile_policies(f"permit (principal, action, resource) {clauses};")
    return [each.sentence() for each in failed_clauses(policies.policies[0], sight(policies))]


@pytest.mark.parametrize(
    ("clauses", "sentences"),
    [
        ("when { context.attestation_age <= 600 }",
         ["`context.attestation_age <= 600` is false (context.attestation_age is 1200)"]),
        ("when { principal.owner_active && context.attested }", ["`principal.owner_active` is false"]),
        ("when { context has grant && context.grant != \"\" }", ["`context has grant` is false"]),
        ("unless { context.attested }", ["`context.attested` is true"]),
        ("when { !(principal.tier == 2) }", ["`principal.tier == 2` is true (principal.tier is 2)"]),
        ("when { principal.owner_active || principal.tier < 2 }",
         ["one of these is needed: `principal.owner_active` is false or "
          "`principal.tier < 2` is false (principal.tier is 2)"]),
        ("when { if context.attested then principal.tier == 0 else false }",
         ["`context.attested` is true", "`principal.tier == 0` is false (principal.tier is 2)"]),
        ("when { if context has grant then true else false }", ["`context has grant` is false"]),
        ("when { context.claimed.tool like \"db*\" }",
         ["`context.claimed.tool like \"db*\"` is false (context.claimed.tool is \"mail\")"]),
        ("when { principal in Remit::Identity::\"g\" }", ["`principal in Remit::Identity::\"g\"` is false"]),
        ("when { context.attested && context.role == \"x\" }",
         ["`context.role == \"x\"` could not be evaluated: the attribute `role` does not exist, in `context.role` "
          "(context.role is missing)"]),
    ],
)  # fmt: skip
def test_the_very_clause_is_named_with_its_values(clauses: str, sentences: list[str]) -> None:
    assert said(clauses) == sentences


def test_a_forbid_tells_by_which_clauses_it_holds() -> None:
    policies = compile_policies("forbid (principal, action, resource) when { principal.tier >= 2 } unless { false };")
    told = [each.text for each in held_clauses(policies.policies[0], sight(policies))]
    assert told[0] == "principal.tier >= 2"


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("permit (principal, action, resource) when { context has grant && context.attestation_age < 600 };",
         {"context.grant": "present", "context.attestation_age": "at most 599"}),
        ("permit (principal, action, resource) when { principal.tier == 0 || principal.owner_active };",
         {"principal.owner_active": "true"}),
        ("permit (principal, action, resource); forbid (principal, action, resource) when { principal.tier > 1 } "
         "unless { context.exceptions.contains(\"late\") };", {"context.exceptions": "holds \"late\""}),
        ("permit (principal in Remit::Identity::\"id_1\", action, resource) when "
         "{ resource in Remit::Resource::\"shop\" };", {"resource": "in Remit::Resource::\"shop\""}),
    ],
)  # fmt: skip
def test_the_least_change_that_allows_is_found(text: str, changes: dict[str, str]) -> None:
    policies = compile_policies(text)
    remedy = find_remedy(policies, sight(policies))
    assert remedy is not None
    assert {".".join(each.path): needs_text(each) for each in remedy.changes} == changes


def test_nothing_is_claimed_where_nothing_allows() -> None:
    policies = compile_policies("permit (principal, action, resource); forbid (principal, action, resource);")
    assert find_remedy(policies, sight(policies)) is None
