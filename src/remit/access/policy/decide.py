"""The policy decision point: may this subject do this, now, and why?

    1  the subject is known, by any of its names
    2  neither it, nor what it proves itself with, is revoked; its life-cycle state is live
    3  the snapshot is fresh enough for the subject's tier and the resource's sensitivity
    4  a grant that the request names is this subject's, in force, and still what was approved
    5  Cedar: a satisfied forbid denies, a satisfied permit allows, else deny; an applicable forbid that erred denies
    6  obligations of the permits: met by proven facts, or promised by the enforcement point

Each step that refuses ends the decision. It reads memory only; recording the decision is the caller's, before it is
answered. What is here never raises for what a caller sends: it denies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from remit.access.model import Decision, Effect, Obligation, Reason, Request
from remit.access.policy.compile import CompiledPolicy, Verdict
from remit.access.policy.entities import EntityView
from remit.access.policy.explain import needed_by_policies
from remit.access.policy.facts import (
    STRICTEST_TIER,
    GrantFacts,
    IdentityFacts,
    MalformedFact,
    Seen,
    action_view,
    context_json,
    context_values,
)
from remit.access.policy.obligations import unmet
from remit.access.policy.schema import STANDARD, Vocabulary, is_action_name
from remit.access.policy.shadow import Shadow
from remit.access.policy.values import Value
from remit.access.snapshot import Snapshot
from remit.inventory.model import Sensitivity, State
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.ids import new_id

SUBJECT_TYPES = frozenset({"identity", "Remit::Identity"})
LIVE = frozenset({State.ACTIVE, State.ROTATING})
STRICT_AGE_SECONDS = 1.0
"""How old a snapshot may be for tiers 0 and 1, and for restricted resources."""
USUAL_AGE_SECONDS = 30.0

_REVOCABLE = ("grant", "lease", "credential", "sha256", "task_digest", "node")
"""Proven facts that can be revoked by themselves."""


class _Asked(msgspec.Struct, frozen=True):
    """What the policies were asked."""

    principal: Seen
    action: EntityView
    resource: Seen
    context: dict[str, Json]
    values: dict[str, Value]
    grant: GrantFacts | None


class Judgement(msgspec.Struct, frozen=True):
    """A decision before it has an id: what the hot path computes."""

    allowed: bool
    refusal: Reason | None = None
    """Why it was refused before any policy was asked."""
    needed: str = ""
    verdict: Verdict | None = None
    asked: _Asked | None = None
    obligations: tuple[Obligation, ...] = ()
    disagreed: bool = False
    """The reference engine answers otherwise."""


class Pdp:
    """Decides over `snapshot()`; `vocabulary` types claims and groups actions, `shadow` checks a sample of verdicts."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        *,
        vocabulary: Vocabulary = STANDARD,
        shadow: Shadow | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._shadow = shadow
        self._clock = clock
        self._vocabulary = vocabulary
        self._actions: dict[str, EntityView] = {
            name: action_view(name, vocabulary.groups_of(name)) for name in vocabulary.known_actions()
        }

    def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset(), explain: bool = False) -> Decision:
        """Decide, and say why.

        `fulfils` are the kinds of obligation for which the authenticated enforcement point is registered: a permit
        whose unmet obligations are all among them is allowed, and carries them. `explain` fills `needed`, at the
        cost of evaluating policies once more.
        """
        snapshot, now = self._snapshot(), self._clock.now()
        judged = self._judge(request, snapshot, now, fulfils)
        return Decision(
            id=new_id("dc", now),
            time=now,
            request=request,
            allowed=judged.allowed,
            reasons=_reasons(judged),
            errors=_errors(judged.verdict),
            facts=_facts(judged),
            needed=_needed(judged, snapshot) if explain and not judged.allowed else (),
            obligations=judged.obligations,
            snapshot=snapshot.label,
        )

    def evaluate_fast(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> bool:
        """The same answer without the record of it: for measuring, and for filtering lists."""
        return self._judge(request, self._snapshot(), self._clock.now(), fulfils).allowed

    def _judge(self, request: Request, snapshot: Snapshot, now: datetime, fulfils: frozenset[str]) -> Judgement:
        identity = snapshot.identity(request.subject.id) if request.subject.type in SUBJECT_TYPES else None
        if identity is None:
            text = f"no identity is called `{request.subject.id[:200]}`"
            return _refuse("subject-unknown", text, "an identity that the inventory knows")
        principal = snapshot.see_identity(identity)
        resource = snapshot.see_resource(request.resource.type, request.resource.id)
        refusal = _revoked(request, snapshot, principal) if snapshot.revoked else None
        refusal = refusal or _not_live(identity, snapshot) or self._stale(snapshot, identity, resource.view)
        if refusal is not None:
            return refusal
        grant, refusal = _check_grant(request.proven, snapshot, identity, now)
        if refusal is not None:
            return refusal
        action = self._actions.get(request.action)
        if action is None:
            if not is_action_name(request.action):
                return _refuse("request-malformed", "the action's name is malformed", "an action by its name")
            action = action_view(request.action, ())
        stamp = now.timestamp()
        seconds = int(stamp)
        try:
            context = context_json(
                request,
                now_seconds=seconds,
                exceptions=_excepted(snapshot, identity.id, request.action, resource.view, now)
                if snapshot.excepted
                else (),
                vocabulary=self._vocabulary,
            )
        except MalformedFact as malformed:
            return _refuse("request-malformed", f"the proven fact {malformed}", "proof in the form of the schema")
        asked = _Asked(principal, action, resource, context, context_values(context, stamp), grant)
        return self._ask_policies(asked, snapshot, seconds, fulfils)

    def _ask_policies(self, asked: _Asked, snapshot: Snapshot, now_seconds: int, fulfils: frozenset[str]) -> Judgement:
        """Steps 5 and 6."""
        views = (asked.principal.view, asked.action, asked.resource.view)
        verdict = snapshot.policies.evaluate(*views, asked.values, snapshot)
        if self._shadow is not None and not self._shadow.agrees(
            snapshot.policies, verdict, *views, asked.values, snapshot
        ):
            return Judgement(False, verdict=verdict, asked=asked, disagreed=True)
        if not verdict.allowed or (verdict.errors and verdict.forbid_erred):
            return Judgement(False, verdict=verdict, asked=asked)
        if not any(policy.obligations for policy in verdict.determining):
            return Judgement(True, verdict=verdict, asked=asked)
        approved = asked.grant is not None and bool(asked.grant.approved)
        left = unmet(verdict.determining, asked.context, approved=approved, now_seconds=now_seconds)
        allowed = not left or all(obligation.kind in fulfils for obligation in left)
        return Judgement(allowed, verdict=verdict, asked=asked, obligations=left)

    def _stale(self, snapshot: Snapshot, identity: IdentityFacts, resource: EntityView) -> Judgement | None:
        tier = STRICTEST_TIER if identity.tier is None else identity.tier
        strict = tier <= 1 or resource.attributes["sensitivity"] == Sensitivity.RESTRICTED
        limit = STRICT_AGE_SECONDS if strict else USUAL_AGE_SECONDS
        age = self._clock.monotonic() - snapshot.heartbeat
        if not snapshot.gap and age <= limit:
            return None
        why = "a change is missing" if snapshot.gap else f"it is {age:.1f} s old and may be {limit:g} s"
        return _refuse("stale", f"the snapshot is stale: {why}", "a decision point that hears from the control plane")


# Steps 2 and 4: what refuses before any policy is asked.


def _revoked(request: Request, snapshot: Snapshot, principal: Seen) -> Judgement | None:
    proven = request.proven
    named = [uid.id for uid in principal.view.ancestors]
    named += [str(proven[name]) for name in _REVOCABLE if name in proven]
    for name in named:
        why = snapshot.revoked.get(name)
        if why is not None:
            return _refuse("revoked", f"`{name}` is revoked: {why}", "a new credential, grant or identity")
    return None


def _not_live(identity: IdentityFacts, snapshot: Snapshot) -> Judgement | None:
    why = snapshot.quarantined.get(identity.id)
    if why is not None:
        return _refuse("quarantined", f"the identity is quarantined: {why}", "its release by a person")
    if identity.state not in LIVE:
        return _refuse("state", f"the identity is {identity.state}", "the state active")
    return None


def _check_grant(
    proven: Mapping[str, Json], snapshot: Snapshot, identity: IdentityFacts, now: datetime
) -> tuple[GrantFacts | None, Judgement | None]:
    """Check the grant that a request names: known, this identity's, in force, and unchanged since it was approved."""
    name = proven.get("grant")
    if name is None:
        return None, None
    grant = snapshot.grants.get(name) if type(name) is str else None
    if grant is None:
        return None, _refuse("grant-unknown", "the grant is not known", "a grant in force")
    if grant.identity != identity.id:
        return None, _refuse("grant-foreign", "the grant was given to another identity", "a grant of its own")
    if not grant.usable or now >= grant.expires:
        return None, _refuse("grant-over", "the grant is not in force", "a new grant")
    seen = (*grant.approved, *(str(proven[key]) for key in ("grant_digest",) if key in proven))
    task_changed = proven.get("task_digest", grant.task_digest) != grant.task_digest
    if task_changed or any(digest != grant.digest for digest in seen):
        return None, _refuse("grant-changed", "the grant is not what was approved", "an approval of it as it stands")
    return grant, None


def _excepted(snapshot: Snapshot, identity: str, action: str, resource: EntityView, now: datetime) -> list[str]:
    """The rules from which an exception in force excuses this request."""
    if not snapshot.excepted:
        return []
    return [each.rule for each in snapshot.exceptions_for(identity) if each.covers(action, resource, now)]


def _refuse(what: str, text: str, needed: str) -> Judgement:
    return Judgement(False, Reason(id=f"remit:{what}", effect=Effect.FORBID, text=text), needed)


# The record.


def _reasons(judged: Judgement) -> tuple[Reason, ...]:
    if judged.refusal is not None:
        return (judged.refusal,)
    assert judged.verdict is not None
    reasons = [policy.reason for policy in sorted(judged.verdict.determining, key=_ordinal)]
    if judged.allowed:
        return tuple(reasons)
    if judged.verdict.forbid_erred:
        erred = ", ".join(f"`{policy.id}`" for policy, _ in judged.verdict.errors if policy.effect is Effect.FORBID)
        reasons.append(_builtin("forbid-erred", f"a forbid that applies could not be evaluated: {erred}"))
    if judged.disagreed:
        reasons.append(_builtin("engines-disagree", "the reference engine does not answer the same"))
    if judged.obligations:
        kinds = ", ".join(obligation.kind for obligation in judged.obligations)
        reasons.append(_builtin("obligation-unmet", f"what the permit asks for is not met: {kinds}"))
    if not reasons:
        reasons.append(_builtin("default-deny", "no policy permits it"))
    return tuple(reasons)


def _ordinal(policy: CompiledPolicy) -> int:
    return policy.ordinal


def _builtin(what: str, text: str) -> Reason:
    return Reason(id=f"remit:{what}", effect=Effect.FORBID, text=text)


def _errors(verdict: Verdict | None) -> tuple[str, ...]:
    if verdict is None or not verdict.errors:
        return ()
    return tuple(f"{policy.id}: {message}" for policy, message in verdict.errors)


def _facts(judged: Judgement) -> dict[str, Json]:
    """What the policies saw; empty when none was asked."""
    asked = judged.asked
    if asked is None:
        return {}
    facts: dict[str, Json] = {
        "principal": asked.principal.json,
        "resource": asked.resource.json,
        "context": asked.context,
    }
    if asked.grant is not None:
        facts["grant"] = {"id": asked.grant.id, "approved": bool(asked.grant.approved)}
    return facts


def _needed(judged: Judgement, snapshot: Snapshot) -> tuple[str, ...]:
    if judged.needed:
        return (judged.needed,)
    if judged.obligations:
        return tuple(f"{each.kind}: {each.detail}" if each.detail else each.kind for each in judged.obligations)
    asked = judged.asked
    assert asked is not None, "a refusal says what it needs"
    views = (asked.principal.view, asked.action, asked.resource.view)
    return needed_by_policies(snapshot.policies, *views, asked.values, snapshot)
