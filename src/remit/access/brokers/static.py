"""Static secrets, brokered: a lease is a key of our own to a gateway, which puts the secret in its place.

A task sends its key where it would have sent the secret, to the gateway's address instead of the API's. The gateway
takes the key only while the lease lives, only for the requests that the role names, and puts the secret in for it.

The order of a revocation: the key is forgotten → connections that used it are cut → nobody is left → the key is refused
by an attempt at the gateway, while another key is let in the same way → where the key was used and the target can, the
secret itself is rotated: the next value is written down before it is sent, and both are kept until the new one is
admitted and the old one refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.brokers.principals import instance_of, of_instance
from remit.access.brokers.refusals import not_open, require_mapped
from remit.access.brokers.static_settings import MANIFEST, Allowed, Settings, decode_options, decode_role
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
from remit.kernel.errors import Conflict, Rejected, RemitError, Unavailable
from remit.providers.http_probe import Probed, probe

_ROTATE_WITHIN = 15.0
"""Seconds of a revocation that a rotation may take: a lease is over whether or not the secret is another by then."""
LOOK = "/.well-known/remit-lease"
"""The gateway answers here itself: 204 to a key that counts, 401 to any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A lease's key, as the gateway takes it."""

    principal: str
    secret: str = field(repr=False)
    allowed: tuple[Allowed, ...]
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the gateway did when it forgot a key."""

    connections: int
    used: bool
    """Whether a request with it went to the upstream; true of a key that this gateway never knew: an earlier one may
    have."""


class Door(Protocol):
    """A gateway for one target. Its verbs but `open` and `close` act at once."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    @property
    def address(self) -> tuple[str, int]: ...
    @property
    def control(self) -> str:
        """A key that opens `LOOK` and nothing else: what a refusal is held against."""
        ...

    def admit(self, key: Key) -> bool:
        """Take a key from now on; `False` where its principal was dismissed before."""
        ...

    def extend(self, principal: str, expires: datetime) -> bool: ...
    def principals(self) -> Sequence[str]: ...
    def dismiss(self, principal: str) -> Ended:
        """Forget a key for good, and cut the connections that used it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What became of a secret after a use."""

    done: bool
    words: str


class RotatesSecret(Protocol):
    """Rotates one secret at its target. Every verb may be called again after a crash at any instant."""

    async def rotate(self) -> Rotated:
        """Give the secret another value, and prove that the old one is refused."""
        ...

    async def resume(self) -> None:
        """Bring a rotation to its end that was broken off; nothing where there is none."""
        ...

    async def check(self) -> Check:
        """Whether a use would be followed by a rotation, for `doctor`."""
        ...


class House(Protocol):
    """What the installation offers."""

    def door(self, target: Target, settings: Settings) -> Door: ...
    def rotation(self, target: Target, settings: Settings) -> RotatesSecret | None: ...
    async def has_secret(self, name: str, target: str) -> bool:
        """Whether the vault has it for this target."""
        ...


