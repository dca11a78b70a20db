"""A program far from the decision point: `Pdp` by mutual TLS, its own SVID for proof, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from installation import Installation, installation
from remit.client import Identity
from remit.client.enforce import Pdp
from remit.client.enforce.pdp import Question
from remit.kernel.errors import Denied, Rejected, RemitError, Unavailable

DOMAIN = "spiffe://remit.local/"
POLICY = f"""
permit(principal in Remit::Identity::"{DOMAIN}alice", action == Remit::Action::"read", resource);
permit(principal in Remit::Identity::"{DOMAIN}spare", action == Remit::Action::"read", resource);
"""


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installation(REMIT_ACCESS_LISTEN="127.0.0.1:0") as one:
        one.cli("people", "enrol", "ann")
        path = one.root / "p.cedar"
        path.write_text(POLICY)
        one.cli("policy", "apply", path)
        for name in ("gateway", "alice", "bob", "spare"):
            entry = {"spiffe_id": DOMAIN + name, "selectors": [f"unix:uid:{os.getuid()}"]}
            one.admin.post("/api/v1/entries", entry)
        one.cli("enforcer", "add", "gateway", "--spiffe-id", DOMAIN + "gateway", "--resources", "service/*")
        yield one


@pytest.fixture(scope="module")
def identities(remit: Installation) -> Iterator[dict[str, Identity]]:
    made = {
        name: Identity(f"unix://{remit.data / 'agent.sock'}", spiffe_id=DOMAIN + name)
        for name in ("gateway", "alice", "spare")
    }
    yield made
    for each in made.values():
        each.close()


def server(remit: Installation) -> str:
    return str(remit.admin.get("/healthz")["decisions"])


def asked(who: str = "alice", kind: str = "service") -> Question:
    return Question(subject=DOMAIN + who, action="read", kind=kind, name="orders")


def test_a_registered_point_asks_about_others(remit: Installation, identities: dict[str, Identity]) -> None:
    with closing(Pdp(server=server(remit), identity=identities["gateway"], timeout=30)) as pdp:
        assert [pdp.ask(asked(who)).allowed for who in ("alice", "bob")] == [True, False]
        assert asyncio.run(pdp.ask_async(asked())).allowed is True


def test_it_asks_within_its_registration_alone(remit: Installation, identities: dict[str, Identity]) -> None:
    made = Pdp(server=server(remit), identity=identities["gateway"], timeout=30)
    with closing(made) as pdp, pytest.raises(Rejected, match="not registered"):
        pdp.ask(asked(kind="target"))


def test_a_workload_asks_about_itself_alone(remit: Installation, identities: dict[str, Identity]) -> None:
    with closing(Pdp(server=server(remit), identity=identities["alice"], timeout=30)) as pdp:
        assert pdp.ask(asked("alice")).allowed is True
        with pytest.raises(Rejected) as refusal:
            pdp.ask(asked("bob"))
    assert refusal.value.code == "client.pdp.refused"


def test_another_server_is_not_asked(remit: Installation, identities: dict[str, Identity]) -> None:
    with (
        closing(
            Pdp(server=server(remit), identity=identities["gateway"], server_id=DOMAIN + "another", timeout=30)
        ) as pdp,
        pytest.raises(Denied),
    ):
        pdp.ask(asked())


def test_a_certificate_that_counts_no_more_is_no_end(remit: Installation, identities: dict[str, Identity]) -> None:
    """The SVID of a kept connection is revoked; the next answer comes by a connection with the newest one."""
    spare = identities["spare"]
    with closing(Pdp(server=server(remit), identity=spare, timeout=30)) as pdp:
        assert pdp.ask(asked("spare")).allowed is True
        before = spare.x509.named(DOMAIN + "spare").chain[0]
        serial = _serial(before)
        remit.cli("revoke", f"serial:{serial}", "--reason", "test")
        end = time.monotonic() + 60
        while True:
            try:
                assert pdp.ask(asked("spare")).allowed is True
                break
            except RemitError:
                assert time.monotonic() < end, "the revoked certificate is shown for ever"
                time.sleep(0.1)


def _serial(der: bytes) -> str:
    from cryptography import x509

    return f"{x509.load_der_x509_certificate(der).serial_number:x}"


def test_a_connection_that_is_refused_is_not_kept() -> None:
    """Each connection that this server has seen before is told 401, as one is whose certificate has expired."""
    folder = tempfile.mkdtemp(dir="/tmp")
    path, made = f"{folder}/s", []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            made.append(self)
            answers = [(b"200 OK", b'{"decision":true,"context":{"id":"dc_1"}}')]
            while self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                self.rfile.read(len(asked().body))
                status, body = answers.pop() if answers else (b"401 Unauthorized", b'{"title":"it has expired"}')
                self.wfile.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(path, Handler) as listening:
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with closing(Pdp(path, timeout=30)) as pdp:
            assert [pdp.ask(asked()).allowed for _ in range(3)] == [True] * 3
        listening.shutdown()
    shutil.rmtree(folder)
    assert len(made) == 3


def test_a_server_that_says_nothing_is_away_in_time(identities: dict[str, Identity]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        where = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with closing(Pdp(server=where, identity=identities["gateway"], timeout=0.5)) as pdp:
            began = time.monotonic()
            with pytest.raises(Unavailable) as away:
                pdp.ask(asked())
    assert away.value.code == "client.pdp.away"
    assert time.monotonic() - began < 25, "it waited for the usual time of a connection"
