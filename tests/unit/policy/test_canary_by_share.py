"""A proposal in Cedar as a canary at the decision point: refused for a share of consumers, until the first refusal."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from remit.access.model import Decision, Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.snapshot import IdentityFacts, Snapshot
from remit.governance.rightsizing.languages.cedar import Decided
from remit.governance.rightsizing.stages import Change, Phase
from remit.kernel.clock import ManualClock, rfc3339
from remit.kernel.errors import Rejected
from remit.wiring.rightsizing_decisions import DecisionCanaries, share_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
READS = frozenset({("read", "table/orders")})


class Stage:
    def __init__(self, share: int, pairs: Collection[tuple[str, str]] = READS) -> None:
        self.clock = ManualClock(NOW)
        names = ("id_1", "id_2")
        known = [IdentityFacts(id=each, name=f"urn:remit:a:b:c:{each}", kind="workload", owner="person:ana",
                               owner_active=True, tier=3) for each in names]  # fmt: skip
        policies = compile_policies('@id("all") permit(principal, action, resource);')
        whole = Snapshot.of(policies, epoch=1, sequence=1, at=NOW.timestamp(), identities=known)
        self.pdp = Pdp(lambda: whole, self.clock)
        feed = SimpleNamespace(cell=SimpleNamespace(current=lambda: whole))
        control: Any = SimpleNamespace(pdp=self.pdp, clock=self.clock, feed=feed)
        self.canaries = DecisionCanaries(control)
        self.change = Change(
            id="rz_1", identity="id_1", language="cedar", target="", login="", phase=Phase.CANARYING, revision=1,
            started=NOW, moved=NOW, actor="person:ana", digest="d", commands=("c",), inverse=("i",), share=share,
            ends=rfc3339(NOW + timedelta(seconds=1)),
        )  # fmt: skip
        sized: Any = SimpleNamespace(judge=Decided("id_1", "", frozenset(pairs)))
        self.canaries.begin(self.change, sized)

    def decide(self, action: str = "write", subject: str = "id_1", task: str = "nightly") -> Decision:
        return self.pdp.decide(
            Request(subject=Entity(type="identity", id=subject), action=action,
                    resource=Entity(type="table", id="orders"), proven={"task": task})
        )  # fmt: skip


def test_what_it_always_did_goes_on() -> None:
    assert Stage(100).decide("read").allowed


def test_what_it_never_did_is_refused_and_told() -> None:
    stage = Stage(100)
    decided = stage.decide()
    assert [reason.id for reason in decided.reasons] == ["remit:held"] and "rz_1" in decided.reasons[0].text
    assert stage.canaries.over(stage.change) == "refused: write on table/orders by task nightly"


def test_the_first_refusal_ends_it() -> None:
    stage = Stage(100)
    assert [stage.decide().allowed for _ in range(3)] == [False, True, True]


def test_others_are_not_held() -> None:
    assert Stage(100).decide(subject="id_2").allowed


def test_a_share_refuses_about_as_many_consumers_and_always_the_same() -> None:
    def refused() -> list[int]:
        return [number for number in range(400) if not Stage(10).decide(task=f"task-{number}").allowed]

    found = refused()
    assert 20 <= len(found) <= 65 and found == refused()


def test_it_ends_at_its_time_without_anybody() -> None:
    stage = Stage(100)
    stage.clock.advance(timedelta(seconds=1))
    assert stage.decide().allowed and stage.canaries.over(stage.change) == "the canary's time is over"


def test_another_control_plane_takes_it_back() -> None:
    stage = Stage(100)
    stage.canaries.end(stage.change)
    assert stage.decide().allowed and stage.pdp.held is None
    assert stage.canaries.over(stage.change) == "the control plane was started anew"


def test_a_scream_test_beside_it_holds_too() -> None:
    stage = Stage(100)
    stage.pdp.hold("scream", lambda identity, request, now: "screamed" if identity == "id_2" else "")
    assert not stage.decide().allowed and not stage.decide(subject="id_2").allowed
    stage.canaries.end(stage.change)
    assert stage.decide().allowed and not stage.decide(subject="id_2").allowed


@pytest.mark.parametrize(("language", "asked", "given"), [("cedar", 0, 10), ("cedar", 25, 25), ("postgres", 0, 100)])
def test_the_share_that_is_meant(language: str, asked: int, given: int) -> None:
    assert share_of(language, asked) == given


@pytest.mark.parametrize(("language", "asked"), [("cedar", 101), ("cedar", -1), ("postgres", 10)])
def test_a_share_that_cannot_be(language: str, asked: int) -> None:
    with pytest.raises(Rejected):
        share_of(language, asked)


RULE = '@id("right-sized-id_1")\n{} (principal == Remit::Identity::"{}", action, resource);'


@pytest.mark.parametrize(
    ("policies", "there"),
    [
        (RULE.format("forbid", "id_1"), True),
        (RULE.format("permit", "id_1"), False),
        (RULE.format("forbid", "id_2"), False),
        ('// @id("right-sized-id_1")\nforbid (principal, action, resource);', False),
    ],
)
def test_only_a_forbid_of_its_own_counts_as_in_force(policies: str, there: bool) -> None:
    assert Decided("id_1", policies).in_force is there
