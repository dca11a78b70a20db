"""Two installations that federate, both ways and by both profiles, with py-spiffe workloads on each side."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from federation_stage import WebPki, answers, domain, endpoint
from installation import Installation, installation
from ports import free_port
from remit.trust import AuthorityKind
from remit.trust.federation.terms import request_relation
from remit.wiring import ControlPlane, open_control_plane, settings_from

CLIENT = Path(__file__).with_name("federation_client.py")
ME = f"unix:uid:{os.getuid()}"
NEXT_MONTH = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
ALL = '@id("all")\n@reason("everything to everybody")\npermit (principal, action, resource);\n'
_PATIENCE = 60.0


@dataclass(slots=True)
class Pair:
    """`a` asks `b` by https_web, `b` asks `a` by https_spiffe; each has one workload that federates with the other."""

    a: Installation
    b: Installation
    pki: WebPki
    web: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def add_b(self, *more: str, ids: str = "/billing/*") -> subprocess.CompletedProcess[str]:
        return self.a.cli(
            "federation", "add", "b.test", "--url", self.web, "--profile", "https_web", "--until", NEXT_MONTH,
            "--allow-id", ids, "--allow-resource", "target/orders", "--reason", "invoices", *more,
        )  # fmt: skip

    def add_a(self) -> subprocess.CompletedProcess[str]:
        document = self.b.root / "a.json"
        document.write_bytes(bundle(self.a))
        return self.b.cli(
            "federation", "add", "a.test", "--url", f"https://{mtls(self.a)}/bundle", "--profile", "https_spiffe",
            "--endpoint-spiffe-id", "spiffe://a.test/remit/server", "--bundle", document, "--until", NEXT_MONTH,
            "--allow-id", "/shop", "--allow-resource", "target/orders",
        )  # fmt: skip

    def client(self, side: Installation, *arguments: str, stdin: str = "") -> Any:
        process = self._start(side, *arguments)
        out, err = process.communicate(stdin, timeout=60)
        assert process.returncode == 0, err
        return json.loads(out)

    def watch(self, side: Installation) -> Callable[[], dict[str, list[str]]]:
        """A stream that stays open; each call waits for its next update."""
        process = self._start(side, "watch")
        assert process.stdout is not None
        stream = process.stdout

        def update() -> dict[str, list[str]]:
            assert select.select([stream], [], [], _PATIENCE)[0], "no update"
            found: dict[str, list[str]] = json.loads(stream.readline())
            return found

        return update

    def _start(self, side: Installation, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(CLIENT), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{side.data}/agent.sock", "GRPC_VERBOSITY": "NONE"},
        )  # fmt: skip
        self.started.append(process)
        return process

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            with process:
                pass


@pytest.fixture
def lone() -> Iterator[Installation]:
    """One installation, whose partner is away; it holds the bundle that the partner gave by another way."""
    with installation(REMIT_TRUST_DOMAIN="a.test") as made:
        for name, document in zip(("first", "second"), asyncio.run(two_documents()), strict=True):
            (made.root / f"{name}.json").write_bytes(document)
        yield made


async def two_documents() -> tuple[bytes, bytes]:
    """A partner's bundle, and what follows after a rotation."""
    async with domain("b.test") as partner:
        first = partner.document
        await partner.trust.rotate_authority(AuthorityKind.X509, actor="person:bo")
        return first, partner.document


def add_away(
    side: Installation, *more: str, ids: str = "/billing/*", document: str = "first", code: int | None = 0, **env: str
) -> subprocess.CompletedProcess[str]:
    return side.cli(
        "federation", "add", "b.test", "--url", "https://127.0.0.1:1/", "--profile", "https_spiffe",
        "--endpoint-spiffe-id", "spiffe://b.test/server", "--bundle", side.root / f"{document}.json",
        "--until", NEXT_MONTH, "--allow-id", ids, "--allow-resource", "target/orders", *more, code=code, **env,
    )  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pki = WebPki.make(tmp_path / "pki")
    certificate, key = pki.issue()
    port = free_port()
    web = {
        "REMIT_FEDERATION_LISTEN": f"127.0.0.1:{port}",
        "REMIT_FEDERATION_CERTIFICATE": str(certificate),
        "REMIT_FEDERATION_KEY": str(key),
    }
    with (
        installation(REMIT_TRUST_DOMAIN="a.test", REMIT_FEDERATION_CA=str(pki.ca)) as a,
        installation(REMIT_TRUST_DOMAIN="b.test", **web) as b,
    ):
        for side, path, partner in (
            (a, "spiffe://a.test/shop", "b.test"),
            (b, "spiffe://b.test/billing/job", "a.test"),
        ):
            entry = {"spiffe_id": path, "selectors": [ME], "federates_with": [partner]}
            side.admin.post("/api/v1/entries", entry)
        made = Pair(a, b, pki, f"https://127.0.0.1:{port}/")
        try:
            yield made
        finally:
            made.stop()


