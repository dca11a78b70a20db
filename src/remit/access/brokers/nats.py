"""NATS in operator mode: a signed user JWT for each lease, revoked on every server when its task ends.

The lease's name is written in the account's JWT before its user can log in, so that a sweep finds it. The order of a
revocation: the account with the user's revocation is taken by every server and read back from each (new logins stop,
connections are dropped) → connections are looked for on every server, and closed, until none is left → a login by the
same key, issued at the same second and not expired, is refused, while another user of the account is admitted.

Spec: NATS documentation, "JWT", "Revocation"; github.com/nats-io/jwt v2.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.nats_account import Account, Book, Entry
from remit.access.brokers.nats_settings import MANIFEST, decode_options, decode_secret, inbox_of, permissions_of
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, issued_at, of_instance
from remit.access.brokers.proof import judge
from remit.access.brokers.refusals import not_open, require_mapped
from remit.access.model import Minted, MintOrder, Proof, Revocation, RevokeOrder, Target, Unproved
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Conflict, Misconfigured, Rejected, RemitError
from remit.providers.nats.client import Address, Attempt, System, login
from remit.providers.nats.nkeys import KeyPair, creds, encode_jwt

_CLOCK = SystemClock()
_SESSIONS_WITHIN = 10.0
_LOOK_AGAIN = 0.02
_PROBES = 16
_PROBE_SECONDS = 120
_UNKNOWN_KEPT = 7 * 86400
"""Seconds for which a revocation is kept of a lease whose expiry is not known: it was never minted."""


class NatsBroker:
    """Mints, renews, revokes, proves and sweeps in one account of a NATS system."""

    def __init__(
        self,
        target: Target,
        secret: str,
        *,
        now: Callable[[], datetime] = _CLOCK.now,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = decode_options(target)
        self._keys = decode_secret(secret)
        self._target = target
        self._now = now
        self._randomness = randomness
        self._book: Book | None = None

    def __repr__(self) -> str:
        return f"NatsBroker({self._settings.system.url})"

    async def open(self) -> None:
        """Read the account through the system account; `Unavailable`, or `Misconfigured` where keys do not fit."""
        await self.close()
        system = System(self._settings.system, self._keys.system_jwt, self._keys.system)
        try:
            limit = await system.max_payload() * 9 // 10
            book = Book(system, self._settings.account, self._keys.operator, self._now, limit)
            self._check_signing(await book.read())
        except BaseException:
            await system.close()
            raise
        self._book = book

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        book, self._book = self._book, None
        if book is not None:
            await book.close()
            await book.system.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Write the lease's name on every server, sign its JWT, and log in with it once."""
        instance_of([order.principal])
        require_mapped(self._target, order.role, "RIGHTS")
        if order.database:
            raise Rejected("access.nats.database", "NATS knows no databases", next_step="leave it out of the need")
        expires = int((order.until or order.expires).timestamp())
        user = _user_key(order.secret)
        entry = Entry(principal=order.principal, user=user.public, expires=expires)

        def note(account: Account) -> None:
            if entry.user not in account.revoked:
                account.live[entry.principal] = entry

        account = await self._opened.change(note)
        if entry.user in account.revoked:
            raise Conflict("access.lease.revoking", "the credential is being revoked")
        jwt = self._user_jwt(user.public, order.principal, expires, permissions_of(order.role, order.principal))
        tried = await login(self._settings.clients[0], jwt, user)
        if not tried.admitted:
            raise Rejected("access.lease.login", f"the new credential does not work: {tried.words}")
        first = self._settings.clients[0]
        settings = {"host": first.host, "port": str(first.port), "user": order.principal, "jwt": jwt}
        settings |= {"url": first.url, "inbox": inbox_of(order.principal)}
        settings |= {"tls": "true"} if first.tls else {}
        settings |= {"ca": first.ca} if first.ca else {}
        return Minted(principal=order.principal, settings=settings)

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """A JWT cannot be changed: returns those that still live, after what was lost of revocations is put back."""
        if not principals:
            return []
        instance_of(principals)
        live = (await self._opened.read()).live
        return [name for name in principals if name in live]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them by one write on every server, and prove each at every server that clients use."""
        if not orders:
            return []
        clock = asyncio.get_running_loop().time
        started = clock()
        instance_of([order.principal for order in orders])
        work = _Work()
        book = self._opened
        before = await book.read()
        for order in orders:
            work.users[order.principal] = {_user_key(order.secret).public}
            if (known := before.live.get(order.principal)) is not None:
                work.users[order.principal].add(known.user)
        await self._look(book, work)
        await book.change(lambda account: self._strike(account, orders))
        await self._end_sessions(book, work)
        after = await book.read()
        proofs = await self._prove(orders, before, work)
        duration = timedelta(seconds=clock() - started)
        return [
            Revocation(
                principal=order.principal,
                gone=order.principal not in work.living and work.users[order.principal] <= after.revoked.keys(),
                sessions_ended=len(work.seen.get(order.principal, ())),
                proof=proof,
                duration=duration,
            )
            for order, proof in zip(orders, proofs, strict=True)
        ]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that may log in."""
        return of_instance((await self._opened.read()).live, instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        try:
            book = self._opened
            servers = await book.system.servers()
            await book.read()
            said = await book.system.lookup_all(self._settings.account, servers)
            anonymous = [one.url for one in self._settings.clients if (await login(one, "", None)).admitted]
            version = await book.system.version()
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]
        return [
            Check(ok=True, title="the server answers", detail=f"NATS {version}, {len(servers)} server(s)"),
            Check(
                ok=len(set(said)) == 1,
                title="every server has the same account",
                next_step="see that all servers use the full resolver, and reach each other",
            ),
            Check(
                ok=not anonymous,
                title="nobody is served without a login",
                detail=f"`{anonymous[0]}` asks for none" if anonymous else "",
                next_step="run it in operator mode: until then no revocation can be proved",
            ),
            Check(ok=True, title="live sessions end when Remit is dead", detail="at the end of the grant"),
        ]

    @property
    def _opened(self) -> Book:
        if self._book is None:
            raise not_open(self._target)
        return self._book

    def _check_signing(self, account: Account) -> None:
        key = self._keys.signing.public
        if key != self._settings.account and key not in (account.claims.get("nats", {}).get("signing_keys") or ()):
            raise Misconfigured(
                "access.nats.signing_key",
                "the account does not name our key among its plain signing keys",
                next_step="`nsc edit account NAME --sk generate`, then `nsc push`; a scoped key cannot carry roles",
            )

    def _user_jwt(self, user: str, principal: str, expires: int, rights: dict[str, Any]) -> str:
        nats: dict[str, Any] = {
            **rights,
            "subs": -1,
            "data": -1,
            "payload": -1,
            # A leaf node would carry others' messages, and is no connection that a look finds.
            "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
            "type": "user",
            "version": 2,
        }
        if self._keys.signing.public != self._settings.account:
            nats["issuer_account"] = self._settings.account
        if self._settings.sources:
            nats["src"] = list(self._settings.sources)
        claims = {"sub": user, "name": principal, "iat": issued_at(principal), "exp": expires, "nats": nats}
        return encode_jwt(claims, self._keys.signing)

    def _strike(self, account: Account, orders: Sequence[RevokeOrder]) -> None:
        now = int(self._now().timestamp())
        for order in orders:
            # One that is not after the issue has no effect.
            at = max(now, issued_at(order.principal))
            known = account.live.get(order.principal)
            user = _user_key(order.secret).public
            if known is not None:
                account.revoke(known, at)
            if user not in account.revoked:
                account.revoke(Entry(principal=order.principal, user=user, expires=at + _UNKNOWN_KEPT), at)

    async def _look(self, book: Book, work: _Work) -> list[Any]:
        owner = {user: name for name, users in work.users.items() for user in users}
        found = await book.system.connections(self._settings.account, await book.system.servers())
        theirs = [one for one in found if one.user in owner]
        for one in theirs:
            work.seen.setdefault(owner[one.user], set()).add((one.server, one.number))
        work.living = {owner[one.user] for one in theirs}
        return theirs

    async def _end_sessions(self, book: Book, work: _Work) -> None:
        """The servers drop them by themselves; look until none is left, and close what stays."""
        clock = asyncio.get_running_loop().time
        until = clock() + _SESSIONS_WITHIN
        while theirs := await self._look(book, work):
            if clock() > until:
                return
            await asyncio.gather(*(book.system.kick(one) for one in theirs))
            await asyncio.sleep(_LOOK_AGAIN)

    async def _prove(self, orders: Sequence[RevokeOrder], before: Account, work: _Work) -> list[Proof]:
        gate = asyncio.Semaphore(_PROBES)
        probe = KeyPair("U", self._randomness(32))
        soon = int(self._now().timestamp()) + _PROBE_SECONDS
        rights = {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}

        async def attempt(address: Address, user: KeyPair, principal: str) -> Attempt:
            async with gate:
                return await login(address, self._user_jwt(user.public, principal, soon, rights), user)

        addresses = self._settings.clients
        nobody = await asyncio.gather(*(login(one, "", None) for one in addresses))
        # The control is in all the same as the first that must be refused, but for its key.
        control = await asyncio.gather(*(attempt(one, probe, orders[0].principal) for one in addresses))
        proofs: list[Proof] = []
        for order in orders:
            user = _user_key(order.secret)
            tried = await asyncio.gather(*(attempt(one, user, order.principal) for one in addresses))
            known = before.live.get(order.principal)
            if known is not None and known.user != user.public:
                proofs.append(Unproved(why="nobody knows its key any more: it is revoked by name"))
            else:
                proofs.append(_judge(order, tried, control, nobody, work))
        return proofs


