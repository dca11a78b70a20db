"""`remit run`: a command as a task, with credentials that end when it ends.

1. CMD is opened once; a child is forked that waits, and dies with this process;
2. the agent is asked over `agent.sock`: it looks at the child and at the opened file, decides and grants;
3. the credentials go into private files, and the child is released to execute that very file;
4. signals are passed on; when the child ends the agent revokes, and says what proved it.

The exit code is CMD's own, 128 + N for signal N, 125 when Remit refuses, 126 and 127 when CMD cannot be executed or
found. Imports little before the fork, and the gRPC client only after it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from remit.access.tasks.command import Command, open_command
from remit.kernel.errors import NotFound, Rejected, RemitError, Unavailable
from remit.surface.cli.waiting_child import FORWARDED, NOT_EXECUTABLE, NOT_FOUND, WaitingChild

if TYPE_CHECKING:
    from remit.surface.agent.tasks_wire import tasks_pb2

REFUSED = 125
_ARGUMENT_BYTES = 32 * 1024
_PROOF_SECONDS = 30.0
_ANSWER_SECONDS = 5.0
_REAP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    task: str
    needs: tuple[str, ...]
    argv: tuple[str, ...]
    socket: Path
    env: bool = False
    dry_run: bool = False
    quiet: bool = False
    json: bool = False
    life_seconds: int = 0
    reason: str = ""


def main(argv: Sequence[str]) -> int:
    """Run what the command line says; returns the exit code."""
    return run(parse(argv))


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; a usage error ends the process with code 125, as every refusal of ours does."""
    head, tail = _split(argv)
    parser = _Parser(prog="remit run", allow_abbrev=False, add_help=False)
    parser.add_argument("--task", required=True)
    parser.add_argument("--need", action="append", default=[])
    parser.add_argument("--env", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--ttl", type=_seconds, default=0)
    parser.add_argument("--reason", default="")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("REMIT_DATA") or ".remit"))
    parser.add_argument("--socket-dir", type=Path)
    said = parser.parse_args(head)
    if not tail:
        parser.error("no command: write it after `--`")
    named = os.environ.get("REMIT_AGENT_SOCK", "")
    given = any(word.split("=")[0] in ("--data", "--socket-dir") for word in head)
    socket = Path(named) if named and not given else (said.socket_dir or said.data) / "agent.sock"
    return Options(
        task=said.task,
        needs=tuple(said.need),
        argv=tuple(tail),
        socket=socket,
        env=said.env,
        dry_run=said.dry_run,
        quiet=said.quiet,
        json=said.format == "json",
        life_seconds=said.ttl,
        reason=said.reason,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _say(f"remit: {message}")
        _say("  → remit run --task NAME --need SYSTEM://TARGET?role=ROLE -- CMD")
        raise SystemExit(REFUSED)


def _split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if "--" not in argv:
        return argv, ()
    at = list(argv).index("--")
    return argv[:at], argv[at + 1 :]


def _seconds(text: str) -> int:
    """`90`, `90s`, `30m`, `2h`."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not number.isdecimal() or not 0 < int(number) * units[unit] <= 43_200:
        raise argparse.ArgumentTypeError(f"`{text}` is no time between 1s and 12h")
    return int(number) * units[unit]


def run(options: Options) -> int:
    """Run a command as a task; returns its exit code.

    A task that nobody registered is registered first where the caller administrates this installation: trust on first
    use, for those alone who could register it anyway.
    """
    try:
        return _run_once(options)
    except RemitError as error:
        if error.code == "access.task.unknown" and not options.dry_run:
            from remit.surface.cli.first_use import register

            if register(options.task, options.argv, options.socket, quiet=options.quiet):
                return _run_again(options)
        _say_error(error)
        return REFUSED


def _run_again(options: Options) -> int:
    try:
        return _run_once(options)
    except RemitError as error:
        _say_error(error)
        return REFUSED


def _run_once(options: Options) -> int:
    try:
        command = open_command(options.argv, os.environ.get("PATH", os.defpath))
    except RemitError as error:
        _say_error(error)
        return NOT_FOUND if isinstance(error, NotFound) else NOT_EXECUTABLE
    child = WaitingChild(command)
    try:
        return asyncio.run(_Supervisor(options, command, child).supervise())
    finally:
        child.close()
        command.close()


class _Supervisor:
    """One run, from the question to the proof."""

    def __init__(self, options: Options, command: Command, child: WaitingChild) -> None:
        self._options = options
        self._command = command
        self._child = child
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
                    return self._show_plan(answer.planned)
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
        )
        answer: tasks_pb2.RunResponse = await stream.ask(wire.RunRequest(begin=begin), self._options.socket)
        if answer.HasField("refused"):
            said = answer.refused
            raise Rejected(said.code, said.message, next_step=said.next_step)
        return answer

    async def _go(self, stream: Any, wire: Any, granted: Any, ended: asyncio.Future[None]) -> int:
        """Hand over, release, wait for the end, and for the proof of it."""
        from remit.surface.cli.handover import Handed, Handover

        credentials = [
            Handed(
                need=one.need,
                lease=one.lease,
                system=one.system,
                target=one.target,
                role=one.role,
                settings=dict(one.settings),
                secret=one.secret,
                fail_safe=one.fail_safe,
            )
            for one in granted.credentials
        ]
        handover = Handover(pid=os.getpid())
        try:
            handover.write(credentials)
            env = handover.environment(credentials, os.environ, secrets=self._options.env)
            env |= {"REMIT_TASK": self._options.task, "REMIT_GRANT": granted.grant}
            script = ""
            if self._command.script >= 0:
                env["REMIT_SCRIPT"] = self._command.script_path
                script = handover.link(self._command.script_path, self._command.script)
            for one in credentials:
                if not one.fail_safe:
                    self._note(f"the lease on `{one.target}` is not fail-safe: that target ends no session by itself")
            if self._interrupted:
                self._child.kill()
            trouble = self._child.release(env, script=script)
            self._released = True
            if trouble:
                _say(f"remit: the command cannot be executed: {trouble}")
            await stream.tell(wire.RunRequest(started=wire.Started()))
            following = asyncio.ensure_future(self._follow(stream))
            while not ended.done():
                await asyncio.wait({ended}, timeout=_REAP_SECONDS)
                self._child.reap_adopted()
            code = self._child.reap()
            self._child.end_adopted()
            await stream.tell(wire.RunRequest(ended=wire.Ended(exit_code=code)))
        finally:
            handover.close()
        await self._await_proof(following, granted, code)
        return code

    async def _follow(self, stream: Any) -> Any:
        """Read until the proof; `None` when the agent goes away before it."""
        while (message := await stream.next()) is not None:
            if message.HasField("withdrawn"):
                gone = message.withdrawn
                self._note(f"the credential for `{gone.need}` was withdrawn: {gone.reason}")
            elif message.HasField("revoked"):
                return message.revoked
        return None

    async def _await_proof(self, following: asyncio.Future[Any], granted: Any, code: int) -> None:
        try:
            async with asyncio.timeout(_PROOF_SECONDS):
                revoked = await following
        except TimeoutError:
            revoked = None
        if revoked is None:
            self._note("the agent went away; it revokes when it is back, and the credentials run out by themselves")
        self._report(granted, revoked, code)

    def _report(self, granted: Any, revoked: Any, code: int) -> None:
        outcomes = [] if revoked is None else list(revoked.outcomes)
        if self._options.json:
            import json

            from google.protobuf.json_format import MessageToDict

            leases = [MessageToDict(one, preserving_proto_field_name=True) for one in outcomes]
            said = {"grant": granted.grant, "identity": granted.identity, "exit_code": code, "leases": leases}
            _say(json.dumps(said))
            return
        for one in outcomes:
            if one.state in ("revoked", "failed"):
                took = f" in {one.duration_us / 1000:.0f} ms" if one.duration_us else ""
                ended = f", {one.sessions_ended} sessions ended" if one.sessions_ended else ""
                proof = f": refused with `{one.refusal}`" if one.refusal else ""
                self._note(f"revoked {one.principal} on {one.target}{took}{ended}{proof}")
                for left in one.left_behind:
                    self._note(f"  left behind: {left}")
            elif one.state == "unproved":
                _say(f"remit: revoked {one.principal} on {one.target}, but not proved: {one.trouble}")
            else:
                _say(f"remit: {one.principal} on {one.target} is NOT contained yet: {one.trouble or 'still trying'}")
                _say("  → remit leases")

    def _show_plan(self, planned: Any) -> int:
        import json

        plan = {
            "task": self._options.task,
            "identity": planned.identity,
            "task_digest": planned.task_digest,
            "command": list(self._command.argv),
            "needs": [
                {
                    "need": one.need,
                    "allowed": one.allowed,
                    "decision": one.decision,
                    "reasons": list(one.reasons),
                    "needed": list(one.needed),
                }
                for one in planned.verdicts
            ],
        }
        if self._options.json:
            sys.stdout.write(json.dumps(plan) + "\n")
        else:
            lines = [f"task {self._options.task} as {planned.identity} ({planned.task_digest})"]
            for one in planned.verdicts:
                lines.append(f"  {'allowed' if one.allowed else 'DENIED '} {one.need}")
                lines += [f"          because {reason}" for reason in one.reasons]
                lines += [f"          needs {needed}" for needed in one.needed]
            sys.stdout.write("\n".join((*lines, "nothing was minted, nothing was run", "")))
        return 0 if all(one.allowed for one in planned.verdicts) else REFUSED

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

    def _note(self, text: str) -> None:
        if not self._options.quiet and not self._options.json:
            _say(f"remit: {text}")


def unreachable(path: Path) -> Unavailable:
    """Nobody serves the agent's socket."""
    return Unavailable(
        "agent.socket.silent",
        f"no agent answers at `{path}`",
        next_step="start it with `remit up`, or name its directory with `--data DIR`",
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _say_error(error: RemitError) -> None:
    _say(f"remit: {error.message}")
    if error.next_step:
        _say(f"  → {error.next_step}")
