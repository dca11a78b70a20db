"""Callers of the agent's socket that want what is not theirs, or want to keep others from it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import h2
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from installation import installation
from remit.surface.agent import calls
from remit.surface.agent.sds import SERVICE
from remit.surface.agent.server import Limits
from remit.surface.agent.wire import workload_pb2 as wire
from workload_stage import HEADER, ME, Agent, channel, scenario

HOLDER = Path(__file__).with_name("holder.py")
PACKAGES = Path(h2.__file__).parents[1]


async def outcome(one: Agent) -> Status:
    """One caller with a connection of its own."""
    async with channel(one.path) as stub:
        try:
            await stub.FetchX509SVID(wire.X509SVIDRequest(), metadata=HEADER)
        except GRPCError as error:
            return error.status
        except (StreamTerminatedError, OSError):
            return Status.UNAVAILABLE
    return Status.OK


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_callers_without_an_identity_get_nothing_and_leave_nothing_behind() -> None:
    async def steps(one: Agent) -> None:
        await one.register("/other", "unix:uid:4242")
        before = descriptors()
        answers = []
        for _ in range(10):
            answers += await asyncio.gather(*(outcome(one) for _ in range(100)))
        assert len(answers) == 1000
        assert set(answers) <= {Status.PERMISSION_DENIED, Status.RESOURCE_EXHAUSTED}
        assert answers.count(Status.PERMISSION_DENIED) >= 900
        assert "trust.svid.issued" not in one.store.types()
        assert len(one.complaints) == answers.count(Status.PERMISSION_DENIED)
        async with asyncio.timeout(60):
            while descriptors() > before + 20:
                await asyncio.sleep(0.02)
        assert len(one.server._connections) <= 1
        assert not one.server._calls

    scenario(steps)


def test_callers_that_come_and_go_leave_no_watch_behind() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        before = {task.get_name() for task in asyncio.all_tasks()}
        for _ in range(20):
            async with channel(one.path) as stub, stub.FetchX509SVID.open(metadata=HEADER) as stream:
                await stream.send_message(wire.X509SVIDRequest(), end=True)
                assert await stream.recv_message() is not None
                await stream.cancel()
        async with asyncio.timeout(60):
            while len({task.get_name() for task in asyncio.all_tasks()} - before) > 3:
                await asyncio.sleep(0.02)

    scenario(steps)


def test_a_flood_of_idle_streams_is_bounded_for_its_user() -> None:
    async def steps(one: Agent) -> None:
        await one.register()
        async with grpc.aio.insecure_channel(f"unix:{one.path}") as opened:
            open_one = opened.unary_stream("/SpiffeWorkloadAPI/FetchX509SVID")
            held = [open_one(b"", metadata=tuple(HEADER.items())) for _ in range(30)]
            codes = [await _refused(each) for each in held]
            assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 10
            assert one.server._calls[os.getuid()] == 20
            assert await outcome(one) is Status.RESOURCE_EXHAUSTED
            for each in held:
                each.cancel()
        async with asyncio.timeout(60):
            while one.server._calls[os.getuid()]:
                await asyncio.sleep(0.02)
        assert (await one.client("x509"))["ids"] == ["spiffe://remit.test/job"]

    scenario(steps, limits=Limits(calls_per_uid=20))


async def _refused(call: Any) -> grpc.StatusCode | None:
    """How the call was refused; `None` when it was served, and stays open."""
    try:
        await asyncio.wait_for(call.read(), 60)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


@pytest.mark.parametrize("path", ["/SpiffeWorkloadAPI/FetchX509SVID", f"/{SERVICE}/StreamSecrets"])
def test_a_stream_that_never_asks_is_hung_up_on(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REQUEST_SECONDS", 0.2)

    async def steps(one: Agent) -> None:
        await one.register()
        async with grpc.aio.insecure_channel(f"unix:{one.path}") as opened:
            call = opened.stream_stream(path)(metadata=(("workload.spiffe.io", "true"),))
            assert await asyncio.wait_for(call.code(), 60) is grpc.StatusCode.DEADLINE_EXCEEDED

    scenario(steps)


@pytest.mark.may_skip("only root can choose the next process number")
def test_a_successor_of_the_same_number_inherits_nothing() -> None:
    """A caller ends, a registered program gets its number, and an heir calls over the dead caller's connection."""
    chooser = Path("/proc/sys/kernel/ns_last_pid")
    sleep = shutil.which("sleep")
    if os.getuid() != 0 or not os.access(chooser, os.W_OK) or sleep is None:
        pytest.skip("process numbers: only root can choose the next one")

    async def steps(one: Agent) -> None:
        await one.register("/victim", ME, f"unix:path:{Path(sleep).resolve()}")
        heir = await asyncio.create_subprocess_exec(
            sys.executable, HOLDER, "heir", one.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
        )  # fmt: skip
        assert heir.stdout is not None
        assert heir.stdin is not None
        number = int(await asyncio.wait_for(heir.stdout.readline(), 60))
        victim = await asyncio.to_thread(_with_number, number, sleep)
        if victim is None:
            heir.stdin.write(b"\n")
            await heir.communicate()
            pytest.skip("process numbers: another process was quicker each time")
        try:
            assert victim.pid == number
            heir.stdin.write(b"\n")
            assert await asyncio.wait_for(heir.stdout.readline(), 60) == b"status 7\n"
        finally:
            victim.kill()
            victim.wait()
            with suppress(ProcessLookupError):
                heir.kill()
            await heir.communicate()
        assert "trust.svid.issued" not in one.store.types()

    def _with_number(number: int, program: str) -> subprocess.Popen[bytes] | None:
        for _ in range(200):
            chooser.write_text(str(number - 1))
            child = subprocess.Popen([program, "60"])
            if child.pid == number:
                return child
            child.kill()
            child.wait()
        return None

    scenario(steps)


def test_who_was_refused_is_in_the_ledger_counted() -> None:
    with installation() as made:
        environment = {
            **os.environ,
            "SPIFFE_ENDPOINT_SOCKET": f"unix://{made.data / 'agent.sock'}",
            "GRPC_VERBOSITY": "NONE",
        }
        client = [sys.executable, str(Path(__file__).with_name("spiffe_client.py")), "x509"]
        for _ in range(2):
            done = subprocess.run(client, env=environment, capture_output=True, text=True, timeout=60, check=True)
            assert "PERMISSION_DENIED" in done.stdout
        made.stop()
        made.start()
        entries = made.admin.get("/api/v1/ledger/entries")
    told = [each for each in _events(entries) if each["type"] == "trust.proof.refused"]
    assert {each["data"]["code"] for each in told} == {"trust.workload.unknown"}
    assert sum(each["data"]["count"] for each in told) == 2
    assert told[0]["data"]["sources"] == [f"uid {os.getuid()}"]


def _events(answer: object) -> list[dict[str, object]]:
    assert isinstance(answer, list | dict)
    listed = answer if isinstance(answer, list) else answer["entries"]
    return [each.get("event", each) for each in listed]
