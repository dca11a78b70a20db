"""One Cedar policy → one Python function, by way of syntax-tree nodes.

No string of a policy ever becomes source text: names and texts enter as `ast.Constant` or as values in the
function's globals. The function answers whether the policy is satisfied and raises `EvaluationError` or `KeyError`
(an attribute that is missing) where the policy errs.

    def policy(p, r, a, c, e, pa, ra): return <scope tests> and <conditions>

`p`, `r`, `a` are the `EntityView`s of principal, resource and action, `c` the context record, `e` the entities,
`pa` and `ra` the attributes of `p` and `r`.

INVARIANT: for what this module accepts, the function's answer is the reference engine's; what it does not know
raises `Uncovered`, and the whole policy goes to the reference engine.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remit.access.policy import operators
from remit.access.policy.extensions import CONSTRUCTORS
from remit.access.policy.nodes import all_of, attribute_of, call_of, compare, is_exactly, item_of, name_of
from remit.access.policy.source import UNREAD
from remit.access.policy.values import LONG_MAX, LONG_MIN, CedarSet, Uid, equal

MAX_DEPTH = 64
"""Deeper conditions go to the reference engine rather than near Python's own limits."""

_UNKNOWN = object()
_PARAMETERS = ("p", "r", "a", "c", "e", "pa", "ra")
_VIEWS = {"principal": "p", "resource": "r", "action": "a"}


class Uncovered(Exception):
    """The compiler does not know this construct."""


@dataclass(frozen=True, slots=True)
class Code:
    """An expression: its node, the Cedar type where it is certain, and the value where it is constant."""

    node: ast.expr
    kind: str | None = None
    value: Any = _UNKNOWN
    view: str = ""
    """`p`, `r` or `a` when the expression is that variable itself."""

    @property
    def constant(self) -> bool:
        return self.value is not _UNKNOWN


def new_namespace() -> dict[str, Any]:
    """Globals for compiled functions: the operators, and later their constants."""
    names: dict[str, Any] = {"__builtins__": {}, "type": type, "int": int, "dict": dict}
    for function in (*_BINARY.values(), *_UNARY.values(), *_OTHERS):
        names[function.__name__] = function
    return names


def compile_policy(est: Mapping[str, Any], namespace: dict[str, Any]) -> tuple[Callable[..., bool], bool]:
    """Compile a policy's JSON into a function over `namespace`, and say whether it looks up other entities.

    Raises `Uncovered` for what the compiler does not know.
    """
    writer = _Writer(namespace)
    terms = [*_scope_tests(writer, est)]
    for condition in est["conditions"]:
        body = writer.boolean(writer.expression(condition["body"], 0))
        if condition["kind"] == "unless":
            body = ast.UnaryOp(ast.Not(), body)
        elif condition["kind"] != "when":
            raise Uncovered(f"a clause `{condition['kind']}`")
        terms.append(body)
    return _function(all_of(terms), namespace), writer.looks_up


def compile_clause(body: Mapping[str, Any], namespace: dict[str, Any]) -> Callable[..., bool]:
    """Compile one boolean expression alone, for explanations."""
    writer = _Writer(namespace)
    return _function(writer.boolean(writer.expression(body, 0)), namespace)


def compile_value(body: Mapping[str, Any], namespace: dict[str, Any]) -> Callable[..., Any]:
    """Compile one expression of any type alone, for explanations."""
    return _function(_Writer(namespace).expression(body, 0).node, namespace)


def _function(result: ast.expr, namespace: dict[str, Any]) -> Callable[..., bool]:
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(name) for name in _PARAMETERS], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    definition = ast.FunctionDef("policy", arguments, [ast.Return(result)], [])
    module = ast.fix_missing_locations(ast.Module([definition], []))
    made: dict[str, Any] = {}
    try:
        exec(compile(module, "<cedar>", "exec"), namespace, made)  # noqa: S102 nodes only, see the module's docstring
    except (RecursionError, MemoryError):
        raise Uncovered("a condition nested too deeply") from None
    function: Callable[..., bool] = made["policy"]
    return function


def _scope_tests(writer: _Writer, est: Mapping[str, Any]) -> list[ast.expr]:
    """What the index does not settle: equality (the index answers `in`) and the `is` of a scope."""
    tests: list[ast.expr] = []
    for variable in ("principal", "action", "resource"):
        constraint = est[variable]
        uid = attribute_of(name_of(_VIEWS[variable]), "uid")
        if constraint["op"] == "==":
            tests.append(compare(uid, ast.Eq(), writer.keep(read_uid(constraint["entity"]))))
        elif constraint["op"] == "is":
            tests.append(compare(attribute_of(uid, "type"), ast.Eq(), ast.Constant(constraint["entity_type"])))
        elif constraint["op"] not in ("All", "in"):
            raise Uncovered(f"a scope `{constraint['op']}`")
    return tests


