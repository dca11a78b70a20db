"""Step-up: show a second, different proof to the control plane, beside the SVID of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from remit.client.server import Server

if TYPE_CHECKING:
    from remit.client.identity import Identity
    from remit.trust.attestors.provers import Prover

PATH = "/trust/v1/step-up"


def step_up(identity: Identity, server: str, provers: Sequence[Prover]) -> int:
    """When it counted, in seconds since 1970. Raises what provers and the control plane raise."""
    channel = Server(identity, server)
    audience = f"{identity.spiffe_id.trust_domain.id}"

    async def payloads() -> list[dict[str, Any]]:
        return [{"attestor": one.id, "payload": dict(await one.payload(audience))} for one in provers]

    found = channel.post_json(PATH, {"proofs": asyncio.run(payloads())})
    if "session" in found:
        by_id = {one.id: one for one in provers}

        async def answers() -> dict[str, Any]:
            return {name: dict(await by_id[name].answer(asked)) for name, asked in found["questions"].items()}

        found = channel.post_json(PATH, {"session": found["session"], "answers": asyncio.run(answers())})
    return int(found["step_up_at"])
