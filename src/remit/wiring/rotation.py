"""Rotation in one installation: which targets and consumers there are, what is due, and what goes on by itself."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.model import Proved
from remit.access.rotation.consumers.command import CommandFactory
from remit.access.rotation.consumers.config import ConfigFactory
from remit.access.rotation.consumers.dotenv import DotenvFactory
from remit.access.rotation.consumers.file import FileFactory
from remit.access.rotation.consumers.github import GitHubFactory
from remit.access.rotation.consumers.gitlab import GitLabFactory
from remit.access.rotation.consumers.kubernetes import KubernetesFactory
from remit.access.rotation.consumers.openbao import OpenBaoFactory
from remit.access.rotation.consumers.systemd import SystemdFactory
from remit.access.rotation.consumers.vault import VaultFactory
from remit.access.rotation.engine import RotationEngine, proof_of
from remit.access.rotation.model import FINAL, ConsumerSpec, Login, Mode, Phase, Plan, Run
from remit.access.rotation.plans import Plans
from remit.access.rotation.ports import Consumer, ConsumerFactory, Places, Rotator, RotatorFactory, Withdrawn
from remit.access.rotation.targets.mariadb import MariaRotatorFactory
from remit.access.rotation.targets.postgres import PostgresRotatorFactory
from remit.access.rotation.targets.rabbitmq import RabbitRotatorFactory
from remit.access.rotation.targets.redis import RedisRotatorFactory
from remit.kernel.canonical import Json
from remit.kernel.catalog import Catalog
from remit.kernel.errors import Conflict, NotFound, Rejected, RemitError
from remit.providers.programs import run_program

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.rotation")
_EVERY: Final = timedelta(seconds=15)
_AFTER_FAILURE: Final = timedelta(hours=1)
_HEALTH_SECONDS: Final = 30.0
ACTOR: Final = "system:rotation"


def consumer_factories() -> Catalog[ConsumerFactory]:
    """Every kind of consumer."""
    builtin: tuple[ConsumerFactory, ...] = (
        FileFactory(), DotenvFactory(), ConfigFactory(), KubernetesFactory(), OpenBaoFactory(), GitHubFactory(),
        GitLabFactory(), VaultFactory(), CommandFactory(), SystemdFactory(),
    )  # fmt: skip
    return Catalog("consumer", builtin)


def rotator_factories() -> Catalog[RotatorFactory]:
    """Every system whose standing logins are rotated."""
    builtin: tuple[RotatorFactory, ...] = (
        PostgresRotatorFactory(), RedisRotatorFactory(), MariaRotatorFactory(), RabbitRotatorFactory(),
    )  # fmt: skip
    return Catalog("rotator", builtin)


class HousePlaces:
    """Implements `rotation.ports.Places` and `House` on an open control plane."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._consumers = consumer_factories()
        self._consumers.load_entry_points()
        self._rotators = rotator_factories()
        self._rotators.load_entry_points()

    async def rotator(self, plan: Plan) -> tuple[Rotator, Login]:
        target, secret = await self._control.targets.credential(plan.target)
        rotator = self._rotators.get(target.system).make(target, secret)
        return rotator, Login(user="", secret="", host=target.host, port=target.port, database=target.database)

    def modes(self, system: str) -> tuple[Mode, ...]:
        return self._rotators.get(system).modes

    def consumer(self, spec: ConsumerSpec) -> Consumer:
        return self._consumers.get(spec.kind).make(spec.options, self)

    async def healthy(self, argv: Sequence[str]) -> tuple[bool, str]:
        return await run_program(argv, seconds=_HEALTH_SECONDS)

    async def replace_secret(self, name: str, value: bytes) -> None:
        if await self._control.secrets.held(name) != value:
            await self._control.secrets.rotate(name, value, actor=ACTOR, approval={"by": "a signed plan of rotation"})

    async def read_secret(self, name: str) -> bytes:
        return await self._control.secrets.held(name)


