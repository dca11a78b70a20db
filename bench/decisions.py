"""The same question to our decision point and to bare cedarpy: the same policies, entities and context."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.race import scaled
from remit.access.model import Entity, Request
from remit.access.policy.compile import compile_policies
from remit.access.policy.decide import Pdp
from remit.access.policy.entities import EntityView
from remit.access.snapshot import IdentityFacts, ResourceFacts, Snapshot, SnapshotCell
from remit.kernel.canonical import Json
from remit.kernel.clock import SystemClock

_SUBJECT = 7
_GUARD = """
@id("owner-required") forbid (principal, action, resource) unless { principal.owner_active };
@id("attested") forbid (principal, action, resource) when { resource.sensitivity == "restricted" && !context.attested };
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One question: may this identity read this database?"""

    subject: int = _SUBJECT
    resource: int = _SUBJECT
    attested: bool = True


SAMPLE = tuple(
    Asking(subject=subject, resource=(subject + away) % 18, attested=attested)
    for subject in range(0, 18, 3) for away in (0, 1) for attested in (True, False)
)  # fmt: skip
"""What engines are asked before they race: a quarter of it is permitted, and all must say so of the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Two ways to ask; both answer whether it is allowed."""

    ours: Callable[[], bool]
    theirs: Callable[[], bool]
    beat: Callable[[], None]
    """What the feed does four times a second: a snapshot that nobody confirms is stale, and everything is denied."""
    decide: Callable[[Asking], bool]
    """Ours, of any question."""
    theirs_decide: Callable[[Asking], bool]

    @classmethod
    def of(cls, policies: int) -> Contest:
        """`policies` of them, two of which concern every request and one of which permits this one."""
        text = policies_text(policies)
        known, reached = identities(), resources()
        clock = SystemClock()
        snapshot = Snapshot.of(
            compile_policies(text),
            epoch=1,
            sequence=1,
            at=clock.monotonic(),
            identities=known,
            resources=reached,
        )
        cell = SnapshotCell(snapshot)
        pdp = Pdp(cell.current, clock)

        def asked(asking: Asking) -> Request:
            return Request(
                subject=Entity(type="identity", id=known[asking.subject].id),
                action="read",
                resource=Entity(type="database", id=reached[asking.resource].name),
                proven={"attested": asking.attested, "task": "nightly"},
            )

        views = [snapshot.see_identity(each).view for each in known]
        views += [snapshot.see_resource(each.kind, each.name).view for each in reached]
        cedar = _cedarpy(text, views)
        request = asked(Asking())

        def theirs(asking: Asking) -> Callable[[], bool]:
            request = asked(asking)
            return cedar(request, pdp.decide(request).facts["context"])

        return cls(
            ours=lambda: pdp.evaluate_fast(request),
            theirs=theirs(Asking()),
            beat=lambda: cell.beat(clock.monotonic()),
            decide=lambda asking: pdp.evaluate_fast(asked(asking)),
            theirs_decide=lambda asking: theirs(asking)(),
        )

    def check(self, theirs: Callable[[Asking], bool] | None = None) -> None:
        """`theirs` (cedarpy) must answer as we do, or the contest is not about the same thing."""
        self.beat()
        agree(self.decide, theirs or self.theirs_decide)
        assert self.ours() and self.theirs(), "both engines allow the request"


def agree(ours: Callable[[Asking], bool], theirs: Callable[[Asking], bool]) -> None:
    """Both must permit the same questions of the sample: some of them, not all."""
    mine, others = [ours(each) for each in SAMPLE], [theirs(each) for each in SAMPLE]
    assert mine == others, f"the engines answer differently: {mine} and {others}"
    assert 0 < sum(mine) < len(mine), "the sample has permits and denials"


def identities() -> list[IdentityFacts]:
    """Services, each with an owner and a group of its own."""
    return [_identity(number) for number in range(scaled(1000, 50))]


def resources() -> list[ResourceFacts]:
    """Databases."""
    return [_resource(number) for number in range(scaled(1000, 50))]


def policies_text(count: int) -> str:
    """Two policies that concern every request, and one for each of the others' pairs of group and database."""
    permits = (
        f'@id("permit-{n}") permit (principal in Remit::Identity::"group-{n}", action == Remit::Action::"read", '
        f'resource == Remit::Resource::"database/{n}") when {{ context.attested && principal.tier >= 1 }};'
        for n in range(count - 2)
    )
    return _GUARD + "\n".join(permits)


def _identity(number: int) -> IdentityFacts:
    return IdentityFacts(
        id=f"id_{number:026d}", name=f"urn:remit:bench:x:service:{number}", kind="service", owner="person:ana",
        owner_active=True, tier=2, names=(f"group-{number}",),
    )  # fmt: skip


def _resource(number: int) -> ResourceFacts:
    return ResourceFacts(name=f"database/{number}", kind="database", sensitivity="internal")


def _cedarpy(text: str, views: Sequence[EntityView]) -> Callable[[Request, Json], Callable[[], bool]]:
    """cedarpy as a careful user calls it: policies and entities parsed once, and structured names."""
    import cedarpy

    entities = cedarpy.Entities.from_json_str(json.dumps([view.as_json() for view in views]))
    policies = cedarpy.PolicySet.from_str(text)

    def ready(request: Request, context: Json) -> Callable[[], bool]:
        question: dict[str, Any] = {
            "principal": {"type": "Remit::Identity", "id": request.subject.id},
            "action": {"type": "Remit::Action", "id": request.action},
            "resource": {"type": "Remit::Resource", "id": request.resource.id},
            "context": context,
        }
        return lambda: bool(cedarpy.is_authorized(question, policies, entities).allowed)

    return ready
