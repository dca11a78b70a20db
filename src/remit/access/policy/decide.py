"""The policy decision point: may this subject do this, now, and why?

    1  the subject is known, by any of its names
    2  neither it, nor what it proves itself with, is revoked; its life-cycle state is live
    3  the snapshot is fresh enough for the subject's tier and the resource's sensitivity
    4  a grant that the request names is this subject's, in force, and still what was approved
    5  one of another trust domain stays within its partner's bounds, whatever policies permit; then
       Cedar: a satisfied forbid denies, a satisfied permit allows, else deny; an applicable forbid that erred denies
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
from remit.access.snapshot import Snapshot, step_up_key
from remit.inventory.model import Sensitivity, State
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.ids import new_id

SUBJECT_TYPES = frozenset({"identity", "Remit::Identity"})
LIVE = frozenset({State.ACTIVE, State.ROTATING})
_RESTRICTED = str(Sensitivity.RESTRICTED)
STRICT_AGE_SECONDS = 1.0
"""How old a snapshot may be for tiers 0 and 1, and for restricted resources."""
USUAL_AGE_SECONDS = 30.0

_REVOCABLE = ("grant", "lease", "credential", "sha256", "task_digest", "node")
"""Proven facts that can be revoked by themselves."""


class _Asked(msgspec.Struct, frozen=True, gc=False):
    """What the policies were asked."""

    principal: Seen
    action: EntityView
    resource: Seen
    context: dict[str, Json]
    values: dict[str, Value]
    grant: GrantFacts | None


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """A decision before it has an id: what the hot path computes."""

    allowed: bool
    refusal: Reason | None = None
    """Why it was refused before any policy was asked."""
    needed: str = ""
    verdict: Verdict | None = None
    asked: _Asked | None = None
    """What policies or a partner's bounds were asked; with `refusal`, the bounds alone."""
    obligations: tuple[Obligation, ...] = ()
    disagreed: bool = False
    """The reference engine answers otherwise."""


