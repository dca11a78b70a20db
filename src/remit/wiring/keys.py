"""The installation's keys: which KEK the settings name, and their rotation, with a server or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured
from remit.storage.database import Database, open_database
from remit.storage.datadir import DataDir
from remit.storage.kek import FileKek, Kek, TokenKek, load_key_file, open_kek
from remit.storage.keys import KeyRing, Rotation
from remit.storage.schema.core import storage_key

if TYPE_CHECKING:
    from remit.wiring.settings import KeysSettings, Settings

_Done = Callable[[Rotation], Rotation]


def configured_kek(settings: KeysSettings, data: DataDir, *, create: bool, uri: str = "") -> FileKek | TokenKek:
    """The KEK of the settings, or of `uri`; `Misconfigured` when it is missing and `create` is false. Blocks."""
    return open_kek(
        uri or settings.kek,
        default=data.keys / "kek",
        create=create,
        pkcs11_module=settings.pkcs11_module,
        pkcs11_pin_file=settings.pkcs11_pin_file,
    )


async def rotate_keys(store: Database, ring: KeyRing, settings: Settings, *, to: str, actor: str) -> dict[str, Json]:
    """A new data key, everything sealed with it, all data keys wrapped anew; killed at any instant, nothing is lost.

    Without `to`, a KEK in a file is replaced by a new one in the same file, and a token's stays; with it, the KEK named
    there takes over, and the settings must name it from then on.
    """
    current = ring.kek
    target, done = await asyncio.to_thread(_target, current, settings, to)

    def work(unit: Any) -> Rotation:
        rotation = ring.rotate(unit.conn, unit.now, unit.new_id, kek=target)
        unit.record("storage.key.rotated", actor=actor, subject="system:keys", data=_told(rotation))
        return rotation

    rotation = await store.write(work)
    # Committed: from here on a kill is mended by the next start (`FileKek.unwrap`).
    ring.adopt(await asyncio.to_thread(done, rotation))
    return {**_told(rotation), "set": f'[keys] kek = "{to}"' if to not in ("", settings.keys.kek) else ""}


async def rotate_offline(settings: Settings, *, clock: Clock, to: str, actor: str) -> dict[str, Json]:
    """The same on an installation that no server runs on. `Unavailable` (`storage.datadir.locked`) when one does."""
    data = settings.data
    if not data.root.is_dir():
        raise Misconfigured(
            "storage.datadir.absent", f"`{data.root}` is no installation", next_step="name one by `--data`"
        )
    await asyncio.to_thread(data.prepare)
    try:
        store = await open_database(settings.database, clock=clock, published=lambda events: None)
        try:
            ring = await _ring_of_either(store, settings, to)
            return await rotate_keys(store, ring, settings, to=to, actor=actor)
        finally:
            await store.close()
    finally:
        data.release()


async def _ring_of_either(store: Database, settings: Settings, to: str) -> KeyRing:
    """The keys, under the KEK of the settings, or under the one that an earlier try has moved them to."""
    try:
        return await open_ring(store, settings)
    except Misconfigured as error:
        if not to or error.code != "storage.key.wrong":
            raise
    return await open_ring(store, replace(settings, keys=replace(settings.keys, kek=to)))


async def open_ring(store: Database, settings: Settings) -> KeyRing:
    """The keys of this database; made where it is empty, and never a second time."""
    data = settings.data
    fresh = await store.read(lambda unit: unit.conn.execute(storage_key.select().limit(1)).first() is None)
    kek = await asyncio.to_thread(configured_kek, settings.keys, data, create=fresh)
    fingerprints = await asyncio.to_thread(load_key_file, data.keys / "fingerprint", create=fresh)
    ring = KeyRing(kek, fingerprints)
    await store.write(lambda unit: ring.load(unit.conn, unit.now, unit.new_id))
    return ring


def _target(current: Kek, settings: Settings, to: str) -> tuple[Kek | None, _Done]:
    """What wraps from now on, and what is to be done after the commit."""
    if to:
        named = configured_kek(settings.keys, settings.data, create=True, uri=to)
        if named.name != current.name:
            return named, lambda rotation: rotation
    if not isinstance(current, FileKek):
        return None, lambda rotation: rotation

    def finish(rotation: Rotation) -> Rotation:
        current.finish()
        return replace(rotation, kek=current)

    return current.successor(), finish


def _told(rotation: Rotation) -> dict[str, Json]:
    return {
        "data_key": rotation.active,
        "kek": rotation.kek.name,
        "data_keys": len(rotation.data_keys),
        "resealed": rotation.resealed,
        "unreadable": rotation.unreadable,
    }
