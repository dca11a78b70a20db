"""Contract suites of consumers and targets, and fakes that keep the same contracts, for tests of the engine."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from remit.access.model import Proof, Proved, Unproved
from remit.access.rotation.model import ConsumerSpec, Login, Mode, Plan
from remit.access.rotation.ports import Consumer, ProvesRefusal, Rotator, Seen, Survey, Tried, Use, Withdrawn
from remit.kernel.errors import NotFound, Unavailable

OLD = Login(user="app", secret="old-secret-of-28-characters_", host="127.0.0.1", port=5432, database="orders")
NEW = replace(OLD, user="app_b", secret="new-secret/of 28+characters%")


class Killed(BaseException):
    """The process ends here."""


@dataclass(slots=True)
class Fate:
    """Counts effects, and kills, or lets the world be away, at chosen ones: before or after the effect itself."""

    kill_before: int = 0
    kill_after: int = 0
    away: frozenset[int] = frozenset()
    count: int = 0

    def before(self) -> None:
        self.count += 1
        if self.count == self.kill_before:
            raise Killed
        if self.count in self.away:
            raise Unavailable("fake.away", "the world does not answer")

    def after(self) -> None:
        if self.count == self.kill_after:
            raise Killed


@dataclass(slots=True)
class FakeTarget:
    """A server in memory: logins with their secrets; implements `Rotator` for two logins and for two secrets."""

    fate: Fate
    logins: dict[str, set[str]]
    sessions: dict[str, int] = field(default_factory=dict)

    async def close(self) -> None:
        return

    async def survey(self, old: str, new: str, mode: Mode) -> Survey:
        return Survey(exists=old in self.logins, taken=new != old and bool(self.logins.get(new)))

    async def publish(self, old: str, new: Login, mode: Mode) -> None:
        self.fate.before()
        if old not in self.logins:
            raise NotFound("fake.login", "no such login")
        if mode is Mode.TWO_SECRETS:
            self.logins[old].add(new.secret)
        else:
            self.logins[new.user] = {new.secret}
        self.fate.after()

    async def attempt(self, login: Login) -> Tried:
        self.fate.before()
        admitted = login.secret in self.logins.get(login.user, ())
        return Tried(admitted=admitted, words="admitted" if admitted else "refused")

    async def use(self, old: str, new: str, mode: Mode, since: datetime, *, now: datetime) -> Use | None:
        return Use(old=self.sessions.get(old, 0), new=self.sessions.get(new, 0)) if old != new else None

    async def withdraw(
        self, user: str, secret: str | None, *, keep: Login | None, mode: Mode, since: datetime
    ) -> Withdrawn:
        self.fate.before()
        if mode is Mode.TWO_SECRETS:
            assert keep is not None
            self.logins[user] -= {secret or ""}
        elif user in self.logins:
            self.logins[user] = set()
        self.fate.after()
        return await self._proved(user, secret, keep)

    async def retire(self, user: str, secret: str | None) -> Withdrawn:
        self.logins[user] = set()
        return await self._proved(user, secret, None)

    async def refused(self, user: str, secret: str) -> Proof:
        """As `ProvesRefusal`."""
        return (await self._proved(user, secret, None)).proof

    async def _proved(self, user: str, secret: str | None, keep: Login | None) -> Withdrawn:
        if secret is None:
            return Withdrawn(gone=True, sessions_ended=0, proof=Unproved(why="the secret is not known"))
        if secret in self.logins.get(user, ()):
            return Withdrawn(gone=False, sessions_ended=0, proof=Unproved(why="it is still admitted"))
        if keep is not None and keep.secret not in self.logins.get(keep.user, ()):
            return Withdrawn(gone=True, sessions_ended=0, proof=Unproved(why="the control was refused too"))
        return Withdrawn(gone=True, sessions_ended=0, proof=Proved(refusal="refused", control="the other"))


@dataclass(slots=True)
class FakeConsumer:
    """A place in memory; `broken` takes what is written and holds something else."""

    fate: Fate
    held: Login | None
    label: str = "fake"
    broken: bool = False

    async def capture(self) -> bytes:
        return msgspec.json.encode(None if self.held is None else [self.held.user, self.held.secret])

    def recall(self, captured: bytes) -> Mapping[str, str]:
        found = msgspec.json.decode(captured)
        return {} if found is None else {"user": found[0], "secret": found[1]}

    async def publish(self, login: Login) -> None:
        self.fate.before()
        self.held = replace(login, secret="something else") if self.broken else login
        self.fate.after()

    async def verify(self, login: Login) -> Seen:
        return Seen(ok=self.held == login, detail="" if self.held == login else "it holds something else")

    async def restore(self, captured: bytes, old: Login | None) -> None:
        self.fate.before()
        found = msgspec.json.decode(captured)
        self.held = None if found is None else replace(OLD, user=found[0], secret=found[1])
        self.fate.after()


@dataclass(slots=True)
class FakePlaces:
    """Implements `Places`: one target, consumers by number, a health command that says `healthy`."""

    target: FakeTarget
    places: Sequence[FakeConsumer]
    is_healthy: bool = True

    async def rotator(self, plan: Plan) -> tuple[Rotator, Login]:
        return self.target, replace(OLD, user="", secret="")

    def modes(self, system: str) -> tuple[Mode, ...]:
        return (Mode.TWO_LOGINS, Mode.TWO_SECRETS)

    def consumer(self, spec: ConsumerSpec) -> Consumer:
        number = spec.options["number"]
        assert isinstance(number, int)
        return self.places[number]

    async def healthy(self, argv: Sequence[str]) -> tuple[bool, str]:
        return self.is_healthy, "as it was told to be"


class ConsumerStage(Protocol):
    """One kind of consumer, ready: `seen` reads the place as its users would, without Remit."""

    consumer: Consumer
    readable: bool
    """Whether the place can be read back."""

    async def seen(self) -> str: ...


class ConsumerContract(abc.ABC):
    """What every consumer keeps. A suite gives `stage`, an open place that holds `OLD`."""

    @abc.abstractmethod
    def stage(self) -> AbstractAsyncContextManager[ConsumerStage]: ...

    def test_what_is_published_is_what_its_users_read(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                await stage.consumer.publish(NEW)
                shown = await stage.seen()
                assert NEW.secret in shown and OLD.secret not in shown
                assert (await stage.consumer.verify(NEW)).ok

        asyncio.run(play())

    def test_publishing_twice_is_publishing_once(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                await stage.consumer.publish(NEW)
                once = await stage.seen()
                await stage.consumer.publish(NEW)
                assert await stage.seen() == once

        asyncio.run(play())

    def test_what_was_captured_is_put_back_as_it_was(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                before, captured = await stage.seen(), await stage.consumer.capture()
                await stage.consumer.publish(NEW)
                for _ in range(2):
                    await stage.consumer.restore(captured, OLD)
                    assert await stage.seen() == before

        asyncio.run(play())

    def test_a_place_that_holds_something_else_is_not_verified(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                seen = await stage.consumer.verify(NEW)
                assert seen.ok != stage.readable and seen.measured == stage.readable
                assert NEW.secret not in seen.detail and OLD.secret not in seen.detail

        asyncio.run(play())

    def test_it_does_not_show_a_secret_of_its_own_accord(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                await stage.consumer.publish(NEW)
                assert NEW.secret not in repr(stage.consumer) + stage.consumer.label

        asyncio.run(play())


class RotatorStage(Protocol):
    """A target on which `old` logs in with a secret that is known."""

    rotator: Rotator
    mode: Mode
    old: Login
    new: Login

    async def admits(self, login: Login) -> bool:
        """Whether a client of the target's own gets in."""
        ...

    async def hold(self, login: Login) -> object:
        """A session of a client; `is_alive` says whether it still works."""
        ...

    async def is_alive(self, session: object) -> bool: ...


