"""Cedar expressions as symbols: the counterpart of `codegen` for the solver, with the same errors in the same places.

An expression that has no exact counterpart becomes, where a boolean is expected, a boolean of which nothing is known
(the same one for the same text), which may also err. Whatever the engine makes of it is one of the possibilities, so
that what is proved holds; what is found is tried on the engine before anybody sees it.

Spec: Cedar language reference, "Operators and functions".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import z3

from remit.access.policy import operators
from remit.access.policy.codegen import Uncovered, read_uid
from remit.access.policy.extensions import CONSTRUCTORS, Decimal, IpRange
from remit.access.policy.smt_requests import Requests
from remit.access.policy.smt_terms import (
    Field,
    Fields,
    Group,
    Term,
    Text,
    Truth,
    Untranslatable,
    all_of,
    any_of,
    choose,
    contains,
    equal,
    ip_is,
    ip_within,
    is_empty,
    is_long,
    negated,
    overlap,
    quotient,
    subset,
    truncated,
)
from remit.access.policy.values import LONG_MIN

MAX_DEPTH = 200
_DAY = 86_400_000
APPROVED = "Approved"
"""An operator of invariants alone: a person approved the grant."""


class Translator:
    """Translates expressions over one set of symbols; `untranslated` names what it could not."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.untranslated: list[str] = []
        self._unknown: dict[str, Term] = {}

    def boolean(self, est: Mapping[str, Any], depth: int = 0) -> Term:
        """A boolean expression; never raises."""
        try:
            if depth > MAX_DEPTH:
                raise Untranslatable("a condition nested too deeply")
            operator, operand = _only(est)
            if operator in ("&&", "||"):
                return self._junction(operator, operand, depth + 1)
            if operator == "!":
                inner = self.boolean(operand["arg"], depth + 1)
                return Term("bool", negated(inner.value), inner.erred)
            if operator == "if-then-else":
                test, then, other = (self.boolean(operand[arm], depth + 1) for arm in ("if", "then", "else"))
                chosen = choose(test.value, then, other)
                return Term("bool", chosen.value, any_of(test.erred, chosen.erred))
            term = self.expression(est, depth + 1)
            if term.kind != "bool":
                raise Untranslatable(f"a {term.kind} where a boolean is expected")
            return term
        except (Untranslatable, Uncovered, RecursionError) as construct:
            return self._anything(est, str(construct) or "a condition nested too deeply")

    def _anything(self, est: Mapping[str, Any], construct: str) -> Term:
        self.untranslated.append(construct)
        text = json.dumps(est, sort_keys=True)
        if text not in self._unknown:
            name = f"unknown.{len(self._unknown)}"
            self._unknown[text] = Term("bool", z3.Bool(name), z3.Bool(f"{name}.erred"))
        return self._unknown[text]

    def _junction(self, operator: str, raw: Any, depth: int) -> Term:
        """`a && b && …` or `a || b || …`, from left to right, each asked only if the ones before leave it open."""
        operands = [raw["right"]]
        while raw["left"].keys() == {operator}:
            raw = raw["left"][operator]
            operands.append(raw["right"])
        operands.append(raw["left"])
        join, asked = (all_of, True) if operator == "&&" else (any_of, False)
        values: list[Truth] = []
        erred: list[Truth] = []
        for operand in reversed(operands):
            term = self.boolean(operand, depth)
            reached = join(*values) if asked else negated(join(*values))
            erred.append(all_of(reached, term.erred))
            values.append(term.value)
        return Term("bool", join(*values), any_of(*erred))

    def expression(self, est: Mapping[str, Any], depth: int = 0) -> Term:
        """Any expression. Raises `Untranslatable`."""
        if depth > MAX_DEPTH:
            raise Untranslatable("a condition nested too deeply")
        operator, operand = _only(est)
        write = _FORMS.get(operator)
        if write is not None:
            return write(self, operator, operand, depth + 1)
        if operator in ("&&", "||", "!"):
            return self.boolean(est, depth)
        if operator in CONSTRUCTORS and len(operand) == 1:
            return self._construct(operator, operand[0], depth + 1)
        if operator in operators.METHODS and len(operand) == len(operators.METHODS[operator][0]):
            return self._method(operator, [self.expression(each, depth + 1) for each in operand])
        raise Untranslatable(f"the operator `{operator}`")

    # Literals and variables.

    def _value(self, _: str, raw: Any, depth: int) -> Term:
        if isinstance(raw, bool):
            return Term("bool", raw)
        if isinstance(raw, str):
            return Term("string", self.requests.text(raw))
        if isinstance(raw, int):
            return Term("long", raw)
        uid = read_uid(raw)
        return self.requests.literal(uid.type, uid.id)

    def _variable(self, _: str, raw: str, depth: int) -> Term:
        return self.requests.variable(raw)

    def _set(self, _: str, raw: list[Any], depth: int) -> Term:
        elements = tuple(self.expression(each, depth) for each in raw)
        kinds = {element.kind for element in elements}
        if len(kinds) > 1:
            raise Untranslatable("a set of several types")
        of = kinds.pop() if kinds else ""
        return Term("set", Group(elements, None, of), any_of(*(each.erred for each in elements)))

    def _record(self, _: str, raw: Mapping[str, Any], depth: int) -> Term:
        terms = {name: self.expression(each, depth) for name, each in raw.items()}
        fields = {name: Field(True, Term(each.kind, each.value, False, each.of)) for name, each in terms.items()}
        return Term(
            "record", Fields(tuple(fields), fields.__getitem__), any_of(*(each.erred for each in terms.values()))
        )

    def _if(self, _: str, raw: Any, depth: int) -> Term:
        test = self.boolean(raw["if"], depth)
        chosen = choose(test.value, self.expression(raw["then"], depth), self.expression(raw["else"], depth))
        return Term(chosen.kind, chosen.value, any_of(test.erred, chosen.erred), chosen.of)

    def _approved(self, _: str, raw: Any, depth: int) -> Term:
        return Term("bool", self.requests.approved)

    # Comparisons and arithmetic.

    def _equal(self, operator: str, raw: Any, depth: int) -> Term:
        left, right = self._both(raw, depth)
        same = equal(left, right)
        return Term("bool", same if operator == "==" else negated(same), any_of(left.erred, right.erred))

    def _order(self, operator: str, raw: Any, depth: int) -> Term:
        left, right = self._both(raw, depth)
        if left.kind != right.kind or left.kind not in ("long", "datetime", "duration"):
            raise Untranslatable(f"`{operator}` between {left.kind} and {right.kind}")
        return Term("bool", _ORDER[operator](left.value, right.value), any_of(left.erred, right.erred))

    def _arithmetic(self, operator: str, raw: Any, depth: int) -> Term:
        left, right = self._both(raw, depth)
        _expect("long", left, right)
        result = _ARITHMETIC[operator](left.value, right.value)
        return Term("long", result, any_of(left.erred, right.erred, negated(is_long(result))))

    def _negate(self, _: str, raw: Any, depth: int) -> Term:
        inner = self.expression(raw["arg"], depth)
        _expect("long", inner)
        return Term("long", -inner.value, any_of(inner.erred, inner.value == LONG_MIN))

    def _both(self, raw: Any, depth: int) -> tuple[Term, Term]:
        return self.expression(raw["left"], depth), self.expression(raw["right"], depth)

    # Entities, records, strings, sets.

    def _member(self, _: str, raw: Any, depth: int) -> Term:
        base = self.expression(raw["left"], depth)
        found = self._field(base, str(raw["attr"]))
        if found is None:
            return Term("bool", False, True)
        term = found.term
        return Term(term.kind, term.value, any_of(base.erred, negated(found.present), term.erred), term.of)

    def _has(self, _: str, raw: Any, depth: int) -> Term:
        base = self.expression(raw["left"], depth)
        found = self._field(base, str(raw["attr"]))
        return Term("bool", found.present if found is not None else False, base.erred)

    def _field(self, base: Term, name: str) -> Field | None:
        if base.kind == "record":
            fields: Fields = base.value
            return fields.get(name)
        if base.kind != "entity" or not base.variable:
            raise Untranslatable(f"an attribute of a {base.kind} that is neither principal, resource nor record")
        return self.requests.field_of(base.variable, name) if base.variable != "action" else None

    def _in(self, _: str, raw: Any, depth: int) -> Term:
        left, right = self._both(raw, depth)
        return Term("bool", self._within(left, right), any_of(left.erred, right.erred))

    def _within(self, left: Term, right: Term) -> Truth:
        _expect("entity", left)
        if right.kind == "entity":
            return self.requests.within(left, right)
        if right.kind != "set" or right.value.elements is None:
            raise Untranslatable(f"`in` with a {right.kind}")
        _expect("entity", *right.value.elements)
        return any_of(*(self.requests.within(left, each) for each in right.value.elements))

    def _is(self, _: str, raw: Any, depth: int) -> Term:
        left = self.expression(raw["left"], depth)
        _expect("entity", left)
        matches = left.of == raw["entity_type"]
        if "in" not in raw:
            return Term("bool", matches, left.erred)
        groups = self.expression(raw["in"], depth)
        inside = self._within(left, groups)
        return Term("bool", all_of(matches, inside), any_of(left.erred, all_of(matches, groups.erred)))

    def _like(self, _: str, raw: Any, depth: int) -> Term:
        left = self.expression(raw["left"], depth)
        _expect("string", left)
        parts = [""]
        for element in raw["pattern"]:
            if element == "Wildcard":
                parts.append("")
            else:
                parts[-1] += element["Literal"]
        return Term("bool", self.requests.like(left.value, tuple(parts)), left.erred)

    def _tag(self, operator: str, raw: Any, depth: int) -> Term:
        base, tag = self._both(raw, depth)
        _expect("string", tag)
        if base.variable not in ("principal", "resource"):
            raise Untranslatable("a tag of an entity that is neither principal nor resource")
        erred, there = any_of(base.erred, tag.erred), self.requests.has_tag(base.variable, tag.value)
        if operator == "hasTag":
            return Term("bool", there, erred)
        return Term("string", self.requests.tag(base.variable, tag.value), any_of(erred, negated(there)))

    def _set_operation(self, operator: str, raw: Any, depth: int) -> Term:
        left, right = self._both(raw, depth)
        _expect("set", left)
        erred = any_of(left.erred, right.erred)
        if operator == "contains":
            return Term("bool", contains(left.value, right), erred)
        _expect("set", right)
        whole = subset(right.value, left.value) if operator == "containsAll" else overlap(left.value, right.value)
        return Term("bool", whole, erred)

    def _is_empty(self, _: str, raw: Any, depth: int) -> Term:
        inner = self.expression(raw["arg"], depth)
        _expect("set", inner)
        return Term("bool", is_empty(inner.value), inner.erred)

    # Extensions.

    def _construct(self, name: str, raw: Any, depth: int) -> Term:
        argument = self.expression(raw, depth)
        if argument.kind != "string" or not isinstance(argument.value, Text):
            raise Untranslatable(f"`{name}` of text that is not constant")
        try:
            made = CONSTRUCTORS[name](argument.value.text)
        except ValueError:
            return Term(name, IpRange(4, 0, 32) if name == "ip" else 0, True)
        return Term(name, made if name == "ip" else made.scaled if type(made) is Decimal else made.ms, argument.erred)

    def _method(self, name: str, arguments: list[Term]) -> Term:
        for expected, argument in zip(operators.METHODS[name][0], arguments, strict=True):
            _expect(expected.constructor, argument)
        erred = any_of(*(each.erred for each in arguments))
        values = [each.value for each in arguments]
        if name in _DECIMAL_ORDER:
            return Term("bool", _ORDER[_DECIMAL_ORDER[name]](*values), erred)
        if name == "isInRange":
            return Term("bool", ip_within(*values), erred)
        if arguments[0].kind == "ip":
            return Term("bool", ip_is(values[0], name), erred)
        if name in _UNITS:
            return Term("long", truncated(values[0], _UNITS[name]), erred)
        kind, result = _MOMENTS[name](*values)
        return Term(kind, result, any_of(erred, negated(is_long(result))))


