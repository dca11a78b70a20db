"""Relations with partners, what is held of them, and what they may not do to us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, RemitError, Unavailable
from remit.trust import AuthorityKind, AuthorityPolicy, TrustDomain, TrustService
from remit.trust.federation.service import Federation, Pace
from remit.trust.federation.terms import MAX_LIFE, RelationRequest, is_genuine, request_relation
from remit.trust.federation.testing import CannedFetcher, MemoryFederationStore
from remit.trust.spiffe import SpiffeId
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustStore, PlainSealer

URL = "https://partner.test/bundle"
OWN = TrustDomain("remit.test")


def trust_service(name: str, clock: ManualClock) -> TrustService:
    return TrustService(
        MemoryTrustStore(clock),
        sealer=PlainSealer(),
        attester=KeyedAttester(),
        clock=clock,
        trust_domain=TrustDomain(name),
    )


@dataclass(slots=True)
class House:
    """Our side, in memory, and a partner whose endpoint says what the test wants."""

    clock: ManualClock
    store: MemoryFederationStore
    fetcher: CannedFetcher
    trust: TrustService
    partner: TrustService
    federation: Federation

    def ask(self, **other: Any) -> RelationRequest:
        terms: dict[str, Any] = {
            "own": OWN,
            "trust_domain": "partner.test",
            "url": URL,
            "profile": "https_web",
            "until": self.clock.now() + timedelta(days=30),
            "ids": ["/billing/*"],
            "resources": ["target/orders"],
            "now": self.clock.now(),
        }
        return request_relation(**{**terms, **other})

    def serve(self, **changed: Any) -> bytes:
        """Let the endpoint answer the partner's bundle, with members of the document changed."""
        document = {**json.loads(self.partner.bundle_document()), **changed}
        self.fetcher.answers[URL] = raw = json.dumps(document).encode()
        return raw

    def roots(self) -> tuple[bytes, ...]:
        found = self.trust.foreign_bundles.get("partner.test")
        return found.x509_roots if found is not None else ()

    def code(self) -> str:
        return self.federation.partner("partner.test").polling.code


def run(steps: Callable[[House], Awaitable[None]]) -> None:
    async def whole() -> None:
        clock = ManualClock(NOON)
        trust, partner = trust_service("remit.test", clock), trust_service("partner.test", clock)
        store, fetcher = MemoryFederationStore(clock), CannedFetcher()
        await trust.open()
        await partner.open()
        federation = Federation(
            store, attester=KeyedAttester(), clock=clock, trust=trust, fetcher=fetcher, chance=lambda: 0.5
        )
        await federation.open()
        house = House(clock, store, fetcher, trust, partner, federation)
        house.serve()
        await asyncio.wait_for(steps(house), 60)
        await trust.close()
        await partner.close()

    asyncio.run(whole())


def refused(**terms: Any) -> str:
    codes: list[str] = []

    async def steps(house: House) -> None:
        with pytest.raises(Rejected) as refusal:
            house.ask(**terms)
        codes.append(refusal.value.code)

    run(steps)
    return codes[0]


# Terms.


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"trust_domain": "remit.test"}, "trust.federation.self"),
        ({"trust_domain": "spiffe://remit.test"}, "trust.federation.self"),
        ({"trust_domain": "Partner.test"}, "trust.trust_domain.malformed"),
        ({"url": "http://partner.test/bundle"}, "providers.bundle.address"),
        ({"url": "https://user:secret@partner.test/"}, "providers.bundle.address"),
        ({"url": "https://partner.test/#x"}, "providers.bundle.address"),
        ({"url": "https://"}, "providers.bundle.address"),
        ({"profile": "https"}, "trust.federation.profile"),
        ({"profile": "https_spiffe"}, "trust.federation.endpoint_id"),
        ({"endpoint_id": "spiffe://partner.test/server"}, "trust.federation.endpoint_id"),
        ({"until": NOON}, "trust.federation.until"),
        ({"until": NOON + MAX_LIFE + timedelta(seconds=1)}, "trust.federation.until"),
        ({"ids": []}, "trust.federation.ids"),
        ({"ids": ["spiffe://other.test/x"]}, "trust.federation.ids"),
        ({"ids": ["/a*"]}, "trust.spiffe_id.malformed"),
        ({"ids": ["/a/*/b"]}, "trust.spiffe_id.malformed"),
        ({"ids": ["*"]}, "trust.spiffe_id.malformed"),
        ({"ids": ['/a" || true || "']}, "trust.spiffe_id.malformed"),
        ({"ids": ["/" + "a" * 600]}, "trust.federation.ids"),
        ({"ids": [f"/a/{n}" for n in range(33)]}, "trust.federation.ids"),
        ({"resources": []}, "trust.federation.resources"),
        ({"resources": ['x"} ; permit (principal, action, resource);']}, "trust.federation.resources"),
        ({"resources": ["a*b"]}, "trust.federation.resources"),
        ({"reason": "two\nlines"}, "trust.federation.reason"),
    ],
)
def test_terms_that_cannot_be_meant_are_refused(terms: dict[str, Any], code: str) -> None:
    assert refused(**terms) == code


