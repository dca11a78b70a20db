"""Who may have an intermediate: whom a person allowed, as long as that stands, and never too often."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from authority_stage import DOMAIN
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, RemitError, Unavailable
from remit.storage.schema.trust_downstream import trust_downstream
from remit.trust import AuthorityPolicy, SpiffeId, TrustService
from remit.trust.authority.ca import make_key, make_request, verify_chain
from remit.trust.authority.downstream import KIND, Downstreams
from remit.trust.model import PresentedSvid
from remit.trust.ports import IssuedFilter
from remit.trust.spiffe import TrustDomain
from remit.trust.testing import NOON, KeyedAttester, PlainSealer
from stores import opened

BELOW = "spiffe://remit.test/below"
KEY = make_key("P-384")
REQUEST = make_request(DOMAIN, KEY, serial=11)
HOUR = timedelta(hours=1)


def shown(spiffe_id: str = BELOW) -> PresentedSvid:
    return PresentedSvid(
        spiffe_id=SpiffeId.parse(spiffe_id), certificate=b"", serial=1, thumbprint="", issued=NOON, expires=NOON + HOUR
    )


@dataclass(slots=True)
class House:
    clock: ManualClock
    store: Any
    trust: TrustService
    downstreams: Downstreams


@pytest.fixture
def inside(tmp_path: Path) -> Callable[[Callable[[House], Awaitable[None]]], None]:
    """Runs steps in a trust domain on a database of its own."""

    async def run(steps: Callable[[House], Awaitable[None]]) -> None:
        clock = ManualClock(NOON)
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}", clock=clock) as store:
            trust = TrustService(
                store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock, trust_domain=DOMAIN,
                policy=AuthorityPolicy(),
            )  # fmt: skip
            await trust.open()
            downstreams = Downstreams(
                store, attester=KeyedAttester(), clock=clock, trust_domain=DOMAIN,
                keyring=lambda: trust.keeper.keyring, entropy=os.urandom,
            )  # fmt: skip
            await steps(House(clock, store, trust, downstreams))
            await trust.close()

    return lambda steps: asyncio.run(run(steps))


@contextmanager
def refused(kind: type[RemitError], code: str) -> Iterator[None]:
    with pytest.raises(kind) as error:
        yield
    assert error.value.code == code


Inside = Callable[[Callable[[House], Awaitable[None]]], None]


def test_who_is_allowed_gets_a_chain_that_holds_for_an_hour_as_asked(inside: Inside) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        chain = await house.downstreams.mint(shown(), REQUEST, HOUR)
        found = verify_chain(chain, KEY.public_key(), trust_domain=DOMAIN, now=NOON)
        assert (found.expires, chain[-1]) == (NOON + HOUR, house.trust.bundle.x509_roots[0])

    inside(steps)


def test_what_is_signed_is_noted_as_hanging_on_its_authority(inside: Inside) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        chain = await house.downstreams.mint(shown(), REQUEST, HOUR)
        serial = x509.load_der_x509_certificate(chain[0]).serial_number
        authority = house.trust.keeper.keyring.x509_authority.id
        where = IssuedFilter(now=NOON, authority=authority, kind=KIND)
        (noted,) = await house.store.read(lambda unit: unit.trust.issued(where))
        assert (noted.id, noted.spiffe_id) == (f"{serial:x}", BELOW)
        assert await house.store.read(lambda unit: unit.trust.count_issued(where)) == 1

    inside(steps)


def test_nobody_is_allowed_at_first(inside: Inside) -> None:
    async def steps(house: House) -> None:
        with refused(Denied, "trust.downstream.unknown"):
            await house.downstreams.mint(shown(), REQUEST, HOUR)

    inside(steps)


def test_who_is_withdrawn_gets_no_more(inside: Inside) -> None:
    async def steps(house: House) -> None:
        allowed = await house.downstreams.allow(BELOW, actor="person:ann")
        await house.downstreams.withdraw(allowed.id, actor="person:ann")
        with refused(Denied, "trust.downstream.unknown"):
            await house.downstreams.mint(shown(), REQUEST, HOUR)
        with refused(NotFound, "trust.downstream.unknown"):
            await house.downstreams.withdraw(allowed.id, actor="person:ann")

    inside(steps)


def test_a_row_that_somebody_wrote_allows_nobody(inside: Inside) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        other = "spiffe://remit.test/eve"
        await house.store.write(lambda unit: unit.conn.execute(trust_downstream.update().values({"spiffe_id": other})))
        with refused(Denied, "trust.downstream.unknown"):
            await house.downstreams.mint(shown(other), REQUEST, HOUR)
        assert await house.downstreams.list() == ()

    inside(steps)


def test_the_same_again_is_the_one_that_is_there_and_another_life_a_conflict(inside: Inside) -> None:
    async def steps(house: House) -> None:
        first = await house.downstreams.allow(BELOW, actor="person:ann")
        assert await house.downstreams.allow(BELOW, actor="person:bob") == first
        with refused(Conflict, "trust.downstream.exists"):
            await house.downstreams.allow(BELOW, actor="person:ann", lifetime=HOUR)

    inside(steps)


@pytest.mark.parametrize(
    ("spiffe_id", "lifetime", "code"),
    [
        ("spiffe://other.test/below", HOUR, "trust.downstream.foreign"),
        ("spiffe://remit.test", HOUR, "trust.spiffe_id.malformed"),
        (BELOW, timedelta(minutes=1), "trust.downstream.lifetime"),
        (BELOW, timedelta(days=31), "trust.downstream.lifetime"),
    ],
)
def test_what_cannot_be_allowed(inside: Inside, spiffe_id: str, lifetime: timedelta, code: str) -> None:
    async def steps(house: House) -> None:
        with refused(Rejected, code):
            await house.downstreams.allow(spiffe_id, actor="person:ann", lifetime=lifetime)

    inside(steps)


def tampered() -> bytes:
    return REQUEST[:-1] + bytes([REQUEST[-1] ^ 1])


@pytest.mark.parametrize("request_", [b"", b"no request", b"\x30" * 9000, tampered(), REQUEST[:-2]])
def test_a_request_that_is_none_is_refused(inside: Inside, request_: bytes) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        with refused(Rejected, "trust.request.malformed"):
            await house.downstreams.mint(shown(), request_, HOUR)

    inside(steps)


def test_what_a_request_asks_for_counts_for_nothing_but_its_key(inside: Inside) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        greedy = make_request(TrustDomain("other.test"), KEY, serial=1)
        chain = await house.downstreams.mint(shown(), greedy, timedelta(days=365))
        verify_chain(chain, KEY.public_key(), trust_domain=DOMAIN, now=NOON)
        limits = x509.load_der_x509_certificate(chain[0]).extensions.get_extension_for_class(x509.NameConstraints)
        assert [one.value for one in limits.value.permitted_subtrees or ()] == [DOMAIN.name]
        assert x509.load_der_x509_certificate(chain[0]).not_valid_after_utc <= NOON + timedelta(hours=24)

    inside(steps)


def test_a_loop_is_put_off(inside: Inside) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        for _ in range(8):
            await house.downstreams.mint(shown(), REQUEST, HOUR)
        with refused(Unavailable, "trust.downstream.flooded"):
            await house.downstreams.mint(shown(), REQUEST, HOUR)
        house.clock.advance(timedelta(seconds=11))
        await house.downstreams.mint(shown(), REQUEST, HOUR)

    inside(steps)


def test_an_authority_that_allows_none_below_it_signs_none(inside: Inside) -> None:
    async def steps(house: House) -> None:
        await house.downstreams.allow(BELOW, actor="person:ann")
        chain = await house.downstreams.mint(shown(), REQUEST, HOUR)
        ring = house.trust.keeper.keyring
        nested = replace(
            ring, x509_key=KEY, x509_authority=replace(ring.x509_authority, public=chain[0], chain=chain[1:])
        )
        house.downstreams._keyring = lambda: nested
        with refused(Conflict, "trust.downstream.depth"):
            await house.downstreams.mint(shown(), REQUEST, HOUR)

    inside(steps)
