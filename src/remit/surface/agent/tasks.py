"""`remit.agent.v1.Tasks` on `agent.sock`: one stream is one run of one task.

Each run:
1. the kernel says who the caller is, and that the child which it names is its own;
2. the files that the child will execute are opened through the caller's descriptors and hashed;
3. the claim is weighed (`TaskStarter`): refused, or granted with credentials, before the child is released;
4. the stream is the supervisor's life: when it breaks, the child is killed and its leases are revoked;
5. at the end of the child every lease is revoked, and the stream ends with what proved it.

An agent that is itself stopping leaves tasks alone: the next one takes them over (`LeaseEngine.start`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from remit.access.leases.engine import LeaseEngine
from remit.access.model import Lease, LeaseState
from remit.access.ports import Brokers
from remit.access.tasks.command import MAX_ARGUMENTS
from remit.access.tasks.start import MAX_NEEDS, Claim, Started, TaskStarter, Weighed
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.surface.agent.children import Child, verify_child
from remit.surface.agent.tasks_wire import tasks_pb2 as wire
from remit.trust.process import Peer

_log = logging.getLogger("remit.agent.tasks")
_ARGUMENT_BYTES = 32 * 1024
_BEGIN_SECONDS = 10.0
_EXECUTE_SECONDS = 10.0
"""How long a granted child may take to be executed before its files are looked at anyway."""
_GOODBYE_SECONDS = 10.0
"""How long the supervisor's last word is waited for after its child has ended."""

RunStream = Stream[wire.RunRequest, wire.RunResponse]


class TaskService:
    """The gRPC handler; mount it on the agent's server beside the Workload API.

    Call `closing` before the server is closed, or the tasks that run are taken for abandoned and killed.
    """

    def __init__(
        self,
        *,
        starter: TaskStarter,
        engine: LeaseEngine,
        brokers: Brokers,
        peer_of: Callable[[Stream[Any, Any]], Peer],
        streams_per_uid: int = 256,
        proof_wait: timedelta = timedelta(seconds=20),
        supervisors: Counter[int] | None = None,
    ) -> None:
        self._supervisors = Counter() if supervisors is None else supervisors
        """Pids of the supervisors whose streams are open: what a task puts into the background is their child."""
        self._starter = starter
        self._engine = engine
        self._brokers = brokers
        self._peer_of = peer_of
        self._streams_per_uid = streams_per_uid
        self._proof_wait = proof_wait
        self._streams: Counter[int] = Counter()
        self._closing = False

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/remit.agent.v1.Tasks/Run": Handler(self.run, Cardinality.STREAM_STREAM, wire.RunRequest, wire.RunResponse)
        }

    def closing(self) -> None:
        """The agent stops: from now on a broken stream is our doing, and tasks go on."""
        self._closing = True

    async def run(self, stream: RunStream) -> None:
        """Serve one run from its begin to its proof."""
        try:
            peer = self._peer_of(stream)
        except RemitError as error:
            await stream.send_message(_refused(error))
            return
        with peer:
            if self._streams[peer.uid] >= self._streams_per_uid:
                raise GRPCError(Status.RESOURCE_EXHAUSTED, "this user runs too many tasks at the same time")
            self._streams[peer.uid] += 1
            self._supervisors[peer.pid] += 1
            try:
                await self._serve(stream, peer)
            finally:
                self._supervisors[peer.pid] -= 1
                if self._supervisors[peer.pid] <= 0:
                    del self._supervisors[peer.pid]
                self._streams[peer.uid] -= 1
                if self._streams[peer.uid] <= 0:
                    del self._streams[peer.uid]

    async def _serve(self, stream: RunStream, peer: Peer) -> None:
        child: Child | None = None
        run: _Run | None = None
        try:
            begin = await _first(stream)
            child = await asyncio.to_thread(verify_child, peer, begin.child_pid)
            claim = await _claim(begin, peer, child)
            weighed = await self._starter.weigh(claim)
            if begin.dry_run:
                await stream.send_message(_planned(weighed))
                return
            run = _Run(stream, child, self._engine, self._proof_wait)
            started = await self._starter.start(claim, weighed, told=run.told)
            run.grant = started.grant.id
            await stream.send_message(self._granted(started))
            await run.follow()
        except RemitError as error:
            if run is not None and run.grant:
                self._abandon(child, run, error.message)
            await stream.send_message(_refused(error))
        except BaseException:
            # The stream broke, or something is wrong with us: without a supervisor there is no task.
            self._abandon(child, run, "the supervisor went away")
            raise
        finally:
            if child is not None:
                child.close()

    def _abandon(self, child: Child | None, run: _Run | None, why: str) -> None:
        if child is not None and not self._closing:
            _kill(child)
            if run is not None and run.grant:
                self._engine.end_surely(run.grant, why)

    def _granted(self, started: Started) -> wire.RunResponse:
        credentials = [
            wire.Credential(
                need=issued.lease.need,
                lease=issued.lease.id,
                system=asked.need.system,
                target=asked.need.target,
                role=asked.need.role,
                settings=dict(issued.settings),
                secret=issued.secret,
                fail_safe=self._brokers.manifest(asked.need.system).fail_safe,
            )
            for asked, issued in started.credentials
        ]
        grant = started.grant
        return wire.RunResponse(
            granted=wire.Granted(
                grant=grant.id,
                identity=grant.identity,
                expires_us=round(grant.expires.timestamp() * 1_000_000),
                credentials=credentials,
            )
        )


