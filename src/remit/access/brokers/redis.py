"""Redis: an ACL user for each lease, on every node of the server, gone with its connections when the task ends.

The order of a revocation: the user is switched off and loses every right (in force at once, also on open connections) →
its connections are closed, and looked for again until none is left → it is deleted on every node → its secret is
refused, while the broker's own login works.

Spec: Redis 7 documentation, "ACL", "CLIENT KILL", "CLIENT LIST".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation, url_of
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.proof import judge
from remit.access.brokers.redis_settings import MANIFEST, decode_options, rules_of
from remit.access.brokers.refusals import not_open, require_mapped
from remit.access.model import (
    LeftBehind,
    Minted,
    MintOrder,
    Proof,
    Revocation,
    RevokeOrder,
    Target,
    Unproved,
)
from remit.kernel.errors import Misconfigured, Rejected, RemitError
from remit.providers.redis.client import Address, Attempt, Client, Server, login

_SESSIONS_WITHIN = 10.0
_LOOK_AGAIN = 0.02
_PROBES = 16

Node = tuple[str, int]


class RedisBroker:
    """Mints, renews, revokes, proves and sweeps on one Redis server, its replicas and its cluster."""

    def __init__(self, target: Target, secret: str) -> None:
        self._settings = decode_options(target)
        self._target = target
        self._secret = secret
        self._address = Address(
            host=target.host, port=target.port, user=target.user, tls=self._settings.tls, ca=self._settings.ca
        )
        self._servers: dict[Node, Server] = {}
        self._first: Server | None = None
        self._census: asyncio.Task[None] | None = None
        # A connection that logged in as somebody else is known by its number alone.
        self._seen: dict[str, set[tuple[Node, int]]] = {}

    def __repr__(self) -> str:
        return f"RedisBroker({self._address})"

    async def open(self) -> None:
        """Connect to every node; `Unavailable`, or `Misconfigured` for a replica and for a login that is refused."""
        await self.close()
        self._first = Server(self._address, self._secret)
        try:
            await self._nodes()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        census, self._census = self._census, None
        # redis-py may take a cancellation for a timeout of its own: say it until it is heard.
        while census is not None and not census.done():
            census.cancel()
            await asyncio.wait({census}, timeout=0.05)
        servers, self._servers = [*self._servers.values()], {}
        first, self._first = self._first, None
        for server in (*servers, *((first,) if first is not None else ())):
            await server.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Set the user on every node, and log in with it once. The same order again is the same credential."""
        instance_of([order.principal])
        require_mapped(self._target, order.role, "RULES")
        database = self._database(order.database)
        # Redis keeps SHA-256 of a secret: the secret itself is never sent but by who logs in with it.
        shown = "#" + hashlib.sha256(order.secret.encode()).hexdigest()
        rules = ("reset", "on", shown, "resetkeys", "resetchannels", "-@all")
        command = ("ACL", "SETUSER", order.principal, *rules, *rules_of(order.role, self._settings, database))
        for server in (await self._nodes()).values():
            await server.run(*command)
        address = replace(self._address, user=order.principal)
        tried = await login(address, order.secret)
        if not tried.admitted:
            raise Rejected("access.lease.login", f"the new credential does not work: {tried.words}")
        self._watch(order.principal)
        return Minted(principal=order.principal, settings=address.settings() | {"db": database})

    def mint_steps(self, order: MintOrder) -> Sequence[str]:
        """The one command, on every node; the hash of the secret is left out."""
        rules = rules_of(order.role, self._settings, self._database(order.database))
        before = ("reset", "on", "#…", "resetkeys", "resetchannels", "-@all")
        return (" ".join(("ACL SETUSER", order.principal, *before, *rules)),)

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Users of Redis know no expiry: returns those that still exist on the first node."""
        if not principals:
            return []
        instance_of(principals)
        existing = await self._opened.users()
        await self._look(await self._nodes(), existing)
        return [name for name in principals if name in existing]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them in one go on every node, and prove each on each."""
        if not orders:
            return []
        clock = asyncio.get_running_loop().time
        started = clock()
        names = [order.principal for order in orders]
        instance_of(names)
        nodes = await self._nodes()
        work = _Work()
        for node, server in nodes.items():
            try:
                await self._destroy(node, server, set(names), work)
            except RemitError as error:
                if server is self._opened:
                    raise
                work.troubles.append(f"{server.address}: {error.message}")
        proofs = await self._prove(orders, [server.address for server in nodes.values()], work)
        for name in names:
            self._seen.pop(name, None)
        duration = timedelta(seconds=clock() - started)
        return [
            Revocation(
                principal=name,
                gone=not work.troubles and name not in work.living,
                sessions_ended=work.ended.get(name, 0),
                proof=proof,
                left_behind=tuple(work.left.get(name, ())),
                duration=duration,
            )
            for name, proof in zip(names, proofs, strict=True)
        ]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that exist on any node."""
        found: set[str] = set()
        for server in (await self._nodes()).values():
            found |= await server.users()
        return of_instance(found, instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        try:
            nodes = await self._nodes()
            version = (await self._opened.info("server")).get("redis_version", "?")
            own = await self._opened.run("ACL", "GETUSER", self._target.user)
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]
        rights = str(own)
        broad = "+@all" in rights or "~*" in rights
        wrong = await login(replace(self._address, user="remit_nobody"), "no secret")
        return [
            Check(ok=True, title="the server answers", detail=f"Redis {version}, {len(nodes)} node(s)"),
            Check(
                ok=not wrong.anonymous,
                title="nobody is served without a login",
                detail="the user `default` needs no password" if wrong.anonymous else "",
                next_step="ACL SETUSER default off: until then a lease protects nothing, and no revocation is proved",
            ),
            Check(
                ok=not broad,
                title="the broker holds no more than it needs",
                detail=f"`{self._target.user}` may do everything" if broad else "",
                next_step="give it a login of its own: " + MANIFEST.needs[0],
            ),
            Check(
                ok=False,
                title="live sessions end when Remit is dead",
                detail="not fail-safe: users of Redis know no expiry",
                next_step="start Remit again: it ends what outlived it",
            ),
        ]

    @property
    def _opened(self) -> Server:
        if self._first is None:
            raise not_open(self._target)
        return self._first

    def _database(self, asked: str) -> str:
        database = asked or self._target.database or "0"
        if not database.isdecimal() or len(database) > 4:
            raise Rejected("access.redis.database", f"`{database[:40]}` is no database of Redis: they are numbers")
        return database

    async def _nodes(self) -> dict[Node, Server]:
        """Every server to which a lease belongs, as the first one tells now. One that is no more is forgotten."""
        first = self._opened
        home: Node = (self._address.host, self._address.port)
        wanted = [node for node in (*self._settings.nodes, *await first.peers()) if node != home]
        for gone in self._servers.keys() - set(wanted):
            await self._servers.pop(gone).close()
        for host, port in wanted:
            if (host, port) not in self._servers:
                self._servers[host, port] = Server(replace(self._address, host=host, port=port), self._secret)
        return {home: first, **self._servers}

    async def _destroy(self, node: Node, server: Server, names: set[str], work: _Work) -> None:
        existing = names & await server.users()
        # SETUSER makes a user that is not there: only those that are there are switched off.
        await server.run_all([("ACL", "SETUSER", name, "off", "resetpass", "-@all") for name in sorted(existing)])
        await self._end_sessions(node, server, names, work)
        await server.run_all([("ACL", "DELUSER", name) for name in sorted(names)])
        if (await server.run("CONFIG", "GET", "aclfile"))[-1:] not in ([], [""]) and existing:
            # Somebody may have saved the file while the lease lived.
            await server.run("ACL", "SAVE")
        work.living |= names & await server.users()

    async def _end_sessions(self, node: Node, server: Server, names: set[str], work: _Work) -> None:
        """Close every connection of `names`, and those that were theirs; look again until none is left."""
        clock = asyncio.get_running_loop().time
        until = clock() + _SESSIONS_WITHIN
        ended: set[int] = set()
        while True:
            live = await server.clients()
            once = {number: name for name in names for where, number in self._seen.get(name, ()) if where == node}
            theirs = {client.id: client.user for client in live if client.user in names}
            changed = {client.id: client for client in live if client.id in once and client.id not in theirs}
            if not theirs and not changed:
                return
            if clock() > until:
                work.living |= set(theirs.values())
                return
            for number, name in theirs.items():
                work.count(name, 0 if number in ended else 1)
            for number, client in changed.items():
                if number not in ended:
                    work.note_changed(once[number], client)
            ended |= theirs.keys() | changed.keys()
            await server.run_all(
                [("CLIENT", "KILL", "ID", number) for number in sorted(theirs.keys() | changed.keys())]
            )
            await asyncio.sleep(_LOOK_AGAIN)

    async def _prove(self, orders: Sequence[RevokeOrder], addresses: Sequence[Address], work: _Work) -> list[Proof]:
        """Be refused with each secret on each node, where the broker's own login works in the same run."""
        if work.troubles:
            return [Unproved(why="; ".join(work.troubles)[:400]) for _ in orders]
        gate = asyncio.Semaphore(_PROBES)

        async def attempt(address: Address, order: RevokeOrder) -> Attempt:
            async with gate:
                return await login(replace(address, user=order.principal), order.secret)

        controls = await asyncio.gather(*(login(address, self._secret) for address in addresses))
        proofs: list[Proof] = []
        for order in orders:
            tried = await asyncio.gather(*(attempt(address, order) for address in addresses))
            proofs.append(_judge(order, tried, controls, self._target.user, work))
        return proofs

    def _watch(self, principal: str) -> None:
        self._seen.setdefault(principal, set())
        if self._settings.census and (self._census is None or self._census.done()):
            self._census = asyncio.get_running_loop().create_task(self._count_on())

    async def _count_on(self) -> None:
        """While leases live, remember which connections are theirs, so that one cannot slip away as somebody else."""
        while self._seen and self._first is not None:
            with suppress(RemitError):
                await self._look(await self._nodes(), set(self._seen))
            await asyncio.sleep(self._settings.census)

    async def _look(self, nodes: dict[Node, Server], names: set[str]) -> None:
        for node, server in nodes.items():
            with suppress(RemitError):
                for client in await server.clients():
                    if client.user in names and client.user in self._seen:
                        self._seen[client.user].add((node, client.id))


