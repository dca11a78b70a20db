"""What counts of each node of the graph, as small integers: its class of harm, its kind and its environment."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from remit.inventory.graph.model import Category, Node

WEIGHTS: Final[Mapping[str, int]] = {"public": 0, "internal": 1, "confidential": 3, "restricted": 10, "unknown": 1}
"""What reaching one resource of a sensitivity adds to the score."""
LABELS: Final = tuple(WEIGHTS)
"""Classes 0 to 4: resources by sensitivity."""
IDENTITY: Final = len(LABELS)
"""The class of identities."""
CLASSES: Final = IDENTITY + 1
"""How many classes are counted."""
UNCOUNTED: Final = CLASSES
"""The class of credentials."""


@dataclass(frozen=True, slots=True)
class Traits:
    """By position of a node: its class, and the numbers of its kind and of its environment in `kinds`, `environments`.

    Environment 0 is none.
    """

    classes: array[int]
    kind: array[int]
    environment: array[int]
    kinds: tuple[str, ...]
    environments: tuple[str, ...]

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Traits:
        """The traits of these nodes, in their order."""
        kinds: dict[str, int] = {}
        environments: dict[str, int] = {"": 0}
        classes, kind, environment = array("b"), array("i"), array("i")
        for node in nodes:
            classes.append(class_of(node))
            kind.append(kinds.setdefault(node.kind, len(kinds)))
            environment.append(environments.setdefault(node.environment or "", len(environments)))
        return cls(classes, kind, environment, tuple(kinds), tuple(environments))


def class_of(node: Node) -> int:
    """What it counts as; what no source describes is a resource of unknown sensitivity."""
    if node.category is Category.IDENTITY:
        return IDENTITY
    if node.category is Category.CREDENTIAL:
        return UNCOUNTED
    return LABELS.index(node.sensitivity.value if node.sensitivity else "unknown")
