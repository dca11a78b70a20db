"""What becomes of authorities whose key is lost, who were put back, and of roots that an upstream publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from authority_stage import DOMAIN, issued, seen, service, serving
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected, Unavailable
from remit.trust import AuthorityKind, AuthorityState, TrustService
from remit.trust.authority.ca import make_key, make_request, make_root, sign_intermediate, verify_chain
from remit.trust.authority.learn import learned_changes
from remit.trust.authority.lifecycle import AuthorityPolicy, AuthorityStates
from remit.trust.spiffe import TrustDomain
from remit.trust.testing import NOON, MemoryTrustStore, example_authority

DAY = timedelta(days=1)
KEY = make_key("P-256")
ROOT = make_root(DOMAIN, KEY, serial=3, now=NOON, lifetime=30 * DAY)


def der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


class Above:
    """An upstream in memory; `fails` makes it raise, `answers` takes the place of what it signs."""

    id = "memory"

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.answers: tuple[bytes, ...] | None = None
        self.published = (der(ROOT),)

    async def mint(self, request: bytes, lifetime: timedelta, now: datetime) -> tuple[bytes, ...]:
        if self.fails is not None:
            raise self.fails
        if self.answers is not None:
            return self.answers
        made = sign_intermediate(
            request, trust_domain=DOMAIN, issuer=ROOT, key=KEY, serial=9, now=now, lifetime=lifetime
        )
        return (der(made), der(ROOT))

    async def roots(self, now: datetime) -> tuple[bytes, ...]:
        if self.fails is not None:
            raise self.fails
        return self.published

    async def close(self) -> None:
        return None


DOWN = Unavailable("trust.upstream.down", "it does not answer")


def active(trust: TrustService, kind: AuthorityKind = AuthorityKind.X509) -> str:
    return next(one.id for one in trust.authorities() if one.kind is kind and one.state is AuthorityState.ACTIVE)


# A key that is lost.


@pytest.mark.parametrize("kind", list(AuthorityKind))
def test_an_authority_whose_key_is_gone_signs_no_more_and_has_a_successor(kind: AuthorityKind) -> None:
    async def steps() -> None:
        clock = ManualClock(NOON)
        store = MemoryTrustStore(clock)
        first = service(clock=clock, store=store)
        await first.open()
        await issued(first)
        lost = active(first, kind)
        store.rows.keys[lost] = None
        second = service(clock=clock, store=store)
        await second.open()
        assert (active(second, kind) != lost, "trust.authority.lost" in store.types()) == (True, True)
        assert (await issued(second)).authority == active(second)
        assert next(one.state for one in second.authorities() if one.id == lost) is AuthorityState.OLD

    asyncio.run(steps())


def test_a_prepared_authority_whose_key_is_gone_is_given_up() -> None:
    async def steps() -> None:
        async with serving(clock=ManualClock(NOON)) as trust:
            store = trust._store
            assert isinstance(store, MemoryTrustStore)
            prepared = await trust.prepare_authority(AuthorityKind.X509, actor="person:ann")
            store.rows.keys[prepared.id] = None
            with pytest.raises(Conflict) as refused:
                await trust.activate_authority(prepared.id, actor="person:ann")
            assert refused.value.code == "trust.authority.lost"
            made = await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            states = {one.id: one.state for one in trust.authorities()}
            assert (made.id != prepared.id, states[prepared.id]) == (True, AuthorityState.REVOKED)

    asyncio.run(steps())


def test_a_prepared_authority_that_has_expired_is_given_up_and_never_signs() -> None:
    async def steps() -> None:
        clock = ManualClock(NOON)
        async with serving(clock=clock) as trust:
            prepared = await trust.prepare_authority(AuthorityKind.JWT, actor="person:ann")
            clock.advance(2 * DAY)
            with pytest.raises(Conflict):
                await trust.activate_authority(prepared.id, actor="person:ann")
            await trust.tend()
            assert active(trust, AuthorityKind.JWT) != prepared.id

    asyncio.run(steps())


def test_nothing_is_issued_under_a_tainted_authority_and_what_it_signed_is_issued_anew() -> None:
    async def steps() -> None:
        async with serving(clock=ManualClock(NOON)) as trust:
            before = await issued(trust)
            await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            assert (await issued(trust)).serial == before.serial
            waiting = asyncio.create_task(trust.changed(trust.version))
            await asyncio.sleep(0)
            await trust.taint_authority(before.authority, actor="person:ann")
            await asyncio.wait_for(waiting, 60)
            assert (await issued(trust)).authority == active(trust)

    asyncio.run(steps())


# An upstream that fails, or lies.


def test_while_the_upstream_is_away_the_authority_before_signs_to_its_end_and_not_past_it() -> None:
    async def steps() -> None:
        clock, above = ManualClock(NOON), Above()
        async with serving(above, clock=clock) as trust:
            first = active(trust)
            above.fails = DOWN
            clock.advance(timedelta(hours=20))
            await trust.tend()
            assert len(trust.authority_problems) == 2 and (await issued(trust)).authority == first
            clock.advance(timedelta(hours=5))
            await trust.tend()
            with pytest.raises(Unavailable) as refused:
                await trust.x509_svids(seen(clock.now(), pid=7))
            assert refused.value.code == "trust.authority.expired"
            above.fails = None
            await trust.tend()
            assert ((await issued(trust)).authority != first, trust.authority_problems) == (True, ())

    asyncio.run(steps())


def test_a_restart_while_the_upstream_is_away_goes_on() -> None:
    async def steps() -> None:
        clock, above = ManualClock(NOON), Above()
        store = MemoryTrustStore(clock)
        first = service(above, clock=clock, store=store)
        await first.open()
        above.fails = DOWN
        second = service(above, clock=clock, store=store)
        await second.open()
        assert (active(second), len(second.authority_problems)) == (active(first), 1)

    asyncio.run(steps())


def test_without_any_authority_an_upstream_that_is_away_stops_the_start() -> None:
    async def steps() -> None:
        above = Above()
        above.fails = DOWN
        with pytest.raises(Unavailable):
            await service(above, clock=ManualClock(NOON)).open()

    asyncio.run(steps())


def chain_of(key: object, *, domain: TrustDomain = DOMAIN, lifetime: timedelta = DAY) -> tuple[bytes, ...]:
    request = make_request(domain, key, serial=1)  # type: ignore[arg-type]
    made = sign_intermediate(request, trust_domain=domain, issuer=ROOT, key=KEY, serial=5, now=NOON, lifetime=lifetime)
    return (der(made), der(ROOT))


OURS = make_key("P-256")
GOOD = chain_of(OURS)


def test_a_good_chain_is_taken() -> None:
    found = verify_chain(GOOD, OURS.public_key(), trust_domain=DOMAIN, now=NOON)
    assert (found.certificates, found.expires) == (GOOD, NOON + DAY)


@pytest.mark.parametrize(
    "chain",
    [
        (),
        GOOD[:1],
        GOOD * 4,
        (GOOD[1], GOOD[0]),
        (b"no certificate", GOOD[1]),
        chain_of(make_key("P-256")),
        (GOOD[0], der(make_root(DOMAIN, make_key("P-256"), serial=3, now=NOON, lifetime=DAY))),
        chain_of(OURS, domain=TrustDomain("other.test")),
        chain_of(OURS, lifetime=timedelta(seconds=20)),
        (der(make_root(DOMAIN, OURS, serial=8, now=NOON, lifetime=DAY)), GOOD[1]),
    ],
)
def test_a_chain_that_does_not_fit_is_refused(chain: Sequence[bytes]) -> None:
    with pytest.raises(Rejected) as refused:
        verify_chain(tuple(chain), OURS.public_key(), trust_domain=DOMAIN, now=NOON)
    assert refused.value.code == "trust.upstream.unfit"


def test_an_upstream_that_signs_for_another_key_gives_no_authority() -> None:
    async def steps() -> None:
        above = Above()
        above.answers = GOOD
        with pytest.raises(Rejected):
            await service(above, clock=ManualClock(NOON)).open()

    asyncio.run(steps())


def test_an_unknown_curve_is_misconfigured() -> None:
    with pytest.raises(Misconfigured):
        asyncio.run(service(clock=ManualClock(NOON), policy=AuthorityPolicy(curve="P-521")).open())


# Roots of an upstream.


def other_root(number: int) -> bytes:
    return der(make_root(DOMAIN, make_key("P-256"), serial=100 + number, now=NOON, lifetime=DAY))


def test_a_new_root_is_learned_once_and_a_withdrawn_one_leaves() -> None:
    (learned,) = learned_changes((), [other_root(1)], NOON)
    assert (learned.state, learned.chain) == (AuthorityState.OLD, ())
    assert learned_changes((learned,), [learned.public], NOON) == ()
    (gone,) = learned_changes((learned,), [], NOON)
    assert (gone.id, gone.state) == (learned.id, AuthorityState.REVOKED)


def test_a_root_that_was_revoked_here_is_not_learned_again() -> None:
    (learned,) = learned_changes((), [other_root(1)], NOON)
    revoked = replace(learned, state=AuthorityState.REVOKED, ended=NOON)
    assert learned_changes((revoked,), [learned.public], NOON) == ()


def test_what_is_no_valid_ca_is_not_learned_and_the_number_is_bounded() -> None:
    expired = der(make_root(DOMAIN, KEY, serial=4, now=NOON - 3 * DAY, lifetime=DAY))
    assert learned_changes((), [b"no certificate", expired], NOON) == ()
    assert len(learned_changes((), [other_root(number) for number in range(20)], NOON)) == 16


# A row that was put back.


def test_a_row_counts_only_as_far_as_it_was_recorded() -> None:
    states = AuthorityStates()
    first, second = example_authority(1), example_authority(2)
    for one in (first, second):
        states.note(replace(one, state=AuthorityState.PREPARED).as_json())
        states.note(one.as_json())
    assert states.allows(second.id, "active") and not states.allows(first.id, "active")
    assert not states.allows(second.id, "prepared") and states.allows(first.id, "old")
    states.note(replace(first, state=AuthorityState.REVOKED).as_json())
    assert [states.allows(first.id, state) for state in ("old", "tainted", "revoked")] == [False, False, True]
    assert not states.allows("au_unheard_of", "active")


def test_the_key_of_a_revoked_authority_signs_nothing_more() -> None:
    async def steps() -> None:
        async with serving(clock=ManualClock(NOON)) as trust:
            old = active(trust)
            await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            assert (await trust.keeper.signing_key(old))[0].not_valid_after_utc > NOON
            await trust.revoke_authority(old, actor="person:ann")
            with pytest.raises(Conflict):
                await trust.keeper.signing_key(old)
            with pytest.raises(NotFound):
                await trust.keeper.signing_key("au_none")

    asyncio.run(steps())
