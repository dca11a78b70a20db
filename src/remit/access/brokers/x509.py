"""X.509: a client certificate for each lease, and a server that reads the list of those that were revoked.

The lease stands in the book beside the list before its certificate is given out, so that a sweep finds it. The order of
a revocation: the serials of all are written on one list, which the server reads (new handshakes are refused) → nginx:
workers that serve by the old list are waited for, until none is left; PostgreSQL: sessions by these serials are ended,
until none is left → a login by the same key and serial, not expired, is refused, and so are a TLS session kept from
before, and whoever shows no certificate, while a fresh certificate of the same role is admitted.

Spec: RFC 5280; nginx, ngx_http_ssl_module; PostgreSQL documentation, "Certificate Authentication".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, issued_at, of_instance
from remit.access.brokers.x509_checks import check_target
from remit.access.brokers.x509_presentation import shown
from remit.access.brokers.x509_proof import View, Work, judge
from remit.access.brokers.x509_settings import ADMIN_UNIT, MANIFEST, Role, decode_options
from remit.access.model import Minted, MintOrder, Revocation, RevokeOrder, Target
from remit.kernel.clock import SystemClock
from remit.kernel.errors import Conflict, Misconfigured, Rejected, RemitError, Unavailable
from remit.kernel.ids import ulid
from remit.providers.x509.certificates import (
    ClientAuthority,
    client_key,
    issue,
    private_pem,
    read_authority,
    serial_of,
)
from remit.providers.x509.folder import Entry, Folder
from remit.providers.x509.logins import Again, Asked, Attempt, Server, context_for, log_in
from remit.providers.x509.sessions import Desk, open_desk
from remit.providers.x509.workers import Nginx

_CLOCK = SystemClock()
_BACKDATED = timedelta(seconds=30)
_PROBE = timedelta(seconds=120)
_UNKNOWN_KEPT = 7 * 86400
"""Seconds for which a serial stays on the list whose certificate's end is not known: it was never minted."""
_WITHIN = 10.0
_RELOADS_WITHIN = timedelta(seconds=20)
_LOOK_AGAIN = 0.02
_LOGINS_AT_ONCE = 8


