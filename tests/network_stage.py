"""A network of its own for a block: everything that is started in it sees an empty machine with a loopback interface."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CLONE_NEWNET = 0x40000000


def ip(*words: str) -> None:
    """Type `ip WORDS`."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {words}: {done.stderr}"


@contextmanager
def private_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace of its own."""
    for program, package in (("nft", "nftables"), ("ip", "iproute2")):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{package}: not installed")
    if os.geteuid() != 0:
        pytest.skip("nftables: only root has a network of its own")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            ip("link", "set", "lo", "up")
            yield
        finally:
            assert libc.setns(before, _CLONE_NEWNET) == 0, "the former network cannot be entered again"
    finally:
        os.close(before)


HERE, THERE, ELSEWHERE = "10.77.0.1", "10.77.0.2", "10.77.0.3"
"""Our address on the wire, and the two of the machine at its other end."""


@contextmanager
def second_machine(port: int) -> Iterator[str]:
    """A machine at the other end of a wire, by the name of its namespace; here something listens on `HERE`:`port`."""
    name = f"rm{os.getpid()}"
    ip("netns", "add", name)
    listener = None
    try:
        ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
        ip("link", "set", "vb", "netns", name)
        ip("addr", "add", f"{HERE}/24", "dev", "va")
        ip("link", "set", "va", "up")
        for address in (THERE, ELSEWHERE):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "vb")
        ip("-n", name, "link", "set", "vb", "up")
        program = (
            "import socket, sys\ns = socket.create_server((sys.argv[1], int(sys.argv[2])))\n"
            "print('ready', flush=True)\nwhile True: s.accept()[0].close()"
        )
        command = ["python3", "-c", program, HERE, str(port)]
        listener = subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, text=True)
        assert listener.stdout is not None and listener.stdout.readline() == "ready\n"
        yield name
    finally:
        if listener is not None:
            listener.kill()
            listener.communicate()
        ip("netns", "del", name)


def connects(host: str, port: int, *, uid: int | None = None, netns: str = "", source: str = "") -> bool:
    """Whether a plain program of that user, or in that named namespace, gets a connection."""
    inside = ["ip", "netns", "exec", netns] if netns else []
    if source:
        program = (
            "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5, (sys.argv[3], 0)).close()"
        )
        command = [*inside, "python3", "-c", program, host, str(port), source]
    else:
        command = [*inside, "timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]
    done = subprocess.run(command, user=uid, cwd="/", capture_output=True, check=False, timeout=60)
    return done.returncode == 0
