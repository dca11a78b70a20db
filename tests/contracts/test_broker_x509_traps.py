"""What goes wrong with client certificates at real servers, and what the X.509 broker makes of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certificates import certificate, usage
from remit.access.brokers.x509 import X509Broker
from remit.access.model import Proved, Revocation, Unproved
from remit.access.testing import INSTANCE, mint_order, revoke_order
from remit.kernel.errors import Misconfigured, RemitError
from remit.providers.x509.certificates import read_authority, revocation_list, serial_of
from remit.providers.x509.folder import Entry, Folder
from remit.providers.x509.logins import Asked as Ask
from remit.providers.x509.logins import Server, log_in
from x509_stage import (
    PLAIN,
    WRITER,
    Nginx,
    Postgres,
    WebStage,
    client_context,
    identity,
    in_days,
    nginx,
    postgres,
    present,
    secret_of,
    sql_stage,
    until,
    web_stage,
)


@pytest.fixture(scope="module")
def plain() -> Iterator[Nginx]:
    """One nginx, as the documentation configures it."""
    with nginx() as server:
        yield server


def play(server: Nginx, scene: Callable[[WebStage], Awaitable[None]], *, patience: int = 20, **options: str) -> None:
    async def run() -> None:
        async with web_stage(server, patience=patience, **options) as stage:
            await scene(stage)

    asyncio.run(run())


def s_client(server: Nginx, pem: str, path: str = "/reports/", *more: str) -> str:
    """What OpenSSL's own client is answered."""
    file = server.folder / "client.pem"
    file.write_text(pem)
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-cert", str(file), "-quiet"]
    said = subprocess.run(
        [*command, "-key", str(file), "-CAfile", f"{server.folder}/ca.pem", *more],
        input=f"GET {path} HTTP/1.0\r\n\r\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return said.stdout


def folder_of(server: Nginx) -> Folder:
    return Folder(server.folder / "x", read_authority(secret_of(server.clients)), lambda: datetime.now(UTC))


def list_of(server: Nginx) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((server.folder / "x" / "clients.crl").read_bytes())


def test_openssl_is_admitted_and_after_the_revocation_refused(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        pem = identity(minted, order.secret)
        assert f"CN={order.principal},OU=reader" in await asyncio.to_thread(s_client, plain, pem)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved) and "400" in done.proof.refusal, done
        assert "The SSL certificate error" in await asyncio.to_thread(s_client, plain, pem)

    play(plain, scene)


def test_a_role_is_admitted_at_its_own_places_alone(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        assert "403 Forbidden" in await asyncio.to_thread(s_client, plain, identity(minted, order.secret), "/admin/")
        other, writer = await stage.lease(role=WRITER)
        assert "admin" in await asyncio.to_thread(s_client, plain, identity(writer, other.secret), "/admin/")

    play(plain, scene)


def test_a_changed_list_is_nothing_until_the_server_reads_it(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        pem = identity(minted, order.secret)
        entry = folder_of(plain).entry(order.principal)
        assert entry is not None
        await asyncio.to_thread(folder_of(plain).revoke, [entry])
        assert "OU=reader" in await asyncio.to_thread(s_client, plain, pem)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)
        assert "OU=reader" not in await asyncio.to_thread(s_client, plain, pem)

    play(plain, scene)


def test_an_idle_connection_is_closed_by_the_revocation(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        session = await stage.use(minted, order.secret)
        await stage.broker.revoke([revoke_order(order)])
        with pytest.raises(Exception, match=r"closed|reset|EOF|Remote end"):
            await asyncio.to_thread(session.ask)

    play(plain, scene)


def test_a_download_ends_with_the_lease(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        download = await asyncio.to_thread(_download, plain, identity(minted, order.secret))
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)
        assert await asyncio.to_thread(_rest_of, download) < 4_000_000

    play(plain, scene)


def test_a_download_that_the_server_lets_go_on_is_not_contained() -> None:
    with nginx(PLAIN.replace("worker_shutdown_timeout 1s; ", "")) as server:

        async def scene(stage: WebStage) -> None:
            order, minted = await stage.lease()
            download = await asyncio.to_thread(_download, server, identity(minted, order.secret))
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert not done.gone
            assert isinstance(done.proof, Unproved) and "worker_shutdown_timeout" in done.proof.why
            checks = {check.title: check.ok for check in await stage.broker.check()}
            assert not checks["no worker serves by an older list"]
            download.close()
            await asyncio.to_thread(until, lambda: _revokes(stage.broker))
            [again] = await stage.broker.revoke([revoke_order(order)])
            assert again.gone and isinstance(again.proof, Proved)

        def _revokes(broker: X509Broker) -> bool:
            return len(server.workers()) == 2

        play(server, scene, patience=1)


@pytest.mark.parametrize("tls12", [True, False], ids=["tls1.2", "tls1.3"])
def test_a_saved_session_is_refused(plain: Nginx, tls12: bool) -> None:
    async def scene(stage: WebStage) -> None:
        done = await _no_resumption(stage, plain, tls12=tls12)
        assert isinstance(done.proof, Proved)

    play(plain, scene)


async def _no_resumption(stage: WebStage, server: Nginx, *, tls12: bool) -> Revocation:
    order, minted = await stage.lease()
    context = client_context(server.folder, identity(minted, order.secret), tls12=tls12)
    saved, _ = await asyncio.to_thread(_request, server, context, None)
    [done] = await stage.broker.revoke([revoke_order(order)])
    _, answer = await asyncio.to_thread(_request, server, context, saved)
    assert isinstance(done.proof, Proved) is (b"200 OK" not in answer)
    [again] = await stage.broker.revoke([revoke_order(order)])
    # A server renews its ticket keys when it likes: what counts is that neither look calls refused what is admitted.
    _, answer = await asyncio.to_thread(_request, server, context, saved)
    assert isinstance(done.proof, Proved) <= isinstance(again.proof, Proved) <= (b"200 OK" not in answer)
    return done


@pytest.mark.parametrize("tls12", [True, False], ids=["tls1.2", "tls1.3"])
@pytest.mark.parametrize("how", ["cache", "key"])
def test_a_session_that_outlives_the_reload_is_never_called_contained(how: str, tls12: bool) -> None:
    with nginx("") as server:
        (server.folder / "ticket.key").write_bytes(b"k" * 80)
        key = f"ssl_session_ticket_key {server.folder}/ticket.key;" if how == "key" else ""
        server.extra = f"ssl_session_cache shared:s:1m; {key} "
        server.configure()
        server.reload()

        async def scene(stage: WebStage) -> None:
            done = await _no_resumption(stage, server, tls12=tls12)
            assert isinstance(done.proof, Unproved) and "switch session tickets and cache off" in done.proof.why
            checks = {check.title: check for check in await stage.broker.check()}
            assert "ssl_session_tickets off" in checks["TLS sessions are not resumed"].next_step
            assert not checks["TLS sessions are not resumed"].ok

        play(server, scene)


def test_a_list_past_its_end_refuses_everybody_until_the_broker_writes_it_anew(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        pem = identity(minted, order.secret)
        old = datetime.now(UTC) - timedelta(days=2)
        clients = read_authority(secret_of(plain.clients))
        text = revocation_list(clients, (), number=1, now=old, lasts=timedelta(days=1))
        (plain.folder / "x" / "clients.crl").write_bytes(text)
        os.utime(plain.folder / "x" / "clients.crl", (1_000_000_000, 1_000_000_000))
        await asyncio.to_thread(plain.reload)
        assert "The SSL certificate error" in await asyncio.to_thread(s_client, plain, pem)
        checks = {check.title: check.ok for check in await stage.broker.check()}
        assert not checks["the list of revoked certificates is ours, and does not run out"]
        await stage.broker.sweep(INSTANCE)
        assert "OU=reader" in await asyncio.to_thread(s_client, plain, pem)

    play(plain, scene)


def test_a_list_that_runs_out_in_a_month_is_written_again_by_a_renewal(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, _ = await stage.lease()
        before = folder_of(plain).read_list()
        assert before is not None
        text = revocation_list(
            read_authority(secret_of(plain.clients)), (), number=before.number + 7, now=datetime.now(UTC),
            lasts=timedelta(days=20),
        )  # fmt: skip
        (plain.folder / "x" / "clients.crl").write_bytes(text)
        await stage.broker.renew([order.principal], order.expires)
        after = folder_of(plain).read_list()
        assert after is not None and after.next_update > datetime.now(UTC) + timedelta(days=80)
        assert after.number > before.number + 7

    play(plain, scene)


@pytest.mark.parametrize("damage", ["backup", "garbage", "missing"])
def test_a_lost_revocation_is_put_back_by_the_next_sweep(plain: Nginx, damage: str) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        folder, yesterday = plain.folder / "x", plain.folder / f"backup-{damage}"
        shutil.copytree(folder, yesterday)
        await stage.broker.revoke([revoke_order(order)])
        if damage == "backup":
            shutil.copytree(yesterday, folder, dirs_exist_ok=True)
            # nginx takes a file of the same inode and second for unchanged.
            os.utime(folder / "clients.crl", (1_000_000_000, 1_000_000_000))
            await asyncio.to_thread(plain.reload)
            said = await asyncio.to_thread(s_client, plain, identity(minted, order.secret))
            assert "OU=reader" in said, (plain.folder / "error.log").read_text()[-3000:]
        elif damage == "garbage":
            (folder / "clients.crl").write_text("nothing")
        else:
            (folder / "clients.crl").unlink()
        assert order.principal not in await stage.broker.sweep(INSTANCE)
        known = folder_of(plain).read_list()
        assert known is not None and serial_of(order.principal, order.secret) in known.serials
        said = await asyncio.to_thread(s_client, plain, identity(minted, order.secret))
        assert "The SSL certificate error" in said

    play(plain, scene)


def test_each_list_has_a_second_of_its_own_for_nginx_knows_it_by_that(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        seen = []
        for _ in range(4):
            order, _ = await stage.lease()
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert isinstance(done.proof, Proved)
            seen.append(int((plain.folder / "x" / "clients.crl").stat().st_mtime))
        assert len(set(seen)) == 4

    play(plain, scene)


def test_another_process_keeps_what_this_one_revoked(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, _ = await stage.lease()
        async with web_stage(plain) as other:
            theirs, _ = await other.lease()
            await asyncio.gather(
                stage.broker.revoke([revoke_order(order)]), other.broker.revoke([revoke_order(theirs)])
            )
        serials = {one.serial_number for one in list_of(plain)}
        assert {serial_of(one.principal, one.secret) for one in (order, theirs)} <= serials

    play(plain, scene)


def test_revocations_that_come_together_are_one_list(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        leases = [await stage.lease() for _ in range(6)]
        before = (plain.folder / "error.log").read_text().count("signal 1 (SIGHUP) received")
        await asyncio.gather(*(stage.broker.revoke([revoke_order(order)]) for order, _ in leases))
        after = (plain.folder / "error.log").read_text().count("signal 1 (SIGHUP) received")
        assert 1 <= after - before <= 3

    play(plain, scene)


def test_the_end_of_a_certificate_ends_no_connection_and_doctor_says_so(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        checks = {check.title: check for check in await stage.broker.check()}
        line = checks.pop("live connections end when Remit is dead")
        assert not line.ok and "after its certificate's end" in line.detail
        assert all(check.ok for check in checks.values()), checks

    play(plain, scene)


def test_a_server_that_limits_connections_is_fail_safe() -> None:
    with nginx(PLAIN + "keepalive_time 1s;") as server:

        async def scene(stage: WebStage) -> None:
            checks = {check.title: check.ok for check in await stage.broker.check()}
            assert checks["live connections end when Remit is dead"]

        play(server, scene)


def test_a_server_that_reads_no_list_is_seen_by_doctor_and_proves_nothing(plain: Nginx) -> None:
    text = (plain.folder / "nginx.conf").read_text()

    async def scene(stage: WebStage) -> None:
        order, _ = await stage.lease()
        (plain.folder / "nginx.conf").write_text(text.replace(f"ssl_crl {plain.folder}/x/clients.crl;", ""))
        await asyncio.to_thread(plain.reload)
        checks = {check.title: check.ok for check in await stage.broker.check()}
        assert not checks["it refuses a serial that is on the list"]
        stage.broker._within = 0.2
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Unproved) and "still admits" in done.proof.why

    try:
        play(plain, scene)
    finally:
        (plain.folder / "nginx.conf").write_text(text)
        plain.reload()


def test_somebody_else_may_reload_when_the_list_changes(plain: Nginx) -> None:
    """As a systemd path unit does: Remit needs no privilege over nginx at all."""
    stop, path = threading.Event(), plain.folder / "x" / "clients.crl"

    def watch() -> None:
        seen = path.stat().st_mtime_ns
        while not stop.wait(0.02):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime_ns != seen:
                    seen = path.stat().st_mtime_ns
                    plain.process.send_signal(signal.SIGHUP)

    async def scene(stage: WebStage) -> None:
        order, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        play(plain, scene, reload="watch")
    finally:
        stop.set()
        watcher.join()


def test_a_program_of_the_administrator_may_reload(
    plain: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remit.access.brokers.x509_settings.PROGRAMS", tmp_path)
    program = tmp_path / "nginx"
    program.write_text(f"#!/bin/sh\nkill -HUP {plain.process.pid}\n")
    program.chmod(0o755)

    async def scene(stage: WebStage) -> None:
        order, _ = await stage.lease()
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)

    play(plain, scene, reload="program:nginx")


def test_no_key_rests_in_the_folder_and_only_we_write_it(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, _ = await stage.lease()
        for path in (plain.folder / "x").rglob("*"):
            assert not path.stat().st_mode & 0o022
            assert path.is_dir() or (
                b"PRIVATE" not in path.read_bytes() and order.secret.encode() not in path.read_bytes()
            )

    play(plain, scene)


def test_a_certificate_says_whose_it_is_and_no_more(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease(until=datetime.now(UTC) + timedelta(hours=2))
        made = x509.load_pem_x509_certificate(minted.settings["certificate"].encode())
        assert made.subject.rfc4514_string() == f"CN={order.principal},OU=reader"
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:remit:lease:{order.principal}"]
        assert made.serial_number.bit_length() == 127
        assert made.not_valid_after_utc == order.until.replace(microsecond=0) if order.until else False
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    play(plain, scene)


def test_the_list_is_good_for_openssl(plain: Nginx) -> None:
    said = subprocess.run(
        ["openssl", "crl", "-in", f"{plain.folder}/x/clients.crl", "-CAfile", f"{plain.folder}/x/clients.pem", "-noout"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "verify OK" in said.stderr + said.stdout


def test_the_task_gets_files_for_curl(plain: Nginx) -> None:
    async def scene(stage: WebStage) -> None:
        order, minted = await stage.lease()
        shown = present(stage, minted, order.secret)
        assert set(shown.pointers) == {"REMIT_X509_CERT", "REMIT_X509_KEY", "REMIT_X509_CA", "REMIT_X509_CURL"}
        assert shown.variables == {"REMIT_X509_URL": f"https://127.0.0.1:{plain.port}/reports/"}
        assert not any("PRIVATE" in value for value in shown.variables.values())

    play(plain, scene)


def test_a_process_that_is_no_nginx_gets_no_signal(plain: Nginx, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "pid").write_text(str(other.pid))

        async def scene(stage: WebStage) -> None:
            order, _ = await stage.lease()
            with pytest.raises(RemitError, match="no nginx"):
                await stage.broker.revoke([revoke_order(order)])

        try:
            play(plain, scene, pid_file=str(tmp_path / "pid"))
            assert other.poll() is None
        finally:
            other.kill()
    play(plain, _heal)


async def _heal(stage: WebStage) -> None:
    await stage.broker.revoke([revoke_order(mint_order(stage))])


def test_a_server_that_is_not_the_one_we_trust_gets_no_certificate(plain: Nginx) -> None:
    stranger = certificate(
        issuer=None, name="x", ca=True, key_usage=usage("key_cert_sign"), extended=None, ends=in_days(1)
    )
    server = Server(host="127.0.0.1", port=plain.port, roots=stranger.pem.decode())
    with pytest.raises(Misconfigured) as refused:
        log_in(server, Ask())
    assert refused.value.code == "access.x509.server_unknown"


# PostgreSQL


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def test_a_session_outlives_the_list_and_is_ended_by_its_serial(database: Postgres) -> None:
    async def scene() -> None:
        async with sql_stage(database) as stage:
            order = mint_order(stage)
            minted = await stage.broker.mint(order)
            session = await stage.use(minted, order.secret)
            book = Folder(database.folder / "x", read_authority(secret_of(database.clients)), lambda: datetime.now(UTC))
            book.revoke(
                [Entry(principal=order.principal, serial=f"{serial_of(order.principal, order.secret):x}", ends=9**10)]
            )
            await database.sql("SELECT pg_reload_conf()")
            await session.work()
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert done.sessions_ended == 1 and isinstance(done.proof, Proved)
            with pytest.raises(Exception, match=r"closed|terminat"):
                await session.work()

    asyncio.run(scene())


def test_psql_reads_what_the_task_gets_and_is_refused_afterwards(database: Postgres, tmp_path: Path) -> None:
    async def scene() -> None:
        async with sql_stage(database) as stage:
            order = mint_order(stage)
            minted = await stage.broker.mint(order)
            said = await asyncio.to_thread(_psql, present(stage, minted, order.secret), tmp_path)
            assert said.stdout.strip() == "app_ro|1"
            await stage.broker.revoke([revoke_order(order)])
            said = await asyncio.to_thread(_psql, present(stage, minted, order.secret), tmp_path)
            assert "revoked" in said.stderr

    asyncio.run(scene())


def test_doctor_finds_the_rights_exact(database: Postgres) -> None:
    async def scene() -> None:
        async with sql_stage(database) as stage:
            wrong = [check.title for check in await stage.broker.check() if not check.ok]
            assert wrong == ["live sessions end when Remit is dead"]
            await database.sql("REVOKE pg_signal_backend FROM remit_admin")
            try:
                lines = {check.title: check for check in await stage.broker.check()}
            finally:
                await database.sql("GRANT pg_signal_backend TO remit_admin")
            assert "pg_signal_backend" in lines["the administrator can end sessions and have the list read"].detail

    asyncio.run(scene())


def _psql(shown: object, folder: Path) -> subprocess.CompletedProcess[str]:
    variables, pointers, files = shown.variables, shown.pointers, shown.files  # type: ignore[attr-defined]
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **variables}
    env |= {key: str(folder / name) for key, name in pointers.items()}
    return subprocess.run(
        ["psql", "-AtXc", "SELECT current_user, count(*) FROM app.orders"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _request(
    server: Nginx, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bytes]:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as one,
        context.wrap_socket(one, server_hostname="127.0.0.1", session=session) as secured,
    ):
        secured.sendall(b"GET /reports/ HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := secured.recv(4096):
            answer += chunk
        return secured.session, answer


def _download(server: Nginx, pem: str) -> ssl.SSLSocket:
    one = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    secured = client_context(server.folder, pem).wrap_socket(one, server_hostname="127.0.0.1")
    secured.sendall(b"GET /slow/file HTTP/1.0\r\n\r\n")
    assert b"200 OK" in secured.recv(1024)
    return secured


def _rest_of(download: ssl.SSLSocket) -> int:
    found = 0
    with download, suppress(OSError):
        while chunk := download.recv(65536):
            found += len(chunk)
    return found
