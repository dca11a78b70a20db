"""A legacy program behind `remit gateway http`: it gets what policy permits, and never the key that opens it."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from enforce_stage import Reply, raw
from gateway_stage import AUDIENCE, KEY, LEGACY, Gateway, Stage, gateway_stage, until
from https_stage import https_stage
from remit.client.tls import load_identity
from remit.client.workload import WorkloadApi
from slow_server import SlowServer, slow_server

PROBLEM = "application/problem+json"
ROUTES = """
subjects = ["process", "token", "certificate"]

[[route]]
path = "/orders/{{order}}"
action = "read"
resource = "service/orders"
upstream = "http://127.0.0.1:{nginx}"
inject = {{secret = "orders-key", as = "header", name = "x-api-key"}}

[[route]]
path = "/other/{{order}}"
action = "read"
resource = "service/other"
upstream = "http://127.0.0.1:{nginx}"
inject = {{secret = "orders-key", as = "header", name = "x-api-key"}}

[[route]]
path = "/robots/{{robot}}"
action = "read"
resource = "service/robots"
audience = "https://robots.example"
upstream = "http://127.0.0.1:{slow}"

[[route]]
method = ["DELETE"]
path = "/delete"
action = "delete"
resource = "service/orders"
upstream = "http://127.0.0.1:{nginx}"

[[route]]
path = "/slow/**"
action = "read"
resource = "service/orders"
upstream = "http://127.0.0.1:{slow}"
upgrade = true

[[route]]
path = "/echo"
action = "write"
resource = "service/orders"
upstream = "http://127.0.0.1:{slow}"

[[route]]
path = "/coded"
action = "read"
resource = "service/orders"
upstream = "http://127.0.0.1:{slow}"
inject = {{secret = "orders-key", as = "header", name = "authorization", prefix = "Bearer "}}

[[route]]
path = "/hello"
action = "read"
resource = "service/orders"
upstream = "https://127.0.0.1:{tls}"
ca = "{ca}"

[[route]]
path = "/untrusted"
action = "read"
resource = "service/orders"
upstream = "https://127.0.0.1:{tls}"

[[route]]
path = "/nobody"
action = "read"
resource = "service/orders"
upstream = "http://127.0.0.1:1"

[[route]]
host = "127.0.0.1"
path = "/inner/**"
action = "read"
resource = "service/orders"

[[connect]]
host = "127.0.0.1"
port = {tls}
private = true

[bounds]
max_body = 300000
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with gateway_stage() as made:
        yield made


@pytest.fixture(scope="module")
def slow() -> Iterator[SlowServer]:
    with slow_server() as made:
        yield made


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    with https_stage(tmp_path_factory.mktemp("tls")) as made:
        made.on("/hello", b"over TLS")
        yield int(urlsplit(made.url).port or 0), made.ca_file


@pytest.fixture(scope="module")
def gateway(stage: Stage, slow: SlowServer, tls: tuple[int, Path]) -> Iterator[Gateway]:
    with stage.gateway(ROUTES.format(nginx=stage.upstream, slow=slow.port, tls=tls[0], ca=tls[1])) as made:
        yield made


def port_of(gateway: Gateway, what: str = "reverse") -> int:
    return int(urlsplit(gateway.ready[what]).port or 0)


def svid_context(agent: str, spiffe_id: str) -> ssl.SSLContext:
    """Shows an SVID of ours, to whom it talks is another test's question."""
    held = asyncio.run(WorkloadApi(agent).x509())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    load_identity(context, held.named(spiffe_id))
    return context


def status_of(said: str) -> int:
    return int(said.split()[1])


