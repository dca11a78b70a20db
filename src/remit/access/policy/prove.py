"""`prove`: whatever these policies allow has what an invariant requires — or here is a request that shows otherwise.

A proof is the solver's word that no request exists for which the policies allow, the guard holds and a requirement
does not, under `assumptions()`. A hole is shown only after the engine itself allowed it; what the solver finds and the
engine does not confirm is *undecided*, and so is what has no exact counterpart in the solver.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from remit.access.model import Decision
from remit.access.policy.check import check, errors_of
from remit.access.policy.codegen import Uncovered
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.invariants import APPROVED, Claim, Formula, Invariant, words_of
from remit.access.policy.lifecycle import text_digest
from remit.access.policy.obligations import BUILT_IN
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.situation import Asked, Situation
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Misconfigured, Rejected

if TYPE_CHECKING:
    from remit.access.policy.smt_policies import Solver
    from remit.access.policy.smt_terms import Truth

MAX_POLICIES = 5000
"""More are too slow to translate; `Rejected` (`access.policy.too-many`)."""
SECONDS = 30.0
"""How long the solver may think about one question."""

_VACUOUS_SECONDS = 2.0
BUDGET_SECONDS = 600.0
"""How long it may think about all of them."""

Outcome = Literal["proved", "hole", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A request that the engine itself answered so, with the facts under which it did."""

    request: Mapping[str, Json]
    """As AuthZEN has it."""
    facts: Mapping[str, Json]
    """What is proven and known: principal, resource, context, grant, exceptions, time."""
    allowed: bool
    by: tuple[str, ...]
    """The policies, or rules of the decision point, that determined it."""
    lacks: tuple[str, ...] = ()
    """The requirements that do not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What became of one invariant. `digest` is of the very text that was proved."""

    invariant: str
    text: str
    outcome: Outcome
    digest: str
    policies: int
    solver: str
    seconds: float = 0.0
    vacuous: bool = False
    """Proved because nothing in its guard is ever allowed."""
    witness: Witness | None = None
    why: tuple[str, ...] = ()
    """Why it is undecided."""


def assumptions() -> Mapping[str, str]:
    """What each proof rests on, beside the policies."""
    _require_solver()
    from remit.access.policy.smt_requests import ASSUMPTIONS

    return ASSUMPTIONS


def prove(
    text: str,
    invariants: Sequence[Invariant],
    *,
    vocabulary: Vocabulary = STANDARD,
    seconds: float = SECONDS,
    budget: float = BUDGET_SECONDS,
) -> list[Proof]:
    """Prove each invariant of a policy text, or find where it fails.

    `seconds` bound one question, `budget` all: what is not reached is undecided. Raises `Rejected` for a text that does
    not pass `check`, and `Misconfigured` (`access.policy.solver`) without z3.
    """
    policies = sound_policies(text, vocabulary)
    bench = _Bench(new_solver(vocabulary, seconds), policies, text_digest(text), vocabulary)
    questions = [bench.question(each) for each in invariants]
    bench.solver.suppose(bench.solver.allowed(policies))
    until = time.perf_counter() + budget
    return [
        bench.late(each) if time.perf_counter() > until else bench.prove(each, question)
        for each, question in zip(invariants, questions, strict=True)
    ]


def sound_policies(text: str, vocabulary: Vocabulary = STANDARD) -> CompiledPolicies:
    """Compile a text that passes `check`: a proof speaks of typed policies only. `Rejected` otherwise."""
    errors = errors_of(check(text, vocabulary))
    if errors:
        raise Rejected(errors[0].code, str(errors[0]), next_step="`remit policy check PATH` lists all problems")
    policies = compile_policies(text)
    if len(policies.policies) > MAX_POLICIES:
        raise Rejected("access.policy.too-many", f"more than {MAX_POLICIES} policies are not proved at once")
    return policies


def new_solver(vocabulary: Vocabulary = STANDARD, seconds: float = SECONDS) -> Solver:
    """A solver for questions about policies. Raises `Misconfigured` (`access.policy.solver`) without z3."""
    _require_solver()
    from remit.access.policy.smt_policies import Solver

    return Solver(vocabulary=vocabulary, seconds=seconds)


def has_solver() -> bool:
    """Whether the extra `prove` is installed."""
    from importlib.util import find_spec

    return find_spec("z3") is not None


def _require_solver() -> None:
    if not has_solver():
        raise Misconfigured(
            "access.policy.solver",
            "proofs need the solver z3, which is not installed",
            next_step="install it with `pip install 'remit[prove]'`",
        )


