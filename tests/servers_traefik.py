"""A real Traefik (go-spiffe inside) that fetches its SVID from an agent's socket, and an mTLS backend behind it."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ports import free_port
from remit.trust import X509Svid
from remit.trust.bundle import Bundle, pem_certificate


@dataclass(frozen=True, slots=True)
class Traefik:
    """A running Traefik: `/NAME` is forwarded by the transport of that name."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    async def get(self, path: str) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            raw = await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body.decode(errors="replace")


@contextmanager
def traefik(agent: Path, backend: int, transports: Mapping[str, Mapping[str, Any]]) -> Iterator[Traefik]:
    """A Traefik on the agent's socket; each transport is the `spiffe` part of a `serversTransport`."""
    binary = shutil.which("traefik", path=str(Path(sys.executable).parent))
    if binary is None:
        pytest.skip("traefik: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-k-", dir="/tmp"))
    http = {
        "routers": {name: {"rule": f"PathPrefix(`/{name}`)", "service": name, "entryPoints": ["web"]} for name in transports},
        "services": {
            name: {"loadBalancer": {"servers": [{"url": f"https://127.0.0.1:{backend}"}], "serversTransport": name}}
            for name in transports
        },
        "serversTransports": {name: {"spiffe": dict(part)} for name, part in transports.items()},
    }  # fmt: skip
    (folder / "dynamic.yml").write_text(json.dumps({"http": http}))
    port = free_port()
    command = [
        binary, f"--entryPoints.web.address=127.0.0.1:{port}", f"--providers.file.filename={folder}/dynamic.yml",
        f"--spiffe.workloadAPIAddr=unix://{agent}", "--ping=true", "--ping.entryPoint=web", "--log.level=DEBUG",
        "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        yield Traefik(port, folder, process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def ready(one: Traefik) -> None:
    """Return when Traefik answers its ping and knows its routes."""
    end = time.monotonic() + 60
    while time.monotonic() < end and one.process.poll() is None:
        try:
            if (await one.get("/ping"))[0] == 200 and (await one.get("/right"))[0] != 404:
                return
        except OSError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"Traefik did not get ready:\n{one.log[-4000:]}")


@asynccontextmanager
async def backend(svid: X509Svid, bundle: Bundle, folder: Path) -> AsyncIterator[int]:
    """An HTTPS server with this SVID that demands a client certificate of the bundle and answers with its URI name."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

    key = load_der_private_key(svid.key, password=None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "backend.pem").write_bytes(pem_certificate(svid.certificate) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "backend.pem")
    context.load_verify_locations(cadata=bundle.x509_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            names = writer.get_extra_info("peercert")["subjectAltName"]
            text = next(value for kind, value in names if kind == "URI").encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
