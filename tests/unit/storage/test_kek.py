"""The key-encryption key: in a file or a real token, its rotation, and a kill at each instant of it."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from remit.kernel.clock import SystemClock
from remit.kernel.errors import Misconfigured
from remit.providers.pkcs11 import parse_uri
from remit.storage.kek import FileKek, Kek, LocalKek, open_kek
from remit.storage.keys import KeyRing
from remit.storage.schema.core import storage_key
from stores import opened

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


def on(path: Path, kek: Kek, scene: Callable[[KeyRing, Any], Any]) -> Any:
    """Load a ring on the database at `path`, and run `scene(ring, unit)` in a command of its own."""

    async def run() -> Any:
        async with opened(f"sqlite:///{path}", clock=SystemClock()) as store:
            ring = KeyRing(kek, b"f" * 32)
            await store.write(lambda unit: ring.load(unit.conn, unit.now, unit.new_id))
            return await store.write(lambda unit: scene(ring, unit))

    return asyncio.run(run())


def rotate(ring: KeyRing, unit: Any, kek: Kek | None = None) -> Any:
    rotation = ring.rotate(unit.conn, unit.now, unit.new_id, kek=kek)
    ring.adopt(rotation)
    return rotation


def named(ring: KeyRing, unit: Any) -> bytes:
    return ring.named_key(unit.conn, "instance", unit.now)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "remit.db"


# A rotation of data keys.


def test_after_a_rotation_everything_opens_and_is_sealed_with_the_new_key(database: Path) -> None:
    kek = LocalKek(b"k" * 32)
    before = on(database, kek, named)

    def scene(ring: KeyRing, unit: Any) -> None:
        old = ring.seal(b"in flight", context="a")
        rotation = rotate(ring, unit)
        assert rotation.resealed >= 2 and rotation.unreadable == 0
        assert ring.unseal(old, context="a") == b"in flight"
        assert ring.seal(b"x", context="a").startswith(f"rs1:{rotation.active}:".encode())
        rows = unit.conn.execute(select(storage_key).where(storage_key.c.name == "instance")).one()
        assert rows.sealed.startswith(f"rs1:{rotation.active}:".encode())

    on(database, kek, scene)
    assert on(database, kek, named) == before


def test_after_a_rotation_to_another_kek_the_one_before_opens_nothing(database: Path) -> None:
    old, new = LocalKek(b"k" * 32, "file:/old"), LocalKek(b"n" * 32, "file:/new")
    before = on(database, old, named)
    on(database, old, lambda ring, unit: rotate(ring, unit, new))
    assert on(database, new, named) == before
    with pytest.raises(Misconfigured, match="last wrapped by `file:/new`") as refused:
        on(database, old, named)
    assert refused.value.code == "storage.key.wrong"


def test_a_rotation_to_the_same_kek_again_finds_it_done(database: Path) -> None:
    old, new = LocalKek(b"k" * 32), LocalKek(b"n" * 32)
    before = on(database, old, named)
    on(database, old, lambda ring, unit: rotate(ring, unit, new))
    on(database, new, lambda ring, unit: rotate(ring, unit, new))
    assert on(database, new, named) == before


def test_a_value_that_does_not_open_is_left_and_told(database: Path) -> None:
    def scene(ring: KeyRing, unit: Any) -> Any:
        named(ring, unit)
        change = storage_key.update().where(storage_key.c.name == "instance").values({"sealed": b"rs1:broken"})
        unit.conn.execute(change)
        return rotate(ring, unit)

    assert on(database, LocalKek(b"k" * 32), scene).unreadable == 1


def test_no_key_is_in_the_rows_or_in_what_a_rotation_tells(database: Path) -> None:
    kek = LocalKek(b"k" * 32)
    key = on(database, kek, named)
    rotation = on(database, kek, rotate)
    raw = b"".join(path.read_bytes() for path in database.parent.iterdir())
    assert key not in raw and key.hex() not in repr(rotation) and "AESGCM" not in repr(rotation)


# A KEK in a file, killed at each instant.


def test_killed_before_the_commit_the_old_file_counts_and_the_next_try_goes_on(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "keys" / "kek"
    before = on(database, FileKek(path, create=True), named)
    FileKek(path, create=False).successor()
    assert on(database, FileKek(path, create=False), named) == before
    kek = FileKek(path, create=False)
    on(database, kek, lambda ring, unit: rotate(ring, unit, kek.successor()))
    kek.finish()
    assert on(database, FileKek(path, create=False), named) == before


def test_killed_after_the_commit_the_next_start_finishes(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "keys" / "kek"
    kek = FileKek(path, create=True)
    old = path.read_bytes()
    before = on(database, kek, named)
    on(database, kek, lambda ring, unit: rotate(ring, unit, kek.successor()))
    assert path.read_bytes() == old and (tmp_path / "keys" / "kek.next").exists()
    assert on(database, FileKek(path, create=False), named) == before
    assert path.read_bytes() != old and not (tmp_path / "keys" / "kek.next").exists()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Misconfigured):
        on(database, LocalKek(bytes.fromhex(old.decode())), named)


def test_state_whose_kek_is_gone_is_misconfigured_and_none_is_made(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "keys" / "kek"
    on(database, FileKek(path, create=True), named)
    path.unlink()
    with pytest.raises(Misconfigured) as refused:
        open_kek("", default=path, create=False)
    assert (refused.value.code, path.exists()) == ("storage.key.missing", False)


@pytest.mark.parametrize("uri", ["kek", "file:relative", "vault:x", "/etc/kek"])
def test_what_names_no_kek_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        open_kek(uri, default=tmp_path / "kek", create=True)
    assert refused.value.code == "storage.kek.unknown"


# A KEK in a token.


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:", "pkcs11:token=a", "pkcs11:object=a", "pkcs11:token=a;object=b", "pkcs11:token=a;token=b;object=c",
        "pkcs11:token=a;object=b?module-path=relative.so", "pkcs11:token=a;object=b;x-own=c?module-path=/m.so",
        "pkcs11:token=a;object=b?module-path=/m.so&pin-source=|cat", "pkcs11:token=a;object=b;type=private?module-path=/m",
    ],
)  # fmt: skip
def test_a_uri_that_cannot_be_used_is_refused(uri: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_uri(uri)
    assert refused.value.code == "providers.pkcs11.uri"


def test_a_pin_in_a_uri_is_refused_and_not_shown() -> None:
    with pytest.raises(Misconfigured) as refused:
        parse_uri("pkcs11:token=a;object=b?module-path=/m.so&pin-value=123456")
    assert "123456" not in str(refused.value)


def test_a_uri_is_read_with_its_escapes() -> None:
    found = parse_uri("pkcs11:token=my%20token;object=k%3Bk;serial=12?module-path=/m.so&pin-source=file:/etc/pin")
    assert (found.token, found.object, found.serial, str(found.pin_file)) == ("my token", "k;k", "12", "/etc/pin")


@pytest.fixture
def token(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A SoftHSM token of its own, and its environment: the module reads it once in a process, so each test has one."""
    module = next((each for each in MODULES if Path(each).exists()), None)
    util = shutil.which("softhsm2-util")
    if module is None or util is None:
        pytest.skip("softhsm2: not installed")
    (tmp_path / "tokens").mkdir()
    conf = tmp_path / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(secrets.token_hex(8))
    env = {**os.environ, "SOFTHSM2_CONF": str(conf)}
    command = [util, "--init-token", "--free", "--label", "remit", "--pin", pin.read_text(), "--so-pin", "00000000"]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    uri = f"pkcs11:token=remit;object=kek?module-path={module}&pin-source=file:{pin}"
    yield {"SOFTHSM2_CONF": str(conf), "URI": uri, "PIN": str(pin)}


