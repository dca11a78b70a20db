"""Policies: staged, weighed, put in force, compared with what was, and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from remit.access.policy import lifecycle
from remit.access.policy.analyse import count_used
from remit.access.policy.compile import compile_policies
from remit.access.policy.lifecycle import PolicyVersion, Weighed
from remit.access.policy.replay import replay
from remit.surface.api.route import Call, Route
from remit.surface.prover import Prover
from remit.surface.views import decision_of

_TAG = "access"
_prover = Prover()
_MOST_ACCEPTED = 200


class NewPolicies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cedar text that replaces the policies in force, and what it promises: test cases (YAML) and invariants."""

    text: str
    source: str = ""
    cases: str = ""
    invariants: str = ""
    accept_broken: list[str] = []


class Activation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Invariants that the person accepts as broken, by their ids."""

    accept_broken: list[str] = []


class RollBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version to go back to; without one, the version that was in force before."""

    version: str = ""
    accept_broken: list[str] = []


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cedar text to try on past decisions."""

    text: str
    limit: int = 1000


async def apply_policies(call: Call) -> Any:
    body: NewPolicies = call.body
    by = f"person:{call.require_person('putting policies in force').name}"
    control = call.control
    several = control.standing.person_count > 1
    active = await control.store.read(lambda unit: unit.access.active_policy_version())
    promises = lifecycle.promises_digest(body.cases, body.invariants)
    weighed: Weighed | None = None
    if active is None or (active.digest, active.promises) != (lifecycle.text_digest(body.text), promises):
        weighed = await _weigh(body.text, body.cases, body.invariants, active)

    def work(unit: Any) -> PolicyVersion:
        now_active = unit.access.active_policy_version()
        if weighed is None:
            if now_active is None or active is None or now_active.id != active.id:
                raise lifecycle.moved()
            return cast(PolicyVersion, now_active)  # applying the same text again changes nothing
        staged = lifecycle.stage(unit, body.text, by=by, cases=body.cases, invariants=body.invariants)
        if several:
            return staged  # where there is a second person, one stages and the other puts in force
        return lifecycle.activate(
            unit, staged.id, by=by, attester=control.keys, weighed=weighed, accept=body.accept_broken[:_MOST_ACCEPTED]
        )

    if several and weighed is not None:
        lifecycle.require_cases(weighed)
    version = await control.store.write(work)
    await control.changed()
    return {**_version(version), **_weighing(weighed),
            "count": len(control.feed.cell.current().policies.policies)}  # fmt: skip


async def activate_policies(call: Call) -> Any:
    body: Activation = call.body
    by = call.require_person("putting policies in force")
    return await _put_in_force(call, call.path["version"], by, body.accept_broken, four_eyes=True)


async def roll_back_policies(call: Call) -> Any:
    body: RollBack = call.body
    by = call.require_person("putting policies in force")
    store = call.control.store
    wanted = body.version or (await store.read(lambda unit: lifecycle.previous(unit.access))).id
    several = call.control.standing.person_count > 1
    return await _put_in_force(call, wanted, by, body.accept_broken, four_eyes=several)


async def _put_in_force(call: Call, wanted: str, by: Any, accept: Sequence[str], *, four_eyes: bool) -> Any:
    control = call.control
    version = await control.store.read(lambda unit: lifecycle.require_version(unit.access, wanted))
    active = await control.store.read(lambda unit: unit.access.active_policy_version())
    lifecycle.require_other(version, by=f"person:{by.name}", four_eyes=four_eyes)
    weighed = await _weigh(version.text, version.cases, version.invariants, active)

    def work(unit: Any) -> PolicyVersion:
        made = lifecycle.activate(
            unit, wanted, by=f"person:{by.name}", attester=control.keys, four_eyes=four_eyes, weighed=weighed,
            accept=accept[:_MOST_ACCEPTED],
        )  # fmt: skip
        unit.record("governance.approval.signed", actor=f"person:{by.name}", subject=wanted,
                    data={"digest": made.digest, "approval": by.evidence()})  # fmt: skip
        return made

    made = await control.store.write(work)
    await control.changed()
    return {**_version(made), **_weighing(weighed)}


async def _weigh(text: str, cases: str, invariants: str, active: PolicyVersion | None) -> Weighed:
    return await _prover.weigh(
        text,
        cases=cases,
        invariants=invariants,
        before=active.text if active is not None else None,
        promised=active.invariants if active is not None else "",
    )


def _version(version: PolicyVersion) -> dict[str, Any]:
    return {"id": version.id, "digest": version.digest, "state": version.state.value}


def _weighing(weighed: Weighed | None) -> dict[str, Any]:
    if weighed is None:
        return {}
    kept = ("cases", "proved", "broken", "solver", "unmeasured")
    told = msgspec.to_builtins(weighed)
    return {name: told[name] for name in kept}


async def list_policies(call: Call) -> Any:
    versions = await call.control.store.read(lambda unit: unit.access.policy_versions(limit=50))
    return [{**msgspec.to_builtins(each), "text": each.text} for each in versions]


async def show_policies(call: Call) -> Any:
    version = await call.control.store.read(lambda unit: unit.access.active_policy_version())
    if version is None:
        return {"id": "", "text": "", "digest": "", "cases": "", "invariants": ""}
    return {"id": version.id, "text": version.text, "digest": version.digest, "cases": version.cases,
            "invariants": version.invariants}  # fmt: skip


async def show_version(call: Call) -> Any:
    wanted = call.path["version"]
    version = await call.control.store.read(lambda unit: lifecycle.require_version(unit.access, wanted))
    return msgspec.to_builtins(version)


async def policy_usage(call: Call) -> Any:
    records = await call.control.latest_decisions(limit=call.integer("limit", 1000, most=10_000))
    return {"decisions": len(records), "used": count_used([decision_of(each) for each in records])}


async def replay_policies(call: Call) -> Any:
    body: Candidate = call.body
    records = await call.control.latest_decisions(limit=min(body.limit, 10_000))
    found = replay(
        (decision_of(each) for each in records), compile_policies(body.text), entities=call.control.feed.cell.current()
    )
    changes = [
        {**msgspec.to_builtins(each), "before": each.before.value, "after": each.after.value} for each in found.changes
    ]
    return {"replayed": found.asked, "unaffected": found.unaffected, "changes": changes}


ROUTES = [
    Route(
        method="POST",
        path="/api/v1/policies",
        summary="Put policies in force",
        handler=apply_policies,
        body=NewPolicies,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/policies", summary="The policies in force", handler=show_policies, tag=_TAG),
    Route(method="GET", path="/api/v1/policies/versions", summary="Policy versions", handler=list_policies, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/policies/versions/{version}",
        summary="One policy version",
        handler=show_version,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/policies/usage",
        summary="How many past decisions each policy determined",
        handler=policy_usage,
        query={"limit": "of the last decisions, at most 10000"},
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/policies/{version}/activate",
        summary="Put a staged version in force, as another person",
        handler=activate_policies,
        body=Activation,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/policies/rollback",
        summary="Put an earlier version in force again",
        handler=roll_back_policies,
        body=RollBack,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/policies/replay",
        summary="Try policies on past decisions",
        handler=replay_policies,
        body=Candidate,
        tag=_TAG,
    ),
]