class StaticBroker:
    """Admits, extends, dismisses, proves and rotates at one API."""

    def __init__(self, target: Target, house: House | None) -> None:
        self._settings = decode_options(target)
        self._target = target
        self._house = house
        self._door: Door | None = None
        self._rotation: RotatesSecret | None = None

    def __repr__(self) -> str:
        return f"StaticBroker({self._settings.upstream})"

    async def open(self) -> None:
        """Listen, and bring a rotation to its end that was broken off."""
        await self.close()
        if self._house is None:
            raise Unavailable("access.static.gateway", "no gateway runs here", next_step="use it under `remit up`")
        door = self._house.door(self._target, self._settings)
        await door.open()
        self._door, self._rotation = door, self._house.rotation(self._target, self._settings)
        await self._resume()

    async def close(self) -> None:
        """Stop listening; works twice, and after a failed `open`."""
        door, self._door = self._door, None
        if door is not None:
            await door.close()

    async def mint(self, order: MintOrder) -> Minted:
        """Let the gateway take the key, and show it there once."""
        instance_of([order.principal])
        door = self._opened
        require_mapped(self._target, order.role, "RIGHTS")
        if order.database:
            raise Rejected("access.static.database", "an API knows no databases", next_step="leave it out of the need")
        allowed = tuple(decode_role(order.role))
        key = Key(principal=order.principal, secret=order.secret, allowed=allowed, expires=order.expires)
        if not door.admit(key):
            raise Conflict("access.lease.revoking", "the credential is being revoked")
        tried = await self._try(door, order.secret)
        if not tried.admitted:
            raise Rejected("access.lease.login", f"the new credential does not work: {tried.status}")
        host, port = door.address
        name, _ = self._settings.carry("")
        settings = {"host": host, "port": str(port), "url": f"http://{host}:{port}", "user": order.principal}
        settings |= {"as": self._settings.kind, "header": name, "prefix": self._settings.prefix}
        settings |= {"basic_user": self._settings.user} if self._settings.kind == "basic" else {}
        return Minted(principal=order.principal, settings=settings)

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move the end of keys; returns those that the gateway knows."""
        if principals:
            instance_of(principals)
        door = self._opened
        return [name for name in principals if door.extend(name, expires)]

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Dismiss all of them, prove each at the gateway, and rotate the secret once where any was used."""
        if not orders:
            return []
        instance_of([order.principal for order in orders])
        door, clock = self._opened, asyncio.get_running_loop().time
        started = clock()
        ended = {order.principal: door.dismiss(order.principal) for order in orders}
        control = await self._try(door, door.control)
        proofs = [await self._prove(door, order, control=control.admitted) for order in orders]
        rotated = await self._rotate() if any(each.used for each in ended.values()) else None
        took = timedelta(seconds=clock() - started)
        return [
            Revocation(
                principal=order.principal,
                gone=order.principal not in door.principals(),
                sessions_ended=ended[order.principal].connections,
                proof=proof,
                left_behind=_left(self._settings, rotated) if ended[order.principal].used else (),
                duration=took,
            )
            for order, proof in zip(orders, proofs, strict=True)
        ]

    async def _prove(self, door: Door, order: RevokeOrder, *, control: bool) -> Proof:
        tried = await self._try(door, order.secret)
        if tried.admitted:
            return Unproved(why="the gateway still admits the key")
        if not tried.refused or not control:
            return Unproved(
                why=f"the gateway answered {tried.status}, and {'admitted' if control else 'refused'} another"
            )
        return Proved(refusal=f"{tried.status} no live lease has this key", control="another key at the same gateway")

    async def _rotate(self) -> Rotated | None:
        if self._rotation is None:
            return None
        try:
            async with asyncio.timeout(_ROTATE_WITHIN):
                return await self._rotation.rotate()
        except TimeoutError:
            return Rotated(done=False, words="it takes long; the next look goes on with it")
        except RemitError as error:
            # The task never had the secret: its lease is over in any case. The next look goes on with it.
            return Rotated(done=False, words=error.message)

    async def _resume(self) -> None:
        if self._rotation is not None:
            with contextlib.suppress(RemitError, TimeoutError):
                async with asyncio.timeout(_ROTATE_WITHIN):
                    await self._rotation.resume()

    async def sweep(self, instance: str) -> Sequence[str]:
        """The keys of this installation that the gateway knows."""
        found = of_instance(self._opened.principals(), instance)
        await self._resume()
        return found

    async def check(self) -> Sequence[Check]:
        """What `doctor` says of this target."""
        settings = self._settings
        try:
            door = self._opened
            control, wrong = await self._try(door, door.control), await self._try(door, "nobody-has-this-key")
        except RemitError as error:
            return [Check(ok=False, title="the gateway answers", detail=error.message, next_step=error.next_step)]
        assert self._house is not None, "an open broker has a house"
        known = await self._house.has_secret(settings.secret, self._target.name)
        return [
            Check(ok=control.admitted and wrong.refused, title="the gateway takes live keys alone",
                  detail=f"{control.status} to one that counts, {wrong.status} to an unknown one"),
            Check(ok=known, title=f"the vault has `{settings.secret}` for `target/{self._target.name}`",
                  next_step=f"`remit secret add {settings.secret} --for target/{self._target.name}`"),
            await self._check_probe(),
            await self._check_rotation(),
        ]  # fmt: skip

    async def _check_rotation(self) -> Check:
        if self._rotation is not None:
            return await self._rotation.check()
        return Check(ok=False, title="the secret is rotated after each use", detail="it stays what it was",
                     next_step="name a program by `--option rotate=[…]`, or a plan by `plan:NAME`")  # fmt: skip

    async def _check_probe(self) -> Check:
        title = "the API refuses what is not the secret"
        if not self._settings.probe:
            return Check(ok=False, title=title, detail="not seen", next_step="name a path by `--option probe=/PATH`")
        name, text = self._settings.carry("remit-nobody-has-this")
        try:
            tried = await probe(self._settings.upstream + self._settings.probe, {name: text}, ca=self._settings.ca)
        except RemitError as error:
            return Check(ok=False, title=title, detail=error.message, next_step=error.next_step)
        return Check(ok=tried.refused, title=title, detail=f"{tried.status} at `{self._settings.probe}`",
                     next_step="" if tried.refused else "name a path that needs the secret")  # fmt: skip

    async def _try(self, door: Door, secret: str) -> Probed:
        host, port = door.address
        name, text = self._settings.carry(secret)
        return await probe(f"http://{host}:{port}{LOOK}", {name: text})

    @property
    def _opened(self) -> Door:
        if self._door is None:
            raise not_open(self._target)
        return self._door