class _Run:
    """A granted run, followed until its proof. One coroutine writes to the stream; `told` only queues."""

    def __init__(self, stream: RunStream, child: Child, engine: LeaseEngine, proof_wait: timedelta) -> None:
        self._stream = stream
        self._child = child
        self._engine = engine
        self._proof_wait = proof_wait
        self._withdrawn: asyncio.Queue[Lease] = asyncio.Queue()
        self.grant = ""

    def told(self, lease: Lease) -> None:
        """A lease was withdrawn while the task runs."""
        self._withdrawn.put_nowait(lease)

    async def follow(self) -> None:
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()

        def on_end() -> None:
            if not gone.done():
                gone.set_result(None)

        loop.add_reader(self._child.pidfd, on_end)
        reading = loop.create_task(self._read())
        telling = loop.create_task(self._tell())
        try:
            await asyncio.wait({reading, gone, telling}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and gone.done():
                await asyncio.wait({reading}, timeout=_GOODBYE_SECONDS)
            for task in (telling, reading):
                if task.done():
                    task.result()
        finally:
            loop.remove_reader(self._child.pidfd)
            for task in (reading, telling):
                task.cancel()
            await asyncio.gather(reading, telling, return_exceptions=True)
        # The supervisor says that its child has ended: then it has, or it does now.
        _kill(self._child)
        leases = await self._engine.end(self.grant, reason="the task ended", wait=self._proof_wait)
        status: dict[str, str] = {}
        if any(lease.state is LeaseState.REVOKING for lease in leases):
            status = {held.id: held.trouble for held in (await self._engine.status()).not_contained}
        await self._stream.send_message(
            wire.RunResponse(revoked=wire.Revoked(outcomes=[_outcome(lease, status) for lease in leases]))
        )

    async def _read(self) -> None:
        """Read until `Ended`; a stream that ends otherwise is a supervisor that went away."""
        loop = asyncio.get_running_loop()
        checking = loop.call_later(_EXECUTE_SECONDS, self._check_files)
        try:
            while (message := await self._stream.recv_message()) is not None:
                if message.HasField("started"):
                    checking.cancel()
                    self._check_files()
                elif message.HasField("ended"):
                    return
                else:
                    raise GRPCError(Status.INVALID_ARGUMENT, "a run begins once")
        finally:
            checking.cancel()
        raise GRPCError(Status.ABORTED, "the supervisor ended the stream before its task")

    def _check_files(self) -> None:
        if not self._child.unchanged():
            _log.warning("the program of process %d changed after it was measured; it is killed", self._child.pid)
            _kill(self._child)

    async def _tell(self) -> None:
        while True:
            lease = await self._withdrawn.get()
            message = wire.Withdrawn(lease=lease.id, need=lease.need, reason=lease.reason)
            await self._stream.send_message(wire.RunResponse(withdrawn=message))


async def _first(stream: RunStream) -> wire.Begin:
    try:
        async with asyncio.timeout(_BEGIN_SECONDS):
            message = await stream.recv_message()
    except (TimeoutError, DecodeError):
        raise GRPCError(Status.INVALID_ARGUMENT, "a run begins with `Begin`") from None
    if message is None or not message.HasField("begin"):
        raise GRPCError(Status.INVALID_ARGUMENT, "a run begins with `Begin`")
    return message.begin


async def _claim(begin: wire.Begin, peer: Peer, child: Child) -> Claim:
    argv = tuple(begin.argv)
    if (
        len(begin.task) > 80
        or len(begin.needs) > MAX_NEEDS
        or any(len(need) > 512 for need in begin.needs)
        or len(begin.reason) > 1000
        or len(argv) > MAX_ARGUMENTS
        or sum(len(one.encode()) for one in argv) > _ARGUMENT_BYTES
    ):
        raise Rejected(
            "agent.begin.too_large",
            "the request is larger than any task needs",
            next_step=f"at most {MAX_NEEDS} needs of 512 characters, and 1,000 characters of reason",
        )
    script = begin.script_fd if begin.has_script else None
    program = await asyncio.to_thread(child.open_program, peer, begin.executable_fd, script, argv[1:])
    return Claim(
        task=begin.task,
        subject=child.subject(),
        process=child.process,
        program=program,
        argv=argv,
        needs=tuple(begin.needs),
        life=timedelta(seconds=begin.life_seconds) if begin.life_seconds else None,
        reason=begin.reason,
    )


def _planned(weighed: Weighed) -> wire.RunResponse:
    verdicts = [
        wire.Verdict(
            need=str(one.need),
            allowed=one.decision.allowed,
            reasons=[f"{reason.id}: {reason.text}" for reason in one.decision.reasons],
            needed=list(one.decision.needed),
            decision=one.decision.id,
        )
        for one in weighed.asked
    ]
    definition = weighed.definition
    planned = wire.Planned(verdicts=verdicts, identity=definition.identity, task_digest=definition.digest)
    return wire.RunResponse(planned=planned)


def _refused(error: RemitError) -> wire.RunResponse:
    next_step = error.next_step
    if not next_step and isinstance(error, Unavailable):
        next_step = "try again in a moment"
    return wire.RunResponse(refused=wire.Refused(code=error.code, message=error.message, next_step=next_step))


def _outcome(lease: Lease, trouble: dict[str, str]) -> wire.Outcome:
    said: Any = lease.proof
    proof = said.get("proof", {})
    return wire.Outcome(
        lease=lease.id,
        target=lease.target,
        principal=lease.principal,
        state=lease.state.value,
        refusal=proof.get("refusal", ""),
        control=proof.get("control", ""),
        trouble=proof.get("unproved", "") or trouble.get(lease.id, ""),
        sessions_ended=said.get("sessions_ended", 0),
        left_behind=[f"{one['what']}: {one['fate']}" for one in said.get("left_behind", ())],
        duration_us=said.get("duration_us", 0),
    )


def _kill(child: Child) -> None:
    if child.pidfd >= 0:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
