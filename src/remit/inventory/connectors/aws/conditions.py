"""Conditions by three-valued logic: what is known is evaluated, what is not stays a condition of the edge.

`True` and `False` are certain; `None` means that the answer depends on the request.

Spec: IAM User Guide, "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

from collections.abc import Mapping

from remit.inventory.connectors.aws.patterns import covers
from remit.inventory.connectors.aws.policy import Condition

_EQUAL = frozenset({"stringequals", "arnequals"})
_EQUAL_FOLDED = frozenset({"stringequalsignorecase", "bool"})
_LIKE = frozenset({"stringlike", "arnlike"})


def evaluate(condition: Condition, known: Mapping[str, str]) -> bool | None:
    """Evaluate one test against the context keys that are known (lower-case names)."""
    operator = condition.operator.lower().rpartition(":")[2]
    operator = operator.removesuffix("ifexists")
    value = known.get(condition.key.lower())
    if value is None:
        return None
    negated = operator.startswith(("stringnot", "arnnot"))
    positive = operator.replace("not", "", 1) if negated else operator
    if positive in _EQUAL:
        # ARN operators take wildcards; those of `stringequals` are literal.
        holds = any(covers(v, value) if positive == "arnequals" else v == value for v in condition.values)
    elif positive in _EQUAL_FOLDED:
        holds = value.lower() in (v.lower() for v in condition.values)
    elif positive in _LIKE:
        holds = any(covers(v, value) for v in condition.values)
    else:
        return None
    return holds != negated


def remaining(conditions: tuple[Condition, ...], known: Mapping[str, str]) -> tuple[str, ...] | None:
    """The tests that stay open, in words; `None` where one is certainly false."""
    left = []
    for condition in conditions:
        match evaluate(condition, known):
            case False:
                return None
            case None:
                left.append(condition.text)
            case True:
                pass
    return tuple(left)
