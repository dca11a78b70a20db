"""Which clause failed: an expression taken apart, down to the very comparison that is not as it should be.

`blame` follows the evaluation: through `&&`, `||`, `!`, `if` and `unless` to the smallest expressions that make the
whole come out so, each with the values that it read, and through an error to the expression that raised it. For people
who ask afterwards; the decision path knows nothing of it.

Spec: Cedar language reference, "Operators" (evaluation order and short circuits).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remit.access.model import Effect
from remit.access.policy.codegen import Uncovered, compile_value, new_namespace
from remit.access.policy.compile import CompiledPolicy
from remit.access.policy.entities import EntitySource, EntityTable, EntityView
from remit.access.policy.values import CedarSet, EvaluationError, Uid, Value

MAX_TEXT = 300
_MAX_ALTERNATIVES = 12
_NEEDLESS = re.compile(r"(?<![\w\"])\((\w+(?:\.\w+)+)\)")
"""Parentheses that the engine's printer puts around an attribute."""

Est = Mapping[str, Any]
Path = tuple[str, ...]
"""`("context", "claimed", "tool")`; a tag is `("principal", "tags", NAME)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One expression that decided how a policy came out."""

    text: str
    outcome: str
    """`true`, `false` or `error`."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What it read: path → value, or `missing`."""
    error: str = ""
    alternatives: tuple[Clause, ...] = ()
    """Of an `||`: what each side lacks. One of them would do."""
    est: Est = field(default_factory=dict, repr=False, compare=False)
    wanted: bool = True
    """What it should have been for a permit to hold."""

    def sentence(self) -> str:
        """What a person reads."""
        if self.alternatives:
            each = " or ".join(one.sentence() for one in self.alternatives)
            return f"one of these is needed: {each}"
        said = f"could not be evaluated: {self.error}" if self.outcome == "error" else f"is {self.outcome}"
        read = ", ".join(f"{path} is {value}" for path, value in self.values.items() if value)
        bare = bool(path_of(self.est)) if self.est else False
        return f"`{self.text}` {said}" + (f" ({read[:MAX_TEXT]})" if read and not bare else "")


class Sight:
    """One request, against which expressions are evaluated one by one.

    `compiled` may be shared between sights: what it holds is of policies alone.
    """

    def __init__(
        self,
        principal: EntityView,
        action: EntityView,
        resource: EntityView,
        context: Mapping[str, Value],
        entities: EntitySource,
        *,
        compiled: dict[int, Any] | None = None,
    ) -> None:
        self.principal, self.action, self.resource, self.context = principal, action, resource, context
        own = EntityTable({view.uid: view for view in (principal, action, resource)})
        self.entities = entities
        self.arguments = (
            principal, resource, action, context, _Both(own, entities), principal.attributes, resource.attributes,
        )  # fmt: skip
        self._compiled = compiled if compiled is not None else {}

    def value(self, est: Est) -> Value:
        """The value of an expression. Raises `EvaluationError` as the policy would, and `Uncovered`."""
        kept = self._compiled.get(id(est))
        if kept is None:
            kept = self._compiled[id(est)] = (compile_value(est, new_namespace()), est)
        try:
            return kept[0](*self.arguments)
        except KeyError as error:
            raise EvaluationError(f"the attribute `{error.args[0]}` does not exist") from None

    def outcome(self, est: Est) -> bool | None:
        """Whether an expression is true; None when it errs, or is no boolean. Raises `Uncovered`."""
        try:
            value = self.value(est)
        except EvaluationError:
            return None
        return value if isinstance(value, bool) else None

    def error(self, est: Est) -> str:
        """What it says when it errs."""
        try:
            self.value(est)
        except EvaluationError as error:
            return str(error)
        return "it is no boolean"

    def at(self, path: Path) -> Value | None:
        """The value at a path; None where there is none."""
        if len(path) == 3 and path[1] == "tags" and path[0] in ("principal", "resource"):
            return getattr(self, path[0]).tags.get(path[2])
        value: Value = self.context if path[0] == "context" else getattr(self, path[0]).attributes
        for name in path[1:]:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value


class _Both:
    """The request's own entities before the others."""

    def __init__(self, own: EntityTable, others: EntitySource) -> None:
        self._own, self._others = own, others

    def entity(self, uid: Uid) -> EntityView | None:
        return self._own.entity(uid) or self._others.entity(uid)


