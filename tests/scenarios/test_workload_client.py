"""A workload's own side: the commands, the Python client, files for other programs, kubectl's credential plug-in."""

from __future__ import annotations

import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from installation import REMIT, Installation, installation
from remit.client import Identity
from remit.kernel.errors import Denied, Rejected
from remit.trust.bundle import Bundle
from remit.trust.spiffe import TrustDomain

ME = f"unix:uid:{os.getuid()}"


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installation() as one:
        one.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/me", "--selector", ME)
        yield one


def endpoint(remit: Installation) -> str:
    return f"unix://{remit.data / 'agent.sock'}"


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_a_process_that_nobody_registered_is_told_so_and_what_to_do() -> None:
    with installation() as one:
        done = one.cli("svid", "fetch", code=1)
    assert "client.identity.none" in done.stderr and "remit entry create" in done.stderr


def test_fetch_shows_who_we_are_and_never_a_key(remit: Installation) -> None:
    done = remit.cli("svid", "fetch", "--format", "json")
    assert json.loads(done.stdout)[0]["spiffe_id"] == "spiffe://remit.local/me"
    assert "PRIVATE" not in done.stdout


def test_a_token_is_printed_only_when_it_is_asked_for(remit: Installation) -> None:
    assert "eyJ" not in remit.cli("svid", "fetch", "--audience", "a").stdout
    shown = remit.cli("svid", "fetch", "--audience", "a", "--show-token").stdout.splitlines()
    assert shown and all(token.count(".") == 2 for token in shown)


def test_files_change_together_and_the_program_is_told(remit: Installation, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = subprocess.Popen(
        [sys.executable, "-c",
         "import signal,sys,pathlib,time\n"
         f"signal.signal(signal.SIGHUP, lambda *a: pathlib.Path({str(told)!r}).touch())\n"
         "print('up', flush=True)\n"
         "while True: time.sleep(0.05)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdout is not None and program.stdout.readline() == b"up\n"
    (tmp_path / "pid").write_text(f"{program.pid}\n")
    folder = tmp_path / "svid"
    writer = subprocess.Popen(
        [*REMIT, "x509", "write", "--dir", str(folder), "--pid-file", str(tmp_path / "pid")],
        env=remit.env, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: told.exists())
        first = (folder / "svid.pem").read_bytes()
        assert (folder / "key.pem").stat().st_mode & 0o077 == 0
        told.unlink()
        # Another entry of the same process is a new set: the agent pushes it.
        remit.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/later", "--selector", ME)
        until(lambda: told.exists())
        assert (folder / "svid.pem").read_bytes() == first
        checked = subprocess.run(
            ["openssl", "verify", "-CAfile", folder / "bundle.pem", folder / "svid.pem"],
            capture_output=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        assert len(list(folder.glob("..svid-*"))) == 1
    finally:
        for process in (writer, program):
            process.kill()
            process.wait()
        assert writer.stderr is not None
        writer.stderr.close()
        program.stdout.close()


def test_a_file_that_is_not_ours_is_left_alone(remit: Installation, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("mine")
    done = remit.cli("x509", "write", "--dir", tmp_path, "--once", code=4)
    assert "client.files.occupied" in done.stderr
    assert (tmp_path / "key.pem").read_text() == "mine"


@contextmanager
def listening(identity: Identity, *, accept: str) -> Iterator[tuple[int, list[str]]]:
    """A server that shakes hands by mutual TLS and answers with what it thinks of its caller."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    seen: list[str] = []

    def serve() -> None:
        raw, _ = listener.accept()
        try:
            with identity.tls_server().wrap_socket(raw, server_side=True) as connection:
                seen.append(str(identity.peer_of(connection, accept).spiffe_id))
                connection.sendall(b"hello")
        except (OSError, Denied, Rejected) as error:
            seen.append(type(error).__name__)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        thread.join(60)
        listener.close()


def test_two_programs_speak_mutual_tls_by_spiffe_id(remit: Installation) -> None:
    with (
        Identity(endpoint(remit)) as me,
        listening(me, accept="spiffe://remit.local/*") as (port, seen),
        me.connect("127.0.0.1", port, "spiffe://remit.local/me") as connection,
    ):
        assert connection.recv(5) == b"hello"
    assert seen == ["spiffe://remit.local/me"]


def test_a_server_of_another_name_is_refused_before_anything_is_sent(remit: Installation) -> None:
    with (
        Identity(endpoint(remit)) as me,
        listening(me, accept="spiffe://remit.local/*") as (port, _),
        pytest.raises(Denied) as refused,
    ):
        me.connect("127.0.0.1", port, "spiffe://remit.local/other")
    assert refused.value.code == "client.peer.refused"


def test_a_withdrawn_identity_is_dropped_and_a_new_one_picked_up() -> None:
    with installation() as one:
        made = one.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/me", "--selector", ME, "-o", "json")
        with Identity(endpoint(one)) as me:
            assert str(me.spiffe_id) == "spiffe://remit.local/me"
            one.cli("entry", "rm", json.loads(made.stdout)["id"])

            def refused() -> bool:
                try:
                    return not me.x509
                except Denied:
                    return True

            until(refused)


class _Cluster(http.server.BaseHTTPRequestHandler):
    """An API server that knows its callers by JWT-SVID."""

    bundle: Bundle
    callers: list[str]

    def do_GET(self) -> None:
        from remit.trust.authority.jwt import verify_token

        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        found = verify_token(token, self.bundle.jwt_keys, audience="kubernetes", now=datetime.now(UTC))
        self.callers.append(str(found.spiffe_id))
        body = b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def cluster(bundle: Bundle, folder: Path) -> Iterator[tuple[str, list[str]]]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    import ipaddress

    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "server.pem").write_bytes(
        pem
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    callers: list[str] = []
    handler = type("Cluster", (_Cluster,), {"bundle": bundle, "callers": callers})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}", callers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_kubectl_signs_in_by_our_credential_plug_in(remit: Installation, tmp_path: Path) -> None:
    kubectl = Path(sys.executable).with_name("kubectl")
    if not kubectl.exists():
        pytest.skip("kubectl: not installed")
    with remit.http("GET", "/bundle") as response:
        bundle = Bundle.parse(TrustDomain("remit.local"), response.read())
    with cluster(bundle, tmp_path) as (url, callers):
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(tmp_path / "ca.pem")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                "command": REMIT[0], "args": [*REMIT[1:], "kube-credential", "--audience", "kubernetes"],
            }}}],
        }  # fmt: skip
        (tmp_path / "config").write_text(json.dumps(config))
        done = subprocess.run(
            [str(kubectl), "--kubeconfig", str(tmp_path / "config"), "get", "--raw", "/healthz"],
            env=remit.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    assert callers == ["spiffe://remit.local/me"]


def test_watch_tells_of_each_set_and_ends_with_a_signal(remit: Installation) -> None:
    process = subprocess.Popen(
        [*REMIT, "svid", "watch", "--format", "json"], env=remit.env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        assert told["trusts"] == ["remit.local"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()
