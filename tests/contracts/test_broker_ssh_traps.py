"""What makes SSH certificates hard to revoke, each on a real sshd and judged by `ssh`, `ssh-keygen` and the kernel."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from remit.access.brokers.ssh import SshBrokerFactory
from remit.access.model import Proved, Unproved
from remit.access.testing import INSTANCE, mint_order, principal, revoke_order
from remit.kernel.errors import RemitError
from remit.providers.ssh.target import connections
from remit.providers.ssh.target.book import State
from remit.providers.ssh.target.processes import Process, Table, processes, started
from ssh_stage import LOGIN, SshServer, SshStage, keygen, ssh_server, ssh_stage, until


@pytest.fixture(scope="module")
def running() -> Iterator[SshServer]:
    with ssh_server() as server:
        yield server


@pytest.fixture
def server(running: SshServer) -> Iterator[SshServer]:
    yield running
    running.again()
    for part in ("leases", "gone"):
        for path in (running.state / part).iterdir():
            path.unlink()
    subprocess.run([running.helper, "--state", running.state, "init"], check=True)


def play(server: SshServer, scene: Callable[[SshStage], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        async with ssh_stage(server, **options) as stage:
            await scene(stage)

    asyncio.run(run())


def ssh(config: Path, *words: str, host: str = "web", **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", config, *words[:-1], host, *words[-1:]],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **more,
    )  # fmt: skip


def running_with(mark: str) -> list[int]:
    """Processes whose arguments name `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def is_revoked(server: SshServer, certificate: Path) -> bool:
    """As `ssh-keygen` reads sshd's list."""
    done = subprocess.run(
        ["ssh-keygen", "-Q", "-f", server.state / "krl", certificate], capture_output=True, text=True, check=False
    )
    return done.returncode == 1 and "REVOKED" in done.stdout


ESCAPES = {
    "in the background": "sleep 7001{n} >/dev/null 2>&1 & echo ok",
    "with nohup and a session of its own": "(setsid nohup sleep 7002{n} >/dev/null 2>&1 &) ; echo ok",
    "without its environment, twice forked": "(env -i setsid sh -c 'sleep 7003{n} & sleep 7003{n}' >/dev/null 2>&1 &) ; echo ok",
}


@pytest.mark.parametrize("way", ESCAPES)
def test_what_a_session_left_running_is_killed_with_the_lease(server: SshServer, way: str) -> None:
    command = ESCAPES[way].format(n=os.getpid())
    number = command.split("sleep ")[1].split()[0].strip("'")

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        session = await stage.use(minted, order.secret)
        process = await session.connection.create_process(f"{command}; sleep 60")
        assert await process.stdout.readline() == "ok\n"
        await asyncio.to_thread(until, lambda: bool(running_with(number)))
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)
        assert not running_with(number)

    play(server, scene)


def test_what_a_session_left_running_ends_with_the_session(server: SshServer) -> None:
    number = f"7005{os.getpid()}"

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        session = await stage.use(minted, order.secret)
        await session.run(f"(setsid nohup sleep {number} >/dev/null 2>&1 &)")
        assert not running_with(number)

    play(server, scene)


def test_a_connection_that_breaks_takes_its_command_with_it(server: SshServer) -> None:
    number = f"7006{os.getpid()}"

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        session = await stage.use(minted, order.secret)
        await session.connection.create_process(f"(setsid nohup sleep {number} >/dev/null 2>&1 &) ; sleep {number}")
        await asyncio.to_thread(until, lambda: len(running_with(number)) >= 2)
        session.connection.abort()
        await asyncio.to_thread(until, lambda: not running_with(number))

    play(server, scene)


@pytest.mark.parametrize("words", ["", "env -i "])
def test_a_task_that_kills_its_own_keeper_is_killed_with_the_lease(
    server: SshServer, tmp_path: Path, words: str
) -> None:
    number = f"7007{os.getpid()}"

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        session = await stage.use(minted, order.secret)
        told = tmp_path / "told"
        task = await session.connection.create_process(
            f"{words}setsid sleep {number} >/dev/null 2>&1 & until test -e {told}; do sleep 0.1; done; kill -9 $PPID"
        )
        await asyncio.to_thread(until, lambda: bool(running_with(number)))
        # The reaper looks twice a second, once it has started.
        await asyncio.sleep(2.5)
        # Its keeper dies, and nothing in the table of processes says any more whose it is.
        told.touch()
        async with asyncio.timeout(60):
            await task.wait()
        assert running_with(number)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)
        if words:
            # Without its mark it is the reaper's, which saw it begin.
            await asyncio.to_thread(until, lambda: not running_with(number))
        assert not running_with(number)

    play(server, scene)


def test_the_expiry_ends_live_connections_and_their_commands_though_remit_is_dead(server: SshServer) -> None:
    number = f"7008{os.getpid()}"

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease(until=datetime.now(UTC) + timedelta(hours=1))
        session = await stage.use(minted, order.secret)
        await session.connection.create_process(f"sleep {number}")
        await asyncio.to_thread(until, lambda: bool(running_with(number)))
        await stage.broker.renew([order.principal], datetime.now(UTC) + timedelta(seconds=1))
        await stage.broker.close()
        async with asyncio.timeout(60):
            await session.connection.wait_closed()
        await asyncio.to_thread(until, lambda: not running_with(number))

    play(server, scene)


def test_a_reaper_that_somebody_ended_runs_again_with_the_next_request(server: SshServer) -> None:
    def reapers() -> list[int]:
        return [pid for pid in running_with("reap") if pid in running_with(str(server.state))]

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        await stage.use(minted, order.secret)
        await asyncio.to_thread(until, lambda: bool(reapers()))
        for pid in reapers():
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not reapers())
        await stage.broker.renew([order.principal], datetime.now(UTC) + timedelta(minutes=5))
        await asyncio.to_thread(until, lambda: bool(reapers()))

    play(server, scene)


def test_processes_that_begin_faster_than_one_looks_hold_up_no_revocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody else on the host can start them, with the name of the lease in their environment."""
    state, name, looks = State(str(tmp_path)), "remit_abcdefgh_" + "0" * 26, itertools.count(1)
    (tmp_path / "sessions").mkdir()
    with subprocess.Popen(["sleep", "60"]) as held:
        state.note(name, held.pid, started(held.pid))

        def one_more() -> Table:
            return processes() | {1 << 30 | number: Process(held.pid, 0, 0) for number in range(next(looks))}

        monkeypatch.setattr(connections, "processes", one_more)
        ended, _ = connections.end_connections(state, {name}, 0.2)
        assert ended == {name: 1}
        assert held.wait(20) == -signal.SIGKILL


def test_a_connection_with_nothing_but_a_forwarding_is_ended_too(server: SshServer, tmp_path: Path) -> None:
    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        config = stage.hand_over(order, minted, tmp_path)
        tunnel = subprocess.Popen(["ssh", "-F", config, "-N", "-L", f"{tmp_path}/s:127.0.0.1:{server.port}", "web"])
        await asyncio.to_thread(until, lambda: (tmp_path / "s").exists())
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert (done.gone, done.sessions_ended) == (True, 1)
        assert await asyncio.to_thread(tunnel.wait, 60) == 255

    play(server, scene, roles={"deploy": f"{LOGIN} port-forwarding"})


def test_a_renewal_keeps_the_session_and_the_certificate(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        session = await stage.use(minted, order.secret)
        for later in (timedelta(seconds=5), timedelta(minutes=5)):
            assert await stage.broker.renew([order.principal], datetime.now(UTC) + later) == [order.principal]
        await asyncio.sleep(5.7)
        await session.work()
        await (await stage.use(minted, order.secret)).close()

    play(server, scene)


def test_ssh_keygen_finds_the_serial_in_the_list_and_no_other(server: SshServer, tmp_path: Path) -> None:
    async def scene(stage: SshStage) -> None:
        (lost, minted), (kept, other) = await stage.lease(), await stage.lease()
        for name, one in (("lost", minted), ("kept", other)):
            (tmp_path / name).write_text(one.settings["certificate"] + "\n")
        assert not is_revoked(server, tmp_path / "lost")
        await stage.broker.revoke([revoke_order(lost)])
        assert is_revoked(server, tmp_path / "lost")
        assert not is_revoked(server, tmp_path / "kept")
        await (await stage.use(other, kept.secret)).close()

    play(server, scene)


def test_the_list_alone_refuses_where_the_book_was_restored_from_yesterday(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        book = (server.state / "leases" / order.principal).read_text()
        await stage.broker.revoke([revoke_order(order)])
        (server.state / "leases" / order.principal).write_text(book)
        (server.state / "gone" / order.principal).unlink()
        with pytest.raises(asyncssh.PermissionDenied):
            await stage.use(minted, order.secret)
        assert "revoked" in server.log()
        assert await stage.broker.sweep(INSTANCE) == [order.principal]

    play(server, scene)


def test_a_certificate_says_what_it_may_and_its_serial_is_not_0(server: SshServer, tmp_path: Path) -> None:
    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        (tmp_path / "c").write_text(minted.settings["certificate"] + "\n")
        shown = subprocess.run(["ssh-keygen", "-L", "-f", tmp_path / "c"], capture_output=True, text=True, check=True)
        lines = [line.strip() for line in shown.stdout.splitlines()]
        assert f'Key ID: "{order.principal}"' in lines
        [serial] = [line for line in lines if line.startswith("Serial:")]
        assert int(serial.split()[1]) > 0
        assert lines[lines.index("Principals:") + 1] == order.principal
        assert any(line.startswith("force-command ") and line.endswith(f"session {order.principal}") for line in lines)
        assert any(line.startswith("source-address 127.0.0.0/8") for line in lines)
        assert lines[lines.index("Extensions: (none)")]

    play(server, scene, roles={"deploy": f"{LOGIN} source=127.0.0.0/8"})


@pytest.mark.parametrize("text", [None, "garbage"])
def test_a_missing_or_broken_list_admits_nobody_and_the_check_says_so(server: SshServer, text: str | None) -> None:
    krl = server.state / "krl"

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        krl.write_text(text) if text else krl.unlink()
        with pytest.raises(asyncssh.PermissionDenied):
            await stage.use(minted, order.secret)
        assert not all(check.ok for check in (await stage.broker.check())[:3])
        # A revocation writes the whole list again; what was revoked stays so.
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved)

    play(server, scene)


def test_the_list_can_be_read_at_every_instant_while_leases_are_revoked(server: SshServer) -> None:
    broken: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            done = subprocess.run(
                ["ssh-keygen", "-Q", "-l", "-f", server.state / "krl"], capture_output=True, text=True
            )
            if done.returncode:
                broken.append(done.stderr)

    async def scene(stage: SshStage) -> None:
        await asyncio.gather(*(stage.broker.revoke([revoke_order(mint_order(stage))]) for _ in range(12)))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        play(server, scene)
    finally:
        stop.set()
        reader.join()
    assert not broken


def test_a_list_that_cannot_be_written_leaves_the_old_one_and_the_revocation_unfinished(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        authority = (server.state / "ca.pub").read_text()
        before = (server.state / "krl").read_bytes()
        (server.state / "ca.pub").write_text("garbage\n")
        with pytest.raises(RemitError) as failed:
            await stage.broker.revoke([revoke_order(order)])
        assert failed.value.code == "access.ssh.helper"
        assert (server.state / "krl").read_bytes() == before
        (server.state / "ca.pub").write_text(authority)
        with pytest.raises(asyncssh.PermissionDenied):
            await stage.use(minted, order.secret)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)

    play(server, scene)


def test_the_certificate_is_worth_nothing_where_the_helper_is_not_asked(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        server.again(RevokedKeys="", AuthorizedPrincipalsCommand="", AuthorizedPrincipalsCommandUser="")
        with pytest.raises(asyncssh.PermissionDenied):
            await stage.use(minted, order.secret)

    play(server, scene)


def test_a_login_is_no_proof_where_the_fresh_certificate_is_refused_too(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        order, _ = await stage.lease()
        server.again(TrustedUserCAKeys="")
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone
        assert isinstance(done.proof, Unproved) and "control" in done.proof.why

    play(server, scene)


def test_a_lease_is_noted_for_a_process_of_sshd_and_for_no_other(server: SshServer) -> None:
    """Whose sshd died while it asked is a child of process 1, and a revocation ends what is noted with all that it runs."""

    async def scene(stage: SshStage) -> None:
        order, _ = await stage.lease()
        lease = json.loads((server.state / "leases" / order.principal).read_text())
        words = [order.principal, str(lease["serial"]), lease["account"], lease["fingerprint"]]
        asked = [str(server.helper), "--state", str(server.state), "principals", *words]
        done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == ""
        assert not (server.state / "sessions" / order.principal).exists()

    play(server, scene)


def test_a_certificate_of_the_same_name_for_another_key_is_not_admitted(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        order, _ = await stage.lease()
        forged = mint_order(stage, principal=order.principal)
        tried = await stage.broker._try(stage.broker._admins[0].host, LOGIN, order.principal, forged.secret)
        assert not tried.admitted

    play(server, scene)


@pytest.mark.parametrize(
    ("role", "words", "allowed"),
    [
        ("", ("-tt", "tty"), False),
        ("pty", ("-tt", "tty"), True),
        ("", ("-W", "127.0.0.1:{port}"), False),
        ("port-forwarding", ("-W", "127.0.0.1:{port}"), True),
        ("source=192.0.2.0/24", ("echo",), False),
    ],
)
def test_a_role_gives_what_it_names_and_no_more(
    server: SshServer, tmp_path: Path, role: str, words: tuple[str, ...], allowed: bool
) -> None:
    async def scene(stage: SshStage) -> None:
        if "source" in role:
            with pytest.raises(RemitError, match="does not work"):
                await stage.lease()
            return
        config = stage.hand_over(*await stage.lease(), tmp_path)
        said = [word.format(port=server.port) for word in words]
        if said[0] == "-W":
            made = subprocess.run(
                ["ssh", "-F", config, *said, "web"],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=60,
            )
            assert ("SSH-2.0" in made.stdout) is allowed, made.stderr
        else:
            assert ("/dev/" in ssh(config, *said).stdout) is allowed

    play(server, scene, roles={"deploy": f"{LOGIN} {role}".strip()})


def test_a_role_with_a_command_runs_that_one_alone(server: SshServer, tmp_path: Path) -> None:
    async def scene(stage: SshStage) -> None:
        config = stage.hand_over(*await stage.lease(), tmp_path)
        done = ssh(config, "id; touch never")
        assert (done.stdout, done.returncode) == ("it's only id; touch never\n", 3)

    play(server, scene, roles={"deploy": f"""{LOGIN} command=echo "it's only $SSH_ORIGINAL_COMMAND"; exit 3"""})


def test_an_exit_code_and_a_signal_come_back_as_without_us(server: SshServer, tmp_path: Path) -> None:
    async def scene(stage: SshStage) -> None:
        config = stage.hand_over(*await stage.lease(), tmp_path)
        assert ssh(config, "exit 7").returncode == 7
        assert ssh(config, "kill -TERM $$").returncode == 255

    play(server, scene)


def test_scp_and_git_find_the_lease(server: SshServer, tmp_path: Path) -> None:
    origin, config = tmp_path / "origin", tmp_path / "ssh_config"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]
    subprocess.run([*git, "init", "-q", origin], check=True)
    subprocess.run([*git, "-C", origin, "commit", "-q", "--allow-empty", "-m", "one"], check=True)

    async def scene(stage: SshStage) -> None:
        stage.hand_over(*await stage.lease(), tmp_path)
        env = {**os.environ, "REMIT_SSH_CONFIG": str(config), "GIT_SSH_COMMAND": 'ssh -F "$REMIT_SSH_CONFIG"'}
        subprocess.run([*git, "clone", "-q", f"web:{origin}", tmp_path / "copy"], env=env, check=True, timeout=60)
        (tmp_path / "f").write_text("sent")
        for mode in ("-s", "-O"):
            subprocess.run(
                ["scp", "-q", mode, "-F", config, tmp_path / "f", f"web:{tmp_path}/g{mode}"], check=True, timeout=60
            )
            assert (tmp_path / f"g{mode}").read_text() == "sent"

    play(server, scene)
    assert (tmp_path / "copy" / ".git").is_dir()


def test_another_host_at_the_same_address_is_refused_by_ssh_and_by_us(server: SshServer, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")

    async def scene(stage: SshStage) -> None:
        order, minted = await stage.lease()
        config = stage.hand_over(order, minted, tmp_path)
        assert ssh(config, "echo ok").stdout == "ok\n"
        server.again(HostKey=str(tmp_path / "other"))
        assert "IDENTIFICATION HAS CHANGED" in ssh(config, "echo ok").stderr
        broker = SshBrokerFactory().make(stage.target, server.secret())
        with pytest.raises(RemitError) as refused:
            await broker.open()
        assert refused.value.code == "access.ssh.host_key"

    assert other != server.host_key
    play(server, scene)


def test_hosts_are_known_by_their_authority(server: SshServer, tmp_path: Path) -> None:
    authority = keygen(tmp_path / "ca")
    shutil.copy(server.folder / "host.pub", tmp_path / "host.pub")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "h", "-h", "-n", "127.0.0.1", tmp_path / "host.pub"],
        check=True,
    )
    server.again(HostCertificate=str(tmp_path / "host-cert.pub"))

    async def scene(stage: SshStage) -> None:
        config = stage.hand_over(*await stage.lease(), tmp_path)
        assert "@cert-authority" in (tmp_path / "web-deploy.known_hosts").read_text()
        assert ssh(config, "echo ok").stdout == "ok\n"

    play(server, scene, host_ca=authority)


def test_a_lease_on_a_group_of_hosts_is_refused_on_each(server: SshServer, tmp_path: Path) -> None:
    authority = keygen(tmp_path / "ca")
    with ssh_server() as second:
        # Both are prepared for the same administrator and the same authority of leases.
        for name in ("admin", "authorized_keys"):
            shutil.copy(server.folder / name, second.folder / name)
        (second.folder / "authorized_keys").write_text(
            (server.folder / "authorized_keys").read_text().replace(str(server.folder), str(second.folder))
        )
        shutil.copy(server.state / "ca.pub", second.state / "ca.pub")
        subprocess.run([second.helper, "--state", second.state, "init"], check=True)
        # The program that certificates name is at one place everywhere.
        for one in (server, second):
            shutil.copy(one.folder / "host.pub", tmp_path / "host.pub")
            words = ["-s", str(tmp_path / "ca"), "-I", "h", "-h", "-n", "127.0.0.1", str(tmp_path / "host.pub")]
            subprocess.run(["ssh-keygen", "-q", *words], check=True)
            shutil.move(tmp_path / "host-cert.pub", one.folder / "host-cert.pub")
            one.again(HostCertificate=str(one.folder / "host-cert.pub"))

        async def scene(stage: SshStage) -> None:
            order, minted = await stage.lease()
            assert (second.state / "leases" / order.principal).exists()
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert isinstance(done.proof, Proved)
            (tmp_path / "c").write_text(minted.settings["certificate"] + "\n")
            assert is_revoked(server, tmp_path / "c") and is_revoked(second, tmp_path / "c")
            second.kill_all()
            with pytest.raises(RemitError) as away:
                await stage.broker.revoke([revoke_order(mint_order(stage))])
            assert away.value.code == "access.ssh.unreachable"

        play(server, scene, host_ca=authority, hosts=f"127.0.0.1:{second.port}")


def test_the_administrators_key_opens_no_shell_and_names_no_other_account(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        admin = stage.broker._admins[0]
        said, _ = await admin.run("id", '{"verb": "list"}\n')
        assert '"names"' in said and "uid=" not in said
        entry = {"principal": principal(), "account": "daemon", "serial": 1, "expires": 1, "until": 1}
        answer = await admin.ask({"verb": "put", "leases": [{**entry, "fingerprint": "SHA256:" + "a" * 43}]})
        assert answer["said"] == ["account"]
        for bad in ("../../etc", "x; id", "root\n"):
            with pytest.raises(RemitError, match="refuses"):
                await admin.ask({"verb": "renew", "names": [bad], "expires": 1})

    play(server, scene)


def test_a_host_without_the_helper_is_told_apart(server: SshServer) -> None:
    away = server.helper.rename(server.folder / "away")

    async def scene(stage: SshStage) -> None:
        [check, *_] = await stage.broker.check()
        assert not check.ok and "install" in check.next_step
        with pytest.raises(RemitError) as failed:
            await stage.lease()
        assert failed.value.code == "access.ssh.not_installed"

    try:
        play(server, scene)
    finally:
        away.rename(server.helper)


def test_every_check_is_good_on_a_host_that_was_prepared(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        bad = {check.title for check in await stage.broker.check() if not check.ok}
        # The stage's sshd goes without PAM, and may be no root's.
        assert bad <= {"no role logs in as root", "login sessions are marked by PAM", "sessions end when Remit is dead"}
        assert await stage.broker.sweep("remitchk") == []

    play(server, scene)


def test_installing_over_the_connection_needs_a_shell_and_then_works(server: SshServer) -> None:
    keys = server.folder / "authorized_keys"
    before = keys.read_text()

    async def scene(stage: SshStage) -> None:
        with pytest.raises(RemitError) as refused:
            await stage.broker.install(INSTANCE)
        assert refused.value.code == "access.ssh.install"
        keys.write_text(" ".join(before.split()[-2:]) + "\n")
        broker = SshBrokerFactory().make(stage.target, server.secret())
        await broker.open()
        try:
            assert await broker.install(INSTANCE) == [f"127.0.0.1:{server.port}"]
        finally:
            await broker.close()

    try:
        play(server, scene)
    finally:
        keys.write_text(before)


def test_a_list_forgets_what_has_expired_everywhere(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        old = datetime.now(UTC) - timedelta(hours=2)
        order = mint_order(stage)
        await stage.broker.mint(order)
        path = server.state / "leases" / order.principal
        path.write_text(path.read_text().replace(str(int(order.expires.timestamp())), str(int(old.timestamp()))))
        await stage.broker.revoke([revoke_order(order)])
        await stage.broker.revoke([revoke_order(mint_order(stage))])
        assert order.principal not in os.listdir(server.state / "gone")

    play(server, scene)


def test_a_connection_that_broke_is_made_again(server: SshServer) -> None:
    async def scene(stage: SshStage) -> None:
        await stage.broker.sweep(INSTANCE)
        server.kill_all()
        server.start()
        assert await stage.broker.sweep(INSTANCE) == []

    play(server, scene)
