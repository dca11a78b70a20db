"""Token status lists: one bit for each token, for verifiers that do not ask us.

A token carries its place (`status_list: {idx, uri}`); whoever verifies it offline fetches the list now and then and
looks at that bit. Places are given out in an order that only we know, so that neighbours in the list say nothing of
each other.

Spec: draft-ietf-oauth-status-list §4 (status list), §5.1 (token), §6.2 (claim), §8 (response), §12.5 (unlinkability).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import NotFound, RemitError
from remit.kernel.unit import Store
from remit.trust import jose
from remit.trust.model import Issued
from remit.trust.revocation.index import RevocationIndex
from remit.trust.revocation.ports import ListSigner, RevocationUnit, StatusBlock

_BITS = 17
LIST_SIZE = 1 << _BITS
"""Tokens in one list: 16 KiB of bits, of which nearly all are zero and compress away."""
TYPE = "statuslist+jwt"
TTL = timedelta(seconds=60)
"""How often an offline verifier should fetch the list anew."""
LIFETIME = timedelta(minutes=10)
BLOCK = 4096
"""Places that are reserved in one commit; those that a stop leaves over are never given."""
_BLOCK_AGE = timedelta(hours=1)
_LONGEST = timedelta(hours=24)
"""No token that names a list lives longer."""
_log = logging.getLogger("remit.trust")


def place(seed: bytes, number: int) -> int:
    """Where the `number`-th token of a list stands: a permutation of the list that `seed` chooses.

    Four rounds of a Feistel network over 18 bits, walked until the result is below the size of the list.
    """
    assert 0 <= number < LIST_SIZE
    while True:
        left, right = number >> 9, number & 0x1FF
        for turn in range(4):
            mixed = hashlib.blake2b(bytes((turn, right >> 8, right & 0xFF)), key=seed, digest_size=2).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "big") & 0x1FF)
        number = left << 9 | right
        if number < LIST_SIZE:
            return number


def compressed(revoked: Iterable[int]) -> str:
    """The member `lst`: the bits, least significant first in each byte, by zlib and base64url (§4.1)."""
    bits = bytearray(LIST_SIZE // 8)
    for index in revoked:
        bits[index >> 3] |= 1 << (index & 7)
    return jose.encode_base64url(zlib.compress(bytes(bits), 9)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    token: str
    version: int
    until: datetime
    kid: str


class StatusIndex:
    """Gives places, and signs the lists. Belongs to the event loop; `open` first.

    `base` is the URL below which `/statuslists/ID` is served: what tokens name.
    """

    def __init__(
        self,
        store: Store[RevocationUnit],
        index: RevocationIndex,
        signer: ListSigner,
        *,
        clock: Clock,
        base: Callable[[], str],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._index = index
        self._signer = signer
        self._clock = clock
        self._base = base
        self._entropy = entropy
        self._lists: dict[int, bytes] = {}
        self._blocks: list[tuple[StatusBlock, datetime]] = []
        self._given = 0
        self._signed: dict[int, _Signed] = {}
        self._refilling: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read which lists valid tokens may name, and reserve places."""
        found = await self._store.read(lambda unit: unit.revocations.status_lists(self._clock.now()))
        self._lists.update(found)
        await self.refill()

    async def close(self) -> None:
        """Stop what runs."""
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)

    async def refill(self) -> None:
        """Have a block in use and one in reserve; blocks that are an hour old are given up."""
        now = self._clock.now()
        if self._blocks and now - self._blocks[0][1] >= _BLOCK_AGE:
            self._blocks, self._given = [], 0
        while len(self._blocks) < 2:
            seed = self._entropy(16)
            block = await self._store.write(
                lambda unit, seed=seed: unit.revocations.reserve_status(BLOCK, seed, now + _BLOCK_AGE + _LONGEST)  # type: ignore[misc]
            )
            self._lists[block.list_id] = block.seed
            self._blocks.append((block, now))

    def allot(self, issued: Issued) -> Mapping[str, Json] | None:
        """The value of the claim `status` for a token that is about to be signed; never the same place twice.

        `None` when no place could be reserved, or for one that lives too long: the token is then known to whoever asks
        us, and to no list. Whoever issues the token remembers `place_of` the claim with it (`Issued.status`): by that
        its bit is found again.
        """
        if issued.expires - issued.issued > _LONGEST:
            return None
        while self._blocks and self._given >= self._blocks[0][0].count:
            self._blocks.pop(0)
            self._given = 0
        if len(self._blocks) < 2 and (self._refilling is None or self._refilling.done()):
            self._refilling = asyncio.create_task(self._refill_later(), name="remit-status-places")
        if not self._blocks:
            return None
        block = self._blocks[0][0]
        index = place(block.seed, block.first + self._given)
        self._given += 1
        return {"status_list": {"idx": index, "uri": self.uri(block.list_id)}}

    def uri(self, list_id: int) -> str:
        """What names the list, and serves it."""
        return f"{self._base()}/statuslists/{list_id}"

    def uris(self) -> tuple[str, ...]:
        """What names each list that valid tokens may name."""
        return tuple(self.uri(one) for one in sorted(self._lists))

    def token(self, list_id: int) -> str:
        """The signed list, as fresh as the newest revocation; `NotFound` (`trust.status.unknown`)."""
        if list_id not in self._lists:
            raise NotFound("trust.status.unknown", "there is no such status list")
        now, (kid, key) = self._clock.now(), self._signer.token_key()
        known = self._signed.get(list_id)
        if (
            known is None
            or known.version != self._index.version
            or known.kid != kid
            or known.until - now < LIFETIME / 2
        ):
            known = self._signed[list_id] = self._sign(list_id, kid, key, now)
        return known.token

    def _sign(self, list_id: int, kid: str, key: ec.EllipticCurvePrivateKey, now: datetime) -> _Signed:
        version, head = self._index.version, f"{list_id}/"
        revoked = [int(one.status[len(head) :]) for one in self._index.fallen().values() if one.status.startswith(head)]
        until = now + LIFETIME
        claims: dict[str, Json] = {
            "iss": self._base(),
            "sub": self.uri(list_id),
            "iat": int(now.timestamp()),
            "exp": int(until.timestamp()),
            "ttl": int(TTL.total_seconds()),
            "status_list": {"bits": 1, "lst": compressed(revoked)},
        }
        token = jose.sign(claims, key, {"kid": kid, "typ": TYPE})
        return _Signed(token=token, version=version, until=until, kid=kid)

    async def _refill_later(self) -> None:
        try:
            await self.refill()
        except RemitError as error:
            _log.warning("no places of a status list can be reserved: %s", error)


def place_of(claim: Mapping[str, Json] | None) -> str:
    """`LIST/INDEX` of a claim that `allot` made, as `Issued.status` keeps it; empty for none."""
    status = claim.get("status_list") if claim is not None else None
    if not isinstance(status, Mapping):
        return ""
    return f"{str(status['uri']).rpartition('/')[2]}/{status['idx']}"
