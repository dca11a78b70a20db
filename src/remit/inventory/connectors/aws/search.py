"""Is there a request that everything lets through? A search over patterns of actions and resources.

A pattern stands for a request that nobody names: each of its stars is a text of which no policy speaks. Where a
statement takes only a part of the pattern, the search goes on in that part. So what is found is a request that exists,
and conditions are what is left open about it. Where a part cannot be said by one pattern, the answer is conditional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.patterns import shared
from remit.inventory.connectors.aws.policy import Statement
from remit.inventory.connectors.aws.variables import Known

_BUDGET: Final = 100_000
"""Steps for one question, a step being one statement compared with one pattern."""
_CELLS: Final = 32
"""Cells of the table of two patterns that cost as much as one step."""
_MAX_DEPTH: Final = 40
"""Denials of everything but a list that are followed into each other."""
TOO_MANY: Final = ("too many statements take part to be weighed against each other",)
PART: Final = "only on a part that overlapping statements leave"
Gate = Callable[[str, str, Known], tuple[str, ...] | None]
"""What else must hold for an action on a resource: open conditions, `None` where it does not."""


@dataclass(frozen=True, slots=True)
class Said:
    """A statement with the policy that it is from, policy variables filled in."""

    statement: Statement
    label: str
    open: tuple[str, ...]
    """Variables, and matters of the principal, that only a request could fill in."""
    direct: bool = False
    """A resource's grant to whoever asks: neither boundary nor session policy limits it."""
    of_resource: str = ""
    """The account whose resources it is about, of a policy that is not the principal's own."""


class Layer:
    """Statements of which one must allow: a boundary, a session policy, a level of the organisation."""

    def __init__(self, label: str, allows: list[Said]) -> None:
        self.label = label
        self.allows = allows
        self.open = any(
            one.statement.actions == ("*",)
            and one.statement.resources == ("*",)
            and not (one.statement.not_actions or one.statement.not_resources or one.statement.conditions)
            for one in allows
        )
        """Whether it lets everything through."""


@dataclass(slots=True)
class Budget:
    """What one question may still cost."""

    left: int = _BUDGET

    def spend(self, steps: int = 1) -> bool:
        """Tell whether nothing is left."""
        self.left -= steps
        return self.left < 0


@dataclass(slots=True)
class Search:
    """One question: layers, denials and a gate, in one context."""

    layers: Sequence[Layer]
    denies: Callable[[str, str], Iterable[Said]]
    gate: Gate
    context: Known
    loose: bool = False
    """Whether some part could not be said by one pattern: then `None` is not certain."""
    budget: Budget = field(default_factory=Budget)

    def first(self, entry: Said | None, action: str, resource: str) -> tuple[str, ...] | None:
        """The fewest conditions under which something of `entry` (or of anything) passes; `None` where nothing does."""
        if entry is None:
            return self._layer(0, action, resource, (), ())
        return self._best(self._options([entry], action, resource), 0, (), ())

    def _layer(
        self, index: int, action: str, resource: str, held: tuple[str, ...], chosen: tuple[Said, ...]
    ) -> tuple[str, ...] | None:
        while index < len(self.layers) and self.layers[index].open:
            index += 1
        if index == len(self.layers):
            return self._leaf(action, resource, held, chosen)
        return self._best(self._options(self.layers[index].allows, action, resource), index + 1, held, chosen)

    def _best(
        self,
        options: Iterator[tuple[Said, str, str, tuple[str, ...]]],
        index: int,
        held: tuple[str, ...],
        chosen: tuple[Said, ...],
    ) -> tuple[str, ...] | None:
        best: tuple[str, ...] | None = None
        for said, action, resource, tests in options:
            if self.budget.spend():
                return best if best is not None else TOO_MANY
            found = self._layer(index, action, resource, (*held, *tests), (*chosen, said))
            if found is not None and (best is None or len(found) < len(best)):
                best = found
                if not best:
                    return best
        return best

    def _options(
        self, allows: Iterable[Said], action: str, resource: str
    ) -> Iterator[tuple[Said, str, str, tuple[str, ...]]]:
        """The parts of a pattern that statements take, those without conditions first."""
        later = []
        for said in allows:
            statement = said.statement
            if self.budget.spend():
                self.loose = True
                return
            if not statement.meets_action(action) or not statement.meets_resource(resource):
                continue
            tests = remaining(statement.conditions, self.context)
            if tests is None:
                continue
            tests = (*tests, *said.open)
            for part in self._parts(statement, action, resource):
                if tests:
                    later.append((said, *part, tests))
                else:
                    yield said, *part, ()
        yield from later

    def _parts(self, statement: Statement, action: str, resource: str) -> Iterator[tuple[str, str]]:
        if statement.not_actions or statement.takes_action(action):
            actions: Iterable[str] = (action,)
        else:
            actions = self._narrowed(statement.actions, action)
        if statement.not_resources or statement.takes_resource(resource):
            return product(actions, (resource,))
        return product(actions, self._narrowed(statement.resources, resource))

    def _narrowed(self, patterns: Iterable[str], asked: str) -> Iterator[str]:
        for pattern in patterns:
            if self.budget.spend(1 + len(asked) * len(pattern) // _CELLS):
                self.loose = True
                return
            both = shared(asked, pattern)
            if both is not None:
                self.loose = self.loose or not both[1]
                yield both[0]

    def _leaf(
        self, action: str, resource: str, held: tuple[str, ...], chosen: tuple[Said, ...], depth: int = 0
    ) -> tuple[str, ...] | None:
        if depth > _MAX_DEPTH:
            return TOO_MANY
        for said in chosen:
            if not (said.statement.takes_action(action) and said.statement.takes_resource(resource)):
                self.loose = True
                return None
        found = [*held]
        for said in self.denies(action, resource):
            statement = said.statement
            if self.budget.spend():
                return TOO_MANY
            if not (statement.takes_action(action) and statement.takes_resource(resource)):
                continue
            tests = remaining(statement.conditions, self.context)
            if tests is None:
                continue
            if not tests and not said.open:
                return self._beside(statement, action, resource, held, chosen, depth)
            found.append(f"unless {' and '.join((*tests, *said.open))} ({said.label} denies)")
        more = self.gate(action, resource, self.context)
        return None if more is None else (*found, *more)

    def _beside(
        self, denial: Statement, action: str, resource: str, held: tuple[str, ...], chosen: tuple[Said, ...], depth: int
    ) -> tuple[str, ...] | None:
        """Go on where a denial of everything but a list leaves something."""
        parts = [(one, resource) for one in self._narrowed(denial.actions, action)] if denial.not_actions else []
        if denial.not_resources:
            parts += [(action, one) for one in self._narrowed(denial.resources, resource)]
        best: tuple[str, ...] | None = None
        for part in parts:
            if self.budget.spend():
                return best if best is not None else TOO_MANY
            if part == (action, resource):
                continue
            found = self._leaf(*part, held, chosen, depth + 1)
            if found is not None and (best is None or len(found) < len(best)):
                best = found
                if not best:
                    break
        return best
