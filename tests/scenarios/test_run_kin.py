"""What `remit run` does besides: hand-over by socket, the process tree, dry runs, matrices, workflows, Jobs, `remit.task`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_stage import Stage, stage, until

from remit.surface.agent.tree import Tree

READ, WRITE = "folder://orders?role=read", "folder://orders?role=write"
PROBE = """
import json, os, pathlib, socket, subprocess, sys, time
def ask(path, at=None):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(at or os.environ['REMIT_SOCKET'])
        s.sendall(f'GET {path} HTTP/1.1\\r\\n\\r\\n'.encode())
        head, _, body = b''.join(iter(lambda: s.recv(65536), b'')).partition(b'\\r\\n\\r\\n')
    return int(head.split()[1]), body.decode()
def daemon(work):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            work()
        os._exit(0)
    os.wait()
exec(sys.argv[1])
"""
OWN = """
import os, sys, time
import remit
with remit.task("own", needs=["folder://orders?role=read"], ttl="10m") as task:
    held = task["folder://orders?role=read"]
    stored = open(held.settings["folder"] + "/" + held.settings["user"]).read()
    print(stored == held.secret, oct(held.file().stat().st_mode), held.dsn.split(":")[0], repr(held), flush=True)
    exec(sys.argv[1])
print(task.outcomes[0]["state"], list(task))
"""
COUNT = 'test -f "$REMIT_CREDENTIALS/orders-read.json" && echo "orders=3" >> "$GITHUB_OUTPUT"\n'
WORKFLOW = f"""
name: nightly
on: push
permissions: {{id-token: write}}
env: {{REGION: eu}}
jobs:
  report:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: count
        env: {{REMIT_NEEDS: "{READ}"}}
        run: |
          {COUNT}
      - env: {{ORDERS: "${{{{ steps.count.outputs.orders }}}}"}}
        run: test -z "$REMIT_CREDENTIALS" && echo "$ORDERS orders in $REGION"
      - if: failure()
        run: echo never
