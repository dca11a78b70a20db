"""A static secret that is a login's of some target: after each use, a plan of rotation gives it another value there.

    1. a change of the secret is sealed and committed: from here on a rotation is owed, whoever dies
    2. a rotation of the plan is begun, which names that change; it goes on by itself, as every rotation does
    3. when it is done, and the target refused the old value, the change is ended

The value of the change itself is never used: the rotation makes its own. What it does for us is that it is written.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final, Protocol

from remit.access.brokers.port import Check
from remit.access.brokers.static import Rotated
from remit.access.brokers.static_settings import Settings
from remit.access.rotation.engine import RotationEngine
from remit.access.rotation.model import FINAL, Mode, Phase, Plan, Run
from remit.access.rotation.plans import Plans
from remit.access.secrets import Change, Secrets
from remit.kernel.errors import Misconfigured, Rejected, RemitError

_LOOK_AGAIN: Final = 0.1
_VAULT: Final = "remit"
"""The kind of consumer by which a rotation writes into our own vault."""


class Conductor(Protocol):
    """What drives the rotations of an installation."""

    @property
    def plans(self) -> Plans: ...
    @property
    def engine(self) -> RotationEngine: ...
    async def begin(self, plan: str, *, actor: str, reason: str) -> Run:
        """Begin one, and drive it in the background."""
        ...


class PlanRotation:
    """Implements `brokers.static.RotatesSecret` for one target, by a plan."""

    def __init__(
        self, *, secrets: Secrets, settings: Settings, target: str, conductor: Conductor, fresh: Callable[[], bytes]
    ) -> None:
        self._secrets = secrets
        self._settings = settings
        self._target = target
        self._actor = f"system:rotation/{target}"
        self._conductor = conductor
        self._fresh = fresh
        self._lock = asyncio.Lock()
        self._again = False

    async def rotate(self) -> Rotated:
        """Give it another value. A rotation that began before this use was over does not count for it."""
        async with self._lock:
            if (before := await self._secrets.pending(self._settings.secret)) is not None:
                self._again = True
                await self._finish(before)
            return await self._once()

    async def resume(self) -> None:
        """End what was broken off, once the rotation has."""
        async with self._lock:
            if (change := await self._secrets.pending(self._settings.secret)) is not None:
                await self._finish(change)
            if self._again:
                await self._once()

    async def check(self) -> Check:
        title = f"the secret is rotated after each use, by the plan `{self._settings.plan}`"
        try:
            await self._plan()
        except RemitError as error:
            return Check(ok=False, title=title, detail=error.message, next_step=error.next_step)
        return Check(ok=True, title=title)

    async def _once(self) -> Rotated:
        change = await self._secrets.begin_change(self._settings.secret, self._fresh(), actor=self._actor)
        self._again = False
        return await self._finish(change)

    async def _finish(self, change: Change) -> Rotated:
        plan, mark = await self._plan(), hashlib.sha256(change.new).hexdigest()[:16]
        tried = [one for one in await self._conductor.engine.runs(plan.name) if one.phase is not Phase.ROLLED_BACK]
        run = next((one for one in tried if one.actor == self._actor and one.reason.endswith(mark)), None)
        if run is None:
            for other in await self._conductor.engine.unfinished():
                if other.plan == plan.name:
                    await self._ended(other)
            reason = f"after a use of the target {self._target}: {mark}"
            run = await self._conductor.begin(plan.name, actor=self._actor, reason=reason)
        run = await self._ended(run)
        if run.phase is not Phase.DONE:
            raise Rejected(
                "access.static.rotation",
                f"the rotation `{run.id}` is {run.phase.value}: {(run.turning or run.trouble)[:200]}",
                next_step=f"`remit rotate show {run.id}`; it is tried again",
            )
        refusal = str(run.proof.get("refusal", "not proved, and accepted by a person"))
        await self._secrets.end_change(self._settings.secret, actor=self._actor, refusal=refusal)
        return Rotated(done=True, words=f"by `{plan.name}`, and the old value is refused: {refusal[:120]}")

    async def _ended(self, run: Run) -> Run:
        """The run when it has ended, or waits for a person. The caller bounds how long."""
        while run.phase not in FINAL | {Phase.STUCK}:
            await asyncio.sleep(_LOOK_AGAIN)
            run = await self._conductor.engine.run(run.id)
        return run

    async def _plan(self) -> Plan:
        """The plan, where it is the one that replaces this secret; `Misconfigured` (`access.static.plan`) else."""
        plan = await self._conductor.plans.get(self._settings.plan)
        ours = [
            one for one in plan.consumers if one.kind == _VAULT and one.options.get("secret") == self._settings.secret
        ]
        if not ours:
            raise _unfit(plan, f"has no consumer `{_VAULT}` with the secret `{self._settings.secret}`")
        if plan.mode is Mode.TWO_LOGINS and "{user}" not in str(ours[0].options.get("content", "")):
            raise _unfit(plan, "changes the login's name too, which this target would go on to send as before")
        return plan


def _unfit(plan: Plan, why: str) -> Misconfigured:
    return Misconfigured(
        "access.static.plan",
        f"the plan of rotation `{plan.name}` {why}",
        next_step="see docs/rotation.md, After each use",
    )
