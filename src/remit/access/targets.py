"""Targets: the systems on which leases are minted, their sealed admin credentials, and needs that name them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

from remit.access.brokers.location import Location
from remit.access.brokers.port import Broker, BrokerFactory, BrokerManifest, Check
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import Need, Target
from remit.access.ports import AccessUnit, StoredTarget
from remit.kernel.canonical import Json
from remit.kernel.catalog import Catalog
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected, Unavailable
from remit.kernel.unit import Attester, Sealer, Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ROLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_NEED_LIMIT = 512


def parse_need(text: str) -> Need:
    """Read `SYSTEM://TARGET[/DATABASE]?role=ROLE`; at most 512 characters.

    Raises `Rejected` (`access.need.malformed`), also when it carries a user, a password, a port or a fragment: a need
    names a registered target and nothing else.
    """
    if len(text) > _NEED_LIMIT or not text.isprintable():
        raise _malformed(text[:60], "it is too long or not printable")
    try:
        parts = urlsplit(text)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError as error:
        raise _malformed(text, "it is no URL") from error
    database = unquote(parts.path.removeprefix("/"))
    if not parts.scheme or not _NAME.fullmatch(parts.netloc):
        raise _malformed(
            "SYSTEM://…" if "@" in text else text, "it needs a system and the name of a target, nothing else"
        )
    if [key for key, _ in query] != ["role"] or not _ROLE.fullmatch(query[0][1]):
        raise _malformed(text, "it needs exactly one `role`")
    if parts.fragment or "/" in database or "\x00" in database or len(database) > 63:
        raise _malformed(text, "its database is not a plain name")
    return Need(system=parts.scheme, target=parts.netloc, role=query[0][1], database=database)


def _malformed(text: str, why: str) -> Rejected:
    return Rejected(
        "access.need.malformed",
        f"the need `{text}` cannot be read: {why}",
        next_step="write it as `SYSTEM://TARGET?role=ROLE` or `SYSTEM://TARGET/DATABASE?role=ROLE`",
    )


def group_role(need: Need, target: Target) -> str:
    """The group role on the target that the need's role stands for.

    Raises `Rejected`: `access.need.system` when the target is of another system, `access.need.role` when it has no
    such role.
    """
    if need.system != target.system:
        raise Rejected(
            "access.need.system",
            f"the target `{target.name}` is of the system `{target.system}`, not `{need.system}`",
            next_step=f"ask for `{target.system}://{target.name}?role={need.role}`",
        )
    if need.role not in target.roles:
        known = ", ".join(sorted(target.roles)) or "none"
        raise Rejected(
            "access.need.role",
            f"the target `{target.name}` maps no role `{need.role}`",
            next_step=f"ask for one of: {known}",
        )
    return target.roles[need.role]


class Targets:
    """The verbs on targets."""

    def __init__(
        self,
        *,
        store: Store[AccessUnit],
        sealer: Sealer,
        attester: Attester,
        factories: Catalog[BrokerFactory],
        patience: timedelta = timedelta(seconds=15),
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._factories = factories
        self._patience = patience.total_seconds()

    async def add(self, target: Target, secret: str, *, actor: str) -> Sequence[Check]:
        """Open the target once, then keep it with its secret sealed; returns what the broker has to say of it.

        Raises `Rejected` (`access.target.malformed`), `Conflict` (`access.target.exists`), and what opening raises:
        a target that never answered is not kept.
        """
        _check_target(target)
        factory = self._factories.get(target.system)
        checks = await self._try(factory.make(target, secret))
        sealed = self._sealer.seal(secret.encode(), context=_context(target.name))
        signature = self._attester.sign("target", _content(target))

        def work(unit: AccessUnit) -> None:
            stored = StoredTarget(target=target, sealed=sealed, created=unit.now, created_by=actor, signature=signature)
            if not unit.access.insert_target(stored):
                raise Conflict(
                    "access.target.exists",
                    f"a target is already called `{target.name}`",
                    next_step=f"choose another name, or `remit target rm {target.name}` first",
                )
            unit.record("access.target.added", actor=actor, subject=f"target:{target.name}", data=_content(target))

        await self._store.write(work)
        return checks

    async def _try(self, broker: Broker) -> Sequence[Check]:
        try:
            async with asyncio.timeout(self._patience):
                await broker.open()
                return tuple(await broker.check())
        except TimeoutError:
            raise _silent(self._patience) from None
        finally:
            await broker.close()

    async def list(self) -> Sequence[Target]:
        """All targets by name, those whose signature does not verify included."""
        return [stored.target for stored in await self._store.read(lambda unit: unit.access.targets())]

    async def get(self, name: str) -> Target:
        """The target of that name, verified; `NotFound` (`access.target.unknown`)."""
        return (await self.stored(name)).target

    def make(self, stored: StoredTarget) -> Broker:
        """A broker on the target, not yet opened; raises `Misconfigured`."""
        secret = self._sealer.unseal(stored.sealed, context=_context(stored.target.name)).decode()
        return self._factories.get(stored.target.system).make(stored.target, secret)

    async def credential(self, name: str) -> tuple[Target, str]:
        """The target with its admin secret in clear, for a connector that reads it; it must stay in memory."""
        stored = await self.stored(name)
        return stored.target, self._sealer.unseal(stored.sealed, context=_context(name)).decode()

    def manifest(self, system: str) -> BrokerManifest:
        """What the broker of a system says of itself; `NotFound` (`kernel.catalog.unknown`) names those that exist."""
        return self._factories.get(system).manifest

    def locate(self, system: str, url: str) -> Location:
        """Read the URL of a target of that system; raises `NotFound`, and `Rejected` for one that is no such URL."""
        return self._factories.get(system).locate(url)

    def present(self, system: str, credential: Credential) -> Presentation:
        """How the clients of that system find a credential."""
        return self._factories.get(system).present(credential)

    async def remap(self, name: str, roles: Mapping[str, str], *, actor: str) -> Target:
        """Let a target map other roles; the same again changes nothing. Raises as `add` and `get`."""
        stored = await self.stored(name)
        target = replace(stored.target, roles=dict(roles))
        if target == stored.target:
            return target
        _check_target(target)
        self._factories.get(target.system).make(target, "")
        signature = self._attester.sign("target", _content(target))

        def work(unit: AccessUnit) -> None:
            unit.access.remove_target(name)
            unit.access.insert_target(replace(stored, target=target, signature=signature))
            unit.record("access.target.mapped", actor=actor, subject=f"target:{name}", data=_content(target))

        await self._store.write(work)
        return target

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget a target and its secret; `Conflict` (`access.target.busy`) while a lease on it may still live."""

        def work(unit: AccessUnit) -> None:
            live = unit.access.leases(LeaseFilter(target=name, states=LIVE), limit=1)
            if live:
                raise Conflict(
                    "access.target.busy",
                    f"the target `{name}` still has leases, first `{live[0].id}`",
                    next_step=f"`remit revoke --target {name}`, then try again",
                )
            if not unit.access.remove_target(name):
                raise unknown_target(name)
            unit.record("access.target.removed", actor=actor, subject=f"target:{name}")

        await self._store.write(work)

    async def stored(self, name: str) -> StoredTarget:
        """Its row, verified; `NotFound` (`access.target.unknown`), `Misconfigured` (`access.target.forged`)."""
        stored = await self._store.read(lambda unit: unit.access.target(name))
        if stored is None:
            raise unknown_target(name)
        if not self._attester.verify("target", _content(stored.target), stored.signature):
            raise Misconfigured(
                "access.target.forged",
                f"the record of the target `{name}` was changed outside Remit",
                next_step=f"`remit target rm {name}`, then add it again",
            )
        return stored


