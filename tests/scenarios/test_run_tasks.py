"""`remit run` against an agent in its own process: what a task gets, and what becomes of it when it ends, however."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from run_stage import Stage, children_of, stage, summary, until

SLEEP = ("sleep", "60")


@pytest.fixture
def scene() -> Iterator[Stage]:
    with stage() as made:
        made.register("sleep", *SLEEP)
        made.register("shell", "sh", "-c", "exit 7")
        yield made


def until_it_sleeps(running: subprocess.Popen[str]) -> None:
    """Until the child has executed its file; before that it waits in the supervisor's own program."""

    def sleeps() -> bool:
        with suppress(OSError):
            return any(
                Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/sleep")
                for child in children_of(running.pid)
            )
        return False

    until(sleeps)


def job(scene: Stage, text: str) -> str:
    path = scene.folder / "job.py"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    scene.register("job", str(path))
    return str(path)


def test_the_exit_code_is_the_command_s_own_and_the_lease_is_revoked_with_proof(scene: Stage) -> None:
    scene.start_agent()
    done = scene.run("shell", "sh", "-c", "exit 7", options=["--format", "json"])
    assert done.returncode == 7
    assert [lease["state"] for lease in summary(done.stderr)["leases"]] == ["revoked"]
    assert not scene.credentials()
    scene.kill_agent()
    assert len(scene.recorded("access.lease.revoked")) == 1


def test_the_task_gets_a_credential_that_works_by_private_file(scene: Stage) -> None:
    path = job(
        scene,
        "import json, os, pathlib, stat\n"
        "folder = pathlib.Path(os.environ['REMIT_CREDENTIALS'])\n"
        "file = folder / 'orders-read.json'\n"
        "said = json.loads(file.read_text())\n"
        "stored = pathlib.Path(said['settings']['folder'], said['settings']['user']).read_text()\n"
        "modes = [oct(stat.S_IMODE(p.stat().st_mode)) for p in (folder, file)]\n"
        "print(json.dumps([stored == said['secret'], modes, str(folder), said['secret'] in str(dict(os.environ))]))\n",
    )
    scene.start_agent()
    done = scene.run("job", path)
    works, modes, folder, in_environment = json.loads(done.stdout)
    assert (works, modes, in_environment) == (True, ["0o700", "0o600"], False)
    assert not Path(folder).exists()


def test_env_hands_the_secret_over_in_the_environment_when_asked(scene: Stage) -> None:
    path = job(
        scene, "import os\nprint(os.environ['ORDERS_READ_URL'].split(':')[0], 'ORDERS_WRITE_URL' in os.environ)\n"
    )
    scene.start_agent()
    needs = ["folder://orders?role=read", "folder://orders?role=write"]
    assert scene.run("job", path, needs=needs, options=["--env"]).stdout == "folder True\n"


def test_an_unknown_task_is_refused_with_the_command_that_registers_it(scene: Stage) -> None:
    scene.start_agent()
    done = scene.run("nightly", *SLEEP)
    assert done.returncode == 125
    assert "remit task add nightly --identity ID -- " in done.stderr
    assert "sleep 60" in done.stderr


def test_a_changed_script_is_refused_and_nothing_is_minted(scene: Stage) -> None:
    path = job(scene, "print('v1')\n")
    Path(path).write_text(f"#!{sys.executable}\nprint('v2')\n")
    scene.start_agent()
    done = scene.run("job", path)
    assert (done.returncode, done.stdout) == (125, "")
    assert "the script differs" in done.stderr
    scene.kill_agent()
    assert not scene.recorded("access.lease.issuing")


def test_other_arguments_of_a_pinned_command_are_refused(scene: Stage) -> None:
    scene.start_agent()
    assert scene.run("shell", "sh", "-c", "exit 8").returncode == 125


def test_a_denied_need_is_refused_with_the_reason(scene: Stage) -> None:
    (scene.folder / "denied").touch()
    scene.start_agent()
    done = scene.run("shell", "sh", "-c", "exit 7")
    assert done.returncode == 125
    assert "it is shut" in done.stderr


