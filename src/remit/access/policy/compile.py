"""Policies compiled to functions behind a scope index, and their evaluation exactly as Cedar has it.

`evaluate` is the hot path: it calls only the policies whose scope can match. Skipping the others is sound (a policy
whose scope does not match is neither satisfied nor in error).

Spec: Cedar language reference, "Authorization"; Cedar's Lean model, `Cedar/Thm/Slicing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from remit.access.model import Effect, Obligation, Reason
from remit.access.policy.codegen import Uncovered, compile_policy, new_namespace, read_uid
from remit.access.policy.entities import EntitySource, EntityTable, EntityView
from remit.access.policy.reference import ReferencePolicy
from remit.access.policy.source import PolicySource, read_policies
from remit.access.policy.values import EvaluationError, Uid, Value

Engine = Literal["compiled", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPolicy:
    """A policy that can be evaluated, and by which engine."""

    source: PolicySource
    ordinal: int
    engine: Engine
    uncovered: str
    """What the compiler does not know, where the engine is the reference."""
    function: Callable[..., bool] = field(repr=False)
    reason: Reason
    """How decisions name it."""
    obligations: tuple[Obligation, ...] = ()
    """From `@obligation("kind[: detail][, …]")`: what must hold or be done before this permit lets anything pass."""

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def effect(self) -> Effect:
        return self.source.effect


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What Cedar answers: the decision, the policies that determined it, and those that erred.

    `satisfied` holds every satisfied permit, also when a forbid overrides it.
    """

    allowed: bool
    determining: tuple[CompiledPolicy, ...]
    errors: tuple[tuple[CompiledPolicy, str], ...]
    satisfied: tuple[CompiledPolicy, ...] = ()

    @property
    def forbid_erred(self) -> bool:
        """True when a forbid whose scope applied could not be evaluated."""
        return any(policy.effect is Effect.FORBID for policy, _ in self.errors)


class _Scene:
    """The entities of one request in front of those of the snapshot."""

    __slots__ = ("_base", "_views")

    def __init__(self, base: EntitySource, *views: EntityView) -> None:
        self._base = base
        self._views = views

    def entity(self, uid: Uid) -> EntityView | None:
        for view in self._views:
            if view.uid == uid:
                return view
        return self._base.entity(uid)


_Entry = tuple[Callable[..., bool], CompiledPolicy]
_Slice = Mapping[Uid | None, Mapping[Uid | None, tuple[_Entry, ...]]]
"""The policies for one set of actions: principal of the scope → resource of the scope → policies; None is "any"."""

_Profile = tuple[frozenset[Uid], frozenset[Uid], frozenset[Uid]]
_REMEMBERED = 16_384

NO_ENTITIES = EntityTable({})
_DEFAULT_DENY = Verdict(False, (), ())


class CompiledPolicies:
    """An immutable set of compiled policies."""

    def __init__(self, policies: Iterable[CompiledPolicy], *, looks_up: bool) -> None:
        self.policies = tuple(policies)
        self.by_id: Mapping[str, CompiledPolicy] = {policy.id: policy for policy in self.policies}
        text = "\n".join(policy.source.text for policy in self.policies)
        self.digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        self._looks_up = looks_up
        self._actions = frozenset(uid for policy in self.policies for uid in _action_uids(policy) or ())
        self._slices: dict[frozenset[Uid], _Slice] = {}
        self._found: dict[_Profile, tuple[_Entry, ...]] = {}
        self._alone = {policy.id: _conclude([policy], []) for policy in self.policies}

    @property
    def engine(self) -> Engine:
        """`reference` as soon as one policy is not compiled."""
        return "reference" if any(policy.engine == "reference" for policy in self.policies) else "compiled"

    def evaluate(
        self,
        principal: EntityView,
        action: EntityView,
        resource: EntityView,
        context: Mapping[str, Value],
        entities: EntitySource = NO_ENTITIES,
    ) -> Verdict:
        """Evaluate a request whose values are already Cedar's; `entities` are the others that a policy may name."""
        if self._looks_up:
            entities = _Scene(entities, principal, resource, action)
        hits: list[CompiledPolicy] = []
        errors: list[tuple[CompiledPolicy, str]] = []
        principal_attributes, resource_attributes = principal.attributes, resource.attributes
        found = self._found.get((principal.ancestors, action.ancestors, resource.ancestors))
        for function, policy in self._lookup(principal, action, resource) if found is None else found:
            try:
                if function(principal, resource, action, context, entities, principal_attributes, resource_attributes):
                    hits.append(policy)
            except EvaluationError as error:
                errors.append((policy, str(error)))
            except KeyError as error:
                errors.append((policy, f"the attribute `{error.args[0]}` does not exist"))
        if not errors:
            if not hits:
                return _DEFAULT_DENY
            if len(hits) == 1:
                return self._alone[hits[0].id]
        return _conclude(hits, errors)

    def applicable(self, principal: EntityView, action: EntityView, resource: EntityView) -> tuple[CompiledPolicy, ...]:
        """The policies that the index finds for these, in the order of the text."""
        found = [policy for _, policy in self._lookup(principal, action, resource)]
        return tuple(sorted(found, key=lambda policy: policy.ordinal))

    def _lookup(self, principal: EntityView, action: EntityView, resource: EntityView) -> tuple[_Entry, ...]:
        """The policies whose scope can match, remembered for the ancestors of these three."""
        profile = (principal.ancestors, action.ancestors, resource.ancestors)
        found = self._found.get(profile)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            buckets = self._buckets(principal, action, resource)
            found = self._found[profile] = tuple(entry for bucket in buckets for entry in bucket)
        return found

    def _buckets(self, principal: EntityView, action: EntityView, resource: EntityView) -> list[tuple[_Entry, ...]]:
        profile = action.ancestors & self._actions
        by_principal = self._slices.get(profile)
        if by_principal is None:
            by_principal = self._slices[profile] = self._slice(profile)
        resources = resource.ancestors
        found: list[tuple[_Entry, ...]] = []
        rows = [by_principal[name] for name in principal.ancestors if name in by_principal]
        if None in by_principal:
            rows.append(by_principal[None])
        for row in rows:
            if None in row:
                found.append(row[None])
                if len(row) == 1:
                    continue
            found += [row[name] for name in resources if name in row]
        return found

    def _slice(self, profile: frozenset[Uid]) -> _Slice:
        """Index the policies that apply to an action with these ancestors; as many as policies name, so bounded."""
        index: dict[Uid | None, dict[Uid | None, list[_Entry]]] = {}
        for policy in self.policies:
            actions = _action_uids(policy)
            if actions is None or not profile.isdisjoint(actions):
                row = index.setdefault(_scope_uid(policy.source.est["principal"]), {})
                entry = (policy.function, policy)
                row.setdefault(_scope_uid(policy.source.est["resource"]), []).append(entry)
        return {
            principal: {resource: tuple(entries) for resource, entries in row.items()}
            for principal, row in index.items()
        }