class OpenBrokers:
    """One opened broker for each target, opened at first use; implements `ports.Brokers`."""

    def __init__(self, targets: Targets, *, ready: Callable[[str], Awaitable[None]] | None = None) -> None:
        """`ready` is waited for before a broker is handed out: what must hold around its target then."""
        self._targets = targets
        self._ready = ready
        self._open: dict[str, tuple[StoredTarget, Broker]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def broker(self, target: str) -> Broker:
        if self._ready is not None:
            await self._ready(target)
        async with self._locks.setdefault(target, asyncio.Lock()):
            wanted = await self._targets.stored(target)
            held = self._open.get(target)
            if held is not None and held[0] == wanted:
                return held[1]
            if held is not None:
                await held[1].close()
                del self._open[target]
            fresh = self._targets.make(wanted)
            try:
                await fresh.open()
            except BaseException:
                await fresh.close()
                raise
            self._open[target] = (wanted, fresh)
            return fresh

    async def targets(self) -> Sequence[str]:
        return [target.name for target in await self._targets.list()]

    def manifest(self, system: str) -> BrokerManifest:
        return self._targets.manifest(system)

    def present(self, system: str, credential: Credential) -> Presentation:
        return self._targets.present(system, credential)

    async def close(self) -> None:
        """Close every broker; works twice."""
        while self._open:
            _, (_, broker) = self._open.popitem()
            await broker.close()


def _context(name: str) -> str:
    return f"access_target/{name}/secret"


def _content(target: Target) -> dict[str, Json]:
    return {
        "name": target.name,
        "system": target.system,
        "host": target.host,
        "port": target.port,
        "database": target.database,
        "user": target.user,
        "roles": dict(target.roles),
        "options": dict(target.options),
        "instance": target.instance,
    }


def _check_target(target: Target) -> None:
    texts = (target.host, target.database, target.user, *_flat(target.options))
    wrong = (
        "its name is 1 to 63 of a-z, 0-9, `.`, `_`, `-`"
        if not _NAME.fullmatch(target.name)
        else "its port is between 1 and 65535"
        if not 0 < target.port < 65536
        else "it maps at least one role"
        if not target.roles
        else "its roles are plain words"
        if not all(_ROLE.fullmatch(role) for role in target.roles)
        else "its fields are printable and at most 200 characters"
        if not all(text.isprintable() and len(text) <= 200 for text in texts)
        else "what its roles stand for is printable and at most 1000 characters"
        if not all(text.isprintable() and 0 < len(text) <= 1000 for text in target.roles.values())
        else ""
    )
    if wrong:
        raise Rejected(
            "access.target.malformed",
            f"the target `{target.name[:64]}` is not well formed: {wrong}",
            next_step="see `remit target add --help`",
        )


def _flat(options: Mapping[str, str]) -> tuple[str, ...]:
    return (*options.keys(), *options.values())


def unknown_target(name: str) -> NotFound:
    """What is told of a target that nobody added."""
    return NotFound(
        "access.target.unknown",
        f"no target is called `{name}`",
        next_step=f"`remit target ls`, or `remit target add SYSTEM --name {name} …`",
    )


def _silent(seconds: float) -> Unavailable:
    return Unavailable(
        "access.target.silent",
        f"the target did not answer within {seconds:g} s",
        next_step="check host, port and network, then add it again",
    )
