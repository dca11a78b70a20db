"""Partners are held to their bounds before every other policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remit.access.model import Decision, Entity, Request
from remit.access.policy.check import check, errors_of
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.decide import Pdp
from remit.access.snapshot import Delta, IdentityFacts, ResourceFacts, Snapshot
from remit.kernel.clock import ManualClock
from remit.trust.federation.bounds import bounds_of, bounds_text
from remit.trust.federation.testing import example_relation
from remit.trust.spiffe import TrustDomain
from remit.wiring.federation import partner_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ALL = '@id("all") @reason("everything") permit(principal, action, resource);'
UNTIL = NOW + timedelta(days=1)


def bounds(
    *,
    ids: Sequence[str] = ("spiffe://partner.test/billing/*", "spiffe://partner.test/report"),
    resources: Sequence[str] = ("target/orders", "target/shared-*"),
    until: datetime = UNTIL,
) -> CompiledPolicies:
    text = bounds_of("fd_1", TrustDomain("partner.test"), ids=ids, resources=resources, until=until)
    return compile_policies(bounds_text([replace(example_relation(), policy=text)]))


def vendor(spiffe_id: str, *names: str) -> IdentityFacts:
    partner, partner_id = partner_of((spiffe_id, *names), "remit.test") or (None, None)
    return IdentityFacts(
        id="id_1",
        name=spiffe_id,
        kind="vendor",
        owner="person:ann",
        owner_active=True,
        tier=3,
        names=names,
        partner=partner,
        partner_id=partner_id,
    )


def decide(
    identity: IdentityFacts,
    resource: str = "orders",
    *,
    held: CompiledPolicies | None,
    policies: str = ALL,
    after: timedelta = timedelta(),
    **request: Any,
) -> Decision:
    clock = ManualClock(NOW)
    clock.advance(after)
    orders = ResourceFacts(name="urn:orders", kind="target", sensitivity="internal", names=("target/orders",))
    whole = Snapshot.of(
        compile_policies(policies), epoch=1, sequence=1, at=clock.monotonic(), identities=[identity],
        resources=[orders], bounds=held,
    )  # fmt: skip
    asked = Request(
        subject=Entity(type="identity", id=identity.name), action="read", resource=Entity(type="target", id=resource)
    )
    return Pdp(lambda: whole, clock).decide(asked, explain=True, **request)


@pytest.mark.parametrize("path", ["/billing/nightly", "/billing/eu/nightly", "/report"])
def test_an_id_within_the_bounds_is_left_to_the_policies(path: str) -> None:
    partner = vendor(f"spiffe://partner.test{path}")
    assert decide(partner, held=bounds()).allowed
    assert not decide(partner, held=bounds(), policies="").allowed


@pytest.mark.parametrize("path", ["/billing", "/billing-evil/x", "/Billing/x", "/reports", "/report/x", "/x/billing/y"])
def test_an_id_outside_is_denied_though_a_policy_permits_everything(path: str) -> None:
    denied = decide(vendor(f"spiffe://partner.test{path}"), held=bounds())
    assert not denied.allowed
    assert [reason.id for reason in denied.reasons] == ["remit:partner:partner.test:ids"]


def test_the_explanation_names_the_bound() -> None:
    denied = decide(vendor("spiffe://partner.test/other"), held=bounds())
    assert "spiffe://partner.test/billing/*" in denied.reasons[0].text
    assert "spiffe://partner.test/billing/*" in denied.needed[0]


@pytest.mark.parametrize(("resource", "allowed"), [("orders", True), ("shared-1", True), ("payroll", False)])
def test_a_resource_outside_is_denied(resource: str, allowed: bool) -> None:
    decision = decide(vendor("spiffe://partner.test/report"), resource, held=bounds())
    assert decision.allowed is allowed
    assert allowed or decision.reasons[0].id == "remit:partner:partner.test:resources"


def test_after_the_end_nothing_is_allowed() -> None:
    before = decide(vendor("spiffe://partner.test/report"), held=bounds(), after=timedelta(hours=23, minutes=59))
    after = decide(vendor("spiffe://partner.test/report"), held=bounds(), after=timedelta(days=1))
    assert before.allowed
    assert after.reasons[0].id == "remit:partner:partner.test:until"


def test_every_bound_that_is_broken_is_told() -> None:
    denied = decide(vendor("spiffe://partner.test/other"), "payroll", held=bounds(), after=timedelta(days=2))
    assert all(word in denied.reasons[0].text for word in ("act here only", "reach here only", "ended"))


def test_another_trust_domain_is_denied() -> None:
    denied = decide(vendor("spiffe://stranger.test/report"), held=bounds())
    assert denied.reasons[0].id == "remit:partner:unknown"


@pytest.mark.parametrize("held", [None, compile_policies(bounds_text([]))])
def test_without_a_relation_nobody_of_another_domain_is_allowed(held: CompiledPolicies | None) -> None:
    assert not decide(vendor("spiffe://partner.test/report"), held=held).allowed
    assert decide(vendor("spiffe://remit.test/own"), held=held).allowed


def test_who_has_ids_of_several_partners_is_held_by_neither_and_denied() -> None:
    both = vendor("spiffe://partner.test/report", "spiffe://partner.test/billing/x")
    assert decide(both, held=bounds()).reasons[0].id == "remit:partner:unknown"


def test_an_alias_of_another_domain_brings_its_bounds_along() -> None:
    merged = vendor("urn:remit:files:host:workload:job", "spiffe://partner.test/other")
    assert decide(merged, held=bounds()).reasons[0].id == "remit:partner:partner.test:ids"


@pytest.mark.parametrize("name", ["SPIFFE://partner.test/report", "spiffe://remit.test.evil/own", "spiffe:///own"])
def test_what_only_looks_like_ours_is_foreign(name: str) -> None:
    assert not decide(vendor(name), held=bounds(ids=("spiffe://partner.test/none",))).allowed


def test_a_delta_changes_the_bounds_of_a_live_snapshot() -> None:
    first = Snapshot.of(compile_policies(ALL), epoch=1, sequence=1, at=0.0)
    second = first.with_delta(Delta(epoch=1, sequence=2, bounds=bounds()), at=1.0)
    third = second.with_delta(Delta(epoch=1, sequence=3), at=2.0)
    assert first.bounds is None
    assert third.bounds is second.bounds is not None


def test_the_bounds_fit_the_schema_and_are_compiled() -> None:
    text = bounds_text([replace(example_relation(), policy=bounds_of(
        "fd_1", TrustDomain("partner.test"), ids=("spiffe://partner.test/*",), resources=("target/a", "b*"), until=UNTIL
    ))])  # fmt: skip
    assert errors_of(check(text)) == []
    assert compile_policies(text).engine == "compiled"
