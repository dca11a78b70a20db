"""A thousand workloads on one Workload API: each a process of its own, whose stream this program reads.

    python -m bench.workloads SOCKET COUNT

is the other side: it makes the processes, follows their streams, and prints a line whenever every one of them holds an
SVID of an authority that no SVID before was of.
"""

from __future__ import annotations

import array
import asyncio
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.race import Row, scaled

_STREAMS = 1000
_SERVED_SECONDS = 10.0
_MEBIBYTES = 128.0


def rotation_and_memory() -> Iterator[Row]:
    """From the order to taint an authority to the last of 1,000 that has a new SVID; memory of their streams."""
    streams = scaled(_STREAMS, 20)
    seconds, mebibytes = asyncio.run(_serve(streams))
    yield Row(
        name=f"rotation of {streams:,} connected workloads, the last served", ours=seconds, unit="s", against="floor",
        theirs=_SERVED_SECONDS, better="lower", bar=1.0,
    )  # fmt: skip
    yield Row(
        name="memory for each 1,000 streams", ours=mebibytes * 1000 / streams, unit="MiB", against="floor",
        theirs=_MEBIBYTES, better="lower", bar=1.0,
    )  # fmt: skip


async def _serve(streams: int) -> tuple[float, float]:
    from bench.trust import house
    from remit.surface.agent.server import Limits
    from remit.surface.agent.workload_api import serve_workload_api
    from remit.trust import AuthorityKind

    async with house() as one:
        await one.trust.create_entry(
            spiffe_id="spiffe://bench.test/crowd", selectors=[f"unix:uid:{os.getuid()}"], actor="bench"
        )
        folder = Path(tempfile.mkdtemp(prefix="remit-b-", dir="/tmp"))
        limits = Limits(connections_per_uid=4096, calls_per_uid=4096, burst=4096)
        server = await serve_workload_api(folder / "agent.sock", one.trust, limits=limits)
        before = _resident()
        crowd = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.workloads", str(folder / "agent.sock"), str(streams),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await _line(crowd)
            grown = _resident() - before
            await one.trust.rotate_authority(AuthorityKind.X509, actor="bench")
            old = next(each for each in one.trust.authorities() if each.state.value == "old")
            begun = time.perf_counter()
            await one.trust.taint_authority(old.id, actor="bench")
            await _line(crowd)
            return time.perf_counter() - begun, grown / 2**20
        finally:
            assert crowd.stdin is not None
            crowd.stdin.close()
            await crowd.wait()
            server.close()
            await server.wait_closed()
            (folder / "agent.sock").unlink(missing_ok=True)
            folder.rmdir()


async def _line(crowd: asyncio.subprocess.Process) -> None:
    assert crowd.stdout is not None
    assert await asyncio.wait_for(crowd.stdout.readline(), 120), "the workloads ended"


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


# -- the other side


def _connected(path: str) -> socket.socket:
    """A connection that a child of ours made: to the kernel, and so to the agent, it is the child's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.fork() == 0:
        ours.close()
        made = socket.socket(socket.AF_UNIX)
        made.connect(path)
        theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.fileno()]))])
        made.close()
        signal.pause()
        os._exit(0)
    theirs.close()
    with ours:
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        (_, _, data), *_ = ancillary
        found = socket.socket(fileno=array.array("i", data[:4])[0])
    found.setblocking(False)
    return found


async def _follow(sockets: list[socket.socket]) -> None:
    from cryptography import x509
    from grpclib.client import Channel

    from remit.providers.tls import split_der
    from remit.surface.agent.wire import workload_pb2 as wire
    from remit.surface.agent.wire.workload_grpc import SpiffeWorkloadAPIStub

    class Given(Channel):
        """A channel over a connection that exists."""

        def __init__(self, sock: socket.socket) -> None:
            super().__init__(path="given")
            self._sock = sock

        async def _create_connection(self) -> Any:
            loop = asyncio.get_running_loop()
            return (await loop.create_unix_connection(self._protocol_factory, sock=self._sock))[1]

    held: dict[int, bytes] = {}
    told: set[bytes] = set()

    def note(number: int, issuer: bytes) -> None:
        held[number] = issuer
        if len(held) == len(sockets) and issuer not in told and set(held.values()) == {issuer}:
            told.add(issuer)
            print("all", flush=True)

    channels = [Given(sock) for sock in sockets]

    async def one(number: int, channel: Channel) -> None:
        stub = SpiffeWorkloadAPIStub(channel)
        async with stub.FetchX509SVID.open(metadata={"workload.spiffe.io": "true"}) as stream:
            await stream.send_message(wire.X509SVIDRequest(), end=True)
            async for message in stream:
                leaf = x509.load_der_x509_certificate(split_der(message.svids[0].x509_svid)[0])
                note(number, leaf.issuer.public_bytes())

    tasks = [asyncio.create_task(one(number, channel)) for number, channel in enumerate(channels)]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        channel.close()


def main() -> None:
    """Make the processes, then follow their streams until standard input ends."""
    path, count = sys.argv[1], int(sys.argv[2])
    ours = os.getpid()
    sockets = [_connected(path) for _ in range(count)]
    children = [int(each) for each in Path(f"/proc/{ours}/task/{ours}/children").read_text().split()]
    try:
        asyncio.run(_follow(sockets))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