"""
JOB = f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: report, namespace: shop}}
spec:
  activeDeadlineSeconds: 600
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: none
          command: [sh, -c]
          args: ['ls "$REMIT_CREDENTIALS"; echo $(REGION); exit 3']
          env: [{{name: REGION, value: eu}}, {{name: REMIT_NEEDS, value: "{READ}"}}]
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Stage]:
    with stage() as made:
        for name, text in (("probe", PROBE), ("own", OWN)):
            path = made.folder / name
            path.write_text(f"#!{sys.executable}\n{text}")
            path.chmod(0o755)
            made.register(name, str(path))
        made.register("github.nightly.report.count", "bash", "-e", "-c", COUNT)
        made.register("kubernetes.shop.report.main", "sh", "-c", 'ls "$REMIT_CREDENTIALS"; echo eu; exit 3')
        made.start_agent()
        yield made


@pytest.fixture
def scene(house: Stage) -> Iterator[Stage]:
    """The house, empty before and after."""
    until(lambda: not house.credentials())
    yield house
    (house.folder / "denied").unlink(missing_ok=True)
    until(lambda: not house.credentials())


def probe(scene: Stage, code: str, *options: str, needs: tuple[str, ...] = (READ,)) -> subprocess.CompletedProcess[str]:
    return scene.run("probe", str(scene.folder / "probe"), code, options=options, needs=needs)


def begin(scene: Stage, code: str, *options: str, needs: tuple[str, ...] = (READ,)) -> subprocess.Popen[str]:
    command = scene.command("probe", str(scene.folder / "probe"), code, options=options, needs=needs)
    return subprocess.Popen(command, env=scene.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def own(scene: Stage, code: str = "pass", program: str = "own") -> subprocess.Popen[str]:
    command = [str(scene.folder / program), code]
    return subprocess.Popen(command, env=scene.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# The socket.


def test_the_socket_gives_each_credential_to_the_task_and_leaves_no_file(scene: Stage) -> None:
    code = (
        "print(sorted(os.listdir(os.environ['REMIT_CREDENTIALS'])), ask('/')[1].strip())\n"
        "said = json.loads(ask('/db')[1])\n"
        "print(pathlib.Path(said['settings']['folder'], said['settings']['user']).read_text() == ask('/db/secret')[1])\n"
        "print(ask('/other')[0], said['secret'] in str(dict(os.environ)))\n"
    )
    done = probe(scene, code, "--handover", "socket", needs=(f"db={READ}", WRITE))
    assert done.stdout.splitlines() == ["['remit.sock', 'script'] [\"db\", \"orders-write\"]", "True", "404 False"]


def test_a_daemon_of_the_task_is_served_and_another_process_of_the_user_is_not(scene: Stage) -> None:
    code = (
        "print(os.environ['REMIT_SOCKET'], flush=True)\n"
        "r, w = os.pipe()\n"
        "daemon(lambda: os.write(w, str(ask('/orders-read/secret')[0]).encode()))\n"
        "print(os.read(r, 9).decode(), flush=True); sys.stdin.read()\n"
    )
    running = begin(scene, code, "--handover", "socket")
    path = line_of(running)
    assert line_of(running) == "200"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
        stranger.sendall(b"GET /orders-read/secret HTTP/1.1\r\n\r\n")
        answer = b"".join(iter(lambda: stranger.recv(65536), b"")).decode()
    assert "403 Forbidden" in answer
    assert "does not descend from this task" in answer
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)


def test_once_means_once(scene: Stage) -> None:
    done = probe(scene, "print([ask('/orders-read/url')[0] for _ in range(2)])", "--handover", "socket-once")
    assert done.stdout == "[200, 410]\n"


def test_a_lazy_need_is_minted_when_it_is_asked_for_and_revoked_with_the_task(scene: Stage) -> None:
    code = "sys.stdin.readline(); print(ask('/orders-write')[0], flush=True); sys.stdin.readline()"
    command = scene.command(
        "probe", str(scene.folder / "probe"), "print('on', flush=True);" + code,
        options=["--handover", "socket", "--lazy"], needs=(READ, WRITE),
    )  # fmt: skip
    running = subprocess.Popen(
        command, env=scene.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert line_of(running) == "on"
    assert not scene.credentials()
    assert running.stdin is not None
    running.stdin.write("\n")
    running.stdin.flush()
    assert line_of(running) == "200"
    assert len(scene.credentials()) == 1
    _, said = running.communicate("\n", timeout=60)
    assert said.count("remit: revoked ") == 1


def test_a_lazy_need_that_is_denied_meanwhile_is_refused_and_the_task_goes_on(scene: Stage) -> None:
    code = f"pathlib.Path({str(scene.folder / 'denied')!r}).touch(); print(*ask('/orders-read'))"
    done = probe(scene, code, "--handover", "socket", "--lazy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("403 the need")
    assert "it is shut" in done.stdout


# The environment, and what others can read.


def test_env_names_the_needs_whose_secret_goes_into_the_environment(scene: Stage) -> None:
    done = probe(
        scene, "print(sorted(k for k in os.environ if k.endswith('_URL')))", "--env", "db",
        needs=(f"db={READ}", WRITE),
    )  # fmt: skip
    assert done.stdout == "['DB_URL']\n"


def test_no_process_shows_the_secret_in_its_arguments_or_environment(scene: Stage) -> None:
    running = begin(scene, "subprocess.Popen(['sleep', '30']); print('on', flush=True); sys.stdin.read()", "--env", "db",
                    needs=(f"db={READ}", WRITE))  # fmt: skip
    assert line_of(running) == "on"
    secrets = {path.name: path.read_bytes() for path in scene.accounts.iterdir()}
    seen: dict[str, set[str]] = {"cmdline": set(), "environ": set()}

    def look() -> bool:
        for folder in Path("/proc").iterdir():
            for kind, found in seen.items() if folder.name.isdecimal() else ():
                try:
                    text = (folder / kind).read_bytes()
                except OSError:
                    continue
                found |= {name for name, secret in secrets.items() if secret in text}
        return bool(seen["environ"])

    until(look)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert len(secrets) == 2
    assert seen["cmdline"] == set()
    assert len(seen["environ"]) == 1  # the one that was asked for, in the task alone


# Dry runs.


def test_a_dry_run_says_what_would_be_minted_where_and_for_how_long(scene: Stage) -> None:
    done = probe(scene, "1", "--dry-run", "--format", "json", "--ttl", "10m", needs=(f"db={READ}",))
    plan = json.loads(done.stdout)
    (need,) = plan["needs"]
    assert (done.returncode, plan["allowed"], plan["life_seconds"]) == (0, True, 600)
    assert (need["name"], need["target"], need["target_role"], need["database"]) == ("db", "orders", "app_ro", "db")
    assert need["principal"].startswith("remit_")
    assert need["native_seconds"] == 300
    assert not scene.credentials()


def test_a_dry_run_of_a_denied_need_ends_with_1(scene: Stage) -> None:
    (scene.folder / "denied").touch()
    done = probe(scene, "1", "--dry-run")
    assert done.returncode == 1
    assert "DENIED" in done.stdout


# The process tree.

DAEMON = "daemon(lambda: (pathlib.Path({path!r}).write_text(str(os.getpid())), time.sleep(60)))\n"


def alive(path: Path) -> bool:
    return Path(f"/proc/{path.read_text()}").exists()


def test_what_the_task_leaves_in_the_background_ends_with_it(scene: Stage, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = DAEMON.format(path=str(path)) + f"\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)"
    done = probe(scene, code)
    assert done.returncode == 0, done.stderr
    assert not alive(path)


def test_a_killed_supervisor_takes_the_whole_cgroup_with_it(scene: Stage, tmp_path: Path) -> None:
    tree = Tree()
    kind, why = tree.kind, tree.why
    tree.close()
    if kind != "cgroup":
        pytest.skip(f"cgroup v2: not writable ({why})")
    path = tmp_path / "pid"
    running = begin(scene, DAEMON.format(path=str(path)) + "print('on', flush=True); sys.stdin.read()")
    assert line_of(running) == "on"
    until(lambda: path.exists() and bool(path.read_text()))
    running.kill()
    running.communicate()
    until(lambda: not alive(path))


def test_tree_wait_keeps_the_task_until_all_of_it_has_ended(scene: Stage, tmp_path: Path) -> None:
    go = tmp_path / "go"
    work = f"daemon(lambda: [time.sleep(0.01) for _ in iter(lambda: os.path.exists({str(go)!r}), True)])\n"
    running = begin(scene, work + "print('left', flush=True); sys.exit(7)", "--tree", "wait")
    assert line_of(running) == "left"
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(0.5)
    assert len(scene.credentials()) == 1
    go.touch()
    assert running.wait(60) == 7
    running.communicate()
    assert not scene.credentials()


def test_tree_wait_passes_signals_on_to_the_command(scene: Stage) -> None:
    running = begin(scene, "print('on', flush=True); time.sleep(60)", "--tree", "wait")
    assert line_of(running) == "on"
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    running.communicate()


# The matrix.


def test_each_cell_of_a_matrix_has_its_own_lease_prefix_and_exit_code(scene: Stage) -> None:
    done = probe(
        scene, "print('{name}', os.listdir(os.environ['REMIT_CREDENTIALS'])[0][:6]); sys.exit({code})",
        "--matrix", "name=x,y", "--matrix", "code=0,3", "--jobs", "2",
    )  # fmt: skip
    assert done.returncode == 1
    assert {"x,0 | x", "y,3 | y"} <= {" ".join(line.split()[:3]) for line in done.stdout.splitlines()}
    said = [line.split()[1:4] for line in done.stderr.splitlines() if line.startswith("remit: ")]
    assert said == [["x,0", "ok", "0"], ["x,3", "failed", "3"], ["y,0", "ok", "0"], ["y,3", "failed", "3"]]
    assert done.stderr.count("remit: revoked ") == 4


def test_fail_fast_begins_no_more_cells(scene: Stage, tmp_path: Path) -> None:
    file = tmp_path / "matrix.yaml"
    file.write_text("code: [4, 0, 0]\n")
    done = probe(
        scene, "sys.exit({code})", "--matrix", str(file), "--jobs", "1", "--fail-fast", "--format", "json"
    )  # fmt: skip
    cells = json.loads(done.stderr.splitlines()[-1])["cells"]
    assert (done.returncode, [cell["exit_code"] for cell in cells]) == (1, [4, None, None])


def test_a_signal_to_the_matrix_ends_its_cells_and_revokes(scene: Stage) -> None:
    running = begin(scene, "print('on', flush=True); time.sleep(60)", "--matrix", "a=1,2", "--jobs", "2")
    assert {line_of(running), line_of(running)} == {"1 | on", "2 | on"}
    until(lambda: len(scene.credentials()) == 2)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    running.communicate()
    assert not scene.credentials()


# Workflows and Jobs.


def kin(scene: Stage, *words: str, text: str, name: str) -> subprocess.CompletedProcess[str]:
    path = scene.folder / name
    path.write_text(text)
    program = "import sys; from remit.surface.cli.run import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, words[0], str(path), *words[1:]]
    return subprocess.run(
        command, env=scene.env, cwd=scene.folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_steps_of_a_workflow_are_tasks_and_only_those_with_needs_get_credentials(scene: Stage) -> None:
    done = kin(scene, "github", "--job", "report", text=WORKFLOW, name="nightly.yml")
    assert (done.returncode, done.stdout) == (0, "3 orders in eu\n"), done.stderr
    assert done.stderr.count("remit: revoked ") == 1


def test_a_changed_step_is_another_program_and_is_refused(scene: Stage) -> None:
    text = WORKFLOW.replace("orders=3", "orders=4")
    done = kin(scene, "github", "--job", "report", text=text, name="nightly.yml")
    assert done.returncode == 125
    assert "differs from what is registered" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("actions/checkout@v4", "docker/login-action@v3", "docker/login-action@v3"),
        ("if: failure()", "if: github.actor == 'ann'", "`if: github.actor"),
        ("steps.count.outputs.orders", "secrets.DB_PASSWORD", "REMIT_NEEDS"),
        ("runs-on: ubuntu-latest", "container: alpine", "`container`"),
    ],
)
def test_what_a_workflow_has_that_is_not_covered_is_named_and_nothing_runs(
    scene: Stage, old: str, new: str, why: str
) -> None:
    done = kin(scene, "github", "--job", "report", text=WORKFLOW.replace(old, new), name="nightly.yml")
    assert (done.returncode, done.stdout) == (125, "")
    assert why in done.stderr


def test_a_kubernetes_job_runs_here_with_its_needs_and_its_exit_code(scene: Stage) -> None:
    done = kin(scene, "kubernetes", text=JOB, name="job.yaml")
    assert (done.returncode, done.stdout) == (3, "orders-read.json\neu\n"), done.stderr
    assert "remit: revoked " in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("value: eu", "valueFrom: {secretKeyRef: {name: s, key: k}}", "REMIT_NEEDS"),
        ("command: [sh, -c]", "stdin: true", "`stdin`"),
        ("activeDeadlineSeconds: 600", "parallelism: 3", "`parallelism: 3`"),
    ],
)
def test_what_a_job_has_that_is_not_covered_is_named_and_nothing_runs(
    scene: Stage, old: str, new: str, why: str
) -> None:
    done = kin(scene, "kubernetes", text=JOB.replace(old, new), name="job.yaml")
    assert (done.returncode, done.stdout) == (125, "")
    assert why in done.stderr


# The process as its own task.


def test_a_block_of_python_has_a_credential_that_ends_with_it(scene: Stage) -> None:
    done = own(scene)
    out, err = done.communicate(timeout=60)
    assert out.splitlines() == [f"True 0o100600 folder Credential(need='{READ}')", "revoked []"], err


def test_an_exception_ends_the_block_s_leases(scene: Stage) -> None:
    done = own(scene, "raise ValueError('boom')")
    _, err = done.communicate(timeout=60)
    assert "boom" in err
    assert not scene.credentials()


def test_a_killed_process_ends_its_own_task(scene: Stage) -> None:
    running = own(scene, "time.sleep(60)")
    assert line_of(running).startswith("True")
    assert len(scene.credentials()) == 1
    running.kill()
    running.communicate()
    until(lambda: not scene.credentials())


def test_another_script_is_not_the_task_even_with_its_name_among_the_arguments(scene: Stage) -> None:
    other = scene.folder / "other"
    other.write_text(f"#!{sys.executable}\n{OWN}")
    other.chmod(0o755)
    for command in ([str(other), "pass"], [sys.executable, "-c", OWN, str(scene.folder / "own"), "pass"]):
        done = subprocess.run(command, env=scene.env, capture_output=True, text=True, timeout=60, check=False)
        assert "differs from what is registered" in done.stderr
    assert not scene.credentials()


def test_importing_remit_costs_nothing_before_a_task_is_asked_for(scene: Stage) -> None:
    heavy = "grpclib argparse asyncio cryptography sqlalchemy"
    code = f"import sys, remit; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done: Any = subprocess.run([sys.executable, "-c", code], env=scene.env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_another_process_cannot_be_named_as_the_caller_s_own_task(scene: Stage) -> None:
    code = (
        "import os, remit\nfrom remit.client import task as module\n"
        f"module.os.getpid = lambda: {os.getpid()}\n"
        "with remit.task('own', needs=['folder://orders?role=read']): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=scene.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert "is no child of the caller" in done.stderr
