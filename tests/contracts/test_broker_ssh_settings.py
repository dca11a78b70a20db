"""What a target of the system `ssh` may say, and what it is told where it says something else. No server."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

from remit.access.brokers.presentation import Credential
from remit.access.brokers.ssh import SshBrokerFactory
from remit.access.brokers.ssh_settings import Role, decode_options, read_role
from remit.access.model import Target
from remit.kernel.errors import RemitError
from remit.providers.ssh.certificates import Certificate, public_line, read_keys, serial_of, user_key
from ssh_stage import keygen

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA" + "a" * 42
PRINCIPAL = "remit_test0001_01m836b8arqcd2h3gn87w65g8n"


def target(**changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "web", "system": "ssh", "host": "web.test", "port": 22, "database": "", "user": "root",
        "roles": {"deploy": "deploy"}, "options": {"host_key": KEY},
    }  # fmt: skip
    return Target(**(values | changes))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "access.ssh.host_unknown"),
        ({"host_key": KEY, "hosts": "b.test"}, "access.ssh.host_unknown"),
        ({"host_key": "garbage"}, "access.target.option"),
        ({"host_key": f"{KEY} root@web"}, "access.target.option"),
        ({"host_key": KEY, "colour": "red"}, "access.target.option"),
        ({"host_key": KEY, "helper": "/bin/sh -c 'x'"}, "access.target.option"),
        ({"host_key": KEY, "state": "relative"}, "access.target.option"),
        ({"host_ca": KEY, "hosts": "b.test:0"}, "access.target.option"),
        ({"host_ca": KEY, "hosts": "b test"}, "access.target.option"),
    ],
)
def test_an_option_that_is_not_understood_is_named(options: dict[str, str], code: str) -> None:
    with pytest.raises(RemitError) as refused:
        decode_options(target(options=options))
    assert refused.value.code == code and refused.value.next_step


def test_a_role_is_an_account_and_what_its_sessions_may() -> None:
    said = read_role("ops pty source=10.0.0.0/8,::1/128 command=systemctl restart web command=x")
    assert said == Role(
        account="ops", extensions=("permit-pty",), sources=("10.0.0.0/8", "::1/128"),
        command="systemctl restart web command=x",
    )  # fmt: skip


@pytest.mark.parametrize("role", ["", "-oProxyCommand", "a;b", "ops shell", "ops source=here", "ops command= ", "Ops"])
def test_a_role_that_is_none_is_refused(role: str) -> None:
    with pytest.raises(RemitError) as refused:
        read_role(role)
    assert refused.value.code == "access.ssh.role"


def test_a_key_in_one_line_is_read_and_the_authority_comes_from_it_or_from_a_second(tmp_path: Path) -> None:
    keygen(tmp_path / "admin")
    authority = keygen(tmp_path / "authority")
    admin = (tmp_path / "admin").read_text()
    one = read_keys(admin)
    assert public_line(one.authority) == public_line(read_keys(admin.replace("\n", " ")).authority)
    assert public_line(one.authority) not in (authority, (tmp_path / "admin.pub").read_text())
    two = read_keys((admin + (tmp_path / "authority").read_text()).replace("\n", " "))
    assert public_line(two.authority) == authority
    assert "PRIVATE" not in repr(one)


def test_a_key_with_a_passphrase_or_none_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    words = ["-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "locked")]
    subprocess.run(["ssh-keygen", *words], check=True)
    for text in ("", "hunter2", (tmp_path / "locked").read_text()):
        with pytest.raises(RemitError) as refused:
            SshBrokerFactory().make(target(), text)
        assert refused.value.code == "access.ssh.keys"
        assert not text or text[:40] not in str(refused.value)


def test_a_certificate_is_the_same_bytes_again_and_its_signature_verifies() -> None:
    authority, key = user_key("authority"), user_key("task")
    made = Certificate(
        principal=PRINCIPAL, after=1, before=9, critical={"force-command": "x"}, extensions=("permit-pty",)
    )
    line = made.signed(authority, key)
    assert line == made.signed(authority, key)
    read: Any = load_ssh_public_identity(line.encode())
    read.verify_cert_signature()
    assert (read.serial, read.key_id, list(read.valid_principals)) == (
        serial_of(PRINCIPAL),
        PRINCIPAL.encode(),
        [PRINCIPAL.encode()],
    )
    assert (read.valid_after, read.valid_before) == (1, 9)
    assert read.critical_options == {b"force-command": b"x"} and read.extensions == {b"permit-pty": b""}


def test_each_host_of_a_group_has_its_section_and_each_role_its_name() -> None:
    credential = Credential(
        target="web", role="deploy", secret="s",
        settings={"user": "ops", "hosts": "a.test 22,b.test 2222", "certificate": "c", "known_hosts": "k\n"},
    )  # fmt: skip
    shown = SshBrokerFactory().present(credential)
    heads = [line for line in shown.files["ssh_config"].splitlines() if line.startswith("Host ")]
    assert heads == ["Host web web-deploy a.test", "Host b.test"]
    assert "Port 2222" in shown.files["ssh_config"]
    assert "SSH_AUTH_SOCK" in shown.stale


def test_a_url_names_an_administrator_and_no_password() -> None:
    where = SshBrokerFactory().locate("ssh://ops@web.test")
    assert (where.host, where.port, where.user) == ("web.test", 22, "ops")
    with pytest.raises(RemitError) as refused:
        SshBrokerFactory().locate("ssh://ops:x@web.test")
    assert refused.value.code == "access.target.password_in_url"
