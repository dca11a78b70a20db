"""PostgreSQL: a role for each lease, member of one group role, gone with its sessions when the task ends."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from remit.access.brokers.location import Location
from remit.access.brokers.port import Check, Session
from remit.access.brokers.postgres_client import locate, present
from remit.access.brokers.postgres_settings import MANIFEST, checks, decode_options
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import PRINCIPAL, instance_of, of_instance
from remit.access.brokers.refusals import not_open, require_mapped
from remit.access.model import (
    LeftBehind,
    Minted,
    MintOrder,
    Proof,
    Proved,
    Revocation,
    RevokeOrder,
    Target,
    Unproved,
)
from remit.kernel.errors import Conflict, Denied, Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.postgres import leases, standing
from remit.providers.postgres.address import Address
from remit.providers.postgres.client import Server, connected, databases, describe, translated_errors
from remit.providers.postgres.desk import APPLICATION, Desk
from remit.providers.postgres.inspection import inspect
from remit.providers.postgres.leases import Locked, Trace
from remit.providers.postgres.login import Admitted, Attempt, Connecting, Refused, Unreached, login
from remit.providers.postgres.scram import salted
from remit.providers.postgres.script import installed_functions, quote_identifier, quote_literal

_SESSIONS_WITHIN = timedelta(seconds=10)
_PROBES = 16


class PostgresBroker:
    """Mints, renews, revokes, proves and sweeps on one PostgreSQL server."""

    def __init__(self, target: Target, secret: str, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self._settings = decode_options(target.options)
        self._target = target
        self._address = Address(
            host=target.host,
            port=target.port,
            user=target.user,
            database=target.database,
            ssl_mode=target.options.get("sslmode", ""),
            ssl_root=target.options.get("sslrootcert", ""),
        )
        self._secret = secret
        self._randomness = randomness
        self._desk: Desk | None = None
        self._server: Server | None = None
        # What was minted by this process: a role that somebody else dropped has no name to find its sessions by.
        self._oids: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"PostgresBroker({self._address})"

    @property
    def instance(self) -> str:
        """The server's own fingerprint, read by `open`; before it the one that was kept with the target."""
        return self._target.instance if self._server is None else self._server.instance

    async def open(self) -> None:
        """Connect, and read who the server is; `Misconfigured` when it is another one than was added."""
        await self.close()
        desk = Desk(self._address, self._secret, self._target.roles.values())
        try:
            async with desk.seat() as seat:
                server = await describe(seat.connection, self._address)
            if self._target.instance and self._target.instance != server.instance:
                raise Misconfigured(
                    "access.target.changed",
                    f"what answers at `{self._address}` is another server than target `{self._target.name}`",
                    next_step="see who listens there, or add it as a new target",
                )
        except BaseException:
            await desk.close()
            raise
        self._desk, self._server = desk, server

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        desk, self._desk = self._desk, None
        if desk is not None:
            await desk.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Create the role, and log in with it once. The same order again is the same credential."""
        instance = instance_of([order.principal])
        require_mapped(self._target, order.role, "GROUP")
        address = self._lease_address(order.principal, order.database)
        async with Connecting(address) as way:
            known = await asyncio.to_thread(
                salted, order.secret, salt=self._randomness(16), iterations=self._settings.iterations
            )
            async with self._open_desk.seat(instance=instance) as seat:
                self._oids[order.principal] = await leases.mint(
                    seat,
                    principal=order.principal,
                    verifier=known.verifier,
                    until=order.expires,
                    connections=self._settings.connections,
                    group=order.role,
                    own=self._settings.own,
                    label=" ".join(order.label.split())[:512],
                )
            tried = await login(address, order.secret, over=way, known=known)
        match tried:
            case Admitted():
                return Minted(principal=order.principal, settings=address.settings())
            case Refused() as refused:
                raise Rejected(
                    "access.lease.login",
                    f"the new credential does not work on `{address.database}`: {refused}",
                    next_step="see pg_hba.conf and the CONNECT right of PUBLIC or the group on that database",
                )
            case Unreached() as unreached:
                raise Unavailable("access.lease.login", f"the new credential could not be tried: {unreached.why}")

    def mint_steps(self, order: MintOrder) -> Sequence[str]:
        """As the function `mint` on the server carries it out; the verifier of the secret is left out."""
        role, inherit = quote_identifier(order.principal), "INHERIT" if self._settings.own else "NOINHERIT"
        group = quote_identifier(order.role)
        grant = f"GRANT {group} TO {role}"
        return (
            f"CREATE ROLE {role} LOGIN {inherit} PASSWORD 'SCRAM-SHA-256$…' VALID UNTIL '{order.expires:%FT%TZ}'"
            f" CONNECTION LIMIT {self._settings.connections}",
            f"{grant} WITH INHERIT TRUE, SET FALSE" if self._settings.own else grant,
            *(() if self._settings.own else (f"ALTER ROLE {role} SET role = {quote_literal(order.role)}",)),
        )

    @property
    def spares(self) -> int:
        """The option `warm`."""
        return self._settings.warm

    async def park(self, principal: str, until: datetime) -> None:
        """No session may begin: `CONNECTION LIMIT 0`."""
        if not await self._arm(principal, 0, until, "a spare: given to nobody yet"):
            raise Rejected("access.lease.gone", "the credential is gone, or being revoked")

    async def arm(self, order: MintOrder) -> Minted:
        """Sessions may begin, until the order's expiry."""
        if not await self._arm(order.principal, self._settings.connections, order.expires, order.label):
            raise Conflict("access.lease.revoking", "the credential is being revoked, or gone")
        settings = self._lease_address(order.principal, order.database).settings()
        return Minted(principal=order.principal, settings=settings)

    async def _arm(self, principal: str, connections: int, until: datetime, label: str) -> bool:
        text = " ".join(label.split())[:512]
        async with self._open_desk.seat(instance=instance_of([principal])) as seat:
            return await leases.arm(seat, principal=principal, connections=connections, until=until, label=text)

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move VALID UNTIL; returns those that still exist and are not being revoked."""
        if not principals:
            return []
        async with self._open_desk.seat(instance=instance_of(principals)) as seat:
            return await leases.renew(seat, principals, expires)

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them in one go and prove each; those that could not be finished say `gone=False` and why."""
        if not orders:
            return []
        clock = asyncio.get_running_loop().time
        started = clock()
        names = [order.principal for order in orders]
        work = _Work(instance=instance_of(names))
        await self._destroy(names, work)
        proofs = await self._prove(orders, work)
        duration = timedelta(seconds=clock() - started)
        return [self._report(order, proof, work, duration) for order, proof in zip(orders, proofs, strict=True)]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that exist on the server."""
        async with self._open_desk.seat() as seat:
            names = await leases.existing(seat, f"^remit_{re.escape(instance)}_[0-9a-hjkmnp-tv-z]{{26}}$")
        return of_instance(names, instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        try:
            async with self._open_desk.seat() as seat:
                footing = await inspect(seat.connection, sorted(set(self._target.roles.values())))
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]
        control = await login(self._address, self._randomness(16).hex())
        return checks(footing, control, self._target)

    async def activity(self) -> Sequence[Session]:
        """Every client's session but our own; statements are empty where `pg_read_all_stats` is missing."""
        async with self._open_desk.seat() as seat:
            rows = await standing.activity(seat.connection, APPLICATION)
        return [
            Session(
                number=row.pid,
                principal=row.role,
                connected=row.connected,
                statement=row.statement,
                started=row.started,
                application=row.application,
                client=row.client,
            )
            for row in rows
        ]

    async def revoke_static(self, principal: str, secret: str | None) -> Revocation:
        """Take password and LOGIN from a role that Remit did not mint, end its sessions, and prove it by `secret`.

        What the role owns and is granted stays. Raises `Denied` (`access.static.protected`) for our own account, an
        administrator, or a group that leases use; `Rejected` (`access.static.leased`) for a lease's principal.
        """
        if PRINCIPAL.fullmatch(principal):
            raise Rejected("access.static.leased", f"`{principal}` is a lease's", next_step="revoke the lease")
        clock = asyncio.get_running_loop().time
        started, ended, gone = clock(), 0, True
        async with self._open_desk.seat() as seat:
            role = await standing.look_up(seat.connection, principal, list(self._target.roles.values()))
            if role is not None:
                if role.administers or role.leased or principal == self._target.user:
                    raise Denied(
                        "access.static.protected",
                        f"`{principal}` administers the server or carries leases: Remit does not end its login",
                        next_step="have a person change its password on the server",
                    )
                await standing.end_login(seat.connection, principal)
                ended, gone = await standing.end_sessions_of(seat.connection, role.oid, within=_SESSIONS_WITHIN)
        return Revocation(
            principal=principal,
            gone=gone,
            sessions_ended=ended,
            proof=await self._prove_static(principal, secret) if gone else Unproved(why="a session would not end"),
            duration=timedelta(seconds=clock() - started),
        )

    def install_script(self, instance: str) -> str:
        """What `install` runs in each database."""
        return install_sql(self._target, instance)

    async def install(self, instance: str) -> Sequence[str]:
        """Install functions, DDL notes and reaper in every database, as a superuser; returns the databases."""
        script = installed_functions(instance, self._target.roles.values(), self._target.user)
        async with self._open_desk.seat() as seat:
            names = await databases(seat.connection, templates=False)
        for name in names:
            address = replace(self._address, database=name)
            async with connected(address, self._secret) as connection:
                with translated_errors(address):
                    async with connection.transaction():
                        await connection.execute(script)
        # Connections at hand were equipped before the functions were there.
        await self.open()
        return names

    @property
    def _open_desk(self) -> Desk:
        if self._desk is None:
            raise not_open(self._target)
        return self._desk

    def _lease_address(self, principal: str, database: str) -> Address:
        return replace(self._address, user=principal, database=database or self._target.database)

    async def _destroy(self, names: Sequence[str], work: _Work) -> None:
        desk = self._open_desk
        async with desk.seat(instance=work.instance) as seat:
            # 1. No new login, committed.
            work.locked = {one.principal: one for one in await leases.lock(seat, names)}
            # 2. No live session: by oid, and again until none is left. Also of those that somebody dropped under us.
            oids = {name: self._oids[name] for name in names if name in self._oids}
            work.oids = oids | {name: one.oid for name, one in work.locked.items()}
            work.ended, busy = await leases.end_sessions(seat, list(work.oids.values()), within=_SESSIONS_WITHIN)
            for name in [name for name, oid in work.oids.items() if oid in busy]:
                work.stuck[name] = "a session would not end"
                work.locked.pop(name, None)
            ready = list(work.locked.values())
            # 3. No prepared transaction, whose locks would block the rest.
            some = ready if ready and await leases.has_prepared_transactions(seat) else ()
            prepared = [(one, found) for one in some for found in await leases.prepared_transactions(seat, one)]
            databases = await leases.databases_of_interest(seat, ready) if ready else {}
        for one, found in prepared:
            await self._roll_back(one, found, work)
        # 4. Every database is taken back.
        await asyncio.gather(*(self._clean(database, oids, ready, work) for database, oids in databases.items()))
        # 5. The roles go, and 6. one last look for a session that was being born when we locked.
        await self._remove([one.principal for one in ready if one.principal not in work.stuck], work)

    async def _roll_back(self, one: Locked, found: leases.Prepared, work: _Work) -> None:
        try:
            work.note(one, await leases.roll_back(self._open_desk, found))
        except RemitError as error:
            work.stuck.setdefault(one.principal, f"a prepared transaction: {error.message}")

    async def _clean(self, database: str, oids: frozenset[int], ready: Sequence[Locked], work: _Work) -> None:
        try:
            async with self._open_desk.seat(database, instance=work.instance) as seat:
                if not await leases.dirty(seat, ready):
                    return
        except RemitError as error:
            for one in ready:
                if one.oid in oids:
                    work.stuck.setdefault(one.principal, f"database {database}: {error.message}")
                else:
                    what = f"whatever {one.principal} did as its group in {database}: {error.message}"
                    work.note(one, Trace(what=what, fate="not seen"))
            return
        for one in ready:
            try:
                async with self._open_desk.seat(database, instance=work.instance) as seat:
                    for trace in await leases.clean(seat, one, self._settings.keep):
                        work.note(one, replace(trace, what=f"{trace.what} in {database}"))
            except RemitError as error:
                work.stuck.setdefault(one.principal, f"database {database}: {error.message}")

    async def _remove(self, names: Sequence[str], work: _Work) -> None:
        if names:
            try:
                async with self._open_desk.seat(instance=work.instance) as seat:
                    await leases.remove(seat, names)
            except RemitError as error:
                if len(names) > 1:
                    # One that cannot go must not hold the others.
                    for name in names:
                        await self._remove([name], work)
                    return
                work.stuck[names[0]] = error.message
        oids = [oid for name, oid in work.oids.items() if name in names]
        if oids:
            async with self._open_desk.seat(instance=work.instance) as seat:
                late, _ = await leases.end_sessions(seat, oids, within=_SESSIONS_WITHIN)
            work.ended += late

    async def _prove(self, orders: Sequence[RevokeOrder], work: _Work) -> list[Proof]:
        """Be refused with each secret, where the broker's own login works in the same run, by the same way in."""
        gate = asyncio.Semaphore(_PROBES)

        async def attempt(order: RevokeOrder) -> Attempt:
            async with gate:
                return await login(self._lease_address(order.principal, order.database), order.secret)

        attempts = await asyncio.gather(*(attempt(order) for order in orders))
        controls: dict[str, Attempt] = {}
        for database in {order.database or self._target.database for order in orders}:
            controls[database] = await login(replace(self._address, database=database), self._secret)
        return [
            _judge(tried, controls[order.database or self._target.database], self._address.user)
            for order, tried in zip(orders, attempts, strict=True)
        ]

    async def _prove_static(self, principal: str, secret: str | None) -> Proof:
        if secret is None:
            return Unproved(why="the secret is not known, and only with it can a refusal be shown")
        tried = await login(replace(self._address, user=principal), secret)
        return _judge(tried, await login(self._address, self._secret), self._address.user)

    def _report(self, order: RevokeOrder, proof: Proof, work: _Work, duration: timedelta) -> Revocation:
        name = order.principal
        if (why := work.stuck.get(name)) is not None:
            proof = Unproved(why=why)
        else:
            self._oids.pop(name, None)
        return Revocation(
            principal=name,
            gone=name not in work.stuck,
            sessions_ended=work.ended[work.oids[name]] if name in work.oids else 0,
            proof=proof,
            left_behind=tuple(work.traces.get(name, ())),
            duration=duration,
        )


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one call of `revoke` has found and done so far."""

    instance: str
    locked: dict[str, Locked] = field(default_factory=dict)
    oids: dict[str, int] = field(default_factory=dict)
    ended: Counter[int] = field(default_factory=Counter)
    stuck: dict[str, str] = field(default_factory=dict)
    traces: dict[str, list[LeftBehind]] = field(default_factory=dict)

    def note(self, one: Locked, trace: Trace) -> None:
        self.traces.setdefault(one.principal, []).append(LeftBehind(what=trace.what, fate=trace.fate))


class PostgresBrokerFactory:
    """The plug-in."""

    id = "postgres"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> PostgresBroker:
        """A broker for `target`; nothing is opened yet."""
        return PostgresBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `postgres://USER@HOST[:PORT]/DATABASE[?sslmode=…&sslrootcert=…]`."""
        return locate(url)

    def present(self, credential: Credential) -> Presentation:
        """`PGPASSFILE`, `PGSERVICEFILE`, and libpq's variables."""
        return present(credential)


def install_sql(target: Target, instance: str) -> str:
    """The script that a superuser runs in each database of `target`, so that its login needs no right of its own."""
    return installed_functions(instance, target.roles.values(), target.user)


def _judge(tried: Attempt, control: Attempt, broker: str) -> Proof:
    match tried, control:
        case Admitted(), _:
            return Unproved(why="the server still admits the credential")
        case Unreached(), _:
            return Unproved(why=f"the server could not be asked: {tried.why}")
        case Refused(), Admitted() if tried.is_authentication:
            return Proved(refusal=str(tried), control=f"login as {broker}")
        case Refused(), Admitted():
            asked = (
                "" if tried.asked else ", and asked for no password: trust or a like method says nothing of a secret"
            )
            return Unproved(why=f"the refusal is not of the credential: {tried}{asked}")
        case Refused(), Refused():
            return Unproved(why=f"the control was refused too: {control}")
        case Refused(), Unreached():
            return Unproved(why=f"the control could not be made: {control.why}")
    raise AssertionError((tried, control))