def _read(path: Path) -> bytes:
    """A file's bytes; none of what is no file, or is gone since it was listed."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


# -- the credential


def test_the_upstream_gets_the_key_and_the_program_does_not(stage: Stage, gateway: Gateway) -> None:
    done = stage.curl("--include", f"{gateway.ready['reverse']}/orders/1")
    assert status_of(done.stdout) == 200
    assert KEY not in done.stdout and "x-echo: key=" + "*" * len(KEY) in done.stdout.lower()
    assert f"you sent {'*' * len(KEY)} and /orders/1" in done.stdout
    assert f"x-told: {LEGACY}" in done.stdout


def test_without_the_gateway_the_upstream_demands_the_key(stage: Stage) -> None:
    assert status_of(stage.curl("--include", f"http://127.0.0.1:{stage.upstream}/orders/1").stdout) == 401


def test_a_forward_proxy_does_the_same(stage: Stage, gateway: Gateway) -> None:
    done = stage.curl("--include", "http://orders.example/orders/7?a=b", http_proxy=gateway.ready["forward"])
    assert status_of(done.stdout) == 200 and "and /orders/7?a=b" in done.stdout and KEY not in done.stdout


def test_the_use_is_in_the_ledger_with_its_decision(stage: Stage, gateway: Gateway) -> None:
    said = stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout.lower()
    decision = said.split("x-remit-decision: ")[1].split()[0].upper().replace("DC_", "dc_")
    rows = [row for row in stage.server.json("ledger", "ls") if row["type"] == "access.secret.used"]
    used = next(row["data"] for row in rows if row["data"]["decision"] == decision)
    assert (used["identity"], used["resource"]) == (LEGACY, "service/orders")


def test_the_key_is_in_no_file_argument_environment_or_log(stage: Stage, gateway: Gateway) -> None:
    stage.curl(f"{gateway.ready['reverse']}/orders/1")
    process = Path(f"/proc/{gateway.process.pid}")
    places = [*stage.server.root.rglob("*"), *gateway.log.parent.iterdir(), process / "cmdline", process / "environ"]
    assert [str(path) for path in places if KEY.encode() in _read(path)] == []
    assert KEY not in json.dumps(stage.server.json("secret", "ls")) + stage.server.cli("secret", "ls").stdout


def test_a_secret_is_for_its_resource_alone(stage: Stage, gateway: Gateway) -> None:
    done = stage.curl("--include", f"{gateway.ready['reverse']}/other/1")
    assert status_of(done.stdout) == 403 and "is not for" in done.stdout


def test_an_answer_that_is_compressed_does_not_pass(stage: Stage, gateway: Gateway) -> None:
    done = stage.curl("--include", f"{gateway.ready['reverse']}/coded")
    assert status_of(done.stdout) == 502 and "compressed" in done.stdout


def test_a_rotated_secret_is_used_at_once(stage: Stage, gateway: Gateway) -> None:
    stage.server.cli("secret", "rotate", "orders-key", stdin="another-key-than-that")
    try:
        assert status_of(stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout) == 401
    finally:
        stage.server.cli("secret", "rotate", "orders-key", stdin=KEY)
    assert status_of(stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout) == 200


def test_a_gateway_that_is_not_registered_to_inject_gets_no_secret(stage: Stage, gateway: Gateway) -> None:
    register = ("enforcer", "add", "gate", "--spiffe-id", "spiffe://remit.local/gate", "--uid", str(os.getuid()))
    stage.server.cli("enforcer", "rm", "gate")
    try:
        stage.server.cli(*register)
        refused = stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout
        stage.server.cli("enforcer", "rm", "gate")
    finally:
        stage.server.cli(*register, "--fulfils", "inject-credential")
    assert status_of(refused) == 403 and "not registered to inject" in refused


# -- who may


def test_a_denial_has_a_reason_and_a_decision_to_explain(stage: Stage, gateway: Gateway) -> None:
    done = stage.curl("--include", "--request", "DELETE", f"{gateway.ready['reverse']}/delete")
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    problem = json.loads(body)
    assert status_of(head) == problem["status"] == 403 and PROBLEM in head
    assert problem["title"] and "delete" in stage.server.cli("explain", problem["decision"]).stdout


def test_another_program_of_the_same_user_is_another_identity(gateway: Gateway) -> None:
    assert raw(port_of(gateway), "/orders/1").status == 403


def test_a_token_proves_who_asks(stage: Stage, gateway: Gateway) -> None:
    api = WorkloadApi(f"unix://{stage.server.data / 'agent.sock'}")
    robot = LEGACY.replace("legacy", "robot")
    token = asyncio.run(api.jwt(AUDIENCE, spiffe_id=robot)).token
    reply = raw(port_of(gateway), "/robots/1", {"Authorization": f"Bearer {token}"})
    assert reply.status == 200 and reply.json["x-remit-subject"] == robot
    assert "authorization" not in reply.json
    forged = raw(port_of(gateway), "/robots/1", {"Authorization": f"Bearer {token[:-6]}AAAAAA"})
    assert forged.status == 401 and "invalid_token" in forged.headers["www-authenticate"]


def test_what_no_route_names_is_refused(stage: Stage, gateway: Gateway) -> None:
    assert status_of(stage.curl("--include", f"{gateway.ready['reverse']}/admin").stdout) == 403


@pytest.mark.parametrize(
    "more",
    [
        (("Transfer-Encoding", "chunked"), ("Content-Length", "3")),
        (("Transfer-Encoding", "chunked, identity"),),
        (("Content-Length", "1"), ("Content-Length", "2")),
        (("Host", "other.example"),),
        (("X", "a\r\n b"),),
        (("Connection", "authorization"),),
    ],
)
def test_a_request_of_two_readings_goes_nowhere(gateway: Gateway, more: tuple[tuple[str, str], ...]) -> None:
    reply: Reply = raw(port_of(gateway), "/robots/1", more=more)
    assert reply.status in (400, 401, 403) and reply.headers["content-type"] == PROBLEM


# -- addresses and tunnels


def test_a_tunnel_leads_to_a_tls_server(stage: Stage, gateway: Gateway, tls: tuple[int, Path]) -> None:
    url = f"https://127.0.0.1:{tls[0]}/hello"
    done = stage.curl("--cacert", str(tls[1]), url, https_proxy=gateway.ready["forward"])
    assert done.stdout == "over TLS"
    asked = stage.decisions()[0]["request"]
    assert (asked["action"], asked["resource"]["id"]) == ("connect", f"127.0.0.1:{tls[0]}")


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "127.0.0.1:22", "2130706433"])
def test_a_tunnel_to_a_private_address_is_refused(stage: Stage, gateway: Gateway, host: str) -> None:
    done = stage.curl("--include", f"https://{host}/latest/meta-data", code=None, https_proxy=gateway.ready["forward"])
    assert status_of(done.stdout) == 403 and "private address" in done.stdout


def test_a_request_to_a_private_address_is_refused(stage: Stage, gateway: Gateway) -> None:
    done = stage.curl("--include", "http://127.0.0.1/inner/x", http_proxy=gateway.ready["forward"])
    assert status_of(done.stdout) == 403 and "private address 127.0.0.1" in done.stdout


def test_an_upstream_is_verified(stage: Stage, gateway: Gateway) -> None:
    assert stage.curl(f"{gateway.ready['reverse']}/hello").stdout == "over TLS"
    refused = stage.curl("--include", f"{gateway.ready['reverse']}/untrusted").stdout
    assert status_of(refused) == 502 and "cannot be verified" in refused


# -- bytes


def test_bodies_stream_both_ways(stage: Stage, gateway: Gateway, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(os.urandom(250_000).hex().encode()[:250_000])
    for how in ((), ("--header", "Transfer-Encoding: chunked"), ("--header", "Expect: 100-continue")):
        url = f"{gateway.ready['reverse']}/echo"
        done = stage.curl("--data-binary", f"@{body}", *how, url)
        assert done.stdout == body.read_text()


@pytest.mark.parametrize("how", [(), ("--header", "Transfer-Encoding: chunked")])
def test_a_body_over_the_bound_is_refused(stage: Stage, gateway: Gateway, tmp_path: Path, how: tuple[str, ...]) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 400_000)
    done = stage.curl("--include", "--data-binary", f"@{body}", "--header", "Expect:", *how,
                      f"{gateway.ready['reverse']}/echo", code=None)  # fmt: skip
    assert status_of(done.stdout) == 413


def test_a_websocket_passes_where_the_route_permits_it(stage: Stage, gateway: Gateway) -> None:
    upgrade = ("--header", "Connection: Upgrade", "--header", "Upgrade: websocket", "--max-time", "1")
    done = stage.curl("--include", *upgrade, f"{gateway.ready['reverse']}/slow/socket", code=None)
    assert status_of(done.stdout) == 101 and "frame" in done.stdout
    refused = stage.curl("--include", *upgrade, f"{gateway.ready['reverse']}/orders/1").stdout
    assert status_of(refused) == 403


# -- ends


def _running(stage: Stage, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["curl", "--silent", "--no-buffer", "--max-time", "30", *arguments],
        env={"PATH": os.environ["PATH"], **environ}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_quarantine_ends_streams_and_tunnels_and_refuses_the_next(
    stage: Stage, gateway: Gateway, slow: SlowServer, tls: tuple[int, Path]
) -> None:
    stream = _running(stage, f"{gateway.ready['reverse']}/slow/forever")
    assert stream.stdout is not None and stream.stdout.read(4) == b"tick"
    tunnel = _running(stage, "--include", "--proxytunnel", "--proxy", gateway.ready["forward"],
                      f"http://127.0.0.1:{tls[0]}/", "--max-time", "25")  # fmt: skip
    try:
        assert tunnel.stdout is not None and b"200 Connection established" in tunnel.stdout.readline()
        stage.server.cli("quarantine", LEGACY, "--reason", "test")
        until(lambda: stream.poll() is not None and tunnel.poll() is not None)
        assert slow.streams_ended.wait(60)
        refused = stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout
        assert status_of(refused) == 403
    finally:
        for process in (stream, tunnel):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        stage.server.cli("release", LEGACY)
    until(lambda: status_of(stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout) == 200)


def test_an_upstream_that_is_down_is_a_bad_gateway(stage: Stage, gateway: Gateway) -> None:
    said = stage.curl("--include", f"{gateway.ready['reverse']}/nobody").stdout
    assert status_of(said) == 502 and "x-remit-decision" in said


def test_a_control_plane_that_is_down_permits_nothing(stage: Stage, gateway: Gateway) -> None:
    stage.server.stop()
    try:
        said = stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout
        assert status_of(said) == 503 and PROBLEM in said
    finally:
        stage.server.start()
    assert status_of(stage.curl("--include", f"{gateway.ready['reverse']}/orders/1").stdout) == 200


def test_a_gateway_that_is_killed_leaves_nothing_behind(stage: Stage) -> None:
    with stage.gateway(ROUTES.format(nginx=stage.upstream, slow=1, tls=1, ca="")) as made:
        assert status_of(stage.curl("--include", f"{made.ready['reverse']}/orders/1").stdout) == 200
        made.kill()
        stage.curl(f"{made.ready['reverse']}/orders/1", code=7)  # nobody listens: nothing passes
        left = [path for path in made.log.parent.rglob("*") if path.is_file()]
        assert sorted(path.name for path in left) == ["log", "routes.toml"]
        assert not any(KEY.encode() in path.read_bytes() for path in left)


def test_a_unix_socket_serves_as_well(stage: Stage, tmp_path: Path) -> None:
    with stage.gateway(
        ROUTES.format(nginx=stage.upstream, slow=1, tls=1, ca=""), "--reverse", "unix:./in.sock"
    ) as made:
        path = made.log.parent / "in.sock"
        done = stage.curl("--include", "--unix-socket", str(path), "http://api.example/orders/1")
        assert status_of(done.stdout) == 200 and KEY not in done.stdout


def test_a_gateway_elsewhere_asks_and_serves_by_mutual_tls(stage: Stage, slow: SlowServer) -> None:
    robot = LEGACY.replace("legacy", "robot")
    with stage.server.http("GET", "/healthz") as answer:
        server = "https://" + json.loads(answer.read())["agents"]
    stage.server.cli("enforcer", "add", "far", "--spiffe-id", robot, "--fulfils", "inject-credential")
    routes = ROUTES.format(nginx=stage.upstream, slow=slow.port, tls=1, ca="")
    agent = f"unix://{stage.server.data / 'agent.sock'}"
    more = ("--reverse", "mtls:127.0.0.1:0", "--server", server)
    try:
        with stage.gateway(routes, *more, SPIFFE_ENDPOINT_SOCKET=agent) as made:
            port = port_of(made, "reverse-https")
            reply = raw(port, "/robots/1", tls=svid_context(agent, robot))
            plain = stage.curl("--include", f"{made.ready['reverse']}/orders/1").stdout
    finally:
        stage.server.cli("enforcer", "rm", "far")
    assert (reply.status, reply.json["x-remit-subject"]) == (200, robot)
    assert status_of(plain) == 403 and "another machine" in plain


def test_a_dry_run_tells_the_routes_and_warns(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text(ROUTES.format(nginx=1, slow=1, tls=1, ca=""))
    said = stage.server.cli("gateway", "http", "--routes", file, "--dry-run").stdout
    assert "/orders/{order}" in said and "orders-key as header x-api-key" in said and "CONNECT" in said