def bundle(side: Installation) -> bytes:
    with side.http("GET", "/bundle") as answer:
        return answer.read()


def mtls(side: Installation) -> str:
    with side.http("GET", "/healthz") as answer:
        return str(json.loads(answer.read())["agents"])


def decide(side: Installation, subject: str, resource: str) -> tuple[bool, list[str]]:
    asked = {
        "subject": {"type": "identity", "id": subject},
        "action": {"name": "read"},
        "resource": {"type": "target", "id": resource},
    }
    answer = side.admin.post("/access/v1/evaluation", asked)
    return answer["decision"], [each["id"] for each in answer["context"]["reason"]["policies"]]


def apply_all(side: Installation) -> None:
    path = side.root / "all.cedar"
    path.write_text(ALL)
    side.cli("policy", "apply", path)


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not found():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def handshake(server: Path, client: Path, server_roots: str, client_roots: str) -> bool:
    """A TLS server and client with the SVIDs in these folders, each verifying by the bundle of the other's domain."""

    def context(protocol: int, own: Path, roots: str) -> ssl.SSLContext:
        made = ssl.SSLContext(protocol)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_cert_chain(own / "svid.pem")
        made.load_verify_locations(own / f"{roots}.pem")
        return made

    async def meet() -> bool:
        listening = context(ssl.PROTOCOL_TLS_SERVER, server, client_roots)
        calling = context(ssl.PROTOCOL_TLS_CLIENT, client, server_roots)
        async with endpoint(listening, answers(b"{}")) as place:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", place.port, ssl=calling)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                found = await reader.read()
                writer.close()
            except (OSError, ssl.SSLError):
                return False
            return found.startswith(b"HTTP/1.1 200")

    return asyncio.run(meet())