class Rotations:
    """The verbs of rotation as surfaces ask for them, and the loop that resumes and keeps to the schedule."""

    def __init__(self, control: ControlPlane, places: Places | None = None) -> None:
        settings = control.settings.rotation
        days = (settings.tier0_days, settings.tier1_days, settings.tier2_days, settings.tier3_days)
        self._control = control
        self._automatic = settings.automatic
        self.places: Places = places or HousePlaces(control)
        self.plans = Plans(
            store=control.store, sealer=control.keys, attester=control.witness, places=self.places,
            clock=control.clock, lifetimes=[timedelta(days=max(1, each)) for each in days],
            said_tier=control.standing.words.number,
        )  # fmt: skip
        self.engine = RotationEngine(
            store=control.store, sealer=control.keys, attester=control.witness, plans=self.plans, places=self.places,
            clock=control.clock, entropy=os.urandom,
        )  # fmt: skip
        self._driving: dict[str, asyncio.Task[Run]] = {}
        self._put_off: dict[str, datetime] = {}
        self._looked = False

    async def define(
        self, document: Mapping[str, Any], *, actor: str, approval: Mapping[str, Json], current: str
    ) -> Plan:
        """Keep a plan; its `identity` may be any name of one. Raises as `Plans.define`."""
        document = dict(document)
        target = await self._control.targets.get(str(document.get("target", "")))
        if document.get("identity"):
            document["identity"] = await self._control.resolve(str(document["identity"]))
        return await self.plans.define(
            document, system=target.system, actor=actor, approval=approval, current=current
        )  # fmt: skip

    async def named(self, given: str) -> Plan:
        """The plan of that name, or the one of the identity that is so called."""
        plans = await self.plans.list()
        for plan in plans:
            if plan.name == given:
                return plan
        try:
            identity = await self._control.resolve(given)
        except NotFound:
            return await self.plans.get(given)
        found = [plan for plan in plans if plan.identity == identity]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(
                "access.rotation.unknown", f"no rotation is defined for `{given[:64]}`",
                next_step="`remit rotate define FILE`",
            )  # fmt: skip
        raise Rejected(
            "access.rotation.ambiguous", f"`{given[:64]}` has several rotations",
            next_step="name one: " + ", ".join(plan.name for plan in found[:8]),
        )  # fmt: skip

    async def begin(self, plan: str, *, actor: str, reason: str) -> Run:
        """Begin to rotate; it goes on by itself."""
        run = await self.engine.begin(plan, actor=actor, reason=reason)
        self._drive(run.id)
        return run

    async def wait(self, run_id: str, *, seconds: float) -> Run:
        """The run as it stands when it has ended, waits for a person, or the time is over."""
        task = self._driving.get(run_id)
        if task is not None:
            await asyncio.wait({task}, timeout=seconds)
        return await self.engine.run(run_id)

    async def resume(self, run_id: str, *, accept: str = "") -> Run:
        """Carry on what is stuck or waits; `accept` as in `RotationEngine.drive`."""
        return await self._alone(run_id, accept=accept)

    async def roll_back(self, run_id: str, *, reason: str) -> Run:
        """Put everything back; `Conflict` (`access.rotation.too_late`) once the old credential is revoked."""
        return await self._alone(run_id, back=reason)

    async def retire(self, name: str, *, actor: str) -> Withdrawn:
        """End the login of a plan for good, with its proof, and forget the plan once it is gone.

        Raises `Conflict` (`access.rotation.busy`) while a rotation of it is under way.
        """
        plan, sealed = await self._control.store.read(lambda unit: self.plans.require(unit, name))
        if any(run.plan == name for run in await self.engine.unfinished()):
            raise Conflict(
                "access.rotation.busy", f"a rotation of `{name}` is under way",
                next_step=f"`remit rotate show {name}`, then resume it or roll it back",
            )  # fmt: skip
        secret = self.plans.unseal(plan, sealed) if sealed else (await self.engine.preview(name)).old
        data: dict[str, Json] = {"target": plan.target, "principal": plan.principal}
        await self._control.store.write(
            lambda unit: unit.record("access.rotation.retiring", actor=actor, subject=f"rotation:{name}", data=data)
        )
        rotator, _ = await self.places.rotator(plan)
        try:
            done = await rotator.retire(plan.principal, secret)
        finally:
            await rotator.close()
        await self._control.store.write(
            lambda unit: unit.record(
                "access.rotation.retired",
                actor=actor,
                subject=f"rotation:{name}",
                data={**data, "gone": done.gone, "proof": proof_of(done)},
            )
        )
        if done.gone and isinstance(done.proof, Proved):
            await self.plans.remove(name, actor=actor)
        return done

    async def due(self) -> list[tuple[Plan, datetime]]:
        """Every plan with the moment at which it is to be rotated, the earliest first."""
        return sorted(((plan, self.plans.due(plan)) for plan in await self.plans.list()), key=lambda each: each[1])

    async def run(self) -> None:
        """Resume what was left, and keep to the schedule, until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                    self._looked = True
                except RemitError as error:
                    _log.warning("rotations are put off: %s", error)
                await asyncio.sleep(_EVERY.total_seconds())
        finally:
            await self._stop([*self._driving.values()])

    @property
    def idle(self) -> bool:
        """Whether the loop has looked, and nothing is being driven."""
        return self._looked and not self._driving

    async def _look(self) -> None:
        busy = set()
        for run in await self.engine.unfinished():
            busy.add(run.plan)
            if run.phase is not Phase.STUCK:
                self._drive(run.id)
        now = self._control.clock.now()
        for plan, moment in await self.due() if self._automatic else ():
            if not plan.automatic or moment > now or plan.name in busy or self._put_off.get(plan.name, now) > now:
                continue
            self._put_off[plan.name] = now + _AFTER_FAILURE
            try:
                await self.begin(plan.name, actor=ACTOR, reason="it is due")
            except RemitError as error:
                _log.warning("the rotation `%s` is due and cannot begin: %s", plan.name, error)
            except Exception as error:  # a supervisor: one plan's plug-in stops neither the others nor us
                _log.error("the rotation `%s` is due and cannot begin: %s", plan.name, type(error).__name__)

    def _drive(self, run_id: str) -> None:
        if run_id in self._driving:
            return
        task = asyncio.create_task(self.engine.drive(run_id), name=f"remit-{run_id}")
        self._driving[run_id] = task

        def over(done: asyncio.Task[Run]) -> None:
            self._driving.pop(run_id, None)
            if not done.cancelled() and (error := done.exception()) is not None:
                said = error if isinstance(error, RemitError) else type(error).__name__  # its words may show a secret
                _log.error("the rotation `%s` waits: %s", run_id, said)

        task.add_done_callback(over)

    async def _alone(self, run_id: str, *, back: str = "", accept: str = "") -> Run:
        """Interrupt whoever drives the run, as a crash would, and drive it ourselves."""
        run = await self.engine.run(run_id)
        if run.phase in FINAL:
            raise Conflict(
                "access.rotation.ended", f"`{run_id}` is `{run.phase.value}`",
                next_step=f"`remit rotate {run.plan}` rotates once more",
            )  # fmt: skip
        if (task := self._driving.get(run_id)) is not None:
            await self._stop([task])
        driving = asyncio.create_task(self.engine.drive(run_id, back=back, accept=accept))
        self._driving[run_id] = driving
        try:
            return await asyncio.shield(driving)
        finally:
            self._driving.pop(run_id, None)

    async def _stop(self, tasks: Sequence[asyncio.Task[Run]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