Holder = Callable[[str, Request, datetime], str]
"""Says why a request of an identity is held back at a moment; nothing where it is not."""


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
        self.held: Holder | None = None
        """Why a request of an identity is held back for a moment, or nothing: asked of what is really decided."""
        self._holders: dict[str, Holder] = {}
        self._actions: dict[str, EntityView] = {
            name: action_view(name, vocabulary.groups_of(name)) for name in vocabulary.known_actions()
        }

    def hold(self, name: str, holder: Holder | None) -> None:
        """Ask `holder` before anything is allowed, under this name; with `None` it is asked no more."""
        self._holders.pop(name, None)
        if holder is not None:
            self._holders[name] = holder
        holders = tuple(self._holders.values())
        if len(holders) < 2:
            self.held = holders[0] if holders else None
            return

        def any_of_them(identity: str, request: Request, now: datetime) -> str:
            return next((why for each in holders if (why := each(identity, request, now))), "")

        self.held = any_of_them

    @property
    def snapshot(self) -> Snapshot:
        """What it knows now."""
        return self._snapshot()

    def decide(self, request: Request, *, fulfils: frozenset[str] = frozenset(), explain: bool = False) -> Decision:
        """Decide, and say why.

        `fulfils` are the kinds of obligation for which the authenticated enforcement point is registered: a permit
        whose unmet obligations are all among them is allowed, and carries them. `explain` fills `needed`, at the
        cost of evaluating policies once more.
        """
        judged, snapshot, now = self.judge(request, fulfils=fulfils)
        return decision_of(judged, request, id=new_id("dc", now), now=now, snapshot=snapshot, explain=explain)

    def judge(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> tuple[Judgement, Snapshot, datetime]:
        """What `decide` rests on, with the snapshot and the moment, before it is a record: for who writes many."""
        snapshot, now = self._snapshot(), self._clock.now()
        judged = self._judge(request, snapshot, now, now.timestamp(), fulfils)
        return (judged if self.held is None else self._unless_held(judged, request, snapshot, now)), snapshot, now

    def judge_in(
        self,
        request: Request,
        snapshot: Snapshot,
        now: datetime,
        stamp: float,
        fulfils: frozenset[str],
        *,
        supposed: bool = False,
    ) -> Judgement:
        """The same by a snapshot and a moment that the caller has just read; `stamp` is that moment in seconds.

        What is only supposed, and not to be decided, is asked with `supposed`: nothing is held back of it.
        """
        judged = self._judge(request, snapshot, now, stamp, fulfils)
        return judged if supposed or self.held is None else self._unless_held(judged, request, snapshot, now)

    def _unless_held(self, judged: Judgement, request: Request, snapshot: Snapshot, now: datetime) -> Judgement:
        """What would be allowed, if its subject is not held back for a moment."""
        if self.held is None or not judged.allowed:
            return judged
        identity = snapshot.identity(request.subject.id)
        why = self.held(identity.id, request, now) if identity is not None else ""
        return _refuse("held", why, "the end of the test") if why else judged

    def evaluate_fast(self, request: Request, *, fulfils: frozenset[str] = frozenset()) -> bool:
        """The same answer without the record of it: for measuring, and for filtering lists."""
        now = self._clock.now()
        return self._judge(request, self._snapshot(), now, now.timestamp(), fulfils).allowed

    def _judge(
        self, request: Request, snapshot: Snapshot, now: datetime, stamp: float, fulfils: frozenset[str]
    ) -> Judgement:
        identity = snapshot.identity(request.subject.id) if request.subject.type in SUBJECT_TYPES else None
        if identity is None:
            text = f"no identity is called `{request.subject.id[:200]}`"
            return _refuse("subject-unknown", text, "an identity that the inventory knows")
        principal = snapshot.see_identity(identity)
        resource = snapshot.see_resource(request.resource.type, request.resource.id)
        refusal = _revoked(request, snapshot, principal) if snapshot.revoked.filled else None
        refusal = refusal or _not_live(identity, snapshot) or self._stale(snapshot, identity, resource.view)
        if refusal is not None:
            return refusal
        grant: GrantFacts | None = None
        if "grant" in request.proven:
            grant, refusal = _check_grant(request.proven, snapshot, identity, now)
            if refusal is not None:
                return refusal
            grant = grant.within(request) if grant is not None else None
        action = self._actions.get(request.action)
        if action is None:
            if not is_action_name(request.action):
                return _refuse("request-malformed", "the action's name is malformed", "an action by its name")
            action = action_view(request.action, ())
        seconds = int(stamp)
        if snapshot.stepped_up.filled and (at := _stepped_up(snapshot, identity, request.proven)) is not None:
            request = msgspec.structs.replace(request, proven={"step_up_at": at, **request.proven})
        try:
            context = context_json(
                request,
                now_seconds=seconds,
                exceptions=_excepted(snapshot, identity.id, request.action, resource.view, now)
                if snapshot.excepted.filled
                else (),
                vocabulary=self._vocabulary,
            )
        except MalformedFact as malformed:
            return _refuse("request-malformed", f"the proven fact {malformed}", "proof in the form of the schema")
        asked = _Asked(principal, action, resource, context, context_values(context, stamp), grant)
        return self._ask_policies(asked, snapshot, seconds, fulfils)

    def _ask_policies(self, asked: _Asked, snapshot: Snapshot, now_seconds: int, fulfils: frozenset[str]) -> Judgement:
        """Steps 5 and 6."""
        principal, action, resource, values = asked.principal.view, asked.action, asked.resource.view, asked.values
        if "partner" in principal.attributes and (refusal := _out_of_bounds(asked, snapshot)) is not None:
            return refusal
        verdict = snapshot.policies.evaluate(principal, action, resource, values, snapshot)
        if self._shadow is not None and not self._shadow.agrees(
            snapshot.policies, verdict, principal, action, resource, values, snapshot
        ):
            return Judgement(False, verdict=verdict, asked=asked, disagreed=True)
        if not verdict.allowed or (verdict.errors and verdict.forbid_erred):
            return Judgement(False, verdict=verdict, asked=asked)
        for policy in verdict.determining:
            if policy.obligations:
                break
        else:
            return Judgement(True, None, "", verdict, asked)
        approved = asked.grant is not None and bool(asked.grant.approved)
        answered = asked.grant.answered if asked.grant is not None else ()
        left = unmet(verdict.determining, asked.context, approved=approved, answered=answered, now_seconds=now_seconds)
        allowed = not left or all(obligation.kind in fulfils for obligation in left)
        return Judgement(allowed, verdict=verdict, asked=asked, obligations=left)

    def _stale(self, snapshot: Snapshot, identity: IdentityFacts, resource: EntityView) -> Judgement | None:
        tier = STRICTEST_TIER if identity.tier is None else identity.tier
        strict = tier <= 1 or resource.attributes["sensitivity"] == _RESTRICTED
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
    if grant.changed or grant.policies not in ("", snapshot.policies.digest):
        return None, _not_approved(grant.changed or "the policies in force are others")
    if grant.identity != identity.id:
        return None, _refuse("grant-foreign", "the grant was given to another identity", "a grant of its own")
    if not grant.usable or now >= grant.expires:
        return None, _refuse("grant-over", "the grant is not in force", "a new grant")
    seen = (*grant.approved, *(str(proven[key]) for key in ("grant_digest",) if key in proven))
    task_changed = proven.get("task_digest", grant.task_digest) != grant.task_digest
    if task_changed or any(digest != grant.digest for digest in seen):
        return None, _not_approved("the task's definition is another" if task_changed else "it changed afterwards")
    return grant, None


def _not_approved(what: str) -> Judgement:
    return _refuse("grant-changed", f"the grant is not what was approved: {what}", "an approval of it as it stands")


def _out_of_bounds(asked: _Asked, snapshot: Snapshot) -> Judgement | None:
    """Hold a principal of a foreign trust domain to what its relation allows; a bound that errs holds as well."""
    if snapshot.bounds is None:
        return _refuse("partner", "no relation with its trust domain is in force", "a relation with its trust domain")
    views = (asked.principal.view, asked.action, asked.resource.view)
    verdict = snapshot.bounds.evaluate(*views, asked.values, snapshot)
    broken = [*verdict.determining, *(policy for policy, _ in verdict.errors)]
    if not broken:
        return None
    first, *others = sorted(broken, key=_ordinal)
    text = "; ".join(policy.source.reason for policy in (first, *others))
    refusal = Reason(id=first.id, effect=Effect.FORBID, text=text)
    return Judgement(False, refusal, f"terms that allow it: {text}", asked=asked)


def _stepped_up(snapshot: Snapshot, identity: IdentityFacts, proven: Mapping[str, Json]) -> int | None:
    """When it showed a second proof, for all that it is or for the very credential that it proves itself with."""
    moments = [snapshot.stepped_up.get(identity.id)]
    if "credential" in proven:
        moments.append(snapshot.stepped_up.get(step_up_key(identity.id, str(proven["credential"]))))
    return max((at for at in moments if at is not None), default=None)


def _excepted(snapshot: Snapshot, identity: str, action: str, resource: EntityView, now: datetime) -> list[str]:
    """The rules from which an exception in force excuses this request."""
    if not snapshot.excepted:
        return []
    return [each.rule for each in snapshot.exceptions_for(identity) if each.covers(action, resource, now)]


def _refuse(what: str, text: str, needed: str) -> Judgement:
    return Judgement(False, Reason(id=f"remit:{what}", effect=Effect.FORBID, text=text), needed)


# The record.


def decision_of(
    judged: Judgement, request: Request, *, id: str, now: datetime, snapshot: Snapshot, explain: bool = False
) -> Decision:
    """The record of what was judged; `explain` fills `needed`."""
    return Decision(
        id=id,
        time=now,
        request=request,
        allowed=judged.allowed,
        reasons=_reasons(judged),
        errors=_errors(judged.verdict),
        facts=_facts(judged),
        needed=_needed(judged, snapshot) if explain and not judged.allowed else (),
        obligations=judged.obligations,
        snapshot=snapshot.label,
        policies=snapshot.policies.digest,
        bounds=_bounds_of(judged, snapshot),
    )


def _bounds_of(judged: Judgement, snapshot: Snapshot) -> str:
    """The digest of the bounds that were asked: of a partner's principal alone."""
    asked = judged.asked
    held = asked is not None and "partner" in asked.principal.view.attributes
    return snapshot.bounds.digest if held and snapshot.bounds is not None else ""


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
