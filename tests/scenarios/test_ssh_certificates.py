"""SSH user certificates, judged by a real sshd and by ssh-keygen; tokens at the command line."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Installation, installation
from patience import listens, until_ready
from ports import free_port, on_a_free_port

ME = f"unix:uid:{os.getuid()}"
LOGIN = getpass.getuser()
POLICIES = f"""
@id("read-orders") permit(principal, action == Remit::Action::"token:issue", resource)
when {{ context has scope && context.scope == "read" }};
@id("log-in") permit(principal, action == Remit::Action::"svid:ssh", resource == Remit::Resource::"ssh/{LOGIN}");
"""


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installation() as one:
        one.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/deployer", "--selector", ME)
        (one.root / "p.cedar").write_text(POLICIES)
        one.cli("people", "enrol", "ann")
        one.cli("policy", "apply", one.root / "p.cedar")
        yield one


def server(remit: Installation) -> str:
    """Where the listener for workloads is, as the control plane says."""
    with remit.http("GET", "/healthz") as response:
        return f"https://{json.loads(response.read())['agents']}"


@on_a_free_port
def sshd(folder: Path, authority: str) -> Iterator[int]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("sshd: not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "ca.pub").write_text(authority)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True)
    port = free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "host", "TrustedUserCAKeys": folder / "ca.pub",
        "AuthorizedKeysFile": "none", "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no",
        "SetEnv": f"HOME={folder}", "PermitRootLogin": "yes", "UsePAM": "no", "StrictModes": "no", "PidFile": "none",
    }  # fmt: skip
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
        try:
            until_ready(process, folder / "sshd.log", lambda: listens(port))
            yield port
        finally:
            process.terminate()
            process.wait(60)


def log_in(key: Path, port: int, *, login: str = LOGIN) -> subprocess.CompletedProcess[str]:
    known = "-oUserKnownHostsFile=/dev/null"
    return subprocess.run(
        ["ssh", "-F", "none", "-i", str(key), "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=no", known,
         "-oBatchMode=yes", "-p", str(port), f"{login}@127.0.0.1", "echo", "hello"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_sshd_lets_a_certified_workload_in_and_logs_who_it_is(remit: Installation, tmp_path: Path) -> None:
    with remit.http("GET", "/ssh-ca.pub") as response:
        authority = response.read().decode()
    remit.cli("ssh-cert", "--principal", LOGIN, "--out", tmp_path / "key", "--server", server(remit))
    with sshd(tmp_path, authority) as port:
        done = log_in(tmp_path / "key", port)
        refused = log_in(tmp_path / "key", port, login="nobody")
    log = (tmp_path / "sshd.log").read_text()
    assert done.stdout == "hello\n", done.stderr + log
    assert "spiffe://remit.local/deployer dc_" in log
    assert refused.returncode == 255


def test_the_key_is_private_and_the_certificate_says_what_was_decided(remit: Installation, tmp_path: Path) -> None:
    remit.cli(
        "ssh-cert", "--principal", LOGIN, "--out", tmp_path / "key", "--extension", "permit-pty",
        "--seconds", "60", "--server", server(remit),
    )  # fmt: skip
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", tmp_path / "key-cert.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert "permit-pty" in shown and "port-forwarding" not in shown
    entries = remit.json("ledger", "ls")
    issued = next(each for each in entries if each["type"] == "trust.ssh.issued")
    assert issued["data"]["principals"] == [LOGIN] and issued["data"]["decisions"]


def test_a_login_that_no_policy_allows_is_refused(remit: Installation, tmp_path: Path) -> None:
    done = remit.cli(
        "ssh-cert", "--principal", LOGIN, "--principal", "postgres", "--out", tmp_path / "key",
        "--server", server(remit), code=1,
    )  # fmt: skip
    assert "trust.ssh.denied" in done.stderr and "postgres" in done.stderr
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--principal", "a b"), "trust.ssh.principals"),
        (("--principal", LOGIN, "--extension", "no-touch-required"), "trust.ssh.extensions"),
        (("--principal", LOGIN, "--seconds", "86400"), "trust.ssh.life"),
    ],
)
def test_what_is_asked_wrongly_says_what_is_right(
    remit: Installation, tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    done = remit.cli("ssh-cert", *arguments, "--out", tmp_path / "k", "--server", server(remit), code=2)
    assert code in done.stderr


def test_a_token_carries_what_policy_allows_and_no_more(remit: Installation) -> None:
    told = json.loads(
        remit.cli(
            "token", "fetch", "https://orders.test", "--scope", "read", "--scope", "write",
            "--server", server(remit), "-o", "json",
        ).stdout
    )  # fmt: skip
    assert told["scope"] == "read"


def test_no_grant_no_token(remit: Installation) -> None:
    done = remit.cli("token", "fetch", "https://orders.test", "--scope", "write", "--server", server(remit), code=1)
    assert "client.token.denied" in done.stderr and "eyJ" not in done.stdout + done.stderr


def test_a_control_plane_of_another_name_is_refused(remit: Installation) -> None:
    """A server that is not `spiffe://DOMAIN/remit/server` gets neither the request nor an answer."""
    done = remit.cli("token", "fetch", "https://orders.test", "--server", remit.url.replace("http", "https"), code=3)
    assert "client.server.away" in done.stderr
