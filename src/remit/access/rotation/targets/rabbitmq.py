"""RabbitMQ: two users with the same permissions, limits and tags in turn; the old one is deleted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from remit.access.brokers.principals import PRINCIPAL
from remit.access.brokers.proof import judge
from remit.access.brokers.rabbitmq_settings import decode_options
from remit.access.model import Proof, Target, Unproved
from remit.access.rotation.model import Login, Mode
from remit.access.rotation.ports import Survey, Tried, Use, Withdrawn
from remit.access.rotation.targets.standing import SECRET_UNKNOWN, missing, protected
from remit.kernel.errors import Conflict
from remit.providers.rabbitmq.login import Door, login
from remit.providers.rabbitmq.management import Management, Standing, password_hash

_SESSIONS_WITHIN = 10.0
_ADMINISTRATORS = frozenset({"administrator", "policymaker", "impersonator"})
"""Tags by which a user reaches other users, or speaks in their name."""


class RabbitRotator:
    """Replaces a standing user of one server or cluster, with the target's own administrator."""

    def __init__(self, target: Target, secret: str, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        self._settings = decode_options(target)
        self._target = target
        self._secret = secret
        self._randomness = randomness
        self._door = Door(
            host=target.host, port=target.port, vhost=target.database or "/", tls=self._settings.tls,
            ca=self._settings.ca,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"RabbitRotator({self._target.host}:{self._target.port})"

    async def close(self) -> None:
        return

    async def survey(self, old: str, new: str, mode: Mode) -> Survey:
        async with self._management() as api:
            standing, taken = await api.standing(old), await api.has_user(new)
        if standing is None:
            return Survey(exists=False, taken=taken)
        obstacles = [f"`{old}` administers the server or is a lease's"] if self._is_protected(old, standing) else []
        obstacles += _obstacles(old, standing)
        if (await login(self._door, "remit_nobody", "no secret")).admitted:
            obstacles.append("the server admits users that do not exist: no refusal would prove anything")
        return Survey(exists=True, taken=taken, obstacles=tuple(obstacles))

    async def publish(self, old: str, new: Login, mode: Mode) -> None:
        async with self._management() as api:
            like = await api.standing(old)
            if like is None:
                raise missing(old, self._target.name)
            self._require_plain(old, like)
            self._require_plain(new.user, await api.standing(new.user))
            if found := _obstacles(old, like):
                raise Conflict("access.rotation.obstacle", found[0][:300])
            # Its password comes last: until then it admits nobody.
            tags = ",".join(sorted(like.tags))
            await api.put_user(new.user, "", tags)
            for limit, value in like.limits.items():
                await api.limit(new.user, limit, value)
            for row in like.topics:
                rights = {right: row[right] for right in ("write", "read")}
                await api.permit_topic(new.user, row["vhost"], row["exchange"], rights)
            for vhost, each in like.permissions.items():
                await api.permit(new.user, vhost, {right: each[right] for right in ("configure", "write", "read")})
            await api.put_user(new.user, password_hash(new.secret, self._randomness(4)), tags)

    async def attempt(self, login_: Login) -> Tried:
        tried = await login(self._door, login_.user, login_.secret)
        return Tried(admitted=tried.admitted, words="admitted" if tried.admitted else tried.words)

    async def use(self, old: str, new: str, mode: Mode, since: datetime, *, now: datetime) -> Use | None:
        async with self._management() as api:
            return Use(old=len(await api.connections(old)), new=len(await api.connections(new)))

    async def withdraw(
        self, user: str, secret: str | None, *, keep: Login | None, mode: Mode, since: datetime
    ) -> Withdrawn:
        async with self._management() as api:
            standing = await api.standing(user)
            self._require_plain(user, standing)
            if standing is not None:
                await api.put_user(user, "")
            ended, left = await api.end_connections(user, within=_SESSIONS_WITHIN)
            await api.delete_user(user)
            # One that logged in just before the password went may have come up only now.
            late, left = (set[str](), left) if left else await api.end_connections(user, within=_SESSIONS_WITHIN)
            gone = not left and not await api.has_user(user)
        proof = await self._prove(user, secret, keep) if gone else Unproved(why="the user or a connection would not go")
        return Withdrawn(gone=gone, sessions_ended=len(ended | late), proof=proof)

    async def retire(self, user: str, secret: str | None) -> Withdrawn:
        always = datetime.fromtimestamp(0, UTC)
        return await self.withdraw(user, secret, keep=None, mode=Mode.TWO_LOGINS, since=always)

    async def refused(self, user: str, secret: str) -> Proof:
        """Show that `secret` is refused for `user` while our own is admitted; changes nothing."""
        return await self._prove(user, secret, None)

    async def _prove(self, user: str, secret: str | None, keep: Login | None) -> Proof:
        if secret is None:
            return SECRET_UNKNOWN
        who, shown = (keep.user, keep.secret) if keep else (self._target.user, self._secret)
        tried, control = await login(self._door, user, secret), await login(self._door, who, shown)
        return judge([tried], [control], control=f"login as {who}")

    def _is_protected(self, user: str, standing: Standing | None) -> bool:
        if user in (self._target.user, "guest") or PRINCIPAL.fullmatch(user):
            return True
        return standing is not None and bool(standing.tags & _ADMINISTRATORS)

    def _require_plain(self, user: str, standing: Standing | None) -> None:
        if self._is_protected(user, standing):
            raise protected(user)

    @asynccontextmanager
    async def _management(self) -> AsyncIterator[Management]:
        settings = self._settings
        api = Management(settings.management, self._target.user, self._secret, ca=settings.ca)
        try:
            yield api
        finally:
            await api.close()


def _obstacles(old: str, standing: Standing) -> list[str]:
    if standing.has_password:
        return []
    return [f"`{old}` has no password here: it comes in by a certificate, or by another authority"]


class RabbitRotatorFactory:
    """The plug-in."""

    id = "rabbitmq"
    modes = (Mode.TWO_LOGINS,)

    def make(self, target: Target, secret: str) -> RabbitRotator:
        """A rotator for `target`; nothing is opened yet."""
        return RabbitRotator(target, secret)
