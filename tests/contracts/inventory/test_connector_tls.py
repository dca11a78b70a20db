"""The TLS connector on real servers: OpenSSL's own, nginx, slapd and PostgreSQL."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certificates import NOW, Made, certificate, root, usage
from ldap_stage import ldap_server
from patience import listens, until_ready
from ports import free_port, on_a_free_port
from remit.inventory.connectors.files.keys import public_part
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.connectors.tls import make
from remit.inventory.model import CredentialFact, EdgeFact, FindingFact, IdentityFact, Skipped
from remit.kernel.errors import Rejected, Unavailable
from remit.kernel.ids import credential_name, name
from remit.providers.postgres.local_server import available_postgres
from remit.providers.tls_probe import Endpoint, Seen, probe
from servers import postgres_server

LOOPBACK = [
    x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.UniformResourceIdentifier("spiffe://remit.test/shop"),
]  # fmt: skip


class Papers:
    """A chain and key on disk."""

    def __init__(self, folder: Path, names: Sequence[x509.GeneralName] = LOOPBACK) -> None:
        above = root("tls.test")
        self.made: Made = certificate(
            issuer=above, name="shop", names=names, key_usage=usage("digital_signature", "key_encipherment"),
            ends=NOW + timedelta(days=2),
        )  # fmt: skip
        self.folder = folder
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.ca.write_bytes(above.pem)
        self.cert.write_bytes(self.made.pem + above.pem)
        self.key.write_bytes(
            self.made.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.key.chmod(0o600)

    @property
    def fingerprint(self) -> str:
        return public_part(self.made.key.public_key()).fingerprint


@pytest.fixture(scope="module")
def papers() -> Iterator[Papers]:
    folder = Path(tempfile.mkdtemp(prefix="remit-tls-", dir="/tmp"))
    yield Papers(folder)
    shutil.rmtree(folder, ignore_errors=True)


@on_a_free_port
def openssl(papers: Papers, *words: str) -> Iterator[int]:
    port = free_port()
    argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", papers.cert, "-key", papers.key,
            "-cert_chain", papers.cert, "-quiet", "-www", *words]  # fmt: skip
    said = papers.folder / f"{port}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until_ready(process, said, lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def stage(papers: Papers) -> Iterator[ConnectorStage]:
    with openssl(papers) as port:
        source = f"localhost:{port}"
        yield ConnectorStage(
            connector=lambda: make(source, {"ca": str(papers.ca)}, ""),
            expected=[
                name("tls", "localhost", "endpoint", source), papers.fingerprint, "spiffe://remit.test/shop",
            ],
            refused=lambda: make(source, {"ca": "/nonexistent"}, ""),
        )  # fmt: skip


class TestTls(ConnectorContract):
    pass


def test_the_endpoint_holds_the_key_that_a_key_file_shows(papers: Papers) -> None:
    with openssl(papers) as port:
        facts = facts_of(make(f"127.0.0.1:{port}", {"ca": str(papers.ca)}, ""))
    held = {fact.target for fact in facts if isinstance(fact, EdgeFact) and fact.relation.value == "holds"}
    assert held == {credential_name(papers.fingerprint)}
    ends = {
        fact.expires for fact in facts if isinstance(fact, CredentialFact) and fact.fingerprint == papers.fingerprint
    }
    assert ends == {papers.made.certificate.not_valid_after_utc}
    assert {fact.rule for fact in facts if isinstance(fact, FindingFact)} >= {"tls.expiring-certificate"}


def test_a_spiffe_id_joins_only_under_given_authorities(papers: Papers) -> None:
    with openssl(papers) as port:
        facts = facts_of(make(f"127.0.0.1:{port}", {}, ""))
    assert not [fact for fact in facts if isinstance(fact, IdentityFact) and fact.aliases]
    assert "tls.untrusted-chain" in {fact.rule for fact in facts if isinstance(fact, FindingFact)}


def test_another_name_than_the_certificates_is_said(tmp_path: Path) -> None:
    other = Papers(tmp_path, names=[x509.DNSName("shop.example.org")])
    with openssl(other) as port:
        seen = probe(Endpoint(host="127.0.0.1", port=port), ca=str(other.ca))
    assert seen.trusted and "mismatch" in seen.trouble


def test_old_versions_are_found(papers: Papers) -> None:
    with openssl(papers, "-cipher", "ALL:@SECLEVEL=0", "-min_protocol", "TLSv1") as port:
        seen = probe(Endpoint(host="127.0.0.1", port=port), ca=str(papers.ca))
        facts = facts_of(make(f"127.0.0.1:{port}", {"ca": str(papers.ca)}, ""))
    assert seen.versions == ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3") and seen.trouble == ""
    assert "tls.legacy-version" in {fact.rule for fact in facts if isinstance(fact, FindingFact)}


@pytest.mark.parametrize("words", [(), ("-tls1_2",), ("-tls1_3",)])
def test_whether_it_asks_who_calls(papers: Papers, words: tuple[str, ...]) -> None:
    for more, expected in (((), "no"), (("-verify", "2"), "asked"), (("-Verify", "2"), "required")):
        with openssl(papers, *words, *more) as port:
            seen = probe(Endpoint(host="127.0.0.1", port=port), ca=str(papers.ca))
        assert seen.client_certificate == expected
        assert seen.chain[0] == papers.made.der


def test_slapd_and_its_starttls() -> None:
    with ldap_server() as server:
        for endpoint in (
            Endpoint(host="127.0.0.1", port=server.tls_port), Endpoint(host="127.0.0.1", port=server.port, start="ldap"),
        ):  # fmt: skip
            seen = probe(endpoint, ca=server.ca)
            assert seen.trusted and not seen.trouble and "TLSv1.3" in seen.versions


def test_postgres_starts_tls_in_its_own_way(papers: Papers) -> None:
    with postgres_server(_with_tls()) as server:
        endpoint = Endpoint(host="127.0.0.1", port=server.port, start="postgres")
        with pytest.raises(Rejected):
            probe(endpoint)
        owner = server.data.stat()
        for source, target in ((papers.cert, "server.crt"), (papers.key, "server.key")):
            shutil.copyfile(source, server.data / target)
            os.chown(server.data / target, owner.st_uid, owner.st_gid)
            (server.data / target).chmod(0o600)
        with (server.data / "postgresql.auto.conf").open("a") as settings:
            settings.write("ssl = on\n")
        os.kill(server.pid, signal.SIGHUP)
        seen = _until(lambda: probe(endpoint, ca=str(papers.ca)))
    assert seen.chain[0] == papers.made.der and seen.trusted and seen.versions == ("TLSv1.2", "TLSv1.3")


def _with_tls() -> int:
    """A major version whose build can speak TLS."""
    for major, directory in available_postgres():
        said = subprocess.run(
            [directory / "pg_config", "--configure"], capture_output=True, text=True, check=False
        ).stdout
        if "openssl" in said:
            return major
    pytest.skip("postgres with TLS: not installed")


def _until(look: Callable[[], Seen]) -> Seen:
    end = time.monotonic() + 60
    while True:
        try:
            return look()
        except Rejected:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize(("start", "lines"), [
    ("smtp", (b"220-mail\r\n220 ready\r\n", b"250-hi\r\n250 STARTTLS\r\n", b"220 go\r\n")),
    ("imap", (b"* OK\r\n", b"a1 OK go\r\n")),
    ("postgres", (b"", b"S")),
    ("mysql", (b"\x05\x00\x00\x00hello", b"")),
])  # fmt: skip
def test_protocols_that_start_tls_later(papers: Papers, start: str, lines: tuple[bytes, ...]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.cert, papers.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(plain: socket.socket) -> None:
        with plain, suppress(OSError):
            plain.settimeout(60)
            for number, line in enumerate(lines):
                if number:
                    plain.recv(36)
                plain.sendall(line)
            with context.wrap_socket(plain, server_side=True) as secured:
                secured.recv(1)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        (connector,) = (make(f"{start}://127.0.0.1:{listener.getsockname()[1]}", {"ca": str(papers.ca)}, ""),)
        facts = facts_of(connector)
    finally:
        listener.close()
    assert papers.fingerprint in {fact.fingerprint for fact in facts if isinstance(fact, CredentialFact)}


def test_what_speaks_no_tls_is_skipped_and_who_does_not_answer_retires_nothing(papers: Papers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, openssl(papers) as port:
        threading.Thread(target=_talk, args=(mute,), daemon=True).start()
        facts = facts_of(make(f"127.0.0.1:{mute.getsockname()[1]},127.0.0.1:{port}", {}, ""))
    assert [fact.reason for fact in facts if isinstance(fact, Skipped)] == ["not-supported"]
    with pytest.raises(Unavailable) as away:
        facts_of(make(f"127.0.0.1:{free_port()}", {}, ""))
    assert away.value.code == "inventory.tls.unreachable"


def _talk(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            peer.recv(4096)
            peer.sendall(b"SSH-2.0-OpenSSH_9\r\n")
            peer.close()


def test_a_list_in_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# ours\nexample.org\nsmtp://mail.example.org # relay\n[::1]:8443\n")
    assert [str(each) for each in make(str(tmp_path / "list"), {}, "")._endpoints] == [
        "example.org:443", "mail.example.org:25", "[::1]:8443",
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["", "10.0.0.0/8", "host:0", "host:70000", "ftp://host", "a b:1", "host:1;rm"])
def test_what_names_no_endpoint_is_refused(source: str) -> None:
    with pytest.raises(Rejected):
        make(source, {}, "")
