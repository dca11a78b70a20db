"""Over the starter policy: facts conform to the schema, and verdicts are the reference engine's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cedarpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.access.model import Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.facts import action_view, context_json, context_values
from remit.access.policy.schema import STANDARD
from remit.access.policy.values import to_json
from remit.access.snapshot import IdentityFacts, ResourceFacts, Snapshot
from remit.kernel.clock import ManualClock

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
STARTER = sorted((Path(__file__).parents[3] / "src" / "remit" / "access" / "policy" / "starter").glob("*.cedar"))
POLICIES = compile_policies("\n".join(path.read_text() for path in STARTER))
HANDLE = cedarpy.PolicySet.from_str("\n".join(policy.source.text for policy in POLICIES.policies))
SCHEMA = cedarpy.Schema.from_str(STANDARD.schema(["orders:refund"]))

ENVIRONMENTS = st.sampled_from((None, "production", "test"))
IDENTITIES = st.builds(
    IdentityFacts,
    id=st.just("id_1"),
    name=st.just("urn:n"),
    kind=st.sampled_from(("workload", "ai-agent")),
    owner=st.sampled_from((None, "person:ana")),
    owner_active=st.booleans(),
    tier=st.sampled_from((None, 0, 1, 2, 3)),
    environment=ENVIRONMENTS,
    risk=st.sampled_from((0, 79, 80)),
    groups=st.sampled_from(((), ("id_g",))),
    labels=st.sampled_from(((), (("team", "pay"),))),
)
RESOURCES = st.builds(
    ResourceFacts,
    name=st.just("target/orders"),
    kind=st.just("target"),
    sensitivity=st.sampled_from(("public", "internal", "confidential", "restricted")),
    environment=ENVIRONMENTS,
    owner=st.sampled_from((None, "person:ana")),
)
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.text(max_size=2), max_size=2)
)
PROVEN = st.fixed_dictionaries(
    {},
    optional={
        "attested": st.booleans(),
        "attested_at": st.sampled_from((SECONDS, SECONDS - 60, SECONDS - 600, SECONDS - 601, SECONDS + 3600)),
        "task": st.just("nightly"),
        "source_address": st.sampled_from(("10.0.0.1", "::1/64")),
        "selectors": st.lists(st.sampled_from(("unix:uid:0", "unix:uid:1")), max_size=2),
        "unheard_of": ANYTHING,
    },
)
CLAIMED = st.dictionaries(st.sampled_from((*STANDARD.claims, "other")), ANYTHING, max_size=4)
ACTIONS = st.sampled_from(("lease", "lease:issue", "grant:request", "svid:x509", "tool:list", "read", "orders:refund"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(identity=IDENTITIES, resource=RESOURCES, proven=PROVEN, claimed=CLAIMED, action=ACTIONS, known=st.booleans())
def test_the_decision_point_agrees_with_the_reference_engine_under_the_schema(
    identity: IdentityFacts, resource: ResourceFacts, proven: Any, claimed: Any, action: str, known: bool
) -> None:
    resources = [resource] if known else []
    whole = Snapshot.of(POLICIES, epoch=1, sequence=1, at=SECONDS, identities=[identity], resources=resources)
    request = Request(
        subject=Entity(type="identity", id="id_1", properties=claimed),
        action=action,
        resource=Entity(type="target", id="orders", properties=claimed),
        claimed=claimed,
        proven=proven,
    )
    decision = Pdp(lambda: whole, ManualClock(NOW)).decide(request)
    answer = reference(whole, identity, request)
    permitted = decision.allowed or bool(decision.obligations)
    ours = {reason.id for reason in decision.reasons if not reason.id.startswith("remit:")}
    assert permitted == answer.allowed
    assert ours == {POLICIES.policies[int(name.removeprefix("policy"))].id for name in answer.diagnostics.reasons}
    assert (decision.errors, answer.diagnostics.errors) == ((), [])


def reference(whole: Snapshot, identity: IdentityFacts, request: Request) -> cedarpy.AuthzResult:
    """cedarpy's answer, after it has validated entities and request against the schema."""
    views = (
        whole.see_identity(identity).view,
        whole.see_resource(request.resource.type, request.resource.id).view,
    )
    action = action_view(request.action, STANDARD.groups_of(request.action))
    told = context_json(request, now_seconds=SECONDS, exceptions=(), vocabulary=STANDARD)
    context = context_values(told, NOW.timestamp())
    entities = cedarpy.Entities.from_json_str(json.dumps([view.as_json() for view in views]), SCHEMA)
    asked = {
        "principal": {"type": views[0].uid.type, "id": views[0].uid.id},
        "action": {"type": action.uid.type, "id": action.uid.id},
        "resource": {"type": views[1].uid.type, "id": views[1].uid.id},
        "context": {name: to_json(value) for name, value in context.items()},
    }
    answer = cedarpy.is_authorized(asked, HANDLE, entities, schema=SCHEMA)
    assert answer.decision is not cedarpy.Decision.NoDecision, answer.diagnostics.errors
    return answer
