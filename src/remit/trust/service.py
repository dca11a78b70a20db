"""The trust room's one door: attest a process, find its entries, issue its SVIDs, keep the authorities.

What is published and registered is held in memory and swapped as it changes; `changed` wakes whoever streams it.
All methods belong to the event loop that opened the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Rejected, Unavailable
from remit.kernel.unit import Attester, Sealer, Store
from remit.trust import entries as registration
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.authority.bundle import Bundle
from remit.trust.authority.jwt import subject_of, verify_token
from remit.trust.authority.keeper import AuthorityKeeper
from remit.trust.authority.lifecycle import AuthorityPolicy
from remit.trust.entries import DEFAULT_JWT_TTL, DEFAULT_X509_TTL, EntryIndex
from remit.trust.issue import Issuer, Journal, renewal
from remit.trust.model import Authority, AuthorityKind, Entry, Evidence, JwtSvid, SvidClaims, X509Svid
from remit.trust.ports import Admission, Attestor, TrustUnit
from remit.trust.process import Peer, peer_of_pid
from remit.trust.spiffe import SpiffeId, TrustDomain

MAX_SVIDS = 64
MAX_AUDIENCES = 16
MAX_AUDIENCE_BYTES = 2048
_PAGE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Set:
    """Everything that a workload is entitled to at one moment: the first SVID is its default identity."""

    svids: tuple[X509Svid, ...]
    bundle: Bundle
    renew: datetime
    """When the first of them should be replaced."""


class TrustService:
    """Attestation, registration and issuance for one trust domain.

    `admission` says whether an entry's identity may have SVIDs now: a refusal is as if it had no entry.
    """

    def __init__(
        self,
        store: Store[TrustUnit],
        *,
        sealer: Sealer,
        attester: Attester,
        clock: Clock,
        trust_domain: TrustDomain,
        policy: AuthorityPolicy | None = None,
        attestor: Attestor | None = None,
        admission: Admission = lambda entry: True,
    ) -> None:
        self.trust_domain = trust_domain
        self._store = store
        self._attester = attester
        self._clock = clock
        self._attestor = attestor or UnixAttestor()
        self._admission = admission
        self._keeper = AuthorityKeeper(
            store,
            sealer=sealer,
            attester=attester,
            clock=clock,
            trust_domain=trust_domain,
            policy=policy or AuthorityPolicy(),
        )
        self._journal = Journal(store)
        self._issuer = Issuer(self._journal, lambda: self._keeper.keyring, clock)
        self._entries = EntryIndex()
        self._refused: tuple[str, ...] = ()
        self._version = 0
        self._moved = asyncio.Event()
        self._ready = False

    # Life.

    async def open(self) -> None:
        """Load entries and authorities, making the first ones; then `ready` is true.

        Raises `Misconfigured` when keys cannot be unsealed or what is stored was not signed here.
        """
        await self._keeper.open()
        await self._load_entries()
        self._ready = True
        self.wake()

    async def close(self) -> None:
        """Let go: writes in flight are finished, keys forgotten, streams told. Works after a failed `open`."""
        self._ready = False
        self.wake()
        await self._journal.close()
        self._issuer.forget()

    async def run(self, *, every: timedelta = timedelta(minutes=1)) -> None:
        """Keep the schedule of the authorities until cancelled: one task of the composition root."""
        while True:
            await asyncio.sleep(every.total_seconds())
            await self.tend()

    async def tend(self) -> None:
        """Rotate and retire authorities as their schedule has it."""
        if await self._keeper.tend():
            self.wake()

    @property
    def ready(self) -> bool:
        """Whether it is open."""
        return self._ready

    def now(self) -> datetime:
        """The service's own clock, by which its moments are meant."""
        return self._clock.now()

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found in the database and not loaded, because it was not signed here; for `doctor`."""
        found = [f"entry `{one}` was not signed by this installation" for one in self._refused]
        found += [f"authority `{one}` was not signed by this installation" for one in self._keeper.keyring.refused]
        return tuple(found)

    # Change.

    @property
    def version(self) -> int:
        """Rises whenever entries, bundles, authorities or admissions changed."""
        return self._version

    def wake(self) -> None:
        """Tell every stream to look again; call it also when `admission` would answer otherwise."""
        self._version += 1
        self._moved.set()
        self._moved = asyncio.Event()

    async def changed(self, seen: int) -> int:
        """Wait until `version` is no longer `seen`; returns the new one."""
        while self._version == seen:
            await self._moved.wait()
        return self._version

    # Workloads.

    async def attest(self, peer: Peer) -> Evidence:
        """Look at the process at the other end. `Rejected` (`trust.peer.gone`, `.changed`)."""
        return await asyncio.to_thread(self._attestor.attest, peer, self._clock.now())

    async def attest_pid(self, pidfd: int, pid: int) -> Evidence:
        """Look at a child that its runner presents; the caller keeps `pidfd`. `Rejected` (`trust.peer.mismatch`)."""
        with peer_of_pid(pidfd, pid) as peer:
            return await self.attest(peer)

    def match(self, evidence: Evidence) -> tuple[Entry, ...]:
        """The admitted entries of this workload, oldest first, at most 64; none is an empty tuple."""
        found = self._entries.match(evidence.selectors)
        return tuple(entry for entry in found if self._admission(entry))[:MAX_SVIDS]

    def require(self, evidence: Evidence) -> tuple[Entry, ...]:
        """As `match`, but raises `Denied` (`trust.workload.unknown`) when there is none."""
        found = self.match(evidence)
        if not found:
            raise Denied(
                "trust.workload.unknown",
                "no identity issued: no registration entry matches this workload",
                next_step="register it by `remit entry create`, with selectors that it shows",
            )
        return found

    async def x509_svids(self, evidence: Evidence) -> X509Set:
        """Its X.509-SVIDs, recorded before they are returned. `Denied` (`trust.workload.unknown`), `Unavailable`."""
        svids = await self._issuer.x509(self.require(evidence), evidence)
        # What was withdrawn while the ledger was written is not handed out.
        still = {entry.id for entry in self.require(evidence)}
        kept = tuple(one for one in svids if one.entry in still)
        if not kept:
            raise Unavailable("trust.svid.raced", "this workload's entries changed just now", retry_after=timedelta(0))
        return X509Set(svids=kept, bundle=self.bundle, renew=min(renewal(one) for one in kept))

    async def jwt_svids(
        self, evidence: Evidence, audience: Sequence[str], *, spiffe_id: str = ""
    ) -> tuple[JwtSvid, ...]:
        """Its JWT-SVIDs for these audiences, or the one named `spiffe_id`; recorded before they are returned.

        Raises `Rejected` (`trust.jwt_svid.audience`), `Denied` (`trust.workload.unknown`), `Unavailable`.
        """
        wanted = _checked_audience(audience)
        entries = self.require(evidence)
        if spiffe_id:
            asked = SpiffeId.parse(spiffe_id)
            entries = tuple(entry for entry in entries if entry.spiffe_id == asked)
        if not entries:
            raise Denied("trust.workload.unknown", f"no identity issued: this workload is not `{spiffe_id[:200]}`")
        svids = await self._issuer.jwt(entries, evidence, wanted)
        still = {entry.id for entry in self.require(evidence)}
        return tuple(one for one in svids if one.entry in still)

    def validate_jwt(self, token: str, audience: str) -> SvidClaims:
        """Verify a JWT-SVID of our trust domain for `audience`. `Rejected` (`trust.jwt_svid.…`)."""
        if subject_of(token).trust_domain != self.trust_domain:
            raise Rejected("trust.jwt_svid.foreign", "the token is of a trust domain that we hold no bundle of")
        return verify_token(token, self.bundle.jwt_keys, audience=audience, now=self._clock.now())

    # Bundle.

    @property
    def bundle(self) -> Bundle:
        """What is published now."""
        return self._keeper.keyring.bundle

    def bundle_document(self) -> bytes:
        """The trust domain's bundle in the SPIFFE bundle format (JSON)."""
        return self.bundle.document()

    # Registration.

    def entries(self) -> tuple[Entry, ...]:
        """Every entry that counts, oldest first."""
        return self._entries.all()

    async def create_entry(
        self,
        *,
        spiffe_id: str,
        selectors: Iterable[str],
        actor: str,
        x509_ttl: timedelta = DEFAULT_X509_TTL,
        jwt_ttl: timedelta = DEFAULT_JWT_TTL,
        hint: str = "",
        identity: str = "",
    ) -> Entry:
        """Register a workload; it counts when this returns. The same registration again returns the one that exists.

        Raises `Rejected` (see `entries.request_entry`) or `Conflict` (`trust.entry.exists`).
        """
        request = registration.request_entry(
            spiffe_id=spiffe_id,
            selectors=selectors,
            trust_domain=self.trust_domain,
            attestors={self._attestor.id: self._attestor},
            x509_ttl=x509_ttl,
            jwt_ttl=jwt_ttl,
            hint=hint,
            identity=identity,
        )
        entry = await self._store.write(
            lambda unit: registration.create_entry(unit, request, actor=actor, attester=self._attester)
        )
        self._entries.add(entry)
        self.wake()
        return entry

    async def remove_entry(self, entry_id: str, *, actor: str) -> Entry:
        """Take an entry away; streams lose its SVIDs at once. `NotFound` (`trust.entry.unknown`)."""
        entry = await self._store.write(lambda unit: registration.remove_entry(unit, entry_id, actor=actor))
        self._entries.discard(entry_id)
        self.wake()
        return entry

    async def refresh(self) -> None:
        """Read entries and authorities again, after another node changed them."""
        await self._keeper.tend()
        await self._load_entries()
        self.wake()

    # Authorities.

    def authorities(self) -> tuple[Authority, ...]:
        """Every authority, oldest first, revoked ones included."""
        return self._keeper.keyring.authorities

    async def prepare_authority(self, kind: AuthorityKind, *, actor: str) -> Authority:
        """Publish the next authority of this kind without using it yet."""
        authority = await self._keeper.prepare(kind, actor=actor)
        self.wake()
        return authority

    async def activate_authority(self, authority_id: str, *, actor: str) -> None:
        """Let a prepared authority sign. `NotFound`, `Conflict` (`trust.authority.not_prepared`)."""
        await self._keeper.activate(authority_id, actor=actor)
        self.wake()

    async def rotate_authority(self, kind: AuthorityKind, *, actor: str) -> Authority:
        """Prepare and activate in one go; what the last one signed stays valid."""
        authority = await self._keeper.rotate(kind, actor=actor)
        self.wake()
        return authority

    async def taint_authority(self, authority_id: str, *, actor: str) -> None:
        """Replace everything that this old authority signed, now. `NotFound`, `Conflict` (`trust.authority.active`)."""
        await self._keeper.taint(authority_id, actor=actor)
        self.wake()

    async def revoke_authority(self, authority_id: str, *, actor: str) -> None:
        """Withdraw it from the bundle: nothing that it signed is valid any more. `NotFound`, `Conflict`."""
        await self._keeper.revoke(authority_id, actor=actor)
        self.wake()

    async def _load_entries(self) -> None:
        index, refused, after = EntryIndex(), [], ""
        while page := await self._page(after):
            for entry in page:
                if entry.selectors and registration.is_genuine(entry, self._attester):
                    index.add(entry)
                else:
                    refused.append(entry.id)
            after = page[-1].id
        self._entries, self._refused = index, tuple(refused)

    async def _page(self, after: str) -> Sequence[Entry]:
        return await self._store.read(lambda unit: unit.trust.entries(after=after, limit=_PAGE))


def _checked_audience(audience: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(audience))
    if not 1 <= len(wanted) <= MAX_AUDIENCES:
        raise Rejected(
            "trust.jwt_svid.audience",
            f"a JWT-SVID has 1 to {MAX_AUDIENCES} audiences, not {len(wanted)}",
            next_step="name the service that will receive it",
        )
    if not all(one and len(one.encode()) <= MAX_AUDIENCE_BYTES for one in wanted):
        raise Rejected("trust.jwt_svid.audience", "an audience is empty or longer than 2,048 bytes")
    return wanted
