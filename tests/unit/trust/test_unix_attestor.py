"""The unix attestor against processes that try to be somebody else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remit.kernel.errors import Rejected
from remit.trust import Evidence, Peer, peer_of_pid, peer_of_socket
from remit.trust import process as processes
from remit.trust.attestors.unix import DigestCache, UnixAttestor
from remit.trust.testing import NOON, sleeping_process

SLEEP = shutil.which("sleep") or ""


@contextmanager
def held(pid: int) -> Iterator[Peer]:
    pidfd = os.pidfd_open(pid)
    with peer_of_pid(pidfd, pid) as peer:
        os.close(pidfd)
        yield peer


def attested(pid: int) -> Evidence:
    with held(pid) as peer:
        return UnixAttestor().attest(peer, NOON)


def sha256sum(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, check=True, text=True).stdout.split()[0]


def test_it_sees_user_group_path_and_digest() -> None:
    with sleeping_process(SLEEP, "60") as child:
        evidence = attested(child.pid)
    binary = Path(SLEEP).resolve()
    shown = {str(selector) for selector in evidence.selectors}
    assert {f"unix:uid:{os.geteuid()}", f"unix:gid:{os.getegid()}", f"unix:path:{binary}"} <= shown
    assert evidence.value("sha256") == sha256sum(binary)


def test_replacing_the_file_on_disk_changes_neither_digest_nor_what_counts_as_its_path(tmp_path: Path) -> None:
    binary = tmp_path / "tool"
    shutil.copy(SLEEP, binary)
    true_digest = sha256sum(binary)
    with sleeping_process(str(binary), "60") as child:
        other = tmp_path / "other"
        shutil.copy(sys.executable, other)
        other.rename(binary)
        evidence = attested(child.pid)
    assert (evidence.value("sha256"), evidence.value("path")) == (true_digest, None)


def test_a_path_in_a_private_mount_is_not_passed_off_as_ours(tmp_path: Path) -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("private mount: needs root and unshare")
    ours = tmp_path / "tool"
    shutil.copy(SLEEP, ours)
    theirs = tmp_path / "rogue"
    theirs.write_bytes(Path(SLEEP).read_bytes() + b"\0")
    theirs.chmod(0o755)
    script = f"mount --bind {theirs} {ours} && exec {ours} 60"
    with sleeping_process("unshare", "--mount", "sh", "-c", script) as child:
        evidence = _when_executing(child.pid, str(ours))
    assert evidence.value("path") is None
    assert evidence.value("sha256") not in (None, sha256sum(ours))


def _when_executing(pid: int, path: str) -> Evidence:
    import time

    for _ in range(500):
        if str(Path(f"/proc/{pid}/exe").readlink()) == path:
            return attested(pid)
        time.sleep(0.01)
    raise AssertionError("the child did not execute its binary")


def test_a_process_that_changed_its_user_since_it_connected_is_refused() -> None:
    with sleeping_process(SLEEP, "60") as child, held(child.pid) as peer:
        peer.uid += 1
        with pytest.raises(Rejected) as refused:
            UnixAttestor().attest(peer, NOON)
    assert refused.value.code == "trust.peer.changed"


def test_without_a_pidfd_another_start_time_is_another_process() -> None:
    with sleeping_process(SLEEP, "60") as child:
        ticks = processes.start_ticks_of(child.pid)
        assert ticks is not None
        earlier = Peer(pid=child.pid, uid=os.getuid(), gid=os.getgid(), pidfd=-1, start_ticks=ticks - 1)
        with pytest.raises(Rejected) as refused:
            UnixAttestor().attest(earlier, NOON)
    assert refused.value.code == "trust.peer.gone"


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([SLEEP, "60"])
    with held(child.pid) as peer:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not peer.alive()
    child.wait()


def test_a_descriptor_of_another_process_is_refused() -> None:
    with sleeping_process(SLEEP, "60") as child:
        pidfd = os.pidfd_open(os.getpid())
        with pytest.raises(Rejected) as refused:
            peer_of_pid(pidfd, child.pid)
        os.close(pidfd)
    assert refused.value.code == "trust.peer.mismatch"


def test_a_descriptor_that_is_no_pidfd_is_refused() -> None:
    with Path(os.devnull).open() as file, pytest.raises(Rejected):
        peer_of_pid(file.fileno(), os.getpid())


def test_the_peer_of_a_socket_is_who_connected_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs, peer_of_socket(ours) as peer:
        assert (peer.pid, peer.uid, peer.gid, peer.alive()) == (os.getpid(), os.getuid(), os.getgid(), True)


def test_a_kernel_without_peer_pidfds_is_served_by_start_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SO_PEERPIDFD", 9999)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs, peer_of_socket(ours) as peer:
        assert UnixAttestor().attest(peer, NOON).value("uid") == str(os.getuid())


def test_closing_a_peer_twice_closes_one_descriptor() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of_socket(ours)
        peer.close()
        reused = os.open(os.devnull, os.O_RDONLY)
        peer.close()
        os.close(reused)


def test_a_process_name_full_of_parentheses_does_not_shift_its_start_time(tmp_path: Path) -> None:
    binary = tmp_path / ") S 1 (x"
    shutil.copy(SLEEP, binary)
    with sleeping_process(SLEEP, "60") as first, sleeping_process(str(binary), "60") as second:
        ticks = [processes.start_ticks_of(child.pid) for child in (first, second)]
    assert ticks[0] is not None
    assert ticks[1] is not None
    assert 0 <= ticks[1] - ticks[0] < 500


def test_a_digest_is_read_again_when_the_file_was_written_even_if_its_time_was_set_back(tmp_path: Path) -> None:
    file, cache = tmp_path / "tool", DigestCache(8)

    def digest() -> str | None:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            return cache.of(descriptor)
        finally:
            os.close(descriptor)

    file.write_bytes(b"one")
    before, first = file.stat(), digest()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert digest() not in (None, first)


def test_a_device_is_not_hashed() -> None:
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    assert DigestCache(1).of(descriptor) is None
    os.close(descriptor)


def test_the_cache_stays_within_its_capacity(tmp_path: Path) -> None:
    cache = DigestCache(3)
    for number in range(10):
        (tmp_path / str(number)).write_bytes(bytes([number]))
        descriptor = os.open(tmp_path / str(number), os.O_RDONLY)
        cache.of(descriptor)
        os.close(descriptor)
    assert len(cache._known) == 3
