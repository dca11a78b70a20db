"""Label selectors, as the API machinery decides them.

Spec: Kubernetes API reference, `LabelSelector`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remit.inventory.connectors.kubernetes.objects import mapping, sequence, strings, text, texts


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Tell whether `selector` chooses what carries `labels`: an empty one chooses all, none at all chooses nothing.

    What is no valid selector chooses nothing.
    """
    if not isinstance(selector, dict):
        return False
    wanted, expressions = mapping(selector.get("matchLabels")), sequence(selector.get("matchExpressions"))
    if len(strings(wanted)) != len(wanted):
        return False
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(mapping(entry), labels) for entry in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = text(expression.get("key")), texts(expression.get("values"))
    if not key:
        return False
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return bool(values) and labels.get(key) not in values
        case "Exists":
            return key in labels and not values
        case "DoesNotExist":
            return key not in labels and not values
        case _:
            return False
