"""RabbitMQ: a user for each lease, gone with its connections and consumers when the task ends.

The order of a revocation: the user loses its password → its connections are closed, again and again until none is left
(the second time the server hangs up on a client that does not answer) → what it made is reported or removed → it is
deleted → once more no connection → its secret is refused over AMQP, while the broker's own login works.

Deleting permissions alone would leave consumers: they go on receiving. Hence connections are closed in every case.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from remit.access.brokers.batch import every
from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation, url_of
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.proof import judge
from remit.access.brokers.rabbitmq_settings import MANIFEST, decode_options, decode_role
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
from remit.providers.rabbitmq.login import Attempt, Door, login
from remit.providers.rabbitmq.management import Management, password_hash

_SESSIONS_WITHIN = 10.0
_AT_ONCE = 8
_REMEMBERED = 2000
"""Leases of which we know what was there before them."""


class RabbitBroker:
    """Mints, renews, revokes, proves and sweeps on one RabbitMQ server or cluster."""

    def __init__(self, target: Target, secret: str, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self._settings = decode_options(target)
        self._target = target
        self._secret = secret
        self._randomness = randomness
        self._management: Management | None = None
        # The queues that were there before each lease: a queue does not say who declared it.
        self._before: dict[str, set[str]] = {}
        self._roles: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"RabbitBroker({self._target.host}:{self._target.port})"

    async def open(self) -> None:
        """Ask for an overview; `Unavailable`, or `Misconfigured` for a login that is no administrator's."""
        await self.close()
        settings = self._settings
        management = Management(settings.management, self._target.user, self._secret, ca=settings.ca)
        try:
            await management.overview()
            await management.has_user(self._target.user)
        except BaseException:
            await management.close()
            raise
        self._management = management

    async def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        management, self._management = self._management, None
        if management is not None:
            await management.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Make the user with its limits and permissions, and log in with it once."""
        instance_of([order.principal])
        require_mapped(self._target, order.role, "RIGHTS")
        rights, vhost, api = decode_role(order.role), self._vhost(order.database), self._opened
        if not await api.has_vhost(vhost):
            raise Rejected("access.rabbitmq.vhost", f"there is no virtual host `{vhost[:64]}`")
        await self._remember(order, vhost)
        await api.put_user(order.principal, password_hash(order.secret, self._randomness(4)))
        await api.limit(order.principal, "max-connections", self._settings.connections)
        await api.limit(order.principal, "max-channels", self._settings.channels)
        for exchange, topic in rights.topics.items():
            await api.permit_topic(order.principal, vhost, exchange, topic)
        await api.permit(order.principal, vhost, rights.permissions)
        tried = await login(self._door(vhost), order.principal, order.secret)
        if not tried.admitted:
            raise Rejected("access.lease.login", f"the new credential does not work: {tried.words}")
        settings = {"host": self._target.host, "port": str(self._target.port), "vhost": vhost, "user": order.principal}
        settings |= {"tls": "true"} if self._settings.tls else {}
        settings |= {"ca": self._settings.ca} if self._settings.ca else {}
        return Minted(principal=order.principal, settings=settings)

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Users of RabbitMQ know no expiry: returns those that still exist."""
        if not principals:
            return []
        instance_of(principals)
        existing = set(await self._opened.users())
        return [name for name in principals if name in existing]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them and prove each; those that could not be finished say `gone=False` and why."""
        if not orders:
            return []
        instance_of([order.principal for order in orders])
        api = self._opened
        works = await every((self._destroy(api, order) for order in orders), at_once=_AT_ONCE)
        control = await login(self._door(self._target.database), self._target.user, self._secret)
        pairs = zip(orders, works, strict=True)
        return await every((self._report(order, work, control) for order, work in pairs), at_once=_AT_ONCE)

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation that exist on the server."""
        return of_instance(await self._opened.users(), instance)

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        try:
            overview = await self._opened.overview()
            wrong = await login(self._door(self._target.database), "remit_nobody", "no secret")
        except RemitError as error:
            return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]
        return [
            Check(ok=True, title="the server answers", detail=f"RabbitMQ {overview.get('rabbitmq_version', '?')}"),
            Check(
                ok=not wrong.admitted,
                title="logins are checked",
                detail="an unknown user was admitted" if wrong.admitted else "an unknown user was refused",
                next_step="see auth_backends and auth_mechanisms: until then no revocation can be proved",
            ),
            Check(
                ok=False,
                title="live sessions end when Remit is dead",
                detail="not fail-safe: users of RabbitMQ know no expiry",
                next_step="start Remit again: it ends what outlived it",
            ),
        ]

    @property
    def _opened(self) -> Management:
        if self._management is None:
            raise not_open(self._target)
        return self._management

    def _vhost(self, asked: str) -> str:
        return asked or self._target.database or "/"

    def _door(self, vhost: str) -> Door:
        settings = self._settings
        return Door(
            host=self._target.host, port=self._target.port, vhost=vhost or "/", tls=settings.tls, ca=settings.ca
        )

    async def _remember(self, order: MintOrder, vhost: str) -> None:
        if decode_role(order.role).permissions["configure"] == "^$" or order.principal in self._before:
            return
        while len(self._before) >= _REMEMBERED:
            forgotten = next(iter(self._before))
            del self._before[forgotten], self._roles[forgotten]
        self._before[order.principal] = await self._opened.queues(vhost)
        self._roles[order.principal] = order.role

    async def _destroy(self, api: Management, order: RevokeOrder) -> _Work:
        name, work = order.principal, _Work(started=asyncio.get_running_loop().time())
        if await api.has_user(name):
            await api.put_user(name, "")
        await self._end_connections(api, name, work)
        await self._clean(api, order, work)
        await api.delete_user(name)
        # One that logged in just before the password went may have come up only now.
        await self._end_connections(api, name, work)
        if await api.has_user(name):
            work.stuck = "the user is still there"
        return work

    async def _end_connections(self, api: Management, name: str, work: _Work) -> None:
        ended, left = await api.end_connections(name, within=_SESSIONS_WITHIN)
        work.ended |= ended
        if left:
            work.stuck = f"{left} connection(s) would not end"

    async def _clean(self, api: Management, order: RevokeOrder, work: _Work) -> None:
        """Exchanges say who declared them; queues do not."""
        vhost, name = self._vhost(order.database), order.principal
        for exchange in await api.exchanges_by(name, vhost):
            removed = self._settings.delete_queues and await api.remove_unused("exchanges", vhost, exchange)
            work.left.append(LeftBehind(what=f"exchange {exchange}", fate="removed" if removed else "kept"))
        if name not in self._before:
            return
        could = re.compile(decode_role(self._roles[name]).permissions["configure"])
        for queue in sorted(await api.queues(vhost) - self._before[name]):
            if could.search(queue):
                removed = self._settings.delete_queues and await api.remove_unused("queues", vhost, queue)
                work.left.append(LeftBehind(what=f"queue {queue}", fate="removed" if removed else "reported"))

    async def _report(self, order: RevokeOrder, work: _Work, control: Attempt) -> Revocation:
        proof: Proof
        if work.stuck:
            proof = Unproved(why=work.stuck)
        else:
            proof = await self._prove(order, control)
            self._before.pop(order.principal, None)
            self._roles.pop(order.principal, None)
        return Revocation(
            principal=order.principal,
            gone=not work.stuck,
            sessions_ended=len(work.ended),
            proof=proof,
            left_behind=tuple(work.left),
            duration=timedelta(seconds=asyncio.get_running_loop().time() - work.started),
        )

    async def _prove(self, order: RevokeOrder, control: Attempt) -> Proof:
        tried = await login(self._door(self._vhost(order.database)), order.principal, order.secret)
        return judge([tried], [control], control=f"login as {self._target.user}")