@dataclass(slots=True)
class _Work:
    """What one call of `revoke` has found and done so far."""

    users: dict[str, set[str]] = field(default_factory=dict)
    """Principal → public keys."""
    seen: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)


def _judge(
    order: RevokeOrder, tried: Sequence[Attempt], control: Sequence[Attempt], nobody: Sequence[Attempt], work: _Work
) -> Proof:
    if order.principal in work.living:
        return Unproved(why="a connection of it would not go")
    if any(one.admitted for one in nobody):
        return Unproved(why="a server serves whoever shows no key")
    return judge(
        tried,
        control,
        control="login as another user of the account, signed by the same key",
        of_credential=lambda one: "authorization" in one.words.lower(),
        where="a server",
    )


def _user_key(secret: str) -> KeyPair:
    """The key that stands for a lease's secret: NATS never sees more than its public half and signatures."""
    return KeyPair("U", hashlib.sha256(b"remit nats user key\0" + secret.encode()).digest())


class NatsBrokerFactory:
    """The plug-in."""

    id = "nats"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> NatsBroker:
        """A broker for `target`; nothing is opened yet."""
        try:
            import nats  # noqa: F401
        except ImportError:
            raise Misconfigured(
                "access.nats.driver", "the driver for NATS is not installed", next_step="pip install 'remit[nats]'"
            ) from None
        return NatsBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `nats://ACCOUNT-PUBLIC-KEY@HOST[:PORT]`, or `tls://` for TLS."""
        where = read_location(
            url,
            schemes={"nats": 4222, "tls": 4222},
            parameters=frozenset({"ca"}),
            write_as="nats://ACCOUNT-PUBLIC-KEY@HOST:PORT",
        )
        return replace(where, options={**where.options, **({"tls": "true"} if url.startswith("tls:") else {})})

    def present(self, credential: Credential) -> Presentation:
        """A `.creds` file, as every client of NATS reads it, and the prefix of inboxes where answers may come."""
        settings = credential.settings
        seed = _user_key(credential.secret).seed
        name = f"{credential.target}-{credential.role}.creds"
        return Presentation(
            variables={
                "NATS_URL": settings.get("url", ""),
                "NATS_INBOX_PREFIX": settings.get("inbox", ""),
                **({"NATS_CA": settings["ca"]} if "ca" in settings else {}),
            },
            secrets={"NATS_USER_JWT": settings.get("jwt", ""), "NATS_USER_SEED": seed},
            files={name: creds(settings.get("jwt", ""), seed)},
            pointers={"NATS_CREDS": name},
            stale=(
                *("NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_NKEY", "NATS_CONTEXT", "NATS_USER_JWT"),
                *("NATS_USER_SEED", "NATS_URL", "NATS_CREDS", "NATS_CA", "NATS_INBOX_PREFIX"),
            ),
        )
