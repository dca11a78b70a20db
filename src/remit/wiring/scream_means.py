"""By what an identity is held back: the decision point, a PostgreSQL login, a Redis user."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.model import Request
from remit.governance.dependencies.ports import Outlook, Told
from remit.governance.dependencies.scream import Heard, Scream
from remit.governance.dependencies.share import consumer_of, is_in
from remit.inventory.use.judge import together
from remit.kernel.clock import parse_rfc3339, rfc3339
from remit.kernel.errors import RemitError, Unavailable
from remit.wiring.live_sessions import redis_server
from remit.wiring.use import names_watched

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.scream")
_GRACE: Final = 2.0
"""Seconds after its end at which a target restores by itself."""
_SETTLE_SECONDS: Final = 5.0
_MOST_NOTED: Final = 10_000


class DecisionMeans:
    """Refuses a share of an identity's requests at this control plane's own decision point, until the end."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._tests: dict[str, tuple[Scream, datetime]] = {}
        self._refused: dict[str, Counter[str]] = {}
        self._asked: Counter[str] = Counter()

    async def look(self, test: Scream) -> Outlook:
        return Outlook(
            does=f"the decision point refuses {test.share} % of its consumers, always the same: no lease, no permit",
            fails_safe="what refuses is memory of the control plane alone, and ends with it",
            notes=(
                "leases that live go on, and tokens are issued; decision workers and enforcement points with a copy "
                "decide as before",
            ),
        )

    async def hold(self, test: Scream) -> None:
        self._tests[test.identity] = (test, parse_rfc3339(test.ends))
        self._refused[test.id] = Counter()
        self._control.pdp.hold("scream", self._holds)

    async def listen(self, test: Scream) -> Told:
        noted = self._refused.get(test.id, Counter())
        self._refused[test.id] = Counter()
        now = rfc3339(self._control.clock.now())
        heard = tuple(
            Heard(who=who, words="remit:held", count=count, first=now, last=now, tier=test.tier)
            for who, count in noted.items()
        )
        return Told(heard=heard, log=test.log, tries=self._asked.pop(test.id, 0))

    async def restore(self, test: Scream) -> str:
        held = self._tests.get(test.identity)
        if held is not None and held[0].id == test.id:
            del self._tests[test.identity]
        if not self._tests:
            self._control.pdp.hold("scream", None)
        return ""

    def _holds(self, identity: str, request: Request, now: datetime) -> str:
        """Why this request is refused for a test; empty where it is not. On the hot path of those under test alone."""
        found = self._tests.get(identity)
        if found is None or now >= found[1]:
            return ""
        test, consumer = found[0], consumer_of(request)
        self._asked[test.id] += 1
        if not is_in(test.id, consumer, test.share):
            return ""
        refused = self._refused.setdefault(test.id, Counter())
        if consumer in refused or len(refused) < _MOST_NOTED:
            refused[consumer] += 1
        return f"it is held back until {test.ends} by the scream test {test.id}"


