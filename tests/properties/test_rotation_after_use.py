"""A use of a static secret is followed by a rotation of its plan, whoever dies on the way and however often."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from remit.access.brokers.static_settings import decode_options
from remit.access.model import Target
from remit.access.rotation.after_use import PlanRotation
from remit.access.rotation.consumers.vault import VaultFactory
from remit.access.rotation.engine import RotationEngine
from remit.access.rotation.model import ConsumerSpec, Phase, Run
from remit.access.rotation.plans import Plans
from remit.access.rotation.ports import Consumer
from remit.access.rotation.testing import OLD, FakePlaces, Fate, Killed
from remit.access.secrets import Secrets
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from rotation_stage import House, house

TARGET = Target(
    name="orders", system="static", host="127.0.0.1", port=443, database="", user="", roles={"use": "GET /orders"},
    options={"secret": "orders-key", "rotate": "plan:app"},
)  # fmt: skip


@dataclass(slots=True)
class Vault:
    """Implements `rotation.ports.House` on real secrets."""

    secrets: Secrets

    async def replace_secret(self, name: str, value: bytes) -> None:
        if await self.secrets.held(name) != value:
            await self.secrets.rotate(name, value, actor="system:rotation", approval={})

    async def read_secret(self, name: str) -> bytes:
        return await self.secrets.held(name)


@dataclass(slots=True)
class VaultPlaces(FakePlaces):
    vault: Vault | None = None

    def consumer(self, spec: ConsumerSpec) -> Consumer:
        assert self.vault is not None
        return VaultFactory().make(spec.options, self.vault)


@dataclass(slots=True)
class Conductor:
    """Drives in the foreground, so that who kills a rotation kills who asked for it."""

    plans: Plans
    engine: RotationEngine
    begun: list[str] = field(default_factory=list)

    async def begin(self, plan: str, *, actor: str, reason: str) -> Run:
        run = await self.engine.begin(plan, actor=actor, reason=reason)
        self.begun.append(run.id)
        return await self.engine.drive(run.id)


@dataclass(slots=True)
class Stage:
    """What outlives a crash. `rotation()` is a fresh process, which has carried on what it found unfinished."""

    made: House
    secrets: Secrets
    conductor: Conductor

    async def rotation(self) -> PlanRotation:
        self.made.fated(Fate())
        self.conductor = Conductor(self.made.plans, self.made.engine())
        for run in await self.conductor.engine.unfinished():
            await self.conductor.engine.drive(run.id)
        return self.opened()

    def opened(self) -> PlanRotation:
        return PlanRotation(
            secrets=self.secrets, settings=decode_options(TARGET), target="orders", conductor=self.conductor,
            fresh=lambda: secrets.token_hex(16).encode(),
        )  # fmt: skip

    @property
    def counting(self) -> set[str]:
        """What the server admits."""
        return self.made.places.target.logins["app"]

    async def kept(self) -> str:
        return (await self.secrets.held("orders-key")).decode()


@asynccontextmanager
async def staged(folder: Path, **plan: Any) -> AsyncIterator[Stage]:
    async with house(folder, consumers=0) as made:
        vault = Secrets(store=made.store, sealer=made.keys, attester=made.keys, fingerprint=made.keys.fingerprint)
        await vault.add("orders-key", OLD.secret.encode(), ["target/orders"], actor="person:ann", approval={})
        made.places = VaultPlaces(made.places.target, (), vault=Vault(vault))
        made.plans._places = made.places
        consumers = [{"kind": "remit", "secret": "orders-key"}]
        await made.define(**{"mode": "two-secrets", "consumers": consumers, "observe": False, **plan})
        yield Stage(made, vault, Conductor(made.plans, made.engine()))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_effect_the_secret_is_another_and_the_used_one_refused(tmp_path: Path, when: str) -> None:
    async def play(number: int, folder: Path) -> bool:
        async with staged(folder) as stage:
            stage.made.fated(Fate(**{f"kill_{when}": number}))
            try:
                await stage.opened().rotate()
                died = False
            except Killed:
                died = True
                await (await stage.rotation()).resume()
            assert await stage.secrets.pending("orders-key") is None
            assert stage.counting == {await stage.kept()} != {OLD.secret}
            assert await stage.conductor.engine.unfinished() == []
            return died

    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        if not asyncio.run(play(number, folder)):
            # Publish, log in, log in again, withdraw: `attempt` has no end of its own to be killed at.
            assert number > (4 if when == "before" else 1)
            return


def test_a_target_that_is_away_is_rotated_at_the_next_look(tmp_path: Path) -> None:
    async def play() -> None:
        async with staged(tmp_path) as stage:
            stage.made.fated(Fate(away=frozenset(range(1, 4))))
            with pytest.raises((Rejected, Unavailable)):
                await stage.opened().rotate()
            assert await stage.kept() == OLD.secret and await stage.secrets.pending("orders-key") is not None
            await (await stage.rotation()).resume()
            assert stage.counting == {await stage.kept()} != {OLD.secret}

    asyncio.run(play())


def test_a_use_that_ends_while_it_is_rotated_has_a_rotation_of_its_own(tmp_path: Path) -> None:
    async def play() -> None:
        async with staged(tmp_path) as stage:
            # The first was begun and broken off: the second use may have had the value that it gave.
            stage.made.fated(Fate(kill_before=4))
            with pytest.raises(Killed):
                await stage.opened().rotate()
            given = await stage.kept()
            done = await (await stage.rotation()).rotate()
            assert done.done and "refused: refused" in done.words
            assert stage.counting == {await stage.kept()} and await stage.kept() not in (given, OLD.secret)

    asyncio.run(play())


def test_nothing_owed_is_nothing_done(tmp_path: Path) -> None:
    async def play() -> None:
        async with staged(tmp_path) as stage:
            await stage.opened().resume()
            assert stage.counting == {OLD.secret} and stage.conductor.begun == []

    asyncio.run(play())


def test_what_was_rolled_back_is_tried_again(tmp_path: Path) -> None:
    async def play() -> None:
        async with staged(tmp_path, health=["/bin/true"], deadline_seconds=0) as stage:
            stage.made.places.is_healthy = False
            with pytest.raises(Rejected, match="rolled_back"):
                await stage.opened().rotate()
            assert stage.counting == {OLD.secret} == {await stage.kept()}
            stage.made.places.is_healthy = True
            await stage.opened().resume()
            assert stage.counting == {await stage.kept()} != {OLD.secret}
            runs = await stage.conductor.engine.runs("app")
            assert {run.phase for run in runs} == {Phase.DONE, Phase.ROLLED_BACK} and len(runs) == 2

    asyncio.run(play())


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"consumers": [{"kind": "remit", "secret": "another"}]}, "has no consumer `remit` with the secret"),
        ({"mode": "two-logins"}, "changes the login's name too"),
    ],
)
def test_a_plan_that_would_not_replace_this_secret_is_refused(tmp_path: Path, plan: dict[str, Any], why: str) -> None:
    async def play() -> None:
        async with staged(tmp_path, **plan) as stage:
            check = await stage.opened().check()
            assert not check.ok and why in check.detail
            with pytest.raises(Misconfigured, match=why):
                await stage.opened().rotate()
            assert stage.counting == {OLD.secret}

    asyncio.run(play())
