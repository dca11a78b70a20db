"""`remit run` on a real sshd: plain `ssh` finds its certificate, and it dies with the task, with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from run_stage import Stage, stage, summary, until

from installation import installation
from ssh_stage import LOGIN, SshServer, ssh_server

NEEDS = ["ssh://web?role=deploy"]


@pytest.fixture
def scene() -> Iterator[tuple[Stage, SshServer]]:
    with ssh_server() as server, stage() as made:
        made.arrange(lambda state: state.targets.add(server.target(), server.secret(), actor="person:ann"))
        yield made, server


def register(made: Stage, text: str) -> list[str]:
    script = made.folder / "deploy.sh"
    script.write_text(text)
    made.register("deploy", "/bin/sh", str(script))
    made.start_agent()
    return ["/bin/sh", str(script)]


def sleeping(number: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", number.encode()]:
                    return True
    return False


def test_plain_ssh_works_and_a_copy_of_its_files_is_refused_after_the_task(scene: tuple[Stage, SshServer]) -> None:
    made, server = scene
    copy = made.folder / "copy"
    command = register(
        made,
        f"""set -e
        ssh -F "$REMIT_SSH_CONFIG" web echo in
        git ls-remote --heads web:{made.folder}/repository
        test -z "$SSH_AUTH_SOCK"
        cp -r "$REMIT_CREDENTIALS" {copy}
        sed -i "s|$REMIT_CREDENTIALS|{copy}|" {copy}/ssh_config
        """,
    )
    subprocess.run(["git", "init", "-q", "--bare", made.folder / "repository"], check=True)
    made.env["SSH_AUTH_SOCK"] = "/nowhere"
    done = made.run("deploy", *command, needs=NEEDS, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "in\n"
    [lease] = summary(done.stderr)["leases"]
    assert lease.get("refusal", "").startswith("Permission denied"), lease
    assert "fresh certificate" in lease["control"]
    again = subprocess.run(["ssh", "-F", copy / "ssh_config", "web", "echo in"], capture_output=True, text=True)
    assert again.returncode == 255 and "Permission denied" in again.stderr
    assert not os.listdir(server.state / "leases")


def test_a_killed_supervisor_ends_the_connection_and_what_it_started(scene: tuple[Stage, SshServer]) -> None:
    made, server = scene
    number = f"7100{os.getpid()}"
    command = register(made, f'exec ssh -F "$REMIT_SSH_CONFIG" web "setsid nohup sleep {number} & sleep 600"')
    running = subprocess.Popen(
        made.command("deploy", *command, needs=NEEDS), env=made.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    until(lambda: sleeping(number))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not sleeping(number))
    until(lambda: not os.listdir(server.state / "leases"))


def test_a_target_is_added_and_its_host_prepared_at_the_command_line() -> None:
    with ssh_server() as server, installation() as remit:
        remit.cli("people", "enrol", "ann")
        options = [word for key, value in server.target().options.items() for word in ("--option", f"{key}={value}")]
        done = remit.cli(
            "target", "add", "ssh", "--name", "web", "--url", f"ssh://{LOGIN}@127.0.0.1:{server.port}",
            "--role", f"deploy={LOGIN} pty", *options, "--password-stdin", stdin=" ".join(server.secret().split("\n")) + "\n",
        )  # fmt: skip
        assert "sshd admits a lease until it is revoked" in done.stdout
        shown = remit.cli("target", "install", "web", "--print").stdout
        assert f"RevokedKeys {server.state}/krl" in shown
        subprocess.run(["/bin/sh", "-s"], input=shown, text=True, check=True, stdout=subprocess.DEVNULL)
