"""Logins that stand on registered targets: ended, and tried with any secret, by what rotation has for that system."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from remit.access.brokers.port import RevokesStatic
from remit.access.model import Proved, Revocation, Target, Unproved
from remit.access.rotation.model import Login
from remit.access.rotation.ports import ProvesRefusal, Rotator
from remit.kernel.errors import NotFound, RemitError
from remit.kernel.ids import parse_name
from remit.wiring.rotation import rotator_factories

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
_SYSTEMS = {"mysql": "mariadb"}
"""Systems that are called otherwise in connection strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The target let the secret in."""

    words: str = "admitted"


Tried: TypeAlias = Admitted | Proved | Unproved


class StandingLogins:
    """Finds the target on which a login counts, ends it there, and tries secrets of it."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._rotators = rotator_factories()
        self._rotators.load_entry_points()

    async def locate(self, names: list[str], *, user: str = "") -> tuple[Target, str] | None:
        """The target and the login that one of an identity's names stands for; `None` where no target is its.

        `user` is what the connection that shows the secret says: of several logins, only that one is meant.
        """
        for target in await self._control.targets.list():
            for each in names:
                login = _login(each, target.system)
                if login is not None and user in ("", login[1]) and await self._is_at(target, login[0]):
                    return target, login[1]
        return None

    async def can_end(self, target: Target) -> bool:
        """Whether a login of this target can be ended, and a refusal shown."""
        if any(target.system == each.id for each in self._rotators):
            return True
        try:
            return isinstance(await self._control.brokers.broker(target.name), RevokesStatic)
        except RemitError:
            return False

    async def end(self, target: Target, principal: str, secret: str | None) -> Revocation:
        """End the login and its sessions, and prove it by `secret`. Again changes nothing.

        Raises `Denied` (`access.static.protected`) for logins that Remit does not touch, `Unavailable`.
        """
        broker = await self._control.brokers.broker(target.name)
        if isinstance(broker, RevokesStatic):
            return await broker.revoke_static(principal, secret)
        clock = asyncio.get_running_loop().time
        started = clock()
        rotator = await self._rotator(target)
        try:
            done = await rotator.retire(principal, secret)
        finally:
            await rotator.close()
        return Revocation(
            principal=principal, gone=done.gone, sessions_ended=done.sessions_ended, proof=done.proof,
            duration=timedelta(seconds=clock() - started),
        )  # fmt: skip

    async def attempt(self, target: Target, principal: str, secret: str) -> Tried:
        """Log in once with `secret`; a refusal counts only in the target's own words, while our own is admitted."""
        try:
            rotator = await self._rotator(target)
        except RemitError as error:
            return Unproved(why=error.message)
        try:
            login = Login(
                user=principal, secret=secret, host=target.host, port=target.port, database=target.database
            )  # fmt: skip
            if (await rotator.attempt(login)).admitted:
                # A server that admits anybody admits a secret that cannot be right, too: that is no leak's doing.
                wrong = Login(user=principal, secret=f"{secret}~", host=login.host, port=login.port,
                              database=login.database)  # fmt: skip
                anybody = (await rotator.attempt(wrong)).admitted
                return Unproved(why="the target admits any secret") if anybody else Admitted()
            if isinstance(rotator, ProvesRefusal):
                return await rotator.refused(principal, secret)
            return Unproved(why=f"nothing here shows a refusal of {target.system}")
        except RemitError as error:
            return Unproved(why=error.message)
        finally:
            await rotator.close()

    async def _rotator(self, target: Target) -> Rotator:
        found, secret = await self._control.targets.credential(target.name)
        try:
            return self._rotators.get(found.system).make(found, secret)
        except NotFound:
            raise NotFound(
                "access.static.system", f"logins of {found.system} are not tried here", next_step="try it by hand"
            ) from None

    async def _is_at(self, target: Target, instance: str) -> bool:
        if instance == target.instance or _same_place(instance, target.host, target.port):
            return True
        try:
            broker = await self._control.brokers.broker(target.name)
        except RemitError:
            return False
        return isinstance(broker, RevokesStatic) and broker.instance == instance


def _login(name: str, system: str) -> tuple[str, str] | None:
    """Where a name says that a login of `system` is, and what it is called there."""
    parsed = parse_name(name)
    if parsed is None:
        return None
    called, instance, kind, local = parsed
    if _SYSTEMS.get(called, called) != system or kind != ("role" if system == "postgres" else "user"):
        return None
    # MariaDB's own catalogue says `user@host`; who logs in says `user`.
    return instance, local.rpartition("@")[0] if called == "mariadb" and "@" in local else local


def _same_place(instance: str, host: str, port: int) -> bool:
    named, _, number = instance.rpartition(":")
    if number != str(port):
        return False
    return named == host or (named in _LOOPBACK and host in _LOOPBACK)
