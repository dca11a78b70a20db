"""A real rabbitmq-server with its management API: private node name, folders and ports, ended by its pid."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from patience import listens, until_ready
from ports import free_ports, on_a_free_port

_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitServer:
    """A running server with an administrator `remit_admin`."""

    amqp: int
    management: int
    password: str
    folder: Path
    environment: dict[str, str] = field(repr=False)
    host: str = "127.0.0.1"
    user: str = "remit_admin"

    def ask(self, method: str, path: str, body: object = None) -> httpx2.Response:
        """The management API, as the administrator."""
        return httpx2.request(
            method,
            f"http://{self.host}:{self.management}/api/{path}",
            auth=(self.user, self.password),
            json=body,
            timeout=60,
            trust_env=False,
        )

    def evaluate(self, erlang: str) -> str:
        """Run Erlang in the server (`rabbitmqctl eval`)."""
        done = subprocess.run(
            ["rabbitmqctl", "-q", "eval", erlang], env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@on_a_free_port
def rabbitmq_server() -> Iterator[RabbitServer]:
    """Slow to start (seconds): one for a module. Skips without rabbitmq-server."""
    program = shutil.which("rabbitmq-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/rabbitmq/bin")
    if program is None:
        pytest.skip("rabbitmq-server: not installed")
    folder = Path(tempfile.mkdtemp(prefix="remit-rabbit-", dir="/tmp"))
    amqp, management, distribution, mapper = free_ports(4)
    password = secrets.token_urlsafe(24)
    name = f"remit{secrets.token_hex(4)}@localhost"
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        f"default_user = remit_admin\ndefault_pass = {password}\n"
        "default_user_tags.administrator = true\n"
    )
    (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
    for each in ("mnesia", "log"):
        (folder / each).mkdir()
    cookie = folder / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    root = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    environment = {
        "PATH": ":".join([*(str(each) for each in root), os.environ.get("PATH", ""), "/usr/sbin"]),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
    }
    # The port mapper is ours, in the foreground, so that it too is ended by its pid.
    epmd = subprocess.Popen(
        [shutil.which("epmd") or "epmd", "-port", str(mapper), "-address", "127.0.0.1"], env=environment
    )
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            ["rabbitmq-server"], env=environment, stdout=out, stderr=out, cwd=folder, start_new_session=True
        )
    server = RabbitServer(amqp=amqp, management=management, password=password, folder=folder, environment=environment)
    try:
        _wait(server, process)
        yield server
    finally:
        # The shell that starts the server is the leader of its group: the whole group is ours.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        epmd.kill()
        epmd.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: RabbitServer, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        time.sleep(0.1)
        with suppress(httpx2.HTTPError):
            return server.ask("GET", "overview").status_code == 200 and listens(server.amqp)
        return False

    until_ready(process, server.folder / "out", answers, seconds=_SECONDS)