def test_ids_are_kept_in_full_and_once() -> None:
    async def steps(house: House) -> None:
        asked = house.ask(ids=["/a/*", "spiffe://partner.test/a/*", "/*", "/b"])
        assert asked.ids == ("spiffe://partner.test/a/*", "spiffe://partner.test/*", "spiffe://partner.test/b")

    run(steps)


def test_an_altered_relation_does_not_verify() -> None:
    async def steps(house: House) -> None:
        view = await house.federation.add(house.ask(), by="person:ann")
        wider = replace(view.relation, ids=("spiffe://partner.test/*",))
        assert is_genuine(view.relation, KeyedAttester())
        assert not is_genuine(wider, KeyedAttester())

    run(steps)


# Life.


def test_a_relation_brings_the_bundle_and_wakes_streams() -> None:
    async def steps(house: House) -> None:
        seen = house.trust.version
        view = await house.federation.add(house.ask(), by="person:ann")
        assert house.roots() == house.partner.bundle.x509_roots
        assert house.trust.version > seen
        assert not view.stale and view.polling.error == ""
        assert house.store.types() == ["trust.federation.added", "trust.federation.refreshed"]

    run(steps)


def test_an_endpoint_that_is_away_is_no_reason_not_to_begin() -> None:
    async def steps(house: House) -> None:
        house.fetcher.answers[URL] = Unavailable("providers.bundle.unreachable", "it does not answer")
        view = await house.federation.add(house.ask(), by="person:ann")
        assert (view.stale, view.polling.code, house.roots()) == (True, "providers.bundle.unreachable", ())
        house.serve()
        again = await house.federation.refresh("partner.test")
        assert (again.stale, again.polling.error) == (False, "")

    run(steps)


def test_a_second_relation_needs_to_be_said() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        with pytest.raises(Conflict) as refusal:
            await house.federation.add(house.ask(ids=["/*"]), by="person:ann")
        view = await house.federation.add(house.ask(ids=["/*"]), by="person:bo", replaces=True)
        assert refusal.value.code == "trust.federation.exists"
        assert view.relation.ids == ("spiffe://partner.test/*",) and house.roots()

    run(steps)


def test_a_removed_relation_leaves_nothing_at_once() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        await house.federation.remove("partner.test", actor="person:ann")
        assert house.trust.foreign_bundles == {}
        assert house.store.rows.bundles() == []
        with pytest.raises(NotFound):
            house.federation.partner("partner.test")

    run(steps)


def test_at_its_end_a_relation_is_withdrawn_and_recorded() -> None:
    async def steps(house: House) -> None:
        until = house.clock.now() + timedelta(hours=1)
        await house.federation.add(house.ask(until=until), by="person:ann")
        running = asyncio.create_task(house.federation.run())
        house.clock.advance(timedelta(hours=1))
        house.federation._moved.set()
        while house.store.types()[-1] != "trust.federation.ended":
            await asyncio.sleep(0.01)
        running.cancel()
        assert house.trust.foreign_bundles == {}
        assert house.store.rows.relations() == []

    run(steps)


def test_past_the_end_nothing_is_accepted_even_before_anybody_tidied_up() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(until=house.clock.now() + timedelta(hours=1)), by="person:ann")
        house.clock.advance(timedelta(hours=1))
        assert house.federation.bundle_of(TrustDomain("partner.test")) is None
        assert not house.federation.accepts(SpiffeId.parse("spiffe://partner.test/billing/x"), house.clock.now())

    run(steps)