class RotatorContract(abc.ABC):
    """What every target keeps. A suite gives `stage`, a fresh login each time."""

    @abc.abstractmethod
    def stage(self) -> AbstractAsyncContextManager[RotatorStage]: ...

    def test_both_versions_count_until_the_old_one_is_withdrawn(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                since = _now()
                for _ in range(2):
                    await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
                assert await stage.admits(stage.old) and await stage.admits(stage.new)
                for _ in range(2):
                    done = await stage.rotator.withdraw(
                        stage.old.user, stage.old.secret, keep=stage.new, mode=stage.mode, since=since
                    )
                    assert done.gone and isinstance(done.proof, Proved), done
                assert not await stage.admits(stage.old) and await stage.admits(stage.new)

        asyncio.run(play())

    def test_the_new_one_can_be_withdrawn_in_its_stead(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                since = _now()
                await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
                done = await stage.rotator.withdraw(
                    stage.new.user, stage.new.secret, keep=stage.old, mode=stage.mode, since=since
                )
                assert done.gone and isinstance(done.proof, Proved), done
                assert await stage.admits(stage.old) and not await stage.admits(stage.new)

        asyncio.run(play())

    def test_one_that_never_came_to_exist_is_withdrawn(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                done = await stage.rotator.withdraw(
                    stage.new.user, stage.new.secret, keep=stage.old, mode=stage.mode, since=_now()
                )
                assert done.gone and isinstance(done.proof, Proved), done
                assert await stage.admits(stage.old)

        asyncio.run(play())

    def test_a_session_of_the_old_is_seen_and_then_ended(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                session = await stage.hold(stage.old)
                since = _now()
                await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
                use = await stage.rotator.use(stage.old.user, stage.new.user, stage.mode, since, now=_now())
                assert use is not None and use.old >= 1
                await stage.rotator.withdraw(
                    stage.old.user, stage.old.secret, keep=stage.new, mode=stage.mode, since=since
                )
                assert not await stage.is_alive(session)

        asyncio.run(play())

    def test_an_unknown_secret_is_not_called_proved(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                await stage.rotator.publish(stage.old.user, stage.new, stage.mode)
                done = await stage.rotator.withdraw(stage.old.user, None, keep=stage.new, mode=stage.mode, since=_now())
                assert done.gone and isinstance(done.proof, Unproved)
                assert not await stage.admits(stage.old) and await stage.admits(stage.new)

        asyncio.run(play())

    def test_retired_no_version_counts(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                done = await stage.rotator.retire(stage.old.user, stage.old.secret)
                assert done.gone and isinstance(done.proof, Proved), done
                assert not await stage.admits(stage.old)

        asyncio.run(play())

    def test_any_secret_can_be_shown_refused_but_the_one_that_counts(self) -> None:
        async def play() -> None:
            async with self.stage() as stage:
                rotator = stage.rotator
                assert isinstance(rotator, ProvesRefusal)
                assert isinstance(await rotator.refused(stage.old.user, stage.old.secret), Unproved)
                assert isinstance(await rotator.refused(stage.old.user, f"{stage.old.secret}~"), Proved)
                assert await stage.admits(stage.old)

        asyncio.run(play())


def _now() -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=1)
