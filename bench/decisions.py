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
class Contest:
    """Two ways to ask; both answer whether it is allowed."""

    ours: Callable[[], bool]
    theirs: Callable[[], bool]
    beat: Callable[[], None]
    """What the feed does four times a second: a snapshot that nobody confirms is stale, and everything is denied."""

    @classmethod
    def of(cls, policies: int) -> Contest:
        """`policies` of them, two of which concern every request and one of which permits this one."""
        text = _policies(policies)
        identities = [_identity(number) for number in range(scaled(1000, 50))]
        resources = [_resource(number) for number in range(scaled(1000, 50))]
        clock = SystemClock()
        snapshot = Snapshot.of(
            compile_policies(text),
            epoch=1,
            sequence=1,
            at=clock.monotonic(),
            identities=identities,
            resources=resources,
        )
        cell = SnapshotCell(snapshot)
        pdp = Pdp(cell.current, clock)
        request = Request(
            subject=Entity(type="identity", id=identities[_SUBJECT].id),
            action="read",
            resource=Entity(type="database", id=resources[_SUBJECT].name),
            proven={"attested": True, "task": "nightly"},
        )

        views = [snapshot.see_identity(each).view for each in identities]
        views += [snapshot.see_resource(each.kind, each.name).view for each in resources]
        context = pdp.decide(request).facts["context"]
        return cls(
            ours=lambda: pdp.evaluate_fast(request),
            theirs=_cedarpy(text, views, request, context),
            beat=lambda: cell.beat(clock.monotonic()),
        )

    def check(self) -> None:
        """Both must allow, or the contest is not about the same thing."""
        assert self.ours() and self.theirs(), "both engines allow the request"


def _policies(count: int) -> str:
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


def _cedarpy(text: str, views: Sequence[EntityView], request: Request, context: Json) -> Callable[[], bool]:
    """cedarpy as a careful user calls it: policies and entities parsed once, and structured names."""
    import cedarpy

    entities = cedarpy.Entities.from_json_str(json.dumps([view.as_json() for view in views]))
    policies = cedarpy.PolicySet.from_str(text)
    question: dict[str, Any] = {
        "principal": {"type": "Remit::Identity", "id": request.subject.id},
        "action": {"type": "Remit::Action", "id": request.action},
        "resource": {"type": "Remit::Resource", "id": request.resource.id},
        "context": context,
    }
    return lambda: bool(cedarpy.is_authorized(question, policies, entities).allowed)