@dataclass(slots=True)
class _Work:
    """What one call of `revoke` has found and done so far."""

    ended: dict[str, int] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    left: dict[str, list[LeftBehind]] = field(default_factory=dict)

    def count(self, name: str, more: int) -> None:
        self.ended[name] = self.ended.get(name, 0) + more

    def note_changed(self, name: str, client: Client) -> None:
        self.count(name, 1)
        what = f"a connection that logged in again as `{client.user[:80]}`"
        self.left.setdefault(name, []).append(LeftBehind(what=what, fate="removed"))


def _judge(
    order: RevokeOrder, tried: Sequence[Attempt], controls: Sequence[Attempt], broker: str, work: _Work
) -> Proof:
    if order.principal in work.living:
        return Unproved(why="the user or a connection of it would not go")
    if any(one.anonymous for one in tried):
        return Unproved(why="the server serves whoever shows no secret: the user `default` needs no password")
    return judge(
        tried, controls, control=f"login as {broker}", of_credential=lambda one: one.words.startswith("WRONGPASS")
    )


class RedisBrokerFactory:
    """The plug-in."""

    id = "redis"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> RedisBroker:
        """A broker for `target`; nothing is opened yet."""
        try:
            import redis  # noqa: F401
        except ImportError:
            raise Misconfigured(
                "access.redis.driver", "the driver for Redis is not installed", next_step="pip install 'remit[redis]'"
            ) from None
        return RedisBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `redis://USER@HOST[:PORT][/DATABASE]`, or `rediss://` for TLS."""
        tls = url.startswith(("rediss:", "valkeys:"))
        where = read_location(
            url,
            schemes={"redis": 6379, "rediss": 6379, "valkey": 6379, "valkeys": 6379},
            database="0",
            parameters=frozenset({"ca"}),
            write_as="redis://USER@HOST:PORT",
        )
        return replace(where, options={**where.options, **({"tls": "true"} if tls else {})})

    def present(self, credential: Credential) -> Presentation:
        """A URL for libraries in a private file, and what `redis-cli` reads."""
        settings = credential.settings
        scheme = "rediss" if settings.get("tls") else "redis"
        query = {"ssl_ca_certs": settings["ca"]} if "ca" in settings else {}
        url = url_of(scheme, credential, path=settings.get("db", "0"), query=query)
        stem = f"{credential.target}-{credential.role}"
        return Presentation(
            variables={
                "REDIS_HOST": settings.get("host", ""),
                "REDIS_PORT": settings.get("port", ""),
                "REDIS_USERNAME": settings.get("user", ""),
                "REDIS_DB": settings.get("db", "0"),
            },
            secrets={"REDISCLI_AUTH": credential.secret, "REDIS_PASSWORD": credential.secret, "REDIS_URL": url},
            files={f"{stem}.redis-url": url, f"{stem}.redis-password": credential.secret},
            pointers={"REDIS_URL_FILE": f"{stem}.redis-url", "REDIS_PASSWORD_FILE": f"{stem}.redis-password"},
            stale=("REDISCLI_AUTH", "REDIS_PASSWORD", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME"),
            url=url,
        )
