"""Static secrets over a real database: sealed, signed, and given for what they are for."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from remit.access.secrets import Secrets, Use
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected
from remit.storage.database import Database
from remit.storage.keys import KeyRing
from remit.storage.schema.access_secrets import access_secret
from stores import opened

VALUE = b"a-value-of-some-length"
USE = Use(gateway="gate", decision="dc_1", subject="spiffe://a/b", resource="service/orders", names=("service/orders",))


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[Secrets, Database, KeyRing]]:
    async with opened(f"sqlite:///{folder / 'remit.db'}") as store:
        keys = KeyRing(b"k" * 32, b"f" * 32)
        await store.write(lambda unit: keys.load(unit.conn, unit.now, unit.new_id))
        made = Secrets(store=store, sealer=keys, attester=keys, fingerprint=keys.fingerprint)
        await made.add("key", VALUE, ["service/orders"], actor="person:ann", approval={})
        yield made, store, keys


def test_it_is_given_for_its_resource_and_the_use_is_in_the_ledger(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as (secrets, store, _):
            assert await secrets.use("key", USE) == VALUE
            (entry,) = await store.read(lambda unit: unit.ledger.latest(1, type_prefix="access.secret.used"))
            assert entry.data["decision"] == "dc_1" and VALUE.decode() not in str(entry)
            with pytest.raises(Denied):
                await secrets.use("key", dataclasses.replace(USE, names=("service/other",)))
            with pytest.raises(NotFound):
                await secrets.use("../key", USE)

    asyncio.run(run())


def test_the_value_is_in_the_database_in_no_form_that_can_be_read(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path):
            pass

    asyncio.run(run())
    assert not any(VALUE in path.read_bytes() for path in tmp_path.iterdir())


def test_a_row_that_was_widened_is_not_used(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as (secrets, store, _):
            await store.write(lambda unit: unit.conn.execute(update(access_secret).values(resources=["service/*"])))
            with pytest.raises(Misconfigured, match="changed outside"):
                await secrets.use("key", dataclasses.replace(USE, names=("service/other",)))
            assert await secrets.forged() == ("key",) and await secrets.list() == []

    asyncio.run(run())


def test_an_older_value_that_was_put_back_is_not_used(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as (secrets, store, _):
            old = await store.read(lambda unit: unit.conn.execute(select(access_secret.c.sealed)).scalar_one())
            rotated = await secrets.rotate("key", b"another-value-than-it", actor="person:ann", approval={})
            assert rotated.version == 2 and await secrets.use("key", USE) == b"another-value-than-it"
            await store.write(lambda unit: unit.conn.execute(update(access_secret).values(sealed=old)))
            with pytest.raises(Misconfigured, match="changed outside"):
                await secrets.use("key", USE)

    asyncio.run(run())


def test_it_outlives_a_rotation_of_the_keys(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as (secrets, store, keys):
            rotation = await store.write(lambda unit: keys.rotate(unit.conn, unit.now, unit.new_id))
            keys.adopt(rotation)
            assert await secrets.use("key", USE) == VALUE

    asyncio.run(run())


def test_names_are_taken_once_and_forgotten_for_good(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as (secrets, _, _keys):
            with pytest.raises(Conflict):
                await secrets.add("key", VALUE, ["service/orders"], actor="person:ann", approval={})
            await secrets.remove("key", actor="person:ann")
            with pytest.raises(NotFound):
                await secrets.use("key", USE)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "value", "resources"),
    [
        ("Key", VALUE, ["service/a"]),
        ("key", b"short", ["service/a"]),
        ("key", b"with a line\r\nend: x", ["service/a"]),
        ("key", b"x" * 9000, ["service/a"]),
        ("key", VALUE, []),
        ("key", VALUE, ["service"]),
        ("key", VALUE, ["*"]),
        ("key", VALUE, ["service/*/b"]),
    ],
)
def test_what_is_malformed_is_refused(tmp_path: Path, name: str, value: bytes, resources: list[str]) -> None:
    async def run() -> None:
        async with house(tmp_path) as (secrets, _, _keys):
            with pytest.raises(Rejected):
                await secrets.add(name, value, resources, actor="person:ann", approval={})

    asyncio.run(run())


def test_nothing_that_is_printed_has_the_value() -> None:
    from remit.surface.api.routes.secrets import NewSecret, NewValue

    body = NewSecret(name="key", value=VALUE.decode(), resources=[], salt="s" * 16)
    assert VALUE.decode() not in repr(body) + repr(NewValue(value=VALUE.decode(), salt="s" * 16))
