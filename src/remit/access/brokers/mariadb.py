"""MariaDB: an account for each lease, in one role, gone with its sessions and its code when the task ends.

The order of a revocation: the account is locked → its sessions are killed by number, and looked for again until none is
left → events, triggers, views and routines in its name are removed → it is dropped, and logins that were halfway in are
waited for → its secret is refused, while the broker's own login works. A lock or a drop alone ends no session.

Spec: MariaDB "CREATE USER", "Account Locking", "KILL", "Roles", "XA Transactions".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.mariadb_settings import MANIFEST, check_grants, decode_options
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation, url_of
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.proof import judge
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
from remit.kernel.errors import Conflict, Misconfigured, Rejected, RemitError
from remit.providers.mariadb import catalogue
from remit.providers.mariadb.catalogue import Account, Code, Live
from remit.providers.mariadb.client import ACCESS_DENIED, Address, Attempt, Server, Session, login
from remit.providers.mariadb.hashing import verifier

_SESSIONS_WITHIN = 10.0
_PATIENCE = 0.5
"""Seconds that a login which was halfway in has to come up, before it is killed."""
_LOOK_AGAIN = 0.03
_PROBES = 4
_T = TypeVar("_T")


class MariaBroker:
    """Mints, renews, revokes, proves and sweeps on one MariaDB server."""

    def __init__(self, target: Target, secret: str) -> None:
        self._settings = decode_options(target)
        self._target = target
        self._secret = secret
        self._address = Address(
            host=target.host, port=target.port, user=target.user, tls=self._settings.tls, ca=self._settings.ca
        )
        self._server: Server | None = None
        self._census: asyncio.Task[None] | None = None
        # A session that changed to another account is known by its number alone.
        self._seen: dict[str, set[int]] = {}
        self._prepared: dict[str, set[str]] = {}
        self._of_roles: dict[str, set[Code]] = {}
        self._up: tuple[int, float] | None = None

    def __repr__(self) -> str:
        return f"MariaBroker({self._address})"

    async def open(self) -> None:
        """Log in and see that accounts are readable; `Unavailable`, or `Misconfigured` for a lack of rights."""
        await self.close()
        server = Server(self._address, self._secret)
        try:
            await server.call(catalogue.accounts)
        except BaseException:
            await server.close()
            raise
        self._server = server

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        census, self._census = self._census, None
        if census is not None:
            census.cancel()
            await asyncio.wait({census})
        server, self._server = self._server, None
        if server is not None:
            await server.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Make the account with its role, and log in with it once. The same order again is the same credential."""
        instance_of([order.principal])
        require_mapped(self._target, order.role, "ROLE")
        check_grants(order.role, await self._call(lambda session: catalogue.grants_of_role(session, order.role)))
        await self._remember(order)
        await self._call(lambda session: self._make(session, order))
        address = replace(self._address, user=order.principal)
        # An account may set its own default role; for another's one needs the right to write every table of `mysql`.
        tried = await login(
            address, order.secret, lambda session: session.rows(f"SET DEFAULT ROLE {catalogue.name(order.role)}")
        )
        if not tried.admitted:
            raise Rejected(
                "access.mariadb.login",
                f"the new credential does not work: {tried.words}",
                next_step="see `remit doctor`: an anonymous account may stand before it, or the option `host`",
            )
        self._watch(order.principal)
        shown = replace(address, database=order.database or self._target.database)
        return Minted(principal=order.principal, settings=shown.settings())

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Accounts of MariaDB expire by the day: returns those that still exist."""
        if not principals:
            return []
        instance_of(principals)
        existing = {one.user for one in await self._call(lambda session: catalogue.accounts(session, principals))}
        return [name for name in principals if name in existing]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them in one go, and prove each."""
        if not orders:
            return []
        clock = asyncio.get_running_loop().time
        started, names = clock(), [order.principal for order in orders]
        instance_of(names)
        work = _Work()
        await self._destroy(names, work)
        proofs = await self._prove(orders, work)
        for name in set(names) - work.living:
            self._seen.pop(name, None)
            self._prepared.pop(name, None)
            self._of_roles.pop(name, None)
        return [
            Revocation(
                principal=name,
                gone=name not in work.living,
                sessions_ended=work.ended.get(name, 0),
                proof=proof,
                left_behind=tuple(work.left.get(name, ())),
                duration=timedelta(seconds=clock() - started),
            )
            for name, proof in zip(names, proofs, strict=True)
        ]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that exist on the server."""
        return of_instance({one.user for one in await self._call(catalogue.accounts)}, instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        try:
            [(version,)] = await self._call(lambda session: session.rows("SELECT VERSION()"))
            anonymous = [one for one in await self._call(catalogue.accounts) if not one.user]
            grants = await self._call(lambda session: session.rows("SHOW GRANTS"))
            wrong = await login(replace(self._address, user="remit_nobody"), "no secret")
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]
        broad = any("ALL PRIVILEGES ON *.*" in str(row[0]) or "SUPER" in str(row[0]) for row in grants)
        return [
            Check(ok=True, title="the server answers", detail=f"MariaDB {version}"),
            Check(
                ok=not wrong.admitted,
                title="logins are checked",
                detail="an unknown account was admitted" if wrong.admitted else "an unknown account was refused",
                next_step="until then no revocation can be proved",
            ),
            Check(
                ok=not anonymous,
                title="there are no anonymous accounts",
                detail=", ".join(str(one) for one in anonymous[:5]),
                next_step="DROP USER them: they stand before other accounts, and admit any name",
            ),
            Check(
                ok=not broad,
                title="the broker holds no more than it needs",
                detail=f"`{self._target.user}` may do everything" if broad else "",
                next_step="give it a login of its own: " + "; ".join(MANIFEST.needs[:3]),
            ),
            Check(
                ok=False,
                title="live sessions end when Remit is dead",
                detail="not fail-safe: accounts of MariaDB expire by the day",
                next_step="start Remit again: it ends what outlived it",
            ),
        ]

    async def _call(self, work: Callable[[Session], _T]) -> _T:
        if self._server is None:
            raise not_open(self._target)
        return await self._server.call(work)

    def _make(self, session: Session, order: MintOrder) -> None:
        """The account, and one more for each host whose anonymous account would stand before it."""
        known = catalogue.accounts(session)
        if any(one.user == order.principal and one.locked for one in known):
            raise Conflict("access.lease.revoking", "the credential is being revoked")
        hosts = {self._settings.host}
        hosts |= {one.host for one in known if not one.user and self._settings.host == "%"}
        mine = [str(Account(user=order.principal, host=host, locked=False)) for host in sorted(hosts)]
        how = f"IDENTIFIED VIA {self._settings.auth} USING %s"
        rest = f"{'REQUIRE SSL ' if self._settings.tls else ''}WITH MAX_USER_CONNECTIONS {self._settings.connections}"
        users = ", ".join(f"{one.replace('%', '%%')} {how}" for one in mine)
        shown = verifier(self._settings.auth, order.secret)
        session.rows(f"CREATE USER IF NOT EXISTS {users} {rest}", [shown] * len(mine))
        session.rows(f"GRANT {catalogue.name(order.role)} TO {', '.join(mine)}")

    async def _remember(self, order: MintOrder) -> None:
        """What was there before the lease, for what does not say whose it is."""
        if order.principal not in self._prepared:
            roles = [order.role]
            code = await self._call(lambda session: catalogue.code_of(session, (), roles))
            self._prepared[order.principal] = await self._call(catalogue.prepared)
            self._of_roles[order.principal] = set(code)

    async def _destroy(self, names: Sequence[str], work: _Work) -> None:
        accounts = await self._call(lambda session: catalogue.accounts(session, names))
        everyone = ", ".join(str(one) for one in accounts)
        if accounts:
            await self._call(lambda session: session.rows(f"ALTER USER IF EXISTS {everyone} ACCOUNT LOCK"))
        await self._end_sessions(set(names), work)
        await self._clean(names, work)
        if accounts:
            await self._call(lambda session: session.rows(f"DROP USER IF EXISTS {everyone}"))
        # The server looks an account up before it asks for the secret: who stood there when it was locked gets in.
        await self._end_sessions(set(names), work, halfway=await self._halfway())
        work.living |= {one.user for one in await self._call(lambda session: catalogue.accounts(session, names))}

    async def _halfway(self) -> frozenset[int]:
        return frozenset(one.id for one in await self._live() if one.user == catalogue.UNAUTHENTICATED)

    async def _live(self) -> list[Live]:
        """Every connection; numbers of a server that was started anew mean nothing."""

        def look(session: Session) -> tuple[list[Live], int]:
            return catalogue.live_sessions(session), catalogue.uptime(session)

        live, up = await self._call(look)
        now, last = asyncio.get_running_loop().time(), self._up
        if last is not None and up - last[0] < now - last[1] - 2:
            self._seen = {name: set() for name in self._seen}
        self._up = (up, now)
        return live

    async def _end_sessions(self, names: set[str], work: _Work, *, halfway: frozenset[int] = frozenset()) -> None:
        """Kill every session of `names`, and those that were theirs, by number; look again until none is left."""
        clock = asyncio.get_running_loop().time
        started = clock()
        while True:
            live = await self._live()
            once = {number: name for name in names for number in self._seen.get(name, ())}
            theirs = {one.id: one for one in live if one.user in names}
            changed = {one.id: one for one in live if one.id in once and one.id not in theirs}
            waiting = {one.id for one in live if one.id in halfway and one.user == catalogue.UNAUTHENTICATED}
            if not theirs and not changed and not waiting:
                return
            if clock() > started + _SESSIONS_WITHIN:
                work.living |= {one.user for one in theirs.values()} | {once[number] for number in changed}
                work.living |= names if waiting else set()
                return
            work.count(theirs, changed, once)
            late = waiting if clock() > started + _PATIENCE else set()
            await self._kill(sorted(theirs.keys() | changed.keys() | late))
            await asyncio.sleep(_LOOK_AGAIN)

    async def _kill(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            with suppress(Rejected):
                # It may have gone by itself. By the account's name nothing is killed where the host was resolved.
                await self._call(lambda session, number=number: session.rows(f"KILL CONNECTION {number:d}"))  # type: ignore[misc]

    async def _clean(self, names: Sequence[str], work: _Work) -> None:
        roles = sorted(set(self._target.roles.values()))
        for code in await self._call(lambda session: catalogue.code_of(session, names, roles)):
            if not code.of_role:
                work.note(code.definer, str(code), await self._remove(code, roles))
                continue
            for name in names:
                if name in self._of_roles and code not in self._of_roles[name]:
                    work.note(name, f"{code} in the name of the role `{code.definer}`", "reported")
        for transaction in sorted(await self._call(catalogue.prepared)):
            for name in names:
                if name in self._prepared and transaction not in self._prepared[name]:
                    fate = await self._roll_back(transaction) if self._settings.roll_back else "reported"
                    work.note(name, f"prepared XA transaction {transaction[:80]}", fate)

    async def _remove(self, code: Code, roles: Sequence[str]) -> str:
        """By our own rights, else by those of a role."""
        if self._settings.keep_code and code.kind not in ("EVENT", "TRIGGER"):
            return "kept"

        def drop(session: Session) -> str:
            from pymysql import err

            for role in (None, *roles):
                with suppress(err.Error):
                    session.rows("SET ROLE NONE" if role is None else f"SET ROLE {catalogue.name(role)}")
                    session.rows(code.drop)
                    session.rows("SET ROLE NONE")
                    return "removed"
            session.rows("SET ROLE NONE")
            return "reported"

        return await self._call(drop)

    async def _roll_back(self, transaction: str) -> str:
        with suppress(Rejected, ValueError):
            await self._call(lambda session: catalogue.roll_back(session, transaction))
            return "removed"
        return "reported"

    async def _prove(self, orders: Sequence[RevokeOrder], work: _Work) -> list[Proof]:
        """Be refused with each secret, where the broker's own login works in the same run."""
        gate = asyncio.Semaphore(_PROBES)

        async def attempt(order: RevokeOrder) -> Attempt:
            async with gate:
                return await login(replace(self._address, user=order.principal), order.secret)

        tried = await asyncio.gather(*(attempt(order) for order in orders))
        control = await login(self._address, self._secret)
        return [_judge(order, one, control, self._target.user, work) for order, one in zip(orders, tried, strict=True)]

    def _watch(self, principal: str) -> None:
        self._seen.setdefault(principal, set())
        if self._settings.census and (self._census is None or self._census.done()):
            self._census = asyncio.get_running_loop().create_task(self._count_on())

    async def _count_on(self) -> None:
        """While leases live, remember which sessions are theirs, so that one cannot slip away as somebody else."""
        while self._seen and self._server is not None:
            with suppress(RemitError):
                for one in await self._live():
                    if one.user in self._seen:
                        self._seen[one.user].add(one.id)
            await asyncio.sleep(self._settings.census)


