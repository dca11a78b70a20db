"""Path proof in records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from remit.inventory.graph.cuts import Cut
from remit.inventory.graph.model import Edge
from remit.inventory.graph.paths import Path

RULE: Final = "open-path"
"""The control that an exception names to excuse a path that no decision stands in."""
REACH: Final = "reach"
"""The action of such an exception that stands for whatever the identity may do there."""


MOST_EXCUSES: Final = 500
"""A certificate rests on no more."""


class Status(StrEnum):
    """Of a resource, the worst first: the worst that is true of it."""

    OPEN = "open"
    """Somebody reaches it without a decision and without an exception."""
    CONDITIONAL = "conditional"
    """The same, but only where conditions hold that were not evaluated."""
    UNMEASURED = "unmeasured"
    """Nothing open was seen, but not everything was read: no pass."""
    EXCEPTED = "excepted"
    DECIDED = "decided"
    UNREACHED = "unreached"
    """Nobody reaches it at all."""


CLOSED: Final = frozenset({Status.EXCEPTED, Status.DECIDED, Status.UNREACHED})


class GuardKind(StrEnum):
    LEASE = "lease"
    """A credential that a decision gave to one task, while its lease lives."""
    TARGET = "target"
    """Remit's own login on a target: it makes and ends leases."""
    ENFORCER = "enforcer"
    """An identity of an enforcement point's own, by a binding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A node behind which stands a decision: what it does itself is decided.

    Whoever can *become* it, or get hold of its credential, is not. `resources` are names, or prefixes with `*`; none:
    every resource.
    """

    node: str
    kind: GuardKind
    why: str
    resources: tuple[str, ...] = ()

    def covers(self, resource: str) -> bool:
        """Whether it stands before this resource."""
        return not self.resources or any(matches(each, resource) for each in self.resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excuse:
    """An exception that holds now, as far as it excuses open paths."""

    id: str
    identities: frozenset[str]
    actions: frozenset[str]
    resource: str
    expires: datetime
    untested: tuple[str, ...] = ()
    """Compensating controls that are sentences: nothing tries them."""

    def covers(self, resource: str) -> bool:
        """Whether it is about this resource."""
        return matches(self.resource, resource)


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is `pattern`, or begins as one that ends in `*` does."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class LastStep:
    """One access edge to a resource, and how many open ways end in it."""

    edge: Edge
    openings: int
    conditional: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Somebody who reaches the resource without a decision, by the shortest way."""

    identity: str
    title: str
    kind: str
    path: Path
    conditional: bool
    cut: Cut
    """The cheapest way to close this one, on all its ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of some resources into which the very same edges lead."""

    resources: tuple[str, ...]
    titles: tuple[str, ...]
    status: Status
    decided: int
    excepted: int
    open: int
    conditional: int
    """Entrances by what is true of them: who can act, and comes there."""
    openings: tuple[Opening, ...] = ()
    """The nearest first; `open + conditional` counts all."""
    last_steps: tuple[LastStep, ...] = ()
    excuses: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    """Nodes of the guards by which it is reached."""
    unmeasured: tuple[str, ...] = ()
    cut: Cut | None = None
    """The cheapest way to close all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What was proved of the policies in force."""

    digest: str
    version: str
    proved: tuple[str, ...]
    """Invariants, by their text."""
    failed: tuple[str, ...]
    solver: str
    unmeasured: str = ""

    @property
    def holds(self) -> bool:
        return not self.failed and not self.unmeasured and bool(self.proved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass:
    """The resource's own logs show an access that nobody decided."""

    name: str
    identity: str
    why: str
    last: datetime | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer to "does any path escape policy?"."""

    scope: str
    now: datetime
    verdicts: tuple[Verdict, ...]
    policy: Policy
    graph: Mapping[str, Any]
    """`digest` of all that reaches the scope, `nodes`, `edges`, and `registry`, the ledger's size when it was read."""
    guards: tuple[Guard, ...]
    excuses: tuple[Excuse, ...]
    bypasses: tuple[Bypass, ...] = ()
    blind: tuple[str, ...] = ()
    """What was not read, in sentences: nothing of it is proved."""
    refused: tuple[str, ...] = ()
    """Exceptions and bindings that do not count, and why."""
    cut_short: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Resources by status."""

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why there is no certificate; empty where one can be issued."""
        found = []
        if not self.verdicts:
            found.append("nothing is in scope: that proves nothing")
        worst = {each.status for each in self.verdicts} - CLOSED
        for each in Status:
            if each in worst:
                number = self.counts[each.value]
                found.append(f"{number} {'resource is' if number == 1 else 'resources are'} {each.value}")
        if not self.policy.holds:
            found.append(self.policy.unmeasured or f"not proved of the policies: {'; '.join(self.policy.failed)}")
        if len({each for one in self.verdicts for each in one.excuses}) > MOST_EXCUSES:
            found.append(f"it rests on more than {MOST_EXCUSES} exceptions: that is no rule any more")
        if self.bypasses:
            found.append(f"used without a decision: {', '.join(one.name for one in self.bypasses[:5])}")
        return (*found, self.cut_short) if self.cut_short else tuple(found)
