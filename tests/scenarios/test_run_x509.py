"""`remit run` at servers that admit by certificate: curl at nginx and psql at PostgreSQL find it, and it dies with the task."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from run_stage import Stage, stage, summary, until

from x509_stage import Nginx, Postgres, nginx, postgres, secret_of

WEB = ["x509://web?role=read"]
SQL = ["x509://sales?role=read"]
CURL = 'curl --silent --show-error --cert "$REMIT_X509_CERT" --key "$REMIT_X509_KEY" --cacert "$REMIT_X509_CA"'


@pytest.fixture
def web() -> Iterator[tuple[Stage, Nginx]]:
    if not shutil.which("curl"):
        pytest.skip("curl: not installed")
    with nginx() as server, stage() as made:
        made.arrange(lambda state: state.targets.add(server.target(), secret_of(server.clients), actor="person:ann"))
        yield made, server


def test_curl_is_served_and_a_copy_of_its_files_is_refused_after_the_task(web: tuple[Stage, Nginx]) -> None:
    made, server = web
    copy = made.folder / "copy"
    copy.mkdir()
    script = (
        f'{CURL} "$REMIT_X509_URL" && curl --silent --config "$REMIT_X509_CURL" "$REMIT_X509_URL" && '
        f'stat -c %a "$REMIT_X509_KEY" && cp "$REMIT_X509_CERT" {copy}/crt && cp "$REMIT_X509_KEY" {copy}/key'
    )
    made.register("fetch", "/bin/sh", "-c", script)
    made.start_agent()
    done = made.run("fetch", "/bin/sh", "-c", script, needs=WEB, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("CN=remit_scene001_") and lines[0].endswith(",OU=reader")
    assert lines[1] == lines[0] and lines[2] == "600"
    said = subprocess.run(
        ["curl", "--silent", "--cert", f"{copy}/crt", "--key", f"{copy}/key", "--cacert", f"{server.folder}/ca.pem",
         f"https://127.0.0.1:{server.port}/reports/"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "The SSL certificate error" in said.stdout
    assert "400" in summary(done.stderr)["leases"][0]["refusal"]


def test_a_killed_supervisor_ends_the_download_and_the_lease(web: tuple[Stage, Nginx]) -> None:
    made, server = web
    script = f'{CURL} -o {made.folder}/file "${{REMIT_X509_URL%/reports/}}/slow/file"'
    made.register("fetch", "/bin/sh", "-c", script)
    made.start_agent()
    running = subprocess.Popen(
        made.command("fetch", "/bin/sh", "-c", script, needs=WEB), env=made.env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: bool(live(server)))
    until(lambda: (made.folder / "file").exists())
    running.send_signal(signal.SIGKILL)
    running.wait()
    until(lambda: not live(server))


def live(server: Nginx) -> list[str]:
    """Leases in the book that may live."""
    found = []
    for path in (server.folder / "x" / "leases").glob("remit_*"):
        with suppress(FileNotFoundError):
            if '"revoked": false' in path.read_text():
                found.append(path.name)
    return found


@pytest.fixture
def orders() -> Iterator[tuple[Stage, Postgres]]:
    if not shutil.which("psql"):
        pytest.skip("psql: not installed")
    with postgres() as server, stage() as made:
        target = replace(server.target(server.server.port), name="sales")
        made.arrange(lambda state: state.targets.add(target, secret_of(server.clients), actor="person:ann"))
        yield made, server


def test_psql_is_served_without_a_password_and_refused_after_the_task(orders: tuple[Stage, Postgres]) -> None:
    made, server = orders
    copy = made.folder / "copy"
    copy.mkdir()
    script = (
        "psql -AtXc 'SELECT current_user, count(*) FROM app.orders' && "
        f'cp "$PGSSLCERT" {copy}/crt && cp "$PGSSLKEY" {copy}/key && test -z "$PGPASSWORD"'
    )
    made.register("report", "/bin/sh", "-c", script)
    made.start_agent()
    done = made.run("report", "/bin/sh", "-c", script, needs=SQL, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "app_ro|1\n"
    where = (
        f"host=127.0.0.1 port={server.server.port} user=app_ro dbname=postgres sslmode=verify-full "
        f"sslrootcert={server.folder}/ca.pem sslcert={copy}/crt sslkey={copy}/key"
    )
    said = subprocess.run(["psql", where, "-c", "SELECT 1"], capture_output=True, text=True, timeout=60, check=False)
    assert "revoked" in said.stderr
    (lease,) = summary(done.stderr)["leases"]
    assert "revoked" in lease.get("refusal", ""), sorted(lease.items())
