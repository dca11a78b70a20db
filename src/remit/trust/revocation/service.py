"""Revocations of one trust domain: written first, then known here, then published.

A row is committed before anything is told to anyone: after a kill at any instant the next start knows it, and signs
lists that say it. All methods belong to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, NotFound, RemitError
from remit.kernel.unit import Attester, Store
from remit.trust.model import AuthorityKind, AuthorityState
from remit.trust.revocation import cascade
from remit.trust.revocation.board import RevocationBoard
from remit.trust.revocation.cascade import Expand, Order
from remit.trust.revocation.crl import LIFETIME, REFRESH, RevocationList, sign_list
from remit.trust.revocation.index import RevocationIndex
from remit.trust.revocation.model import Effect, Fallen, Revocation, Subject, SubjectKind
from remit.trust.revocation.ports import ListSigner, RevocationUnit

_GRACE = 2 * LIFETIME
"""A revocation is kept this long past its end: a serial stands on a list once more after its certificate expired."""
_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_PLACE = re.compile(r"[0-9]{1,9}/[0-9]{1,6}")
_SWEEP = 10_000
_TOGETHER = 0.1
_log = logging.getLogger("remit.trust")


class RevocationService:
    """The verb, the index, the lists and the board. `open` first.

    `publish` is called with the DER of every current list whenever they, or what is revoked, changed.
    """

    def __init__(
        self,
        store: Store[RevocationUnit],
        *,
        attester: Attester,
        clock: Clock,
        signer: ListSigner,
        publish: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._store = store
        self._attester = attester
        self._clock = clock
        self._signer = signer
        self._publish = publish
        self.index = RevocationIndex()
        self.board = RevocationBoard(clock.now)
        self.lists: Mapping[str, RevocationList] = {}
        """The current list of each published X.509 authority whose key is ours, by its id."""
        self.published = 0
        """The newest version of which everything is published: what a party acknowledges."""
        self._signed_version = 0
        self._number = 0
        self._listed = -1
        self._signing = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None
        self._untold = False

    async def open(self, kept: Iterable[tuple[Revocation, Sequence[Fallen]]] = ()) -> None:
        """Load what is revoked, and sign the lists.

        `kept` is what the journal of authority says was revoked and not ended: it counts over the rows, and what the
        database lost of it is put back.
        """
        now = self._clock.now()

        def read(unit: RevocationUnit) -> tuple[Sequence[Revocation], Sequence[Fallen], Mapping[str, datetime]]:
            return unit.revocations.revocations(), unit.revocations.fallen(), unit.revocations.agents_due(now)

        rows, fallen, agents = await self._store.read(read)
        by_id = {one.id: one if cascade.is_restored(one, self._attester) else _unrestored(one) for one in rows}
        truth = {one.id: (one, below) for one, below in kept}
        for one in by_id.values():
            if one.id not in truth:
                self.index.add(one)
        for one, below in truth.values():
            self.index.add(one, below)
        for each in fallen:
            if _is_plausible(each) and self.index.get(each.revocation) is not None:
                self.index.add_fallen(each)
        await self._put_back(truth, by_id, {each.id for each in fallen})
        self.board.expected(agents)
        await self._tell()

    async def close(self) -> None:
        """Stop what runs; what is committed is told by the next start."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def effect(self, order: Order, expand: Expand) -> Effect:
        """What `make` would do; changes nothing."""
        known = self.index.fallen().keys()
        return await self._store.read(lambda unit: cascade.effect(unit, order, expand, known))

    async def make(self, order: Order, expand: Expand) -> Revocation:
        """Revoke; durable, known here and published when this returns. Again changes nothing that is revoked already.

        Raises `Rejected` (`trust.revocation.reason`), `NotFound` (`trust.revocation.unknown`) and what `expand` does.
        """
        known, least = set(self.index.fallen()), self.index.version
        revocation, fallen = await self._store.write(
            lambda unit: cascade.make(unit, order, expand, known=known, least=least)
        )
        self.index.add(revocation, fallen)
        if order.returned:
            return revocation  # whoever asks us knows; the others hear of it with the next round
        if order.subject.kind is SubjectKind.JTI:
            self._tell_soon()
        else:
            await self._tell()
        return revocation

    async def restore(self, text: str, *, by: str, reason: str) -> Sequence[Revocation]:
        """Let a subject (or the subject of the revocation of that id) get SVIDs and tokens again: new ones.

        What fell stays fallen. Raises `NotFound` (`trust.revocation.unheld`), `Conflict` (`.final`).
        """
        held = self._held(text)
        known, least = set(self.index.fallen()), self.index.version
        version, changed = await self._store.write(
            lambda unit: cascade.restore(
                unit, held, by=by, reason=reason, attester=self._attester, known=known, least=least
            )
        )
        for revocation, fallen in changed:
            self.index.add(revocation, fallen)
        self.index.raise_version(version)
        await self._tell()
        return [one for one, _ in changed]

    async def tend(self) -> None:
        """Sign lists that are half-way through, forget what has expired; call it every minute or so."""
        await self.sweep()
        await self.refresh_lists()

    async def refresh_lists(self) -> None:
        """As `sign_lists`, and publish what it signed."""
        if await self.sign_lists() or self.published != self._signed_version:
            self._announce()

    async def sweep(self) -> None:
        """End revocations of which nothing is left, and forget what was issued and has expired."""
        now = self._clock.now()
        over = [one for one in self.index.all() if not one.holds and one.until + _GRACE <= now]
        if over:
            await self._store.write(lambda unit: cascade.end(unit, over))
            for one in over:
                self.index.forget(one.id)
        old = now - _GRACE
        while await self._store.write(lambda unit: unit.trust.forget_issued(old, limit=_SWEEP)) == _SWEEP:
            continue

    async def sign_lists(self) -> bool:
        """Sign the list of each published X.509 authority anew, where something changed or half its time is over.

        Tells whether it did.
        """
        async with self._signing:
            now, version, certificates = self._clock.now(), self.index.version, self.index.certificates
            wanted = [
                one.id
                for one in self._signer.authorities()
                if one.kind is AuthorityKind.X509 and one.state is not AuthorityState.REVOKED
            ]
            current = self._listed == certificates and all(
                (known := self.lists.get(one)) is not None and known.next_update - now > REFRESH for one in wanted
            )
            if current and set(wanted) == set(self.lists):
                self._signed_version = version
                return False
            self.lists = {one.authority: one for each in wanted if (one := await self._signed(each, now)) is not None}
            self._listed, self._signed_version = certificates, version
            return True

    def list_of(self, authority_id: str) -> RevocationList:
        """The current list of an authority; `NotFound` (`trust.crl.unknown`)."""
        found = self.lists.get(authority_id)
        if found is None:
            raise NotFound(
                "trust.crl.unknown",
                f"there is no revocation list of `{authority_id[:80]}`",
                next_step="`remit authority ls` lists the authorities",
            )
        return found

    def _tell_soon(self) -> None:
        """One token fell: whoever asks us knows at once. The others are told together with what falls meanwhile."""
        self._untold = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_later(), name="remit-revocations-tell")

    async def _tell_later(self) -> None:
        while self._untold:
            await asyncio.sleep(_TOGETHER)
            self._untold = False  # before it is told: what falls while lists are signed is told next
            await self._tell()

    async def _tell(self) -> None:
        """Publish what is committed. A list that cannot be signed is tried again by `tend`."""
        try:
            await self.sign_lists()
        except RemitError as error:
            _log.error("the revocation lists cannot be signed: %s", error)
        self._announce()

    def _announce(self) -> None:
        # INVARIANT: whoever sees this version sees lists that say it.
        self.published = self._signed_version
        self._publish([one.certificate_list for one in self.lists.values()])

    async def _signed(self, authority_id: str, now: datetime) -> RevocationList | None:
        try:
            certificate, key = await self._signer.signing_key(authority_id)
        except (Conflict, NotFound):
            return None  # an upstream's root, or a key that is gone
        # Milliseconds: rises over restarts too, without a row for each list.
        self._number = max(self._number + 1, int(now.timestamp() * 1000))
        fallen = [
            one
            for one in self.index.fallen().values()
            if one.kind == "x509-svid" and one.authority in ("", authority_id) and one.expires + _GRACE > now
        ]
        return sign_list(authority_id, certificate, key, fallen, number=self._number, now=now)

    def _held(self, text: str) -> Sequence[Revocation]:
        by_id = self.index.get(text)
        if by_id is not None:
            if not by_id.holds:
                raise cascade.not_held(text, known=True)
            return (by_id,)
        subject = Subject.parse(text)
        held = self.index.holding(subject)
        if not held:
            raise cascade.not_held(text, known=any(one.subject == subject for one in self.index.all()))
        return held

    async def _put_back(
        self,
        truth: Mapping[str, tuple[Revocation, Sequence[Fallen]]],
        rows: Mapping[str, Revocation],
        fallen: set[str],
    ) -> None:
        """Write again what the journal has and the database lost or has otherwise."""
        gone = [one for one, _ in truth.values() if rows.get(one.id) != one]
        lost = [each for _, below in truth.values() for each in below if each.id not in fallen]
        if not gone and not lost:
            return

        def work(unit: RevocationUnit) -> None:
            for one in gone:
                unit.revocations.put_revocation(one)
            unit.revocations.note_fallen(lost)

        _log.warning("put back %d revocations and %d revoked ids that the database had lost", len(gone), len(lost))
        await self._store.write(work)


def _unrestored(revocation: Revocation) -> Revocation:
    return replace(revocation, restored_at=None, restored_by="", signature="")


def _is_plausible(fallen: Fallen) -> bool:
    """Whether a row has the form of what is written here: it is believed, but must not break a list."""
    if fallen.kind == "x509-svid" and _SERIAL.fullmatch(fallen.id) is None:
        return False
    return not fallen.status or _PLACE.fullmatch(fallen.status) is not None