def _left(settings: Settings, rotated: Rotated | None) -> tuple[LeftBehind, ...]:
    if rotated is None:
        return (LeftBehind(what=f"the secret `{settings.secret}`", fate="kept"),)
    if rotated.done:
        return (LeftBehind(what=f"the secret `{settings.secret}`: {rotated.words}", fate="rotated"),)
    return (LeftBehind(what=f"the secret `{settings.secret}` is not rotated yet: {rotated.words}", fate="reported"),)


class StaticBrokerFactory:
    """The plug-in; the composition root gives it the house."""

    id = "static"
    manifest = MANIFEST

    def __init__(self) -> None:
        self.house: House | None = None

    def make(self, target: Target, secret: str) -> StaticBroker:
        """A broker for `target`; nothing is opened yet. `secret` is not used: the vault has it."""
        return StaticBroker(target, self.house)

    def locate(self, url: str) -> Location:
        """Read `static://HOST[:PORT]` of the API; it is spoken to over TLS."""
        return read_location(
            url, schemes={"static": 443}, parameters=_PARAMETERS, user="", write_as="static://HOST:PORT"
        )

    def present(self, credential: Credential) -> Presentation:
        """Where to send requests, and the key: by itself, and as a line of a request's head."""
        settings = credential.settings
        stem = f"{credential.target}-{credential.role}"
        line = f"{settings.get('header', '')}: {_carried(settings, credential.secret)}\n"
        return Presentation(
            variables={"STATIC_URL": settings.get("url", "")},
            secrets={"STATIC_KEY": credential.secret},
            files={f"{stem}.key": credential.secret, f"{stem}.header": line},
            pointers={"STATIC_KEY_FILE": f"{stem}.key", "STATIC_HEADER_FILE": f"{stem}.header"},
            stale=("STATIC_URL", "STATIC_KEY"),
        )


_PARAMETERS = frozenset({"tls", "ca", "probe"})


def _carried(settings: Mapping[str, str], secret: str) -> str:
    import base64

    if settings.get("as") == "basic":
        return "Basic " + base64.b64encode(f"{settings.get('basic_user', '')}:{secret}".encode()).decode()
    return f"{settings.get('prefix', '')}{secret}"