class PostgresMeans:
    """Lowers the login's connection limit below what it uses; the server gives it back by itself."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._guards: dict[str, asyncio.Task[None]] = {}

    async def look(self, test: Scream) -> Outlook:
        from remit.providers.postgres import rightsizing, scream

        target = await self._control.targets.get(test.target)
        async with self._control.rightsizing.sources.connected(target) as connection:
            login = await scream.look_up(connection, test.login)
            log = await rightsizing.log_end(connection)
        obstacles = []
        if login is None or not login.can_login:
            obstacles.append(f"`{test.login[:63]}` is no login of the server (any more)")
        elif login.administers or login.ours:
            obstacles.append(f"`{test.login[:63]}` administers the server: no limit holds it")
        elif login.limit == 0:
            obstacles.append(f"`{test.login[:63]}` is held at no connection already, by somebody else")
        if log is None:
            obstacles.append(
                "nobody would hear a scream: the server writes no log in CSV that the target's login may read "
                "(logging_collector, log_destination = csvlog, pg_monitor, pg_read_server_files)"
            )
        sessions = login.sessions if login else 0
        limit = sessions * (100 - test.share) // 100
        return Outlook(
            does=f"new connections of the login are refused above {limit}; it has {sessions}, which go on",
            fails_safe="a session of the server itself gives the limit back, should the control plane die",
            before={"limit": login.limit if login else -1, "held": limit},
            log={"file": log[0], "at": log[1]} if log else {},
            obstacles=tuple(obstacles),
        )

    async def hold(self, test: Scream) -> None:
        from remit.providers.postgres import scream

        target = await self._control.targets.get(test.target)
        held = _number(test.before, "held")
        over = parse_rfc3339(test.ends) - self._control.clock.now()
        statement = scream.guard(
            test.login, test=test.id, limit=held, before=_number(test.before, "limit"),
            seconds=max(0.0, over.total_seconds()) + _GRACE,
        )  # fmt: skip
        guard = self._guards[test.id] = asyncio.create_task(self._guard(test, statement), name=f"guard-{test.id}")
        async with self._control.rightsizing.sources.connected(target) as connection:
            deadline = self._control.clock.monotonic() + _SETTLE_SECONDS
            while await scream.limit_of(connection, test.login) != held:
                if guard.done():
                    guard.result()
                if self._control.clock.monotonic() > deadline:
                    raise Unavailable(
                        "governance.scream.unheld", f"the server does not hold `{test.login[:63]}` back",
                        next_step="`remit doctor`: the target's login needs the right to alter roles",
                    )  # fmt: skip
                await asyncio.sleep(0.02)

    async def _guard(self, test: Scream, statement: str) -> None:
        """The session that restores by itself; it is left alone when this process ends."""
        from remit.providers.postgres import scream
        from remit.providers.postgres.address import Address
        from remit.providers.postgres.client import close, connect, translated_errors

        target, secret = await self._control.targets.credential(test.target)
        address = Address(
            host=target.host, port=target.port, user=target.user, database=target.database,
            ssl_mode=target.options.get("sslmode", ""), ssl_root=target.options.get("sslrootcert", ""),
        )  # fmt: skip
        connection = await connect(address, secret, application=scream.application(test.id))
        try:
            with translated_errors(address):
                await connection.execute("SET statement_timeout = 0")
                await connection.execute("SET idle_in_transaction_session_timeout = 0")
                await connection.execute(statement, timeout=test.seconds + 60)
        finally:
            await close(connection)

    async def listen(self, test: Scream) -> Told:
        from remit.providers.postgres import rightsizing, scream

        file, at = str(test.log.get("file", "")), _number(test.log, "at")
        target = await self._control.targets.get(test.target)
        async with self._control.rightsizing.sources.connected(target) as connection:
            attempts, at = await scream.refused_since(connection, test.login, file, at)
            end = await rightsizing.log_end(connection)
            if end is not None and end[0] != file:  # it was rotated
                file = end[0]
                more, at = await scream.refused_since(connection, test.login, file, 0)
                attempts += more
        if not attempts:
            return Told(log={"file": file, "at": at})
        counts = Counter(each.address for each in attempts)
        called = await self._control.store.read(lambda unit: _called(unit, test.identity, counts))
        now = rfc3339(self._control.clock.now())
        words = {each.address: each.words for each in attempts}
        heard = tuple(
            Heard(who=called[address], words=words[address], count=count, first=now, last=now, tier=test.tier)
            for address, count in counts.items()
        )
        return Told(heard=heard, log={"file": file, "at": at}, tries=len(attempts))

    async def restore(self, test: Scream) -> str:
        from remit.providers.postgres import scream

        target = await self._control.targets.get(test.target)
        async with self._control.rightsizing.sources.connected(target) as connection:
            left = await scream.restore(
                connection, test.login, test=test.id, limit=_number(test.before, "held"),
                before=_number(test.before, "limit"),
            )  # fmt: skip
        guard = self._guards.pop(test.id, None)
        if guard is not None:
            await asyncio.wait({guard}, timeout=_SETTLE_SECONDS)
            if guard.done() and not guard.cancelled() and (error := guard.exception()) is not None:
                _log.info("the guard of %s ended: %s", test.id, error)
        return left


class RedisMeans:
    """Switches a Redis user off and on again; its connections go on, a new login is refused."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def look(self, test: Scream) -> Outlook:
        target = await self._control.targets.get(test.target)
        async with redis_server(self._control, target) as server:
            state = await server.run("ACL", "GETUSER", test.login)
            clients = sum(each.user == test.login for each in await server.clients())
            obstacles = []
            try:
                await server.run("ACL", "LOG", 1)
            except RemitError as error:
                obstacles.append(f"nobody would hear a scream: {error.message}")
        if state is None:
            obstacles.append(f"`{test.login[:60]}` is no user of the server (any more)")
        elif "on" not in _flags(state):
            obstacles.append(f"`{test.login[:60]}` is off already")
        if test.login in (target.user, "default"):
            obstacles.append(f"`{test.login[:60]}` administers the server")
        return Outlook(
            does=f"new logins of the user are refused; it has {clients} connections, which go on",
            fails_safe="none of the server's own but its restart: the control plane restores at its next start",
            before={"on": True}, obstacles=tuple(obstacles),
            notes=("a share cannot be held back here: every new login is",) if test.share < 100 else (),
        )  # fmt: skip

    async def hold(self, test: Scream) -> None:
        target = await self._control.targets.get(test.target)
        async with redis_server(self._control, target) as server:
            await server.run("ACL", "SETUSER", test.login, "off")

    async def listen(self, test: Scream) -> Told:
        target = await self._control.targets.get(test.target)
        async with redis_server(self._control, target) as server:
            rows = await server.run("ACL", "LOG", 100)
        now = self._control.clock.now()
        age = (now - test.started) / timedelta(seconds=1)
        counts: Counter[str] = Counter()
        for row in map(_fields, rows):
            if row.get("reason") == "auth" and row.get("username") == test.login and float(row["age-seconds"]) < age:
                counts[_client(row.get("client-info", ""))] += int(row.get("count", 1))
        known = {each.who: each.count for each in test.heard}
        called = await self._control.store.read(lambda unit: _called(unit, test.identity, counts))
        moment, words = rfc3339(now), "WRONGPASS or user is disabled"
        fresh = {called[each]: count - known.get(called[each], 0) for each, count in counts.items()}
        heard = tuple(
            Heard(who=who, words=words, count=count, first=moment, last=moment, tier=test.tier)
            for who, count in fresh.items() if count > 0
        )  # fmt: skip
        return Told(heard=heard, log=test.log, tries=sum(each.count for each in heard))

    async def restore(self, test: Scream) -> str:
        target = await self._control.targets.get(test.target)
        async with redis_server(self._control, target) as server:
            if await server.run("ACL", "GETUSER", test.login) is None:
                return "the user is gone: there is nothing to restore"
            await server.run("ACL", "SETUSER", test.login, "on")
        return ""