def holds(policy: CompiledPolicy, sight: Sight) -> bool | None:
    """Whether a policy is satisfied; None when it errs."""
    try:
        return policy.function(*sight.arguments)
    except (EvaluationError, KeyError):
        return None


def conditions(policy: CompiledPolicy) -> Iterator[tuple[Est, bool]]:
    """Each condition's expression, and what it must be for the policy to hold."""
    for condition in policy.source.est["conditions"]:
        yield condition["body"], condition["kind"] == "when"


def failed_clauses(policy: CompiledPolicy, sight: Sight) -> tuple[Clause, ...]:
    """What keeps a policy from holding: the clauses that are not as they must be, in the order of the text.

    After one that is false, those that cannot be evaluated are left out: evaluation would not come there.
    """
    found: list[Clause] = []
    try:
        for body, wanted in conditions(policy):
            for clause in blame(body, wanted, sight):
                if clause.outcome != "error":
                    found.append(clause)
                elif not found:
                    return (clause,)
    except Uncovered as unknown:
        return (Clause(text=policy.source.reason, outcome="false", error=str(unknown)),)
    return tuple(found)


def held_clauses(policy: CompiledPolicy, sight: Sight) -> tuple[Clause, ...]:
    """The clauses by which a satisfied policy holds."""
    try:
        return tuple(clause for body, wanted in conditions(policy) for clause in blame(body, not wanted, sight))
    except Uncovered:
        return ()


def blame(est: Est, wanted: bool, sight: Sight) -> list[Clause]:
    """The smallest expressions that make `est` come out otherwise than `wanted`; none when it is as wanted."""
    outcome = sight.outcome(est)
    if outcome is wanted:
        return []
    if outcome is None:
        return [_erred(est, wanted, sight)]
    ((operator, operand),) = est.items()
    if operator == "!":
        return blame(operand["arg"], not wanted, sight)
    if operator == "if-then-else":
        return _of_branch(operand, wanted, sight)
    if operator in ("&&", "||"):
        parts = [*_operands(est, operator)]
        if (operator == "&&") is wanted:
            return _each(parts, wanted, sight)
        each = [clause for part in parts for clause in _one(part, wanted, sight)]
        return each if len(each) < 2 else [_either(est, each, wanted, sight)]
    return [_leaf(est, wanted, sight)]


def _each(parts: list[Est], wanted: bool, sight: Sight) -> list[Clause]:
    """Every part had to be as wanted: all that are not, but for those that evaluation never came to and that err."""
    found: list[Clause] = []
    for part in parts:
        outcome = sight.outcome(part)
        if outcome is None and found:
            continue
        found += blame(part, wanted, sight)
        if outcome is None:
            break
    return found


def _one(part: Est, wanted: bool, sight: Sight) -> list[Clause]:
    """Of one side of an alternative: what keeps it from being as wanted, as one clause."""
    found = blame(part, wanted, sight)
    return found if len(found) < 2 else [_leaf(part, wanted, sight)]


def _either(est: Est, each: list[Clause], wanted: bool, sight: Sight) -> Clause:
    if not wanted:
        return _leaf(est, wanted, sight)
    told = tuple(each[:_MAX_ALTERNATIVES])
    return Clause(
        text=clause_text(est), outcome="false", values=_values(est, sight), alternatives=told, est=est, wanted=wanted
    )


def _of_branch(operand: Mapping[str, Any], wanted: bool, sight: Sight) -> list[Clause]:
    """Of `if`: the branch that was taken, and the test that led there."""
    test = sight.outcome(operand["if"])
    branch = blame(operand["then"] if test else operand["else"], wanted, sight)
    why = blame(operand["if"], not test, sight)
    return [*why, *branch] if not branch or not _is_constant(branch[0].est) else why or branch


def _is_constant(est: Est) -> bool:
    return est.keys() == {"Value"}


def _operands(est: Est, operator: str) -> Iterator[Est]:
    """The terms of `a && b && c`, left to right."""
    terms: list[Est] = []
    while est.keys() == {operator}:
        terms.append(est[operator]["right"])
        est = est[operator]["left"]
    yield est
    yield from reversed(terms)


def _leaf(est: Est, wanted: bool, sight: Sight) -> Clause:
    outcome = "true" if sight.outcome(est) else "false"
    return Clause(text=clause_text(est), outcome=outcome, values=_values(est, sight), est=est, wanted=wanted)


