"""Policies as symbols: which requests does a policy set allow?

    allowed  =  a permit is satisfied, no forbid is satisfied, no forbid errs,
                and every obligation of each satisfied permit is met

What comes before Cedar in the order of a decision (identity, life cycle, grant) is in `smt_requests.ASSUMPTIONS`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import z3

from remit.access.model import Effect, Obligation
from remit.access.policy.codegen import read_uid
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.facts import CLOCK_SKEW_SECONDS
from remit.access.policy.obligations import limit_of
from remit.access.policy.schema import ACTION, IDENTITY, RESOURCE, STANDARD, Vocabulary
from remit.access.policy.smt_expressions import Translator
from remit.access.policy.smt_requests import Requests
from remit.access.policy.smt_terms import Term, Truth, all_of, any_of, equal, formula, implies, negated

_TYPES = {"principal": IDENTITY, "resource": RESOURCE, "action": ACTION}
_MEMORY_MB = 2048
_POLISH_MS = 500
_POLISH_SECONDS = 3.0
_UNCONFIRMED = "the engine answers otherwise for the requests that the solver found"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What came of looking for a request: one that was accepted, the proof that there is none, or neither."""

    answer: Literal["found", "none", "unknown"]
    taken: T | None = None
    why: str = ""
    """Why neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One policy as formulas."""

    policy: CompiledPolicy
    scope: Truth
    satisfied: Truth
    erred: Truth
    """Its scope matches, and its conditions cannot be evaluated."""
    untranslated: tuple[str, ...]
    """What stands for anything in these formulas, for a person."""