def test_a_start_after_the_end_ends_it_first() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(until=house.clock.now() + timedelta(hours=1)), by="person:ann")
        house.clock.advance(timedelta(hours=2))
        await house.federation.open()
        assert house.federation.partners() == () and house.store.types()[-1] == "trust.federation.ended"

    run(steps)


def test_who_may_act_is_asked_by_id_and_time() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        house.federation.require(SpiffeId.parse("spiffe://partner.test/billing/x"), house.clock.now())
        house.federation.require(SpiffeId.parse("spiffe://remit.test/own"), house.clock.now())
        for other in ("spiffe://partner.test/other", "spiffe://stranger.test/billing/x"):
            with pytest.raises(Denied):
                house.federation.require(SpiffeId.parse(other), house.clock.now())

    run(steps)


# What is held.


def test_a_lower_sequence_is_refused_and_the_held_bundle_stays() -> None:
    async def steps(house: House) -> None:
        await house.partner.rotate_authority(AuthorityKind.X509, actor="person:ann")
        house.serve()
        await house.federation.add(house.ask(), by="person:ann")
        held = house.roots()
        house.serve(spiffe_sequence=1, keys=[])
        await house.federation.refresh("partner.test")
        assert (house.code(), house.roots()) == ("trust.federation.sequence", held)
        assert house.store.types()[-1] == "trust.federation.refused"

    run(steps)


def test_a_bundle_that_lost_its_sequence_counts_as_lower() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        document = json.loads(house.partner.bundle_document())
        del document["spiffe_sequence"]
        house.fetcher.answers[URL] = json.dumps(document).encode()
        await house.federation.refresh("partner.test")
        assert house.code() == "trust.federation.sequence"

    run(steps)


def test_the_same_sequence_is_no_change_whatever_comes_with_it() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        held, recorded = house.roots(), len(house.store.events)
        house.serve(keys=[])
        await house.federation.refresh("partner.test")
        assert (house.roots(), len(house.store.events), house.code()) == (held, recorded, "")

    run(steps)


def test_a_partner_without_sequences_is_followed_by_content() -> None:
    async def steps(house: House) -> None:
        house.serve(spiffe_sequence=0)
        await house.federation.add(house.ask(), by="person:ann")
        await house.partner.rotate_authority(AuthorityKind.X509, actor="person:ann")
        house.serve(spiffe_sequence=0)
        await house.federation.refresh("partner.test")
        assert house.roots() == house.partner.bundle.x509_roots and len(house.roots()) == 2

    run(steps)


def test_an_empty_bundle_takes_all_keys_away() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        house.serve(keys=[], spiffe_sequence=2**64 - 1)
        view = await house.federation.refresh("partner.test")
        assert house.roots() == () and view.bundle is not None and view.bundle.sequence == 2**64 - 1

    run(steps)


@pytest.mark.parametrize(
    "document",
    [
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"kty":"EC","kty":"RSA"}]}',
        b'{"trust_domains":{"partner.test":{"keys":[]},"partner.test":{"keys":[]}}}',
        b'{"trust_domains":{"other.test":{"keys":[]}}}',
        b'{"trust_domains":[],"spiffe_sequence":7}',
        b'{"trust_domains":{"partner.test":{"keys":[]}},"keys":[]}',
        b"[" * 100_000,
        b"\xff",
        b'{"keys":NaN}',
        b" " * (1024 * 1024 + 1),
    ],
)
def test_a_document_that_two_readers_would_read_differently_is_refused(document: bytes) -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        held = house.roots()
        house.fetcher.answers[URL] = document
        await house.federation.refresh("partner.test")
        assert (house.code(), house.roots()) == ("trust.bundle.malformed", held)

    run(steps)


def test_of_a_map_only_the_partners_own_bundle_is_taken() -> None:
    async def steps(house: House) -> None:
        own = json.loads(house.partner.bundle_document())
        ours = json.loads(house.trust.bundle_document())
        domains = {"partner.test": own, "remit.test": own, "victim.test": ours}
        house.fetcher.answers[URL] = json.dumps({"trust_domains": domains}).encode()
        await house.federation.add(house.ask(), by="person:ann")
        assert set(house.trust.foreign_bundles) == {"partner.test"}
        assert house.roots() == house.partner.bundle.x509_roots

    run(steps)