class X509Broker:
    """Mints, renews, revokes, proves and sweeps at one server that trusts an authority of its own for clients."""

    def __init__(
        self,
        target: Target,
        secret: str,
        *,
        now: Callable[[], datetime] = _CLOCK.now,
        randomness: Callable[[int], bytes] = os.urandom,
        patience: timedelta = _RELOADS_WITHIN,
    ) -> None:
        self._patience = patience.total_seconds()
        self._within = _WITHIN
        self._settings = decode_options(target)
        self._authority = _read_authority(secret)
        self._target = target
        self._now = now
        self._randomness = randomness
        self._desk: _Opened | None = None
        self._gate = asyncio.Semaphore(_LOGINS_AT_ONCE)
        self._reloading = asyncio.Lock()
        self._waiting: list[Entry] = []
        self._next: asyncio.Task[list[int]] | None = None

    def __repr__(self) -> str:
        return f"X509Broker({self._target.host}:{self._target.port})"

    async def open(self) -> None:
        """Write the authority and a list into the folder; the server may come after, for it reads them to start."""
        await self.close()
        roots = await asyncio.to_thread(_read_roots, self._settings.ca)
        folder = Folder(self._settings.folder, self._authority, self._now)
        await asyncio.to_thread(folder.prepare)
        server = Server(host=self._target.host, port=self._target.port, roots=roots, speaks=self._settings.speaks)
        self._desk = _Opened(server=server, folder=folder)

    async def close(self) -> None:
        """Wait for what is being written; works twice, and after a failed `open`."""
        self._desk = None
        async with self._reloading:
            pass

    async def mint(self, order: MintOrder) -> Minted:
        """Write the lease in the book, sign its certificate, and log in with it once."""
        instance_of([order.principal])
        role = self._role(order.role)
        opened = self._opened
        self._check_database(order.database)
        key, serial = client_key(order.secret), serial_of(order.principal, order.secret)
        ends = min(order.until or order.expires, self._authority.ends).replace(microsecond=0)
        begins = datetime.fromtimestamp(issued_at(order.principal), UTC) - _BACKDATED
        certificate = self._issue(order.principal, role, key, serial, begins=begins, ends=ends)
        entry = Entry(
            principal=order.principal,
            serial=f"{serial:032x}",
            ends=int(ends.timestamp()),
            unit=role.unit,
            certificate=certificate,
        )
        known = await asyncio.to_thread(opened.folder.put, entry)
        if known.revoked or known.number != serial:
            raise Conflict("access.lease.revoking", "the credential is being revoked")
        tried = await self._log_in(role, known.certificate + private_pem(key), order.database)
        if not tried.admitted:
            raise Rejected(
                "access.lease.login",
                f"the new credential does not work: {tried.words}",
                next_step=f"`remit doctor` says what the server lacks; it must admit OU={role.unit}",
            )
        return Minted(principal=order.principal, settings=self._connect(order, role, known.certificate, opened.server))

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """A certificate cannot be changed: returns those that still live, after the list was looked after."""
        if not principals:
            return []
        instance_of(principals)
        await self._tend()
        live = set(await asyncio.to_thread(self._opened.folder.live))
        return [name for name in principals if name in live]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them, and those of calls that come meanwhile, by one list and one reload; prove each."""
        if not orders:
            return []
        clock = asyncio.get_running_loop().time
        started = clock()
        instance = instance_of([order.principal for order in orders])
        opened = self._opened
        work = [await asyncio.to_thread(self._work, opened.folder, order) for order in orders]
        kept, probes = await self._keep_sessions(instance, work)
        left = await self._strike([one.struck for one in work] + probes)
        await self._try_all(work)
        if opened.server.speaks == "postgresql":
            await self._end_sessions(work)
        view = await self._view(instance, work, kept)
        duration = timedelta(seconds=clock() - started)
        return [
            Revocation(
                principal=one.order.principal,
                gone=not left and not one.living,
                sessions_ended=len(one.seen),
                proof=judge(one, view.get(one.role.unit), left),
                duration=duration,
            )
            for one in work
        ]

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that may log in, after the list was looked after."""
        await self._tend()
        return of_instance(await asyncio.to_thread(self._opened.folder.live), instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target; it tries certificates of its own, good for two minutes."""
        opened = self._desk
        if opened is None:
            return [Check(ok=False, title="the server answers", detail="it is not open")]
        return await check_target(self._settings, opened.folder, opened.server, self)

    # What doctor's checks use.

    async def probe(self, role: Role, *, instance: str = "doctor00", lives: timedelta = _PROBE) -> Attempt:
        """A login by a fresh certificate of a role."""
        return await self._log_in(role, self.probe_identity(role, instance=instance, lives=lives))

    def probe_identity(
        self, role: Role, *, instance: str = "doctor00", lives: timedelta = _PROBE, serial: int = 0
    ) -> str:
        """A certificate of nobody's and its key, which is written nowhere; by default with a serial of its own."""
        principal, secret = self._fresh(instance)
        return self._identity(principal, secret, role, serial or serial_of(principal, secret), self._now() + lives)

    async def try_identity(self, role: Role, identity: str, *, again: Again | None = None) -> Attempt:
        """A login by this identity; empty: by none."""
        return await self._log_in(role, identity, again=again)

    async def open_desk(self) -> Desk:
        """The administrator's session on PostgreSQL, by a certificate of the broker's own."""
        server = self._opened.server
        identity = self.probe_identity(Role(unit=ADMIN_UNIT), instance="broker00")
        database = self._target.database or "postgres"
        context = await asyncio.to_thread(context_for, server, identity)
        return await open_desk(server, context, user=self._target.user, database=database)

    # Inside.

    @property
    def _opened(self) -> _Opened:
        if self._desk is None:
            raise Unavailable("access.target.closed", f"the target `{self._target.name}` is not open")
        return self._desk

    def _role(self, text: str) -> Role:
        role = self._settings.roles.get(text)
        if role is None:
            raise Rejected(
                "access.role.not_mapped",
                f"the target `{self._target.name}` maps no role to `{text[:100]}`",
                next_step="map it with `remit target add --role NAME='UNIT path=/PATH'`",
            )
        return role

    def _check_database(self, database: str) -> None:
        if database and self._settings.speaks != "postgresql":
            raise Rejected(
                "access.x509.database", "web servers have no databases", next_step="leave it out of the need"
            )

    def _issue(self, principal: str, role: Role, key: object, serial: int, *, begins: datetime, ends: datetime) -> str:
        return issue(
            self._authority,
            principal=principal,
            unit=role.unit,
            uri=role.uri,
            key=key,
            serial=serial,
            begins=begins,
            ends=ends,
        )

    def _connect(self, order: MintOrder, role: Role, certificate: str, server: Server) -> dict[str, str]:
        settings = {
            "host": server.host,
            "port": str(server.port),
            "user": role.login or order.principal,
            "certificate": certificate,
            "server": self._settings.speaks,
            "ca": server.roots,
        }
        if self._settings.speaks == "postgresql":
            return settings | {"dbname": order.database or self._target.database or "postgres"}
        host = f"[{server.host}]" if ":" in server.host else server.host
        return settings | {"url": f"https://{host}:{server.port}{role.path}"}

    def _fresh(self, instance: str) -> tuple[str, str]:
        return f"remit_{instance}_{ulid(self._now()).lower()}", self._randomness(32).hex()

    def _identity(self, principal: str, secret: str, role: Role, serial: int, ends: datetime) -> str:
        key = client_key(secret)
        begins = self._now() - _BACKDATED
        return self._issue(principal, role, key, serial, begins=begins, ends=ends) + private_pem(key)

    async def _log_in(
        self, role: Role, identity: str, database: str = "", again: Again | None = None, *, tls12: bool = False
    ) -> Attempt:
        server = self._opened.server
        asked = Asked(path=role.path, user=role.login, database=database or self._target.database or "postgres")
        async with self._gate:
            return await asyncio.to_thread(log_in, server, asked, identity, again=again, tls12=tls12)

    def _work(self, folder: Folder, order: RevokeOrder) -> Work:
        serial = serial_of(order.principal, order.secret)
        known = folder.entry(order.principal)
        later = int(self._now().timestamp()) + _UNKNOWN_KEPT
        struck = known or Entry(principal=order.principal, serial=f"{serial:032x}", ends=later)
        roles = {role.unit: role for role in self._settings.roles.values()}
        role = roles.get(struck.unit) or next(iter(roles.values()))
        key, now = client_key(order.secret), self._now()
        certificate = struck.certificate
        if struck.number != serial or struck.ends < now.timestamp() + _PROBE.total_seconds() or not certificate:
            # Refused for its age it would prove nothing.
            certificate = self._issue(
                order.principal, role, key, struck.number, begins=now - _BACKDATED, ends=now + _PROBE
            )
        return Work(
            order=order,
            role=role,
            struck=struck,
            identity=certificate + private_pem(key),
            stranger=struck.number != serial,
        )

    async def _keep_sessions(self, instance: str, work: Sequence[Work]) -> tuple[dict[str, list[Again]], list[Entry]]:
        """TLS sessions of probes of each role, which are to be struck too: whether one outlives that is tried then."""
        kept: dict[str, list[Again]] = {}
        struck: list[Entry] = []
        if self._settings.speaks == "postgresql":
            # It resumes none: libpq and the server switch it off.
            return kept, struck
        for role in {one.role.unit: one.role for one in work}.values():
            principal, secret = self._fresh(instance)
            serial, ends = serial_of(principal, secret), self._now() + _PROBE
            identity = self._identity(principal, secret, role, serial, ends)
            struck.append(
                Entry(principal=principal, serial=f"{serial:032x}", ends=int(ends.timestamp()), unit=role.unit)
            )
            for tls12 in (True, False):
                with suppress(RemitError):
                    tried = await self._log_in(role, identity, tls12=tls12)
                    kept.setdefault(role.unit, []).extend([tried.again] if tried.again else [])
        return kept, struck

    async def _strike(self, entries: Sequence[Entry]) -> list[int]:
        """Write these on the list with those that wait, and have the server read it; the workers that stayed."""
        self._waiting += entries
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._write())
            # Seen here: whoever waits for it may have gone.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def _write(self) -> list[int]:
        async with self._reloading:
            entries, self._waiting, self._next = self._waiting, [], None
            folder = self._opened.folder
            before, trouble = self._serving()
            await asyncio.to_thread(folder.revoke, entries)
            if trouble is not None:
                raise trouble
            return await self._reload(before)

    def _serving(self) -> tuple[frozenset[tuple[int, str]], RemitError | None]:
        """The workers before the list changes; a server that is down keeps nobody from writing the list."""
        if self._settings.speaks == "postgresql":
            return frozenset(), None
        try:
            return self.nginx.workers(), None
        except RemitError as error:
            return frozenset(), error

    async def _reload(self, before: frozenset[tuple[int, str]]) -> list[int]:
        if self._settings.speaks == "postgresql":
            desk = await self.open_desk()
            try:
                await desk.reload()
            finally:
                await desk.close()
            return []
        return await self.nginx.reload_and_wait(before)

    @property
    def nginx(self) -> Nginx:
        return Nginx(pid_file=self._settings.pid_file, reload=self._settings.reload, patience=self._patience)

    async def _tend(self) -> None:
        """A list that was lost, changed or runs out is written again, and read by the server."""
        async with self._reloading:
            folder = self._opened.folder
            before, trouble = self._serving()
            if await asyncio.to_thread(folder.tend):
                if trouble is not None:
                    raise trouble
                await self._reload(before)

    async def _try_all(self, work: Sequence[Work]) -> None:
        """Try each until it is refused for what it is: a server reads its files when it gets round to it.

        A connection that broke says nothing: the server may have hung up before its word for why was read.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + self._within

        async def attempt(one: Work) -> None:
            while True:
                one.tried = await self._log_in(one.role, one.identity, one.order.database)
                if (not one.tried.admitted and one.tried.of_the_client) or clock() > until:
                    return
                await asyncio.sleep(_LOOK_AGAIN)

        await asyncio.gather(*(attempt(one) for one in work))

    async def _end_sessions(self, work: Sequence[Work]) -> None:
        """Look until none is left, twice: one may just have been let in when the list was read."""
        clock = asyncio.get_running_loop().time
        until, empty = clock() + self._within, 0
        by_serial = {one.struck.number: one for one in work}
        desk = await self.open_desk()
        try:
            while empty < 2:
                found = await desk.find(by_serial)
                for one in work:
                    one.living = False
                for serial, pid in found:
                    by_serial[serial].seen.add(pid)
                    by_serial[serial].living = True
                if clock() > until:
                    return
                empty = 0 if found else empty + 1
                await desk.end([pid for _, pid in found])
                await asyncio.sleep(_LOOK_AGAIN)
        finally:
            await desk.close()

    async def _view(
        self, instance: str, work: Sequence[Work], kept: Mapping[str, Sequence[Again]]
    ) -> Mapping[str, View]:
        """For each role: how a fresh certificate, none, and a kept session fare, now that the list is read."""

        async def look(one: Work) -> tuple[str, View]:
            role, database = one.role, one.order.database
            identity = self.probe_identity(role, instance=instance)
            resumed = [await self._log_in(role, "", database, again) for again in kept.get(role.unit, ())]
            return role.unit, View(
                control=await self._log_in(role, identity, database),
                nobody=await self._log_in(role, "", database),
                resumed=any(attempt.admitted for attempt in resumed),
            )

        return dict(await asyncio.gather(*(look(one) for one in {one.role.unit: one for one in work}.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    server: Server
    folder: Folder


def _read_authority(secret: str) -> ClientAuthority:
    try:
        return read_authority(secret)
    except ValueError as error:
        raise Misconfigured(
            "access.x509.authority",
            f"the secret of the target is no authority for clients: {error}",
            next_step="give the certificate and the key of an authority that signs nothing else, in one line: "
            "`cat ca.pem ca.key | tr '\\n' ' '`",
        ) from None


def _read_roots(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        raise Misconfigured("access.x509.roots", f"`{path}` cannot be read as certificates in PEM") from None


class X509BrokerFactory:
    """The plug-in."""

    id = "x509"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> X509Broker:
        """A broker for `target`; nothing is opened yet."""
        if target.options.get("server") == "postgresql" and find_spec("asyncpg") is None:
            raise Misconfigured(
                "access.x509.driver",
                "the driver for PostgreSQL is not installed",
                next_step="pip install 'remit[postgres]'",
            )
        return X509Broker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `x509://[ADMIN@]HOST[:PORT][/DATABASE]`; administrator and database are PostgreSQL's."""
        return read_location(url, schemes={"x509": 443}, user="remit_admin", write_as="x509://HOST:PORT")

    def present(self, credential: Credential) -> Presentation:
        """Certificate, key and the server's authority as files; for curl its configuration, for libpq its variables."""
        return shown(credential)
