"""The process as its own task: credentials for a block of a program, that end with the block.

    import remit

    with remit.task("nightly", needs=["postgres://orders?role=read"]) as task:
        connection = psycopg.connect(task["postgres://orders?role=read"].dsn)

The agent measures the interpreter and the script that the kernel says this process executes, so the task is registered
as for `remit run`: `remit task add nightly -- ./nightly.py`. The leases end when the block ends, by an exception too,
and when the process ends, however (the agent holds its pidfd). A program that the task starts is not stopped.

Needs no thread of the caller: one of our own holds the stream to the agent. After `os.fork` the child has no task.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from remit.kernel.errors import NotFound, Rejected, Unavailable

_SECONDS = 60.0
_PROOF_SECONDS = 30.0


class Credential:
    """One credential of a task that runs. `str` and `repr` show no secret."""

    def __init__(self, handed: Any, folder: Callable[[], Any]) -> None:
        self._handed = handed
        self._folder = folder
        self.withdrawn = ""
        """Why Remit took it away while the task ran; empty while it holds."""

    def __repr__(self) -> str:
        return f"Credential(need={self.need!r})"

    @property
    def need(self) -> str:
        return str(self._handed.need)

    @property
    def settings(self) -> Mapping[str, str]:
        """How to connect, without the secret, as the target's clients name it: `host`, `port`, `user` …"""
        return dict(self._handed.settings)

    @property
    def secret(self) -> str:
        return str(self._handed.secret)

    @property
    def dsn(self) -> str:
        """One URL with the secret, as libraries read it. `NotFound` (`client.task.no_url`) where there is none."""
        if not self._handed.presentation.url:
            raise NotFound(
                "client.task.no_url",
                f"a credential for `{self.need}` has no URL",
                next_step="use `settings` and `secret`, or `file(NAME)`",
            )
        return str(self._handed.presentation.url)

    @property
    def env(self) -> dict[str, str]:
        """What the target's own clients read from their environment, secrets included: for `subprocess.run(env=…)`."""
        shown = self._handed.presentation
        files = {name: str(self.file(file)) for name, file in shown.pointers.items()}
        return {**shown.variables, **shown.secrets, **files}

    def file(self, name: str = "") -> Path:
        """A private file (0600) that ends with the task: one that the target's clients read, or all of it as JSON."""
        return Path(self._folder().file(self._handed, name))