def test_keys_of_unknown_types_and_uses_are_ignored() -> None:
    async def steps(house: House) -> None:
        keys = json.loads(house.partner.bundle_document())["keys"]
        strange = [{"kty": "OKP", "crv": "Ed25519", "use": "x509-svid"}, {"kty": "EC", "use": "wit-svid", "kid": "1"}]
        house.serve(keys=[*strange, *keys])
        await house.federation.add(house.ask(), by="person:ann")
        assert house.roots() == house.partner.bundle.x509_roots

    run(steps)


def test_the_same_failure_is_recorded_once() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        house.fetcher.answers[URL] = b"no bundle"
        for _ in range(5):
            await house.federation.refresh("partner.test")
        assert house.store.types().count("trust.federation.refused") == 1

    run(steps)


def test_a_bug_in_one_answer_does_not_end_the_polling() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        del house.fetcher.answers[URL]
        await house.federation.refresh("partner.test")
        assert house.code() == "trust.federation.failed" and house.roots()

    run(steps)


def test_a_tampered_bundle_in_the_database_is_not_loaded() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        held = house.store.rows.bundle_rows["partner.test"]
        house.store.rows.put_bundle(replace(held, document=b'{"keys":[]}'))
        await house.federation.reload()
        assert house.trust.foreign_bundles == {}
        assert "partner.test" in house.federation.problems[0]

    run(steps)


def test_a_held_bundle_that_we_cannot_read_any_more_is_fetched_anew() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        held = replace(house.store.rows.bundle_rows["partner.test"], document=b"of another version")
        signature = KeyedAttester().sign("trust.federation.bundle", held.as_json())
        house.store.rows.put_bundle(replace(held, signature=signature))
        await house.federation.reload()
        assert house.roots() == ()
        await house.federation.refresh("partner.test")
        assert house.roots() == house.partner.bundle.x509_roots

    run(steps)


def test_a_relation_that_is_removed_while_its_bundle_is_fetched_stays_removed() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        await house.partner.rotate_authority(AuthorityKind.X509, actor="person:ann")
        house.serve()
        under_way = asyncio.create_task(house.federation.refresh("partner.test"))
        await asyncio.sleep(0)
        await house.federation.remove("partner.test", actor="person:ann")
        await under_way
        assert house.trust.foreign_bundles == {} and house.store.rows.bundles() == []

    run(steps)


# https_spiffe.


def test_an_endpoint_of_its_own_domain_needs_a_bundle_to_begin_with() -> None:
    async def steps(house: House) -> None:
        asked = house.ask(profile="https_spiffe", endpoint_id="spiffe://partner.test/server")
        with pytest.raises(Rejected) as refusal:
            await house.federation.add(asked, by="person:ann")
        await house.federation.add(asked, by="person:ann", document=house.partner.bundle_document())
        assert refusal.value.code == "trust.federation.bootstrap"
        assert house.roots()

    run(steps)


def test_the_endpoint_is_verified_by_the_latest_bundle() -> None:
    async def steps(house: House) -> None:
        first = house.partner.bundle
        asked = house.ask(profile="https_spiffe", endpoint_id="spiffe://partner.test/server")
        await house.federation.add(asked, by="person:ann", document=first.document())
        await house.partner.rotate_authority(AuthorityKind.X509, actor="person:ann")
        house.serve()
        await house.federation.refresh("partner.test")
        await house.federation.refresh("partner.test")
        used = [server.roots for _, server in house.fetcher.asked if server is not None]
        assert used == [first.x509_roots, first.x509_roots, house.partner.bundle.x509_roots]

    run(steps)


def test_an_endpoint_of_another_domain_is_verified_by_that_ones_bundle() -> None:
    async def steps(house: House) -> None:
        asked = house.ask(profile="https_spiffe", endpoint_id="spiffe://hub.test/server")
        await house.federation.add(asked, by="person:ann")
        assert house.code() == "trust.federation.bootstrap" and house.fetcher.asked == []

    run(steps)


# Pace.


