"""Past decisions asked again, of a candidate or for an explanation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from remit.access.model import Approval, Decision, Entity, Grant, GrantState, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.replay import Outcome, explain_decision, replay
from remit.access.snapshot import GrantFacts, IdentityFacts, ResourceFacts, Snapshot
from remit.kernel.clock import ManualClock

NOW = datetime(2026, 3, 1, tzinfo=UTC)
JOB = IdentityFacts(
    id="id_1", name="urn:n", kind="workload", tier=2, owner_active=True, groups=("id_g",), labels=(("team", "pay"),)
)
OPEN = '@id("open") permit(principal, action, resource) when { context.attested };'
CLOSED = '@id("closed") @reason("shut") forbid(principal, action, resource);'


def grant() -> GrantFacts:
    given = Grant(
        id="gr_1",
        identity="id_1",
        task="t",
        task_digest="d",
        needs=(),
        decision="dc_1",
        created=NOW,
        expires=NOW + timedelta(hours=1),
        state=GrantState.APPROVED,
    )
    approval = Approval(approver="person:bo", time=NOW, digest=given.digest, signature="s")
    return GrantFacts.of(replace(given, approvals=(approval,)))


def decided(policies: str = OPEN, *, subject: str = "id_1", **request: Any) -> Decision:
    """A decision as it comes back from where decisions are kept: through JSON."""
    whole = Snapshot.of(
        compile_policies(policies),
        epoch=1,
        sequence=1,
        at=NOW.timestamp(),
        identities=[JOB],
        resources=[ResourceFacts(name="target/orders", kind="target", sensitivity="internal")],
        grants=[grant()],
    )
    asked: dict[str, Any] = {"proven": {"attested": True, "source_address": "10.0.0.1"}, "claimed": {"rows": 4}}
    facts = {**asked, **request}
    made = Request(
        subject=Entity(type="identity", id=subject),
        action="lease",
        resource=Entity(type="target", id="orders"),
        **facts,
    )
    decision = Pdp(lambda: whole, ManualClock(NOW)).decide(made)
    return replace(decision, facts=msgspec.json.decode(msgspec.json.encode(decision.facts)))


def test_the_same_policies_change_nothing() -> None:
    result = replay([decided(), decided(proven={})], compile_policies(OPEN))
    assert (result.asked, result.changes) == (2, ())


def test_a_candidate_that_forbids_shows_what_it_takes_away() -> None:
    (change,) = replay([decided()], compile_policies(OPEN + CLOSED)).changes
    assert (change.before, change.after, change.by) == (Outcome.ALLOW, Outcome.DENY, ("closed",))


def test_a_candidate_that_permits_shows_what_it_opens() -> None:
    (change,) = replay([decided("")], compile_policies(OPEN)).changes
    assert (change.before, change.after) == (Outcome.DENY, Outcome.ALLOW)


def test_a_refusal_before_policy_is_unaffected() -> None:
    result = replay([decided(subject="nobody")], compile_policies(OPEN))
    assert (result.asked, result.unaffected, result.changes) == (0, 1, ())


def test_a_new_obligation_is_a_change() -> None:
    candidate = compile_policies(f'@obligation("step-up") {OPEN}')
    (change,) = replay([decided()], candidate).changes
    assert change.after is Outcome.CONDITIONAL


def test_an_approval_of_the_time_still_counts() -> None:
    candidate = compile_policies(f'@obligation("approval") {OPEN}')
    assert replay([decided(proven={"attested": True, "grant": "gr_1"})], candidate).changes == ()


def test_every_fact_survives_the_record() -> None:
    text = """permit(principal in Remit::Identity::"id_g", action in Remit::Action::"lease", resource) when {
        principal.getTag("team") == "pay" && context.source_address.isInRange(ip("10.0.0.0/8")) &&
        context.claimed.rows == 4 && context.time == datetime("2026-03-01") && resource.sensitivity == "internal" };"""
    assert decided(text).allowed
    assert replay([decided(text)], compile_policies(text)).changes == ()


def test_a_forbid_that_errs_on_the_record_denies() -> None:
    candidate = compile_policies(OPEN + 'forbid(principal, action, resource) when { context.role == "x" };')
    (change,) = replay([decided()], candidate).changes
    assert (change.after, len(change.errors)) == (Outcome.DENY, 1)


def test_an_explanation_gives_policies_texts_and_what_was_needed() -> None:
    explanation = explain_decision(decided(OPEN + CLOSED), compile_policies(OPEN + CLOSED))
    assert explanation.outcome is Outcome.DENY
    assert explanation.texts == {"closed": CLOSED}
    assert explanation.needed == ("`closed` forbids it: shut",)


def test_a_refusal_before_policy_explains_itself() -> None:
    explanation = explain_decision(decided(subject="nobody"), compile_policies(OPEN))
    assert [reason.id for reason in explanation.reasons] == ["remit:subject-unknown"]
