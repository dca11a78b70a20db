"""One process that serves: control plane, agent and console. Ends cleanly on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remit.kernel.errors import Misconfigured, Unavailable
from remit.surface.context import Surface
from remit.surface.memory import keep_memory_private
from remit.surface.sessions import Sessions
from remit.wiring import ControlPlane, Settings, open_control_plane, settings_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    data: Path
    socket_dir: Path | None = None
    config: Path | None = None
    database: str | None = None
    agent: bool = True
    flags: Mapping[str, Any] = field(default_factory=dict)


def run(
    options: Options,
    *,
    announce: Callable[[str], None],
    beside: Callable[[Surface], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal; `announce` gets the URL once, `beside` runs next to the server."""
    import uvloop

    keep_memory_private()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(options, announce, beside))


async def _main(
    options: Options, announce: Callable[[str], None], beside: Callable[[Surface], Awaitable[None]] | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Server(options) as server:
        announce(server.surface.url)
        task = asyncio.ensure_future(beside(server.surface)) if beside is not None else None
        failed = asyncio.ensure_future(server.surface.control.failure())
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait({waiting, failed}, return_when=asyncio.FIRST_COMPLETED)
        for each in (task, failed, waiting):
            if each is not None and not each.done():
                each.cancel()
        if failed.done() and not failed.cancelled():
            failed.result()


class Server:
    """Listeners over an open control plane; `async with` opens and closes both."""

    surface: Surface

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings: Settings = settings_from(
            options.data, config=options.config, database=options.database,
            socket_dir=options.socket_dir, environ=os.environ, flags=options.flags,
        )  # fmt: skip
        self._address = _address(self._settings.server.listen)
        self._agents = address_of(self._settings.trust.listen) if self._settings.trust.listen else None
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def __aenter__(self) -> Server:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    async def _open(self) -> None:
        os.umask(0o077)
        from remit.surface.gateways.lease import lease_door

        control = await open_control_plane(self._settings, make_door=lease_door)
        self._closing.append(control.close)
        self.surface = Surface(control=control, sessions=Sessions(control.clock))
        from remit.surface.schedule import Scheduler

        self.surface.scheduler = Scheduler(control)
        self._closing.append(self.surface.scheduler.close)
        await self._listen(control)
        await self._listen_to_enforcers()
        await self._listen_to_agents(control)
        from remit.surface.decide.listener import serve_decisions

        self._closing.append(await serve_decisions(self.surface))
        if self._settings.federation.listen:
            from remit.surface.federation import serve_bundle

            self._closing.append(await serve_bundle(control))
        if self._options.agent:
            from remit.surface.agent.serve import serve_agent

            self._closing.append(await serve_agent(control))
        self.surface.scheduler.open()
        control.ready = True

    async def _listen(self, control: ControlPlane) -> None:
        from remit.surface.api.app import build_app
        from remit.surface.peers import Listeners

        host, port = self._address
        listeners = Listeners(build_app(self.surface))
        self._closing.append(listeners.close)
        await listeners.unix(self._settings.data.admin_socket, mode=0o600, via="admin.sock")
        try:
            port = await listeners.tcp(host, port, via="tcp")
        except OSError as error:
            raise Unavailable(
                "surface.listen.taken",
                f"cannot listen on {host}:{port}: {error.strerror}",
                next_step="stop what listens there, or give another `--listen HOST:PORT`",
            ) from None
        shown = _shown(host)
        self.surface.url = f"http://{shown}:{port}"
        control.revocations.base = self.surface.url
        control.feed.issuer = lambda: self._settings.tokens.issuer.rstrip("/") or self.surface.url
        control.feed.remeasure(())
        self.surface.hosts = frozenset({f"{shown}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"})

    async def _listen_to_enforcers(self) -> None:
        from remit.surface.enforcers.serve import Enforcing

        self._enforcing = Enforcing(self.surface)
        self._closing.append(self._enforcing.close)
        await self._enforcing.open()

    async def _listen_to_agents(self, control: ControlPlane) -> None:
        if self._agents is None:
            return
        from remit.surface.api.app import build_app, for_workloads
        from remit.surface.mtls import MutualTls

        host, port = self._agents
        from remit.surface.enforcers.http import beside

        app = beside(build_app(self.surface, only=for_workloads), self._enforcing.app)
        listener = MutualTls(control, app)
        self._closing.append(listener.close)
        self.surface.agents = f"{_shown(host)}:{await listener.open(host, port)}"

    async def _close(self) -> None:
        while self._closing:
            closing = self._closing.pop()
            try:
                await closing()
            except Exception as error:
                print(f"while stopping: {error}", file=sys.stderr)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`. `Misconfigured` (`surface.listen.invalid`)."""
    host, colon, port = listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Misconfigured("surface.listen.invalid", f"`{listen}` is no HOST:PORT", next_step="e.g. 127.0.0.1:8420")
    return host, int(port)


def _address(listen: str) -> tuple[str, int]:
    host, port = address_of(listen)
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise Misconfigured(
            "surface.listen.plain",
            f"`{host}` is not loopback, and this listener speaks plain HTTP",
            next_step="listen on 127.0.0.1 and put a TLS proxy in front",
        )
    return host, port
