"""`analyse`: what is wrong with a policy set that passes `check`.

| rule | what | shown by |
|---|---|---|
| `contradictory` | no request satisfies it | a proof |
| `overridden` | forbids deny whatever it permits | a proof, and which forbids |
| `shadowed` | without it nothing would change | a proof, and by which policies |
| `over-broad` | it permits too much: see `_Study._broad` | a proof; or a request that the engine allows |
| `may-err` | a permit is then skipped, a forbid then denies | a request that makes the engine err |
| `unused` | it determined none of the recorded decisions | their number |

A finding without its evidence is none: what the solver does not prove and the engine does not confirm is left out, and
`Analysis.unmeasured` says of what that may be true.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from remit.access.model import Decision, Effect
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.lifecycle import text_digest
from remit.access.policy.prove import SECONDS, Witness, decide, new_solver, situation_of, sound_policies, witness_of
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.situation import Situation

if TYPE_CHECKING:
    from remit.access.policy.smt_policies import Meaning, Solver
    from remit.access.policy.smt_terms import Truth

Severity = Literal["high", "medium", "low", "info"]
BUDGET_SECONDS = 120.0
"""How long a whole analysis may take; policies that are not reached are `unmeasured`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that an author would want to know, with what shows it."""

    rule: str
    severity: Severity
    policy: str
    line: int
    text: str
    by: tuple[str, ...] = ()
    """Other policies that make it so."""
    witness: Witness | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What was found in one text, and what could not be asked."""

    digest: str
    policies: int
    findings: tuple[Finding, ...]
    unmeasured: tuple[str, ...]
    solver: str
    seconds: float


def analyse(
    text: str,
    *,
    used: Mapping[str, int] | None = None,
    decisions: int = 0,
    vocabulary: Vocabulary = STANDARD,
    seconds: float = SECONDS,
    budget: float = BUDGET_SECONDS,
) -> Analysis:
    """Analyse a policy text. Raises what `prove` raises.

    `used` counts how many of the last `decisions` each policy determined; None where nobody recorded any.
    """
    begun = time.perf_counter()
    policies = sound_policies(text, vocabulary)
    study = _Study(new_solver(vocabulary, seconds), policies, vocabulary, begun + budget)
    findings = [*study.findings(), *_unused(policies, used, decisions)]
    unmeasured = [*study.unmeasured, *(() if used is not None else ("unused: no recorded decisions were asked",))]
    return Analysis(
        digest=text_digest(text),
        policies=len(policies.policies),
        findings=tuple(sorted(findings, key=lambda each: (_ORDER[each.severity], each.line, each.rule))),
        unmeasured=tuple(unmeasured),
        solver=study.solver.version,
        seconds=round(time.perf_counter() - begun, 3),
    )


