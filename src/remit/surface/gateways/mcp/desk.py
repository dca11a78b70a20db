"""How a gateway asks the control plane: over `admin.sock`, or by its own SVID over the listener of workloads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol
from urllib.parse import quote

from remit.kernel.errors import Conflict, RemitError

_PATH = "/api/v1/intents"
_RETRY_SECONDS = 0.5
SHOWN: ContextVar[str] = ContextVar("remit_gateway_token", default="")
"""The token that the request shows which is being answered: each is decided by its own."""


class Poster(Protocol):
    """Posts JSON to the control plane; raises its errors."""

    def post(self, path: str, body: Any = None) -> Any: ...
    def stream(self, path: str, body: Any) -> Any: ...


class Desk:
    """One intent at one server, as this gateway serves it; attaches again when the control plane was started anew."""

    def __init__(self, poster: Poster, *, intent: str, server: str) -> None:
        self._poster = poster
        self._wanted = intent
        self.server = server
        self.intent: dict[str, Any] = {}
        self.session: dict[str, Any] = {}
        """What the intent had used when we attached."""
        self._epoch = 0
        self._number = 0
        self._lock = asyncio.Lock()

    @property
    def id(self) -> str:
        return str(self.intent["id"])

    async def attach(self) -> None:
        """Begin to serve. Raises what the control plane says."""
        body = {"intent": self.intent.get("id", self._wanted), "server": self.server, "token": SHOWN.get()}
        found = await asyncio.to_thread(self._poster.post, f"{_PATH}/attach", body)
        self.intent = found["intent"]
        self.session = found["session"] or {}
        self._epoch = found["epoch"]
        self._number = 0

    async def permitted(self, tools: Mapping[str, str]) -> frozenset[str]:
        """Of tools (name → definition), those to show."""
        shown = [{"name": name, "definition": each} for name, each in tools.items()]
        body = {"server": self.server, "tools": shown, "token": SHOWN.get()}
        return frozenset((await self._post("tools", lambda: body))["permitted"])

    async def decide(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """The decision on one call; `Unavailable` where there is none, which is never an allow."""
        async with self._lock:  # numbers arrive in order

            def body() -> dict[str, Any]:
                self._number += 1
                return {
                    **call,
                    "server": self.server,
                    "epoch": self._epoch,
                    "number": self._number,
                    "token": SHOWN.get(),
                }

            found: dict[str, Any] = await self._post("calls", body)
            return found

    async def _post(self, verb: str, body: Callable[[], dict[str, Any]]) -> Any:
        path = f"{_PATH}/{quote(self.id, safe='')}/{verb}"
        try:
            return await asyncio.to_thread(self._poster.post, path, body())
        except Conflict as error:
            if error.code != "access.intent.detached":
                raise
        await self.attach()
        return await asyncio.to_thread(self._poster.post, path, body())

    def follow(self, ended: Callable[[str], None]) -> None:
        """Call `ended` on the loop, once, when the session is over; a lost control plane is waited for."""
        loop = asyncio.get_running_loop()

        def tell(why: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended, why)

        def again() -> str:
            return asyncio.run_coroutine_threadsafe(self._again(), loop).result()

        threading.Thread(target=self._follow, args=(tell, again), name="remit-gateway-watch", daemon=True).start()

    def _follow(self, tell: Callable[[str], None], again: Callable[[], str]) -> None:
        waiting = threading.Event()
        path = f"{_PATH}/{quote(self.id, safe='')}/watch"
        while True:
            try:
                for line in self._poster.stream(path, None):
                    if line.get("state") == "ended":
                        return tell(str(line.get("why", "")))
            except Conflict as error:
                # Ended while nobody looked, or a control plane that was started anew: attaching tells which.
                if error.code == "access.intent.detached" and (why := again()):
                    return tell(why)
            except RemitError:
                pass
            waiting.wait(_RETRY_SECONDS)

    async def _again(self) -> str:
        """Attach again; why the intent is over, if it is."""
        async with self._lock:
            try:
                await self.attach()
            except RemitError as error:
                return error.message if error.code.startswith("access.intent.") else ""
        return ""
