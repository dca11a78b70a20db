"""What an argument may be: a bounded part of JSON Schema, checked and compared.

`violation` says what is wrong with a value; `is_within` says, from the two texts alone, that a constraint admits
nothing that another does not. It may fail to see that this is so, and never claims it wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.access.intent.model import ANY, INSTRUCTION, USER, Constraint
from remit.access.intent.pattern import matches
from remit.kernel.canonical import Json

MAX_TEXT: Final = 65_536
"""Characters of a text that a pattern looks at."""


def violation(constraint: Constraint, value: Json, where: str = "") -> str:
    """What is wrong with `value`, in words that quote nothing of it; empty when it fits. `where` is a JSON pointer."""
    here = f"`{where or '/'}`"
    if constraint.enum and not any(_same(value, each) for each in constraint.enum):
        return f"{here} is none of the values that the intent lists"
    if constraint.kind and not _is_kind(value, constraint.kind):
        return f"{here} is no {constraint.kind}"
    if isinstance(value, str):
        return _text_violation(constraint, value, here)
    if _is_number(value):
        assert isinstance(value, int | float)
        if constraint.minimum is not None and value < constraint.minimum:
            return f"{here} is less than {constraint.minimum}"
        if constraint.maximum is not None and value > constraint.maximum:
            return f"{here} is more than {constraint.maximum}"
    elif isinstance(value, list | tuple):
        return _array_violation(constraint, value, where)
    elif isinstance(value, Mapping):
        return _object_violation(constraint, value, where)
    # A constraint on text holds for text alone: where it stands, nothing else is admitted.
    return f"{here} is no text" if constraint.pattern else ""


def _text_violation(constraint: Constraint, value: str, here: str) -> str:
    if constraint.max_length is not None and len(value) > constraint.max_length:
        return f"{here} is longer than {constraint.max_length} characters"
    if constraint.pattern and (len(value) > MAX_TEXT or not matches(constraint.pattern, value)):
        return f"{here} does not match `{constraint.pattern}`"
    if constraint.minimum is not None or constraint.maximum is not None:
        return f"{here} is no number"
    return ""


def _array_violation(constraint: Constraint, value: list[Json] | tuple[Json, ...], where: str) -> str:
    if constraint.pattern or constraint.minimum is not None or constraint.maximum is not None:
        return f"`{where or '/'}` is an array"
    if constraint.max_length is not None and len(value) > constraint.max_length:
        return f"`{where or '/'}` has more than {constraint.max_length} items"
    for number, item in enumerate(value):
        found = violation(constraint.items, item, f"{where}/{number}") if constraint.items is not None else ""
        if found:
            return found
    return ""


def _object_violation(constraint: Constraint, value: Mapping[str, Json], where: str) -> str:
    """An object admits the names that the constraint has, and no others."""
    if constraint.pattern or constraint.minimum is not None or constraint.maximum is not None:
        return f"`{where or '/'}` is an object"
    missing = [name for name in constraint.required if name not in value]
    if missing:
        return f"`{where}/{missing[0]}` is missing"
    for name, item in value.items():
        inner = constraint.properties.get(name)
        if inner is None:
            return f"`{where}/{_shown(name)}` is not among the arguments that the intent lists"
        if found := violation(inner, item, f"{where}/{name}"):
            return found
    return ""


def is_within(inner: Constraint, outer: Constraint) -> bool:
    """Tell whether all that `inner` admits is admitted by `outer`, origins included."""
    if not origins_within(inner.origins, outer.origins):
        return False
    if inner.enum and not _has_origins(outer):
        admitted = [value for value in inner.enum if not violation(inner, value)]
        return not any(violation(outer, value) for value in admitted) and _inside(inner, outer, values=True)
    return _inside(inner, outer, values=False)


def _inside(inner: Constraint, outer: Constraint, *, values: bool) -> bool:
    """Compare part by part; `values` says that the listed values were compared already."""
    names = all(
        name in outer.properties and is_within(each, outer.properties[name]) for name, each in inner.properties.items()
    )
    if values:
        return names
    if outer.enum and not (inner.enum and all(any(_same(a, b) for b in outer.enum) for a in inner.enum)):
        return False
    if outer.kind and inner.kind != outer.kind:
        return False
    if outer.pattern and inner.pattern != outer.pattern:
        return False
    if outer.minimum is not None and (inner.minimum is None or inner.minimum < outer.minimum):
        return False
    if outer.maximum is not None and (inner.maximum is None or inner.maximum > outer.maximum):
        return False
    if outer.max_length is not None and (inner.max_length is None or inner.max_length > outer.max_length):
        return False
    if outer.items is not None and (inner.items is None or not is_within(inner.items, outer.items)):
        return False
    return names and set(outer.required) <= set(inner.required)


def origins_within(inner: frozenset[str] | None, outer: frozenset[str] | None) -> bool:
    """Tell whether every origin that `inner` admits is one that `outer` admits; `None` is the tool's own rule."""
    if outer is None:
        return inner is None or inner <= {INSTRUCTION, USER}
    return ANY in outer or (inner is not None and inner <= outer)


def _has_origins(constraint: Constraint) -> bool:
    inner = [*constraint.properties.values(), *([constraint.items] if constraint.items is not None else [])]
    return any(each.origins is not None or _has_origins(each) for each in inner)


def _same(one: Json, other: Json) -> bool:
    """Equal as JSON: `true` is not 1."""
    return type(one) is type(other) and one == other


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_kind(value: Json, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return _is_number(value)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "object":
            return isinstance(value, Mapping)
        case _:
            return isinstance(value, list | tuple)


def _shown(name: str) -> str:
    return name[:60]
