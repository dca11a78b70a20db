"""The trust room's one door: attest a process, find its entries, issue its SVIDs, keep the authorities.

What is published and registered is held in memory and swapped as it changes; `changed` wakes whoever streams it.
All methods belong to the event loop that opened the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable
from remit.kernel.unit import Attester, Sealer, Store
from remit.trust import entries as registration
from remit.trust import jose
from remit.trust.attestors.look import look
from remit.trust.attestors.node import NodeSelectors
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.authority.jwt import subject_of, verify_token
from remit.trust.authority.keeper import AuthorityKeeper
from remit.trust.authority.lifecycle import AuthorityPolicy
from remit.trust.authority.upstream.port import Upstream
from remit.trust.bundle import Bundle
from remit.trust.entries import DEFAULT_JWT_TTL, DEFAULT_X509_TTL, EntryIndex, EntryRequest
from remit.trust.issue import Issuer, Journal, renewal
from remit.trust.model import Authority, AuthorityKind, Entry, Evidence, JwtSvid, Selector, SvidClaims, X509Svid
from remit.trust.ports import Admission, Attestor, ProofAttestor, RevocationWord, TrustUnit, X509Set
from remit.trust.process import Peer, peer_of_pid
from remit.trust.spiffe import SpiffeId, TrustDomain

MAX_SVIDS = 64
MAX_AUDIENCES = 16
MAX_AUDIENCE_BYTES = 2048
_PAGE = 10_000


class TrustService:
    """Attestation, registration and issuance for one trust domain.

    `attestors` look at local processes: the first one at each, another only where an entry asks for what it sees.
    `proofs` verify what callers present. An entry may name selectors of any of them, and all must agree.
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
        upstream: Upstream | None = None,
        attestors: Sequence[Attestor] = (),
        proofs: Sequence[ProofAttestor] = (),
        admission: Admission = lambda entry: True,
    ) -> None:
        self.trust_domain = trust_domain
        self._store = store
        self._attester = attester
        self._clock = clock
        self._local: dict[str, Attestor] = registration.attestors_by_id(attestors or (UnixAttestor(),))
        self._proofs: dict[str, ProofAttestor] = registration.attestors_by_id(proofs)
        self._admission = admission
        self._keeper = AuthorityKeeper(
            store,
            sealer=sealer,
            attester=attester,
            clock=clock,
            trust_domain=trust_domain,
            policy=policy or AuthorityPolicy(),
            upstream=upstream,
        )
        self._stumbled = ""
        self._journal = Journal(store)
        self._issuer = Issuer(self._journal, lambda: self._keeper.keyring, clock, revoked=self._is_revoked)
        self._entries = EntryIndex()
        self._refused: tuple[str, ...] = ()
        self.foreign_bundles: Mapping[str, Bundle] = {}
        """Bundles of partners by the name of their trust domain: set by the federation, then `wake`."""
        self.admits_foreign: Callable[[SpiffeId, datetime], bool] = lambda spiffe_id, now: True
        """Whether this id of a partner may act here at that moment: set by the federation with its bundles."""
        self.revocation_lists: Sequence[bytes] = ()
        """DER of each authority's CRL: set by the revocations, then `wake`."""
        self.revoked: RevocationWord = _nothing_revoked
        """Whether something that we issued counts no more: set by the revocations."""
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
        await self._keeper.close()

    async def run(self, *, every: timedelta = timedelta(minutes=1)) -> None:
        """Keep the schedule of the authorities until cancelled: one task of the composition root."""
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                await self.tend()
                self._stumbled = ""
            except RemitError as error:
                # What signs goes on to its own end; the next round tries again.
                self._stumbled = f"the schedule of the authorities could not be kept: {error.message}"

    async def tend(self) -> None:
        """Rotate and retire authorities as their schedule has it."""
        before = self._keeper.keyring
        changed, now = await self._keeper.tend(), self._keeper.keyring
        # A verb may have failed between its change and its reading: then this reading is the one that shows it.
        if changed or (now.authorities, now.bundle) != (before.authorities, before.bundle):
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

    @property
    def authority_problems(self) -> tuple[str, ...]:
        """What the schedule of the authorities, or their upstream, did not do when it was last asked; for `doctor`."""
        return (*self._keeper.problems, *([self._stumbled] if self._stumbled else []))

    @property
    def keeper(self) -> AuthorityKeeper:
        """The authorities and their keys, for what signs beside SVIDs: revocation lists, tokens, intermediates."""
        return self._keeper

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
        """Look at the process at the other end, by every attestor whose word an entry asks for.

        Raises `Rejected` (`trust.peer.gone`, `.changed`).
        """
        first, *others = self._local.values()
        asked = [first, *(one for one in others if self._entries.asks_for(one.id))]
        return await asyncio.to_thread(look, asked, peer, self._clock.now())

    async def attest_pid(self, pidfd: int, pid: int) -> Evidence:
        """Look at a child that its runner presents; the caller keeps `pidfd`. `Rejected` (`trust.peer.mismatch`)."""
        with peer_of_pid(pidfd, pid) as peer:
            return await self.attest(peer)

    def match(self, evidence: Evidence) -> tuple[Entry, ...]:
        """The admitted entries of this workload, oldest first, at most 64; none is an empty tuple."""
        found = self._entries.match(evidence.selectors)
        return tuple(entry for entry in found if self._admission(entry))[:MAX_SVIDS]

    def registered(self, evidence: Evidence) -> tuple[Entry, ...]:
        """The entries of this workload, those of identities out of service included, oldest first."""
        return self._entries.match(evidence.selectors)

    def require(self, evidence: Evidence) -> tuple[Entry, ...]:
        """As `match`, but raises `Denied` (`trust.workload.unknown`) when there is none."""
        found = self.match(evidence)
        if not found and (idle := self.registered(evidence)):
            raise Denied(
                "trust.workload.unknown",
                f"no identity issued: `{idle[0].spiffe_id}` is out of service",
                next_step="`remit revocations` and `remit show` say whether it is revoked, quarantined or not active",
            )
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
        kept = tuple(one for one in svids if one.entry in still and not self._is_revoked(one))
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

    # Agents.

    @property
    def local_attestors(self) -> frozenset[str]:
        """Ids of the attestors that look at processes: the only ones whose selectors an agent may claim."""
        return frozenset(self._local)

    def entries_for(self, node: frozenset[Selector]) -> tuple[Entry, ...]:
        """The admitted entries that reach the agent of a node which shows these selectors, oldest first."""
        return tuple(entry for entry in self._entries.through(node) if self._admission(entry))

    async def x509_for(
        self, keys: Sequence[tuple[Entry, ec.EllipticCurvePublicKey]], evidence: Evidence, *, agent: str
    ) -> tuple[X509Svid, ...]:
        """An X.509-SVID for each public key that an agent shows; recorded, with the agent's id, before it returns.

        Whoever calls has made sure that each entry reaches the agent.
        """
        svids = await self._issuer.x509_for(keys, evidence, agent=agent)
        self._check_standing(svids, agent)
        return svids

    async def jwt_for(
        self, entries: Sequence[Entry], evidence: Evidence, audience: Sequence[str], *, agent: str
    ) -> tuple[JwtSvid, ...]:
        """As `x509_for`, JWT-SVIDs. Raises `Rejected` (`trust.jwt_svid.audience`)."""
        svids = await self._issuer.jwt(entries, evidence, _checked_audience(audience), agent=agent)
        self._check_standing(svids, agent)
        return svids

    def validate_jwt(self, token: str, audience: str) -> SvidClaims:
        """Verify a JWT-SVID for `audience` against its own trust domain's bundle. `Rejected` (`trust.jwt_svid.…`)."""
        subject, now = subject_of(token), self._clock.now()
        domain = subject.trust_domain
        bundle = self.bundle if domain == self.trust_domain else self.foreign_bundles.get(domain.name)
        if bundle is None:
            raise Rejected("trust.jwt_svid.foreign", "the token is of a trust domain that we hold no bundle of")
        if domain != self.trust_domain and not self.admits_foreign(subject, now):
            raise Rejected(
                "trust.jwt_svid.foreign", "no relation in force lets this id of another trust domain act here"
            )
        found = verify_token(token, bundle.jwt_keys, audience=audience, now=now)
        if domain == self.trust_domain and self._is_revoked_token(found):
            raise Rejected("trust.jwt_svid.revoked", "the token was revoked", next_step="fetch a new one")
        return found

    # Bundle.

    @property
    def bundle(self) -> Bundle:
        """What is published now."""
        return self._keeper.keyring.bundle

    def federated(self, entries: Sequence[Entry]) -> Mapping[str, Bundle]:
        """The foreign bundles that these entries name, by the SPIFFE ID of the trust domain."""
        wanted = {name for entry in entries for name in entry.federates_with}
        return {one.trust_domain.id: one for one in self.foreign_bundles.values() if one.trust_domain.name in wanted}

    def crls(self) -> Sequence[bytes]:
        """The DER of each current certificate revocation list of the trust domain."""
        return self.revocation_lists

    def bundle_document(self) -> bytes:
        """The trust domain's bundle in the SPIFFE bundle format (JSON)."""
        return self.bundle.document()

    # Registration.

    def entries(self) -> tuple[Entry, ...]:
        """Every entry that counts, oldest first."""
        return self._entries.all()

    def check_entry(
        self,
        *,
        spiffe_id: str,
        selectors: Iterable[str],
        x509_ttl: timedelta = DEFAULT_X509_TTL,
        jwt_ttl: timedelta = DEFAULT_JWT_TTL,
        hint: str = "",
        identity: str = "",
        federates_with: Iterable[str] = (),
    ) -> EntryRequest:
        """Check a registration without making it. `Rejected` (see `entries.request_entry`)."""
        return registration.request_entry(
            spiffe_id=spiffe_id,
            selectors=selectors,
            trust_domain=self.trust_domain,
            attestors={**self._local, **self._proofs, NodeSelectors.id: NodeSelectors()},
            x509_ttl=x509_ttl,
            jwt_ttl=jwt_ttl,
            hint=hint,
            identity=identity,
            federates_with=federates_with,
        )

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
        federates_with: Iterable[str] = (),
    ) -> Entry:
        """Register a workload; it counts when this returns. The same registration again returns the one that exists.

        Raises `Rejected` (see `entries.request_entry`) or `Conflict` (`trust.entry.exists`).
        """
        request = self.check_entry(
            spiffe_id=spiffe_id,
            selectors=selectors,
            x509_ttl=x509_ttl,
            jwt_ttl=jwt_ttl,
            hint=hint,
            identity=identity,
            federates_with=federates_with,
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

    def _is_revoked(self, svid: X509Svid | JwtSvid, agent: str = "") -> bool:
        return self.revoked(
            id=f"{svid.serial:x}" if isinstance(svid, X509Svid) else svid.token_id,
            spiffe_id=str(svid.spiffe_id),
            entry=svid.entry,
            agent=agent,
            authority=svid.authority,
            issued_at=svid.issued,
        )

    def _is_revoked_token(self, found: SvidClaims) -> bool:
        issued_at = jose.moment(found.claims, "iat")
        if issued_at is not None:
            # `iat` is cut to the second. What fell in that second is known by its id.
            issued_at += timedelta(microseconds=999_999)
        return self.revoked(id=str(found.claims.get("jti", "")), spiffe_id=str(found.spiffe_id), issued_at=issued_at)

    def _check_standing(self, svids: Sequence[X509Svid | JwtSvid], agent: str) -> None:
        """What was revoked while the ledger was written is not handed out, and nothing to an agent that is revoked."""
        if agent and any(self.revoked(agent=agent, issued_at=one.issued) for one in svids):
            raise Denied(
                "trust.agent.revoked",
                f"agent `{agent}` is revoked",
                next_step=f"`remit restore agent:{agent}`, once its machine can be trusted",
            )
        if any(self._is_revoked(one, agent) for one in svids):
            raise Unavailable("trust.svid.raced", "these identities were revoked just now", retry_after=timedelta(0))

    async def signing_key(self, authority_id: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Certificate and key of an X.509 authority, to sign its revocation list. `NotFound`, `Conflict`."""
        return await self._keeper.signing_key(authority_id)

    def name_issuer(self, issuer: str) -> None:
        """Say in the JWT-SVIDs that come who issued them: the URL below which OpenID verifiers find our keys."""
        self._issuer.named = issuer

    def token_key(self) -> tuple[str, ec.EllipticCurvePrivateKey]:
        """The `kid` and the key that sign tokens now."""
        keyring = self._keeper.keyring
        return keyring.token_authority.id, keyring.token_key

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


def _nothing_revoked(**known: object) -> bool:
    return False


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