def read_uid(raw: Mapping[str, Any]) -> Uid:
    """An entity as Cedar's JSON names it, with or without its escape."""
    raw = raw.get("__entity", raw)
    if not isinstance(raw.get("type"), str) or not isinstance(raw.get("id"), str):
        raise Uncovered("an entity without type and id")
    return Uid(raw["type"], raw["id"])


class _Writer:
    """Writes the expressions of one policy; temporaries and constants get names of its own making."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._temporaries = 0
        self.looks_up = False

    def keep(self, value: object) -> ast.expr:
        """Make `value` a global of the function."""
        name = f"k{len(self._namespace)}"
        self._namespace[name] = value
        return name_of(name)

    def expression(self, est: Mapping[str, Any], depth: int) -> Code:
        if depth > MAX_DEPTH or UNREAD in est:
            raise Uncovered("a condition nested too deeply")
        if len(est) != 1:
            raise Uncovered("an expression that is no single operator")
        ((operator, operand),) = est.items()
        write = _FORMS.get(operator)
        if write is not None:
            return write(self, operator, operand, depth + 1)
        if operator in CONSTRUCTORS:
            return self._construct(operator, operand, depth + 1)
        if operator in operators.METHODS:
            return self._method(operator, operand, depth + 1)
        raise Uncovered(f"the operator `{operator}`")

    def boolean(self, code: Code) -> ast.expr:
        """An expression that gives exactly True or False, or raises the type error."""
        if code.kind == "bool":
            return code.node
        held, name = self._hold(code.node)
        is_true = compare(held, ast.Is(), ast.Constant(True))
        not_false = compare(name, ast.IsNot(), ast.Constant(False))
        return ast.BoolOp(
            ast.Or(), [is_true, ast.BoolOp(ast.And(), [not_false, call_of(operators.expected_bool, name)])]
        )

    def _hold(self, node: ast.expr) -> tuple[ast.expr, ast.expr]:
        """Bind `node` to a temporary: the binding expression, and the name for later."""
        name = f"t{self._temporaries}"
        self._temporaries += 1
        return ast.NamedExpr(ast.Name(name, ast.Store()), node), name_of(name)

    def _look_up(self) -> ast.expr:
        self.looks_up = True
        return name_of("e")

    # Literals and variables.

    def _value(self, _: str, raw: Any, depth: int) -> Code:
        if isinstance(raw, bool):
            return Code(ast.Constant(raw), "bool", raw)
        if isinstance(raw, str):
            return Code(ast.Constant(raw), "string", raw)
        if isinstance(raw, int) and LONG_MIN <= raw <= LONG_MAX:
            return Code(ast.Constant(raw), "long", raw)
        if isinstance(raw, dict) and raw.keys() == {"__entity"}:
            uid = read_uid(raw)
            return Code(self.keep(uid), "entity", uid)
        raise Uncovered("a literal of an unknown form")

    def _variable(self, _: str, raw: Any, depth: int) -> Code:
        if raw == "context":
            return Code(name_of("c"), "record")
        if raw not in _VIEWS:
            raise Uncovered(f"the variable `{raw}`")
        return Code(attribute_of(name_of(_VIEWS[raw]), "uid"), "entity", view=_VIEWS[raw])

    def _set(self, _: str, raw: Sequence[Any], depth: int) -> Code:
        items = [self.expression(item, depth) for item in raw]
        if all(item.constant for item in items):
            value = CedarSet(item.value for item in items)
            return Code(self.keep(value), "set", value)
        return Code(call_of(operators.make_set, ast.Tuple([item.node for item in items], ast.Load())), "set")

    def _record(self, _: str, raw: Mapping[str, Any], depth: int) -> Code:
        values = [self.expression(item, depth).node for item in raw.values()]
        return Code(ast.Dict([ast.Constant(name) for name in raw], values), "record")

    # Logic.

    def _junction(self, operator: str, raw: Any, depth: int) -> Code:
        operands: list[Any] = []
        while raw["left"].keys() == {operator}:
            operands.append(raw["right"])
            raw = raw["left"][operator]
        operands += [raw["right"], raw["left"]]
        terms = [self.boolean(self.expression(item, depth)) for item in reversed(operands)]
        return Code(ast.BoolOp(ast.And() if operator == "&&" else ast.Or(), terms), "bool")

    def _not(self, _: str, raw: Any, depth: int) -> Code:
        return Code(ast.UnaryOp(ast.Not(), self.boolean(self.expression(raw["arg"], depth))), "bool")

    def _if(self, _: str, raw: Any, depth: int) -> Code:
        test = self.boolean(self.expression(raw["if"], depth))
        then, other = self.expression(raw["then"], depth), self.expression(raw["else"], depth)
        return Code(ast.IfExp(test, then.node, other.node), then.kind if then.kind == other.kind else None)

    # Comparisons and arithmetic.

    def _equal(self, operator: str, raw: Any, depth: int) -> Code:
        left, right = self.expression(raw["left"], depth), self.expression(raw["right"], depth)
        same = self._same(left, right) if left.kind in _PLAIN or left.kind is None else self._same(right, left)
        return Code(same if operator == "==" else ast.UnaryOp(ast.Not(), same), "bool")

    def _same(self, left: Code, right: Code) -> ast.expr:
        """Equality; Python's own is exact where one side is a string, an entity or an extension value."""
        if left.kind in _PLAIN or right.kind in _PLAIN or left.kind == right.kind == "long":
            return compare(left.node, ast.Eq(), right.node)
        for number, other in ((left, right), (right, left)):
            if number.kind != "long" or not number.constant or other.kind is not None:
                continue  # both sides are evaluated, whatever the type of the other: a sum may overflow
            held, name = self._hold(other.node)
            return ast.BoolOp(ast.And(), [is_exactly(held, "int"), compare(name, ast.Eq(), number.node)])
        return call_of(equal, left.node, right.node)

    def _order(self, operator: str, raw: Any, depth: int) -> Code:
        left, right = self.expression(raw["left"], depth), self.expression(raw["right"], depth)
        if operator in (">", ">="):
            left, right = right, left
        function, order = (operators.less, ast.Lt()) if operator in ("<", ">") else (operators.less_equal, ast.LtE())
        if left.kind == right.kind == "long":
            return Code(compare(left.node, order, right.node), "bool")
        for known, other in ((left, right), (right, left)):
            if known.constant and known.kind == "long" and other.kind is None:
                held, name = self._hold(other.node)
                sides = [known.node, name] if known is left else [name, known.node]
                fast = compare(sides[0], order, sides[1])
                return Code(ast.IfExp(is_exactly(held, "int"), fast, call_of(function, *sides)), "bool")
        return Code(call_of(function, left.node, right.node), "bool")

    def _binary(self, operator: str, raw: Any, depth: int) -> Code:
        left, right = self.expression(raw["left"], depth), self.expression(raw["right"], depth)
        return Code(call_of(_BINARY[operator], left.node, right.node), _RESULT[operator])

    def _unary(self, operator: str, raw: Any, depth: int) -> Code:
        argument = self.expression(raw["arg"], depth)
        return Code(call_of(_UNARY[operator], argument.node), _RESULT[operator])

    # Entities, records, strings.

    def _member(self, _: str, raw: Any, depth: int) -> Code:
        base, attribute = self.expression(raw["left"], depth), ast.Constant(str(raw["attr"]))
        if base.view in ("p", "r"):
            return Code(item_of(name_of(base.view + "a"), attribute))
        if base.kind == "record":
            return Code(item_of(base.node, attribute))
        held, name = self._hold(base.node)
        return Code(
            ast.IfExp(
                is_exactly(held, "dict"),
                item_of(name, attribute),
                call_of(operators.member, name, attribute, self._look_up()),
            )
        )

    def _has(self, _: str, raw: Any, depth: int) -> Code:
        base, attribute = self.expression(raw["left"], depth), ast.Constant(str(raw["attr"]))
        if base.view in ("p", "r"):
            return Code(compare(attribute, ast.In(), name_of(base.view + "a")), "bool")
        if base.kind == "record":
            return Code(compare(attribute, ast.In(), base.node), "bool")
        held, name = self._hold(base.node)
        inside = compare(attribute, ast.In(), name)
        other = call_of(operators.has, name, attribute, self._look_up())
        return Code(ast.IfExp(is_exactly(held, "dict"), inside, other), "bool")

    def _in(self, _: str, raw: Any, depth: int) -> Code:
        return self._within(self.expression(raw["left"], depth), self.expression(raw["right"], depth))

    def _within(self, left: Code, right: Code) -> Code:
        if left.view and right.constant:
            ancestors = attribute_of(name_of(left.view), "ancestors")
            if type(right.value) is Uid:
                return Code(compare(right.node, ast.In(), ancestors), "bool")
            if type(right.value) is CedarSet and all(type(item) is Uid for item in right.value.items):
                apart = ast.Call(attribute_of(ancestors, "isdisjoint"), [self.keep(right.value.keys)], [])
                return Code(ast.UnaryOp(ast.Not(), apart), "bool")
        return Code(call_of(operators.within, left.node, right.node, self._look_up()), "bool")

    def _is(self, _: str, raw: Any, depth: int) -> Code:
        left, wanted = self.expression(raw["left"], depth), ast.Constant(str(raw["entity_type"]))
        if "in" not in raw:
            return Code(call_of(operators.is_type, left.node, wanted), "bool")
        held, name = (None, left.node) if left.view else self._hold(left.node)
        groups = self.expression(raw["in"], depth)
        inside = self._within(Code(name, left.kind, view=left.view), groups)
        return Code(ast.BoolOp(ast.And(), [call_of(operators.is_type, held or name, wanted), inside.node]), "bool")

    def _tag(self, operator: str, raw: Any, depth: int) -> Code:
        left, right = self.expression(raw["left"], depth), self.expression(raw["right"], depth)
        function = operators.has_tag if operator == "hasTag" else operators.get_tag
        return Code(call_of(function, left.node, right.node, self._look_up()), "bool" if operator == "hasTag" else None)

    def _like(self, _: str, raw: Any, depth: int) -> Code:
        parts = [""]
        for element in raw["pattern"]:
            if element == "Wildcard":
                parts.append("")
            elif isinstance(element, dict) and element.keys() == {"Literal"}:
                parts[-1] += element["Literal"]
            else:
                raise Uncovered("a pattern of an unknown form")
        left = self.expression(raw["left"], depth)
        return Code(call_of(operators.like, left.node, self.keep(tuple(parts))), "bool")

    # Extensions.

    def _construct(self, name: str, raw: Sequence[Any], depth: int) -> Code:
        if len(raw) != 1:
            raise Uncovered(f"`{name}` with {len(raw)} arguments")
        argument = self.expression(raw[0], depth)
        if argument.constant and type(argument.value) is str:
            try:
                value = CONSTRUCTORS[name](argument.value)
                return Code(self.keep(value), name, value)
            except ValueError:
                pass  # an error of evaluation, if evaluation ever comes here
        return Code(call_of(operators.construct, ast.Constant(name), argument.node), name)

    def _method(self, name: str, raw: Sequence[Any], depth: int) -> Code:
        if len(raw) != len(operators.METHODS[name][0]):
            raise Uncovered(f"`{name}` with {len(raw)} arguments")
        arguments = ast.Tuple([self.expression(item, depth).node for item in raw], ast.Load())
        kind = "bool" if name in operators.BOOLEAN_METHODS else None
        return Code(call_of(operators.call, ast.Constant(name), arguments), kind)