@dataclass(frozen=True, slots=True)
class _Bench:
    """One text, its policies, and a solver that supposes that they allow what is asked about."""

    solver: Solver
    policies: CompiledPolicies
    digest: str
    vocabulary: Vocabulary

    def question(self, invariant: Invariant) -> tuple[Truth, Truth]:
        """Which requests lie in its guard, and which of any lack something that it requires."""
        from remit.access.policy.smt_terms import any_of, negated

        required = [truth_of(self.solver, each) for each in invariant.requires]
        return truth_of(self.solver, invariant.guard), any_of(*map(negated, required))

    def prove(self, invariant: Invariant, question: tuple[Truth, Truth]) -> Proof:
        begun = time.perf_counter()
        guard, broken = question
        judge = _Judge(self.solver, self.policies, invariant, self.vocabulary)
        found = self.solver.find(guard, broken, accept=judge.witness)
        outcome: Outcome = "proved" if found.answer == "none" else "hole" if found.answer == "found" else "undecided"
        unsure = (found.why, *self.solver.untranslated(self.policies.policies))
        return replace(
            self._proof(invariant, outcome),
            vacuous=outcome == "proved" and self.solver.never(guard, seconds=_VACUOUS_SECONDS) is True,
            witness=found.taken,
            why=unsure if outcome == "undecided" else (),
            seconds=round(time.perf_counter() - begun, 3),
        )

    def late(self, invariant: Invariant) -> Proof:
        """What is said of an invariant when the time is over."""
        return replace(self._proof(invariant, "undecided"), why=("the time for proofs was over",))

    def _proof(self, invariant: Invariant, outcome: Outcome) -> Proof:
        return Proof(
            invariant=invariant.id,
            text=invariant.text,
            outcome=outcome,
            digest=self.digest,
            policies=len(self.policies.policies),
            solver=self.solver.version,
        )


def truth_of(solver: Solver, formula: Formula) -> Truth:
    """A formula as one of the solver; `Rejected` where it says what the solver cannot."""
    from remit.access.policy.smt_terms import all_of, any_of, negated

    if isinstance(formula, Claim):
        before = len(solver.translator.untranslated)
        truth = solver.truth(formula.est)
        if len(solver.translator.untranslated) > before:
            raise Rejected(
                "access.policy.invariant",
                f"`{formula.words[:80]}` cannot be proved: {solver.translator.untranslated[-1]}",
                next_step="say it otherwise: docs/policies.md names what proofs do not cover",
            )
        return truth
    parts = [truth_of(solver, each) for each in formula.parts]
    return negated(parts[0]) if formula.how == "not" else (all_of if formula.how == "all" else any_of)(*parts)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Asks the engine about what the solver found."""

    solver: Solver
    policies: CompiledPolicies
    invariant: Invariant
    vocabulary: Vocabulary

    def witness(self, model: Any) -> Witness | None:
        """The request, if the engine allows it, and the guard holds, and a requirement does not."""
        situation = situation_of(self.solver, model)
        if situation is None:
            return None
        decision = decide(situation, self.policies, self.vocabulary)
        if not decision.allowed or not holds(self.invariant.guard, decision, self.vocabulary):
            return None
        lacks = tuple(words_of(each) for each in self.invariant.requires if not holds(each, decision, self.vocabulary))
        return witness_of(situation, decision, lacks) if lacks else None


def situation_of(solver: Solver, model: Any) -> Situation | None:
    """What a model means; None when no request can be so."""
    from remit.access.policy.smt_witness import Reading

    return Reading(model, solver.requests).situation()


def decide(situation: Situation, policies: CompiledPolicies, vocabulary: Vocabulary = STANDARD) -> Decision:
    """Decide as for an enforcement point that fulfils every obligation which no proven fact can meet."""
    kinds = {each.kind for policy in policies.policies for each in policy.obligations}
    return situation.decide(policies, vocabulary=vocabulary, fulfils=frozenset(kinds - BUILT_IN))


def holds(formula: Formula, decision: Decision, vocabulary: Vocabulary = STANDARD) -> bool:
    """Whether a formula is true of a decision, by the engine's own evaluation of each clause."""
    if isinstance(formula, Claim):
        if formula is APPROVED:
            grant: Any = decision.facts.get("grant", {})
            return bool(grant.get("approved"))
        asked = Asked.of(decision, vocabulary)
        try:
            return asked is not None and asked.outcome(formula.est) is True
        except Uncovered:
            return False
    parts = (holds(each, decision, vocabulary) for each in formula.parts)
    return not next(parts) if formula.how == "not" else (all if formula.how == "all" else any)(parts)


def witness_of(situation: Situation, decision: Decision, lacks: tuple[str, ...] = ()) -> Witness:
    """A decision as evidence."""
    request = situation.request
    body: dict[str, Json] = {
        "subject": {"type": request.subject.type, "id": request.subject.id},
        "action": {"name": request.action},
        "resource": {"type": request.resource.type, "id": request.resource.id},
    }
    if request.claimed:
        body["context"] = dict(request.claimed)
    return Witness(
        request=body,
        facts={**decision.facts, "time": rfc3339(decision.time)},
        allowed=decision.allowed,
        by=tuple(reason.id for reason in decision.reasons),
        lacks=lacks,
    )
