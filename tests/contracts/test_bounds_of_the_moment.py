"""The bounds that held a partner are found again by their digest, whatever became of the relation since."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remit.access.model import Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.moment import bounds_at
from remit.access.policy.replay import explain_decision, rerun
from remit.access.record import decision_json
from remit.access.snapshot import IdentityFacts, Snapshot
from remit.kernel.clock import ManualClock, rfc3339
from remit.kernel.errors import NotFound
from remit.surface.views import decision_of
from remit.trust.federation.terms import add_relation, genuine_relations, remove_relation, request_relation
from remit.trust.spiffe import TrustDomain
from remit.trust.testing import KeyedAttester
from remit.wiring.federation import read_bounds
from stores import opened

ATTESTER = KeyedAttester()
BILLING = "spiffe://partner.test/billing/nightly"
ALL = compile_policies('@id("all") @reason("everything") permit(principal, action, resource);')


def relation(resource: str) -> Any:
    now = datetime.now(UTC)
    return request_relation(
        own=TrustDomain("remit.test"), trust_domain="partner.test", url="https://partner.test/b", profile="https_web",
        until=now + timedelta(days=30), ids=["/billing/*"], resources=[resource], now=now,
    )  # fmt: skip


def decided(bounds: Any, resource: str) -> Any:
    """A decision about the partner's job, as it comes back from the log."""
    clock = ManualClock(datetime.now(UTC))
    job = IdentityFacts(id="id_1", name=BILLING, kind="vendor", partner="partner.test", partner_id=BILLING)
    known = Snapshot.of(ALL, epoch=1, sequence=1, at=clock.monotonic(), identities=[job], bounds=bounds)
    asked = Request(
        subject=Entity(type="identity", id=BILLING), action="read", resource=Entity(type="target", id=resource)
    )
    return decision_of(decision_json(Pdp(lambda: known, clock).decide(asked)))


def held_then(folder: Path, resource: str, changes: int = 0) -> tuple[Any, Any]:
    """A decision under the first terms, and the bounds that are found for it after `changes` of them."""

    async def steps() -> tuple[Any, Any]:
        async with opened(f"sqlite:///{folder / 'remit.db'}") as store:
            await store.write(lambda unit: add_relation(unit, relation("target/orders"), by="ann", attester=ATTESTER))
            first = await store.read(lambda unit: read_bounds(unit, ATTESTER))
            decision = decided(first, resource)
            for change in range(changes):
                terms = relation(f"target/other-{change}")
                await store.write(
                    lambda unit, terms=terms: add_relation(unit, terms, by="ann", attester=ATTESTER, replaces=True)
                )
            if changes:
                await store.write(lambda unit: remove_relation(unit, "partner.test", actor="ann"))
                assert await store.read(lambda unit: genuine_relations(unit, ATTESTER)) == ()
            at = rfc3339(decision.time)
            return decision, await store.read(lambda unit: bounds_at(unit, decision.bounds, at))

    return asyncio.run(steps())


@pytest.mark.parametrize("changes", [0, 3])
def test_a_refusal_by_bounds_is_run_again_by_the_bounds_of_its_moment(tmp_path: Path, changes: int) -> None:
    decision, bounds = held_then(tmp_path, "payroll", changes)
    again = rerun(decision, ALL, bounds=bounds)
    assert (again.asked, again.same) == (True, True)
    assert again.by == ("remit:partner:partner.test:resources",)


def test_what_bounds_let_pass_is_run_again_with_both(tmp_path: Path) -> None:
    decision, bounds = held_then(tmp_path, "orders", changes=1)
    assert decision.allowed
    assert rerun(decision, ALL, bounds=bounds).same


def test_a_refusal_by_bounds_records_its_facts_and_is_explained_by_its_bound(tmp_path: Path) -> None:
    decision, bounds = held_then(tmp_path, "payroll", changes=1)
    assert decision.facts["principal"]["attributes"]["partner"] == "partner.test"
    told = explain_decision(decision, ALL, bounds=bounds).why
    assert [each.policy for each in told.determining] == ["remit:partner:partner.test:resources"]
    assert "principal.partner" in (told.facts or {})


def test_other_bounds_come_out_otherwise(tmp_path: Path) -> None:
    decision, _ = held_then(tmp_path, "payroll")
    again = rerun(decision, ALL, bounds=compile_policies(""))
    assert (again.same, again.after) == (False, "allow")


def test_bounds_that_no_relations_make_are_not_found(tmp_path: Path) -> None:
    async def steps() -> None:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}") as store:
            await store.read(lambda unit: bounds_at(unit, "sha256:" + "0" * 64, rfc3339(datetime.now(UTC))))

    with pytest.raises(NotFound) as gone:
        asyncio.run(steps())
    assert gone.value.code == "access.policy.gone"
