"""The account's JWT as the book of leases: who may live (tags), who is revoked, and until when. One writer.

NATS takes every JWT of an account that its operator signed, an older one too: an entry that somebody's copy lacks is
lost. Hence each write begins with what the servers have, adds what we know besides, is newer than what was there, is
taken by every server, and is read back from every one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from remit.access.brokers.principals import PRINCIPAL
from remit.kernel.errors import Unavailable
from remit.providers.nats.client import System
from remit.providers.nats.nkeys import KeyPair, decode_jwt, encode_jwt

_TAG = re.compile(r"remit:(live|gone):([a-z0-9_]{41}):(u[a-z2-7]{55}):([0-9]{1,12})")
_MARGIN = 60
"""Seconds for which a revocation is kept after the expiry: clocks of servers differ."""
_TRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A lease in the account's JWT."""

    principal: str
    user: str
    """Public key."""
    expires: int

    def tag(self, state: str) -> str:
        return f"remit:{state}:{self.principal}:{self.user.lower()}:{self.expires}"


@dataclass(slots=True, kw_only=True)
class Account:
    """The part of an account's claims that is ours, and the claims that carry it."""

    claims: dict[str, Any]
    live: dict[str, Entry]
    gone: dict[str, Entry]
    revoked: dict[str, int]
    """User → Unix time: what was issued until then is refused. Those that are not ours stay as they are."""

    def revoke(self, entry: Entry, at: int) -> None:
        self.live.pop(entry.principal, None)
        self.gone[entry.user] = entry
        self.revoked[entry.user] = max(at, self.revoked.get(entry.user, 0))


def read_account(jwt: str) -> Account:
    """What a JWT of an account says. Raises `Rejected`."""
    claims = decode_jwt(jwt)
    nats: Mapping[str, Any] = claims.get("nats", {})
    account = Account(claims=claims, live={}, gone={}, revoked=dict(nats.get("revocations") or {}))
    for tag in nats.get("tags") or ():
        if (match := _TAG.fullmatch(str(tag))) and PRINCIPAL.fullmatch(match[2]):
            entry = Entry(principal=match[2], user=match[3].upper(), expires=int(match[4]))
            if match[1] == "live":
                account.live[entry.principal] = entry
            else:
                account.gone[entry.user] = entry
    return account


def write_account(account: Account, signer: KeyPair, now: int) -> str:
    """The JWT that replaces it: newer than the one before, and without entries that nobody needs any more."""
    for user in [user for user, entry in account.gone.items() if entry.expires + _MARGIN < now]:
        del account.gone[user]
        account.revoked.pop(user, None)
    claims = dict(account.claims)
    nats = dict(claims.get("nats", {}))
    others = [tag for tag in nats.get("tags") or () if not _TAG.fullmatch(str(tag))]
    ours = [entry.tag("live") for entry in account.live.values()] + [e.tag("gone") for e in account.gone.values()]
    nats["tags"] = [*others, *sorted(ours)]
    nats["revocations"] = dict(sorted(account.revoked.items()))
    claims["nats"] = nats
    claims["iat"] = max(now, int(claims.get("iat", 0)) + 1)
    return encode_jwt(claims, signer)


@dataclass(slots=True)
class Book:
    """The single writer; changes that come while one is written go together in the next."""

    system: System
    key: str
    signer: KeyPair = field(repr=False)
    now: Callable[[], datetime]
    max_bytes: int
    _known_live: dict[str, Entry] = field(default_factory=dict)
    _known_gone: dict[str, tuple[Entry, int]] = field(default_factory=dict)
    _waiting: list[Callable[[Account], None]] = field(default_factory=list)
    _next: asyncio.Task[Account] | None = None
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self) -> Account:
        """What the servers say; what was lost there by somebody else's write is put back first."""
        account = read_account(await self.system.lookup(self.key))
        return await self.change(lambda account: None) if self._restore(account) else account

    async def change(self, edit: Callable[[Account], None]) -> Account:
        """Carry out `edit` on the account on every server, read it back. `edit` must not raise, and may run again."""
        self._waiting.append(edit)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._write())
            # Seen here: whoever waits for it may have gone.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Wait for what is being written."""
        async with self._writing:
            pass

    async def _write(self) -> Account:
        async with self._writing:
            edits, self._waiting, self._next = self._waiting, [], None
            for _ in range(_TRIES):
                servers = await self.system.servers()
                account = read_account(await self.system.lookup(self.key))
                self._restore(account)
                for edit in edits:
                    edit(account)
                text = write_account(account, self.signer, int(self.now().timestamp()))
                if len(text) > self.max_bytes:
                    raise Unavailable(
                        "access.nats.account_full",
                        "the account's JWT is as long as its servers take: too many leases live or expire late",
                        next_step="raise `max_payload` on the servers, or give shorter grants",
                    )
                await self.system.update(text, servers)
                if all(said == text for said in await self.system.lookup_all(self.key, servers)):
                    self._remember(account)
                    return account
        raise Unavailable(
            "access.nats.contended",
            "somebody else writes the account's JWT at the same time",
            next_step="let Remit be its only writer",
        )

    def _restore(self, account: Account) -> bool:
        """Add what we know and it lacks; whether there was any."""
        now, lost = int(self.now().timestamp()), False
        self._known_gone = {
            user: (entry, at) for user, (entry, at) in self._known_gone.items() if entry.expires + _MARGIN >= now
        }
        for user, (entry, at) in self._known_gone.items():
            if account.revoked.get(user, 0) < at or user not in account.gone:
                account.revoke(entry, at)
                lost = True
        for principal, entry in self._known_live.items():
            if principal not in account.live and entry.user not in account.gone:
                account.live[principal] = entry
                lost = True
        return lost

    def _remember(self, account: Account) -> None:
        self._known_live = dict(account.live)
        self._known_gone = {user: (entry, account.revoked[user]) for user, entry in account.gone.items()}
