"""The cgroup attestor against paths that lie, and on control groups made for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from remit.kernel.errors import Rejected
from remit.trust import Evidence, Selector, peer_of_pid
from remit.trust.attestors.cgroup import (
    MAX_BYTES,
    MAX_PATHS,
    CgroupAttestor,
    container_of,
    is_roots_alone,
    read_groups,
    read_mounts,
)
from remit.trust.testing import NOON, sleeping_process

ID, OTHER = "ab" * 32, "cd" * 32
POD = "12345678-9abc-def0-1234-56789abcdef0"
POD_ = POD.replace("-", "_")

PATHS = {
    f"/docker/{ID}": ("docker", "", f"/docker/{ID}"),
    f"/system.slice/docker-{ID}.scope": ("docker", "", f"/system.slice/docker-{ID}.scope"),
    f"/machine.slice/libpod-{ID}.scope/container": ("podman", "", f"/machine.slice/libpod-{ID}.scope"),
    f"/kubepods/burstable/pod{POD}/{ID}": ("", POD, f"/kubepods/burstable/pod{POD}/{ID}"),
    f"/kubepods/pod{POD}/{ID}": ("", POD, f"/kubepods/pod{POD}/{ID}"),
    f"/kubepods/besteffort/pod{POD}/crio-{ID}": ("crio", POD, f"/kubepods/besteffort/pod{POD}/crio-{ID}"),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice/cri-containerd-{ID}.scope": (
        "containerd", POD,
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice/cri-containerd-{ID}.scope",
    ),
    f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope/x": (
        "crio", POD, f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope"
    ),
    f"/docker/{ID}/kubepods/burstable/pod{POD}/{OTHER}": ("docker", "", f"/docker/{ID}"),
    f"/system.slice/docker-{ID}.scope/docker-{OTHER}.scope": ("docker", "", f"/system.slice/docker-{ID}.scope"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "seen"), PATHS.items(), ids=range(len(PATHS)))
def test_the_outermost_container_of_a_path_is_named(path: str, seen: tuple[str, str, str]) -> None:
    found = container_of(path)
    assert found is not None
    assert (found.container_id, found.runtime, found.pod_uid, found.at) == (ID, *seen)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/system.slice/billing.service", f"/{ID}", f"/user.slice/{ID}", f"/docker-{ID[:-1]}.scope", f"/docker/{ID}0",
        f"/docker/{ID.upper()}", f"/xdocker-{ID}.scope", f"/libpod-conmon-{ID}.scope", f"/crio-conmon-{ID}.scope",
        f"/pod{POD}/{ID}", f"/kubepods/podnothing/{ID}", f"/docker-{ID}.scope.d", f"/kubepods/pod{'-' * 36}/{ID}",
    ],
)  # fmt: skip
def test_a_path_that_tells_of_no_container_names_none(path: str) -> None:
    assert container_of(path) is None


def test_version_1_and_2_are_read_and_roots_are_left_out() -> None:
    unseen: list[str] = []
    raw = b"9:name=systemd:/system.slice/x:y.service\n8:cpu,cpuacct:/a\n4:memory:/\n0::/b c\n"
    assert read_groups(raw, unseen) == [("name=systemd", "/system.slice/x:y.service"), ("cpu", "/a"), ("", "/b c")]
    assert unseen == []


@pytest.mark.parametrize(
    "path",
    [b"/a\x01b", b"/a\x7f", b"/\xff\xfe", b"/" + b"a" * 5000, b"/../outside", b"/a/../b", b"/a//b", b"/a/", b"relative",
     b"/gone (deleted)", b"/a\rb", b"/a\tb"],
)  # fmt: skip
def test_a_hostile_name_gives_no_selector(path: bytes) -> None:
    unseen: list[str] = []
    assert read_groups(b"0::" + path + b"\n", unseen) == []
    assert len(unseen) == 1
    assert len(unseen[0]) < 200


def test_the_number_of_groups_is_bounded() -> None:
    unseen: list[str] = []
    raw = b"".join(f"{number}:c{number}:/group/{number}\n".encode() for number in range(100))
    assert len(read_groups(raw, unseen)) == MAX_PATHS
    assert unseen


def test_more_text_than_is_read_gives_no_selector(tmp_path: Path) -> None:
    with sleeping_process() as child:
        (tmp_path / str(child.pid)).mkdir()
        (tmp_path / str(child.pid) / "cgroup").write_bytes(b"0::/a\n" * MAX_BYTES)
        assert attested(child.pid, CgroupAttestor(proc=tmp_path)).selectors == frozenset()


def test_only_hierarchies_mounted_from_their_root_are_looked_at() -> None:
    text = (
        "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 /inner /mnt/part rw - cgroup2 cgroup2 rw\n"
        "42 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "43 31 0:39 / /tmp rw - tmpfs cgroup rw,memory\n"
    )
    found = read_mounts(text)
    assert (found["name=systemd"], found["cpu"]) == (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/cpu"))
    assert found[""] == Path("/sys/fs/cgroup/unified")
    assert "memory" not in found


@pytest.mark.may_skip("only root can give a directory to another user")
def test_a_name_below_a_directory_of_another_user_proves_nothing(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("ownership: needs root")
    deep = tmp_path / "user.slice" / f"docker-{ID}.scope"
    deep.mkdir(parents=True)
    path = f"/user.slice/docker-{ID}.scope"
    assert is_roots_alone(tmp_path, path)
    os.chown(deep.parent, 1000, 1000)
    assert not is_roots_alone(tmp_path, path)
    os.chown(deep.parent, 0, 0)
    deep.parent.chmod(0o777)
    assert not is_roots_alone(tmp_path, path)
    deep.parent.chmod(0o755)
    os.chown(deep, 1000, 1000)
    assert is_roots_alone(tmp_path, path)
    assert not is_roots_alone(tmp_path, f"{path}/docker-{OTHER}.scope")


@pytest.mark.parametrize(
    "text", ["cgroup:path:relative", "cgroup:path:/a/../b", "cgroup:container_id:abc", f"cgroup:container_id:{ID.upper()}",
             "cgroup:runtime:rkt", "cgroup:pod_uid:x", "cgroup:image:x"],
)  # fmt: skip
def test_a_selector_that_could_never_match_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        CgroupAttestor().check(Selector.parse(text))


# Control groups of the machine.


def attested(pid: int, attestor: CgroupAttestor | None = None) -> Evidence:
    descriptor = os.pidfd_open(pid)
    try:
        with peer_of_pid(descriptor, pid) as peer:
            return (attestor or CgroupAttestor()).attest(peer, NOON)
    finally:
        os.close(descriptor)


@contextmanager
def group(path: str) -> Iterator[Path]:
    """A control group made for the test, in the first hierarchy that lets us; removed afterwards."""
    if os.getuid() != 0:
        pytest.skip("control groups: need root")
    mounts = read_mounts(Path("/proc/self/mountinfo").read_text())
    for mount in [mounts[one] for one in ("", "pids", "name=systemd") if one in mounts]:
        place = mount / path.lstrip("/")
        made = [one for one in (*reversed(place.parents), place) if one.is_relative_to(mount) and not one.exists()]
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        break
    else:
        pytest.skip("control groups: no hierarchy can be written")
    try:
        yield place
    finally:
        for one in reversed(made):
            with suppress(OSError):
                one.rmdir()


@contextmanager
def within(place: Path, *command: str) -> Iterator[int]:
    """A process in a control group; it is back in the root when the block ends."""
    with sleeping_process(*command) as child:
        (place / "cgroup.procs").write_text(str(child.pid))
        yield child.pid


def shown(evidence: Evidence) -> set[str]:
    return {str(one) for one in evidence.selectors}


@pytest.mark.may_skip("only root can make control groups, and not in every container")
def test_a_process_in_a_docker_group_shows_container_and_runtime() -> None:
    container = uuid4().hex * 2
    with group(f"/docker/{container}") as place, within(place) as pid:
        evidence = attested(pid)
    assert {f"cgroup:path:/docker/{container}", f"cgroup:container_id:{container}", "cgroup:runtime:docker"} <= shown(
        evidence
    )


@pytest.mark.may_skip("only root can make control groups, and not in every container")
def test_a_process_in_a_pod_shows_its_pod() -> None:
    container, pod = uuid4().hex * 2, str(uuid4())
    with group(f"/kubepods/burstable/pod{pod}/{container}") as place, within(place) as pid:
        evidence = attested(pid)
    assert {f"cgroup:pod_uid:{pod}", f"cgroup:container_id:{container}"} <= shown(evidence)


@pytest.mark.may_skip("only root can make control groups, and not in every container")
def test_a_group_that_a_user_named_gives_its_path_alone() -> None:
    container, slice_ = uuid4().hex * 2, f"/remit-{uuid4().hex}.slice"
    with group(f"{slice_}/docker-{container}.scope") as place:
        os.chown(place.parent, 1000, 1000)
        with within(place) as pid:
            evidence = attested(pid)
    assert f"cgroup:path:{slice_}/docker-{container}.scope" in shown(evidence)
    assert not any(one.startswith(("cgroup:container_id:", "cgroup:runtime:")) for one in shown(evidence))
    assert any("somebody other than root" in one for one in evidence.unseen)


@pytest.mark.may_skip("only root can make control groups, and not in every container")
def test_a_cgroup_name_space_of_its_own_hides_nothing() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare: not installed")
    container = uuid4().hex * 2
    # Within its own name space the process sees itself in `/`.
    script = "import os,sys,time; open('/proc/self/cgroup').read(); print('inside', flush=True); time.sleep(60)"
    with group(f"/docker/{container}") as place:
        join = f'echo $$ > {place}/cgroup.procs && exec unshare --cgroup {sys.executable} -c "{script}"'
        child = subprocess.Popen(["sh", "-c", join], stdout=subprocess.PIPE)
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"inside\n"
            evidence = attested(child.pid)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
    assert f"cgroup:container_id:{container}" in shown(evidence)
