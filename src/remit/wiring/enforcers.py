"""Enforcement points in one installation: registered by persons, found by proof, with the facts of that proof."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remit.access.enforcers import registry
from remit.access.enforcers.model import Enforcer
from remit.access.enforcers.registry import EnforcerIndex, EnforcerRequest
from remit.access.enforcers.search import Searches
from remit.kernel.canonical import Json
from remit.trust.authority.x509 import BACKDATED

if TYPE_CHECKING:
    from remit.trust.model import Evidence, PresentedSvid
    from remit.wiring.control import ControlPlane


class Enforcers:
    """Made by the control plane; `open` reads those that count."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._store = control.store
        self.index = EnforcerIndex()
        self._moved = asyncio.Event()
        self.searches = Searches(control.desk)
        self.page_key = b""
        """Seals the tokens of pages of a search."""
        self.stream_seed = b""
        """Signs the frames of snapshot streams."""
        self._refused: tuple[str, ...] = ()

    async def open(self) -> None:
        """Read the registrations again: at the start, and after another node changed them."""
        if not self.page_key:
            keys = self._control.keys
            self.page_key = await self._store.write(lambda unit: keys.named_key(unit.conn, "seal:search", unit.now))
            self.stream_seed = await self._store.write(
                lambda unit: keys.named_key(unit.conn, "sign:snapshot", unit.now)
            )
        rows = await self._store.read(lambda unit: unit.enforcers.all())
        genuine = [one for one in rows if registry.is_genuine(one, self._control.witness)]
        self.index = EnforcerIndex(genuine)
        self._moved.set()
        self._moved = asyncio.Event()
        self._refused = tuple(one.name for one in rows if one not in genuine)

    async def changed(self, seen: EnforcerIndex) -> EnforcerIndex:
        """Wait until `index` is no longer `seen`; returns the new one."""
        while self.index is seen:
            await self._moved.wait()
        return self.index

    @property
    def snapshot_key(self) -> str:
        """What a point that decides by itself pins: the key under which its snapshot stream is signed."""
        from remit.wiring.streams import public_key_of

        return public_key_of(self.stream_seed)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found in the database and not loaded, because it was not signed here; for `doctor`."""
        return tuple(f"enforcement point `{name}` was not registered by this installation" for name in self._refused)

    async def register(self, request: EnforcerRequest, *, actor: str, evidence: dict[str, Json]) -> Enforcer:
        """Register a point; it counts when this returns. `Conflict` (`access.enforcer.exists`)."""

        def work(unit: Any) -> Enforcer:
            unit.record(
                "governance.approval.signed", actor=actor, subject=request.spiffe_id,
                data={"step": "enforcer register", "approval": evidence},
            )  # fmt: skip
            return registry.register_enforcer(unit, request, actor=actor, attester=self._control.witness)

        made = await self._store.write(work)
        await self.open()
        return made

    async def remove(self, name: str, *, actor: str) -> Enforcer:
        """Forget a point: it may ask about nobody but itself when this returns. `NotFound`."""
        gone = await self._store.write(lambda unit: registry.remove_enforcer(unit, name, actor=actor))
        await self.open()
        return gone

    def show(self, name: str) -> Enforcer:
        """By its name or id. `NotFound` (`access.enforcer.unknown`)."""
        found = self.index.named(name)
        if found is None:
            raise registry.unknown(name)
        return found

    # What proof says of who asks about itself.

    def facts_of_svid(self, svid: PresentedSvid) -> dict[str, Json]:
        """An X.509-SVID of ours says that its holder was attested when it was issued; a partner's says nothing."""
        home = svid.spiffe_id.trust_domain == self._control.trust.trust_domain
        facts: dict[str, Json] = {
            "attested": home,
            "attestation_method": "x509-svid",
            "credential": f"{svid.serial:x}",
            "sender_constraint": "mtls",
        }
        if home:
            facts["attested_at"] = int((svid.issued + BACKDATED).timestamp())
        return facts

    def facts_of_evidence(self, evidence: Evidence) -> dict[str, Json]:
        """What attestors saw of a process on this machine."""
        facts: dict[str, Json] = {
            "attested": True,
            "attestation_method": evidence.attestor,
            "attested_at": int(evidence.observed.timestamp()),
            "selectors": sorted(str(selector) for selector in evidence.selectors),
        }
        sha256 = evidence.value("sha256")
        return {**facts, "sha256": sha256} if sha256 is not None else facts