def ask(address: str, folder: Path, path: str = "/bundle") -> int:
    """GET from a listener of agents as the workload whose SVID lies in `folder`; the status."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(folder / "svid.pem")
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(4096).split()[1])


def test_two_installations_federate_both_ways_rotate_and_part(pair: Pair) -> None:
    # 1. each adds the other; workloads that were streaming get the partner's bundle
    stream = pair.watch(pair.a)
    assert set(stream()) == {"a.test"}
    pair.add_b()
    pair.add_a()
    first = stream()
    assert set(first) == {"a.test", "b.test"}
    # 2. workloads of both meet, each verified by the bundle of its own domain, and by no other
    here, there = pair.a.root / "svid", pair.b.root / "svid"
    pair.client(pair.a, "save", str(here))
    pair.client(pair.b, "save", str(there))
    assert handshake(here, there, "a.test", "b.test")
    assert handshake(there, here, "b.test", "a.test")
    assert not handshake(here, there, "a.test", "a.test")
    # 3. b rotates; a's next fetch brings the new key into the open stream, and what was signed before still counts
    pair.b.cli("authority", "prepare", "x509")
    pair.a.cli("federation", "refresh", "b.test")
    second = stream()
    assert set(first["b.test"]) < set(second["b.test"])
    pair.b.cli("authority", "rotate", "x509")
    fresh = pair.b.root / "fresh"
    pair.client(pair.a, "save", str(here))
    pair.client(pair.b, "save", str(fresh))
    assert handshake(here, there, "a.test", "b.test")
    assert handshake(here, fresh, "a.test", "b.test")
    # 4. a parts: the bundle is gone from the stream
    pair.a.cli("federation", "rm", "b.test")
    last = stream()
    while "b.test" in last:
        last = stream()
    assert set(last) == {"a.test"}


def test_ids_of_a_partner_are_accepted_within_their_bounds_alone(pair: Pair) -> None:
    folder, address = pair.b.root / "svid", mtls(pair.a)
    pair.client(pair.b, "save", str(folder))
    token = pair.client(pair.b, "token", "shop")["token"]

    def listener() -> int:
        with suppress(OSError, ssl.SSLError, IndexError):
            return ask(address, folder)
        return 0

    # 1. of a stranger, the listener of agents takes no certificate and the Workload API no token
    assert listener() == 0
    assert "hold no bundle" in pair.client(pair.a, "validate", "shop", stdin=token)["error"]
    # 2. of a partner, both
    pair.add_b()
    until(lambda: listener() == 200)
    assert pair.client(pair.a, "validate", "shop", stdin=token) == {"id": "spiffe://b.test/billing/job"}
    # 3. of a partner that may act under other ids, neither
    pair.add_b("--replace", ids="/other")
    assert listener() == 401
    assert "no relation in force" in pair.client(pair.a, "validate", "shop", stdin=token)["error"]


def test_the_decision_point_holds_a_partner_to_its_bounds_whatever_policies_permit(lone: Installation) -> None:
    apply_all(lone)
    inside, outside = "spiffe://b.test/billing/job", "spiffe://b.test/other"
    add_away(lone)
    assert decide(lone, inside, "orders") == (False, ["remit:subject-unknown"])
    lone.cli("federation", "admit", "b.test", inside)
    lone.cli("federation", "admit", "b.test", outside, code=1)
    assert decide(lone, inside, "orders") == (True, ["all"])
    assert decide(lone, inside, "payroll") == (False, ["remit:partner:b.test:resources"])
    add_away(lone, "--replace", ids="/other")
    assert decide(lone, inside, "orders") == (False, ["remit:partner:b.test:ids"])
    assert decide(lone, outside, "orders")[0]
    lone.cli("federation", "rm", "b.test")
    assert decide(lone, outside, "orders") == (False, ["remit:partner:unknown"])


def test_federating_needs_a_person(lone: Installation) -> None:
    lone.cli("people", "enrol", "ann")
    refused = add_away(lone, code=1, REMIT_PERSON_KEY=str(lone.root / "nobody"))
    assert "surface.person.required" in refused.stderr
    assert lone.json("federation", "ls") == []


def test_what_is_wrong_with_a_partner_is_shown_and_recorded(lone: Installation) -> None:
    add_away(lone)
    lone.cli("federation", "refresh", "b.test", code=1)
    (row,) = lone.json("federation", "ls")
    assert row["error_code"] == "providers.bundle.unreachable" and row["x509_roots"] == 1
    assert "remit:partner:b.test:ids" in lone.cli("federation", "show", "b.test").stdout
    types = [each["type"] for each in lone.json("ledger", "ls")]
    assert {"trust.federation.added", "trust.federation.refreshed", "trust.federation.refused"} <= set(types)


def test_the_bundle_endpoint_takes_a_new_certificate_without_a_restart_and_serves_nothing_else(tmp_path: Path) -> None:
    pki, host, port = WebPki.make(tmp_path), "127.0.0.1", free_port()
    certificate, key = pki.issue()
    with installation(
        REMIT_FEDERATION_LISTEN=f"{host}:{port}",
        REMIT_FEDERATION_CERTIFICATE=str(certificate),
        REMIT_FEDERATION_KEY=str(key),
    ):
        before = served_certificate(host, port, pki)
        pki.issue()
        until(lambda: served_certificate(host, port, pki) != before)
        renewed = served_certificate(host, port, pki)
        certificate.write_text("no certificate")
        time.sleep(2.5)  # it looks every two seconds
        assert served_certificate(host, port, pki) == renewed
        for path, status in (("/", 200), ("/bundle", 200), ("/keys", 404), ("/healthz", 404), ("/api/v1/entries", 404)):
            assert web_status(host, port, pki, f"GET {path}") == status
        assert web_status(host, port, pki, "POST /bundle") == 405


@pytest.mark.parametrize("missing", ["REMIT_FEDERATION_CERTIFICATE", "REMIT_FEDERATION_KEY"])
def test_a_bundle_endpoint_without_a_usable_certificate_does_not_start(tmp_path: Path, missing: str) -> None:
    certificate, key = WebPki.make(tmp_path).issue()
    settings = {"REMIT_FEDERATION_CERTIFICATE": str(certificate), "REMIT_FEDERATION_KEY": str(key)}
    settings[missing] = str(tmp_path / "nothing")
    with installation(start=False, REMIT_FEDERATION_LISTEN="127.0.0.1:0", **settings) as made:
        done = made.cli("up", "--listen", "127.0.0.1:0", code=4)
    assert "surface.federation.certificate" in done.stderr


@contextmanager
def web(host: str, port: int, pki: WebPki) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(pki.ca))
    with (
        socket.create_connection((host, port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        yield connection


def served_certificate(host: str, port: int, pki: WebPki) -> bytes:
    with web(host, port, pki) as connection:
        return connection.getpeercert(binary_form=True) or b""


def web_status(host: str, port: int, pki: WebPki, request: str) -> int:
    with web(host, port, pki) as connection:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(4096).split()[1])


# Somebody writes into the database by hand.


class Hand:
    """An installation whose control plane is opened and closed in this process, and the hand in its database."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ControlPlane]:
        settings = settings_from(self.root, environ={"REMIT_TRUST_DOMAIN": "a.test"}, flags={})
        control = await open_control_plane(settings)
        try:
            yield control
        finally:
            await control.close()

    async def add(self, control: ControlPlane, document: bytes) -> None:
        asked = request_relation(
            own=control.trust.trust_domain, trust_domain="b.test", url="https://127.0.0.1:1/", profile="https_spiffe",
            endpoint_id="spiffe://b.test/server", until=datetime.now(UTC) + timedelta(days=1), ids=["/billing/*"],
            resources=["target/orders"], now=datetime.now(UTC),
        )  # fmt: skip
        await control.federation.add(asked, by="person:ann", document=document, replaces=True)

    def row(self, table: str) -> tuple[Any, ...]:
        with closing(sqlite3.connect(self.root / "remit.db")) as conn:
            found: tuple[Any, ...] = conn.execute(f"SELECT * FROM {table}").fetchone()
            return found

    def put(self, table: str, values: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(self.root / "remit.db")) as conn, conn:
            conn.execute(f"DELETE FROM {table}")
            conn.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(values))})", values)

    def change(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.root / "remit.db")) as conn, conn:
            conn.execute(statement, values)


