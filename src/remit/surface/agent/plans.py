"""The answer to a dry run: what was decided, and what would be made on which target. Nothing is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from remit.access.brokers.port import ShowsMint
from remit.access.grants import life_of
from remit.access.leases.model import LeaseSettings
from remit.access.model import MintOrder
from remit.access.policy.obligations import lifetime_of
from remit.access.ports import Brokers
from remit.access.tasks.start import Asked, Claim, Weighed
from remit.kernel.errors import RemitError
from remit.surface.agent.tasks_wire import tasks_pb2 as wire

_SECONDS = 10.0


class Planner:
    """Says of a weighed claim what its start would do. `instance` is part of every name on a target."""

    def __init__(self, brokers: Brokers, *, instance: str) -> None:
        self._brokers = brokers
        self._principal = f"remit_{instance or '<instance>'}_<ulid>"

    async def planned(self, claim: Claim, weighed: Weighed) -> wire.RunResponse:
        """The plan as the supervisor hears it. A target that does not answer is a step of it, never an error."""
        life = life_of(claim.life)
        limit = lifetime_of(owed for one in weighed.asked for owed in one.decision.obligations)
        if limit is not None:
            life = min(life, timedelta(seconds=limit))
        definition = weighed.definition
        return wire.RunResponse(
            planned=wire.Planned(
                verdicts=[await self._verdict(one) for one in weighed.asked],
                identity=definition.identity,
                task_digest=definition.digest,
                approved="" if weighed.approved is None else weighed.approved.id,
                life_seconds=int(life.total_seconds()),
            )
        )

    async def _verdict(self, one: Asked) -> wire.Verdict:
        manifest = self._brokers.manifest(one.need.system)
        native = LeaseSettings().native_ttl if manifest.native_expiry else timedelta(0)
        return wire.Verdict(
            need=str(one.need),
            allowed=one.decision.allowed,
            reasons=[f"{reason.id}: {reason.text}" for reason in one.decision.reasons],
            needed=list(one.decision.needed),
            decision=one.decision.id,
            system=one.need.system,
            target=one.plan.target,
            target_role=one.plan.role,
            database=one.plan.database,
            principal=self._principal,
            native_seconds=int(native.total_seconds()),
            fail_safe=manifest.fail_safe,
            steps=await self._steps(one) if one.decision.allowed else (),
        )

    async def _steps(self, one: Asked) -> list[str]:
        order = MintOrder(
            principal=self._principal,
            role=one.plan.role,
            database=one.plan.database,
            secret="",
            expires=datetime.now(UTC) + LeaseSettings().native_ttl,
            label=f"identity=… task=… lease=… need={one.plan.need}",
        )
        try:
            async with asyncio.timeout(_SECONDS):
                broker = await self._brokers.broker(one.plan.target)
            return list(broker.mint_steps(order)) if isinstance(broker, ShowsMint) else []
        except (RemitError, TimeoutError) as error:
            return [f"the target cannot be used now: {getattr(error, 'message', 'it does not answer')}"]
