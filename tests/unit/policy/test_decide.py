"""The order of a decision: each step refuses what it must, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from remit.access.model import Approval, Decision, Entity, Grant, GrantState, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.shadow import Disagreement, Shadow
from remit.access.snapshot import ExceptionFacts, GrantFacts, IdentityFacts, ResourceFacts, Snapshot
from remit.inventory.model import State
from remit.kernel.canonical import canonical
from remit.kernel.clock import ManualClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
JOB = IdentityFacts(
    id="id_1", name="urn:remit:a:b:c:job", kind="workload", owner="person:ana", owner_active=True, tier=3
)
ORDERS = ResourceFacts(name="target/orders", kind="target", sensitivity="internal")
ALLOW = '@id("all") @reason("everything") permit(principal, action, resource);'


def snapshot(policies: str = ALLOW, identity: IdentityFacts = JOB, **more: Any) -> Snapshot:
    return Snapshot.of(
        compile_policies(policies),
        epoch=1,
        sequence=2,
        at=NOW.timestamp(),
        identities=[identity],
        resources=[ORDERS],
        **more,
    )


def decide(whole: Snapshot, *, after: float = 0.0, subject: str = "id_1", **request: Any) -> Decision:
    clock = ManualClock(NOW)
    clock.advance(timedelta(seconds=after))
    options = {name: request.pop(name) for name in ("fulfils", "explain") if name in request}
    asked = {
        "subject": Entity(type="identity", id=subject),
        "action": "lease",
        "resource": Entity(type="target", id="orders"),
    }
    return Pdp(lambda: whole, clock).decide(Request(**{**asked, **request}), **options)


def first(decision: Decision) -> str:
    return decision.reasons[0].id


def grant(**more: Any) -> Grant:
    facts: dict[str, Any] = {
        "id": "gr_1",
        "identity": "id_1",
        "task": "nightly",
        "task_digest": "sha256:t",
        "needs": (),
        "decision": "dc_1",
        "created": NOW,
        "expires": NOW + timedelta(hours=1),
        "state": GrantState.APPROVED,
    }
    return Grant(**{**facts, **more})


def approved(given: Grant) -> GrantFacts:
    approval = Approval(approver="person:bo", time=NOW, digest=given.digest, signature="s")
    return GrantFacts.of(replace(given, approvals=(approval,)))


def test_a_permit_allows_and_is_named_with_its_reason() -> None:
    decision = decide(snapshot())
    assert decision.allowed
    assert [(reason.id, reason.text) for reason in decision.reasons] == [("all", "everything")]
    assert decision.snapshot == "1.2"


def test_without_a_policy_the_answer_is_no() -> None:
    assert first(decide(snapshot(""))) == "remit:default-deny"


@pytest.mark.parametrize("kind", ["person", "user", ""])
def test_a_subject_of_another_type_is_unknown(kind: str) -> None:
    request = Request(subject=Entity(type=kind, id="id_1"), action="lease", resource=Entity(type="t", id="r"))
    whole = snapshot()
    assert first(Pdp(lambda: whole, ManualClock(NOW)).decide(request)) == "remit:subject-unknown"


def test_a_name_that_nobody_knows_is_refused() -> None:
    assert first(decide(snapshot(), subject="id_2")) == "remit:subject-unknown"


@pytest.mark.parametrize("state", [State.REQUESTED, State.QUARANTINED, State.SUSPENDED, State.RETIRED])
def test_only_a_live_identity_is_asked_about(state: State) -> None:
    whole = snapshot(identity=msgspec.structs.replace(JOB, state=state))
    assert first(decide(whole)) == "remit:state"


def test_a_rotating_identity_is_live() -> None:
    assert decide(snapshot(identity=msgspec.structs.replace(JOB, state=State.ROTATING))).allowed


def test_a_quarantine_refuses_before_any_permit() -> None:
    assert first(decide(snapshot(quarantined={"id_1": "rogue"}))) == "remit:quarantined"


@pytest.mark.parametrize("name", ["id_1", "urn:remit:a:b:c:job", "gr_9", "sha256:ab", "node-7"])
def test_a_revocation_of_what_the_request_rests_on_refuses(name: str) -> None:
    proven = {"grant": "gr_9", "sha256": "sha256:ab", "node": "node-7"}
    assert first(decide(snapshot(revoked={name: "leaked"}), proven=proven)) == "remit:revoked"


def test_a_snapshot_of_tier_3_may_be_half_a_minute_old() -> None:
    assert decide(snapshot(), after=30).allowed
    assert first(decide(snapshot(), after=30.1)) == "remit:stale"


@pytest.mark.parametrize("tier", [0, 1, None])
def test_for_the_strict_tiers_a_snapshot_is_stale_after_a_second(tier: int | None) -> None:
    whole = snapshot(identity=msgspec.structs.replace(JOB, tier=tier))
    assert decide(whole, after=1).allowed
    assert first(decide(whole, after=1.1)) == "remit:stale"


def test_for_what_nobody_classified_a_snapshot_is_stale_after_a_second() -> None:
    assert first(decide(snapshot(), after=2, resource=Entity(type="target", id="other"))) == "remit:stale"


def test_a_gap_is_stale_at_once() -> None:
    assert first(decide(replace(snapshot(), gap=True))) == "remit:stale"


@pytest.mark.parametrize(
    ("given", "proven", "reason"),
    [
        (grant(id="gr_2"), {}, "remit:grant-unknown"),
        (grant(identity="id_2"), {}, "remit:grant-foreign"),
        (grant(expires=NOW), {}, "remit:grant-over"),
        (grant(state=GrantState.REQUESTED), {}, "remit:grant-over"),
        (grant(), {"task_digest": "sha256:other"}, "remit:grant-changed"),
        (grant(), {"grant_digest": "sha256:other"}, "remit:grant-changed"),
    ],
)
def test_a_grant_must_be_its_own_in_force_and_unchanged(given: Grant, proven: dict[str, str], reason: str) -> None:
    whole = snapshot(grants=[GrantFacts.of(given)])
    assert first(decide(whole, proven={"grant": "gr_1", **proven})) == reason


def test_a_grant_that_changed_after_its_approval_is_void() -> None:
    changed = msgspec.structs.replace(approved(grant()), digest=grant(needs=("postgres://other?role=admin",)).digest)
    assert first(decide(snapshot(grants=[changed]), proven={"grant": "gr_1"})) == "remit:grant-changed"


def test_a_grant_as_it_was_approved_is_permitted() -> None:
    assert decide(snapshot(grants=[approved(grant())]), proven={"grant": "gr_1"}).allowed


def test_an_applicable_forbid_that_errs_denies() -> None:
    decision = decide(snapshot(ALLOW + '@id("f") forbid(principal, action, resource) when { context.nope };'))
    assert not decision.allowed
    assert [reason.id for reason in decision.reasons] == ["all", "remit:forbid-erred"]
    assert decision.errors == ("f: the attribute `nope` does not exist",)


def test_a_permit_that_errs_only_loses_itself() -> None:
    decision = decide(snapshot(ALLOW + '@id("p") permit(principal, action, resource) when { context.nope };'))
    assert decision.allowed
    assert len(decision.errors) == 1


STEP_UP = '@id("s") @obligation("step-up: 120") permit(principal, action, resource);'


def test_an_unmet_obligation_denies_and_says_what_is_missing() -> None:
    decision = decide(snapshot(STEP_UP), explain=True)
    assert not decision.allowed
    assert [obligation.kind for obligation in decision.obligations] == ["step-up"]
    assert decision.needed == ("step-up: 120",)


def test_a_registered_enforcement_point_gets_a_conditional_permit() -> None:
    decision = decide(snapshot(STEP_UP), fulfils=frozenset(("step-up",)))
    assert (decision.allowed, len(decision.obligations)) == (True, 1)


def test_a_proof_within_the_limit_meets_the_obligation() -> None:
    assert decide(snapshot(STEP_UP), proven={"step_up_at": SECONDS - 120}).allowed
    assert not decide(snapshot(STEP_UP), proven={"step_up_at": SECONDS - 121}).allowed


def test_a_broad_permit_does_not_take_away_the_obligation_of_a_careful_one() -> None:
    assert not decide(snapshot(ALLOW + STEP_UP)).allowed


@pytest.mark.parametrize(("facts", "allowed"), [(approved(grant()), True), (GrantFacts.of(grant()), False)])
def test_an_approval_obligation_is_met_by_a_grant_that_a_person_approved(facts: GrantFacts, allowed: bool) -> None:
    text = '@obligation("approval") permit(principal, action, resource);'
    assert decide(snapshot(text, grants=[facts]), proven={"grant": "gr_1"}).allowed is allowed


def test_a_limit_that_is_no_number_is_met_by_nothing() -> None:
    text = '@obligation("fresh-attestation: soon") permit(principal, action, resource);'
    assert not decide(snapshot(text), proven={"attested": True, "attested_at": SECONDS}).allowed


FRESH = "permit(principal, action, resource) when { context.attested && context.attestation_age <= 10 };"


@pytest.mark.parametrize(("at", "allowed"), [(-10, True), (-11, False), (60, True), (61, False)])
def test_the_age_of_an_attestation_is_the_decision_points_own_arithmetic(at: int, allowed: bool) -> None:
    proven = {"attested": True, "attested_at": SECONDS + at, "attestation_age": 0}
    assert decide(snapshot(FRESH), proven=proven).allowed is allowed


@pytest.mark.parametrize("proven", [{"attested": 1}, {"source_address": "nowhere"}, {"task": 7}, {"selectors": [1]}])
def test_a_proven_fact_of_a_wrong_type_is_refused(proven: dict[str, Any]) -> None:
    assert first(decide(snapshot(), proven=proven)) == "remit:request-malformed"


@pytest.mark.parametrize("action", ["", 'x" in ["lease', "a b", "é", "x" * 200])
def test_a_malformed_action_is_refused(action: str) -> None:
    assert first(decide(snapshot(), action=action)) == "remit:request-malformed"


TOOL = 'permit(principal, action, resource) when { context.claimed has tool && context.claimed.tool == "ls" };'


@pytest.mark.parametrize(("claimed", "allowed"), [({"tool": "ls"}, True), ({"tool": ["ls"]}, False), ({}, False)])
def test_a_claim_of_a_wrong_type_counts_as_not_said(claimed: dict[str, Any], allowed: bool) -> None:
    decision = decide(snapshot(TOOL), claimed=claimed)
    assert (decision.allowed, decision.errors) == (allowed, ())


def test_a_claim_never_becomes_a_proven_fact() -> None:
    text = "permit(principal, action, resource) when { context.attested || principal.tier == 9 };"
    claimed = {"attested": True, "tier": 9, "claimed": {"attested": True}}
    subject = Entity(type="identity", id="id_1", properties={"tier": 9, "attested": True})
    request = Request(subject=subject, action="lease", resource=Entity(type="t", id="r"), claimed=claimed)
    whole = snapshot(text)
    assert not Pdp(lambda: whole, ManualClock(NOW)).decide(request).allowed


def test_properties_are_claims_with_a_prefix() -> None:
    text = "permit(principal, action, resource) when { context.claimed has resource_status };"
    resource = Entity(type="target", id="orders", properties={"status": "open"})
    assert decide(snapshot(text), resource=resource).allowed


def test_a_lease_is_in_the_group_of_its_members() -> None:
    text = 'permit(principal, action in Remit::Action::"lease", resource);'
    whole = snapshot(text)
    assert [decide(whole, action=name).allowed for name in ("lease", "lease:renew", "lessee")] == [True, True, False]


def test_a_principal_is_named_by_any_name_in_a_policy() -> None:
    text = 'permit(principal in Remit::Identity::"urn:remit:a:b:c:job", action, resource);'
    assert decide(snapshot(text)).allowed


def test_an_exception_lifts_the_rule_that_it_names_until_it_ends() -> None:
    rule = '@id("no") forbid(principal, action, resource) unless { context.exceptions.contains("no") };'
    facts = ExceptionFacts(
        id="ex_1",
        rule="no",
        identities=frozenset(("id_1",)),
        actions=frozenset(("lease",)),
        resource="target/orders",
        expires=NOW + timedelta(seconds=5),
    )
    whole = snapshot(ALLOW + rule, exceptions=[facts])
    assert [decide(whole, after=after).allowed for after in (4, 5)] == [True, False]
    assert not decide(whole, action="read").allowed


def test_the_time_is_the_clocks() -> None:
    text = 'permit(principal, action, resource) when { context.time == datetime("2026-03-01T12:00:00Z") };'
    assert decide(snapshot(text)).allowed


def test_an_explanation_names_the_clause_that_was_false() -> None:
    text = '@id("p") permit(principal, action, resource) when { context.attested && principal.tier <= 1 };'
    decision = decide(snapshot(text), proven={"attested": True}, explain=True)
    assert decision.needed == ("`p` would permit it, but `principal.tier <= 1` is false (principal.tier is 3)",)


def test_an_explanation_names_the_forbid() -> None:
    text = '@id("f") @reason("not on Sundays") forbid(principal, action, resource);'
    assert decide(snapshot(ALLOW + text), explain=True).needed == ("`f` forbids it: not on Sundays",)


def test_what_was_decided_can_be_recorded() -> None:
    proven = {"attested": True, "source_address": "10.0.0.1", "selectors": ["unix:uid:1"]}
    decision = decide(snapshot(), proven=proven, claimed={"data_classes": ["pii"]})
    assert canonical(dict(decision.facts))
    assert decision.facts["context"]["source_address"] == "10.0.0.1"  # type: ignore[call-overload,index]


def shadowed(every: int, break_it: Callable[[Snapshot], Snapshot]) -> tuple[bool, list[Disagreement], Shadow]:
    told: list[Disagreement] = []
    shadow = Shadow(every=every, report=told.append)
    whole = break_it(snapshot())
    request = Request(
        subject=Entity(type="identity", id="id_1"), action="lease", resource=Entity(type="target", id="orders")
    )
    pdp = Pdp(lambda: whole, ManualClock(NOW), shadow=shadow)
    return [pdp.evaluate_fast(request) for _ in range(2)][-1], told, shadow


def test_the_shadow_agrees_and_counts_its_samples() -> None:
    allowed, told, shadow = shadowed(2, lambda whole: whole)
    assert (allowed, told, shadow.checked) == (True, [], 1)


def test_a_miscompiled_policy_is_denied_and_reported() -> None:
    lying = compile_policies('@id("p") permit(principal, action, resource) when { principal.tier == 9 };')
    wrong = replace(lying.policies[0], function=lambda *_: True)
    allowed, told, _ = shadowed(1, lambda whole: replace(whole, policies=type(lying)([wrong], looks_up=False)))
    assert not allowed
    assert told[0].compiled.determining == {"p"}
