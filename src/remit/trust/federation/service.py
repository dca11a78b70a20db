"""Keeps what partners publish: fetches each bundle when its hint says so, and withdraws it when the relation ends.

    relation added ──► fetch ──► newer sequence? ──► held, signed here ──► `TrustService.foreign_bundles`, streams woken
                         ▲            │ no: refused, reported, the held one stays
                         └── next interval (refresh hint, 10 s to 1 day, ±10 %), also after a failure
    until has passed, or removed ──► bundle withdrawn at once

Bundles are held for each trust domain apart and never merged: whoever verifies asks for the domain that an SVID names.

Spec: SPIFFE Federation §5; SPIFFE Trust Domain and Bundle §4.1 (sequence number, refresh hint).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock, rfc3339
from remit.kernel.errors import Denied, Rejected, RemitError
from remit.kernel.unit import Attester, Store
from remit.providers.bundles import SpiffeServer
from remit.trust.bundle import Bundle
from remit.trust.federation import terms
from remit.trust.federation.document import read_bundle
from remit.trust.federation.model import HeldBundle, Polling, Profile, Relation
from remit.trust.federation.ports import BundleFetcher, FederationUnit
from remit.trust.federation.terms import RelationRequest
from remit.trust.service import TrustService
from remit.trust.spiffe import SpiffeId, TrustDomain
from remit.trust.validate import validate_x509_svid

SYSTEM = "system:federation"
_log = logging.getLogger("remit.federation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often partners are asked."""

    least: timedelta = timedelta(seconds=10)
    most: timedelta = timedelta(days=1)
    jitter: float = 0.1
    """Share of the interval by which it varies either way, so that partners are not asked all at once."""
    stale_after: int = 3
    """Intervals without an answer after which a bundle is called stale."""
    at_once: int = 4
    """Endpoints that are asked at the same time."""