def _number(values: Mapping[str, Any], name: str) -> int:
    found = values.get(name, 0)
    return found if isinstance(found, int) else 0


def _fields(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return {_text(key): _text(value) for key, value in row.items()}
    flat = [_text(each) for each in row]
    return dict(zip(flat[::2], flat[1::2], strict=False))


def _flags(state: Any) -> list[str]:
    found = _fields_of_user(state).get("flags", [])
    return [_text(each) for each in found]


def _fields_of_user(state: Any) -> dict[str, Any]:
    if isinstance(state, dict):
        return {_text(key): value for key, value in state.items()}
    return {_text(key): value for key, value in zip(state[::2], state[1::2], strict=False)}


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _client(info: Any) -> str:
    found = dict(part.partition("=")[::2] for part in str(info).split())
    return " ".join(filter(None, (found.get("addr", "").rpartition(":")[0], found.get("name", "")))) or "unknown"


def _called(unit: Any, identity: str, addresses: Counter[str]) -> dict[str, str]:
    """Address → consumer, with the programs that logs show to come from there."""
    whole = together(list(unit.use.of(names_watched(unit, identity)).values()))
    known = sorted(whole.consumers) if whole else []
    found = {}
    for address in addresses:
        programs = [each.partition(" ")[2] for each in known if each.partition(" ")[0] == address]
        programs = [each for each in programs if each]
        found[address] = f"{address} {' or '.join(programs[:3])}".strip() if 0 < len(programs) <= 3 else address
    return found
