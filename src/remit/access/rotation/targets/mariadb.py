"""MariaDB: two accounts with the same roles, rights and limits in turn; the old one is locked, and stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from remit.access.brokers.mariadb_settings import decode_options
from remit.access.brokers.principals import PRINCIPAL
from remit.access.brokers.proof import judge
from remit.access.model import Proof, Target, Unproved
from remit.access.rotation.model import Login, Mode
from remit.access.rotation.ports import Survey, Tried, Use, Withdrawn
from remit.access.rotation.targets.standing import SECRET_UNKNOWN, missing, protected
from remit.kernel.errors import Conflict, Rejected
from remit.providers.mariadb import catalogue, standing
from remit.providers.mariadb.catalogue import UNAUTHENTICATED, name
from remit.providers.mariadb.client import ACCESS_DENIED, Address, Server, login
from remit.providers.mariadb.standing import Grant, Standing

_SESSIONS_WITHIN = 10.0
_PATIENCE = 0.5
"""Seconds that a login which was halfway in has to come up, before it is killed."""
_LOOK_AGAIN = 0.03
_OWN = frozenset({"root", "mysql", "mariadb.sys", ""})


class MariaRotator:
    """Replaces a standing login of one server, with the target's own administrator."""

    def __init__(self, target: Target, secret: str) -> None:
        settings = decode_options(target)
        self._target = target
        self._secret = secret
        self._address = Address(
            host=target.host, port=target.port, user=target.user, tls=settings.tls, ca=settings.ca
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"MariaRotator({self._address})"

    async def close(self) -> None:
        return

    async def survey(self, old: str, new: str, mode: Mode) -> Survey:
        async with self._server() as server:
            accounts = await server.call(lambda session: standing.look_up(session, old))
            taken = bool(await server.call(lambda session: catalogue.accounts(session, [new])))
            mine = await server.call(standing.own_grants)
        obstacles = [f"`{old}` administers the server or is a lease's"] if self._is_protected(old, accounts) else []
        obstacles += [] if obstacles else _obstacles(old, accounts, mine)
        if (await login(replace(self._address, user="remit_nobody"), "no secret")).admitted:
            obstacles.append("the server admits accounts that do not exist: no refusal would prove anything")
        return Survey(exists=bool(accounts), taken=taken, obstacles=tuple(obstacles))

    async def publish(self, old: str, new: Login, mode: Mode) -> None:
        async with self._server() as server:
            like = await server.call(lambda session: standing.look_up(session, old))
            if not like:
                raise missing(old, self._target.name)
            self._require_plain(old, like)
            self._require_plain(new.user, await server.call(lambda session: standing.look_up(session, new.user)))
            if found := _obstacles(old, like, await server.call(standing.own_grants)):
                raise Conflict("access.rotation.obstacle", found[0][:300])
            await server.call(lambda session: standing.twin(session, like, new.user, new.secret))
        if like[0].default_role:
            # An account may choose its own default role; for another's one needs to write every table of `mysql`.
            role = name(like[0].default_role)
            await login(self._as(new.user), new.secret, lambda session: session.rows(f"SET DEFAULT ROLE {role}"))

    async def attempt(self, login_: Login) -> Tried:
        tried = await login(self._as(login_.user), login_.secret)
        return Tried(admitted=tried.admitted, words="admitted" if tried.admitted else tried.words)

    async def use(self, old: str, new: str, mode: Mode, since: datetime, *, now: datetime) -> Use | None:
        async with self._server() as server:
            users = [one.user for one in await server.call(catalogue.live_sessions)]
        return Use(old=users.count(old), new=users.count(new))

    async def withdraw(
        self, user: str, secret: str | None, *, keep: Login | None, mode: Mode, since: datetime
    ) -> Withdrawn:
        async with self._server() as server:
            self._require_plain(user, await server.call(lambda session: standing.look_up(session, user)))
            await server.call(lambda session: standing.lock(session, user))
            ended, gone = await _end_sessions(server, user)
        proof = await self._prove(user, secret, keep) if gone else Unproved(why="a session would not end")
        return Withdrawn(gone=gone, sessions_ended=ended, proof=proof)

    async def retire(self, user: str, secret: str | None) -> Withdrawn:
        always = datetime.fromtimestamp(0, UTC)
        return await self.withdraw(user, secret, keep=None, mode=Mode.TWO_LOGINS, since=always)

    async def refused(self, user: str, secret: str) -> Proof:
        """Show that `secret` is refused for `user` while our own is admitted; changes nothing."""
        return await self._prove(user, secret, None)

    async def _prove(self, user: str, secret: str | None, keep: Login | None) -> Proof:
        if secret is None:
            return SECRET_UNKNOWN
        tried = await login(self._as(user), secret)
        who, shown = (keep.user, keep.secret) if keep else (self._target.user, self._secret)
        control = await login(self._as(who), shown)
        return judge([tried], [control], control=f"login as {who}", of_credential=lambda one: one.code in ACCESS_DENIED)

    def _is_protected(self, user: str, accounts: list[Standing]) -> bool:
        if user == self._target.user or user in _OWN or PRINCIPAL.fullmatch(user):
            return True
        return any(one.administers for one in accounts)

    def _require_plain(self, user: str, accounts: list[Standing]) -> None:
        if self._is_protected(user, accounts):
            raise protected(user)

    def _as(self, user: str) -> Address:
        return replace(self._address, user=user)

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[Server]:
        server = Server(self._address, self._secret)
        try:
            yield server
        finally:
            await server.close()


def _obstacles(old: str, accounts: list[Standing], mine: list[Grant]) -> list[str]:
    found = []
    if any(one.plugin is None for one in accounts):
        found.append(f"`{old}` may come in without a password, or by a method that Remit cannot give a twin")
    if len(accounts) > 1 and any(one.default_role for one in accounts):
        found.append(f"`{old}` has a default role and several hosts: only for one of them could its twin choose it")
    for grant in (each for one in accounts for each in one.grants):
        roles_held = any(not own.on and own.passed_on and own.rights == grant.rights for own in mine)
        if not (roles_held if not grant.on else any(own.covers(grant) for own in mine if own.on)):
            what = f"{', '.join(sorted(grant.rights))} on {grant.on}" if grant.on else f"the role {min(grant.rights)}"
            found.append(f"`{old}` holds {what[:160]}, which the broker may not give on to its twin")
    return found


async def _end_sessions(server: Server, user: str) -> tuple[int, bool]:
    """Kill by number, since the server resolves hosts, and look again; who was halfway in is waited for."""
    clock = asyncio.get_running_loop().time
    started, ended = clock(), set[int]()
    halfway = {one.id for one in await server.call(catalogue.live_sessions) if one.user == UNAUTHENTICATED}
    while True:
        live = await server.call(catalogue.live_sessions)
        theirs = {one.id for one in live if one.user == user}
        waiting = {one.id for one in live if one.id in halfway and one.user == UNAUTHENTICATED}
        ended |= theirs
        if not theirs | waiting or clock() > started + _SESSIONS_WITHIN:
            return len(ended), not theirs | waiting
        for number in sorted(theirs | (waiting if clock() > started + _PATIENCE else set())):
            with suppress(Rejected):  # it may have gone by itself
                await server.call(lambda session, number=number: session.rows(f"KILL CONNECTION {number:d}"))  # type: ignore[misc]
        await asyncio.sleep(_LOOK_AGAIN)


class MariaRotatorFactory:
    """The plug-in."""

    id = "mariadb"
    modes = (Mode.TWO_LOGINS,)

    def make(self, target: Target, secret: str) -> MariaRotator:
        """A rotator for `target`; nothing is opened yet."""
        return MariaRotator(target, secret)