def in_token(token: dict[str, str], scene: str) -> str:
    """Run Python lines in a process whose PKCS#11 module sees this token alone; what it printed."""
    lines = (
        "import os, sys\nfrom pathlib import Path\nfrom remit.kernel.errors import RemitError\n"
        "from remit.storage.kek import open_kek\nuri = os.environ['URI']\n"
        "def kek(uri=uri, create=False):\n    return open_kek(uri, default=Path('/none'), create=create)\n"
        "def told(work):\n    try:\n        return str(work())\n    except RemitError as error:\n"
        "        return error.code\n" + scene
    )
    env = {**os.environ, **token, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", lines], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_token_wraps_what_it_alone_unwraps(token: dict[str, str]) -> None:
    said = in_token(
        token,
        "one = kek(create=True)\nwrapped = one.wrap(b'd' * 32, b'a')\nagain = kek()\n"
        "print(again.unwrap(wrapped, b'a') == b'd' * 32, again.unwrap(wrapped, b'b'), b'd' * 32 in wrapped, again.name)",
    )
    assert said == "True None False pkcs11:token=remit;object=kek"


def test_the_key_cannot_be_taken_out_of_its_token(token: dict[str, str]) -> None:
    scene = (
        "kek(create=True)\nimport pkcs11\nfrom remit.providers.pkcs11 import parse_uri\nfound = parse_uri(uri)\n"
        "token = pkcs11.lib(str(found.module)).get_token(token_label='remit')\n"
        "with token.open(user_pin=found.pin_file.read_text()) as session:\n"
        "    (key,) = session.get_objects({pkcs11.Attribute.LABEL: 'kek'})\n    try:\n"
        "        print(key[pkcs11.Attribute.VALUE])\n    except pkcs11.exceptions.AttributeSensitive:\n"
        "        print('kept')\n"
    )
    assert in_token(token, scene) == "kept"


def test_a_key_that_is_not_there_is_never_made_for_existing_state(token: dict[str, str]) -> None:
    assert in_token(token, "print(told(kek), told(kek))") == "providers.pkcs11.key providers.pkcs11.key"


def test_a_key_that_could_leave_its_token_is_refused(token: dict[str, str]) -> None:
    scene = (
        "import pkcs11\nfrom remit.providers.pkcs11 import parse_uri\nfound = parse_uri(uri)\n"
        "token = pkcs11.lib(str(found.module)).get_token(token_label='remit')\n"
        "with token.open(user_pin=found.pin_file.read_text(), rw=True) as session:\n"
        "    session.generate_key(pkcs11.KeyType.AES, 256, label='kek', store=True,\n"
        "        template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: True})\n"
        "print(told(kek))\n"
    )
    assert in_token(token, scene) == "providers.pkcs11.extractable"


def test_what_is_wrong_with_a_token_is_told(token: dict[str, str]) -> None:
    scene = (
        "kek(create=True)\npin = Path(os.environ['PIN'])\n"
        "other = uri.replace('token=remit', 'token=other')\n"
        "missing = uri.split('?')[0] + '?module-path=/none.so'\n"
        "codes = [told(lambda: kek(other)), told(lambda: kek(missing))]\n"
        "good = pin.read_text()\npin.write_text('wrong-pin')\ncodes.append(told(kek))\npin.write_text(good)\n"
        "pin.chmod(0o644)\ncodes.append(told(kek))\nprint(*codes)\n"
    )
    assert in_token(token, scene).split() == [
        "providers.pkcs11.token", "providers.pkcs11.module", "providers.pkcs11.pin", "providers.pkcs11.pin",
    ]  # fmt: skip
