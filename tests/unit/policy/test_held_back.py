"""A scream test at the decision point: a share of one identity's consumers is refused, for a while, and heard."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from remit.access.model import Decision, Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.snapshot import IdentityFacts, Snapshot
from remit.governance.dependencies.scream import Phase, Scream
from remit.kernel.clock import ManualClock, rfc3339
from remit.wiring.scream_means import DecisionMeans

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def identity(name: str) -> IdentityFacts:
    return IdentityFacts(
        id=name, name=f"urn:remit:a:b:c:{name}", kind="workload", owner="person:ana", owner_active=True, tier=3
    )


class Stage:
    def __init__(self, share: int = 100) -> None:
        self.clock = ManualClock(NOW)
        policies = compile_policies('@id("all") permit(principal, action, resource);')
        whole = Snapshot.of(
            policies, epoch=1, sequence=1, at=NOW.timestamp(), identities=[identity("id_1"), identity("id_2")]
        )
        self.pdp = Pdp(lambda: whole, self.clock)
        control: Any = SimpleNamespace(pdp=self.pdp, clock=self.clock)
        self.means = DecisionMeans(control)
        self.test = Scream(
            id="sc_1", identity="id_1", means="decision", target="", login="", environment="", tier=3,
            phase=Phase.HOLDING, revision=1, started=NOW, moved=NOW, share=share, seconds=10, reason="r",
            actor="person:ann", proposed_by="person:ann", ends=rfc3339(NOW + timedelta(seconds=10)),
        )  # fmt: skip
        asyncio.run(self.means.hold(self.test))

    def decide(self, subject: str = "id_1", task: str = "nightly") -> Decision:
        request = Request(
            subject=Entity(type="identity", id=subject), action="lease", resource=Entity(type="target", id="orders"),
            proven={"task": task},
        )  # fmt: skip
        return self.pdp.decide(request)


def test_it_is_refused_with_the_reason_and_heard() -> None:
    stage = Stage()
    (reason,) = stage.decide().reasons
    assert reason.id == "remit:held"
    assert "scream test sc_1" in reason.text
    told = asyncio.run(stage.means.listen(stage.test))
    assert [(each.who, each.count) for each in told.heard] == [("task nightly", 1)]


def test_another_identity_goes_on() -> None:
    assert Stage().decide("id_2").allowed


def test_only_the_share_is_refused_and_the_rest_counted_as_asked() -> None:
    stage = Stage(share=30)
    allowed = [stage.decide(task=f"t{number}").allowed for number in range(200)]
    assert 30 < allowed.count(False) < 90
    assert asyncio.run(stage.means.listen(stage.test)).tries == 200


def test_it_ends_by_the_clock_alone_though_nobody_restores_it() -> None:
    stage = Stage()
    stage.clock.advance(timedelta(seconds=11))
    assert stage.pdp.held is not None
    assert "remit:held" not in {each.id for each in stage.decide().reasons}


def test_restored_nothing_is_asked_any_more() -> None:
    stage = Stage()
    asyncio.run(stage.means.restore(stage.test))
    assert stage.pdp.held is None
    assert stage.decide().allowed


def test_what_is_only_supposed_is_not_held_back() -> None:
    stage = Stage()
    request = Request(
        subject=Entity(type="identity", id="id_1"), action="lease", resource=Entity(type="target", id="orders")
    )
    judged = stage.pdp.judge_in(request, stage.pdp.snapshot, NOW, NOW.timestamp(), frozenset(), supposed=True)
    assert judged.allowed