class Solver:
    """The symbols of one question, the policies over them, and the solver that answers.

    One thread at a time; `seconds` bound each answer.
    """

    def __init__(self, *, vocabulary: Vocabulary = STANDARD, seconds: float = 30.0) -> None:
        self.requests = Requests(vocabulary)
        self.translator = Translator(self.requests)
        self._seconds = seconds
        self._meanings: dict[str, Meaning] = {}
        self._supposed: Any = None

    @property
    def version(self) -> str:
        return f"z3 {z3.get_version_string()}"

    def meaning(self, policy: CompiledPolicy) -> Meaning:
        """The formulas of one policy."""
        key = json.dumps([policy.id, policy.source.text])
        if key not in self._meanings:
            self._meanings[key] = self._translate(policy)
        return self._meanings[key]

    def meanings(self, policies: Iterable[CompiledPolicy]) -> list[Meaning]:
        return [self.meaning(policy) for policy in policies]

    def allowed(self, policies: CompiledPolicies | Sequence[CompiledPolicy]) -> Truth:
        """Which requests a set allows, obligations met."""
        known = self.meanings(policies.policies if isinstance(policies, CompiledPolicies) else policies)
        met = [
            implies(each.satisfied, all_of(*map(self.met, each.policy.obligations)))
            for each in known
            if each.policy.obligations
        ]
        return all_of(self.permitted(policies), *met)

    def permitted(self, policies: CompiledPolicies | Sequence[CompiledPolicy]) -> Truth:
        """Which requests a set permits, whatever it obliges to."""
        known = self.meanings(policies.policies if isinstance(policies, CompiledPolicies) else policies)
        permits = (each.satisfied for each in known if each.policy.effect is Effect.PERMIT)
        return all_of(any_of(*permits), negated(self.forbidden(known)))

    def obliges(self, policies: CompiledPolicies, obligation: Obligation) -> Truth:
        """Which requests a set lets pass only with this obligation, if it permits them."""
        known = self.meanings(policies.policies)
        return any_of(*(each.satisfied for each in known if obligation in each.policy.obligations))

    def forbidden(self, known: Iterable[Meaning]) -> Truth:
        """Which requests the forbids among `known` deny, by being satisfied or by being in error."""
        return any_of(*(any_of(each.satisfied, each.erred) for each in known if each.policy.effect is Effect.FORBID))

    def met(self, obligation: Obligation) -> Truth:
        """When an obligation is met; one that only an enforcement point knows may always be."""
        context = self.requests.variable("context").value
        limit = limit_of(obligation)
        if obligation.kind == "fresh-attestation" and limit is not None:
            age = context.field("attestation_age")
            fresh = all_of(age.present, age.term.value >= 0, age.term.value <= limit)
            return all_of(context.field("attested").term.value, fresh)
        if obligation.kind == "step-up" and limit is not None:
            at = context.field("step_up_at")
            passed = self.requests.seconds() - at.term.value
            return all_of(at.present, passed >= -CLOCK_SKEW_SECONDS, passed <= limit)
        return self.requests.approved if obligation.kind == "approval" else True

    def truth(self, est: Mapping[str, Any]) -> Truth:
        """Which requests make an expression true, without error."""
        term = self.translator.boolean(est)
        return all_of(term.value, negated(term.erred))

    def untranslated(self, policies: Iterable[CompiledPolicy]) -> tuple[str, ...]:
        """`POLICY: CONSTRUCT` for each that stands for anything."""
        found = {f"{each.policy.id}: {what}": None for each in self.meanings(policies) for what in each.untranslated}
        return tuple(found)

    # Asking.

    def suppose(self, *known: Truth) -> None:
        """Take `known` for granted in all that is asked from now on; whatever is asked has to be translated before."""
        self._supposed = self._solver(known)

    def never(self, *questions: Truth, seconds: float | None = None) -> bool | None:
        """Whether no request answers all `questions`; None when the solver does not know (within `seconds`)."""
        if all_of(*questions) is False:
            return True
        with self._asking(questions) as solver:
            if seconds is not None:
                solver.set("timeout", int(seconds * 1000))
            answer = solver.check()
        return None if answer == z3.unknown else bool(answer == z3.unsat)

    def find(self, *questions: Truth, accept: Callable[[Any], T | None], attempts: int = 4) -> Found[T]:
        """Look for a request that answers all `questions` and that `accept` takes.

        Usual ones first; then those that are as usual as the questions let them be; then any.
        """
        if all_of(*questions) is False:
            return Found("none")
        with self._asking(questions) as solver:
            return self._find(solver, accept, attempts)

    def _find(self, solver: Any, accept: Callable[[Any], T | None], attempts: int) -> Found[T]:
        why = ""
        for hinted in (self._with_hints, self._with_fitting_hints, self._without_hints):
            scopes = solver.num_scopes()
            solver.push()
            complete = hinted(solver)
            outcome = self._try(solver, accept, attempts)
            solver.pop(solver.num_scopes() - scopes)
            solver.set("timeout", self._timeout_ms)
            if outcome.answer == "found" or (outcome.answer == "none" and complete):
                return outcome
            why = outcome.why or why
        return Found("unknown", why=why)

    # How a request is looked for: each tells whether nothing is left out, so that `none` is the last word.

    def _with_hints(self, solver: Any) -> bool:
        solver.add([formula(each) for each in self.requests.hints()])
        return False

    def _with_fitting_hints(self, solver: Any) -> bool:
        """Each hint that can hold beside those before it: one odd fact does not make all the others odd."""
        if solver.check() == z3.unsat:
            return True
        solver.set("timeout", _POLISH_MS)
        for hint in self.requests.hints():
            solver.push()
            solver.add(formula(hint))
            if solver.check() != z3.sat:
                solver.pop()
        solver.set("timeout", self._timeout_ms)
        return False

    def _without_hints(self, solver: Any) -> bool:
        return True

    @contextmanager
    def _asking(self, questions: Sequence[Truth]) -> Iterator[Any]:
        """A solver that knows the questions, and what is supposed."""
        if self._supposed is None:
            yield self._solver(questions)
            return
        self._supposed.push()
        try:
            self._supposed.set("timeout", self._timeout_ms)
            self._supposed.add([formula(each) for each in questions])
            yield self._supposed
        finally:
            self._supposed.pop()

    @property
    def _timeout_ms(self) -> int:
        return max(1, int(self._seconds * 1000))

    def _solver(self, questions: Sequence[Truth]) -> Any:
        """A solver that knows the questions, and what holds of every request."""
        solver = z3.Solver()
        solver.set("timeout", self._timeout_ms)
        solver.set("max_memory", _MEMORY_MB)
        solver.add([formula(each) for each in (*questions, *self.requests.constraints())])
        return solver

    def _try(self, solver: Any, accept: Callable[[Any], T | None], attempts: int) -> Found[T]:
        """Up to `attempts` models; `none` only when the very first question has no answer."""
        for attempt in range(attempts):
            answer = solver.check()
            if answer == z3.unsat:
                return Found("none") if attempt == 0 else Found("unknown", why=_UNCONFIRMED)
            if answer != z3.sat:
                return Found("unknown", why=f"the solver does not know ({solver.reason_unknown()})")
            model = solver.model()
            taken = accept(model)
            if taken is not None:
                return Found("found", self._simplest(solver, accept) or taken)
            solver.add(self._unlike(model))
        return Found("unknown", why=_UNCONFIRMED)

    def _simplest(self, solver: Any, accept: Callable[[Any], T | None]) -> T | None:
        """The same with as many ordinary facts as possible, so that a person sees what is not ordinary in it."""
        solver.set("timeout", _POLISH_MS)
        scopes, model, until = solver.num_scopes(), None, time.perf_counter() + _POLISH_SECONDS
        for ordinary in self.requests.ordinary():
            if time.perf_counter() > until:
                break
            solver.push()
            solver.add(formula(ordinary))
            if solver.check() == z3.sat:
                model = solver.model()
            else:
                solver.pop()
        solver.pop(solver.num_scopes() - scopes)
        return accept(model) if model is not None else None

    def _unlike(self, model: Any) -> Any:
        """Another truth of some fact, or another value of one that is text or a number."""
        differs = [z3.Int("action") != model.eval(z3.Int("action"), model_completion=True)]
        for each in self.requests.fields.values():
            symbols = [each.present] if each.present is not True else []
            symbols += [each.term.value] if each.term.kind in ("bool", "string", "long") else []
            differs += [one != model.eval(one, model_completion=True) for one in symbols if not isinstance(one, bool)]
        return z3.Or(differs)

    # One policy.

    def _translate(self, policy: CompiledPolicy) -> Meaning:
        est, before = policy.source.est, len(self.translator.untranslated)
        scope = all_of(*(self._scope(est[variable], variable) for variable in ("principal", "action", "resource")))
        value: Truth = True
        erred: Truth = False
        for condition in est["conditions"]:
            term = self.translator.boolean(condition["body"])
            erred = any_of(erred, all_of(value, term.erred))
            value = all_of(value, term.value if condition["kind"] == "when" else negated(term.value))
        return Meaning(
            policy=policy,
            scope=scope,
            satisfied=all_of(scope, value, negated(erred)),
            erred=all_of(scope, erred),
            untranslated=tuple(dict.fromkeys(self.translator.untranslated[before:])),
        )

    def _scope(self, constraint: Mapping[str, Any], variable: str) -> Truth:
        this = self.requests.variable(variable)
        match constraint["op"]:
            case "All":
                return True
            case "==":
                return self._is_entity(this, constraint["entity"])
            case "in":
                listed = constraint["entities"] if "entities" in constraint else [constraint["entity"]]
                return any_of(*(self.requests.within(this, self._entity(each)) for each in listed))
        assert constraint["op"] == "is", constraint["op"]
        group = constraint.get("in")
        inside = self.requests.within(this, self._entity(group["entity"])) if group else True
        return all_of(constraint["entity_type"] == _TYPES[variable], inside)

    def _is_entity(self, this: Term, raw: Mapping[str, Any]) -> Truth:
        return equal(this, self._entity(raw))

    def _entity(self, raw: Mapping[str, Any]) -> Term:
        uid = read_uid(raw)
        return self.requests.literal(uid.type, uid.id)