class Task:
    """A block of this process with credentials. Made by `remit.task`; used once, by `with` or `async with`."""

    def __init__(self, name: str, needs: Sequence[str], socket: Path, life_seconds: int, reason: str) -> None:
        self._name = name
        self._needs = tuple(needs)
        self._socket = socket
        self._life_seconds = life_seconds
        self._reason = reason
        self._credentials: dict[str, Credential] = {}
        self._by_lease: dict[str, Credential] = {}
        self._folder: Any = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finish: asyncio.Event | None = None
        self._began = threading.Event()
        self._failed: BaseException | None = None
        self._pid = 0
        self.grant = ""
        self.identity = ""
        self.outcomes: tuple[Mapping[str, Any], ...] = ()
        """After the block: what became of each lease (`state`, `principal`, `refusal` …)."""

    def __repr__(self) -> str:
        return f"Task({self._name!r}, needs={list(self._needs)!r})"

    def __getitem__(self, need: str) -> Credential:
        """The credential of a need, as it was written. `NotFound` (`client.task.unknown`)."""
        if need not in self._credentials:
            raise NotFound(
                "client.task.unknown",
                f"the task holds nothing for `{need[:200]}`",
                next_step="name it among the `needs`, and ask inside of the block",
            )
        return self._credentials[need]

    def __iter__(self) -> Iterator[str]:
        return iter(self._credentials)

    def __enter__(self) -> Task:
        """Ask for everything. Raises what the agent refuses (`Rejected`), and `Unavailable` without one."""
        if self._thread is not None:
            raise AssertionError("a task is used once")
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="remit-task", daemon=True)
        self._thread.start()
        if not self._began.wait(_SECONDS):
            self._stop()
            raise Unavailable("client.task.slow", f"the agent gave no answer within {_SECONDS:g} s")
        if self._failed is not None:
            self._thread.join(_SECONDS)
            raise self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the task: returns when its leases are revoked and that is proved, or after half a minute."""
        if os.getpid() != self._pid:
            return  # a fork of the process: the task is its parent's
        self._stop()
        self._credentials.clear()
        if self._folder is not None:
            self._folder.close()

    async def __aenter__(self) -> Task:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _stop(self) -> None:
        loop, finish = self._loop, self._finish
        if loop is not None and finish is not None and not loop.is_closed():
            with suppress(RuntimeError):  # the stream ended meanwhile
                loop.call_soon_threadsafe(finish.set)
        if self._thread is not None:
            self._thread.join(_PROOF_SECONDS + 10)

    # In the thread.

    def _serve(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception as error:
            self._failed = error  # for the thread that waits
        finally:
            self._began.set()

    async def _run(self) -> None:
        from grpclib.client import Channel

        from remit.surface.agent.tasks_wire import tasks_pb2 as wire
        from remit.surface.cli.run_stream import open_run

        self._loop, self._finish = asyncio.get_running_loop(), asyncio.Event()
        channel = Channel(path=str(self._socket))
        try:
            async with open_run(channel) as stream:
                begin = wire.Begin(
                    task=self._name,
                    child_pid=os.getpid(),
                    needs=self._needs,
                    life_seconds=self._life_seconds,
                    reason=self._reason,
                    in_process=True,
                )
                answer = await stream.ask(wire.RunRequest(begin=begin), self._socket)
                self._hold(answer)
                self._began.set()
                await self._until_the_end(stream, wire)
        finally:
            channel.close()

    async def _until_the_end(self, stream: Any, wire: Any) -> None:
        assert self._finish is not None
        following = asyncio.ensure_future(self._follow(stream))
        finishing = asyncio.ensure_future(self._finish.wait())
        await asyncio.wait({following, finishing}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        if not following.done():
            await stream.tell(wire.RunRequest(ended=wire.Ended(exit_code=0)))
            await asyncio.wait({following}, timeout=_PROOF_SECONDS)
        following.cancel()

    def _hold(self, answer: Any) -> None:
        from remit.surface.cli.run import read, refusal

        if answer.HasField("refused"):
            raise refusal(answer.refused)
        self.grant, self.identity = answer.granted.grant, answer.granted.identity
        for need, one in zip(self._needs, answer.granted.credentials, strict=True):
            made = Credential(read(one, ""), self._files)
            self._credentials[need] = self._by_lease[one.lease] = made

    async def _follow(self, stream: Any) -> None:
        from google.protobuf.json_format import MessageToDict

        while (message := await stream.next()) is not None:
            if message.HasField("withdrawn") and message.withdrawn.lease in self._by_lease:
                self._by_lease[message.withdrawn.lease].withdrawn = message.withdrawn.reason
            elif message.HasField("revoked"):
                said = (MessageToDict(one, preserving_proto_field_name=True) for one in message.revoked.outcomes)
                self.outcomes = tuple(said)
                return

    def _files(self) -> Any:
        from remit.surface.cli.handover import Handover

        if self._folder is None:
            self._folder = Handover(pid=os.getpid())
        return self._folder


def task(
    name: str,
    *,
    needs: Sequence[str],
    ttl: str = "",
    reason: str = "",
    socket: str | os.PathLike[str] | None = None,
) -> Task:
    """This process as the task `name`, with a credential for each need (`postgres://orders?role=read`).

    `ttl` is its longest life (`90s`, `10m`, `2h`; an hour without it). `socket` is the agent's; without it
    `REMIT_AGENT_SOCK`, else `agent.sock` in `REMIT_DATA` or `.remit`. Nothing is asked before the block begins.
    """
    from argparse import ArgumentTypeError

    from remit.surface.cli.run_options import seconds

    try:
        life = seconds(ttl) if ttl else 0
    except ArgumentTypeError as error:
        raise Rejected("client.task.ttl", str(error), next_step="write it as `90s`, `10m` or `2h`") from None
    data = Path(os.environ.get("REMIT_DATA") or ".remit")
    where = Path(socket) if socket else Path(os.environ.get("REMIT_AGENT_SOCK") or data / "agent.sock")
    return Task(name, needs, where, life, reason)
