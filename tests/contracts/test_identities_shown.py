"""How many identities a run showed, and how many of them are new: as the registry has them at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from remit.inventory import registry
from remit.inventory.model import CredentialFact, CredentialKind, Fact, IdentityFact, IdentityKind, Place
from remit.inventory.records import IdentityFilter
from remit.kernel.ids import Name, name
from stores import opened, postgres, url

__all__ = ["postgres", "url"]
A, B, C = (name("db", "one", "role", each) for each in "abc")
PLACE = Place(system="db", path="/p")


class Tick:
    """A clock that goes on by a minute at each look."""

    at = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def now(self) -> datetime:
        self.at += timedelta(minutes=1)
        return self.at


def identity(named: Name, *aliases: Name) -> IdentityFact:
    return IdentityFact(name=named, kind=IdentityKind.BOT, title=named[-1], place=PLACE, aliases=aliases)


def password(number: int, named: Name | None = None) -> CredentialFact:
    return CredentialFact(
        fingerprint=f"hmac:{number:064x}", identity=named, kind=CredentialKind.PASSWORD, title="p", place=PLACE
    )


async def shown(store: Any, *batches: Sequence[Fact], connector: str = "db") -> tuple[int, int, int]:
    """Shown and new at the end of a run of these batches, and what the batches counted as new."""
    begun, run = await store.write(
        lambda unit: (unit.now, registry.begin_run(unit, connector, "one", "all", record_of=("db",)))
    )
    counted = 0
    for batch in batches:
        kept = await store.write(lambda unit: registry.reconcile(unit, run, batch))  # noqa: B023 - awaited here
        counted += kept.identities_new
    total, new = await store.read(lambda unit: unit.discovery.shown(run.source, run.run, begun))
    await store.write(lambda unit: registry.finish_run(unit, run, {}, ()))
    return total, new, counted


async def listed(store: Any) -> int:
    return int((await store.read(lambda unit: unit.inventory.list_identities(IdentityFilter())))[1])


def test_what_a_later_batch_joins_is_counted_once(url: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            assert await shown(store, [identity(A), identity(B), password(1)], [identity(A, B), password(1, A)]) == (
                1, 1, 3,
            )  # fmt: skip
            assert await listed(store) == 1

    asyncio.run(work())


def test_a_bearer_that_only_its_credential_shows_is_counted(url: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            assert (await shown(store, [identity(A), password(1), password(2, B), password(3, A)]))[:2] == (3, 3)
            assert await listed(store) == 3

    asyncio.run(work())


def test_what_another_source_showed_before_is_not_new(url: str) -> None:
    async def work() -> None:
        async with opened(url, clock=Tick()) as store:
            await shown(store, [identity(A)], connector="files")
            assert (await shown(store, [identity(A), identity(C), password(4, A)]))[:2] == (2, 1)
            assert (await shown(store, [identity(A), identity(C), password(4, A)]))[:2] == (2, 0)

    asyncio.run(work())
