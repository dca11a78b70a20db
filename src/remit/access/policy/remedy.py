"""What would have allowed it: the least change of facts with which the policies permit, found by asking them.

A search, cheapest change first: whatever blocks (a forbid that holds or errs, or the clauses of a permit) says which
facts would move it; each candidate is evaluated by the engine itself, so that what is returned was seen to allow.
Facts that people can bring about (proof, a grant, an owner) cost less than those that are what they are (a kind).

Bounded: `MAX_ASKED` evaluations; what is not found by then is not claimed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from remit.access.policy.clauses import Est, Path, Sight, conditions, holds, is_forbid, path_of, raised_in
from remit.access.policy.codegen import Uncovered
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.entities import EntityView
from remit.access.policy.extensions import Datetime, IpRange, parse_ip
from remit.access.policy.schema import CLAIMS, IDENTITY_ATTRIBUTES, RESOURCE_ATTRIBUTES, Kind, context_kinds
from remit.access.policy.values import CedarSet, EvaluationError, Uid, Value, key

MAX_ASKED: Final = 300
MAX_CHANGES: Final = 10
_MAX_FIXES: Final = 24
_MAX_PERMITS: Final = 24
_NEGATED: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
OTHER: Final = "other than "
"""Begins a text that stands for any other than the one behind it."""
_BOUNDS: Final = {"<=": "at most", ">=": "at least", "<": "at most", ">": "at least"}


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that would have to be otherwise."""

    path: Path
    """`("principal",)` itself is about membership: `value` is the group."""
    kind: str
    """`is`, `at most`, `at least`, `present`, `absent`, `holds`, `lacks`, `in`, `not in`."""
    value: Value = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from others."""
        return (self.path, self.kind, None if self.value is None else key(self.value))


@dataclass(frozen=True, slots=True)
class Remedy:
    """Changes with which the policies were seen to permit."""

    changes: tuple[Change, ...]
    sight: Sight


def find_remedy(policies: CompiledPolicies, sight: Sight) -> Remedy | None:
    """The cheapest set of changes that allows; None where none was found."""
    order = count()
    waiting: list[tuple[int, int, tuple[Change, ...]]] = [(0, next(order), ())]
    seen: set[frozenset[tuple[Any, ...]]] = {frozenset()}
    compiled = sight._compiled
    for _ in range(MAX_ASKED):
        if not waiting:
            return None
        _, _, changes = heapq.heappop(waiting)
        now = apply_changes(sight, changes, compiled)
        verdict = policies.evaluate(now.principal, now.action, now.resource, now.context, now.entities)
        if verdict.allowed and not verdict.forbid_erred:
            return Remedy(changes, now)
        if len(changes) >= MAX_CHANGES:
            continue
        for change in _moves(policies, now):
            together = _joined(changes, change)
            named = frozenset(each.key for each in together)
            if named not in seen:
                seen.add(named)
                heapq.heappush(waiting, (sum(map(_cost, together)), next(order), together))
    return None


def _joined(changes: tuple[Change, ...], new: Change) -> tuple[Change, ...]:
    """A later change of a fact takes the place of an earlier one, but for members of sets and groups."""
    several = ("holds", "lacks", "in", "not in")
    kept = [each for each in changes if each.path != new.path or (each.kind in several and new.kind in several)]
    return (*(each for each in kept if (each.path, each.value) != (new.path, new.value)), new)


def _moves(policies: CompiledPolicies, sight: Sight) -> Iterator[Change]:
    """Changes that move the first blocker."""
    applicable = policies.applicable(sight.principal, sight.action, sight.resource)
    for policy in applicable:
        if is_forbid(policy) and (outcome := holds(policy, sight)) is not False:
            yield from _bounded(_lift(policy, sight, erred=outcome is None))
            return
    permits = [policy for policy in applicable if not is_forbid(policy)]
    for policy in permits[:_MAX_PERMITS]:
        yield from _bounded(_satisfy(policy, sight))


def _bounded(changes: Iterator[Change]) -> Iterator[Change]:
    try:
        for number, change in enumerate(changes):
            if number >= _MAX_FIXES:
                return
            if _fits(change):
                yield change
    except Uncovered:
        return


def _lift(policy: CompiledPolicy, sight: Sight, *, erred: bool) -> Iterator[Change]:
    """What makes a forbid hold no more: any of its clauses, turned."""
    for body, wanted in conditions(policy):
        outcome = sight.outcome(body)
        if outcome is None:
            yield from _mend(body, sight)
            if erred:
                return
        elif outcome is wanted:
            yield from fixes(body, not wanted, sight)


def _satisfy(policy: CompiledPolicy, sight: Sight) -> Iterator[Change]:
    """What makes the first failing clause of a permit hold."""
    for body, wanted in conditions(policy):
        outcome = sight.outcome(body)
        if outcome is not wanted:
            yield from fixes(body, wanted, sight)
            return


def _mend(est: Est, sight: Sight) -> Iterator[Change]:
    """What takes an error away."""
    part, _ = raised_in(est, sight)
    if part:
        yield from _leaf(part, True, sight)
        yield from _leaf(part, False, sight)


# One expression.


def fixes(est: Est, wanted: bool, sight: Sight) -> Iterator[Change]:
    """Single changes that bring an expression nearer to `wanted`; after each the whole is asked again."""
    if sight.outcome(est) is wanted:
        return
    ((operator, operand),) = est.items()
    if operator == "!":
        yield from fixes(operand["arg"], not wanted, sight)
    elif operator in ("&&", "||"):
        first, second = operand["left"], operand["right"]
        if (operator == "&&") is wanted:
            nearer = second if sight.outcome(first) is wanted else first
            yield from fixes(nearer, wanted, sight)
        else:
            yield from fixes(first, wanted, sight)
            yield from fixes(second, wanted, sight)
    elif operator == "if-then-else":
        test = sight.outcome(operand["if"])
        if test is not None:
            yield from fixes(operand["then" if test else "else"], wanted, sight)
        for other in (True, False):
            yield from fixes(operand["if"], other, sight)
    else:
        yield from _leaf(est, wanted, sight)


def _leaf(est: Est, wanted: bool, sight: Sight) -> Iterator[Change]:
    ((operator, operand),) = est.items()
    if operator in ("==", "!="):
        yield from _equality(operand, (operator == "==") is wanted, sight)
    elif operator in _NEGATED:
        yield from _order(operand, operator if wanted else _NEGATED[operator], sight)
    elif operator in (".", "getTag") and (path := path_of(est)):
        yield Change(path, "is", wanted)
    elif operator in ("has", "hasTag") and (path := path_of(est)):
        yield Change(path, "present", _sample(path)) if wanted else Change(path, "absent")
    elif operator == "in":
        yield from _membership(operand, wanted, sight)
    elif operator == "like" and (path := path_of(operand["left"])):
        yield Change(path, "is", _matching(operand["pattern"]) if wanted else _other(_matching(operand["pattern"])))
    elif operator in ("contains", "containsAll", "containsAny"):
        yield from _contents(operator, operand, wanted, sight)
    elif operator == "isEmpty" and (path := path_of(operand["arg"])):
        yield Change(path, "is", CedarSet(() if wanted else ("x",)))
    elif operator == "isInRange" and wanted and (path := path_of(operand[0])):
        if isinstance(within := _known(operand[1], sight), IpRange):
            yield Change(path, "is", within)
    elif operator == "is" or operator == "Value":
        return
    yield from _guards(est, sight)


def _guards(est: Any, sight: Sight) -> Iterator[Change]:
    """Attributes that an expression reads of records that are not there."""
    if isinstance(est, list):
        for item in est:
            yield from _guards(item, sight)
    elif isinstance(est, dict) and est.keys() != {"Value"}:
        path = path_of(est)
        if path:
            if sight.at(path) is None and est.keys() not in ({"has"}, {"hasTag"}):
                yield Change(path, "present", _sample(path))
            return
        for item in est.values():
            yield from _guards(item, sight)


def _equality(operand: Mapping[str, Any], same: bool, sight: Sight) -> Iterator[Change]:
    for mine, others in (("left", "right"), ("right", "left")):
        path, value = path_of(operand[mine]), _known(operand[others], sight)
        if path and value is not None:
            yield Change(path, "is", value if same else _other(value))


def _order(operand: Mapping[str, Any], operator: str, sight: Sight) -> Iterator[Change]:
    for mine, others, wanted in (("left", "right", operator), ("right", "left", _MIRRORED[operator])):
        path, limit = path_of(operand[mine]), _known(operand[others], sight)
        step = {"<": -1, ">": 1}.get(wanted, 0)
        if path and type(limit) is int:
            yield Change(path, _BOUNDS[wanted], limit + step)
        elif path and type(limit) is Datetime:
            yield Change(path, _BOUNDS[wanted], Datetime(limit.ms + step))


def _membership(operand: Mapping[str, Any], wanted: bool, sight: Sight) -> Iterator[Change]:
    variable = operand["left"].get("Var")
    groups = _known(operand["right"], sight)
    listed = groups.items if type(groups) is CedarSet else (groups,)
    if variable in ("principal", "resource"):
        for group in listed:
            if type(group) is Uid and group.type == getattr(sight, variable).uid.type:
                yield Change((variable,), "in" if wanted else "not in", group)


def _contents(operator: str, operand: Mapping[str, Any], wanted: bool, sight: Sight) -> Iterator[Change]:
    path, inner = path_of(operand["left"]), _known(operand["right"], sight)
    if path and inner is not None:
        for item in inner.items if type(inner) is CedarSet and operator != "contains" else (inner,):
            yield Change(path, "holds" if wanted else "lacks", item)
    path, outer = path_of(operand["right"]), _known(operand["left"], sight)
    if path and type(outer) is CedarSet:
        choices: Iterable[Value] = outer.items if wanted else [_other(item) for item in outer.items[:2]]
        for item in choices:
            yield Change(path, "is", item if operator == "contains" else CedarSet((item,)))


def _known(est: Est, sight: Sight) -> Value | None:
    try:
        return sight.value(est)
    except (EvaluationError, Uncovered):
        return None


def _matching(pattern: Iterable[Any]) -> str:
    return "".join(each["Literal"] for each in pattern if isinstance(each, dict))


def _other(value: Value) -> Value:
    """Something else of the same type."""
    if isinstance(value, bool):
        return not value
    if type(value) is int:
        return value - 1 if value > 0 else value + 1
    if type(value) is CedarSet:
        return CedarSet((*value.items, "x") if value.items else ("x",))
    return f"{OTHER}{value}" if type(value) is str else None


def _sample(path: Path) -> Value:
    """A value that a fact of the schema could have; an empty text for what the schema does not know."""
    kind = _kind(path)
    samples: dict[Kind | None, Value] = {
        Kind.BOOL: True, Kind.LONG: 0, Kind.STRINGS: CedarSet(()), Kind.DATETIME: Datetime(0)
    }  # fmt: skip
    return parse_ip("127.0.0.1") if kind is Kind.IP else samples.get(kind, "")


def _fits(change: Change) -> bool:
    """Whether a fact could come so: of the type that the schema gives it."""
    if change.kind in ("absent", "holds", "lacks", "in", "not in"):
        return True
    kind = _kind(change.path)
    return change.value is not None and (kind is None or type(change.value) is _TYPES[kind])


def _kind(path: Path) -> Kind | None:
    known: Mapping[str, Kind]
    if path[:2] == ("context", "claimed"):
        return CLAIMS.get(path[-1])
    known = {"principal": IDENTITY_ATTRIBUTES, "resource": RESOURCE_ATTRIBUTES}.get(path[0]) or context_kinds()
    return known.get(path[-1]) or known.get(f"{path[-1]}?")


_TYPES: Final[Mapping[Kind, type]] = {
    Kind.BOOL: bool, Kind.LONG: int, Kind.STRING: str, Kind.STRINGS: CedarSet, Kind.IP: IpRange,
    Kind.DATETIME: Datetime,
}  # fmt: skip
_DEAR: Final[Mapping[Path, int]] = {
    ("principal", "owner_active"): 2, ("principal", "owner"): 3, ("principal", "risk"): 4,
    ("principal", "quarantined"): 4, ("principal", "purpose"): 4, ("principal", "service"): 6,
    ("principal", "tier"): 9, ("principal", "environment"): 12, ("resource", "known"): 8,
    ("resource", "sensitivity"): 9, ("resource", "environment"): 12, ("context", "exceptions"): 6,
    ("context", "exception"): 7, ("context", "time"): 6, ("context", "attestation_method"): 3,
    ("context", "source_address"): 5, ("context", "tainted"): 6,
}  # fmt: skip
"""What a fact costs to change; others of the context 2 (claims 1 more), of an entity 15. Taking away costs 4 more."""


def _cost(change: Change) -> int:
    usual = 2 if change.path[0] == "context" else 15
    cost = _DEAR.get(change.path, 8 if len(change.path) == 1 or "tags" in change.path else usual)
    taking = change.kind in ("absent", "lacks", "not in") or (change.kind == "is" and change.value is False)
    return cost + ("claimed" in change.path) + 4 * taking


# Applying changes.


def apply_changes(sight: Sight, changes: Iterable[Change], compiled: dict[int, Any] | None = None) -> Sight:
    """The same request with other facts."""
    principal, resource, context = sight.principal, sight.resource, dict(sight.context)
    for change in changes:
        if change.path[0] == "principal":
            principal = _changed_view(principal, change)
        elif change.path[0] == "resource":
            resource = _changed_view(resource, change)
        else:
            _set(context, change.path[1:], change)
            if change.path == ("context", "exceptions"):
                rules = context.get("exceptions")
                context["exception"] = type(rules) is CedarSet and bool(rules.items)
    return Sight(principal, sight.action, resource, context, sight.entities, compiled=compiled)


def _changed_view(view: EntityView, change: Change) -> EntityView:
    ancestors, attributes, tags = view.ancestors, dict(view.attributes), dict(view.tags)
    if len(change.path) == 1:
        ancestors = ancestors | {change.value} if change.kind == "in" else ancestors - {change.value}
        ancestors |= {view.uid}
    elif change.path[1] == "tags" and len(change.path) == 3:
        _set(tags, change.path[2:], change)
    else:
        _set(attributes, change.path[1:], change)
    return EntityView(uid=view.uid, ancestors=ancestors, attributes=attributes, tags=tags)


def _set(record: dict[str, Value], names: Path, change: Change) -> None:
    for name in names[:-1]:
        inner = record.get(name)
        record[name] = dict(inner) if isinstance(inner, Mapping) else {}
        record = record[name]
    name = names[-1]
    before = record.get(name)
    if change.kind == "absent":
        record.pop(name, None)
    elif change.kind in ("holds", "lacks"):
        items = before.items if type(before) is CedarSet else ()
        kept = tuple(item for item in items if key(item) != key(change.value))
        record[name] = CedarSet((*kept, change.value) if change.kind == "holds" else kept)
    else:
        record[name] = change.value
