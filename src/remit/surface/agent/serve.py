"""The agent beside the control plane: Workload API, Envoy's SDS and task service on one socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from remit.kernel.errors import Rejected, RemitError
from remit.surface.agent.peer import Peer, peer_of
from remit.surface.agent.tasks import TaskService
from remit.surface.agent.workload_api import serve_workload_api
from remit.trust.proofs import Proof, Question
from remit.wiring import ControlPlane


async def serve_agent(control: ControlPlane) -> Callable[[], Awaitable[None]]:
    """Serve `agent.sock`; returns how to stop: the tasks that run then go on, and the next agent takes them over."""

    async def prove(kind: str, token: str, source: str) -> Sequence[str]:
        """The job's own token, verified as that of any other workload: it counts once where the platform lets it."""
        said = await control.proofs.present([Proof(attestor=kind, payload={"token": token})], source=source)
        if isinstance(said, Question):
            raise Rejected("agent.proof.question", f"a proof of the kind `{kind}` is more than a token")
        return [str(each) for each in said.selectors]

    tasks = TaskService(
        starter=control.starter, engine=control.engine, brokers=control.brokers, peer_of=peer_of,
        supervisors=control.supervisors, instance=control.instance, prove=prove,
    )  # fmt: skip

    async def refused(error: RemitError, peer: Peer) -> None:
        await control.proof_house.refusals("workload", error.code, error.message, f"uid {peer.uid}")

    socket = control.settings.data.agent_socket
    server = await serve_workload_api(socket, control.trust, (tasks,), refused=refused, followers=control.revocations)

    async def stop() -> None:
        tasks.closing()
        server.close()
        await server.wait_closed()

    return stop
