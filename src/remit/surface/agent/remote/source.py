"""What the agent holds for the workloads of its node: entries, bundles, SVIDs with the keys that it made itself.

An SVID belongs to an entry, and every process that shows what the entry asks for gets that one: so it is there before
the first process is, and while the control plane is away. What is withdrawn is gone at once.
All methods belong to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from cryptography import x509

from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Rejected, Unavailable
from remit.trust.attestors.look import look
from remit.trust.authority.jwt import subject_of, verify_token
from remit.trust.bundle import Bundle
from remit.trust.entries import EntryIndex, attestors_by_id
from remit.trust.issue import renewal
from remit.trust.model import Entry, Evidence, JwtSvid, Selector, SvidClaims, X509Svid
from remit.trust.ports import Attestor, X509Set
from remit.trust.process import Peer
from remit.trust.service import MAX_SVIDS
from remit.trust.spiffe import SpiffeId, TrustDomain

_MOST_TOKENS = 4096
_SOON = timedelta(seconds=5)
_LAST_SECONDS = timedelta(seconds=10)
"""A token that was kept is not handed out in its last seconds."""

FetchX509 = Callable[[Sequence[Entry], Evidence], Awaitable[None]]
FetchJwt = Callable[[Sequence[Entry], Evidence, Sequence[str]], Awaitable[Sequence[JwtSvid]]]
Hand = Callable[[Evidence, Sequence[X509Svid | JwtSvid]], None]


class RemoteSource:
    """Implements `trust.ports.WorkloadSource` from what the control plane said last.

    `fetch_x509` brings SVIDs of entries into `keep`, `fetch_jwt` asks for tokens; both raise `Unavailable` while the
    control plane is away. `handed` hears of everything that a process gets.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        attestors: Sequence[Attestor],
        clock: Clock,
        fetch_x509: FetchX509,
        fetch_jwt: FetchJwt,
        handed: Hand,
    ) -> None:
        self._bundle = bundle
        self._local = attestors_by_id(attestors)
        self._clock = clock
        self._fetch_x509 = fetch_x509
        self._fetch_jwt = fetch_jwt
        self._handed = handed
        self._node: frozenset[Selector] = frozenset()
        self._index = EntryIndex()
        self._foreign: Mapping[str, Bundle] = {}
        self._crls: tuple[bytes, ...] = ()
        self._revoked: frozenset[int] = frozenset()
        self._authorities: frozenset[str] = frozenset()
        self._svids: dict[str, X509Svid] = {}
        self._tokens: OrderedDict[tuple[str, tuple[str, ...]], JwtSvid] = OrderedDict()
        self._version = 0
        self._moved = asyncio.Event()
        self.ready = False

    # What the control plane says.

    def update(
        self,
        *,
        node: frozenset[Selector] | None = None,
        entries: Iterable[Entry] | None = None,
        foreign: Mapping[str, Bundle] | None = None,
        crls: Sequence[bytes] | None = None,
        authorities: Iterable[str] | None = None,
    ) -> None:
        """Take over what changed, and tell every stream. An SVID whose entry changed or went is gone with it."""
        if node is not None:
            self._node = node
        if foreign is not None:
            self._foreign = dict(foreign)
        if authorities is not None:
            self._authorities = frozenset(authorities)
        if crls is not None and tuple(crls) != self._crls:
            self._crls, self._revoked = tuple(crls), _serials(crls)
        if entries is not None:
            self._replace(entries)
        self._drop(one for one, svid in self._svids.items() if svid.serial in self._revoked)
        self.ready = True
        self._wake()

    def update_bundle(self, bundle: Bundle) -> None:
        """Take over the bundle of our own trust domain."""
        self._bundle = bundle
        self._wake()

    def is_replaced(self, authority: str) -> bool:
        """Whether what this authority signed should be replaced now."""
        return bool(self._authorities) and authority not in self._authorities

    def end(self) -> None:
        """Serve nothing more: the node was evicted or banned."""
        self._index = EntryIndex()
        self._svids.clear()
        self._tokens.clear()
        self._wake()

    def keep(self, svids: Iterable[X509Svid]) -> None:
        """SVIDs that were fetched; one whose entry went meanwhile is not kept."""
        for svid in svids:
            if self._index.get(svid.entry) is not None and svid.serial not in self._revoked:
                self._svids[svid.entry] = svid
        self._wake()

    def expire(self) -> None:
        """Let go of what has expired; streams that had it are told."""
        now = self._clock.now()
        old = [one for one, svid in self._svids.items() if svid.expires <= now]
        for key in [key for key, token in self._tokens.items() if token.expires <= now]:
            del self._tokens[key]
        self._drop(old)
        if old:
            self._wake()

    # What is asked of it.

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry of the node, oldest first."""
        return self._index.all()

    @property
    def svids(self) -> Mapping[str, X509Svid]:
        """What is held, by entry."""
        return self._svids

    def due(self) -> list[Entry]:
        """Entries whose SVID is missing, or should be replaced, oldest first."""
        return [entry for entry in self.entries if self._is_due(self._svids.get(entry.id))]

    def next_due(self) -> datetime | None:
        """When the next SVID should be replaced, or expires."""
        return min((renewal(one) for one in self._svids.values()), default=None)

    @property
    def trust_domain(self) -> TrustDomain:
        return self._bundle.trust_domain

    @property
    def version(self) -> int:
        return self._version

    @property
    def bundle(self) -> Bundle:
        return self._bundle

    def now(self) -> datetime:
        return self._clock.now()

    async def changed(self, seen: int) -> int:
        while self._version == seen:
            await self._moved.wait()
        return self._version

    async def attest(self, peer: Peer) -> Evidence:
        first, *others = self._local.values()
        asked = [first, *(one for one in others if self._index.asks_for(one.id))]
        return await asyncio.to_thread(look, asked, peer, self._clock.now())

    def require(self, evidence: Evidence) -> tuple[Entry, ...]:
        found = self._index.match(evidence.selectors | self._node)[:MAX_SVIDS]
        if not found:
            raise Denied(
                "trust.workload.unknown",
                "no identity issued: no registration entry of this node matches this workload",
                next_step="register it by `remit entry create`, with a selector of the node",
            )
        return found

    def federated(self, entries: Sequence[Entry]) -> Mapping[str, Bundle]:
        wanted = {name for entry in entries for name in entry.federates_with}
        return {one.trust_domain.id: one for name, one in self._foreign.items() if name in wanted}

    def crls(self) -> Sequence[bytes]:
        return self._crls

    async def x509_svids(self, evidence: Evidence) -> X509Set:
        entries = self.require(evidence)
        missing = [entry for entry in entries if not self._counts(self._svids.get(entry.id))]
        held = len(missing) < len(entries)
        if missing:
            try:
                await self._fetch_x509(missing, evidence)
            except Unavailable:
                if not held:
                    raise
        still = {entry.id for entry in self.require(evidence)}
        svids = [self._svids.get(entry.id) for entry in entries if entry.id in still]
        found = tuple(one for one in svids if one is not None and self._counts(one))
        if not found:
            raise Unavailable("agent.svid.missing", "no SVID could be had just now", retry_after=timedelta(seconds=1))
        self._handed(evidence, found)
        # What is overdue comes by itself, as soon as the control plane is there: the stream is woken then.
        renew = max(min(renewal(one) for one in found), self._clock.now() + _SOON)
        return X509Set(svids=found, bundle=self._bundle, renew=renew)

    async def jwt_svids(
        self, evidence: Evidence, audience: Sequence[str], *, spiffe_id: str = ""
    ) -> tuple[JwtSvid, ...]:
        entries = self.require(evidence)
        if spiffe_id:
            asked = SpiffeId.parse(spiffe_id)
            entries = tuple(entry for entry in entries if entry.spiffe_id == asked)
            if not entries:
                raise Denied("trust.workload.unknown", f"no identity issued: this workload is not `{spiffe_id[:200]}`")
        try:
            found = tuple(await self._fetch_jwt(entries, evidence, audience))
            self._remember(found, audience)
        except Unavailable:
            found = self._kept(entries, audience)
            if not found:
                raise
        still = {entry.id for entry in self.require(evidence)}
        found = tuple(one for one in found if one.entry in still)
        self._handed(evidence, found)
        return found

    def validate_jwt(self, token: str, audience: str) -> SvidClaims:
        domain = subject_of(token).trust_domain
        bundle = self._bundle if domain == self.trust_domain else self._foreign.get(domain.name)
        if bundle is None:
            raise Rejected("trust.jwt_svid.foreign", "the token is of a trust domain that we hold no bundle of")
        return verify_token(token, bundle.jwt_keys, audience=audience, now=self._clock.now())

    # Inside.

    def _replace(self, entries: Iterable[Entry]) -> None:
        before, index = self._index, EntryIndex(entries)
        self._index = index
        self._drop(one for one in self._svids if index.get(one) is None or index.get(one) != before.get(one))
        for key in [key for key in self._tokens if index.get(key[0]) is None]:
            del self._tokens[key]

    def _drop(self, entry_ids: Iterable[str]) -> None:
        for entry_id in list(entry_ids):
            self._svids.pop(entry_id, None)

    def _counts(self, svid: X509Svid | None) -> bool:
        return svid is not None and svid.expires > self._clock.now() and svid.serial not in self._revoked

    def _is_due(self, svid: X509Svid | None) -> bool:
        if svid is None or not self._counts(svid):
            return True
        return self._clock.now() >= renewal(svid) or self.is_replaced(svid.authority)

    def _remember(self, tokens: Sequence[JwtSvid], audience: Sequence[str]) -> None:
        for token in tokens:
            self._tokens[token.entry, tuple(audience)] = token
            self._tokens.move_to_end((token.entry, tuple(audience)))
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)

    def _kept(self, entries: Sequence[Entry], audience: Sequence[str]) -> tuple[JwtSvid, ...]:
        """Tokens of before, for the time that the control plane is away: better one again than none."""
        until = self._clock.now() + _LAST_SECONDS
        held = [self._tokens.get((entry.id, tuple(audience))) for entry in entries]
        return tuple(one for one in held if one is not None and one.expires > until)

    def _wake(self) -> None:
        self._version += 1
        self._moved.set()
        self._moved = asyncio.Event()


def _serials(crls: Sequence[bytes]) -> frozenset[int]:
    found: set[int] = set()
    for der in crls:
        try:
            found.update(one.serial_number for one in x509.load_der_x509_crl(der))
        except ValueError:
            continue
    return frozenset(found)