@pytest.mark.parametrize(
    ("hint", "seconds"), [(0, 300), (1, 10), (60, 60), (86_400, 86_400), (10**9, 300)], ids=lambda value: str(value)
)
def test_partners_are_asked_by_their_hint_within_bounds(hint: int, seconds: int) -> None:
    async def steps(house: House) -> None:
        house.serve(spiffe_refresh_hint=hint)
        await house.federation.add(house.ask(), by="person:ann")
        partner = house.federation._partners["partner.test"]
        assert partner.next_poll - house.clock.monotonic() == pytest.approx(seconds)

    run(steps)


def test_after_a_failure_the_next_interval_is_waited_for() -> None:
    async def steps(house: House) -> None:
        house.serve(spiffe_refresh_hint=60)
        await house.federation.add(house.ask(), by="person:ann")
        house.fetcher.answers[URL] = Unavailable("providers.bundle.busy", "it is busy")
        await house.federation.refresh("partner.test")
        assert house.federation._partners["partner.test"].next_poll - house.clock.monotonic() == pytest.approx(60)

    run(steps)


def test_a_bundle_that_was_not_fetched_for_three_intervals_is_stale() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        house.clock.advance(timedelta(minutes=15))
        fresh = house.federation.partner("partner.test").stale
        house.clock.advance(timedelta(seconds=1))
        assert (fresh, house.federation.partner("partner.test").stale) == (False, True)

    run(steps)


def test_the_poller_follows_a_rotation_by_itself() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        running = asyncio.create_task(house.federation.run())
        await house.partner.rotate_authority(AuthorityKind.X509, actor="person:ann")
        house.serve()
        house.clock.advance(timedelta(minutes=6))
        house.federation._moved.set()
        while house.roots() != house.partner.bundle.x509_roots:
            await asyncio.sleep(0.01)
        running.cancel()

    run(steps)


def test_a_slow_partner_does_not_hold_up_the_others() -> None:
    async def steps(house: House) -> None:
        arrived, never = asyncio.Event(), asyncio.Event()

        class Slow(CannedFetcher):
            async def fetch(self, url: str, **how: Any) -> bytes:
                if "slow" in url:
                    arrived.set()
                    await never.wait()
                return await super().fetch(url, **how)

        slow = Slow()
        federation = Federation(
            house.store, attester=KeyedAttester(), clock=house.clock, trust=house.trust, fetcher=slow,
            chance=lambda: 0.5, pace=Pace(at_once=2),
        )  # fmt: skip
        slow.answers = {URL: house.serve(), "https://slow.test/": b"{}"}
        adding = asyncio.create_task(
            federation.add(house.ask(trust_domain="slow.test", url="https://slow.test/"), by="person:ann")
        )
        await arrived.wait()
        view = await federation.add(house.ask(), by="person:ann")
        adding.cancel()
        assert view.bundle is not None

    run(steps)


def test_new_keys_are_published_at_least_five_hints_before_they_sign() -> None:
    policy = AuthorityPolicy()
    between_prepared_and_active = policy.lifetime * (5 / 6 - 1 / 2)
    assert between_prepared_and_active >= 5 * policy.refresh_hint


def test_a_jwt_svid_of_a_partner_counts_within_its_bounds_alone() -> None:
    async def steps(house: House) -> None:
        await house.federation.add(house.ask(), by="person:ann")
        selectors = ["unix:uid:1000"]
        for path in ("/billing/x", "/other"):
            await house.partner.create_entry(
                spiffe_id=f"spiffe://partner.test{path}", selectors=selectors, actor="person:bo"
            )
        codes = []
        for token in await _tokens(house.partner):
            try:
                codes.append(str(house.trust.validate_jwt(token, "shop").spiffe_id))
            except RemitError as error:
                codes.append(error.code)
        assert sorted(codes) == ["spiffe://partner.test/billing/x", "trust.jwt_svid.foreign"]

    run(steps)


async def _tokens(partner: TrustService) -> list[str]:
    from remit.trust.model import Evidence, Selector

    seen = Evidence(
        attestor="unix", selectors=frozenset({Selector.parse("unix:uid:1000")}), facts={}, observed=partner.now()
    )
    return [svid.token for svid in await partner.jwt_svids(seen, ["shop"])]
