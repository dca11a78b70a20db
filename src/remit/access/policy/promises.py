"""What a policy version promises — its test cases and invariants — and whether a candidate keeps what is promised.

A candidate is weighed before it is put in force: its own cases pass, its own invariants are proved, and so is every
invariant that the version in force was shown to have: its own, and those of the starter library that say something of
it. What was proved and no longer is, a person may accept by name, and the ledger says so.

Without the solver nothing is proved, and `Weighed.unmeasured` says that: it is no pass.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec

from remit.access.policy.cases import read_cases, run_cases
from remit.access.policy.compile import compile_policies
from remit.access.policy.invariants import Invariant, read_invariants
from remit.access.policy.lifecycle import Broken, Weighed, promises_digest, require_sound, text_digest
from remit.access.policy.prove import Proof, has_solver, prove
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.access.policy.starter import starter_invariants

BUDGET_SECONDS = 60.0
"""How long weighing may take; what is not reached is undecided."""
SECONDS = 10.0
MAX_POLICIES = 2000
"""More are put in force unproved, which is told: `remit policy prove` has more time."""
_MAX_FAILED = 20


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A text that would be put in force, with what comes along, and the version that it would replace."""

    text: str
    cases: str = ""
    """YAML, as `cases` reads it."""
    invariants: str = ""
    """As `invariants` reads them."""
    before: str | None = None
    """The text in force; None where there is none."""
    promised: str = ""
    """The invariants that came with it."""


def weigh(candidate: Candidate, *, vocabulary: Vocabulary = STANDARD, budget: float = BUDGET_SECONDS) -> Weighed:
    """Weigh a candidate. Raises `Rejected` for cases or invariants that cannot be read."""
    begun = time.perf_counter()
    require_sound(candidate.text, vocabulary)
    policies = compile_policies(candidate.text)
    cases = run_cases(read_cases(candidate.cases), policies, vocabulary)
    failed = [f"{each.name}: {each.why}" for each in cases if not each.passed]
    own = read_invariants(candidate.invariants, vocabulary)
    plain = Weighed(
        digest=text_digest(candidate.text),
        before=text_digest(candidate.before) if candidate.before is not None else "",
        cases=len(cases),
        failed=tuple(failed[:_MAX_FAILED]),
        promises=promises_digest(candidate.cases, candidate.invariants),
    )
    if not has_solver():
        return msgspec.structs.replace(plain, unmeasured="the solver is not installed: nothing was proved")
    if len(policies.policies) > MAX_POLICIES:
        return msgspec.structs.replace(plain, unmeasured=f"more than {MAX_POLICIES} policies: nothing was proved")

    def left() -> float:
        return max(1.0, budget - (time.perf_counter() - begun))

    kept = _inherited(candidate, own, vocabulary)
    proofs = prove(candidate.text, (*own, *kept), vocabulary=vocabulary, seconds=SECONDS, budget=left())
    lacking = [(each, proof) for each, proof in zip((*own, *kept), proofs, strict=True) if proof.outcome != "proved"]
    had = _had(candidate, [each for each, _ in lacking], vocabulary, left())
    return msgspec.structs.replace(
        plain,
        proved=tuple(proof.invariant for proof in proofs if proof.outcome == "proved"),
        broken=tuple(_broken(proof, each in had) for each, proof in lacking if each in own or each in had),
        solver=proofs[0].solver if proofs else "",
    )


def _inherited(candidate: Candidate, own: Collection[Invariant], vocabulary: Vocabulary) -> list[Invariant]:
    """Invariants of the version in force and of the starter library, but for those that the candidate states itself."""
    stated = {(each.id, each.text) for each in own}
    known = {
        each.id: each
        for text in (starter_invariants(), candidate.promised)
        for each in read_invariants(text, vocabulary)
    }
    return [each for each in known.values() if (each.id, each.text) not in stated]


def _had(candidate: Candidate, asked: list[Invariant], vocabulary: Vocabulary, budget: float) -> list[Invariant]:
    """Which of `asked` the version in force has: as a promise of its own, or with something that they say of it."""
    if not asked or not candidate.before:
        return []
    before = len(compile_policies(candidate.before).policies)
    if not before or before > MAX_POLICIES:  # of so many nothing was ever proved
        return []
    promised = {each.id for each in read_invariants(candidate.promised, vocabulary)}
    proofs = prove(candidate.before, asked, vocabulary=vocabulary, seconds=SECONDS, budget=budget)
    return [
        each
        for each, proof in zip(asked, proofs, strict=True)
        if proof.outcome == "proved" and (each.id in promised or not proof.vacuous)
    ]


def _broken(proof: Proof, had: bool) -> Broken:
    return Broken(
        invariant=proof.invariant,
        text=proof.text,
        outcome=proof.outcome,
        kept_before=had,
        witness=msgspec.to_builtins(proof.witness) if proof.witness is not None else {},
        why=proof.why,
    )
