"""`remit.agent.v1.Tasks` on `agent.sock`: one stream is one run of one task.

Each run:
1. the kernel says who the caller is, and that the child which it names is its own;
2. the files that the child will execute are opened through the caller's descriptors and hashed;
3. the claim is weighed (`TaskStarter`): refused, or granted with credentials, before the child is released;
4. the stream is the supervisor's life: when it breaks, the child is killed and its leases are revoked;
5. at the end of the child every lease is revoked, and the stream ends with what proved it.

The processes of a task are its child and, where the supervisor gave the child a cgroup of its own, all that is in it:
they end with the run. A run may be lazy: each need is decided at the begin, and issued when it is fetched. A process
may be its own task: then its leases end with the stream, and it is left alone.

An agent that is itself stopping leaves tasks alone: the next one takes them over (`LeaseEngine.start`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from remit.access.brokers.presentation import Credential, Presentation
from remit.access.leases.cgroups import LocalCgroups, group_of
from remit.access.leases.engine import LeaseEngine
from remit.access.leases.model import Issued
from remit.access.model import Lease, LeaseState, Need
from remit.access.ports import Brokers
from remit.access.tasks.command import MAX_ARGUMENTS
from remit.access.tasks.kinds import Task
from remit.access.tasks.start import MAX_NEEDS, Claim, Started, TaskStarter, Weighed, denied
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.surface.agent.children import Child, group_of_run, verify_child
from remit.surface.agent.plans import Planner
from remit.surface.agent.tasks_wire import tasks_pb2 as wire
from remit.surface.agent.tree import end_group
from remit.trust.process import Peer

_log = logging.getLogger("remit.agent.tasks")
MAX_FETCHES = 256
"""Fetches that one lazy run may make, those that were refused included."""
_ARGUMENT_BYTES = 32 * 1024
_BEGIN_SECONDS = 10.0
_EXECUTE_SECONDS = 10.0
"""How long a granted child may take to be executed before its files are looked at anyway."""
_GOODBYE_SECONDS = 10.0
"""How long the supervisor's last word is waited for after its child has ended."""

