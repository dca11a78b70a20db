"""Which identities are an enforcement point's own: said by a person, signed, in the ledger.

A binding says: what these identities do on those resources, the enforcement point does, and it asks for a decision
first. That is all it says: every other way to the resource counts as it did before, and so does whoever can become one
of these identities or read its credential. So a binding closes nothing that stands beside the enforcement point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from remit.governance.lifecycle import require_reason
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.unit import Attester, Unit

SIGNED_AS: Final = "governance.proof.binding"
BOUND, UNBOUND = "governance.proof.bound", "governance.proof.unbound"
MOST: Final = 50
_MOST_BINDINGS: Final = 1000
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An enforcement point, its own identities, and the resources that it fronts. Counts only while it verifies."""

    id: str
    enforcer: str
    """The registered point, by its id (`ef_…`)."""
    identities: tuple[str, ...]
    """Ids of identities."""
    resources: tuple[str, ...]
    """Names of resources, or prefixes of names that end in `*`."""
    reason: str
    created: datetime
    created_by: str
    signature: str = ""

    def content(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "enforcer": self.enforcer,
            "identities": list(self.identities),
            "resources": list(self.resources),
            "reason": self.reason,
            "created": rfc3339(self.created),
            "created_by": self.created_by,
        }


class BindingRows(Protocol):
    """Rows of bindings."""

    def all(self) -> Sequence[Binding]: ...
    def put(self, binding: Binding) -> None: ...
    def remove(self, binding: str) -> bool: ...


class BindingUnit(Unit, Protocol):
    """A unit of work over bindings."""

    @property
    def path_proofs(self) -> BindingRows: ...


def bind(
    unit: BindingUnit,
    *,
    enforcer: str,
    identities: Iterable[str],
    resources: Iterable[str],
    reason: str,
    actor: str,
    attester: Attester,
) -> Binding:
    """Keep a binding, signed and in the ledger. `Rejected` (`governance.proof.binding`), `Conflict` (`…-many`)."""
    who, what = tuple(sorted(set(identities))), tuple(sorted(set(resources)))
    if not 1 <= len(who) <= MOST or not 1 <= len(what) <= MOST:
        raise _malformed(f"it names 1 to {MOST} identities, and as many resources")
    if not all(_is_pattern(each) for each in what):
        raise _malformed("a resource is a name, or the beginning of names followed by `*`")
    if len(unit.path_proofs.all()) >= _MOST_BINDINGS:
        raise Conflict("governance.proof.bindings-many", f"there are {_MOST_BINDINGS} bindings already")
    made = Binding(
        id=unit.new_id("pb"), enforcer=enforcer, identities=who, resources=what, reason=require_reason(reason),
        created=unit.now, created_by=actor,
    )  # fmt: skip
    made = replace(made, signature=attester.sign(SIGNED_AS, made.content()))
    unit.path_proofs.put(made)
    unit.record(BOUND, actor=actor, subject=made.id, data=made.content())
    return made


def unbind(unit: BindingUnit, binding: str, *, actor: str) -> Binding:
    """Forget a binding. `NotFound` (`governance.proof.binding-unknown`)."""
    found = next((each for each in unit.path_proofs.all() if each.id == binding), None)
    if found is None:
        raise NotFound(
            "governance.proof.binding-unknown", f"no binding `{binding[:64]}`", next_step="`remit prove bindings`"
        )
    unit.path_proofs.remove(binding)
    unit.record(UNBOUND, actor=actor, subject=binding, data=found.content())
    return found


def is_genuine(binding: Binding, attester: Attester) -> bool:
    """Whether it was made here, as it stands, and not removed since."""
    return attester.verify(SIGNED_AS, binding.content(), binding.signature)


def _is_pattern(text: str) -> bool:
    plain = text.removesuffix("*")
    return 0 < len(plain) <= _LONGEST and plain.isprintable() and "*" not in plain


def _malformed(why: str) -> Rejected:
    return Rejected(
        "governance.proof.binding", f"this cannot be bound: {why}", next_step="`remit prove bind --help` has an example"
    )
