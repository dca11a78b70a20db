"""Which clauses of which policies do the test cases exercise, each way?

A clause is one condition between `&&`, `||` and `!`. It counts as seen only where evaluation came to it: what a false
clause before it cuts off was not tested. Each policy has to apply once, each clause to be true once and false once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remit.access.model import Decision
from remit.access.policy.codegen import Uncovered, compile_policy, new_namespace
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.explain import clause_text
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.situation import Asked


@dataclass(slots=True)
class ClauseCoverage:
    """One clause, and which way it has been."""

    text: str
    kind: str
    """`when` or `unless`."""
    true: bool = False
    false: bool = False

    def gaps(self) -> Iterator[str]:
        if not self.true:
            yield f"`{self.text}` ({self.kind}) was never true"
        if not self.false:
            yield f"`{self.text}` ({self.kind}) was never false"


@dataclass(slots=True)
class PolicyCoverage:
    """One policy: whether a case came into its scope, and its clauses in the order of the text."""

    policy: str
    line: int
    applied: bool = False
    clauses: list[ClauseCoverage] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        return 1 + 2 * len(self.clauses)

    @property
    def seen(self) -> int:
        return self.applied + sum(clause.true + clause.false for clause in self.clauses)

    def gaps(self) -> list[str]:
        """What no case has shown, in sentences."""
        if not self.applied:
            return ["no case is in its scope"]
        return [gap for clause in self.clauses for gap in clause.gaps()]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a set of cases exercises of a set of policies."""

    policies: tuple[PolicyCoverage, ...]

    @property
    def percent(self) -> float:
        """Outcomes seen of those wanted, 0 to 100, rounded down to a tenth; 100 only when nothing lacks."""
        wanted = sum(policy.wanted for policy in self.policies)
        return 100.0 if not wanted else int(1000 * sum(policy.seen for policy in self.policies) / wanted) / 10


def cover(policies: CompiledPolicies, decisions: Sequence[Decision], vocabulary: Vocabulary = STANDARD) -> Coverage:
    """Measure which clauses these decisions came to."""
    watched = [_Watched(policy) for policy in policies.policies]
    for decision in decisions:
        asked = Asked.of(decision, vocabulary)
        if asked is None:
            continue
        near = {policy.id for policy in policies.applicable(asked.principal, asked.action, asked.resource)}
        for each in watched:
            if each.found.policy in near:
                each.see(asked)
    return Coverage(tuple(each.found for each in watched))


class _Watched:
    """One policy under measurement."""

    def __init__(self, policy: CompiledPolicy) -> None:
        self._est = policy.source.est
        self.found = PolicyCoverage(policy.id, policy.source.line)
        self._clauses: dict[int, ClauseCoverage] = {}
        for condition in self._est["conditions"]:
            for leaf in _leaves(condition["body"]):
                clause = ClauseCoverage(clause_text(leaf), condition["kind"])
                if "Value" in leaf:  # `when { true }` cannot be otherwise
                    clause.true = clause.false = True
                self._clauses[id(leaf)] = clause
                self.found.clauses.append(clause)

    def see(self, asked: Asked) -> None:
        """Follow the evaluation of one request."""
        if not self._in_scope(asked):
            return
        self.found.applied = True
        for condition in self._est["conditions"]:
            if self._evaluate(condition["body"], asked) is not (condition["kind"] == "when"):
                return

    def _in_scope(self, asked: Asked) -> bool:
        try:
            scope, _ = compile_policy({**self._est, "conditions": []}, new_namespace())
        except Uncovered:
            return False
        return scope(asked.principal, asked.resource, asked.action, asked.context, None, {}, {})

    def _evaluate(self, est: Mapping[str, Any], asked: Asked) -> bool | None:
        """As the engine does it, from left to right; None for an error."""
        operator, operand = _operator(est)
        if operator == "!":
            inner = self._evaluate(operand["arg"], asked)
            return None if inner is None else not inner
        if operator in ("&&", "||"):
            left = self._evaluate(operand["left"], asked)
            return self._evaluate(operand["right"], asked) if left is (operator == "&&") else left
        try:
            outcome = asked.outcome(est)
        except Uncovered:
            return None
        clause = self._clauses[id(est)]
        clause.true, clause.false = clause.true or outcome is True, clause.false or outcome is False
        return outcome


def _operator(est: Mapping[str, Any]) -> tuple[str, Any]:
    """The operator of an expression and what it is applied to; none where that is not one."""
    return next(iter(est.items())) if len(est) == 1 else ("", None)


def _leaves(est: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The clauses of a condition, left to right."""
    operator, operand = _operator(est)
    if operator == "!":
        yield from _leaves(operand["arg"])
    elif operator in ("&&", "||"):
        yield from _leaves(operand["left"])
        yield from _leaves(operand["right"])
    else:
        yield est
