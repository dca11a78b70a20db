"""A real sshd with its own folder, prepared as `remit target install` does it, and a broker on it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from patience import listens, until_ready
from ports import free_port, on_a_free_port
from remit.access.brokers.presentation import DIRECTORY, Credential
from remit.access.brokers.ssh import SshBroker, SshBrokerFactory
from remit.access.brokers.ssh_script import sshd_settings
from remit.access.brokers.ssh_settings import decode_options
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order

LOGIN = getpass.getuser()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Look until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.02)


def keygen(path: Path, *words: str) -> str:
    """Make a key; its public line without the remark."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path, *words], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@dataclass(slots=True)
class SshServer:
    """A running sshd whose users' certificates the helper answers for."""

    folder: Path
    port: int
    host_key: str
    options: dict[str, str] = field(default_factory=dict)
    """Of sshd."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def helper(self) -> Path:
        return self.folder / "remit-ssh-target"

    def secret(self) -> str:
        return (self.folder / "admin").read_text()

    def target(self, *, name: str = "web", roles: Mapping[str, str] | None = None, **options: str) -> Target:
        known = {} if "host_ca" in options else {"host_key": self.host_key}
        return Target(
            name=name, system="ssh", host="127.0.0.1", port=self.port, database="", user=LOGIN,
            roles=roles or {"deploy": LOGIN},
            options={**known, "helper": str(self.helper), "state": str(self.state), **options},
        )  # fmt: skip

    def install(self, broker: SshBroker) -> None:
        """Run what `remit target install --print` shows."""
        subprocess.run(["/bin/sh", "-s"], input=broker.install_script("test0001"), text=True, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip

    def configure(self, **changes: str) -> None:
        """Write sshd's configuration; an empty value leaves a line out."""
        said = {**self.options, **changes}
        lines = [f"{key} {value}" for key, value in said.items() if value]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program(), "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL
            )
        until_ready(self.process, self.folder / "log", self.listens)

    def again(self, **changes: str) -> None:
        """Another configuration; connections that live go on."""
        self.kill()
        self.configure(**changes)
        self.start()

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_all(self) -> None:
        """As a machine that is switched off: its connections go too."""
        assert self.process is not None
        children = [pid for pid, parent in _parents() if parent == self.process.pid]
        self.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def listens(self) -> bool:
        return listens(self.port)

    def log(self) -> str:
        return (self.folder / "log").read_text()


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def program() -> str:
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip("sshd: not installed")
    return found


@on_a_free_port
def ssh_server(**changes: str) -> Iterator[SshServer]:
    """An sshd on a free port, prepared for a target in the role `deploy`.

    Sessions have a home without anything in it: what the real one's `.bashrc` runs may wait a minute for a lock that
    was left by a session of ours that was killed, as `pyenv init` does.
    """
    program()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="remit-ssh-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "home").mkdir(mode=0o755)
    port = free_port()
    server = SshServer(folder, port, keygen(folder / "host"))
    admin = keygen(folder / "admin")
    forced = f'restrict,command="{server.helper} --state {server.state} admin"'
    (folder / "authorized_keys").write_text(f"{forced} {admin}\n")
    target = server.target()
    broker = SshBrokerFactory().make(target, server.secret())
    lines = sshd_settings(decode_options(target)).replace("CommandUser root", f"CommandUser {LOGIN}").splitlines()
    server.options = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": str(folder / "host"), "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": str(folder / "authorized_keys"), "PasswordAuthentication": "no", "StrictModes": "no",
        "KbdInteractiveAuthentication": "no", "PermitRootLogin": "yes", "LogLevel": "VERBOSE",
        "Subsystem": "sftp internal-sftp", "SetEnv": f"HOME={folder / 'home'}", **{line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines},
        **changes,
    }  # fmt: skip
    try:
        server.install(broker)
        server.configure()
        server.start()
        yield server
    finally:
        server.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class Session:
    """A task's connection."""

    connection: asyncssh.SSHClientConnection

    async def work(self) -> None:
        done = await self.connection.run("echo works", check=True, timeout=60)
        assert done.stdout == "works\n"

    async def run(self, command: str) -> str:
        done = await self.connection.run(command, timeout=60)
        return str(done.stdout) + str(done.stderr)

    async def close(self) -> None:
        self.connection.close()
        await self.connection.wait_closed()


@dataclass(slots=True)
class SshStage:
    """`BrokerStage` on a real sshd."""

    server: SshServer
    broker: SshBroker
    target: Target
    role: str = LOGIN
    database: str = ""
    sessions: list[asyncssh.SSHClientConnection] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> Session:
        from remit.providers.ssh.certificates import private_text, user_key

        key = asyncssh.import_private_key(private_text(user_key(secret)))
        certificate = asyncssh.import_certificate(minted.settings["certificate"])
        made = await asyncssh.connect(
            "127.0.0.1", self.server.port, username=minted.settings["user"], client_keys=[(key, certificate)],
            known_hosts=asyncssh.import_known_hosts(minted.settings["known_hosts"]), config=None, agent_path=None,
        )  # fmt: skip
        self.sessions.append(made)
        return Session(made)

    async def lease(self, **changes: Any) -> tuple[MintOrder, Minted]:
        order = mint_order(self, **changes)
        return order, await self.broker.mint(order)

    def hand_over(self, order: MintOrder, minted: Minted, folder: Path) -> Path:
        """Write the files of a lease as `remit run` does; the configuration of ssh."""
        credential = Credential(target="web", role="deploy", settings=minted.settings, secret=order.secret)
        for name, text in SshBrokerFactory().present(credential).files.items():
            path = folder / name
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(text.replace(DIRECTORY, str(folder)))
        return folder / "ssh_config"

    async def admit_anyone(self) -> None:
        self.server.again(RevokedKeys="", AuthorizedPrincipalsCommand="/bin/echo %i")

    async def stop(self) -> None:
        self.server.kill_all()


@asynccontextmanager
async def ssh_stage(server: SshServer, **options: Any) -> AsyncIterator[SshStage]:
    """A broker that is open on `server`."""
    target = server.target(**options)
    broker = SshBrokerFactory().make(target, server.secret())
    await broker.open()
    stage = SshStage(server, broker, target, role=next(iter(target.roles.values())))
    try:
        yield stage
    finally:
        await broker.close()
        for session in stage.sessions:
            session.abort()
            await session.wait_closed()