@dataclass(slots=True)
class _Partner:
    """One relation, and what is held of the partner. Belongs to the event loop."""

    relation: Relation
    held: HeldBundle | None = None
    bundle: Bundle | None = None
    polling: Polling = field(default_factory=Polling)
    next_poll: float = 0.0
    """By the monotonic clock."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerView:
    """A relation as people see it."""

    relation: Relation
    held: HeldBundle | None
    bundle: Bundle | None
    polling: Polling
    stale: bool
    """No bundle, or no answer for several intervals: keys that the partner revoked since may still count here."""


class Federation:
    """The relations of one installation. `open`, then `run` as one task; `chance()` gives 0 ≤ x < 1."""

    def __init__(
        self,
        store: Store[FederationUnit],
        *,
        attester: Attester,
        clock: Clock,
        trust: TrustService,
        fetcher: BundleFetcher,
        chance: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._attester = attester
        self._clock = clock
        self._trust = trust
        self._fetcher = fetcher
        self._chance = chance
        self._pace = pace or Pace()
        self._partners: dict[str, _Partner] = {}
        self._refused: tuple[str, ...] = ()
        self._moved = asyncio.Event()

    # Life.

    async def open(self) -> None:
        """Load the relations that count, and the bundles that were fetched under them."""
        await self._store.write(lambda unit: terms.end_relations(unit, actor=SYSTEM))
        await self.reload()
        self._trust.admits_foreign = self.accepts

    async def reload(self) -> None:
        """Read relations and bundles again: what another node changed, or what a hostile hand did not sign."""

        def read(unit: FederationUnit) -> tuple[Sequence[Relation], Sequence[HeldBundle]]:
            return unit.federation.relations(), unit.federation.bundles()

        relations, bundles = await self._store.read(read)
        genuine = {one.trust_domain.name: one for one in relations if terms.is_genuine(one, self._attester)}
        held = {one.trust_domain.name: one for one in bundles if terms.is_genuine_bundle(one, self._attester)}
        before, self._partners = self._partners, {}
        for name, relation in genuine.items():
            partner = self._partners[name] = before.get(name) or _Partner(relation=relation)
            partner.relation = relation
            self._hold(partner, held.get(name))
        self._refused = tuple(
            f"{what} `{one.trust_domain}` was not signed by this installation, or is not the newest"
            for what, rows, kept in (("the relation with", relations, genuine), ("the bundle of", bundles, held))
            for one in rows
            if one.trust_domain.name not in kept
        )
        self._publish()

    async def run(self) -> None:
        """Poll, and end what is over, until cancelled: one task of the composition root."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._moved.clear()
                await self._end_over()
                now = self._clock.monotonic()
                due = [one for one in self._partners.values() if one.next_poll <= now and not one.busy.locked()]
                for partner in due[: self._pace.at_once - len(running)]:
                    partner.next_poll = now + self._interval(partner).total_seconds()
                    task = asyncio.create_task(self._poll(partner), name="remit-federation-poll")
                    running.add(task)
                    task.add_done_callback(running.discard)
                    task.add_done_callback(lambda _: self._moved.set())
                try:
                    async with asyncio.timeout(self._pause(len(running))):
                        await self._moved.wait()
                except TimeoutError:
                    continue
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was found in the database and not loaded; for `doctor`."""
        return self._refused

    # What is asked.

    def partners(self) -> tuple[PartnerView, ...]:
        """Every relation in force, by the name of its trust domain."""
        return tuple(self._view(self._partners[name]) for name in sorted(self._partners))

    def partner(self, trust_domain: str) -> PartnerView:
        """The relation with it; `NotFound` (`trust.federation.unknown`)."""
        return self._view(self._known(trust_domain))

    def accepts(self, spiffe_id: SpiffeId, now: datetime) -> bool:
        """Whether this id of another trust domain may act here now: by its relation's ids and end, else never."""
        partner = self._partners.get(spiffe_id.trust_domain.name)
        return partner is not None and partner.relation.admits(spiffe_id, now)

    def require(self, spiffe_id: SpiffeId, now: datetime) -> None:
        """As `accepts`; raises `Denied` (`trust.federation.denied`). Our own ids pass: they are not foreign."""
        if spiffe_id.trust_domain != self._trust.trust_domain and not self.accepts(spiffe_id, now):
            raise Denied(
                "trust.federation.denied",
                f"no relation in force lets `{str(spiffe_id)[:200]}` act here",
                next_step="see the bounds by `remit federation ls`",
            )

    def bundle_of(self, trust_domain: TrustDomain) -> Bundle | None:
        """Our own bundle, or the held one of a partner whose relation is in force now; never another's."""
        if trust_domain == self._trust.trust_domain:
            return self._trust.bundle
        partner = self._partners.get(trust_domain.name)
        if partner is None or self._clock.now() >= partner.relation.until:
            return None
        return partner.bundle

    # Change.

    async def add(
        self,
        request: RelationRequest,
        *,
        by: str,
        document: bytes | None = None,
        replaces: bool = False,
        approval: Mapping[str, Json] | None = None,
    ) -> PartnerView:
        """Federate: recorded first, then fetched once. That the endpoint does not answer now is no error.

        `document` is the bundle to begin with, had from the partner by another way; an endpoint that proves itself by
        an SVID of its own domain cannot be trusted without one. Raises what `terms.add_relation` raises, and
        `Rejected` (`trust.bundle.malformed`, `trust.federation.bootstrap`).
        """
        bundle = read_bundle(request.trust_domain, document) if document is not None else None
        await self._require_bootstrap(request, bundle, replaces=replaces)

        def work(unit: FederationUnit) -> tuple[Relation, HeldBundle | None]:
            relation = terms.add_relation(
                unit, request, by=by, attester=self._attester, replaces=replaces, approval=approval
            )
            held = None
            if bundle is not None and document is not None:
                held = self._keep(unit, relation, bundle, document, actor=by)
            return relation, held

        relation, held = await self._store.write(work)
        name = relation.trust_domain.name
        partner = self._partners.get(name)
        if partner is None:
            partner = self._partners[name] = _Partner(relation=relation)
        partner.relation = relation
        if held is not None:
            self._hold(partner, held)
        self._publish()
        await self._poll(partner)
        return self._view(partner)

    async def remove(self, trust_domain: str, *, actor: str) -> Relation:
        """End a relation: its bundle is gone from every stream when this returns. `NotFound`."""
        relation = await self._store.write(lambda unit: terms.remove_relation(unit, trust_domain, actor=actor))
        self._partners.pop(trust_domain, None)
        self._publish()
        return relation

    async def refresh(self, trust_domain: str) -> PartnerView:
        """Fetch now; how it went is in what returns. `NotFound` (`trust.federation.unknown`)."""
        partner = self._known(trust_domain)
        await self._poll(partner)
        return self._view(partner)

    # Fetching.

    async def _poll(self, partner: _Partner) -> None:
        """Fetch once; whatever goes wrong is reported, and the held bundle stays."""
        async with partner.busy:
            before, now = partner.polling, self._clock.now()
            try:
                await self._fetch(partner)
            except RemitError as error:
                partner.polling = replace(before, tried=now, error=error.message, code=error.code)
                await self._report(partner, before)
            except Exception:  # supervisor: one partner's answer must not end the polling of the others
                _log.exception("the bundle of %s could not be fetched", partner.relation.trust_domain)
                partner.polling = replace(before, tried=now, error="a bug; see the log", code="trust.federation.failed")
            else:
                partner.polling = Polling(tried=now, succeeded=now)
            partner.next_poll = self._clock.monotonic() + self._interval(partner).total_seconds()
        self._moved.set()

    async def _fetch(self, partner: _Partner) -> None:
        relation = partner.relation
        document = await self._fetcher.fetch(relation.url, server=self._server(relation))
        bundle = read_bundle(relation.trust_domain, document)

        def work(unit: FederationUnit) -> HeldBundle | None:
            # The relation may have been removed, replaced or ended while we waited.
            current = unit.federation.relation(relation.trust_domain.name)
            if current is None or current.id != relation.id or unit.now >= current.until:
                return None
            return self._keep(unit, relation, bundle, document, actor=SYSTEM)

        held = await self._store.write(work)
        if held is not None and partner.relation.id == relation.id:
            self._hold(partner, held)
            self._publish()

    def _server(self, relation: Relation) -> SpiffeServer | None:
        """Whom the endpoint must prove to be, by the bundle that we hold now of the domain that was configured."""
        if relation.profile is Profile.HTTPS_WEB:
            return None
        expected = relation.endpoint_id
        assert expected is not None, "a relation by https_spiffe has an endpoint id"
        bundle = self.bundle_of(expected.trust_domain)
        if bundle is None:
            raise Rejected(
                "trust.federation.bootstrap",
                f"we hold no bundle of `{expected.trust_domain}` to verify the endpoint with",
                next_step="add the relation again with `--bundle FILE`, had from the partner by another way",
            )

        def verify(chain: Sequence[bytes]) -> None:
            found = validate_x509_svid(chain, lambda domain: _same(domain, bundle), self._clock.now())
            if found.spiffe_id != expected:
                raise Rejected(
                    "trust.federation.endpoint",
                    f"the endpoint is `{str(found.spiffe_id)[:200]}` and should be `{expected}`",
                    next_step="compare the endpoint id with what the partner gave",
                )

        return SpiffeServer(roots=bundle.x509_roots, verify=verify)

    def _keep(
        self, unit: FederationUnit, relation: Relation, bundle: Bundle, document: bytes, *, actor: str
    ) -> HeldBundle | None:
        """Hold this document if it is newer; `None` when nothing changes. `Rejected` (`trust.federation.sequence`)."""
        before = unit.federation.bundle(relation.trust_domain.name)
        if before is not None and not terms.is_genuine_bundle(before, self._attester):
            before = None
        if before is not None and not _is_newer(before, bundle, document):
            return None
        held = HeldBundle(trust_domain=relation.trust_domain, document=document, fetched=unit.now)
        held = replace(held, signature=self._attester.sign(terms.BUNDLE_SIGNED_AS, held.as_json()))
        unit.federation.put_bundle(held)
        data: dict[str, Json] = {
            **held.as_json(),
            "relation": relation.id,
            "sequence": str(bundle.sequence),
            "x509_roots": len(bundle.x509_roots),
            "jwt_keys": len(bundle.jwt_keys),
        }
        unit.record("trust.federation.refreshed", actor=actor, subject=relation.trust_domain.id, data=data)
        return held

    async def _report(self, partner: _Partner, before: Polling) -> None:
        """Into the ledger, once for each new reason: an endpoint that stays away must not fill it."""
        polling, relation = partner.polling, partner.relation
        if (polling.code, polling.error) == (before.code, before.error):
            return
        data: dict[str, Json] = {"relation": relation.id, "code": polling.code, "reason": polling.error}

        def work(unit: FederationUnit) -> None:
            unit.record("trust.federation.refused", actor=SYSTEM, subject=relation.trust_domain.id, data=data)

        try:
            await self._store.write(work)
        except RemitError as error:
            _log.warning("what %s served is not in the ledger: %s", relation.trust_domain, error)

    async def _require_bootstrap(self, request: RelationRequest, bundle: Bundle | None, *, replaces: bool) -> None:
        endpoint = request.endpoint_id
        if endpoint is None or bundle is not None or endpoint.trust_domain != request.trust_domain:
            return
        held = self._partners.get(request.trust_domain.name) if replaces else None
        if held is None or held.bundle is None:
            raise Rejected(
                "trust.federation.bootstrap",
                f"an endpoint that is `{endpoint}` cannot be verified without a bundle of `{request.trust_domain}`",
                next_step="give `--bundle FILE`, had from the partner by another way",
            )

    # In memory.

    def _hold(self, partner: _Partner, held: HeldBundle | None) -> None:
        if held is not None and held == partner.held:
            return
        partner.held = held
        partner.bundle = _bundle_in(held) if held is not None else None

    def _publish(self) -> None:
        now = self._clock.now()
        self._trust.foreign_bundles = {
            name: one.bundle
            for name, one in self._partners.items()
            if one.bundle is not None and now < one.relation.until
        }
        self._trust.wake()
        self._moved.set()

    async def _end_over(self) -> None:
        now = self._clock.now()
        over = [name for name, one in self._partners.items() if one.relation.until <= now]
        if not over:
            return
        for name in over:
            del self._partners[name]
        # Withdrawn before it is recorded: taking rights away does not wait for the database.
        self._publish()
        try:
            await self._store.write(lambda unit: terms.end_relations(unit, actor=SYSTEM))
        except RemitError as error:
            _log.warning("the end of a relation is not in the ledger yet: %s", error)

    def _interval(self, partner: _Partner) -> timedelta:
        hint = partner.bundle.refresh_hint if partner.bundle is not None else timedelta(minutes=5)
        bounded = min(max(hint, self._pace.least), self._pace.most)
        return bounded * (1 + self._pace.jitter * (2 * self._chance() - 1))

    def _pause(self, running: int) -> float:
        """Seconds until something is to be done, a minute at most: clocks jump."""
        mono, now = self._clock.monotonic(), self._clock.now()
        waits = [60.0, *((one.relation.until - now).total_seconds() for one in self._partners.values())]
        if running < self._pace.at_once:
            waits += [one.next_poll - mono for one in self._partners.values() if not one.busy.locked()]
        return max(0.01, min(waits))

    def _known(self, trust_domain: str) -> _Partner:
        partner = self._partners.get(trust_domain)
        if partner is None:
            raise terms.unknown(trust_domain)
        return partner

    def _view(self, partner: _Partner) -> PartnerView:
        hint = partner.bundle.refresh_hint if partner.bundle is not None else self._pace.least
        patience = max(hint, self._pace.least) * self._pace.stale_after
        last = partner.polling.succeeded or (partner.held.fetched if partner.held is not None else None)
        return PartnerView(
            relation=partner.relation,
            held=partner.held,
            bundle=partner.bundle,
            polling=partner.polling,
            stale=last is None or self._clock.now() - last > patience,
        )


def _same(domain: TrustDomain, bundle: Bundle) -> Bundle | None:
    return bundle if domain == bundle.trust_domain else None


def _bundle_in(held: HeldBundle) -> Bundle | None:
    """What we hold, parsed; `None` where a version before us took what we would not: it is fetched anew."""
    try:
        return read_bundle(held.trust_domain, held.document)
    except Rejected as error:
        _log.warning("the bundle of %s that is held cannot be read: %s", held.trust_domain, error)
        return None


def _is_newer(before: HeldBundle, bundle: Bundle, document: bytes) -> bool:
    """Whether the sequence number says so; where neither has one, whether the document is another."""
    known = _bundle_in(before)
    if known is None:
        return True
    held = known.sequence
    if bundle.sequence < held:
        raise Rejected(
            "trust.federation.sequence",
            f"the endpoint serves sequence {bundle.sequence}, and we hold {held}, of {rfc3339(before.fetched)}",
            next_step="ask the partner whether its trust domain was restored; remove and add the relation if so",
        )
    return document != before.document if held == bundle.sequence == 0 else bundle.sequence > held