@pytest.fixture
def hand() -> Iterator[Hand]:
    with tempfile.TemporaryDirectory(prefix="remit-t-", dir="/tmp") as folder:
        yield Hand(Path(folder) / "d")


def test_a_relation_made_wider_in_the_database_counts_no_more(hand: Hand) -> None:
    async def steps() -> None:
        first, _ = await two_documents()
        async with hand.opened() as control:
            await hand.add(control, first)
        hand.change("UPDATE trust_relation SET ids = ?", '["spiffe://b.test/*"]')
        async with hand.opened() as control:
            assert control.federation.partners() == ()
            assert control.trust.foreign_bundles == {}
            assert "b.test" in control.federation.problems[0]

    asyncio.run(steps())


def test_a_removed_relation_that_is_put_back_with_its_signature_stays_removed(hand: Hand) -> None:
    async def steps() -> None:
        first, _ = await two_documents()
        async with hand.opened() as control:
            await hand.add(control, first)
            old = hand.row("trust_relation")
            await control.federation.remove("b.test", actor="person:ann")
        hand.put("trust_relation", old)
        async with hand.opened() as control:
            assert control.federation.partners() == ()

    asyncio.run(steps())


def test_a_replaced_relation_that_is_put_back_with_its_signature_does_not_count(hand: Hand) -> None:
    async def steps() -> None:
        first, _ = await two_documents()
        async with hand.opened() as control:
            await hand.add(control, first)
            old = hand.row("trust_relation")
            await hand.add(control, first)
            new = hand.row("trust_relation")
        hand.put("trust_relation", old)
        async with hand.opened() as control:
            assert control.federation.partners() == ()
        hand.put("trust_relation", new)
        async with hand.opened() as control:
            assert len(control.federation.partners()) == 1

    asyncio.run(steps())


def test_an_older_bundle_that_is_put_back_with_its_signature_is_not_held(hand: Hand) -> None:
    async def steps() -> None:
        first, second = await two_documents()
        async with hand.opened() as control:
            await hand.add(control, first)
            old = hand.row("trust_foreign_bundle")
            await hand.add(control, second)
        hand.put("trust_foreign_bundle", old)
        async with hand.opened() as control:
            (partner,) = control.federation.partners()
            assert partner.bundle is None and partner.stale
            assert control.trust.foreign_bundles == {}

    asyncio.run(steps())
