"""Cedar: one `forbid` for one identity, which leaves it what its recorded decisions allowed and nothing else.

A `forbid` only takes away, from this identity alone: whatever permits it, and whoever else is permitted by the same,
stays as it is. It is replayed by the policy engine itself, over the facts of each recorded decision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from remit.access.model import Decision, Effect
from remit.access.policy.compile import compile_policies
from remit.access.policy.entities import EntitySource
from remit.access.policy.replay import Outcome
from remit.access.policy.replay import replay as ask_again
from remit.access.policy.source import read_policies
from remit.governance.rightsizing.model import Draft, Refusal, Replay, Right, Text, admitted
from remit.governance.standing.artifacts import cedar_text
from remit.inventory.use.model import Deed
from remit.kernel.ids import Name

_LONGEST: Final = 200


def acts_in(decisions: Iterable[Decision], name: Name) -> list[Deed]:
    """What recorded decisions allowed and refused, one row for each action on a resource."""
    found: dict[tuple[str, str], list[Decision]] = defaultdict(list)
    for decision in decisions:
        found[decision.request.action[:_LONGEST], _resource(decision)].append(decision)
    return [
        Deed(
            name=name, action=action, resource=resource, count=sum(each.allowed for each in of),
            refused=sum(not each.allowed for each in of), first=min(each.time for each in of),
            last=max(each.time for each in of),
            days=tuple(sorted({each.time.date().isoformat() for each in of if each.allowed})),
        )
        for (action, resource), of in sorted(found.items())
    ]  # fmt: skip


def _resource(decision: Decision) -> str:
    """The id by which policies saw it, not what the caller called it."""
    seen = decision.facts.get("resource")
    return str(seen["id"]) if isinstance(seen, dict) and "id" in seen else decision.request.resource.id


class Decided:
    """What policies in force allow one identity, as far as its decisions show; `Holding` and `Judge`."""

    language = "cedar"

    def __init__(self, identity: str, policies: str, pairs: frozenset[tuple[str, str]] | None = None) -> None:
        self.identity, self.policies = identity, policies
        self._pairs = pairs
        """What is left to it; `None`: whatever the policies allow."""

    @property
    def rule(self) -> str:
        """The id of the policy that narrows it."""
        return f"right-sized-{self.identity}"

    @property
    def in_force(self) -> bool:
        """Whether the policies have it already: a `forbid` of that id, for this identity. A comment is no policy."""
        if self.rule not in self.policies:
            return False
        return any(
            each.id == self.rule and each.effect is Effect.FORBID and each.est["principal"] == self._principal
            for each in read_policies(self.policies)
        )

    @property
    def _principal(self) -> dict[str, object]:
        """The rule's scope in Cedar's JSON form."""
        return {"op": "==", "entity": {"type": "Remit::Identity", "id": self.identity}}

    @property
    def pairs(self) -> frozenset[tuple[str, str]] | None:
        """Action and resource of what is left to it; `None`: whatever the policies allow."""
        return self._pairs

    def allows(self, deed: Deed) -> bool:
        return self._pairs is None or (deed.action, deed.resource) in self._pairs

    def draft(self, deeds: Sequence[Deed]) -> tuple[Draft, Decided]:
        """The policies with the `forbid` at their end; unchanged where it stands there already."""
        pairs = frozenset((deed.action, deed.resource) for deed in admitted(deeds))
        narrowing = self._text(pairs)
        same = not pairs or narrowing in self.policies
        named = self.in_force
        after = self.policies if same or named else self.policies.rstrip() + "\n\n" + narrowing
        changed = after != self.policies
        notes = (
            ["the rule of before names fewer acts: take it out by hand, then propose anew"]
            if named and not same
            else []
        )
        draft = Draft(
            texts=(Text(name="policies.cedar", before=self.policies, after=after),),
            removed=(Right(action="every other action", resource="every other resource"),) if changed else (),
            commands=("remit policy apply policies.cedar",) if changed else (),
            inverse=("remit policy rollback",) if changed else (),
            notes=(*notes, "what policies allow beyond what was asked is not counted: see `remit policy analyse`"),
            granted=len(pairs), used=len(pairs),
        )  # fmt: skip
        return draft, Decided(self.identity, after, pairs if changed else self._pairs)

    def _text(self, pairs: Iterable[tuple[str, str]]) -> str:
        by_action: dict[str, list[str]] = defaultdict(list)
        for action, resource in sorted(pairs):
            by_action[action].append(f"Remit::Resource::{cedar_text(resource)}")
        parts = [
            f"(action == Remit::Action::{cedar_text(action)} && resource in [{', '.join(resources)}])"
            for action, resources in by_action.items()
        ]
        joined = " ||\n  ".join(parts)
        return (
            f'@id("{self.rule}")\n@reason("it never did anything else: right-sized to what was observed")\n'
            f"forbid (principal == Remit::Identity::{cedar_text(self.identity)}, action, resource)\n"
            f"unless\n{{\n  {joined}\n}};\n"
        )


def replayed(decisions: Sequence[Decision], text: str, entities: EntitySource) -> Replay:
    """The recorded decisions that were allowed, asked again under these policies."""
    allowed = [decision for decision in decisions if decision.allowed]
    found = ask_again(allowed, compile_policies(text), entities=entities)
    refused = [
        Refusal(action=each.action, resource=each.resource, count=1)
        for each in found.changes
        if each.after is Outcome.DENY
    ]
    return Replay(observed=found.asked, refused=tuple(refused), outside=0, unclear=found.unaffected, beyond=0)
