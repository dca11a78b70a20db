"""`remit run`: a command as a task, with credentials that end when it ends.

1. CMD is opened once; a child is forked that waits, and dies with this process;
2. the agent is asked over `agent.sock`: it looks at the child and at the opened file, decides and grants;
3. the credentials go into private files, the environment or a socket, and the child is released to execute that file;
4. signals are passed on; when the child ends what it left behind ends, the agent revokes, and says what proved it.

The exit code is CMD's own, 128 + N for signal N, 125 when Remit refuses, 126 and 127 when CMD cannot be executed or
found. Imports little before the fork, and the gRPC client only after it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.access.tasks.command import Command, open_command
from remit.kernel.errors import NotFound, Rejected, RemitError, Unavailable
from remit.surface.agent.tree import Tree
from remit.surface.cli.run_options import REFUSED, Options, parse
from remit.surface.cli.run_report import note, report, say, say_error, show_plan
from remit.surface.cli.waiting_child import FORWARDED, NOT_EXECUTABLE, NOT_FOUND, WaitingChild

if TYPE_CHECKING:
    from remit.surface.agent.tasks_wire import tasks_pb2
    from remit.surface.cli.handover import Handed
    from remit.surface.cli.run_socket import HandoverSocket

_ARGUMENT_BYTES = 32 * 1024
_PROOF_SECONDS = 30.0
_ANSWER_SECONDS = 5.0
_REAP_SECONDS = 5.0


def main(argv: Sequence[str]) -> int:
    """Run what the command line says; returns the exit code."""
    if argv[:1] == ["github"]:
        from remit.surface.cli.run_github import main as run_github

        return run_github(argv[1:])
    if argv[:1] == ["kubernetes"]:
        from remit.surface.cli.run_kubernetes import main as run_kubernetes

        return run_kubernetes(argv[1:])
    options = parse(argv)
    if options.matrix:
        from remit.surface.cli.run_matrix import run_matrix

        return run_matrix(options, argv)
    return run(options)


def run(options: Options) -> int:
    """Run a command as a task; returns its exit code.

    A task that nobody registered is registered first where the caller administrates this installation: trust on first
    use, for those alone who could register it anyway.
    """
    try:
        return _run_once(options)
    except RemitError as error:
        refused = error
    if refused.code == "access.task.unknown" and not options.dry_run:
        from remit.surface.cli.first_use import register

        try:
            if register(options.task, options.argv, options.needs, options.socket, quiet=options.quiet):
                return _run_again(options)
        except RemitError as error:
            refused = error
    say_error(refused)
    return REFUSED


def _run_again(options: Options) -> int:
    try:
        return _run_once(options)
    except RemitError as error:
        say_error(error)
        return REFUSED


def _run_once(options: Options) -> int:
    try:
        command = open_command(options.argv, os.environ.get("PATH", os.defpath))
    except RemitError as error:
        say_error(error)
        return NOT_FOUND if isinstance(error, NotFound) else NOT_EXECUTABLE
    child = WaitingChild(command)
    tree = Tree()
    try:
        tree.take(child.pidfd)
        return asyncio.run(_Supervisor(options, command, child, tree).supervise())
    finally:
        child.close()
        tree.close()
        command.close()


class _Supervisor:
    """One run, from the question to the proof."""

    def __init__(self, options: Options, command: Command, child: WaitingChild, tree: Tree) -> None:
        self._options = options
        self._command = command
        self._child = child
        self._tree = tree
        self._fetching: asyncio.Future[Any] | None = None
        self._released = False
        self._interrupted = 0

    async def supervise(self) -> int:
        from grpclib.client import Channel

        from remit.surface.agent.tasks_wire import tasks_pb2 as wire
        from remit.surface.cli.run_stream import open_run

        self._listen_to_signals()
        channel = Channel(path=str(self._options.socket))
        try:
            async with open_run(channel) as stream:
                asking = asyncio.ensure_future(self._ask(stream, wire))
                ended = self._child_ended()
                waiting: set[asyncio.Future[Any]] = {asking, ended}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._interrupted:
                    asking.cancel()
                    return 128 + self._interrupted
                # A child that is gone without a signal of ours was ended by the agent, which says why.
                await asyncio.wait({asking}, timeout=_ANSWER_SECONDS)
                if not asking.done():
                    asking.cancel()
                    raise unreachable(self._options.socket)
                answer = asking.result()
                if answer.HasField("planned"):
                    return show_plan(self._options, self._command.argv, answer.planned, self._tree.told())
                return await self._go(stream, wire, answer.granted, ended)
        finally:
            channel.close()

    async def _ask(self, stream: Any, wire: Any) -> tasks_pb2.RunResponse:
        """Begin, and wait for the answer. Raises what was refused, and `Unavailable` when nobody answers."""
        options, command = self._options, self._command
        argv = command.argv if sum(len(os.fsencode(one)) for one in command.argv) <= _ARGUMENT_BYTES else ()
        begin = wire.Begin(
            task=options.task,
            child_pid=self._child.pid,
            executable_fd=command.executable,
            script_fd=max(command.script, 0),
            has_script=command.script >= 0,
            argv=[one.encode("utf-8", "replace").decode() for one in argv],
            needs=options.needs,
            dry_run=options.dry_run,
            life_seconds=options.life_seconds,
            reason=options.reason,
            lazy=options.lazy,
            proof=options.proof,
            proof_token=await job_token(options) if options.proof else "",
        )
        answer: tasks_pb2.RunResponse = await stream.ask(wire.RunRequest(begin=begin), self._options.socket)
        if answer.HasField("refused"):
            raise refusal(answer.refused)
        return answer

    async def _go(self, stream: Any, wire: Any, granted: Any, ended: asyncio.Future[None]) -> int:
        """Hand over, release, wait for the end, and for the proof of it."""
        from remit.surface.cli.handover import Handover

        options = self._options
        handover = Handover(pid=os.getpid())
        following = asyncio.ensure_future(self._follow(stream))
        door: HandoverSocket | None = None
        try:
            held = [read(one, name) for one, name in zip(granted.credentials, options.names, strict=False)]
            files = options.handover == "file"
            if files:
                handover.write(held)
            env = handover.environment(held, os.environ, secrets=options.env, files=files)
            env |= {"REMIT_TASK": options.task, "REMIT_GRANT": granted.grant}
            if options.handover.startswith("socket"):
                door = await self._open_door(handover.path, held, stream, wire)
                env["REMIT_SOCKET"] = str(door.path)
            script = ""
            if self._command.script >= 0:
                env["REMIT_SCRIPT"] = self._command.script_path
                script = handover.link(self._command.script_path, self._command.script)
            for one in held:
                if not one.fail_safe:
                    note(
                        options, f"the lease on `{one.target}` is not fail-safe: that target ends no session by itself"
                    )
            if self._interrupted:
                self._child.kill()
            trouble = self._child.release(env, script=script, keep=options.tree == "wait")
            self._released = True
            if trouble:
                say(f"remit: the command cannot be executed: {trouble}")
            await stream.tell(wire.RunRequest(started=wire.Started()))
            while not ended.done():
                await asyncio.wait({ended}, timeout=_REAP_SECONDS)
                self._child.reap_adopted()
            code = self._child.reap()
            kind = self._tree.kind
            self._tree.close()
            self._child.end_adopted()
            await stream.tell(wire.RunRequest(ended=wire.Ended(exit_code=code)))
        finally:
            if door is not None:
                door.close()
            handover.close()
        await self._await_proof(following, granted, code, kind)
        return code

    async def _open_door(self, folder: Path, held: Sequence[Handed], stream: Any, wire: Any) -> HandoverSocket:
        """Serve the credentials to descendants of the child; those of a lazy run are asked for on the way."""
        from remit.surface.cli.run_socket import HandoverSocket

        options = self._options
        labels = options.labels
        known = dict(zip(labels, held, strict=False))

        async def fetch(label: str) -> Handed:
            if label not in known:
                at = labels.index(label)
                granted = await self._fetch(stream, wire, options.needs[at])
                known[label] = read(granted.credentials[0], options.names[at])
            return known[label]

        once = options.handover == "socket-once"
        door = HandoverSocket(folder, labels, fetch, root=self._child.pid, once=once)
        await door.start()
        return door

    async def _fetch(self, stream: Any, wire: Any, need: str) -> Any:
        """Ask the agent for one need of a lazy run; the socket asks for one at a time."""
        from remit.access.targets import parse_need

        self._fetching = asyncio.get_running_loop().create_future()
        await stream.tell(wire.RunRequest(fetch=wire.Fetch(need=need)))
        try:
            async with asyncio.timeout(_PROOF_SECONDS):
                granted = await self._fetching
            if granted.credentials[0].need != str(parse_need(need)):
                raise unreachable(self._options.socket)  # an answer that came too late for who asked before
            return granted
        except TimeoutError:
            raise unreachable(self._options.socket) from None
        finally:
            self._fetching = None

    async def _follow(self, stream: Any) -> Any:
        """Read until the proof; `None` when the agent goes away before it."""
        while (message := await stream.next()) is not None:
            waiting = self._fetching if self._fetching is not None and not self._fetching.done() else None
            if message.HasField("granted") and waiting is not None:
                waiting.set_result(message.granted)
            elif message.HasField("refused") and waiting is not None:
                waiting.set_exception(refusal(message.refused))
            elif message.HasField("withdrawn"):
                gone = message.withdrawn
                note(self._options, f"the credential for `{gone.need}` was withdrawn: {gone.reason}")
            elif message.HasField("revoked"):
                return message.revoked
        if self._fetching is not None and not self._fetching.done():
            self._fetching.set_exception(unreachable(self._options.socket))
        return None

    async def _await_proof(self, following: asyncio.Future[Any], granted: Any, code: int, tree: str) -> None:
        try:
            async with asyncio.timeout(_PROOF_SECONDS):
                revoked = await following
        except TimeoutError:
            revoked = None
        if revoked is None:
            note(
                self._options,
                "the agent went away; it revokes when it is back, and the credentials run out by themselves",
            )
        report(self._options, granted, revoked, code, tree)

    # Signals and the child.

    def _child_ended(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def on_end() -> None:
            loop.remove_reader(self._child.pidfd)
            if not ended.done():
                ended.set_result(None)

        loop.add_reader(self._child.pidfd, on_end)
        return ended

    def _listen_to_signals(self) -> None:
        """Signals were blocked before the fork; a thread takes them one by one, and knows who sent them.

        The child is in our process group, so what the terminal sends (code above 0) has reached it already.
        """
        loop = asyncio.get_running_loop()

        def take() -> None:
            while True:
                info = signal.sigwaitinfo(FORWARDED)
                try:
                    loop.call_soon_threadsafe(self._on_signal, info.si_signo, info.si_code <= 0)
                except RuntimeError:
                    return

        threading.Thread(target=take, name="remit-signals", daemon=True).start()

    def _on_signal(self, number: int, personal: bool) -> None:
        self._interrupted = self._interrupted or number
        if not self._released:
            self._child.kill()
        elif personal and self._child.exit_code is None:
            self._child.kill(number)


def unreachable(path: Path) -> Unavailable:
    """Nobody serves the agent's socket."""
    return Unavailable(
        "agent.socket.silent",
        f"no agent answers at `{path}`",
        next_step="start it with `remit up`, or name its directory with `--data DIR`",
    )


async def job_token(options: Options) -> str:
    """The token by which the platform says which job this is. `Misconfigured`, `Unavailable` where it gives none."""
    from remit.trust.attestors.provers import prover

    where = {"file": options.proof_file} if options.proof_file else {}
    return str((await prover(options.proof, where).payload(options.audience))["token"])


def refusal(said: Any) -> Rejected:
    """What the agent refused, in its own words."""
    return Rejected(said.code, said.message, next_step=said.next_step)


def read(one: Any, name: str) -> Handed:
    """A credential as the agent sent it, called `name`."""
    from remit.access.brokers.presentation import Presentation
    from remit.surface.cli.handover import Handed

    shown = one.presentation
    return Handed(
        need=one.need,
        lease=one.lease,
        system=one.system,
        target=one.target,
        role=one.role,
        settings=dict(one.settings),
        secret=one.secret,
        fail_safe=one.fail_safe,
        presentation=Presentation(
            variables=dict(shown.variables),
            secrets=dict(shown.secrets),
            files=dict(shown.files),
            pointers=dict(shown.pointers),
            stale=tuple(shown.stale),
            url=shown.url,
        ),
        name=name,
    )
