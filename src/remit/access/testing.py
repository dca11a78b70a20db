"""The contract of brokers as a suite that every broker runs, and a broker on a target in memory that runs it too.

A test file gives the suite a stage for its kind of target:

    class TestMyBroker(BrokerContract):
        def stage(self) -> AbstractAsyncContextManager[BrokerStage]: ...
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.port import Broker, BrokerManifest, Check
from remit.access.brokers.presentation import Credential, Presentation, url_of
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
from remit.kernel.ids import ulid

INSTANCE = "test0001"
PRINCIPAL_LENGTH = 41


# A target in memory


class SessionEnded(Exception):
    """The target closed the session."""


@dataclass(slots=True, kw_only=True)
class FakeCredential:
    """A credential as the target holds it."""

    secret: str
    role: str
    expires: datetime
    may_login: bool = True
    sessions: set[FakeSession] = field(default_factory=set)
    made: list[str] = field(default_factory=list)


class FakeSession:
    """A live session on a `FakeServer`."""

    def __init__(self) -> None:
        self.ended = False

    async def work(self) -> None:
        """Do something; `SessionEnded` when the target has closed it."""
        if self.ended:
            raise SessionEnded

    async def close(self) -> None:
        self.ended = True


@dataclass(slots=True, kw_only=True)
class FakeServer:
    """A target that behaves as a real one: it keeps sessions until they are ended, and can be dead or too trusting."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    roles: frozenset[str] = frozenset({"app_rw"})
    credentials: dict[str, FakeCredential] = field(default_factory=dict)
    reachable: bool = True
    admits_anyone: bool = False
    """As `trust` in pg_hba.conf: no secret is looked at."""
    log: list[str] = field(default_factory=list)

    def login(self, principal: str, secret: str) -> FakeSession:
        """Open a session; `Rejected` (`fake.login.refused`) otherwise."""
        self.answer()
        credential = self.credentials.get(principal)
        if self.admits_anyone:
            pass
        elif credential is None or not credential.may_login or not secrets.compare_digest(credential.secret, secret):
            raise Rejected("fake.login.refused", "login refused")
        elif credential.expires <= self.clock():
            raise Rejected("fake.login.refused", "login refused: expired")
        session = FakeSession()
        if credential is not None:
            credential.sessions.add(session)
        return session

    def answer(self) -> None:
        """`Unavailable` while the target is dead."""
        if not self.reachable:
            raise Unavailable("fake.target.unreachable", "the target does not answer")


