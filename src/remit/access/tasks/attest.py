"""Attests a process that waits to execute a file: who runs it comes from the process, what it runs from the file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remit.access.ports import TaskEvidence, TaskSubject
from remit.trust.model import Evidence

_OF_THE_FILE = frozenset({"path", "sha256"})


class WaitingTaskAttestor:
    """Implements `ports.TaskAttestor` over an attestor of processes (`TrustService.attest_pid`).

    The process still executes its supervisor's program, so what the attestor saw of that program is left out, and the
    measured file stands in its place.
    """

    def __init__(self, attest_pid: Callable[[int, int], Awaitable[Evidence]]) -> None:
        self._attest_pid = attest_pid

    async def attest(self, subject: TaskSubject) -> TaskEvidence:
        evidence = await self._attest_pid(subject.pidfd, subject.pid)
        seen = {
            str(selector)
            for selector in evidence.selectors
            if not (selector.attestor == "unix" and selector.key in _OF_THE_FILE)
        }
        seen |= {f"unix:path:{subject.path}", f"unix:sha256:{subject.sha256}"}
        return TaskEvidence(selectors=tuple(sorted(seen)), sha256=subject.sha256, path=subject.path)
