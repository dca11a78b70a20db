"""The SSH connector on a real sshd: by a forced command as its manifest says, and on this machine."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remit.inventory.connectors.files.connector import FilesConnector
from remit.inventory.connectors.files.keys import read_ssh_line
from remit.inventory.connectors.ssh import make
from remit.inventory.connectors.ssh_facts import moment, uses
from remit.inventory.connectors.testing import NOW, ConnectorContract, ConnectorStage, facts_of
from remit.inventory.graph import blast, graph_from_facts
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, Skipped
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.kernel.ids import credential_name, name
from remit.providers.ssh.inventory import parse, script
from ssh_stage import LOGIN, SshServer, keygen, ssh_server


@dataclass(frozen=True)
class Planted:
    """A host with keys planted on it."""

    server: SshServer
    fingerprints: dict[str, str]
    """File name → fingerprint of the key in it."""

    @property
    def folder(self) -> Path:
        return self.server.folder

    def connector(self, **options: str) -> object:
        return make(
            f"ssh://{LOGIN}@127.0.0.1:{self.server.port}",
            {"key": str(self.folder / "reader"), "known_hosts": str(self.folder / "known"), **options}, "",
        )  # fmt: skip


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    with ssh_server() as server:
        folder = server.folder
        lines = {each: keygen(folder / each) for each in ("reader", "shared", "authority", "old", "late")}
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", folder / "weak"], check=True)
        lines["weak"] = " ".join((folder / "weak.pub").read_text().split()[:2])
        lines["host"] = server.host_key
        log = folder / "sshd.log"
        show = subprocess.run(["ssh-keygen", "-lf", folder / "shared.pub"], capture_output=True, text=True, check=True)
        shown = show.stdout.split()[1]
        log.write_text(
            f"2026-11-20T10:00:00+01:00 web sshd[1]: Accepted publickey for {LOGIN} from 10.0.0.7 port 22 ssh2: ED25519 {shown}\n"
            f"2026-11-21T10:00:00Z web sshd[1]: Accepted publickey for {LOGIN} from 10.0.0.8 port 22 ssh2: ED25519 {shown}\n"
            f"2026-11-21T10:00:00Z web sshd[1]: Accepted password for {LOGIN} from 10.0.0.9 port 22 ssh2\n"
            f"2026-11-21T11:00:00Z web sshd[1]: Accepted publickey for {LOGIN} from 10.0.0.9 port 22 ssh2: RSA SHA256:{'A' * 43}\n"
            + "x" * 1_000_000 + "\n"
        )  # fmt: skip
        facts_script = folder / "remit-ssh-facts"
        facts_script.write_text("#!/bin/sh\n" + script(config=str(folder / "sshd_config"), log=str(log)))
        facts_script.chmod(0o755)
        with (folder / "authorized_keys").open("a") as keys:
            keys.write(f'restrict,command="{facts_script}" {lines["reader"]} reader\n')
            keys.write(
                f'from="10.0.0.0/8",expiry-time="20270101" {lines["shared"]} shared\n{lines["weak"]}\nbroken line\n'
                f'expiry-time="20200101" {lines["late"]} late\n'
            )
        (folder / "ca.pub").write_text(lines["authority"] + "\n")
        (folder / "known").write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        keygen(folder / "another")
        server.options |= {"TrustedUserCAKeys": str(folder / "ca.pub"), "PasswordAuthentication": "yes"}
        server.again()
        yield Planted(server, {key: read_ssh_line(line.split()[1]).fingerprint for key, line in lines.items()})


@pytest.fixture(scope="module")
def facts(planted: Planted) -> list[Fact]:
    return facts_of(planted.connector())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def host(planted: Planted) -> str:
    connector = make("local", {}, "")
    connector.open()
    return connector.instance


@pytest.fixture(scope="module")
def stage(planted: Planted, host: str) -> ConnectorStage:
    return ConnectorStage(
        connector=planted.connector,  # type: ignore[arg-type]
        expected=[planted.fingerprints[each] for each in ("shared", "authority", "weak", "host")]
        + [name("host", host, "unix-account", LOGIN), name("host", host, "service", "sshd")],
        secrets=[(planted.folder / "reader").read_text()],
        refused=lambda: planted.connector(key=str(planted.folder / "another")),  # type: ignore[arg-type,return-value]
    )


class TestSsh(ConnectorContract):
    pass


def test_a_key_opens_the_account_under_the_conditions_of_its_line_alone(planted: Planted, facts: list[Fact]) -> None:
    account = next(f.name for f in facts if isinstance(f, IdentityFact) and f.name.endswith(f":unix-account:{LOGIN}"))
    graph = graph_from_facts(facts)

    def opens(key: str) -> bool | None:
        found = {each.node.name: each.conditional for each in blast(graph, credential_name(planted.fingerprints[key]))}
        return None if account not in found else not found[account]

    assert (opens("weak"), opens("reader"), opens("shared"), opens("late")) == (True, False, False, None)


def rules(facts: list[Fact]) -> set[str]:
    return {fact.rule for fact in facts if isinstance(fact, FindingFact)}


def test_the_forced_command_is_all_that_the_key_can_run(planted: Planted) -> None:
    said = subprocess.run(
        ["ssh", "-F", "none", "-i", planted.folder / "reader", "-o", f"UserKnownHostsFile={planted.folder / 'known'}",
         "-o", "IdentitiesOnly=yes", "-p", str(planted.server.port), f"{LOGIN}@127.0.0.1", "cat /etc/passwd"],
        capture_output=True, stdin=subprocess.DEVNULL, check=True,
    ).stdout  # fmt: skip
    assert said.startswith(b"machine ") and said.endswith(b"end\n")


def test_a_key_in_a_home_in_authorized_keys_and_in_the_log_is_one(
    planted: Planted, facts: list[Fact], host: str
) -> None:
    home = planted.folder / "home" / ".ssh"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(planted.folder / "shared", home / "id_ed25519")
    fingerprint = planted.fingerprints["shared"]
    by_files = facts_of(FilesConnector(home, instance=host))
    assert fingerprint in {fact.fingerprint for fact in by_files if isinstance(fact, CredentialFact)}
    seen = [fact for fact in facts if isinstance(fact, CredentialFact) and fact.fingerprint == fingerprint]
    assert {fact.last_used for fact in seen} == {None, datetime(2026, 11, 21, 10, 0, tzinfo=UTC)}
    assert {fact.identity for fact in seen} >= {name("host", host, "unix-account", LOGIN)}
    used = next(fact for fact in seen if fact.last_used)
    assert used.attributes["uses"] == 2 and used.attributes["used_from"] == "10.0.0.7, 10.0.0.8"


def test_options_of_a_line_are_conditions_and_its_expiry(planted: Planted, facts: list[Fact], host: str) -> None:
    node = credential_name(planted.fingerprints["shared"])
    account = name("host", host, "unix-account", LOGIN)
    found = [f for f in facts if isinstance(f, EdgeFact) and (f.source, f.target) == (node, account)]
    assert ("from 10.0.0.0/8",) in {fact.conditions for fact in found}
    ends = {
        f.expires for f in facts if isinstance(f, CredentialFact) and f.fingerprint == planted.fingerprints["shared"]
    }
    assert datetime(2027, 1, 1, tzinfo=UTC) in ends


def test_an_authority_of_users_opens_the_accounts(planted: Planted, facts: list[Fact], host: str) -> None:
    node = credential_name(planted.fingerprints["authority"])
    found = next(fact for fact in facts if isinstance(fact, EdgeFact) and fact.source == node)
    assert "by a certificate it signed" in found.conditions[0]


def test_what_is_wrong_is_found(facts: list[Fact]) -> None:
    assert rules(facts) >= {
        "ssh.password-authentication", "ssh.root-login", "ssh.weak-key", "ssh.standing-ssh-access", "ssh.password-login",
        "ssh.used-key-untrusted", "ssh.shared-key",
    }  # fmt: skip


def test_lines_that_are_no_keys_are_said(facts: list[Fact]) -> None:
    assert "malformed" in {fact.reason for fact in facts if isinstance(fact, Skipped)}


def test_this_machine_is_read_without_ssh(host: str, planted: Planted) -> None:
    found = facts_of(make("local", {"config": str(planted.folder / "sshd_config")}, ""))
    assert name("host", host, "service", "sshd") in {fact.name for fact in found if isinstance(fact, IdentityFact)}


def test_another_host_is_refused(planted: Planted) -> None:
    line = (planted.folder / "another.pub").read_text()
    (planted.folder / "wrong").write_text(f"[127.0.0.1]:{planted.server.port} {line}")
    with pytest.raises(Rejected) as refused:
        planted.connector(known_hosts=str(planted.folder / "wrong")).open()  # type: ignore[attr-defined]
    assert refused.value.code == "inventory.ssh.host_key"


def test_an_answer_that_breaks_off_retires_nothing() -> None:
    with pytest.raises(Unavailable) as broken:
        parse(b"machine  L2V0Yw== eA==\n", "web")
    assert broken.value.code == "inventory.ssh.cut_short"


def test_the_script_takes_hostile_paths_as_they_are() -> None:
    text = script(config="/tmp/a'; touch /tmp/never; '", log="$(id)")
    assert text.splitlines()[0] == "CONFIG=" + shlex.quote("/tmp/a'; touch /tmp/never; '")


@pytest.mark.parametrize("source", ["", "web", "ssh://web", "ssh://root:word@web", "https://root@web"])
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises((Rejected, Misconfigured)):
        make(source, {"known_hosts": "/dev/null"}, "")


def test_times_of_a_log_have_a_zone_and_perhaps_no_year() -> None:
    assert moment("2026-11-20T10:00:00+01:00 web ", NOW, "+0000") == datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert moment("Nov 20 10:00:00 web ", NOW, "+0200") == datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert moment("Dec 24 10:00:00 web ", NOW, "+0000") == datetime(2025, 12, 24, 10, tzinfo=UTC)
    assert moment("Feb 30 10:00:00 web ", NOW, "+0000") is None
    line = b"Accepted publickey for a from b from 10.0.0.1 port 1 ssh2: RSA SHA256:" + b"B" * 43 + b"\n"
    assert [(used.account, used.last) for used in uses([("log", line)], NOW + timedelta(), "")] == [("a from b", None)]
