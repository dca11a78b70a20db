"""Process trees as control groups, on the kernel's own hierarchy."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from remit.access.leases.cgroups import LocalCgroups, Mount, cgroup_mount, in_any
from remit.kernel.errors import Misconfigured, Rejected


class Group:
    """A group of this test, by its path in the hierarchy."""

    def __init__(self, folder: Path, path: str) -> None:
        self.folder = folder
        self.path = path
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self, script: str) -> subprocess.Popen[bytes]:
        """A shell whose whole life is in the group."""
        procs = self.folder / "cgroup.procs"
        process = subprocess.Popen(["/bin/sh", "-c", f"echo $$ > {procs} && {script}"], start_new_session=True)
        self.started.append(process)
        while str(process.pid) not in procs.read_text().split() and process.poll() is None:
            pass
        return process

    def remove(self) -> None:
        with suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
        for process in self.started:
            process.wait()
        for _ in range(1000):
            try:
                self.folder.rmdir()
                return
            except OSError:
                with suppress(OSError):
                    next(each for each in self.folder.iterdir() if each.is_dir()).rmdir()


@pytest.fixture
def group() -> Iterator[Group]:
    mount = cgroup_mount()
    if mount is None:
        pytest.skip("cgroup2: not mounted")
    path = f"/remit-test-{uuid.uuid4().hex[:12]}"
    folder = mount.folder(path)
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("cgroup2: not writable")
    made = Group(folder, path)
    try:
        yield made
    finally:
        made.remove()


def watching(group: Group, act: Callable[[], None]) -> list[str]:
    """What a watch of the group hears after `act`."""
    heard: list[str] = []

    async def run() -> None:
        cgroups = LocalCgroups()
        ended = asyncio.Event()

        def told(why: str = "the task ended") -> None:
            heard.append(why)
            ended.set()

        watched = cgroups.watch(cgroups.task(group.path), told)
        assert watched is not None
        act()
        async with asyncio.timeout(60):
            await ended.wait()
        watched.close()
        watched.close()

    asyncio.run(run())
    return heard


def test_the_last_process_of_the_group_ends_the_task(group: Group) -> None:
    first = group.run("exec sleep 60")
    assert watching(group, first.kill) == ["nothing of the task is left in its control group"]


def test_a_child_that_outlives_its_parent_keeps_the_task_alive(group: Group) -> None:
    parent = group.run("(setsid sleep 60 &) ; exec sleep 0.05")

    async def run() -> None:
        cgroups = LocalCgroups()
        heard: list[str] = []
        watched = cgroups.watch(cgroups.task(group.path), lambda why="": heard.append(why))
        assert watched is not None
        await asyncio.to_thread(parent.wait)
        await asyncio.sleep(0.05)
        assert not heard
        watched.kill()
        async with asyncio.timeout(60):
            while not heard:
                await asyncio.sleep(0.002)
        watched.close()

    asyncio.run(run())
    assert not (group.folder / "cgroup.procs").read_text()


def test_what_runs_in_a_group_below_counts(group: Group) -> None:
    below = group.folder / "below"
    below.mkdir()
    process = Group(below, f"{group.path}/below").run("exec sleep 60")
    group.started.append(process)
    assert len(watching(group, process.kill)) == 1


def test_an_empty_group_another_boot_and_another_group_of_the_path_are_no_task(group: Group) -> None:
    cgroups = LocalCgroups()
    task = cgroups.task(group.path)
    assert cgroups.watch(task, lambda why="": None) is None  # nothing is in it
    group.run("exec sleep 60")

    async def run() -> None:
        for other in (replace(task, inode=task.inode + 1), replace(task, boot_id="another"), replace(task, path="/no")):
            assert cgroups.watch(other, lambda why="": None) is None
        again = LocalCgroups().watch(task, lambda why="": None)  # a control plane that started again finds it
        assert again is not None
        again.close()

    asyncio.run(run())


def test_a_group_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in ("/../etc", "relative", "/no/such", "/a\0b"):
        with pytest.raises(Rejected):
            LocalCgroups(Mount(tmp_path)).task(path)


def test_without_the_hierarchy_there_are_no_trees(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n")
    assert cgroup_mount(str(mounts)) is None
    mounts.write_text("25 1 0:22 / /sys/fs/my\\040groups rw shared:3 - cgroup2 cgroup2 rw\n")
    assert cgroup_mount(str(mounts)) == Mount(Path("/sys/fs/my groups"))
    mounts.write_text("25 1 0:22 /pods/a /sys/fs/cgroup rw shared:3 - cgroup2 cgroup2 rw\n")
    inner = cgroup_mount(str(mounts))
    assert inner is not None
    assert inner.folder("/pods/a/run-1") == Path("/sys/fs/cgroup/run-1")
    cgroups = LocalCgroups(Mount(tmp_path))
    cgroups._mount = None
    with pytest.raises(Misconfigured):
        cgroups.task("/a")


def test_a_process_of_a_group_is_known_by_it(group: Group) -> None:
    process = group.run("exec sleep 60")
    assert in_any([process.pid], [group.path])
    assert not in_any([os.getpid()], [group.path])