class FakeBroker:
    """The port, on a `FakeServer`, in the order that the port prescribes."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self._open = False

    async def open(self) -> None:
        self.server.answer()
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def mint(self, order: MintOrder) -> Minted:
        self._check([order.principal])
        if order.role not in self.server.roles:
            raise Rejected("fake.role.missing", f"there is no role `{order.role}`")
        known = self.server.credentials.get(order.principal)
        if known is not None and not known.may_login:
            raise Conflict("access.lease.revoking", "the credential is being revoked")
        if known is None:
            self.server.credentials[order.principal] = FakeCredential(
                secret=order.secret, role=order.role, expires=order.expires
            )
        else:
            known.secret, known.expires = order.secret, order.expires
        self.server.log.append(f"mint {order.principal}")
        return Minted(principal=order.principal, settings={"host": "fake", "user": order.principal})

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        self._check(principals)
        kept = [name for name in principals if name in self.server.credentials]
        for name in kept:
            self.server.credentials[name].expires = expires
        return kept

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        self._check([order.principal for order in orders])
        known = [self.server.credentials.get(order.principal) for order in orders]
        for credential in filter(None, known):
            credential.may_login = False
        await asyncio.sleep(0)
        return [self._finish(order, credential) for order, credential in zip(orders, known, strict=True)]

    def _finish(self, order: RevokeOrder, credential: FakeCredential | None) -> Revocation:
        left: tuple[LeftBehind, ...] = ()
        ended = 0
        if credential is not None:
            live = [session for session in credential.sessions if not session.ended]
            for session in live:
                session.ended = True
            ended = len(live)
            left = tuple(LeftBehind(what=what, fate="quarantined") for what in credential.made)
            self.server.credentials.pop(order.principal, None)
        self.server.log.append(f"revoke {order.principal}")
        return Revocation(
            principal=order.principal, gone=True, sessions_ended=ended, proof=self._prove(order), left_behind=left
        )

    def _prove(self, order: RevokeOrder) -> Proof:
        try:
            self.server.login(order.principal, order.secret)
        except Rejected as refused:
            return Proved(refusal=refused.message, control="login as broker")
        return Unproved(why="the target admits anyone")

    async def sweep(self, instance: str) -> Sequence[str]:
        self._check([])
        return sorted(
            name
            for name in self.server.credentials
            if name.startswith(f"remit_{instance}_") and len(name) == PRINCIPAL_LENGTH
        )

    async def check(self) -> Sequence[Check]:
        return [Check(ok=self.server.reachable, title="the target answers")]

    def _check(self, principals: Sequence[str]) -> None:
        if not self._open:
            raise Unavailable("access.target.closed", "the broker is closed")
        for name in principals:
            if not name.startswith("remit_") or len(name) != PRINCIPAL_LENGTH:
                raise Rejected("access.principal.foreign", f"`{name}` is no principal of Remit")
        self.server.answer()


class FakeBrokerFactory:
    """The plug-in `fake`: every target it makes a broker for is the one server."""

    id = "fake"
    manifest = BrokerManifest(id="fake", title="a target in memory", needs=(), fail_safe=True)

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def make(self, target: Target, secret: str) -> FakeBroker:
        return FakeBroker(self.server)

    def locate(self, url: str) -> Location:
        return read_location(url, schemes={self.id: 1}, write_as=f"{self.id}://USER@HOST")

    def present(self, credential: Credential) -> Presentation:
        return Presentation(url=url_of(self.id, credential))


# The contract


class LeaseSession(Protocol):
    """A session that a task opened with its lease."""

    async def work(self) -> None:
        """Do what the lease allows; raises anything when the session has ended."""
        ...

    async def close(self) -> None: ...


class BrokerStage(Protocol):
    """A target, an open broker on it, and a client of the target as tasks have one."""

    @property
    def broker(self) -> Broker: ...
    @property
    def role(self) -> str: ...
    @property
    def database(self) -> str: ...

    async def use(self, minted: Minted, secret: str) -> LeaseSession:
        """Open a session with a minted credential; raises when it is refused."""
        ...

    async def admit_anyone(self) -> None:
        """Make the target look at no secret any more."""
        ...

    async def stop(self) -> None:
        """Kill the target."""
        ...


def principal(instance: str = INSTANCE) -> str:
    """A fresh principal name."""
    return f"remit_{instance}_{ulid(datetime.now(UTC)).lower()}"


def mint_order(stage: BrokerStage, **changes: Any) -> MintOrder:
    """An order for `stage`, with a secret of 256 bits."""
    values: dict[str, Any] = {
        "principal": principal(),
        "role": stage.role,
        "database": stage.database,
        "secret": secrets.token_urlsafe(32),
        "expires": datetime.now(UTC) + timedelta(minutes=5),
        "label": "identity=id_1 task=etl lease=ls_1",
    }
    return MintOrder(**(values | changes))


def revoke_order(order: MintOrder) -> RevokeOrder:
    """The order that revokes what `order` minted."""
    return RevokeOrder(principal=order.principal, secret=order.secret, database=order.database)


class BrokerContract:
    """What every broker keeps. Subclass it in a test file, give it a `stage`, and pytest collects the tests."""

    manifest: ClassVar[BrokerManifest] = FakeBrokerFactory.manifest
    """Of the broker on the stage: what it says of the target is held against the target."""

    def stage(self) -> AbstractAsyncContextManager[BrokerStage]:
        raise NotImplementedError

    def on_stage(self, play: Callable[[BrokerStage], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            async with self.stage() as stage:
                await play(stage)

        asyncio.run(run())

    def test_a_minted_credential_works(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            session = await stage.use(await stage.broker.mint(order), order.secret)
            await session.work()
            await session.close()

        self.on_stage(play)

    def test_the_same_order_twice_is_one_credential(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            first, second = await stage.broker.mint(order), await stage.broker.mint(order)
            assert first == second
            assert await stage.broker.sweep(INSTANCE) == [order.principal]

        self.on_stage(play)

    def test_another_secret_does_not_log_in(self) -> None:
        async def play(stage: BrokerStage) -> None:
            minted = await stage.broker.mint(mint_order(stage))
            assert await _is_refused(stage, minted, secrets.token_urlsafe(32))

        self.on_stage(play)

    def test_an_expired_credential_is_refused_until_it_is_renewed_where_the_target_knows_expiry(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            minted = await stage.broker.mint(order)
            await stage.broker.renew([order.principal], datetime.now(UTC) - timedelta(seconds=5))
            assert await _is_refused(stage, minted, order.secret) is self.manifest.native_expiry
            await stage.broker.renew([order.principal], datetime.now(UTC) + timedelta(minutes=5))
            await (await stage.use(minted, order.secret)).close()

        self.on_stage(play)

    def test_renewing_names_only_those_that_exist(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            names = [order.principal, principal()]
            assert list(await stage.broker.renew(names, order.expires)) == [order.principal]

        self.on_stage(play)

    def test_revoking_ends_live_sessions_and_proves_itself(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            session = await stage.use(await stage.broker.mint(order), order.secret)
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert (done.gone, done.sessions_ended) == (True, 1 if self.manifest.counts_sessions else 0)
            assert isinstance(done.proof, Proved), done.proof
            assert await _has_ended(session)

        self.on_stage(play)

    def test_a_revoked_credential_is_refused(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            minted = await stage.broker.mint(order)
            await stage.broker.revoke([revoke_order(order)])
            assert await _is_refused(stage, minted, order.secret)
            assert await stage.broker.sweep(INSTANCE) == []

        self.on_stage(play)

    def test_revoking_again_says_the_same(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            for _ in range(2):
                [done] = await stage.broker.revoke([revoke_order(order)])
                assert done.gone and isinstance(done.proof, Proved)

        self.on_stage(play)

    def test_what_was_never_minted_is_revoked_and_proved(self) -> None:
        async def play(stage: BrokerStage) -> None:
            [done] = await stage.broker.revoke([revoke_order(mint_order(stage))])
            assert (done.gone, done.sessions_ended) == (True, 0)
            assert isinstance(done.proof, Proved)

        self.on_stage(play)

    def test_a_revocation_ends_only_its_own(self) -> None:
        async def play(stage: BrokerStage) -> None:
            kept, lost = mint_order(stage), mint_order(stage)
            session = await stage.use(await stage.broker.mint(kept), kept.secret)
            await stage.broker.mint(lost)
            await stage.broker.revoke([revoke_order(lost)])
            await session.work()
            await session.close()

        self.on_stage(play)

    def test_a_sweep_sees_only_its_own_installation(self) -> None:
        async def play(stage: BrokerStage) -> None:
            ours, theirs = mint_order(stage), mint_order(stage, principal=principal("other002"))
            await stage.broker.mint(ours)
            await stage.broker.mint(theirs)
            assert list(await stage.broker.sweep(INSTANCE)) == [ours.principal]
            assert list(await stage.broker.sweep("other002")) == [theirs.principal]

        self.on_stage(play)

    def test_a_name_that_is_not_ours_is_never_touched(self) -> None:
        async def play(stage: BrokerStage) -> None:
            for name in ("postgres", "default", "remit_", "remit_test0001_quarantine", f"{principal()}'; --"):
                for verb in (
                    stage.broker.mint(mint_order(stage, principal=name)),
                    stage.broker.renew([name], datetime.now(UTC)),
                    stage.broker.revoke([RevokeOrder(principal=name, secret="x", database=stage.database)]),
                ):
                    assert await _code_of(verb) == "access.principal.foreign"

        self.on_stage(play)

    def test_a_role_that_does_not_exist_is_rejected(self) -> None:
        async def play(stage: BrokerStage) -> None:
            assert await _code_of(stage.broker.mint(mint_order(stage, role="no_such_role")))
            assert await stage.broker.sweep(INSTANCE) == []

        self.on_stage(play)

    def test_twenty_at_once_are_minted_and_revoked_in_one_go(self) -> None:
        async def play(stage: BrokerStage) -> None:
            orders = [mint_order(stage) for _ in range(20)]
            minted = await asyncio.gather(*(stage.broker.mint(order) for order in orders))
            sessions = [await stage.use(m, o.secret) for m, o in zip(minted[:5], orders, strict=False)]
            done = await stage.broker.revoke([revoke_order(order) for order in orders])
            assert [d.principal for d in done] == [o.principal for o in orders]
            assert all(d.gone and isinstance(d.proof, Proved) for d in done)
            assert sum(d.sessions_ended for d in done) == (5 if self.manifest.counts_sessions else 0)
            assert all([await _has_ended(session) for session in sessions])

        self.on_stage(play)

    def test_minting_and_revoking_at_the_same_time_leave_nothing(self) -> None:
        async def play(stage: BrokerStage) -> None:
            async def live(order: MintOrder) -> Revocation:
                await stage.broker.mint(order)
                return (await stage.broker.revoke([revoke_order(order)]))[0]

            done = await asyncio.gather(*(live(mint_order(stage)) for _ in range(10)))
            assert all(d.gone and isinstance(d.proof, Proved) for d in done)
            assert await stage.broker.sweep(INSTANCE) == []

        self.on_stage(play)

    def test_a_target_that_admits_anyone_leaves_it_unproved(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            await stage.admit_anyone()
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert done.gone
            assert isinstance(done.proof, Unproved)

        self.on_stage(play)

    def test_a_dead_target_is_unavailable_and_never_proved(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage)
            await stage.broker.mint(order)
            await stage.stop()
            try:
                await stage.broker.revoke([revoke_order(order)])
            except Unavailable:
                return
            raise AssertionError("revoked on a dead target")

        self.on_stage(play)

    def test_a_closed_broker_does_nothing(self) -> None:
        async def play(stage: BrokerStage) -> None:
            await stage.broker.close()
            await stage.broker.close()
            assert await _code_of(stage.broker.mint(mint_order(stage))) == "access.target.closed"

        self.on_stage(play)

    def test_no_secret_is_in_a_repr_or_an_error(self) -> None:
        async def play(stage: BrokerStage) -> None:
            order = mint_order(stage, role="no_such_role")
            shown = [repr(order), repr(revoke_order(order)), repr(stage.broker)]
            try:
                await stage.broker.mint(order)
            except RemitError as error:
                shown += [str(error), repr(error), error.next_step]
            assert not any(order.secret in text for text in shown)

        self.on_stage(play)


@dataclass(slots=True)
class FakeStage:
    """`BrokerStage` on a target in memory."""

    server: FakeServer
    broker: FakeBroker
    role: str = "app_rw"
    database: str = "app"

    async def use(self, minted: Minted, secret: str) -> FakeSession:
        return self.server.login(minted.principal, secret)

    async def admit_anyone(self) -> None:
        self.server.admits_anyone = True

    async def stop(self) -> None:
        self.server.reachable = False


@asynccontextmanager
async def fake_stage() -> AsyncIterator[FakeStage]:
    """A stage in memory, its broker open."""
    server = FakeServer()
    broker = FakeBroker(server)
    await broker.open()
    yield FakeStage(server, broker)
    await broker.close()


async def _is_refused(stage: BrokerStage, minted: Minted, secret: str) -> bool:
    try:
        session = await stage.use(minted, secret)
    except Exception:
        return True
    await session.close()
    return False


async def _has_ended(session: LeaseSession) -> bool:
    try:
        await session.work()
    except Exception:
        return True
    return False


async def _code_of(verb: Coroutine[Any, Any, object]) -> str:
    try:
        await verb
    except RemitError as error:
        return error.code
    return ""
