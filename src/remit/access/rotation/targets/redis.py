"""Redis: a user has several passwords for a while, on every node of the server; then the old one is taken away."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from remit.access.brokers.principals import PRINCIPAL
from remit.access.brokers.proof import judge
from remit.access.brokers.redis_settings import decode_options
from remit.access.model import Proof, Target, Unproved
from remit.access.rotation.model import Login, Mode
from remit.access.rotation.ports import Survey, Tried, Use, Withdrawn
from remit.access.rotation.targets.standing import SECRET_UNKNOWN, protected
from remit.providers.redis.client import Address, Server, login

_SESSIONS_WITHIN = 10.0
_LOOK_AGAIN = 0.02


class RedisRotator:
    """Replaces the password of an ACL user that stands."""

    def __init__(self, target: Target, secret: str) -> None:
        settings = decode_options(target)
        self._target = target
        self._address = Address(
            host=target.host, port=target.port, user=target.user, tls=settings.tls, ca=settings.ca
        )  # fmt: skip
        self._more = settings.nodes
        self._secret = secret

    def __repr__(self) -> str:
        return f"RedisRotator({self._address})"

    async def close(self) -> None:
        return

    async def survey(self, old: str, new: str, mode: Mode) -> Survey:
        async with self._nodes() as nodes:
            users = await nodes[0].users()
            obstacles = []
            if old not in users:
                return Survey(exists=False)
            if self._is_protected(old):
                obstacles.append(f"`{old}` is the broker's own, `default`, or a lease's")
            if "nopass" in await _flags(nodes[0], old):
                obstacles.append(f"`{old}` needs no password at all (`nopass`)")
            if (await login(replace(self._address, user="remit_nobody"), "no secret")).anonymous:
                obstacles.append("the user `default` needs no password: no refusal would prove anything")
        return Survey(exists=True, obstacles=tuple(obstacles))

    async def publish(self, old: str, new: Login, mode: Mode) -> None:
        self._require_plain(old)
        async with self._nodes() as nodes:
            for node in nodes:
                # SETUSER makes a user that is not there: one that somebody deleted must not come back.
                if old in await node.users():
                    await node.run("ACL", "SETUSER", old, "#" + _digest(new.secret))
                    await _save(node)

    async def attempt(self, login_: Login) -> Tried:
        tried = await login(replace(self._address, user=login_.user), login_.secret)
        return Tried(admitted=tried.admitted, words="admitted" if tried.admitted else tried.words)

    async def use(self, old: str, new: str, mode: Mode, since: datetime, *, now: datetime) -> Use | None:
        """Connections that are older than the new password are of the old one."""
        age = (now - since).total_seconds()
        async with self._nodes() as nodes:
            ages = [one.age for node in nodes for one in await node.clients() if one.user == old]
        before = sum(one > age for one in ages)
        return Use(old=before, new=len(ages) - before)

    async def withdraw(
        self, user: str, secret: str | None, *, keep: Login | None, mode: Mode, since: datetime
    ) -> Withdrawn:
        self._require_plain(user)
        ended, gone = 0, True
        async with self._nodes() as nodes:
            for node in nodes:
                if user in await node.users():
                    await _take_away(node, user, secret, keep)
                    more, all_gone = await _end_sessions(node, user)
                    ended, gone = ended + more, gone and all_gone
            addresses = [node.address for node in nodes]
        proof: Proof = Unproved(why="a connection would not end")
        if gone:
            proof = await self._prove(addresses, user, secret, keep)
        return Withdrawn(gone=gone, sessions_ended=ended, proof=proof)

    async def retire(self, user: str, secret: str | None) -> Withdrawn:
        self._require_plain(user)
        ended, gone = 0, True
        async with self._nodes() as nodes:
            for node in nodes:
                if user in await node.users():
                    await node.run("ACL", "SETUSER", user, "off", "resetpass")
                    await _save(node)
                    more, all_gone = await _end_sessions(node, user)
                    ended, gone = ended + more, gone and all_gone
            addresses = [node.address for node in nodes]
        proof = await self._prove(addresses, user, secret, None) if gone else Unproved(why="a connection would not end")
        return Withdrawn(gone=gone, sessions_ended=ended, proof=proof)

    async def refused(self, user: str, secret: str) -> Proof:
        """Show that every node refuses `secret` for `user` while our own is admitted; changes nothing."""
        async with self._nodes() as nodes:
            addresses = [node.address for node in nodes]
        return await self._prove(addresses, user, secret, None)

    async def _prove(self, nodes: Sequence[Address], user: str, secret: str | None, keep: Login | None) -> Proof:
        if secret is None:
            return SECRET_UNKNOWN
        who, shown = (keep.user, keep.secret) if keep else (self._target.user, self._secret)
        tried = [await login(replace(address, user=user), secret) for address in nodes]
        if any(one.anonymous for one in tried):
            return Unproved(why="the server serves whoever shows no secret")
        return judge(
            tried,
            [await login(replace(address, user=who), shown) for address in nodes],
            control=f"login as {who}, with the other",
            of_credential=lambda one: one.words.startswith("WRONGPASS"),
        )

    def _is_protected(self, user: str) -> bool:
        return user in (self._target.user, "default") or PRINCIPAL.fullmatch(user) is not None

    def _require_plain(self, user: str) -> None:
        if self._is_protected(user):
            raise protected(user, "is the broker's own, `default`, or a lease's")

    @asynccontextmanager
    async def _nodes(self) -> AsyncIterator[list[Server]]:
        """The server, its replicas, and the nodes of its cluster, as it tells now."""
        servers = [Server(self._address, self._secret)]
        try:
            home = (self._address.host, self._address.port)
            for host, port in dict.fromkeys((*self._more, *await servers[0].peers())):
                if (host, port) != home:
                    servers.append(Server(replace(self._address, host=host, port=port), self._secret))
            yield servers
        finally:
            for server in servers:
                await server.close()


def _digest(secret: str) -> str:
    # Redis keeps SHA-256 of a secret: the secret itself is never sent but by who logs in with it.
    return hashlib.sha256(secret.encode()).hexdigest()


async def _shown(node: Server, user: str) -> dict[str, Any]:
    said = await node.run("ACL", "GETUSER", user)
    if isinstance(said, dict):
        return said
    return dict(zip(said[::2], said[1::2], strict=True)) if said else {}


async def _flags(node: Server, user: str) -> Sequence[str]:
    return [str(one) for one in (await _shown(node, user)).get("flags", ())]


async def _take_away(node: Server, user: str, secret: str | None, keep: Login | None) -> None:
    if secret is None:
        assert keep is not None, "one of the two versions is known"
        await node.run("ACL", "SETUSER", user, "resetpass", "#" + _digest(keep.secret))
    else:
        held = (await _shown(node, user)).get("passwords", ())
        if _digest(secret) in {str(one).lstrip("#") for one in held}:
            await node.run("ACL", "SETUSER", user, "!" + _digest(secret))
    await _save(node)


async def _end_sessions(node: Server, user: str) -> tuple[int, bool]:
    """Close what is open now: Redis does not tell by which password; who comes back shows the one that is left."""
    clock = asyncio.get_running_loop().time
    until = clock() + _SESSIONS_WITHIN
    theirs = {one.id for one in await node.clients() if one.user == user}
    left = set(theirs)
    while left and clock() < until:
        await node.run_all([("CLIENT", "KILL", "ID", number) for number in sorted(left)])
        left &= {one.id for one in await node.clients()}
        if left:
            await asyncio.sleep(_LOOK_AGAIN)
    return len(theirs), not left


async def _save(node: Server) -> None:
    if (await node.run("CONFIG", "GET", "aclfile"))[-1:] not in ([], [""]):
        await node.run("ACL", "SAVE")


class RedisRotatorFactory:
    """The plug-in."""

    id = "redis"
    modes = (Mode.TWO_SECRETS,)

    def make(self, target: Target, secret: str) -> RedisRotator:
        """A rotator for `target`; nothing is opened yet."""
        return RedisRotator(target, secret)
