"""A stream belongs to what was attested: another program, a replaced binary or another control group ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import h2
import pytest

from remit.surface.agent.programs import look_at
from remit.trust.attestors.cgroup import CgroupAttestor, read_mounts
from remit.trust.attestors.unix import UnixAttestor
from workload_stage import ME, Agent, scenario

HOLDER = Path(__file__).with_name("holder.py")
SYSTEM_PYTHON = Path("/usr/bin/python3")
PACKAGES = Path(h2.__file__).parents[1]


@asynccontextmanager
async def holding(one: Agent, program: Path, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that executes `program` and holds a stream that was served."""
    process = await asyncio.create_subprocess_exec(
        program, HOLDER, "hold", one.path, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGES)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"served\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def complaint(one: Agent, pid: int) -> str:
    """The error that ended the process's stream."""
    async with asyncio.timeout(60):
        while not (found := [code for who, code in one.complaints if who == pid]):
            await asyncio.sleep(0.02)
    return found[0]


def go_on(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def status(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await asyncio.wait_for(process.stdout.readline(), 60)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A Python of our own, that can be replaced."""
    version = [SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"]
    if not SYSTEM_PYTHON.exists() or subprocess.run(version, capture_output=True, check=True).stdout.split() < [
        b"3",
        b"10",
    ]:
        pytest.skip("python3: no Python of the system")
    copied = tmp_path / "tool"
    shutil.copy(SYSTEM_PYTHON.resolve(), copied)
    return copied


def digest(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, check=True, text=True).stdout.split()[0]


@pytest.mark.parametrize("by", ["path", "sha256"])
def test_executing_another_binary_on_the_open_connection_ends_the_stream(by: str, program: Path) -> None:
    async def steps(one: Agent) -> None:
        selector = f"unix:path:{program}" if by == "path" else f"unix:sha256:{digest(program)}"
        await one.register("/job", ME, selector)
        other = shutil.which("sleep") or ""
        async with holding(one, program, other, "60") as process:
            assert one.complaints == []
            go_on(process)
            assert await complaint(one, process.pid) == "trust.workload.unknown"

    scenario(steps)


def test_executing_the_same_binary_again_keeps_the_stream(program: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register("/job", ME, f"unix:path:{program}")
        async with holding(
            one, program, str(program), "-c", "import time; print('again', flush=True); time.sleep(60)"
        ) as process:
            go_on(process)
            assert await status(process) == b"again\n"
            await asyncio.sleep(0.5)
            assert one.complaints == []

    scenario(steps)


def test_a_binary_replaced_on_disk_is_no_longer_its_path(program: Path) -> None:
    async def steps(one: Agent) -> None:
        await one.register("/job", ME, f"unix:path:{program}")
        async with holding(one, program) as process:
            fresh = program.with_name("fresh")
            shutil.copy("/bin/true", fresh)
            fresh.replace(program)
            go_on(process)
            assert await status(process) == b"status 7\n"
            assert await complaint(one, process.pid) == "trust.workload.unknown"

    scenario(steps)


def test_a_moved_binary_is_no_longer_its_path(program: Path) -> None:
    async def steps(one: Agent) -> None:
        folder = program.parent / "bin"
        folder.mkdir()
        placed = folder / "tool"
        program.replace(placed)
        await one.register("/job", ME, f"unix:path:{placed}")
        async with holding(one, placed) as process:
            folder.rename(folder.with_name("elsewhere"))
            go_on(process)
            assert await status(process) == b"status 7\n"

    scenario(steps)


@pytest.mark.may_skip("only root can make control groups, and not in every container")
def test_a_process_that_leaves_its_control_group_loses_its_svid() -> None:
    if os.getuid() != 0:
        pytest.skip("control groups: need root")
    mounts = read_mounts(Path("/proc/self/mountinfo").read_text())
    mount = mounts.get("") or mounts.get("pids")
    if mount is None:
        pytest.skip("control groups: not mounted")
    group = mount / f"remit-{uuid4().hex}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("control groups: cannot be written")

    async def steps(one: Agent) -> None:
        await one.register("/job", ME, f"cgroup:path:/{group.name}")
        script = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} {HOLDER} hold {one.path}"
        async with holding_script(one, script) as process:
            (mount / "cgroup.procs").write_text(str(process.pid))
            go_on(process)
            assert await status(process) == b"status 7\n"

    @asynccontextmanager
    async def holding_script(one: Agent, script: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert await status(process) == b"served\n", one.complaints
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    try:
        scenario(steps, attestors=(UnixAttestor(), CgroupAttestor()))
    finally:
        group.rmdir()


@pytest.mark.may_skip("only root can make control groups, and not in every container")
def test_a_composite_entry_is_given_only_when_both_attestors_agree() -> None:
    if os.getuid() != 0:
        pytest.skip("control groups: need root")
    mounts = read_mounts(Path("/proc/self/mountinfo").read_text())
    mount = mounts.get("") or mounts.get("pids")
    if mount is None:
        pytest.skip("control groups: not mounted")
    container = uuid4().hex * 2
    group = mount / "docker" / container
    try:
        group.mkdir(parents=True)
    except OSError:
        pytest.skip("control groups: cannot be written")

    async def steps(one: Agent) -> None:
        python = Path(sys.executable).resolve()
        await one.register("/right", f"unix:path:{python}", f"cgroup:container_id:{container}", "cgroup:runtime:docker")
        await one.register("/wrong-program", "unix:path:/bin/false", f"cgroup:container_id:{container}")
        await one.register("/wrong-container", f"unix:path:{python}", f"cgroup:container_id:{'0' * 64}")
        join = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} {HOLDER} hold {one.path}"
        within = await asyncio.create_subprocess_exec("sh", "-c", join, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        without = await asyncio.create_subprocess_exec(
            sys.executable, HOLDER, "hold", one.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        answers = [await status(within), await status(without)]
        for process in (within, without):
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
        issued = {str(event.data["spiffe_id"]) for event in one.store.events if event.type == "trust.svid.issued"}
        assert answers == [b"served\n", b"status 7\n"]
        assert issued == {"spiffe://remit.test/right"}

    try:
        scenario(steps, attestors=(UnixAttestor(), CgroupAttestor()))
    finally:
        group.rmdir()
        with suppress(OSError):
            group.parent.rmdir()


def test_a_look_differs_when_the_program_does(tmp_path: Path) -> None:
    from remit.trust.testing import sleeping_process

    sleep = tmp_path / "sleep"
    shutil.copy(shutil.which("sleep") or "", sleep)
    with sleeping_process(str(sleep), "60") as child:
        before = look_at(child.pid)
        assert look_at(child.pid) == before
        sleep.rename(tmp_path / "moved")
        assert look_at(child.pid) != before
    assert look_at(child.pid) != before
