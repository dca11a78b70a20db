"""How a gateway asks the control plane; what it serves meanwhile is asked about until it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from remit.kernel.errors import RemitError, Unavailable
from remit.surface.gateways.http.counter import ASK, STILL

_log = logging.getLogger("remit.gateway")
ASK_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.25
_AWAY_SECONDS: Final = 5.0
"""For how long streams run on while the control plane does not answer."""
_AT_ONCE: Final = 4096
_THREADS: Final = 32


class Channel(Protocol):
    """Posts JSON to the control plane; raises its errors."""

    def post(self, path: str, body: Any = None) -> Any: ...


class Refusal(Exception):
    """A request that does not go on."""

    def __init__(
        self, *, status: int, reason: str, decision: str = "", code: str = "surface.gateway.refused",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.decision = decision
        self.code = code
        self.headers = headers or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A request that goes on."""

    decision: str
    subject: str
    secret: str = field(default="", repr=False)
    until: float = 0.0
    """When the secret may be used no more, on the loop's clock."""


class Desk:
    """Asks over one channel. Belongs to the event loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="remit-gateway")

    async def ask(self, question: Mapping[str, Any]) -> Permit:
        """The permit. Raises `Refusal`, also when nobody can decide: which is never a permit."""
        try:
            found = await self._post(ASK, question)
        except Unavailable as error:
            raise Refusal(status=503, reason=error.message, code=error.code, headers={"retry-after": "1"}) from None
        except RemitError as error:
            raise Refusal(status=403, reason=error.message, code=error.code) from None
        if found.get("allowed") is not True:
            status = found.get("status")
            raise Refusal(
                status=status if status in (401, 403, 503) else 403, reason=str(found.get("reason", "")),
                decision=str(found.get("decision", "")), headers=dict(found.get("headers") or {}),
            )  # fmt: skip
        until = asyncio.get_running_loop().time() + float(found.get("seconds", 0))
        return Permit(
            decision=str(found["decision"]), subject=str(found["subject"]), secret=str(found.get("secret", "")),
            until=until,
        )  # fmt: skip

    async def ended(self, flows: list[str]) -> Mapping[str, str]:
        """Which of these permits have ended, and why. Raises what the control plane says."""
        found = await self._post(STILL, {"flows": flows})
        return dict(found["ended"])

    def close(self) -> None:
        """Stop; what is being asked is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                found = await loop.run_in_executor(self._threads, self._channel.post, path, dict(body))
        except TimeoutError:
            raise Unavailable("surface.gateway.slow", "the control plane did not answer in time") from None
        if not isinstance(found, dict):
            raise Unavailable("surface.gateway.answer", "the control plane gave no answer that can be read")
        return found


class Flows:
    """Requests that are under way, by their decisions; those that are permitted no more are ended within a second."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ends: dict[str, Callable[[str], None]] = {}
        self._heard = 0.0

    def __len__(self) -> int:
        return len(self._ends)

    @contextmanager
    def running(self, decision: str, end: Callable[[str], None]) -> Iterator[None]:
        """While the block runs, `end` is called, once, when the permit ends."""
        self._ends[decision] = end
        try:
            yield
        finally:
            self._ends.pop(decision, None)

    async def run(self) -> None:
        """Look again and again; ends by cancellation."""
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            names = list(self._ends)
            try:
                for first in range(0, len(names), _AT_ONCE):
                    for name, why in (await self._desk.ended(names[first : first + _AT_ONCE])).items():
                        self._end(name, why)
                self._heard = loop.time()
            except RemitError as error:
                if not isinstance(error, Unavailable) or loop.time() - self._heard > _AWAY_SECONDS:
                    for name in names:
                        self._end(name, error.message)

    def _end(self, name: str, why: str) -> None:
        end = self._ends.pop(name, None)
        if end is not None:
            _log.warning("ended the request of %s: %s", name[:40], why)
            end(why)
