"""Ask the decision point: AuthZEN over a Unix socket or mutual TLS, in bounded time. No answer is never a permit.

One `Pdp` is for many threads, and keeps connections for them. One that the server has closed meanwhile, or whose
certificate counts no more, is made anew, once; `503` is asked again after its `Retry-After` for as long as the
deadline allows. Answers are not cached: the decision point decides in microseconds, over facts that change.

Spec: OpenID AuthZEN Authorization API 1.0, §6, §10.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from remit.kernel.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from remit.client.identity import Identity

PATH: Final = "/access/v1/evaluation"
MAX_ANSWER_BYTES: Final = 256 * 1024
_THREADS: Final = 16
_LEAST_PAUSE: Final = 0.02
_BROKEN: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May `subject` do `action` on the resource `kind`/`name`?"""

    subject: str
    action: str
    kind: str
    name: str
    claimed: Mapping[str, Any] = field(default_factory=dict)
    proven: Mapping[str, Any] = field(default_factory=dict)
    """What this program verified of the subject; counts as far as its registration vouches for it."""

    @property
    def body(self) -> bytes:
        """The AuthZEN request."""
        context = {**self.claimed, **({"proven": dict(self.proven)} if self.proven else {})}
        return msgspec.json.encode(
            {
                "subject": {"type": "identity", "id": self.subject},
                "action": {"name": self.action},
                "resource": {"type": self.kind, "id": self.name},
                "context": context,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An obligation: what must still be done before the request passes."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The answer to one question."""

    allowed: bool
    id: str
    reason: str = ""
    obligations: tuple[Owed, ...] = ()


class DecisionPoint(Protocol):
    """Answers questions; `Pdp` is one."""

    def ask(self, question: Question) -> Decided:
        """Decide. `Unavailable` when nobody did in time, `Rejected` when the question is none."""
        ...

    async def ask_async(self, question: Question) -> Decided:
        """The same, for asyncio."""
        ...


class Pdp:
    """The decision point of an installation: `DIR/decide.sock`, or `https://host:8421` by mutual TLS."""

    def __init__(
        self,
        socket_path: Path | str | None = None,
        *,
        server: str = "",
        identity: Identity | None = None,
        server_id: str = "",
        timeout: float = 1.0,
    ) -> None:
        self._timeout = timeout
        self._connect = connector(socket_path, server=server, identity=identity, server_id=server_id, timeout=timeout)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def ask(self, question: Question) -> Decided:
        """Decide within `timeout` seconds.

        Raises `Unavailable` (`client.pdp.away`), `Rejected` (`client.pdp.refused`).
        """
        deadline = time.monotonic() + self._timeout
        body, retried = question.body, False
        while True:
            try:
                status, headers, raw = self._post(body, deadline)
            except _BROKEN as error:
                if retried or time.monotonic() >= deadline:
                    raise _away(type(error).__name__) from None
                retried = True
                continue
            if status == 401 and not retried and time.monotonic() < deadline:
                retried = True  # it was made with an SVID that counts no more: the next one shows the newest
                continue
            if status != 503:
                return _decided(status, raw)
            pause = max(_LEAST_PAUSE, _seconds(headers.get("retry-after", "")))
            if time.monotonic() + pause >= deadline:
                raise _away("it has too much to do")
            time.sleep(pause)

    async def ask_async(self, question: Question) -> Decided:
        """As `ask`, on a thread of its own pool: at most 16 at once, and the others wait for their own deadline."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="remit-pdp")
        waiting = asyncio.get_running_loop().run_in_executor(self._pool, self.ask, question)
        try:
            return await asyncio.wait_for(waiting, 2 * self._timeout)
        except TimeoutError:
            raise _away("too many questions wait") from None

    def close(self) -> None:
        """Let go of connections and threads; may be called again, and asking makes new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _post(self, body: bytes, deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        with self._lock:
            connection = self._idle.pop() if self._idle else self._connect()
        try:
            answer = self._exchange(connection, body, deadline)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            keep = len(self._idle) < _THREADS and answer[0] != 401
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()
        return answer

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, deadline: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        left = max(0.001, deadline - time.monotonic())
        connection.timeout = left
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(left)
        connection.request("POST", PATH, body=body, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read(MAX_ANSWER_BYTES + 1)
        if len(raw) > MAX_ANSWER_BYTES:
            raise http.client.HTTPException("the answer is too long")
        return response.status, {name.lower(): value for name, value in response.getheaders()}, raw


def connector(
    socket_path: Path | str | None, *, server: str, identity: Identity | None, server_id: str, timeout: float
) -> Callable[[], http.client.HTTPConnection]:
    """How to connect to the decision point. `Rejected` (`client.pdp.address`)."""
    if (socket_path is None) == (not server) or (bool(server) != (identity is not None)):
        raise Rejected(
            "client.pdp.address",
            "a decision point has a socket, or a server and the identity to show it",
            next_step="Pdp('/…/decide.sock'), or Pdp(server='https://…:8421', identity=Identity())",
        )
    if socket_path is not None:
        path = str(socket_path)
        return lambda: _UnixConnection(path, timeout)
    assert identity is not None
    return _by_tls(identity, server, server_id, timeout)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("remit", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(self.timeout)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        self.sock = made


def _by_tls(
    identity: Identity, server: str, server_id: str, timeout: float
) -> Callable[[], http.client.HTTPConnection]:
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname:
        raise Rejected("client.pdp.address", f"`{server[:200]}` is no https address")
    host, port = parts.hostname, parts.port or 443
    accept = server_id or f"{identity.spiffe_id.trust_domain.id}/remit/server"
    return lambda: identity.https(host, port, accept, timeout=timeout)


def _decided(status: int, raw: bytes) -> Decided:
    try:
        found = msgspec.json.decode(raw)
        if status == 200 and type(found["decision"]) is bool:
            return _read(found)
        text = str(found.get("title") or f"status {status}")[:300]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise _away("its answer is none") from None
    if status >= 500:
        raise _away(text)
    raise Rejected("client.pdp.refused", text, next_step="see that this program is a registered enforcement point")


def _read(found: Mapping[str, Any]) -> Decided:
    context = found.get("context") or {}
    reason = context.get("reason") or {}
    needed: Sequence[str] = reason.get("needed") or ()
    policies: Sequence[Mapping[str, str]] = reason.get("policies") or ()
    said = f"needs {needed[0]}" if needed else next((str(each.get("text", "")) for each in policies), "")
    obligations = tuple(
        Owed(kind=str(each["kind"]), detail=str(each.get("detail", ""))) for each in context.get("obligations") or ()
    )
    return Decided(
        allowed=found["decision"], id=str(context.get("id", "")), reason=said or "denied", obligations=obligations
    )


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() and len(text) < 4 else 0.0


def _away(why: str) -> Unavailable:
    return Unavailable(
        "client.pdp.away",
        f"the decision point does not answer: {why}",
        next_step="see that `remit up` runs, and that this program may reach it",
    )
