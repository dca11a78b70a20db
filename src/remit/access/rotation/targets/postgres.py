"""PostgreSQL: two logins with the same memberships in turn, or one whose password is replaced in place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remit.access.model import Proof, Proved, Target, Unproved
from remit.access.rotation.model import Login, Mode
from remit.access.rotation.ports import Survey, Tried, Use, Withdrawn
from remit.access.rotation.targets.standing import SECRET_UNKNOWN, missing, protected
from remit.kernel.errors import Unavailable
from remit.providers.postgres import rotation, standing
from remit.providers.postgres.address import Address
from remit.providers.postgres.client import Connection, connected, translated_errors
from remit.providers.postgres.login import Admitted, Attempt, Refused, Unreached, login
from remit.providers.postgres.scram import scram_verifier

_SESSIONS_WITHIN = timedelta(seconds=10)


class PostgresRotator:
    """Replaces a standing login of one server, with the target's own administrator."""

    def __init__(self, target: Target, secret: str, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self._target = target
        self._address = Address(
            host=target.host, port=target.port, user=target.user, database=target.database,
            ssl_mode=target.options.get("sslmode", ""), ssl_root=target.options.get("sslrootcert", ""),
        )  # fmt: skip
        self._secret = secret
        self._randomness = randomness

    def __repr__(self) -> str:
        return f"PostgresRotator({self._address})"

    async def close(self) -> None:
        return

    async def survey(self, old: str, new: str, mode: Mode) -> Survey:
        async with self._connected() as connection:
            role = await standing.look_up(connection, old, list(self._target.roles.values()))
            taken = new != old and await rotation.exists(connection, new)
            if role is None:
                return Survey(exists=False, taken=taken)
            obstacles = []
            if role.administers or role.leased or old == self._target.user:
                obstacles.append(f"`{old}` administers the server or carries leases")
            if mode is Mode.TWO_LOGINS and (held := await rotation.holdings(connection, role.oid)):
                obstacles.append(
                    f"`{old}` owns or is granted {held} objects by its own name, which a second login would not reach:"
                    " give them to a group that it is a member of, or use the mode `in-place`"
                )
        if (why := await self._asks_for_passwords()) is not None:
            obstacles.append(why)
        return Survey(exists=True, taken=taken, obstacles=tuple(obstacles))

    async def publish(self, old: str, new: Login, mode: Mode) -> None:
        verifier = await self._verifier(new.secret)
        async with self._connected() as connection:
            await self._require_plain(connection, old)
            if mode is Mode.IN_PLACE:
                await rotation.set_password(connection, old, verifier)
            else:
                await rotation.twin(connection, old, new.user, verifier)

    async def attempt(self, login_: Login) -> Tried:
        tried = await login(self._as(login_.user, login_.database), login_.secret)
        if isinstance(tried, Unreached):
            raise Unavailable("access.rotation.probe", f"the login could not be tried: {tried.why}")
        return (
            Tried(admitted=True, words="admitted")
            if isinstance(tried, Admitted)
            else Tried(admitted=False, words=str(tried))
        )

    async def use(self, old: str, new: str, mode: Mode, since: datetime, *, now: datetime) -> Use | None:
        async with self._connected() as connection:
            if mode is Mode.IN_PLACE:
                before, after = await rotation.live(connection, old, since)
                return Use(old=before, new=after)
            return Use(
                old=sum(await rotation.live(connection, old, since)),
                new=sum(await rotation.live(connection, new, since)),
            )

    async def withdraw(
        self, user: str, secret: str | None, *, keep: Login | None, mode: Mode, since: datetime
    ) -> Withdrawn:
        async with self._connected() as connection:
            role = await standing.look_up(connection, user, list(self._target.roles.values()))
            ended, gone = 0, True
            if role is not None:
                await self._require_plain(connection, user)
                if mode is Mode.IN_PLACE:
                    assert keep is not None, "a rotation in place knows both versions"
                    ended, gone = await self._take_back(connection, user, secret, keep, since)
                else:
                    await standing.end_login(connection, user)
                    ended, gone = await standing.end_sessions_of(connection, role.oid, within=_SESSIONS_WITHIN)
        proof = await self._prove(user, secret, keep) if gone else Unproved(why="a session would not end")
        return Withdrawn(gone=gone, sessions_ended=ended, proof=proof)

    async def retire(self, user: str, secret: str | None) -> Withdrawn:
        always = datetime.fromtimestamp(0, UTC)
        return await self.withdraw(user, secret, keep=None, mode=Mode.TWO_LOGINS, since=always)

    async def _take_back(
        self, connection: Connection, user: str, secret: str | None, keep: Login, since: datetime
    ) -> tuple[int, bool]:
        counts = await login(self._as(user, keep.database), secret or "")
        if isinstance(counts, Refused) and counts.is_authentication:
            return await rotation.end_sessions_before(connection, user, since)
        await rotation.set_password(connection, user, await self._verifier(keep.secret))
        return await rotation.end_sessions_before(connection, user, None)

    async def refused(self, user: str, secret: str) -> Proof:
        """Show that `secret` is refused for `user` while our own is admitted; changes nothing."""
        return await self._prove(user, secret, None)

    async def _prove(self, user: str, secret: str | None, keep: Login | None) -> Proof:
        if secret is None:
            return SECRET_UNKNOWN
        tried = await login(self._as(user, keep.database if keep else ""), secret)
        if keep is None:
            control, who = await login(self._address, self._secret), self._address.user
        else:
            control, who = await login(self._as(keep.user, keep.database), keep.secret), keep.user
        return judge(tried, control, who)

    async def _asks_for_passwords(self) -> str | None:
        tried = await login(self._address, self._randomness(16).hex())
        if isinstance(tried, Admitted):
            return "the server admits us without a right password: no refusal would prove anything"
        return f"the server does not answer a login: {tried.why}" if isinstance(tried, Unreached) else None

    async def _require_plain(self, connection: Connection, user: str) -> None:
        role = await standing.look_up(connection, user, list(self._target.roles.values()))
        if role is None:
            raise missing(user, self._target.name)
        if role.administers or role.leased or user == self._target.user:
            raise protected(user)

    async def _verifier(self, secret: str) -> str:
        return await asyncio.to_thread(scram_verifier, secret, salt=self._randomness(16), iterations=4096)

    def _as(self, user: str, database: str) -> Address:
        return replace(self._address, user=user, database=database or self._target.database)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        async with connected(self._address, self._secret) as connection:
            with translated_errors(self._address):
                yield connection


def judge(tried: Attempt, control: Attempt, who: str) -> Proof:
    """Whether a login was refused for its secret, while another was admitted."""
    match tried, control:
        case Admitted(), _:
            return Unproved(why="the server still admits the credential")
        case Unreached(), _:
            return Unproved(why=f"the server could not be asked: {tried.why}")
        case Refused(), Admitted() if tried.is_authentication:
            return Proved(refusal=str(tried), control=f"login as {who}")
        case Refused(), Admitted():
            return Unproved(why=f"the refusal is not of the credential: {tried}")
        case _, _:
            return Unproved(why="the control was refused or could not be made")
    raise AssertionError((tried, control))


class PostgresRotatorFactory:
    """The plug-in."""

    id = "postgres"
    modes = (Mode.TWO_LOGINS, Mode.IN_PLACE)

    def make(self, target: Target, secret: str) -> PostgresRotator:
        """A rotator for `target`; nothing is opened yet."""
        return PostgresRotator(target, secret)
