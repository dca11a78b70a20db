"""Offboarding: everything that an identity could act with is ended and tried; retired is only who is proved refused.

1. deny: the identity is quarantined, so that nothing new is issued meanwhile
2. leases, SVIDs and tokens, rotated logins, static credentials: each revoked, each tried where it can be
3. what no probe can try is *unproved*, and is told by name
4. retired when everything is proved, or on a registered person's word for what is not
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import Entity, LeaseState, Proved, Request
from remit.access.rotation.ports import Withdrawn
from remit.governance import lifecycle
from remit.governance.signatures import Approver
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, RemitError

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_LEASES_WITHIN: Final = timedelta(seconds=30)
_MOST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that an identity could act with. `state`: `would end`, `proved`, `unproved`, `not contained`."""

    kind: str
    id: str
    what: str
    state: str
    proof: str = ""

    def as_json(self) -> dict[str, Json]:
        return {"kind": self.kind, "id": self.id, "what": self.what, "state": self.state, "proof": self.proof}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offboarded:
    """What was found, what was done, and whether the identity is retired."""

    identity: str
    items: tuple[Item, ...]
    dependents: tuple[Mapping[str, Json], ...]
    unmeasured: tuple[str, ...]
    retired: bool
    blind_spots: tuple[str, ...] = ()
    said: str = ""

    @property
    def open(self) -> list[Item]:
        """What is not proved."""
        return [item for item in self.items if item.state != "proved"]


