"""The connector of logs, on what a real sshd wrote."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.connectors.use import UseConnector
from remit.inventory.use.model import UseFact
from remit.inventory.use.readers.sshd import key_name
from remit.kernel.ids import name
from ssh_stage import SshServer, keygen, ssh_server, until


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with ssh_server() as made:
        public = keygen(made.folder / "user")
        keys = made.folder / "authorized_keys"
        keys.write_text(keys.read_text() + public + "\n")
        _login(made, "user")
        keygen(made.folder / "stranger")
        _login(made, "stranger")
        until(lambda: "Accepted publickey" in made.log())
        yield made


def _login(server: SshServer, key: str) -> None:
    subprocess.run(
        ["ssh", "-F", "none", "-i", str(server.folder / key), "-p", str(server.port), "-o", "BatchMode=yes",
         "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
         f"{_user()}@127.0.0.1", "true"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def _user() -> str:
    import getpass

    return getpass.getuser()


def _shown(server: SshServer, key: str) -> str:
    said = subprocess.run(["ssh-keygen", "-lf", str(server.folder / f"{key}.pub")], capture_output=True, check=True)
    return said.stdout.decode().split()[1]


def _connector(server: SshServer) -> UseConnector:
    return UseConnector(server.folder / "log", "sshd", instance="host-1")


@pytest.fixture(scope="module")
def stage(server: SshServer) -> ConnectorStage:
    return ConnectorStage(
        connector=lambda: _connector(server),
        expected=(),
        refused=lambda: UseConnector(server.folder / "nothing", "sshd", instance="host-1"),
    )


class TestUse(ConnectorContract):
    """On the log of an sshd."""


def test_a_login_is_a_use_of_the_account_and_of_the_key_as_ssh_shows_it(server: SshServer) -> None:
    rows = {row.name: row for fact in facts_of(_connector(server)) if isinstance(fact, UseFact) for row in fact.rows}
    assert rows[name("host", "host-1", "unix-account", _user())].count == 1
    assert rows[key_name(_shown(server, "user"))].count == 1
    assert rows[key_name(_shown(server, "user"))].consumers == {"127.0.0.1 ssh publickey": 1}
    assert key_name(_shown(server, "stranger")) not in {each for each, row in rows.items() if row.count}
