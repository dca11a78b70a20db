"""Credentials by Unix socket: each is given when the task asks for it, to descendants of the task alone.

    curl --unix-socket "$REMIT_SOCKET" http://task/                  the labels of what there is, no secret
    curl --unix-socket "$REMIT_SOCKET" http://task/orders-read       all of it, as JSON
    curl --unix-socket "$REMIT_SOCKET" http://task/orders-read/url   one part: `secret`, `url`, `env`, `files/NAME`

The socket lies in the run's private folder, and the kernel says who connects (SO_PEERCRED, SO_PEERPIDFD): a process
that does not descend from the task's child gets nothing, though it runs as the same user.

Spec: RFC 9110, `GET` alone; unix(7); proc_pid_stat(5), field 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from remit.kernel.errors import Denied, NotFound, Rejected, RemitError
from remit.surface.cli.handover import Handed
from remit.trust.process import Peer, peer_of_socket

NAME = "remit.sock"
_HEAD_BYTES = 8 * 1024
_SECONDS = 10.0
_AT_ONCE = 64
_ANCESTORS = 4096
_LOOKS = 3

Fetch = Callable[[str], Awaitable[Handed]]
"""The credential of a label, issued now where it was not yet. Raises what was refused."""


class HandoverSocket:
    """Serves one run until `close`. `root` is the task's child; `once` gives each credential a single time."""

    def __init__(self, folder: Path, labels: Sequence[str], fetch: Fetch, *, root: int, once: bool = False) -> None:
        self.path = folder / NAME
        self._labels = tuple(labels)
        self._fetch = fetch
        self._root = root
        self._once = once
        self._given: set[str] = set()
        self._turn = asyncio.Lock()
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. `Rejected` (`surface.handover.path`) where the folder's path is too long for a socket."""
        if len(os.fsencode(self.path)) > 107:
            raise Rejected(
                "surface.handover.path",
                f"`{self.path}` is too long for a Unix socket",
                next_step="set XDG_RUNTIME_DIR or TMPDIR to a shorter path",
            )
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=_HEAD_BYTES)
        self.path.chmod(0o600)

    def close(self) -> None:
        """Stop listening; works twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _AT_ONCE:
                async with asyncio.timeout(_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head, writer.get_extra_info("socket")))
                async with asyncio.timeout(_SECONDS):
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            return  # it asked nothing, or does not listen
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes, connection: socket.socket) -> bytes:
        try:
            with peer_of_socket(connection) as peer:
                require_descendant(peer, self._root)
            words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            if len(words) != 3 or words[0] != "GET":
                raise Rejected("surface.handover.request", "only `GET /LABEL` is understood here")
            label, _, part = unquote(words[1].partition("?")[0]).strip("/").partition("/")
            if not label:
                return _response(200, json.dumps(list(self._labels)) + "\n")
            return _response(200, await self._credential(label, part))
        except RemitError as error:
            return _response(_status(error), f"{error.message}\n{error.next_step}\n")

    async def _credential(self, label: str, part: str) -> str:
        if label not in self._labels:
            raise NotFound(
                "surface.handover.unknown",
                f"this task has no need `{label[:80]}`",
                next_step="it has " + ", ".join(f"`{one}`" for one in self._labels[:16]),
            )
        async with self._turn:
            if self._once and label in self._given:
                raise Denied(
                    "surface.handover.given",
                    f"the credential `{label}` was given already, and is given once",
                    next_step="keep what was read, or run the task with `--handover socket`",
                )
            text = part_of(await self._fetch(label), part)
            self._given.add(label)
        return text


def part_of(one: Handed, part: str) -> str:
    """One form of a credential, as text. `NotFound` (`surface.handover.part`)."""
    shown = one.presentation
    if part == "":
        whole = one.document() | {"url": shown.url, "files": dict(shown.files)}
        whole |= {"variables": dict(shown.variables), "secrets": dict(shown.secrets)}
        return json.dumps(whole) + "\n"
    if part == "secret":
        return one.secret
    if part == "url" and shown.url:
        return shown.url
    if part == "env":
        both = {**shown.variables, **shown.secrets}
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in both.items())
    kind, _, name = part.partition("/")
    if kind == "files" and name in shown.files:
        return shown.files[name]
    raise NotFound(
        "surface.handover.part",
        f"the credential `{one.label}` has no part `{part[:80]}`",
        next_step="ask for `secret`, `url`, `env` or `files/NAME`",
    )


def require_descendant(peer: Peer, root: int) -> None:
    """The peer is `root` or descends from it; what it left behind is our own child, for we are its subreaper.

    Raises `Denied` (`surface.handover.foreign`). A parent that ends in between is looked for anew.
    """
    ours = os.getpid()
    for _ in range(_LOOKS):
        pid = peer.pid
        for _ in range(_ANCESTORS):
            if pid == root:
                if peer.alive():
                    return
                break
            above = _parent_of(pid)
            if above == ours and peer.alive():
                return
            if above <= 1:
                break
            pid = above
    raise Denied(
        "surface.handover.foreign",
        f"process `{peer.pid}` does not descend from this task",
        next_step="ask from the task itself, or from what it started",
    )


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _status(error: RemitError) -> int:
    match error:
        case NotFound():
            return 404
        case Denied() if error.code == "surface.handover.given":
            return 410
        case Denied():
            return 403
        case Rejected() if error.code == "surface.handover.request":
            return 400
        case Rejected():
            return 403
        case _:
            return 503


def _response(status: int, text: str) -> bytes:
    body = text.encode()
    reason = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 410: "Gone"}.get(status, "Unavailable")
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