def _only(est: Mapping[str, Any]) -> tuple[str, Any]:
    if len(est) != 1:
        raise Untranslatable("an expression that is no single operator")
    ((operator, operand),) = est.items()
    return operator, operand


def _expect(kind: str, *terms: Term) -> None:
    for term in terms:
        if term.kind != kind:
            raise Untranslatable(f"a {term.kind} where a {kind} is expected")


_ORDER: Mapping[str, Callable[[Any, Any], Truth]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_DECIMAL_ORDER = {"lessThan": "<", "lessThanOrEqual": "<=", "greaterThan": ">", "greaterThanOrEqual": ">="}
_UNITS = {"toMilliseconds": 1, "toSeconds": 1000, "toMinutes": 60_000, "toHours": 3_600_000, "toDays": _DAY}
_MOMENTS: Mapping[str, Callable[..., tuple[str, Any]]] = {
    "offset": lambda a, b: ("datetime", a + b),
    "durationSince": lambda a, b: ("duration", a - b),
    "toDate": lambda a: ("datetime", quotient(a, _DAY) * _DAY),
    "toTime": lambda a: ("duration", a % _DAY),
}
_FORMS: Mapping[str, Callable[[Translator, str, Any, int], Term]] = (
    {
        "Value": Translator._value,
        "Var": Translator._variable,
        "Set": Translator._set,
        "Record": Translator._record,
        "if-then-else": Translator._if,
        APPROVED: Translator._approved,
        "neg": Translator._negate,
        ".": Translator._member,
        "has": Translator._has,
        "in": Translator._in,
        "is": Translator._is,
        "like": Translator._like,
        "isEmpty": Translator._is_empty,
    }
    | dict.fromkeys(("==", "!="), Translator._equal)
    | dict.fromkeys(_ORDER, Translator._order)
    | dict.fromkeys(_ARITHMETIC, Translator._arithmetic)
    | dict.fromkeys(("hasTag", "getTag"), Translator._tag)
    | dict.fromkeys(("contains", "containsAll", "containsAny"), Translator._set_operation)
)
