"""The verb `revoke` over everything: who is meant, what falls, which leases end, and who has heard of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509

from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import Lease, LeaseState
from remit.governance.owners import find_owner
from remit.inventory.records import IdentityFilter
from remit.kernel.clock import rfc3339
from remit.kernel.errors import NotFound, RemitError
from remit.trust.authority.x509 import BACKDATED
from remit.trust.model import AuthorityState, Entry, PresentedSvid
from remit.trust.revocation import (
    Effect,
    Reached,
    Revocation,
    RevocationBoard,
    RevocationService,
    StatusIndex,
    Subject,
    SubjectKind,
)
from remit.trust.revocation.cascade import Order
from remit.trust.revocation.model import SINGLE

if TYPE_CHECKING:
    from remit.governance.signatures import Approver
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.revocation")
_EVERY = timedelta(seconds=30)
_PAGE = 1000
_LEASES_SECONDS = 30.0
MOST_WAIT = 60.0
_SHOWN = 100
_SECOND = timedelta(microseconds=999_999)
"""Times in certificates and tokens are cut to the second: what fell within that second is known by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What a use of the verb did, or, as a dry run, would do."""

    subject: Subject
    effect: Effect | None
    revocation: Revocation | None
    leases: tuple[Lease, ...]
    dependents: tuple[dict[str, Any], ...]
    reached: Reached | None

    @property
    def contained(self) -> bool:
        """Whether every lease that had to end did, and was proved."""
        return all(one.state is LeaseState.REVOKED for one in self.leases)


class Revocations:
    """Made by the control plane; `open` once trust is open, `resume` once the leases are, then `run` as a task."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._trust = control.trust
        self.base = f"http://{control.settings.server.listen}"
        """URL below which lists are served: set by the server that listens."""
        self.service = RevocationService(
            control.store, attester=control.witness, clock=control.clock, signer=control.trust, publish=self._publish
        )
        self.status = StatusIndex(
            control.store, self.service.index, control.trust, clock=control.clock, base=lambda: self.base
        )
        self.board.look = self._look
        self._seen_authorities: tuple[str, ...] = ()

    # Life.

    async def open(self) -> None:
        """Load what is revoked, put back what the database lost of it, and sign the lists."""
        control = self._control
        await self.service.open(control.standing.revocations.take(control.keys))
        self._trust.revoked = self.service.index.is_revoked
        control.svid_revoked = self.svid_revoked
        index = self.service.index
        control.feed.fallen = lambda: ((index.version, len(index)), index.fallen())
        await self.status.open()

    async def close(self) -> None:
        """Stop what runs."""
        await self.status.close()
        await self.service.close()

    async def resume(self) -> None:
        """Carry on what a stop cut short: leases that a revocation ends, authorities that it withdraws."""
        for one in self.service.index.all():
            if one.subject.kind is SubjectKind.AUTHORITY:
                await self._withdraw(one.subject.value, actor=one.actor)
        await self._end_leases("revoked", actor="system:trust", seconds=0)

    async def run(self) -> None:
        """Keep the lists fresh and forget what has expired, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            version = self._trust.version
            if loop.time() >= due:
                due = loop.time() + _EVERY.total_seconds()
                await self._try(self.service.tend())
                await self._try(self.status.refill())
                await self._try(self.resume())
            authorities = tuple(f"{one.id} {one.state}" for one in self._trust.authorities())
            if authorities != self._seen_authorities:  # a new authority has its list at once
                self._seen_authorities = authorities
                await self._try(self.service.refresh_lists())
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the change.
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self._trust.changed(version)

    async def _try(self, work: Any) -> None:
        try:
            await work
        except RemitError as error:
            _log.warning("revocations: put off: %s", error)

    def _publish(self, lists: Sequence[bytes]) -> None:
        self._trust.revocation_lists = tuple(lists)
        self._trust.wake()

    # What others ask.

    @property
    def board(self) -> RevocationBoard:
        """Who is connected, and which version each has."""
        return self.service.board

    @property
    def version(self) -> int:
        """The newest version that is published: what a party acknowledges once it has applied everything."""
        return self.service.published

    def connected(self, party: str, *, until: datetime | None = None) -> None:
        """A party is there. `until`: when what it holds by then expires by itself."""
        self.board.connected(party, until=until)

    def acknowledge(self, party: str, version: int) -> None:
        """The party has applied everything up to `version`; one that claims more than there is has what there is."""
        self.board.acknowledge(party, min(version, self.version))

    def gone(self, party: str) -> None:
        """The party went away; it stays as not reached while what it holds is valid."""
        self.board.gone(party)

    def admits(self, entry: Entry) -> bool:
        """Whether the entry may get SVIDs: neither it, nor its SPIFFE ID, nor its identity is revoked."""
        return not self.service.index.is_blocked(
            spiffe_id=str(entry.spiffe_id), entry=entry.id, identity=entry.identity
        )

    def is_blocked(
        self, *, spiffe_id: str = "", entry: str = "", identity: str = "", agent: str = "", grant: str = ""
    ) -> bool:
        """Whether nothing may be issued to any of these now."""
        return self.service.index.is_blocked(
            spiffe_id=spiffe_id, entry=entry, identity=identity, agent=agent, grant=grant
        )

    def is_revoked(
        self,
        *,
        id: str = "",
        spiffe_id: str = "",
        identity: str = "",
        authority: str = "",
        grant: str = "",
        issued_at: datetime | None = None,
    ) -> bool:
        """Whether a token counts no more: by its `jti`, whom it names, who signed it, its grant and its `iat`."""
        moment = None if issued_at is None else issued_at.replace(microsecond=0) + _SECOND
        return self.service.index.is_revoked(
            id=id, spiffe_id=spiffe_id, identity=identity, authority=authority, grant=grant, issued_at=moment
        )

    async def revoke_token(self, token_id: str, *, actor: str) -> None:
        """End one token now, at its holder's word; one that is revoked or has expired already is no error."""
        subject = Subject(SubjectKind.JTI, token_id)
        if self.service.index.is_revoked(id=token_id):
            return
        with contextlib.suppress(NotFound):
            await self.service.make(
                Order(subject=subject, reason="given back by its holder", actor=actor, returned=True), self._expand
            )

    def svid_revoked(self, presented: PresentedSvid) -> bool:
        """Whether an X.509-SVID that a peer shows was revoked, by its serial or by its SPIFFE ID."""
        index, spiffe_id = self.service.index, str(presented.spiffe_id)
        if not index.is_revoked(id=f"{presented.serial:x}", spiffe_id=spiffe_id):
            return False
        begins = x509.load_der_x509_certificate(presented.certificate).not_valid_before_utc
        return index.is_revoked(id=f"{presented.serial:x}", spiffe_id=spiffe_id, issued_at=begins + BACKDATED + _SECOND)

    # The verb.

    async def subject(self, text: str) -> Subject:
        """What `text` names, an identity by any name of it. `Rejected`, `NotFound`."""
        found = Subject.parse(text)
        if found.kind is SubjectKind.IDENTITY:
            return Subject(SubjectKind.IDENTITY, await self._control.resolve(found.value))
        if found.kind is SubjectKind.OWNER:
            owner = await self._control.store.read(lambda unit: find_owner(unit, found.value))
            if owner is None:
                raise NotFound(
                    "governance.owner.unknown",
                    f"`{found.value[:200]}` is neither a registered person nor a team",
                    next_step="`remit people ls` lists who is registered",
                )
            return Subject(SubjectKind.OWNER, owner.actor)
        return found

    async def preview(self, text: str, *, actor: str, unseen: bool = False) -> Revoked:
        """What `revoke` would do; changes nothing."""
        subject = await self.subject(text)
        order = Order(subject=subject, reason="", actor=actor, unseen=unseen)
        effect = await self.service.effect(order, self._expand)
        leases = await self._leases_of(effect.identities_named, effect.grants_named)
        return Revoked(
            subject=subject, effect=effect, revocation=None, leases=tuple(leases),
            dependents=await self._dependents(effect), reached=None,
        )  # fmt: skip

    async def revoke(
        self, text: str, *, reason: str, actor: str, wait: timedelta = timedelta(0), unseen: bool = False
    ) -> Revoked:
        """Revoke, end the leases that rest on it, and tell everyone; waits at most `wait` for them to say so.

        Raises `Rejected`, `NotFound`; then nothing was changed.
        """
        subject = await self.subject(text)
        order = Order(subject=subject, reason=reason, actor=actor, unseen=unseen)
        revocation = await self.service.make(order, self._expand)
        await self._control.synchronise()
        if subject.kind is SubjectKind.AUTHORITY:
            await self._withdraw(subject.value, actor=actor)
        ended = []
        if subject.kind not in SINGLE:
            ended = await self._end_leases(reason, actor=actor, seconds=_LEASES_SECONDS)
        if subject.kind is SubjectKind.SPIFFE:
            ended += await self._end_leases_of(subject.value, reason, actor=actor)
        for one in revocation.members:
            if one.kind is SubjectKind.IDENTITY:
                await self._control.engine.on_change(one.value)
        reached = await self.board.wait(revocation.version, wait)
        return Revoked(
            subject=subject, effect=None, revocation=revocation, leases=tuple(ended), dependents=(), reached=reached
        )

    async def restore(self, text: str, *, by: Approver, reason: str) -> Sequence[Revocation]:
        """Let a subject get SVIDs, tokens and leases again, in a registered person's own word."""
        named = text if text.startswith("rv_") else str(await self.subject(text))
        restored = await self.service.restore(named, by=f"person:{by.name}", reason=reason)
        await self._control.changed()
        return restored

    def listed(self, limit: int) -> list[dict[str, Any]]:
        """The newest revocations of those that could still matter, with how far each got."""
        return [self.shown(one) for one in self.service.index.all()[:limit]]

    def shown(self, revocation: Revocation, reached: Reached | None = None) -> dict[str, Any]:
        """One revocation, as commands and the console show it."""
        far = reached or self.board.reached(revocation.version)
        return {
            "id": revocation.id,
            "version": revocation.version,
            "subject": str(revocation.subject),
            "reason": revocation.reason,
            "actor": revocation.actor,
            "at": rfc3339(revocation.at),
            "until": rfc3339(revocation.until),
            "blocks": revocation.holds,
            "members": len(revocation.members),
            "fell": dict(revocation.fell),
            "restored_at": rfc3339(revocation.restored_at) if revocation.restored_at else None,
            "restored_by": revocation.restored_by,
            "reached": {
                "acknowledged": far.acknowledged,
                "of": far.of,
                "waiting": list(far.waiting),
                "away": list(far.away),
                "complete": far.complete,
                "text": str(far),
            },
        }

    # Inside.

    def _expand(self, unit: Any, subject: Subject) -> Sequence[Subject]:
        match subject.kind:
            case SubjectKind.IDENTITY:
                return self._named(unit, [subject.value])
            case SubjectKind.OWNER:
                return [subject, *self._named(unit, self._owned(unit, subject.value))]
            case SubjectKind.AGENT | SubjectKind.NODE:
                return self._agents(unit, subject)
            case _:
                return [subject]

    def _owned(self, unit: Any, owner: str) -> list[str]:
        """Whatever row or journal says that they own: what takes rights away is believed."""
        rows, _ = unit.inventory.list_identities(IdentityFilter(owner=owner, limit=1_000_000, include_gone=True))
        found = sorted({row.id for row in rows} | set(self._control.standing.owned_by(owner)))
        if not found:
            raise NotFound(
                "trust.revocation.nothing",
                f"no identity belongs to `{owner[:200]}`",
                next_step="`remit ls --owner NAME` lists what does",
            )
        return found

    def _named(self, unit: Any, identities: Sequence[str]) -> list[Subject]:
        names = (name for identity in identities for name in unit.inventory.names_of(identity))
        return [
            *(Subject(SubjectKind.IDENTITY, identity) for identity in identities),
            *(Subject(SubjectKind.SPIFFE, name) for name in names if name.startswith("spiffe://")),
        ]

    def _agents(self, unit: Any, subject: Subject) -> list[Subject]:
        found = [
            one for one in unit.agents.agents() if subject.value in (one.id, one.name, one.title, str(one.spiffe_id))
        ]
        if subject.kind is SubjectKind.NODE and not found:
            raise NotFound(
                "trust.revocation.nothing",
                f"no agent is known of the node `{subject.value[:200]}`",
                next_step="`remit agent ls` lists nodes",
            )
        members = {subject: None}
        for one in found:
            members[Subject(SubjectKind.AGENT, one.id)] = None
            members[Subject(SubjectKind.SPIFFE, str(one.spiffe_id))] = None
        return list(members)

    async def _dependents(self, effect: Effect) -> tuple[dict[str, Any], ...]:
        found: list[dict[str, Any]] = []
        for identity in effect.identities[:_SHOWN]:
            found += (await self._control.dependents(identity))["dependents"]
            if len(found) >= _SHOWN:
                break
        return tuple(found[:_SHOWN])

    async def _leases_of(self, identities: frozenset[str], grants: frozenset[str]) -> list[Lease]:
        return [lease for lease in await self._live() if lease.identity in identities or lease.grant in grants]

    async def _live(self) -> list[Lease]:
        found: list[Lease] = []
        after = ""
        while True:
            where = LeaseFilter(states=LIVE, after=after)
            page = await self._control.store.read(lambda unit, where=where: unit.access.leases(where, _PAGE))  # type: ignore[misc]
            found += [one.lease for one in page]
            if len(page) < _PAGE:
                return found
            after = page[-1].id

    async def _end_leases(self, reason: str, *, actor: str, seconds: float) -> list[Lease]:
        """End what rests on a revoked identity or grant; closed grants stay closed after a restoration."""
        index, engine = self.service.index, self._control.engine
        doomed = [one for one in await self._live() if index.is_blocked(identity=one.identity, grant=one.grant)]
        fresh = [one for one in doomed if one.state not in (LeaseState.REVOKING, LeaseState.UNPROVED)]
        chosen = doomed if seconds else fresh
        ended: list[Lease] = []
        for at in range(0, len(chosen), _PAGE):
            ids = tuple(one.id for one in chosen[at : at + _PAGE])
            ended += await engine.revoke(
                LeaseFilter(ids=ids), actor=actor, reason=reason, wait=timedelta(seconds=seconds)
            )
        for grant in {one.grant for one in doomed if index.is_blocked(grant=one.grant)}:
            await engine.end(grant, reason=reason, wait=timedelta(0))
        return ended

    async def _end_leases_of(self, spiffe_id: str, reason: str, *, actor: str) -> Sequence[Lease]:
        """Those of the identity that a SPIFFE ID names, which is not revoked itself."""
        try:
            identity = await self._control.resolve(spiffe_id)
        except NotFound:
            return ()
        where, wait = LeaseFilter(identity=identity), timedelta(seconds=_LEASES_SECONDS)
        return await self._control.engine.revoke(where, actor=actor, reason=reason, wait=wait)

    async def _withdraw(self, authority_id: str, *, actor: str) -> None:
        """Take an authority out of the bundle; one that signs gets its successor first."""
        known = next((one for one in self._trust.authorities() if one.id == authority_id), None)
        if known is None or known.state is AuthorityState.REVOKED:
            return
        if known.state is AuthorityState.ACTIVE:
            await self._trust.rotate_authority(known.kind, actor=actor)
        if known.state is not AuthorityState.PREPARED:
            await self._trust.taint_authority(authority_id, actor=actor)
        await self._trust.revoke_authority(authority_id, actor=actor)
        await self.service.refresh_lists()

    def _look(self) -> None:
        """Agents come and go by their streams; whoever went away holds SVIDs as long as the longest entry's."""
        following = set(self._control.agents.following)
        for one in following:
            self.board.connected(one, version=min(max(0, self._control.agents.acknowledged(one)), self.version))
        longest = None
        for name in self.board.connected_names() - following:
            if name.startswith("ag_"):
                longest = longest or max((one.x509_ttl for one in self._trust.entries()), default=timedelta(0))
                self.board.gone(name, until=self._control.clock.now() + longest)
