"""Federation in one installation: the partner bounds in the decision point, and the partners' ids in the inventory."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.governance import ownership
from remit.governance.signatures import Approver
from remit.inventory.model import IdentityKind, State
from remit.inventory.records import IdentityRecord
from remit.kernel.errors import Denied
from remit.kernel.unit import Attester
from remit.providers.bundles import BundleClient
from remit.trust.federation.bounds import bounds_text
from remit.trust.federation.service import Federation
from remit.trust.federation.terms import genuine_relations
from remit.trust.spiffe import SpiffeId

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

BOUNDS_MOVED = frozenset({"trust.federation.added", "trust.federation.removed", "trust.federation.ended"})
"""After these events the decision point holds partners to other bounds."""


def make_federation(control: ControlPlane) -> Federation:
    """The federation over the control plane's store, keys and trust service; not open yet."""
    ca = control.settings.federation.ca
    return Federation(
        control.store,
        attester=control.witness,
        clock=control.clock,
        trust=control.trust,
        fetcher=BundleClient(ca_file=Path(ca) if ca else None),
        chance=lambda: secrets.randbelow(1 << 30) / (1 << 30),
    )


def read_bounds(unit: Any, attester: Attester) -> CompiledPolicies:
    """The bounds of the relations that count, compiled: everybody else of another trust domain is refused."""
    return compile_policies(bounds_text(genuine_relations(unit, attester)))


def partner_of(names: Iterable[str], home: str) -> tuple[str, str] | None:
    """The foreign trust domain and SPIFFE ID among an identity's names; `None` where there is none.

    With several it is nobody's in particular: the names together are no trust domain, so that no relation fits.
    """
    foreign = sorted({name for name in names if name[:9].lower() == "spiffe://" and _domain(name) != home})
    if not foreign:
        return None
    if len(foreign) == 1:
        return _domain(foreign[0]), foreign[0]
    return " ".join(sorted({_domain(name) for name in foreign})) + " (several ids)", " ".join(foreign)


def _domain(name: str) -> str:
    return name[9:].partition("/")[0]


async def admit(control: ControlPlane, ids: Sequence[SpiffeId], *, owner: Approver) -> dict[str, str]:
    """Put ids of partners into the inventory as vendors' identities, owned by who admits them; returns their ids.

    An id of a partner that nobody admitted is unknown to the decision point, which refuses it. One that is known
    already is left as it is. Raises `Denied` (`trust.federation.denied`) for an id outside the bounds.
    """
    now = control.clock.now()
    for each in ids:
        control.federation.require(each, now)
        if each.trust_domain == control.trust.trust_domain:
            raise Denied(
                "trust.federation.denied",
                f"`{each}` is of our own trust domain",
                next_step="register it by `remit entry create`",
            )

    def work(unit: Any) -> dict[str, str]:
        known = dict(unit.inventory.resolve([str(each) for each in ids]))
        return {str(each): str(known.get(str(each)) or _register(unit, each, owner)) for each in ids}

    found = await control.store.write(work)
    await control.synchronise()
    return found


def _register(unit: Any, spiffe_id: SpiffeId, owner: Approver) -> str:
    identity, name = str(unit.new_id("id")), str(spiffe_id)
    record = IdentityRecord(
        id=identity,
        name=name,
        kind=IdentityKind.VENDOR,
        title=name[:400],
        system="spiffe",
        instance=spiffe_id.trust_domain.name[:80],
        state=State.ACTIVE,
        first_seen=unit.now,
        last_seen=unit.now,
        purpose=f"a workload of the partner {spiffe_id.trust_domain}",
    )
    unit.inventory.put_identities([record])
    unit.inventory.put_aliases({name: identity}, "federation", unit.now)
    unit.record(
        "inventory.identities.found",
        actor=f"person:{owner.name}",
        subject=identity,
        data={"identities": {identity: name}},
    )
    ownership.claim(unit, identity, owner.name)
    return identity
