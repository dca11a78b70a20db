"""The agent beside the control plane: Workload API and task service on one socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remit.surface.agent.workload_api import serve_workload_api
from remit.wiring import ControlPlane


async def serve_agent(control: ControlPlane) -> Callable[[], Awaitable[None]]:
    """Serve `agent.sock`; returns how to stop."""
    server = await serve_workload_api(control.settings.data.agent_socket, control.trust)

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    return stop