def count_used(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many decisions each policy determined."""
    counts: dict[str, int] = {}
    for decision in decisions:
        for reason in decision.reasons:
            counts[reason.id] = counts.get(reason.id, 0) + 1
    return counts


_ORDER: Mapping[str, int] = {"high": 0, "medium": 1, "low": 2, "info": 3}


def _unused(policies: CompiledPolicies, used: Mapping[str, int] | None, decisions: int) -> Iterator[Finding]:
    if not used or not decisions:
        return
    for policy in policies.policies:
        if not used.get(policy.id):
            text = f"it determined none of the last {decisions} decisions"
            yield _finding("unused", "info", policy, text)


def _finding(
    rule: str,
    severity: Severity,
    policy: CompiledPolicy,
    text: str,
    by: Sequence[str] = (),
    witness: Witness | None = None,
) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        policy=policy.id,
        line=policy.source.line,
        text=text,
        by=tuple(by),
        witness=witness,
    )


class _Study:
    """One text under analysis."""

    def __init__(self, solver: Solver, policies: CompiledPolicies, vocabulary: Vocabulary, until: float) -> None:
        self.solver = solver
        self.unmeasured: list[str] = []
        self._policies = policies
        self._vocabulary = vocabulary
        self._until = until
        self._known = solver.meanings(policies.policies)
        self._forbidden = solver.forbidden(self._known)
        self._allowed = solver.allowed(policies)
        self._kept = list(self._known)
        """Those without which something would change; shadowed ones are taken out, the last of the text first."""

    def findings(self) -> Iterator[Finding]:
        for meaning in reversed(self._known):
            if time.perf_counter() > self._until:
                self.unmeasured.append(f"{meaning.policy.id}: the time for the analysis was over")
                continue
            dead = next(self._dead(meaning), None)
            if dead is not None:
                yield dead
                self._kept.remove(meaning)
            elif meaning.policy.effect is Effect.PERMIT:
                yield from self._broad(meaning)
            yield from self._erring(meaning)

    def _dead(self, meaning: Meaning) -> Iterator[Finding]:
        """Why a policy might as well not be there."""
        policy = meaning.policy
        if self._never(meaning, meaning.satisfied):
            yield _finding("contradictory", "medium", policy, "no request satisfies it: its clauses exclude each other")
            return
        if policy.effect is Effect.PERMIT and self._never(meaning, meaning.satisfied, _not(self._forbidden)):
            by = self._alone(meaning, Effect.FORBID)
            yield _finding("overridden", "medium", policy, f"forbids deny whatever it permits{_named(by)}", by)
            return
        others = [each for each in self._kept if each is not meaning and self._stands_for(each, meaning)]
        same = [_fires(each) for each in others if each.policy.effect is policy.effect]
        if same and self._never(meaning, _fires(meaning), *map(_not, same)):
            by = self._alone(meaning, policy.effect)
            yield _finding("shadowed", "low", policy, f"without it nothing would change{_named(by)}", by)

    def _alone(self, meaning: Meaning, effect: Effect) -> list[str]:
        """Policies that each make it superfluous by themselves; none where only several together do."""
        return [
            each.policy.id
            for each in self._kept
            if each is not meaning
            and each.policy.effect is effect
            and (effect is not meaning.policy.effect or self._stands_for(each, meaning))
            and self.solver.never(_fires(meaning), _not(_fires(each)))
        ][:5]

    def _stands_for(self, other: Meaning, meaning: Meaning) -> bool:
        """A permit that obliges is not replaced by one that obliges to less."""
        return set(meaning.policy.obligations) <= set(other.policy.obligations)

    def _never(self, meaning: Meaning, *questions: Truth) -> bool:
        answer = self.solver.never(*questions)
        if answer is None:
            self.unmeasured.append(f"{meaning.policy.id}: {'; '.join(meaning.untranslated) or 'the solver gave up'}")
        return answer is True

    # Over-broad permits.

    def _broad(self, meaning: Meaning) -> Iterator[Finding]:
        policy = meaning.policy
        if self.solver.never(_not(meaning.satisfied)) is True:
            yield _finding("over-broad", "high", policy, "it permits anything to anybody on everything")
            return
        for severity, text, question, holds in self._questions(meaning):
            witness = self._witness(policy, holds, meaning.satisfied, self._allowed, question)
            if witness is not None:
                yield _finding("over-broad", severity, policy, text, witness=witness)

    def _questions(self, meaning: Meaning) -> Iterator[tuple[Severity, str, Truth, Callable[[Decision], bool]]]:
        from remit.access.policy.smt_terms import all_of, negated, same_text

        requests = self.solver.requests
        context, resource = requests.variable("context").value, requests.field_of("resource", "sensitivity")
        restricted = same_text(resource.term.value, requests.text("restricted"))
        yield (
            "high",
            "it lets a restricted resource be reached without a grant",
            all_of(restricted, negated(context.field("grant").present)),
            lambda found: (
                _fact(found, "resource", "attributes", "sensitivity") == "restricted" and "grant" not in _context(found)
            ),
        )
        if "claimed" in policy_words(meaning.policy):
            yield (
                "medium",
                "it believes what a caller that proved nothing says of itself",
                negated(context.field("attested").term.value),
                lambda found: not _context(found)["attested"],
            )
        named = set(requests.actions)
        yield (
            "low",
            "it permits actions that nobody has named",
            requests.variable("action").value == len(named),
            lambda found: found.request.action not in named,
        )

    # Policies that err.

    def _erring(self, meaning: Meaning) -> Iterator[Finding]:
        policy = meaning.policy

        def errs(decision: Decision) -> bool:
            return any(error.startswith(f"{policy.id}: ") for error in decision.errors)

        witness = self._witness(None, errs, meaning.erred)
        if witness is not None:
            then = "skipped" if policy.effect is Effect.PERMIT else "a denial of everything in its scope"
            severity: Severity = "low" if policy.effect is Effect.PERMIT else "medium"
            yield _finding(
                "may-err", severity, policy, f"it can fail to be evaluated, and is then {then}", witness=witness
            )

    def _witness(
        self, by: CompiledPolicy | None, holds: Callable[[Decision], bool], *questions: Truth
    ) -> Witness | None:
        """A request for which the engine itself says so; allowed by `by`, where a policy is given."""

        def accept(model: Any) -> Witness | None:
            situation: Situation | None = situation_of(self.solver, model)
            if situation is None:
                return None
            decision = decide(situation, self._policies, self._vocabulary)
            if by is not None and not (decision.allowed and by.id in {reason.id for reason in decision.reasons}):
                return None
            return witness_of(situation, decision) if decision.facts and holds(decision) else None

        return self.solver.find(*questions, accept=accept).taken


def policy_words(policy: CompiledPolicy) -> str:
    """The policy's conditions as JSON text, in which a name can be looked for."""
    return msgspec.json.encode(policy.source.est["conditions"]).decode()


def _fires(meaning: Meaning) -> Truth:
    """What a policy does: a permit permits when satisfied, a forbid denies when satisfied or in error."""
    from remit.access.policy.smt_terms import any_of

    permit = meaning.policy.effect is Effect.PERMIT
    return meaning.satisfied if permit else any_of(meaning.satisfied, meaning.erred)


def _not(term: Truth) -> Truth:
    from remit.access.policy.smt_terms import negated

    return negated(term)


def _named(by: Sequence[str]) -> str:
    return f": {', '.join(f'`{each}`' for each in by)}" if by else ""


def _fact(decision: Decision, *path: str) -> Any:
    value: Any = decision.facts
    for name in path:
        value = value[name]
    return value


def _context(decision: Decision) -> Mapping[str, Any]:
    context: Mapping[str, Any] = decision.facts["context"]  # type: ignore[assignment]
    return context
