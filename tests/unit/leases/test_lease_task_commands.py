"""What a command line executes, and which definition it may run under."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remit.access.brokers.postgres import PostgresBrokerFactory
from remit.access.brokers.presentation import Credential
from remit.access.leases.testing import HmacAttester, MemoryStore
from remit.access.tasks.command import measure, open_command
from remit.access.tasks.model import Program
from remit.access.tasks.register import Tasks
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.surface.cli.handover import Handed, Handover
from remit.surface.cli.run import parse

SEARCH = "/usr/local/bin:/usr/bin:/bin"


def measured(*argv: str) -> Program:
    command = open_command(argv, SEARCH)
    try:
        return measure(command)
    finally:
        command.close()


def script(folder: Path, first: str, name: str = "job") -> Path:
    path = folder / name
    path.write_text(f"{first}\necho hello\n")
    path.chmod(0o755)
    return path


def test_a_binary_is_measured_by_its_own_bytes() -> None:
    program = measured("sleep", "1")
    assert program.sha256 == hashlib.sha256(Path(program.executable).read_bytes()).hexdigest()
    assert (program.script, program.arguments) == ("", None)


@pytest.mark.parametrize("first", ["#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env sh", "#!/usr/bin/env -S sh -e"])
def test_a_script_is_its_interpreter_and_its_own_bytes(tmp_path: Path, first: str) -> None:
    path = script(tmp_path, first)
    program = measured(str(path))
    assert program.executable == os.path.realpath("/bin/sh")
    assert program.script_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_interpreter_with_a_script_binds_the_script(tmp_path: Path) -> None:
    path = script(tmp_path, "# no first line of note")
    assert measured("sh", str(path)).script == str(path)


def test_an_interpreter_without_a_script_binds_its_arguments() -> None:
    assert measured("sh", "-c", "echo 1").arguments == ("-c", "echo 1")


@pytest.mark.parametrize("first", ["#!sh", "#!/usr/bin/env A=1 sh", "#!/usr/bin/env -i sh", "#!/usr/bin/env"])
def test_a_first_line_that_hides_its_interpreter_is_refused(tmp_path: Path, first: str) -> None:
    with pytest.raises((Rejected, NotFound)):
        measured(str(script(tmp_path, first)))


def test_what_is_no_executable_file_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    os.mkfifo(tmp_path / "pipe", 0o755)
    for path in (plain, tmp_path / "pipe", tmp_path):
        with pytest.raises(Rejected):
            measured(str(path))
    with pytest.raises(NotFound):
        measured("no-such-command")


def test_a_definition_that_was_written_past_remit_does_not_count() -> None:
    async def scene() -> None:
        store = MemoryStore(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))
        tasks = Tasks(store=store, attester=HmacAttester())
        program = Program(executable="/bin/true", sha256="a" * 64)
        made = await tasks.register("nightly", identity="id_1", program=program, actor="person:ann")
        await tasks.require("nightly", program, ["/bin/true"])
        store.access.task_rows["nightly"] = replace(made, identity="id_root")
        with pytest.raises(Denied) as refused:
            await tasks.require("nightly", program, ["/bin/true"])
        assert refused.value.code == "access.task.unknown"

    asyncio.run(scene())


def test_the_refusal_of_a_changed_program_names_the_next_command() -> None:
    async def scene() -> None:
        tasks = Tasks(store=MemoryStore(ManualClock(datetime(2026, 11, 22, tzinfo=UTC))), attester=HmacAttester())
        program = Program(executable="/bin/true", sha256="a" * 64)
        await tasks.register("nightly", identity="id_1", program=program, actor="person:ann")
        with pytest.raises(Denied) as refused:
            await tasks.require("nightly", Program(executable="/bin/true", sha256="b" * 64), ["/bin/true", "a b"])
        assert refused.value.code == "access.task.changed"
        assert "remit task add nightly --identity id_1 -- /bin/true 'a b'" in refused.value.next_step

    asyncio.run(scene())


def handed(target: str = "orders", role: str = "read") -> Handed:
    settings = {"host": "/run/pg", "port": "5432", "dbname": "app", "user": "remit_x"}
    credential = Credential(target=target, role=role, settings=settings, secret="s:e\\c")
    return Handed(
        need=f"postgres://{target}?role={role}",
        lease="ls_1",
        system="postgres",
        target=target,
        role=role,
        settings=settings,
        secret=credential.secret,
        fail_safe=True,
        presentation=PostgresBrokerFactory().present(credential),
    )


def test_a_single_postgres_need_is_found_by_plain_clients_and_stale_passwords_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    handover = Handover(pid=os.getpid())
    handover.write([handed()])
    env = handover.environment([handed()], {"PGPASSWORD": "static", "HOME": "/root"}, secrets=False)
    assert (env["PGUSER"], env["PGHOST"], "PGPASSWORD" in env) == ("remit_x", "/run/pg", False)
    assert Path(env["PGPASSFILE"]).read_text().splitlines() == [
        "/run/pg:5432:*:remit_x:s\\:e\\\\c",
        "localhost:5432:*:remit_x:s\\:e\\\\c",
    ]
    assert Path(env["PGSERVICEFILE"]).read_text().startswith("[orders]\nhost=/run/pg\n")
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in handover.path.iterdir())
    handover.close()
    assert not list(tmp_path.iterdir())


def test_the_files_of_a_killed_supervisor_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    abandoned = tmp_path / "remit-run-4194305-abc"
    abandoned.mkdir()
    Handover(pid=os.getpid()).close()
    assert not abandoned.exists()


@pytest.mark.parametrize(
    "argv", [["--need", "x", "--", "true"], ["--task", "t", "--need", "x"], ["--bogus", "--", "a"]]
)
def test_a_wrong_command_line_is_125(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 125
    assert "remit run --task NAME" in capsys.readouterr().err


def test_everything_after_the_two_dashes_is_the_command_s() -> None:
    options = parse(["--task", "t", "--need", "n", "--ttl", "30m", "--", "ls", "--task", "--", "x"])
    assert (options.argv, options.life_seconds) == (("ls", "--task", "--", "x"), 1800)


def test_the_supervisor_starts_without_the_heavy_libraries() -> None:
    heavy = "grpclib sqlalchemy cryptography google.protobuf cedarpy"
    code = f"import sys, remit.surface.cli.run; print([m for m in '{heavy}'.split() if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "[]\n"
