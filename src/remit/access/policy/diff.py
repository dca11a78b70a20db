"""`diff`: what another policy text changes, as text and as requests.

*Equivalent* is a proof that no request is permitted by one and not by the other, and that both oblige to the same. A
difference is a request that the engine itself answers otherwise under the two; where neither comes out, the answer is
*undecided*.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from remit.access.model import Decision
from remit.access.policy.compile import CompiledPolicies, CompiledPolicy
from remit.access.policy.lifecycle import text_digest
from remit.access.policy.obligations import BUILT_IN
from remit.access.policy.prove import SECONDS, Witness, has_solver, new_solver, situation_of, sound_policies, witness_of
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.situation import Situation
from remit.access.policy.source import PolicySource

if TYPE_CHECKING:
    from remit.access.policy.smt_policies import Found, Solver

Semantic = Literal["equivalent", "different", "undecided", "unmeasured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChange:
    """One policy that is not the same in both texts, by its id; `lines` as `diff -u` writes them."""

    policy: str
    change: Literal["added", "removed", "changed"]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is different between a policy text and another."""

    before: str
    """Digest of the one."""
    after: str
    """Digest of the other."""
    texts: tuple[TextChange, ...]
    semantic: Semantic
    gained: Witness | None = None
    """A request that only the other permits."""
    lost: Witness | None = None
    """A request that only the one permits."""
    obliged: Witness | None = None
    """A request that both permit, with other obligations: as the other answers it."""
    solver: str = ""
    seconds: float = 0.0
    why: tuple[str, ...] = ()
    """Why it is undecided."""


def compare_texts(before: Sequence[PolicySource], after: Sequence[PolicySource]) -> tuple[TextChange, ...]:
    """Policies that were added, removed or rewritten, in the order of the two texts."""
    old, new = {each.id: each for each in before}, {each.id: each for each in after}
    changes = [_change(each, old.get(each), new.get(each)) for each in {**old, **new}]
    return tuple(change for change in changes if change is not None)


def _change(policy: str, old: PolicySource | None, new: PolicySource | None) -> TextChange | None:
    if old is not None and new is not None and old.text == new.text:
        return None
    lines = difflib.unified_diff(
        old.text.splitlines() if old else [], new.text.splitlines() if new else [], policy, policy, lineterm=""
    )
    kind: Literal["added", "removed", "changed"] = "added" if old is None else "removed" if new is None else "changed"
    return TextChange(policy=policy, change=kind, lines=tuple(lines))


def compare(before: str, after: str, *, vocabulary: Vocabulary = STANDARD, seconds: float = SECONDS) -> Comparison:
    """Compare two policy texts. Raises what `prove` raises; without the solver what they allow is `unmeasured`."""
    begun = time.perf_counter()
    one, other = sound_policies(before, vocabulary), sound_policies(after, vocabulary)
    texts = compare_texts([each.source for each in one.policies], [each.source for each in other.policies])
    plain = Comparison(
        before=text_digest(before),
        after=text_digest(after),
        texts=texts,
        semantic="unmeasured",
        why=("the solver is not installed",),
    )
    if not has_solver():
        return plain
    pair = _Pair(new_solver(vocabulary, seconds), one, other, vocabulary)
    found = {"lost": pair.only(one, other), "gained": pair.only(other, one), "obliged": pair.obliged()}
    answers = {each.answer for each in found.values()}
    semantic: Semantic = "different" if "found" in answers else "equivalent" if answers == {"none"} else "undecided"
    unsure = [each.why for each in found.values() if each.answer == "unknown"]
    return replace(
        plain,
        semantic=semantic,
        gained=found["gained"].taken,
        lost=found["lost"].taken,
        obliged=found["obliged"].taken,
        solver=pair.solver.version,
        seconds=round(time.perf_counter() - begun, 3),
        why=(*unsure, *pair.solver.untranslated((*one.policies, *other.policies))) if semantic == "undecided" else (),
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two sets of policies over one set of symbols. Every obligation counts as taken over, and is compared."""

    solver: Solver
    one: CompiledPolicies
    other: CompiledPolicies
    vocabulary: Vocabulary

    def only(self, these: CompiledPolicies, those: CompiledPolicies) -> Found[Witness]:
        """A request that `these` permit and `those` do not."""
        from remit.access.policy.smt_terms import negated

        def witness(model: Any) -> Witness | None:
            situation = situation_of(self.solver, model)
            if situation is None:
                return None
            decision = self._decide(situation, these)
            refused = not self._decide(situation, those).allowed
            return witness_of(situation, decision) if decision.allowed and refused else None

        return self.solver.find(self.solver.permitted(these), negated(self.solver.permitted(those)), accept=witness)

    def obliged(self) -> Found[Witness]:
        """A request that both permit, and of which they ask different things that its facts do not meet."""
        from remit.access.policy.smt_terms import all_of, any_of, negated

        def witness(model: Any) -> Witness | None:
            situation = situation_of(self.solver, model)
            if situation is None:
                return None
            before, after = self._decide(situation, self.one), self._decide(situation, self.other)
            differs = before.allowed and after.allowed and set(before.obligations) != set(after.obligations)
            return witness_of(situation, after) if differs else None

        asked = []
        for obligation in {each for policy in self._policies() for each in policy.obligations}:
            one, other = self.solver.obliges(self.one, obligation), self.solver.obliges(self.other, obligation)
            apart = any_of(all_of(one, negated(other)), all_of(other, negated(one)))
            open_yet = negated(self.solver.met(obligation)) if obligation.kind in BUILT_IN else True
            asked.append(all_of(apart, open_yet))
        both = all_of(self.solver.permitted(self.one), self.solver.permitted(self.other))
        return self.solver.find(both, any_of(*asked), accept=witness)

    def _policies(self) -> tuple[CompiledPolicy, ...]:
        return (*self.one.policies, *self.other.policies)

    def _decide(self, situation: Situation, policies: CompiledPolicies) -> Decision:
        kinds = frozenset(each.kind for policy in self._policies() for each in policy.obligations)
        return situation.decide(policies, vocabulary=self.vocabulary, fulfils=kinds)


def summary(found: Comparison) -> Mapping[str, int]:
    """How many policies were added, removed and changed."""
    return {kind: sum(each.change == kind for each in found.texts) for kind in ("added", "removed", "changed")}
