"""`remit run` on a real OpenLDAP with ldap-utils: the plain clients work, and their login dies with the task."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_stage import Stage, stage, summary, until

from ldap_stage import BASE, BROKER, ORDER, READERS, SUFFIX, LdapServer, bare, ldap_server
from remit.access.model import Target

NEEDS = ["ldap://people?role=read"]


@pytest.fixture(scope="module")
def server() -> Iterator[LdapServer]:
    with ldap_server() as running:
        yield running


@pytest.fixture
def made(server: LdapServer) -> Iterator[Stage]:
    async def add(state: object) -> None:
        targets = state.targets  # type: ignore[attr-defined]
        where = targets.locate("ldap", f"ldaps://{BROKER}@127.0.0.1:{server.tls_port}/{BASE}?ca={server.ca}")
        target = Target(
            name="people",
            system="ldap",
            host=where.host,
            port=where.port,
            database=where.database,
            user=where.user,
            roles={"read": READERS},
            options=where.options,
        )
        await targets.add(target, server.password, actor="person:ann")

    with stage() as scene:
        scene.env["HOME"] = str(scene.folder)
        scene.arrange(add)
        yield scene


def task(made: Stage, text: str) -> str:
    """A script, registered as the task `script`."""
    path = made.folder / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    made.register("script", str(path))
    made.start_agent()
    return str(path)


def test_ldapwhoami_is_that_principal_and_afterwards_it_is_refused(made: Stage, server: LdapServer) -> None:
    kept = made.folder / "seen"
    script = task(
        made,
        f'cat "$LDAP_PASSWORD_FILE" > {kept}\nldapwhoami -x -y "$LDAP_PASSWORD_FILE"\n'
        f'ldapsearch -x -y "$LDAP_PASSWORD_FILE" -LLL -s base -b {ORDER} description',
    )
    done = made.run("script", script, needs=NEEDS, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    name = done.stdout.splitlines()[0].removeprefix("dn:")
    assert name.startswith("cn=remit_scene001_") and "description: one order" in done.stdout
    refused = subprocess.run(
        ["ldapwhoami", "-x", "-H", f"ldap://127.0.0.1:{server.port}", "-D", name, "-y", str(kept)],
        capture_output=True, text=True, timeout=60, check=False, env=bare(),
    )  # fmt: skip
    assert (refused.returncode, "Invalid credentials (49)" in refused.stderr) == (49, True)
    assert summary(done.stderr)["leases"][0]["refusal"].startswith("49 invalidCredentials")
    assert not server.names()


def test_the_task_has_its_role_and_no_more(made: Stage, server: LdapServer) -> None:
    script = task(
        made,
        f'ldapsearch -x -y "$LDAP_PASSWORD_FILE" -LLL -s base -b {BROKER} 2>&1\n'
        f'printf "dn: {ORDER}\\nchangetype: delete\\n" | ldapmodify -x -y "$LDAP_PASSWORD_FILE" 2>&1',
    )
    done = made.run("script", script, needs=NEEDS)
    assert "No such object (32)" in done.stdout and "Insufficient access (50)" in done.stdout


def test_a_killed_supervisor_leaves_no_entry_and_no_member(made: Stage, server: LdapServer) -> None:
    script = task(made, f'ldapwhoami -x -y "$LDAP_PASSWORD_FILE" > {made.folder}/who\nsleep 60')
    running = subprocess.Popen(made.command("script", script, needs=NEEDS), env=made.env, stderr=subprocess.PIPE)
    until(lambda: Path(made.folder, "who").exists())
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not server.names())
    assert server.values(READERS, "member") == [READERS]


def test_the_secret_is_in_a_private_file_and_with_env_alone_in_the_environment(made: Stage, server: LdapServer) -> None:
    script = task(made, "env; ls -l $REMIT_CREDENTIALS")
    plain = made.run("script", script, needs=NEEDS)
    shown = made.run("script", script, needs=NEEDS, options=["--env"])
    assert f"LDAPBASE={SUFFIX}" in plain.stdout and "LDAP_PASSWORD=" not in plain.stdout
    assert "LDAP_PASSWORD=" in shown.stdout
    assert "-rw------- " in plain.stdout and "people-read.ldap-password" in plain.stdout
