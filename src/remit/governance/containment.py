"""Release from containment: the one place where a person's word becomes a change of state for defense."""

from __future__ import annotations

from remit.defense.model import VerifiedPerson
from remit.governance.lifecycle import release
from remit.governance.ports import GovernanceUnit, IdentityRecord
from remit.governance.signatures import Approver
from remit.kernel.errors import Denied


def restore(unit: GovernanceUnit, identity: str, *, by: VerifiedPerson, reason: str) -> IdentityRecord:
    """Put a contained identity back into service; `Denied` for whoever is no `Approver` made by `verify_signed`."""
    if not isinstance(by, Approver):
        raise Denied(
            "governance.lifecycle.release_needs_person",
            "only a registered person's own signature releases an identity",
            next_step="run `remit release`, signed with the person's own key",
        )
    return release(unit, identity, by=by, reason=reason)