Prove = Callable[[str, str, str], Awaitable[Sequence[str]]]
"""Verifies a platform's token (its kind, the token, who showed it), and returns its selectors. Raises `Rejected`."""
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
        instance: str = "",
        prove: Prove | None = None,
    ) -> None:
        self._supervisors = Counter() if supervisors is None else supervisors
        """Pids of the supervisors whose streams are open: what a task puts into the background is their child."""
        self._starter = starter
        self._prove = prove
        self._planner = Planner(brokers, instance=instance)
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
            child = await asyncio.to_thread(verify_child, peer, begin.child_pid, itself=begin.in_process)
            claim = await _claim(begin, peer, child)
            if begin.proof:
                claim = replace(claim, selectors=tuple(await self._proved(begin, peer)))
            weighed = await self._starter.weigh(claim)
            if begin.dry_run:
                await stream.send_message(await self._planner.planned(claim, weighed))
                return
            run = _Run(stream, child, self._engine, self._proof_wait)
            run.itself = begin.in_process
            if begin.lazy:
                _require_allowed(weighed)
                run.fetch = partial(self._fetch, claim, run)
                definition = weighed.definition
                await stream.send_message(wire.RunResponse(granted=wire.Granted(identity=definition.identity)))
            else:
                await stream.send_message(self._granted(await self._start(claim, weighed, run)))
            await run.follow()
        except RemitError as error:
            if run is not None and run.grants:
                self._abandon(child, run, error.message)
            await stream.send_message(_refused(error))
        except BaseException:
            # The stream broke, or something is wrong with us: without a supervisor there is no task.
            self._abandon(child, run, "the supervisor went away")
            raise
        finally:
            if child is not None:
                child.close()

    async def _proved(self, begin: wire.Begin, peer: Peer) -> Sequence[str]:
        if self._prove is None:
            raise Rejected(
                "agent.proof.unheard", "this agent hears no proofs of platforms", next_step="run it with `--proof none`"
            )
        return await self._prove(begin.proof[:80], begin.proof_token, f"pid {peer.pid} uid {peer.uid}")

    async def _start(self, claim: Claim, weighed: Weighed, run: _Run) -> Started:
        started = await self._starter.start(claim, weighed, told=run.told)
        run.grants.append(started.grant.id)
        return started

    async def _fetch(self, claim: Claim, run: _Run, need: str) -> wire.RunResponse:
        """Decide and issue one need of a lazy run; a refusal is an answer, and the run goes on."""
        try:
            if need not in claim.needs:
                raise Rejected(
                    "agent.fetch.unknown",
                    f"`{need[:200]}` is no need of this run",
                    next_step="name it with `--need` when the task begins",
                )
            if need in run.fetched:
                raise Rejected("agent.fetch.twice", f"`{need[:200]}` was fetched already", next_step="keep it")
            run.fetched.add(need)
            try:
                alone = replace(claim, needs=(need,))
                started = await self._start(alone, await self._starter.weigh(alone), run)
            except BaseException:
                run.fetched.discard(need)
                raise
        except RemitError as error:
            answer = _refused(error)
            answer.refused.need = need
            return answer
        return self._granted(started)

    def _abandon(self, child: Child | None, run: _Run | None, why: str) -> None:
        if child is not None and not self._closing:
            if run is None or not run.itself:
                _kill(child)
            for grant in () if run is None else run.grants:
                self._engine.end_surely(grant, why)

    def _granted(self, started: Started) -> wire.RunResponse:
        credentials = [
            wire.Credential(
                need=issued.lease.need,
                lease=issued.lease.id,
                system=asked.need.system,
                target=asked.need.target,
                role=asked.need.role,
                settings=dict(issued.settings),
                secret="" if shown.withheld else issued.secret,
                fail_safe=self._brokers.manifest(asked.need.system).fail_safe,
                presentation=_shown(shown),
            )
            for asked, issued in started.credentials
            for shown in (self._presented(asked.need, issued),)
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

    def _presented(self, need: Need, issued: Issued) -> Presentation:
        credential = Credential(target=need.target, role=need.role, settings=issued.settings, secret=issued.secret)
        return self._brokers.present(need.system, credential)


class _Run:
    """A granted run, followed until its proof. One coroutine writes to the stream; `told` only queues."""

    def __init__(self, stream: RunStream, child: Child, engine: LeaseEngine, proof_wait: timedelta) -> None:
        self._stream = stream
        self._child = child
        self._engine = engine
        self._proof_wait = proof_wait
        self._out: asyncio.Queue[wire.RunResponse] = asyncio.Queue()
        self.grants: list[str] = []
        self.fetched: set[str] = set()
        self.fetch: Callable[[str], Awaitable[wire.RunResponse]] | None = None
        """Of a lazy run."""
        self.itself = False
        """The caller is its own task."""

    def told(self, lease: Lease) -> None:
        """A lease was withdrawn while the task runs."""
        message = wire.Withdrawn(lease=lease.id, need=lease.need, reason=lease.reason)
        self._out.put_nowait(wire.RunResponse(withdrawn=message))

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
        if not self.itself:
            _kill(self._child)
        ends = [self._engine.end(grant, reason="the task ended", wait=self._proof_wait) for grant in self.grants]
        leases = [lease for each in await asyncio.gather(*ends) for lease in each]
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
        fetching: set[asyncio.Task[None]] = set()
        try:
            while (message := await self._stream.recv_message()) is not None:
                if message.HasField("fetch") and self.fetch is not None and len(fetching) < MAX_FETCHES:
                    fetching.add(loop.create_task(self._answer(self.fetch, message.fetch.need)))
                elif message.HasField("started"):
                    checking.cancel()
                    self._check_files()
                elif message.HasField("ended"):
                    return
                else:
                    raise GRPCError(Status.INVALID_ARGUMENT, "a run begins once")
        finally:
            checking.cancel()
            # What is being issued is issued to its end, so that its grant is known and ended with the others.
            await asyncio.shield(asyncio.gather(*fetching, return_exceptions=True))
        raise GRPCError(Status.ABORTED, "the supervisor ended the stream before its task")

    async def _answer(self, fetch: Callable[[str], Awaitable[wire.RunResponse]], need: str) -> None:
        self._out.put_nowait(await fetch(need))

    def _check_files(self) -> None:
        if not self.itself and not self._child.unchanged():
            _log.warning("the program of process %d changed after it was measured; it is killed", self._child.pid)
            _kill(self._child)

    async def _tell(self) -> None:
        while True:
            await self._stream.send_message(await self._out.get())


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
    if begin.in_process:
        program, argv = await asyncio.to_thread(child.own_program, peer)
    else:
        script = begin.script_fd if begin.has_script else None
        program = await asyncio.to_thread(child.open_program, peer, begin.executable_fd, script, argv[1:])
        child.group = await asyncio.to_thread(group_of_run, child, peer)
    return Claim(
        task=begin.task,
        subject=child.subject(),
        process=await asyncio.to_thread(_bound_to, child),
        program=program,
        argv=argv,
        needs=tuple(begin.needs),
        life=timedelta(seconds=begin.life_seconds) if begin.life_seconds else None,
        reason=begin.reason,
    )


def _bound_to(child: Child) -> Task:
    """What the leases are bound to: the whole tree of the child, where a group of its own holds it."""
    path = group_of(child.pid) if child.group is not None else ""
    return LocalCgroups().task(path) if path else child.process


def _require_allowed(weighed: Weighed) -> None:
    """A lazy run is refused at its begin where one of its needs is denied now: nobody waits for half of it."""
    for one in weighed.asked:
        if not one.decision.allowed:
            raise denied(one)


def _shown(shown: Presentation) -> wire.Presentation:
    return wire.Presentation(
        variables=shown.variables,
        secrets=shown.secrets,
        files=shown.files,
        pointers=shown.pointers,
        stale=shown.stale,
        url=shown.url,
    )


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
    if child.group is not None:
        # Off the loop: what is in the group is dead with the first write, and removing it may have to wait.
        threading.Thread(target=end_group, args=(child.group,), name="remit-tree", daemon=True).start()