def _erred(est: Est, wanted: bool, sight: Sight) -> Clause:
    """The comparison in which the error is, with what raised it."""
    part, turned = raised_in(est, sight)
    inner = _innermost(part, sight)
    said = sight.error(inner)
    return Clause(
        text=clause_text(part), outcome="error", values=_values(part, sight), est=part,
        error=said if inner is part else f"{said}, in `{clause_text(inner)}`", wanted=wanted is not turned,
    )  # fmt: skip


def raised_in(est: Est, sight: Sight) -> tuple[Est, bool]:
    """The smallest boolean expression of `est` in which evaluation raised, and whether a `!` stands around it."""
    turned = False
    while True:
        ((operator, operand),) = est.items()
        if operator == "!":
            est, turned = operand["arg"], not turned
        elif operator in ("&&", "||"):
            est = next((each for each in _operands(est, operator) if sight.outcome(each) is None), {})
        elif operator == "if-then-else":
            test = sight.outcome(operand["if"])
            est = operand["if"] if test is None else operand["then" if test else "else"]
        else:
            return est, turned


def _innermost(est: Est, sight: Sight) -> Est:
    """The deepest operand that raises by itself."""
    while True:
        below = next((each for each in _children(est) if _raises(each, sight)), None)
        if below is None:
            return est
        est = below


def _raises(est: Est, sight: Sight) -> bool:
    try:
        sight.value(est)
    except EvaluationError:
        return True
    return False


def _children(est: Est) -> Iterator[Est]:
    """The operands that evaluation reads, in its order."""
    ((operator, operand),) = est.items()
    if operator in ("Value", "Var", "&&", "||", "if-then-else"):
        return
    named = [operand[name] for name in ("left", "arg", "right") if name in operand] if isinstance(operand, dict) else []
    if operator == "Record":
        named = list(operand.values())
    yield from (each for each in (operand if isinstance(operand, list) else named) if isinstance(each, dict))


# What people read.


def clause_text(body: Est) -> str:
    """An expression as Cedar text, on one line."""
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
    return clause if len(clause) <= MAX_TEXT else f"{clause[:MAX_TEXT]}…"


def _values(est: Est, sight: Sight) -> dict[str, str]:
    return {dotted(path): shown(sight.at(path)) for path in sorted(read_paths(est))}


def dotted(path: Path) -> str:
    """`context.claimed.tool`."""
    return ".".join(path)


def read_paths(est: Any) -> set[Path]:
    """The attribute paths that an expression reads; the longest of each."""
    if isinstance(est, list):
        return {path for item in est for path in read_paths(item)}
    if not isinstance(est, dict) or est.keys() == {"Value"}:
        return set()
    path = path_of(est)
    return {path} if path else {found for item in est.values() for found in read_paths(item)}


def path_of(est: Est) -> Path:
    """The path of a chain of accesses; empty for anything else. `has` reads the path that it asks for."""
    names: list[str] = []
    while isinstance(est, dict) and len(est) == 1:
        ((operator, operand),) = est.items()
        if operator == "Var":
            return (operand, *reversed(names)) if names else ()
        if operator in ("getTag", "hasTag") and not names:
            tag, of = operand["right"].get("Value"), operand["left"].get("Var")
            return (of, "tags", tag) if isinstance(tag, str) and of in ("principal", "resource") else ()
        if operator not in (".", "has") or (operator == "has" and names):
            return ()
        names.append(operand["attr"])
        est = operand["left"]
    return ()


def shown(value: Value | None) -> str:
    """A value as text, without the size of it; empty for a record."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int)):
        return f'"{value[:MAX_TEXT]}"' if isinstance(value, str) else str(value)
    if type(value) is CedarSet:
        return "[" + ", ".join(shown(item) for item in value.items[:8]) + "]"
    if type(value) is Uid:
        return str(value)
    return "" if isinstance(value, Mapping) else str(value.text())


def scope_text(policy: CompiledPolicy) -> str:
    """Whom, what and where a policy is for."""
    said = []
    for variable in ("principal", "action", "resource"):
        constraint = policy.source.est[variable]
        if constraint["op"] == "All":
            continue
        raw = constraint.get("entity") or constraint.get("in", {}).get("entity")
        listed = constraint.get("entities") or ([raw] if raw else [])
        names = ", ".join(f'{one["type"]}::"{one["id"]}"' for one in listed[:8])
        kind = constraint.get("entity_type", "")
        said.append(" ".join(part for part in (variable, constraint["op"], kind, names) if part))
    return "; ".join(said)


def is_forbid(policy: CompiledPolicy) -> bool:
    """Whether it takes away."""
    return policy.effect is Effect.FORBID
