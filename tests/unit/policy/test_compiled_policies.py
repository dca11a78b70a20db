"""Compiled policies: the index, skipped policies, the reference engine, and no source text."""

from __future__ import annotations

from remit.access.model import Effect
from remit.access.policy.compile import compile_policies
from remit.access.policy.entities import EntityView, missing
from remit.access.policy.values import Uid

P, R = Uid("Remit::Identity", "p"), Uid("Remit::Resource", "r")
USE, ALL, OTHER = (Uid("Remit::Action", name) for name in ("use", "all", "other"))
ACTION = EntityView(uid=USE, ancestors=frozenset((USE, ALL, OTHER)))


def view(uid: Uid, *above: Uid, **attributes: object) -> EntityView:
    return EntityView(uid=uid, ancestors=frozenset((uid, *above)), attributes=attributes)


def determining(text: str, principal: EntityView | None = None, resource: EntityView | None = None) -> list[str]:
    verdict = compile_policies(text).evaluate(principal or missing(P), ACTION, resource or missing(R), {})
    return sorted(policy.id for policy in verdict.determining)


def test_nothing_permits_nothing() -> None:
    verdict = compile_policies("").evaluate(missing(P), ACTION, missing(R), {})
    assert (verdict.allowed, verdict.determining, verdict.errors) == (False, (), ())


def test_an_action_in_two_groups_of_a_scope_meets_the_policy_once() -> None:
    text = 'permit(principal, action in [Remit::Action::"all", Remit::Action::"other"], resource);'
    assert determining(text) == ["policy0"]


def test_equality_of_a_scope_is_not_membership() -> None:
    group = Uid("Remit::Identity", "g")
    text = 'permit(principal == Remit::Identity::"g", action, resource);'
    assert determining(text, view(P, group)) == []
    assert determining(text, view(group)) == ["policy0"]


def test_a_scope_by_type_and_group_needs_both() -> None:
    group = Uid("Remit::Identity", "g")
    text = 'permit(principal is Remit::Resource in Remit::Identity::"g", action, resource);'
    assert determining(text, view(P, group)) == []


def test_a_forbid_overrides_every_permit() -> None:
    text = "permit(principal, action, resource); forbid(principal, action, resource);"
    assert determining(text) == ["policy1"]


def test_a_policy_that_errs_is_skipped_and_reported() -> None:
    text = "permit(principal, action, resource) when { principal.no }; permit(principal, action, resource);"
    verdict = compile_policies(text).evaluate(view(P), ACTION, missing(R), {})
    assert verdict.allowed
    assert [(policy.id, message) for policy, message in verdict.errors] == [
        ("policy0", "the attribute `no` does not exist")
    ]


def test_an_erring_forbid_is_visible_in_the_verdict() -> None:
    text = "forbid(principal, action, resource) when { context.x }; permit(principal, action, resource);"
    verdict = compile_policies(text).evaluate(view(P), ACTION, missing(R), {})
    assert (verdict.allowed, verdict.forbid_erred) == (True, True)


def test_a_literal_finds_the_entities_of_the_request() -> None:
    text = 'permit(principal, action, resource) when { Remit::Identity::"p".tier == 2 };'
    assert determining(text, view(P, tier=2)) == ["policy0"]


def test_what_the_compiler_does_not_know_goes_visibly_to_the_reference_engine() -> None:
    deep = "if true then (" * 70 + "principal has tier" + ") else false" * 70
    policies = compile_policies(f"permit(principal, action, resource) when {{ {deep} }};")
    assert policies.engine == "reference"
    assert policies.policies[0].uncovered == "a condition nested too deeply"
    assert policies.evaluate(view(P, tier=1), ACTION, missing(R), {}).allowed
    assert not policies.evaluate(view(P), ACTION, missing(R), {}).allowed


def test_an_operator_that_nobody_knows_never_permits() -> None:
    policies = compile_policies('permit(principal, action, resource) when { unknown("x") };')
    verdict = policies.evaluate(view(P), ACTION, missing(R), {})
    assert (policies.engine, verdict.allowed, len(verdict.errors)) == ("reference", False, 1)


def test_names_from_a_policy_never_become_source() -> None:
    hostile = "x\\\"] or __import__('os').abort() or [\\\""
    text = f'permit(principal, action, resource) when {{ context["{hostile}"] == "t0 := k1" }};'
    context = {hostile.replace("\\", ""): "t0 := k1"}
    assert compile_policies(text).evaluate(view(P), ACTION, missing(R), context).allowed


def test_obligations_are_read_from_permits_alone() -> None:
    text = '@obligation("step-up: 60, redaction") permit(principal, action, resource);'
    text += '@obligation("approval") forbid(principal, action, resource);'
    permit, forbid = compile_policies(text).policies
    assert [(each.kind, each.detail) for each in permit.obligations] == [("step-up", "60"), ("redaction", "")]
    assert (forbid.effect, forbid.obligations) == (Effect.FORBID, ())


def test_policies_far_from_the_request_are_not_called() -> None:
    scoped = "".join(
        f'permit(principal in Remit::Identity::"g{n}", action, resource == Remit::Resource::"r{n}");' for n in range(50)
    )
    policies = compile_policies(scoped + "forbid(principal, action, resource) when { false };")
    found = policies.applicable(view(P, Uid("Remit::Identity", "g7")), ACTION, view(Uid("Remit::Resource", "r7")))
    assert [policy.id for policy in found] == ["policy7", "policy50"]
