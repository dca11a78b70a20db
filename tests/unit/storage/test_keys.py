"""Sealing, attesting, fingerprints: what rests in the database is worth nothing without its key file."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from remit.kernel.clock import SystemClock
from remit.kernel.errors import Misconfigured
from remit.storage.keys import KeyRing, load_key_file
from remit.storage.schema.core import storage_key
from stores import opened

KEK, PRINT = b"k" * 32, b"f" * 32


def on_database(path: Path, scene: Callable[[KeyRing, Any], Any], *, kek: bytes = KEK) -> Any:
    """Load a key ring on the database at `path`, and run `scene(ring, unit)` in a command of its own."""

    async def run() -> Any:
        async with opened(f"sqlite:///{path}", clock=SystemClock()) as store:
            ring = KeyRing(kek, PRINT)
            await store.write(lambda unit: ring.load(unit.conn, unit.now, unit.new_id))
            return await store.write(lambda unit: scene(ring, unit))

    return asyncio.run(run())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "remit.db"


def ring_alone() -> KeyRing:
    """A ring with one data key, without a database."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    ring = KeyRing(KEK, PRINT)
    ring._active = "data:dk_test"
    ring._data_keys = {ring._active: AESGCM(secrets.token_bytes(32))}
    return ring


RING = ring_alone()


@given(st.binary(max_size=200), st.text(max_size=30))
def test_what_is_sealed_opens_in_its_own_place_and_holds_nothing_in_clear(plain: bytes, context: str) -> None:
    context = context.encode("utf-8", "replace").decode()
    sealed = RING.seal(plain, context=context)
    assert RING.unseal(sealed, context=context) == plain
    assert len(plain) < 5 or plain not in sealed


def test_sealing_the_same_twice_does_not_show_that_it_is_the_same() -> None:
    assert RING.seal(b"secret", context="a") != RING.seal(b"secret", context="a")


@given(st.data())
def test_a_sealed_value_that_was_moved_or_altered_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(RING.seal(b"the secret of row 1", context="table/1/secret"))
    with pytest.raises(Misconfigured) as moved:
        RING.unseal(bytes(sealed), context="table/2/secret")
    assert moved.value.code == "storage.seal.broken"
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Misconfigured):
        RING.unseal(bytes(sealed), context="table/1/secret")


@pytest.mark.parametrize("sealed", [b"", b"rs1:", b"rs1:data:dk_test:", b"rs1:data:other:" + b"x" * 40, b"rs2:x"])
def test_what_was_never_sealed_is_refused(sealed: bytes) -> None:
    with pytest.raises(Misconfigured):
        RING.unseal(sealed, context="a")


def test_the_keys_of_a_database_are_the_same_after_a_restart(database: Path) -> None:
    sealed = on_database(database, lambda ring, unit: ring.seal(b"x", context="a"))
    signature = on_database(database, lambda ring, unit: ring.sign("grant", {"id": 1}))
    named = on_database(database, lambda ring, unit: ring.named_key(unit.conn, "instance", unit.now))

    def again(ring: KeyRing, unit: Any) -> None:
        assert ring.unseal(sealed, context="a") == b"x"
        assert ring.verify("grant", {"id": 1}, signature)
        assert ring.named_key(unit.conn, "instance", unit.now) == named

    on_database(database, again)


def test_another_key_file_is_misconfigured_and_changes_nothing(database: Path) -> None:
    def dump(ring: KeyRing, unit: Any) -> list[Any]:
        return list(unit.conn.execute(select(storage_key).order_by(storage_key.c.name)).all())

    before = on_database(database, dump)
    with pytest.raises(Misconfigured) as refused:
        on_database(database, dump, kek=b"o" * 32)
    assert refused.value.code == "storage.key.wrong"
    assert on_database(database, dump) == before


def test_the_rows_hold_no_key_in_clear(database: Path) -> None:
    named = on_database(database, lambda ring, unit: ring.named_key(unit.conn, "instance", unit.now))
    raw = b"".join(path.read_bytes() for path in database.parent.iterdir())
    assert named not in raw and named.hex().encode() not in raw and KEK not in raw


def test_a_named_key_that_was_put_under_another_name_is_refused(database: Path) -> None:
    def swap(ring: KeyRing, unit: Any) -> None:
        ring.named_key(unit.conn, "one", unit.now)
        other = unit.conn.scalar(select(storage_key.c.sealed).where(storage_key.c.name == "sign:authority"))
        unit.conn.execute(update(storage_key).where(storage_key.c.name == "one").values(sealed=other))

    on_database(database, swap)
    with pytest.raises(Misconfigured):
        on_database(database, lambda ring, unit: ring.named_key(unit.conn, "one", unit.now))


def test_a_signature_holds_for_its_kind_and_content_alone(database: Path) -> None:
    def scene(ring: KeyRing, unit: Any) -> None:
        good = ring.sign("grant", {"id": "gr_1", "resources": ["a"]})
        assert ring.verify("grant", {"resources": ["a"], "id": "gr_1"}, good)
        assert not ring.verify("entry", {"id": "gr_1", "resources": ["a"]}, good)
        assert not ring.verify("grant", {"id": "gr_1", "resources": ["a", "b"]}, good)
        other = "01" if good.endswith("00") else "00"
        for forged in ("", "00", "zz", good[:-2] + other, good + "00"):
            assert not ring.verify("grant", {"id": "gr_1", "resources": ["a"]}, forged)

    on_database(database, scene)


def test_fingerprints_need_the_installations_own_key() -> None:
    one, other = KeyRing(KEK, PRINT), KeyRing(KEK, b"g" * 32)
    assert one.fingerprint(b"secret") == KeyRing(KEK, PRINT).fingerprint(b"secret")
    assert one.fingerprint(b"secret") != other.fingerprint(b"secret")
    assert one.fingerprint(b"secret").startswith("hmac:")


def test_a_key_ring_shows_no_key() -> None:
    assert "kkkk" not in repr(RING) and "kkkk" not in str(vars(RING)["_kek"])


# -- key files


def test_a_key_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "kek"
    key = load_key_file(path, create=True)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key_file(path, create=True) == load_key_file(path, create=False) == key
    assert [each.name for each in path.parent.iterdir()] == ["kek"]


def test_a_missing_key_file_of_existing_state_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_key_file(tmp_path / "kek", create=False)
    assert refused.value.code == "storage.key.missing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"00", b"zz" * 32, b"00" * 33, b"\xff" * 64, b"00" * 31 + b"0"])
def test_a_damaged_key_file_is_told_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kek"
    path.write_bytes(content)
    for create in (True, False):
        with pytest.raises(Misconfigured) as refused:
            load_key_file(path, create=create)
        assert refused.value.code == "storage.key.damaged"
    assert path.read_bytes() == content


def test_a_key_file_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_key_file(tmp_path, create=True)
    assert refused.value.code == "storage.key.unreadable"


def test_what_a_crash_left_beside_the_key_does_not_stop_the_next_start(tmp_path: Path) -> None:
    import os

    (tmp_path / f".kek.{os.getpid()}").write_bytes(b"half")
    assert len(load_key_file(tmp_path / "kek", create=True)) == 32
