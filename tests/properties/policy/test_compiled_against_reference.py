"""The compiler against cedarpy: decision, determining policies and errors, over the whole language."""

from __future__ import annotations

from collections.abc import Mapping

from cedar_language import policies, records, uids, worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.entities import EntityTable, EntityView, missing
from remit.access.policy.reference import ReferenceEngine
from remit.access.policy.values import Uid

ACTION = EntityView(
    uid=Uid("Remit::Action", "use"),
    ancestors=frozenset((Uid("Remit::Action", "use"), Uid("Remit::Action", "all"))),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    texts=st.lists(policies(), min_size=1, max_size=4),
    world=worlds(),
    principal=uids,
    resource=uids,
    context=records(),
)
def test_compiled_policies_answer_as_the_reference_engine(
    texts: list[str], world: EntityTable, principal: Uid, resource: Uid, context: Mapping[str, object]
) -> None:
    compiled = compile_policies("\n".join(texts))
    views = [world.entity(uid) or missing(uid) for uid in (principal, resource)]
    verdict = compiled.evaluate(views[0], ACTION, views[1], context, world)
    answer = _reference(compiled).evaluate(views[0], ACTION, views[1], context, world)
    assert verdict.allowed == answer.allowed
    assert {policy.id for policy in verdict.determining} == answer.determining
    assert {policy.id for policy, _ in verdict.errors} == answer.errors
    assert compiled.engine == "compiled"


def _reference(compiled: CompiledPolicies) -> ReferenceEngine:
    return ReferenceEngine(policy.source for policy in compiled.policies)
