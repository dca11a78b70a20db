"""cedarpy as the reference engine: for what the compiler does not cover, and as the judge of what it does.

Slow (a fraction of a millisecond for each policy and request) and used knowingly: `CompiledPolicy.engine` says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from remit.access.policy.codegen import read_uid
from remit.access.policy.entities import EntitySource, EntityView
from remit.access.policy.source import PolicySource
from remit.access.policy.values import CedarSet, EvaluationError, Uid, Value, to_json

_MAX_SLICE = 10_000


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    """What the reference engine said, with policies by the ids that Remit gives them."""

    allowed: bool
    determining: frozenset[str]
    errors: frozenset[str]


class ReferencePolicy:
    """One policy, evaluated by the reference engine; called like a compiled function."""

    def __init__(self, source: PolicySource) -> None:
        self._engine = ReferenceEngine((source,))

    def __call__(
        self,
        principal: EntityView,
        resource: EntityView,
        action: EntityView,
        context: Mapping[str, Value],
        entities: EntitySource,
        *_: object,
    ) -> bool:
        answer = self._engine.evaluate(principal, action, resource, context, entities)
        if answer.errors:
            raise EvaluationError("the reference engine could not evaluate it")
        return bool(answer.determining)


class ReferenceEngine:
    """cedarpy over parsed handles; the entities are cut down to what the policies can reach."""

    def __init__(self, sources: Iterable[PolicySource]) -> None:
        import cedarpy

        self._sources = tuple(sources)
        self._handle = cedarpy.PolicySet.from_str("\n".join(source.text for source in self._sources))
        self._ids = {f"policy{ordinal}": source.id for ordinal, source in enumerate(self._sources)}
        self._named = frozenset(uid for source in self._sources for uid in entities_in(source.est))

    def evaluate(
        self,
        principal: EntityView,
        action: EntityView,
        resource: EntityView,
        context: Mapping[str, Value],
        entities: EntitySource,
    ) -> ReferenceAnswer:
        """Ask the reference engine; same arguments as `CompiledPolicies.evaluate`."""
        import cedarpy

        rows = self._slice((principal, action, resource), context, entities)
        result = cedarpy.is_authorized(
            {
                "principal": _request_uid(principal.uid),
                "action": _request_uid(action.uid),
                "resource": _request_uid(resource.uid),
                "context": json.dumps({name: to_json(value) for name, value in context.items()}),
            },
            self._handle,
            json.dumps([row.as_json() for row in rows]),
        )
        if result.decision is cedarpy.Decision.NoDecision:
            raise EvaluationError(f"the reference engine refused the request: {'; '.join(result.diagnostics.errors)}")
        return ReferenceAnswer(
            result.allowed,
            frozenset(self._ids[policy] for policy in result.diagnostics.reasons),
            frozenset(self._policy_of(message) for message in result.diagnostics.errors),
        )

    def _policy_of(self, message: str) -> str:
        """`error while evaluating policy `policy3`: …` → that policy's id."""
        return self._ids[message.split("`", 2)[1]]

    def _slice(
        self, views: Iterable[EntityView], context: Mapping[str, Value], entities: EntitySource
    ) -> list[EntityView]:
        """Everything that can be reached from the request and the policies' own literals."""
        found: dict[Uid, EntityView] = {view.uid: view for view in views}
        waiting = [*self._named, *_uids(dict(context)), *(uid for view in found.values() for uid in _reach(view))]
        while waiting and len(found) < _MAX_SLICE:
            uid = waiting.pop()
            view = None if uid in found else entities.entity(uid)
            if view is not None:
                found[uid] = view
                waiting += _reach(view)
        return list(found.values())


def entities_in(est: Any) -> Iterable[Uid]:
    """Every entity that a policy's JSON names."""
    waiting = [est]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.keys() == {"type", "id"} and all(type(part) is str for part in node.values()):
                yield read_uid(node)
            else:
                waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _reach(view: EntityView) -> list[Uid]:
    return [*_uids(dict(view.attributes)), *_uids(dict(view.tags))]


def _uids(value: Value) -> list[Uid]:
    if type(value) is Uid:
        return [value]
    if type(value) is CedarSet:
        return [uid for item in value.items for uid in _uids(item)]
    if isinstance(value, dict):
        return [uid for item in value.values() for uid in _uids(item)]
    return []


def _request_uid(uid: Uid) -> dict[str, str]:
    return {"type": uid.type, "id": uid.id}
