"""Hostile local users: floods, tasks of others, tasks that reach for the administration, text that kills parsers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from installation import REMIT, Installation, installation
from remit.kernel.errors import Rejected
from remit.providers.postgres.local_server import available_postgres

NOBODY = 65534


@pytest.fixture(scope="module")
def server() -> Iterator[Installation]:
    with installation() as made:
        made.root.chmod(0o755)
        yield made


def connections(server: Installation, count: int) -> list[socket.socket]:
    place = urlsplit(server.url)
    made = []
    for _ in range(count):
        each = socket.create_connection((str(place.hostname), place.port or 0), timeout=60)
        each.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        made.append(each)
    return made


def test_slow_connections_keep_nobody_out(server: Installation) -> None:
    slow = connections(server, 700)
    try:
        assert server.admin.get("/api/v1/summary")["instance"]
        with server.http("GET", "/healthz") as answer:
            assert answer.status == 200
        assert server.process is not None
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 700
    finally:
        for each in slow:
            each.close()


def test_a_request_that_never_ends_is_hung_up_on(server: Installation) -> None:
    (slow,) = connections(server, 1)
    with closing(slow):
        slow.settimeout(60)
        begun = time.monotonic()
        assert slow.recv(1) == b""
        assert time.monotonic() - begun < 35


@pytest.mark.parametrize("text", ["(" * 5000 + "true" + ")" * 5000, "if true then " * 9000 + "true", "[" * 60_000])
def test_policy_text_that_overflows_a_parser_is_refused_and_ends_nothing(server: Installation, text: str) -> None:
    with pytest.raises(Rejected) as refused:
        candidate = f"permit (principal, action, resource) when {{ {text} }};"
        server.admin.post("/api/v1/policies/replay", {"text": candidate})
    assert refused.value.code == "access.policy.too-deep"
    assert server.admin.get("/api/v1/summary")["instance"]


def as_nobody(server: Installation, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """`remit ARGS` with another uid. What root may read stays readable: this Python may lie in root's home."""
    user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return subprocess.run(
        [*user, *REMIT, *map(str, args)], cwd="/", timeout=60, check=False, capture_output=True, text=True,
        env={**server.env, "HOME": "/", "TMPDIR": "/tmp"},
    )  # fmt: skip


@pytest.mark.may_skip("only root can act as another user")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_task_is_of_the_user_for_whom_it_was_registered(server: Installation) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv: not found")
    server.cli("task", "add", "mine", "--", "/bin/sleep")
    run = ("run", "--data", server.data, "--need", "postgres://nowhere?role=read")
    theirs = as_nobody(server, *run, "--task", "mine", "--", "/bin/sleep", "0")
    assert theirs.returncode == 125
    assert "registered for the user with uid 0" in theirs.stderr
    server.cli("task", "add", "theirs", "--user", str(NOBODY), "--", "/bin/sleep")
    weighed = as_nobody(server, *run, "--task", "theirs", "--", "/bin/sleep", "0")
    assert "no target is called `nowhere`" in weighed.stderr
    mine = server.cli(*run, "--task", "theirs", "--", "/bin/sleep", "0", code=125)
    assert f"registered for the user with uid {NOBODY}" in mine.stderr


def test_a_registered_workload_does_not_administrate(server: Installation, tmp_path: Path) -> None:
    program = server.root / "agent-binary"
    real = shutil.which("nc.openbsd") or shutil.which("curl")
    if real is None:
        pytest.skip("curl: not found")
    shutil.copy(os.path.realpath(real), program)
    ask = [program, "-s", "--unix-socket", server.data / "admin.sock", "http://localhost/api/v1/summary"]
    free = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False).stdout
    assert '"instance"' in free
    server.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/agent", "--selector", f"unix:path:{program}")
    bound = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "surface.peer.governed" in bound
    assert server.json("ls") is not None


def test_what_a_task_leaves_in_the_background_stays_a_task_and_ends_with_it() -> None:
    if not available_postgres():
        pytest.skip("postgres: no initdb found")
    from rich.console import Console

    from remit.surface.cli.demo import files, shop
    from remit.surface.cli.demo.move import NEED, add_target
    from remit.surface.cli.demo.show import Narrator
    from remit.surface.cli.demo.stage import set_stage

    with set_stage(Narrator(Console(quiet=True)), keep=False) as stage:
        shop.run(shop.build(stage.server, "a static password"))
        files.write_policy(stage.tree / "policy/shop.cedar")
        stage.up()
        add_target(stage)
        said, pid = stage.root / "said", stage.root / "pid"
        escape, daemon = stage.root / "escape.sh", stage.root / "daemon.sh"
        daemon.write_text(
            f"#!/bin/sh\necho $$ > {pid}\nsleep 0.5\n"
            f"{sys.executable} -c 'from remit.surface.cli.entry import main; main()' ls > {said} 2>&1\n"
            f"echo over >> {said}\nexec sleep 600\n"
        )
        escape.write_text(
            f"#!/bin/sh\n( setsid {daemon} & )\nwhile ! grep -q over {said} 2>/dev/null; do sleep 0.1; done\n"
        )
        for each in (daemon, escape):
            each.chmod(0o755)
        stage.cli("task", "add", "escape", "--", str(escape))
        stage.cli("run", "--task", "escape", "--need", NEED, "--", str(escape))
        assert "surface.peer.governed" in said.read_text()
        assert not Path(f"/proc/{int(pid.read_text())}").exists()
