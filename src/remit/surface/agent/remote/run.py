"""The process of an agent far from the control plane: one socket, one agent, until a signal or the end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Callable

from remit.kernel.clock import SystemClock
from remit.storage.datadir import DataDir
from remit.surface.agent.remote.agent import AgentOptions, RemoteAgent
from remit.surface.agent.workload_api import serve_workload_api
from remit.surface.memory import keep_memory_private
from remit.wiring.attestors import local_attestors


def run_agent(data: DataDir, options: AgentOptions, *, announce: Callable[[str], None]) -> None:
    """Serve the Workload API of this node until SIGTERM or SIGINT; `announce` gets the socket's URL once.

    Raises what `RemoteAgent.run` does, and `Misconfigured` or `Unavailable` for the data directory.
    """
    import uvloop

    keep_memory_private()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("grpclib").setLevel(logging.WARNING)  # each stream that a client ends is no news
    data.prepare()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(data, options, announce))
    finally:
        data.release()


async def _main(data: DataDir, options: AgentOptions, announce: Callable[[str], None]) -> None:
    spread = secrets.SystemRandom().random  # so that agents do not come back all at once
    agent = RemoteAgent(options, clock=SystemClock(), attestors=local_attestors(), random=spread)
    server = await serve_workload_api(data.agent_socket, agent.source)
    work = asyncio.create_task(agent.run(lambda: announce(f"unix://{data.agent_socket}")))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        pass
    finally:
        server.close()
        await server.wait_closed()