class Offboarding:
    """The verb, over everything that the control plane can end."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def preview(self, given: str) -> Offboarded:
        """What would be ended, and who would notice; nothing is changed."""
        control = self._control
        identity = await control.resolve(given)
        held = await control.store.read(
            lambda unit: unit.access.leases(LeaseFilter(identity=identity, states=LIVE), _MOST)
        )
        items = [
            Item(kind="lease", id=each.id, what=f"{each.lease.principal} on {each.lease.target}", state="would end")
            for each in held
        ]
        trust = await control.revocations.preview(f"identity:{identity}", actor="system:offboarding")
        assert trust.effect is not None
        for kind, number in trust.effect.counts.items():
            items.append(Item(kind=kind, id=identity, what=f"{number} that have not expired", state="would end"))
        for plan in await self._plans(identity):
            what = f"login {plan.principal} on {plan.target}, and its plan of rotation"
            items.append(Item(kind="rotation", id=plan.name, what=what, state="would end"))
        for each in await control.static.preview(identity, identity):
            items.append(Item(kind="static", id=each["id"], what=each["what"], state="would end"))
        items += [replace(item, state="would end") for item in await self._others(identity)]
        found = await control.dependents(identity)
        return Offboarded(
            identity=identity, items=tuple(items), dependents=tuple(found["dependents"]),
            unmeasured=tuple(found["unmeasured"]), retired=False, blind_spots=tuple(found["blind_spots"]),
            said=found["said"],
        )  # fmt: skip

    async def offboard(self, given: str, *, by: Approver, reason: str, accept: bool = False) -> Offboarded:
        """Deny, revoke, try, and retire when all is proved; `accept` retires though some things are not.

        May be called again: what was ended stays ended, and is tried again. Raises `Conflict`
        (`governance.offboarding.retired`), `NotFound`, `Rejected` for no reason.
        """
        control, actor = self._control, f"person:{by.name}"
        identity, reason = await control.resolve(given), lifecycle.require_reason(reason)

        def begin(unit: Any) -> None:
            record = lifecycle.require_identity(unit, identity)
            if record.state is State.RETIRED:
                raise Conflict("governance.offboarding.retired", f"`{identity}` is retired already")
            data: dict[str, Json] = {"reason": reason, "approval": by.evidence()}
            unit.record("governance.offboarding.begun", actor=actor, subject=identity, data=data)
            if State.QUARANTINED in lifecycle.TRANSITIONS[record.state]:
                lifecycle.transition(unit, identity, State.QUARANTINED, by=actor, reason=reason)

        await control.store.write(begin)
        await control.changed(identity)
        items = [await self._denied(identity)]
        items += await self._leases(identity, actor, reason)
        items.append(await self._trust(identity, actor, reason))
        items += await self._rotated(identity, actor)
        items += await self._static(identity, actor, reason)
        items += await self._others(identity)
        found = await control.dependents(identity)
        done = Offboarded(
            identity=identity, items=tuple(items), dependents=tuple(found["dependents"]),
            unmeasured=tuple(found["unmeasured"]), retired=False, blind_spots=tuple(found["blind_spots"]),
            said=found["said"],
        )  # fmt: skip
        retired = await control.store.write(lambda unit: self._conclude(unit, done, by, reason, accept))
        await control.changed(identity)
        return replace(done, retired=retired)

    def _conclude(self, unit: Any, done: Offboarded, by: Approver, reason: str, accept: bool) -> bool:
        uncontained = any(item.state == "not contained" for item in done.items)
        retires = not done.open or (accept and not uncontained)
        data: dict[str, Json] = {
            "items": [item.as_json() for item in done.items],
            "retired": retires,
            "accepted": [item.id for item in done.open] if retires else [],
            "approval": by.evidence(),
        }
        actor = f"person:{by.name}"
        unit.record("governance.offboarding.concluded", actor=actor, subject=done.identity, data=data)
        if retires:
            lifecycle.transition(unit, done.identity, State.RETIRED, by=actor, reason=reason)
        return retires

    async def _denied(self, identity: str) -> Item:
        """The decision point's own word, as for any request of the identity."""
        probe = Request(
            subject=Entity(type="identity", id=identity), action="probe", resource=Entity(type="probe", id="probe")
        )
        decision = self._control.pdp.decide(probe)
        refused = sorted({reason.id for reason in decision.reasons} & {"remit:quarantined", "remit:state"})
        state = "proved" if refused and not decision.allowed else "not contained"
        return Item(kind="decision", id=identity, what="every request", state=state, proof=", ".join(refused))

    async def _leases(self, identity: str, actor: str, reason: str) -> list[Item]:
        ended = await self._control.engine.revoke(
            LeaseFilter(identity=identity, states=LIVE), actor=actor, reason=reason, wait=_LEASES_WITHIN
        )
        states = {LeaseState.REVOKED: "proved", LeaseState.FAILED: "proved", LeaseState.UNPROVED: "unproved"}
        return [
            Item(
                kind="lease", id=each.id, what=f"{each.principal} on {each.target}",
                state=states.get(each.state, "not contained"), proof=_words(each.proof.get("proof")),
            )
            for each in ended
        ]  # fmt: skip

    async def _trust(self, identity: str, actor: str, reason: str) -> Item:
        """SVIDs and tokens: revoked in every list of ours; who holds no list of ours asks the decision point."""
        done = await self._control.revocations.revoke(f"identity:{identity}", reason=reason, actor=actor)
        reached = done.reached
        complete = reached is not None and reached.complete
        return Item(
            kind="svids-and-tokens", id=identity, what="X.509-SVIDs, JWT-SVIDs and tokens that have not expired",
            state="proved" if complete else "unproved",
            proof="revoked, and everyone who is connected has it" if complete else "not everyone has the list yet",
        )  # fmt: skip

    async def _rotated(self, identity: str, actor: str) -> list[Item]:
        items = []
        for plan in await self._plans(identity):
            what = f"login {plan.principal} on {plan.target}"
            try:
                done = await self._control.rotations.retire(plan.name, actor=actor)
            except RemitError as error:
                items.append(Item(kind="rotation", id=plan.name, what=what, state="not contained", proof=error.message))
                continue
            items.append(Item(kind="rotation", id=plan.name, what=what, state=_state(done), proof=_said(done)))
        return items

    async def _static(self, identity: str, actor: str, reason: str) -> list[Item]:
        try:
            ended = await self._control.static.revoke(identity, identity, actor=actor, reason=reason)
        except RemitError as error:
            return [
                Item(kind="static", id=identity, what="its login", state="not contained", proof=error.message)
            ]  # fmt: skip
        states = {"revoked": "proved", "unproved": "unproved"}
        return [
            Item(
                kind="static", id=each["id"], what=f"{each['what']} on {each['target']}",
                state=states.get(each["state"], "not contained"), proof=each["proof"],
            )
            for each in ended
        ]  # fmt: skip

    async def _others(self, identity: str) -> list[Item]:
        """Credentials that sources showed and that nothing here could end and try."""

        def look(unit: Any) -> Sequence[Any]:
            return [
                each
                for each in unit.inventory.credentials_of([identity])
                if each.state != "revoked" and each.present and not (each.expires and each.expires <= unit.now)
            ]

        return [
            Item(
                kind=each.kind, id=each.fingerprint, what=each.title, state="unproved",
                proof="no target of Remit knows it" + (f"; last seen {rfc3339(each.last_seen)}"),
            )
            for each in await self._control.store.read(look)
        ]  # fmt: skip

    async def _plans(self, identity: str) -> list[Any]:
        return [plan for plan in await self._control.rotations.plans.list() if plan.identity == identity]


def _state(done: Withdrawn) -> str:
    if not done.gone:
        return "not contained"
    return "proved" if isinstance(done.proof, Proved) else "unproved"


def _said(done: Withdrawn) -> str:
    if isinstance(done.proof, Proved):
        return f"refused: {done.proof.refusal} (control: {done.proof.control})"
    return done.proof.why


def _words(said: object) -> str:
    proof = said if isinstance(said, Mapping) else {}
    return str(proof.get("refusal") or proof.get("unproved") or "")