_PLAIN = frozenset({"string", "entity", *CONSTRUCTORS})
"""Types whose Python equality is Cedar's, whatever stands on the other side."""

_BINARY: Mapping[str, Callable[..., Any]] = {
    "+": operators.add,
    "-": operators.subtract,
    "*": operators.multiply,
    "contains": operators.contains,
    "containsAll": operators.contains_all,
    "containsAny": operators.contains_any,
}
_UNARY: Mapping[str, Callable[..., Any]] = {"neg": operators.negate, "isEmpty": operators.is_empty}
_RESULT: Mapping[str, str] = {
    **dict.fromkeys(("+", "-", "*", "neg"), "long"),
    **dict.fromkeys(("contains", "containsAll", "containsAny", "isEmpty"), "bool"),
}
_OTHERS: tuple[Callable[..., Any], ...] = (
    operators.expected_bool,
    operators.less,
    operators.less_equal,
    equal,
    operators.member,
    operators.has,
    operators.is_type,
    operators.within,
    operators.has_tag,
    operators.get_tag,
    operators.like,
    operators.make_set,
    operators.construct,
    operators.call,
)

_FORMS: Mapping[str, Callable[[_Writer, str, Any, int], Code]] = (
    {
        "Value": _Writer._value,
        "Var": _Writer._variable,
        "Set": _Writer._set,
        "Record": _Writer._record,
        "&&": _Writer._junction,
        "||": _Writer._junction,
        "!": _Writer._not,
        "if-then-else": _Writer._if,
        "==": _Writer._equal,
        "!=": _Writer._equal,
        "<": _Writer._order,
        "<=": _Writer._order,
        ">": _Writer._order,
        ">=": _Writer._order,
        ".": _Writer._member,
        "has": _Writer._has,
        "in": _Writer._in,
        "is": _Writer._is,
        "like": _Writer._like,
        "hasTag": _Writer._tag,
        "getTag": _Writer._tag,
    }
    | dict.fromkeys(_BINARY, _Writer._binary)
    | dict.fromkeys(_UNARY, _Writer._unary)
)