def test_a_dry_run_says_what_would_be_asked_and_mints_nothing(scene: Stage) -> None:
    scene.start_agent()
    done = scene.run("shell", "sh", "-c", "exit 7", options=["--dry-run"])
    assert done.returncode == 0
    assert "allowed folder://orders?role=read" in done.stdout
    scene.kill_agent()
    assert not scene.recorded("access.lease.issuing")


def test_without_an_agent_nothing_runs(scene: Stage) -> None:
    done = scene.run("shell", "sh", "-c", "exit 7")
    assert done.returncode == 125
    assert "remit up" in done.stderr


def test_a_command_that_does_not_exist_is_127(scene: Stage) -> None:
    assert scene.run("shell", "no-such-command").returncode == 127


def test_a_signal_to_the_supervisor_reaches_the_task(scene: Stage) -> None:
    scene.start_agent()
    running = scene.begin("sleep", *SLEEP)
    until_it_sleeps(running)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert not scene.credentials()


def test_a_killed_supervisor_takes_its_task_and_its_lease_with_it(scene: Stage) -> None:
    scene.start_agent()
    running = scene.begin("sleep", *SLEEP)
    until_it_sleeps(running)
    child = children_of(running.pid)[0]
    running.kill()
    running.wait()
    until(lambda: not Path(f"/proc/{child}").exists() and not scene.credentials())
    scene.kill_agent()
    assert len(scene.recorded("access.lease.revoked")) == 1


def test_a_lease_is_withdrawn_while_the_task_runs_when_the_decision_changes(scene: Stage) -> None:
    scene.start_agent()
    running = scene.begin("sleep", *SLEEP)
    until_it_sleeps(running)
    (scene.folder / "denied").touch()
    assert scene.agent is not None
    scene.agent.send_signal(signal.SIGUSR1)
    until(lambda: not scene.credentials())
    running.send_signal(signal.SIGTERM)
    _, stderr = running.communicate(timeout=60)
    assert "was withdrawn: the decision" in stderr


def test_a_killed_agent_leaves_ten_leases_and_each_is_revoked_exactly_once(scene: Stage) -> None:
    scene.start_agent()
    running = [scene.begin("sleep", *SLEEP) for _ in range(10)]
    for one in running:
        until_it_sleeps(one)
    assert len(scene.credentials()) == 10
    scene.kill_agent()
    for one in running[:5]:
        one.kill()
        one.wait()
    assert len(scene.credentials()) == 10
    scene.start_agent()
    until(lambda: len(scene.credentials()) == 5)
    for one in running[5:]:
        one.send_signal(signal.SIGTERM)
        one.wait(60)
    until(lambda: not scene.credentials())
    scene.kill_agent()
    counts = Counter(scene.recorded("access.lease.revoked"))
    assert len(counts) == 10
    assert set(counts.values()) == {1}


def test_a_task_outlives_its_agent_and_says_so(scene: Stage) -> None:
    scene.start_agent()
    running = scene.begin("sleep", *SLEEP)
    until_it_sleeps(running)
    scene.kill_agent()
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGINT
    assert "the agent went away" in stderr


def test_the_agent_refuses_a_process_that_is_not_the_caller_s_child(scene: Stage) -> None:
    scene.start_agent()
    program = (
        "import sys\n"
        "import remit.surface.cli.run as run\n"
        "class Liar(run.WaitingChild):\n"
        "    def __init__(self, command):\n"
        "        super().__init__(command)\n"
        f"        self.real, self.pid = self.pid, {os.getpid()}\n"
        "    def close(self):\n"
        "        self.pid = self.real\n"
        "        super().close()\n"
        "run.WaitingChild = Liar\n"
        "sys.exit(run.main(sys.argv[1:]))\n"
    )
    command = scene.command("shell", "sh", "-c", "exit 7")
    command[2] = program
    done = subprocess.run(command, env=scene.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125
    assert "is no child of the caller" in done.stderr
