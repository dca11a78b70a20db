"""What would have allowed it: the clauses that were false, in the words of the policies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from remit.access.model import Effect
from remit.access.policy.codegen import Uncovered, compile_clause, new_namespace
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.entities import EntitySource, EntityTable, EntityView
from remit.access.policy.values import CedarSet, EvaluationError, Uid, Value

MAX_SENTENCES = 20
_MAX_POLICIES = 200
_MAX_TEXT = 300
_NEEDLESS = re.compile(r"(?<![\w\"])\((\w+(?:\.\w+)+)\)")
"""Parentheses that the engine's printer puts around an attribute."""


def needed_by_policies(
    policies: CompiledPolicies,
    principal: EntityView,
    action: EntityView,
    resource: EntityView,
    context: Mapping[str, Value],
    entities: EntitySource,
) -> tuple[str, ...]:
    """A sentence for each forbid that held and each permit of matching scope that did not, at most `MAX_SENTENCES`.

    Forbids come first, then permits, the one that lacks least before the others. Costs a compilation of each clause
    in question, of at most `_MAX_POLICIES` policies: for people, not for the hot path.
    """
    scene = _Scene(principal, action, resource, context, entities)
    sentences: list[tuple[int, str]] = []
    for policy in policies.applicable(principal, action, resource)[:_MAX_POLICIES]:
        satisfied = _satisfied(policy, scene)
        if policy.effect is Effect.FORBID and satisfied is not False:
            sentences.append((0, f"`{policy.id}` forbids it: {policy.source.reason}"))
        elif policy.effect is Effect.PERMIT and satisfied is not True:
            missing = list(scene.false_clauses(policy)) or ["its scope does not match"]
            sentences.append((len(missing), f"`{policy.id}` would permit it, but {'; '.join(missing)}"))
    if not sentences:
        return ("a policy that permits this action to this principal on this resource: there is none",)
    sentences.sort(key=lambda counted: counted[0])
    return tuple(sentence for _, sentence in sentences[:MAX_SENTENCES])


def _satisfied(policy: CompiledPolicy, scene: _Scene) -> bool | None:
    """None when it errs."""
    try:
        return policy.function(*scene.arguments)
    except (EvaluationError, KeyError):
        return None


class _Scene:
    """One request, against which clauses are evaluated one by one."""

    def __init__(
        self,
        principal: EntityView,
        action: EntityView,
        resource: EntityView,
        context: Mapping[str, Value],
        entities: EntitySource,
    ) -> None:
        self._views = {"principal": principal, "action": action, "resource": resource}
        self._context = context
        own = EntityTable({view.uid: view for view in (principal, action, resource)})
        self.arguments = (
            principal,
            resource,
            action,
            context,
            _Both(own, entities),
            principal.attributes,
            resource.attributes,
        )

    def false_clauses(self, policy: CompiledPolicy) -> Iterator[str]:
        """Each conjunct of a `when` that is not true, and each `unless` that is.

        After one that is false, those that cannot be evaluated are left out: evaluation would not come there.
        """
        guarded = False
        for condition in policy.source.est["conditions"]:
            wanted = condition["kind"] == "when"
            for conjunct in _conjuncts(condition["body"]) if wanted else (condition["body"],):
                outcome = self._outcome(policy, conjunct)
                if outcome is None and not guarded:
                    yield f"`{clause_text(conjunct)}` could not be evaluated{self._seen(conjunct)}"
                    return
                if outcome is not None and outcome is not wanted:
                    guarded = True
                    yield f"`{clause_text(conjunct)}` is {str(outcome).lower()}{self._seen(conjunct)}"

    def _outcome(self, policy: CompiledPolicy, conjunct: Mapping[str, Any]) -> bool | None:
        if policy.engine == "reference":
            return None
        try:
            return compile_clause(conjunct, new_namespace())(*self.arguments)
        except (Uncovered, EvaluationError, KeyError):
            return None

    def _seen(self, conjunct: Mapping[str, Any]) -> str:
        """The values of the attributes that a clause reads; nothing for a clause that is one attribute."""
        if _path(conjunct):
            return ""
        values = {path: self._value(path) for path in _paths(conjunct)}
        told = ", ".join(f"{path} is {value}" for path, value in sorted(values.items()) if value)
        return f" ({told[:_MAX_TEXT]})" if told else ""

    def _value(self, path: str) -> str:
        variable, *names = path.split(".")
        value: Value = self._context if variable == "context" else self._views[variable].attributes
        for name in names:
            if not isinstance(value, Mapping):
                return ""
            if name not in value:
                return "missing"
            value = value[name]
        return _shown(value)


class _Both:
    """The request's own entities before the others."""

    def __init__(self, own: EntityTable, others: EntitySource) -> None:
        self._own, self._others = own, others

    def entity(self, uid: Uid) -> EntityView | None:
        return self._own.entity(uid) or self._others.entity(uid)


def clause_text(body: Mapping[str, Any]) -> str:
    """A clause as Cedar text, on one line."""
    import cedarpy

    scope = {"op": "All"}
    policy = {
        "effect": "permit",
        "principal": scope,
        "action": scope,
        "resource": scope,
        "conditions": [{"kind": "when", "body": body}],
    }
    document = {"templates": {}, "staticPolicies": {"p": policy}, "templateLinks": []}
    text = " ".join(cedarpy.policies_from_json_str(json.dumps(document)).split())
    clause, changed = text[text.index("{") + 1 : text.rindex("}")].strip(), 1
    while changed:
        clause, changed = _NEEDLESS.subn(r"\1", clause)
    return clause if len(clause) <= _MAX_TEXT else f"{clause[:_MAX_TEXT]}…"


def _conjuncts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The terms of `a && b && c`, left to right."""
    terms: list[Mapping[str, Any]] = []
    while body.keys() == {"&&"}:
        terms.append(body["&&"]["right"])
        body = body["&&"]["left"]
    yield body
    yield from reversed(terms)


def _paths(est: Any) -> set[str]:
    """The attribute paths that a clause reads, such as `context.claimed.tool`; the longest of each."""
    if isinstance(est, list):
        return {path for item in est for path in _paths(item)}
    if not isinstance(est, dict):
        return set()
    path = _path(est)
    return {path} if path else {found for item in est.values() for found in _paths(item)}


def _path(est: Mapping[str, Any]) -> str:
    """`principal.tier` of a chain of accesses; empty for anything else. `has` reads the path that it asks for."""
    names: list[str] = []
    while isinstance(est, dict) and len(est) == 1:
        ((operator, operand),) = est.items()
        if operator == "Var":
            return ".".join((operand, *reversed(names))) if names else ""
        if operator not in (".", "has") or (operator == "has" and names):
            return ""
        names.append(operand["attr"])
        est = operand["left"]
    return ""


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int)):
        return f'"{value}"' if isinstance(value, str) else str(value)
    if type(value) is CedarSet:
        return "[" + ", ".join(_shown(item) for item in value.items[:8]) + "]"
    if type(value) is Uid or isinstance(value, Mapping):
        return ""
    return str(value.text())