@dataclass(slots=True, kw_only=True)
class _Work:
    """What one revocation has found and done so far."""

    started: float
    ended: set[str] = field(default_factory=set)
    left: list[LeftBehind] = field(default_factory=list)
    stuck: str = ""


class RabbitBrokerFactory:
    """The plug-in."""

    id = "rabbitmq"
    manifest = MANIFEST

    def make(self, target: Target, secret: str) -> RabbitBroker:
        """A broker for `target`; nothing is opened yet."""
        try:
            import pika  # noqa: F401
        except ImportError:
            raise Misconfigured(
                "access.rabbitmq.driver",
                "the driver for RabbitMQ is not installed",
                next_step="pip install 'remit[rabbitmq]'",
            ) from None
        return RabbitBroker(target, secret)

    def locate(self, url: str) -> Location:
        """Read `rabbitmq://USER@HOST[:PORT][/VHOST]`, the port that of AMQP; `amqps://` for TLS."""
        where = read_location(
            url,
            schemes={"rabbitmq": 5672, "amqp": 5672, "amqps": 5671},
            database="/",
            parameters=frozenset({"ca", "management"}),
            write_as="rabbitmq://USER@HOST:PORT/VHOST",
        )
        return replace(where, options={**where.options, **({"tls": "true"} if url.startswith("amqps:") else {})})

    def present(self, credential: Credential) -> Presentation:
        """A URL for libraries in a private file; host, port, virtual host and user as variables."""
        settings = credential.settings
        query = {"cafile": settings["ca"]} if "ca" in settings else {}
        scheme = "amqps" if settings.get("tls") else "amqp"
        url = url_of(scheme, credential, path=settings.get("vhost", "/"), query=query)
        stem = f"{credential.target}-{credential.role}"
        return Presentation(
            variables={
                "RABBITMQ_HOST": settings.get("host", ""),
                "RABBITMQ_PORT": settings.get("port", ""),
                "RABBITMQ_VHOST": settings.get("vhost", "/"),
                "RABBITMQ_USERNAME": settings.get("user", ""),
            },
            secrets={"RABBITMQ_PASSWORD": credential.secret, "AMQP_URL": url},
            files={f"{stem}.amqp-url": url},
            pointers={"AMQP_URL_FILE": f"{stem}.amqp-url"},
            stale=("RABBITMQ_PASSWORD", "AMQP_URL", "RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_USERNAME"),
            url=url,
        )
