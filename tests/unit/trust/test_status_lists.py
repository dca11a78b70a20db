"""Token status lists, read as an offline verifier would: by joserfc and zlib alone."""

from __future__ import annotations

import asyncio
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from remit.kernel.errors import NotFound, Rejected
from remit.trust.revocation.statuslist import BLOCK, LIST_SIZE, StatusIndex, place, place_of
from remit.trust.testing import NOON
from revocation_house import House, house, issued

BASE = "https://remit.test"


def inside(folder: Path, steps: Callable[[House, StatusIndex], Awaitable[None]]) -> None:
    async def run() -> None:
        async with house(folder) as one:
            status = StatusIndex(one.store, one.service.index, one.trust, clock=one.clock, base=lambda: BASE)
            await status.open()
            await steps(one, status)
            await status.close()

    asyncio.run(run())


async def token(one: House, status: StatusIndex, number: int) -> tuple[int, int]:
    """Issue one with a place in a list; returns list and index."""
    made = issued(number, kind="access-token", id=f"token-{number:08d}", minutes=5)
    claim = status.allot(made)
    assert claim is not None
    where = place_of(claim)
    await one.issue(type(made)(**{**{f: getattr(made, f) for f in made.__slots__}, "status": where}))
    return int(where.partition("/")[0]), int(where.partition("/")[2])


def verified(one: House, text: str) -> dict[str, Any]:
    kid, key = one.trust.token_key()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    found = jwt.decode(text, ECKey.import_key(public), algorithms=["ES256"])
    assert found.header == {"alg": "ES256", "kid": kid, "typ": "statuslist+jwt"}
    return dict(found.claims)


def bit(claims: dict[str, Any], index: int) -> int:
    """draft-ietf-oauth-status-list §4.1: bit `index % 8`, counted from the least significant, of byte `index // 8`."""
    listed = claims["status_list"]
    assert listed["bits"] == 1
    raw = zlib.decompress(urlsafe_b64decode(listed["lst"] + "=" * (-len(listed["lst"]) % 4)))
    return raw[index // 8] >> (index % 8) & 1


def test_a_revoked_token_has_its_bit_and_its_neighbours_have_not(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        places = [await token(one, status, number) for number in range(20)]
        await one.revoke("jti:token-00000007")
        claims = verified(one, status.token(places[0][0]))
        assert [bit(claims, index) for _, index in places] == [int(number == 7) for number in range(20)]

    inside(tmp_path, steps)


def test_a_list_says_what_it_is_and_how_long_it_holds(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        claims = verified(one, status.token(1))
        now = int(NOON.timestamp())
        assert {key: claims[key] for key in ("sub", "iat", "exp", "ttl")} == {
            "sub": f"{BASE}/statuslists/1", "iat": now, "exp": now + 600, "ttl": 60,
        }  # fmt: skip

    inside(tmp_path, steps)


def test_a_list_is_signed_once_until_something_changes_or_half_its_time_is_over(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        await token(one, status, 1)
        first = status.token(1)
        assert status.token(1) == first
        one.clock.advance(timedelta(minutes=6))
        assert status.token(1) != first

    inside(tmp_path, steps)


def test_no_place_is_given_twice_over_blocks_and_restarts(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        found = []
        for _ in range(2):
            for number in range(BLOCK + 10):
                if (claim := status.allot(issued(number, minutes=5))) is not None:
                    found.append(place_of(claim))
                await asyncio.sleep(0)
            again = StatusIndex(one.store, one.service.index, one.trust, clock=one.clock, base=lambda: BASE)
            await again.open()
            found += [place_of(again.allot(issued(1, minutes=5))) for _ in range(100)]
            await again.close()
        assert len(set(found)) == len(found) > 2 * BLOCK

    inside(tmp_path, steps)


def test_a_full_list_is_followed_by_another(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        def take(unit: Any) -> Any:
            return unit.revocations.reserve_status(LIST_SIZE, b"s" * 16, NOON + timedelta(days=1))

        block = await one.store.write(take)
        assert block.first + block.count == LIST_SIZE
        assert (await one.store.write(take)).list_id == block.list_id + 1

    inside(tmp_path, steps)


def test_the_order_of_places_is_a_permutation_that_the_seed_chooses() -> None:
    orders = [[place(seed, number) for number in range(LIST_SIZE)] for seed in (b"a" * 16, b"b" * 16)]
    assert all(sorted(order) == list(range(LIST_SIZE)) for order in orders)
    assert orders[0] != orders[1]
    assert sum(abs(a - b) == 1 for a, b in zip(orders[0], orders[0][1:], strict=False)) < LIST_SIZE / 1000


def test_a_list_is_no_jwt_svid_and_a_jwt_svid_no_list(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        assert jws.extract_compact(status.token(1).encode()).headers()["typ"] == "statuslist+jwt"
        await one.register()
        text = status.token(1)
        with pytest.raises(Rejected) as refused:
            one.trust.validate_jwt(text, BASE)
        assert refused.value.code.startswith("trust.")

    inside(tmp_path, steps)


def test_an_unknown_list_is_not_found(tmp_path: Path) -> None:
    async def steps(one: House, status: StatusIndex) -> None:
        with pytest.raises(NotFound) as refused:
            status.token(99)
        assert refused.value.code == "trust.status.unknown"

    inside(tmp_path, steps)
