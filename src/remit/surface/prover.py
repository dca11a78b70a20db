"""Weighing a policy candidate in a process of its own: a solver is native code that thinks about a stranger's text.

`weigh` starts the worker with a bound on memory and time, hands it the candidate by a pipe, and reads the result. A
worker that dies or takes too long weighs nothing: the activation waits for another try.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field

import msgspec

from remit.access.policy.lifecycle import Weighed
from remit.kernel.errors import RemitError, Unavailable
from remit.surface.problem import from_problem, problem

SECONDS = 90.0
"""How long a worker may take, from its start."""
_MEMORY_BYTES = 4 << 30
_MOST = 64 << 20


@dataclass(slots=True)
class Prover:
    """Runs one worker at a time: a second candidate waits."""

    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def weigh(
        self, text: str, *, cases: str = "", invariants: str = "", before: str | None = None, promised: str = ""
    ) -> Weighed:
        """Weigh a candidate against its promises and the version in force.

        Raises what reading it raises (`Rejected`), and `Unavailable` (`access.policy.prover`).
        """
        from remit.access.policy.promises import Candidate

        job = Candidate(text=text, cases=cases, invariants=invariants, before=before, promised=promised)
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "remit.surface.prover",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_MOST,
            )  # fmt: skip
            try:
                said, _ = await asyncio.wait_for(process.communicate(msgspec.json.encode(job)), SECONDS)
            except TimeoutError:
                raise _unavailable("it took too long") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return _read(said, process.returncode)


def _read(said: bytes, status: int | None) -> Weighed:
    try:
        answer = msgspec.json.decode(said) if status == 0 else None
    except msgspec.DecodeError:
        answer = None
    if answer is None:
        raise _unavailable(f"its process ended with status {status}")
    if "problem" in answer:
        raise from_problem(answer["problem"])
    return msgspec.convert(answer["weighed"], Weighed)


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        "access.policy.prover",
        f"the policies could not be weighed: {why}",
        next_step="try again; `remit policy prove PATH` does the same at your own terminal",
    )


def main() -> None:
    """Weigh the candidate on standard input."""
    import resource

    from remit.access.policy.promises import Candidate, weigh

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the protocol
    try:
        job = msgspec.json.decode(sys.stdin.buffer.read(_MOST), type=Candidate)
        answer = {"weighed": msgspec.to_builtins(weigh(job))}
    except RemitError as error:
        answer = {"problem": problem(error)}
    out.write(msgspec.json.encode(answer))
    out.flush()


if __name__ == "__main__":
    main()