def compile_policies(text: str) -> CompiledPolicies:
    """Parse and compile `text`; raises what `read_policies` raises."""
    return compile_sources(read_policies(text))


def compile_sources(sources: Iterable[PolicySource]) -> CompiledPolicies:
    """Compile policies one by one; what the compiler does not know goes, whole, to the reference engine."""
    namespace = new_namespace()
    policies: list[CompiledPolicy] = []
    anywhere = False
    for ordinal, source in enumerate(sources):
        engine: Engine = "compiled"
        uncovered = ""
        function: Callable[..., bool]
        try:
            function, looks_up = compile_policy(source.est, namespace)
        except Uncovered as unknown:
            engine, uncovered = "reference", str(unknown)
            function, looks_up = ReferencePolicy(source), True
        anywhere = anywhere or looks_up
        policies.append(
            CompiledPolicy(
                source=source,
                ordinal=ordinal,
                engine=engine,
                uncovered=uncovered,
                function=function,
                reason=Reason(id=source.id, effect=source.effect, text=source.reason),
                obligations=_obligations(source),
            )
        )
    return CompiledPolicies(policies, looks_up=anywhere)


def _obligations(source: PolicySource) -> tuple[Obligation, ...]:
    if source.effect is not Effect.PERMIT:
        return ()
    written = source.annotations.get("obligation", "").split(",")
    pairs = (each.partition(":") for each in written if each.strip())
    return tuple(Obligation(kind=kind.strip(), detail=detail.strip()) for kind, _, detail in pairs)


def _conclude(hits: list[CompiledPolicy], errors: list[tuple[CompiledPolicy, str]]) -> Verdict:
    """A satisfied forbid denies; else a satisfied permit allows; else deny."""
    permits = tuple(policy for policy in hits if policy.effect is Effect.PERMIT)
    if len(permits) == len(hits):
        return Verdict(bool(permits), permits, tuple(errors), permits)
    forbids = tuple(policy for policy in hits if policy.effect is Effect.FORBID)
    return Verdict(False, forbids, tuple(errors), permits)


def _scope_uid(constraint: Mapping[str, Any]) -> Uid | None:
    """The entity under which the index keeps a policy; None where the scope names none, or none that we can read."""
    raw = constraint.get("entity") or constraint.get("in", {}).get("entity")
    return read_uid(raw) if raw is not None and constraint["op"] in ("==", "in", "is") else None


def _action_uids(policy: CompiledPolicy) -> tuple[Uid, ...] | None:
    """The actions and groups that a policy's scope names; None for any action."""
    constraint = policy.source.est["action"]
    if constraint["op"] not in ("==", "in"):
        return None
    raw = constraint["entities"] if "entities" in constraint else [constraint["entity"]]
    return tuple(read_uid(item) for item in raw)
