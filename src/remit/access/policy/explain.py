"""What would have allowed it, in a few sentences: what is kept with a decision. `why` tells the whole of it."""

from __future__ import annotations

from collections.abc import Mapping

from remit.access.model import Effect
from remit.access.policy.clauses import Sight, clause_text, failed_clauses, holds
from remit.access.policy.compile import CompiledPolicies
from remit.access.policy.entities import EntitySource, EntityView
from remit.access.policy.values import Value

__all__ = ["clause_text", "needed_by_policies"]

MAX_SENTENCES = 20
_MAX_POLICIES = 200


def needed_by_policies(
    policies: CompiledPolicies,
    principal: EntityView,
    action: EntityView,
    resource: EntityView,
    context: Mapping[str, Value],
    entities: EntitySource,
) -> tuple[str, ...]:
    """A sentence for each forbid that held and each permit of matching scope that did not, at most `MAX_SENTENCES`.

    Forbids come first, then permits, the one that lacks least before the others. Costs a compilation of each clause
    in question, of at most `_MAX_POLICIES` policies: for people, not for the hot path.
    """
    sight = Sight(principal, action, resource, context, entities)
    sentences: list[tuple[int, str]] = []
    for policy in policies.applicable(principal, action, resource)[:_MAX_POLICIES]:
        satisfied = holds(policy, sight)
        if policy.effect is Effect.FORBID and satisfied is not False:
            sentences.append((0, f"`{policy.id}` forbids it: {policy.source.reason}"))
        elif policy.effect is Effect.PERMIT and satisfied is not True:
            missing = [clause.sentence() for clause in failed_clauses(policy, sight)] or ["its scope does not match"]
            sentences.append((len(missing), f"`{policy.id}` would permit it, but {'; '.join(missing)}"))
    if not sentences:
        return ("a policy that permits this action to this principal on this resource: there is none",)
    sentences.sort(key=lambda counted: counted[0])
    return tuple(sentence for _, sentence in sentences[:MAX_SENTENCES])