@dataclass(slots=True)
class _Work:
    """What one call of `revoke` has found and done so far."""

    ended: dict[str, int] = field(default_factory=dict)
    counted: set[int] = field(default_factory=set)
    living: set[str] = field(default_factory=set)
    left: dict[str, list[LeftBehind]] = field(default_factory=dict)

    def count(self, theirs: dict[int, Live], changed: dict[int, Live], once: dict[int, str]) -> None:
        """Each session once."""
        for number, one in {**theirs, **changed}.items():
            if number not in self.counted:
                self.counted.add(number)
                name = one.user if number in theirs else once[number]
                self.ended[name] = self.ended.get(name, 0) + 1
                if number in changed:
                    self.note(name, f"a session that changed to the account `{one.user[:80]}`", "removed")

    def note(self, name: str, what: str, fate: str) -> None:
        self.left.setdefault(name, []).append(LeftBehind(what=what, fate=fate))


def _judge(order: RevokeOrder, tried: Attempt, control: Attempt, broker: str, work: _Work) -> Proof:
    if order.principal in work.living:
        return Unproved(why="the account or a session of it would not go")
    return judge([tried], [control], control=f"login as {broker}", of_credential=lambda one: one.code in ACCESS_DENIED)


class MariaBrokerFactory:
    """The plug-in."""

    id = "mariadb"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> MariaBroker:
        """A broker for `target`; nothing is opened yet."""
        try:
            import pymysql  # noqa: F401
        except ImportError:
            raise Misconfigured(
                "access.mariadb.driver",
                "the driver for MariaDB is not installed",
                next_step="pip install 'remit[mariadb]'",
            ) from None
        return MariaBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `mariadb://USER@HOST[:PORT]/DATABASE[?tls=true&ca=FILE]`; HOST may be the path of a socket, encoded."""
        return read_location(
            url,
            schemes={"mariadb": 3306},
            parameters=frozenset({"tls", "ca"}),
            write_as="mariadb://USER@HOST:PORT/DATABASE",
        )

    def present(self, credential: Credential) -> Presentation:
        """An option file, which clients find by `MYSQL_HOME`, and a URL for libraries in a private file."""
        settings = credential.settings
        query = {"ssl_ca": settings["ca"]} if "ca" in settings else {}
        url = url_of("mariadb", credential, path=settings.get("database", ""), query=query)
        stem = f"{credential.target}-{credential.role}"
        options = _option_file(credential)
        return Presentation(
            variables={
                "MYSQL_HOST": settings.get("host", ""),
                "MYSQL_TCP_PORT": settings.get("port", ""),
                "MYSQL_USER": settings.get("user", ""),
                "MYSQL_DATABASE": settings.get("database", ""),
            },
            secrets={"MYSQL_PWD": credential.secret, "MYSQL_PASSWORD": credential.secret, "MYSQL_URL": url},
            files={"my.cnf": f"[client]\n{options}[client_{stem}]\n{options}", f"{stem}.mariadb-url": url},
            pointers={"MYSQL_HOME": ".", "MYSQL_DEFAULTS_FILE": "my.cnf", "MYSQL_URL_FILE": f"{stem}.mariadb-url"},
            stale=_STALE,
            url=url,
        )


_STALE = (
    *("MYSQL_HOME", "MARIADB_HOME", "MYSQL_PWD", "MYSQL_PASSWORD", "MYSQL_URL", "MYSQL_HOST", "MYSQL_TCP_PORT"),
    *("MYSQL_UNIX_PORT", "MYSQL_GROUP_SUFFIX", "MYSQL_USER", "MYSQL_DATABASE"),
)


def _option_file(credential: Credential) -> str:
    """Lines for the section `[client]`, which every client of MariaDB and MySQL reads."""
    settings = credential.settings
    host = settings.get("host", "")
    where = {"socket": host} if host.startswith("/") else {"host": host, "port": settings.get("port", "3306")}
    if not host.startswith("/"):
        where["protocol"] = "tcp"
    lines = where | {"user": settings.get("user", ""), "password": credential.secret}
    lines |= {"ssl-ca": settings["ca"]} if "ca" in settings else {}
    text = "".join(f'{key}="{_escaped(value)}"\n' for key, value in lines.items())
    return text + ("ssl\nssl-verify-server-cert\n" if settings.get("tls") else "")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "")
