"""The agent beside the control plane: Workload API and task service on one socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remit.surface.agent.peer import peer_of
from remit.surface.agent.tasks import TaskService
from remit.surface.agent.workload_api import serve_workload_api
from remit.wiring import ControlPlane


async def serve_agent(control: ControlPlane) -> Callable[[], Awaitable[None]]:
    """Serve `agent.sock`; returns how to stop: the tasks that run then go on, and the next agent takes them over."""
    tasks = TaskService(
        starter=control.starter, engine=control.engine, brokers=control.brokers, peer_of=peer_of,
        supervisors=control.supervisors,
    )  # fmt: skip
    server = await serve_workload_api(control.settings.data.agent_socket, control.trust, (tasks,))

    async def stop() -> None:
        tasks.closing()
        server.close()
        await server.wait_closed()

    return stop
