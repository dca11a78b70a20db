"""Who is connected as an identity at this moment, as its own server says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from remit.access.model import Target
from remit.kernel.errors import Unavailable
from remit.kernel.ids import parse_name

if TYPE_CHECKING:
    from remit.providers.redis.client import Server
    from remit.wiring.control import ControlPlane

_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """All sessions of one consumer."""

    who: str
    target: str
    sessions: int


async def login_of(control: ControlPlane, identity: str) -> tuple[Target, str] | None:
    """The registered target on which an identity is a login, and its name there; PostgreSQL and Redis."""
    names = await control.store.read(lambda unit: unit.inventory.names_of(identity))
    for each in names:
        parsed = parse_name(each)
        if parsed is None:
            continue
        system, instance, kind, login = parsed
        if system == "postgres" and kind == "role":
            target = await control.rightsizing.sources.target_of({instance})
            if target is not None:
                return target, login
        if system == "redis" and kind == "user":
            for stored in await control.targets.list():
                if stored.system == "redis" and instance in (stored.instance, f"{stored.host}:{stored.port}"):
                    return await control.targets.get(stored.name), login
    return None


async def connected_now(control: ControlPlane, identity: str) -> list[Connected] | None:
    """Who is connected; `None` where no target is the identity's server.

    Raises `Unavailable` (`governance.dependencies.unseen`) where the server does not answer within three seconds.
    """
    found = await login_of(control, identity)
    if found is None:
        return None
    target, login = found
    try:
        async with asyncio.timeout(_SECONDS):
            seen = await (_postgres if target.system == "postgres" else _redis)(control, target, login)
    except TimeoutError:
        raise Unavailable(
            "governance.dependencies.unseen", f"target `{target.name}` does not say who is connected",
            next_step="`remit doctor`",
        ) from None  # fmt: skip
    return [Connected(who=who, target=target.name, sessions=number) for who, number in sorted(seen.items())]


async def _postgres(control: ControlPlane, target: Target, login: str) -> Counter[str]:
    from remit.providers.postgres.standing import activity

    async with control.rightsizing.sources.connected(target) as connection:
        sessions = await activity(connection, "remit")
    return Counter(
        " ".join(filter(None, (each.client or "local", each.application))) for each in sessions if each.role == login
    )


async def _redis(control: ControlPlane, target: Target, login: str) -> Counter[str]:
    async with redis_server(control, target) as server:
        clients = await server.clients()
    return Counter(
        " ".join(filter(None, (each.address.rpartition(":")[0], each.name))) for each in clients if each.user == login
    )


@asynccontextmanager
async def redis_server(control: ControlPlane, target: Target) -> AsyncIterator[Server]:
    """A connection to a Redis target by its own credential."""
    from remit.access.brokers.redis_settings import decode_options
    from remit.providers.redis.client import Address, Server

    settings = decode_options(target)
    _, secret = await control.targets.credential(target.name)
    address = Address(host=target.host, port=target.port, user=target.user, tls=settings.tls, ca=settings.ca)
    server = Server(address, secret)
    try:
        yield server
    finally:
        await server.close()
