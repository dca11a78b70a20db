"""Grants in one installation: what judges them, who watches over them, and who is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit.access.grants import Grants, Outlook, lease_request
from remit.access.model import Grant, GrantKind, GrantState, Need
from remit.access.policy.approvals import KIND
from remit.access.policy.facts import GrantFacts
from remit.access.policy.obligations import ISSUERS
from remit.access.ports import StoredGrant
from remit.access.targets import parse_need
from remit.access.tasks.model import Program, TaskDefinition
from remit.governance.approvals import Approvals, House
from remit.governance.elevation import Constant, constant_elevations, emergency_over, suspend_unreviewed
from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, Misconfigured, RemitError
from remit.providers.notify import Messenger, read_channels

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.grants")
_LOOK_SECONDS = 1.0
_REVIEWS_EVERY = 30
"""Looks between two looks at emergencies."""
_ACTOR = "system:grants"
_KEPT = 5000


def open_grants(control: ControlPlane) -> tuple[Grants, Approvals]:
    """Grants that this installation's policies, people and journal judge."""
    judge = Approvals(
        House(
            audience=control.instance,
            policies=lambda: control.feed.cell.current().policies.digest,
            identity=lambda unit, identity: _identity(control, unit, identity),
            trusts=control.standing.trusts,
            team=control.standing.people_of,
            spent=control.standing.is_spent,
            ask=lambda grant, definition, needs: _ask(control, grant, definition, needs),
        )
    )
    return Grants(store=control.store, attester=control.witness, judge=judge), judge


def _identity(control: ControlPlane, unit: Any, identity: str) -> Any:
    record = unit.inventory.identities([identity]).get(identity)
    return None if record is None else control.standing.judge(record)


def _ask(control: ControlPlane, grant: Grant, definition: TaskDefinition, needs: Sequence[Need]) -> Outlook:
    """What policies would say of the task's own requests if the grant were approved; nothing is decided by this."""
    snapshot, now = control.feed.cell.current(), control.clock.now()
    terms = grant.terms
    facts = GrantFacts(
        id=grant.id, identity=grant.identity, digest=grant.digest, approved=(grant.digest,), usable=True,
        expires=now + (terms.life if terms is not None else timedelta(hours=1)), task=grant.task,
        task_digest=grant.task_digest,
    )  # fmt: skip
    supposed = replace(snapshot, grants=snapshot.grants.changed({grant.id: facts}))
    proven = _supposed(grant, definition, int(now.timestamp()))
    requires: dict[str, None] = {}
    refused: list[str] = []
    for need in needs:
        request = lease_request(definition, need, proven)
        judged = control.pdp.judge_in(request, supposed, now, now.timestamp(), ISSUERS, supposed=True)
        if not judged.allowed:
            refused.append(_why(judged, need))
        permits = judged.verdict.determining if judged.verdict is not None and judged.verdict.allowed else ()
        for owed in (owed for policy in permits for owed in policy.obligations if owed.kind == KIND):
            requires[owed.detail] = None
    return Outlook(requires=tuple(requires), allowed=not refused, why="; ".join(refused)[:1000])


def _supposed(grant: Grant, definition: TaskDefinition, now: int) -> dict[str, Json]:
    """What the task will prove when it runs as it was registered; of one elsewhere only that it is attested."""
    program = definition.program
    here: dict[str, Json] = {}
    if isinstance(program, Program):
        selectors: list[Json] = [f"unix:path:{program.executable}", f"unix:sha256:{program.sha256}"]
        if definition.uid is not None:
            selectors.append(f"unix:uid:{definition.uid}")
        here = {"attestation_method": "unix", "selectors": selectors, "sha256": program.sha256}
    return {
        **here,
        "attested": True,
        "attested_at": now,
        "task": definition.name,
        "task_digest": definition.digest,
        "grant": grant.id,
        "grant_digest": grant.digest,
    }


def _why(judged: Any, need: Need) -> str:
    if judged.refusal is not None:
        return f"{need}: {judged.refusal.text}"
    if judged.verdict is not None and judged.verdict.determining and not judged.verdict.allowed:
        return f"{need}: {'; '.join(policy.reason.text for policy in judged.verdict.determining)}"
    if judged.obligations:
        return f"{need}: {', '.join(owed.kind for owed in judged.obligations)} would be missing"
    return f"{need}: no policy allows it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Which channels took a message."""

    took: tuple[str, ...]
    failed: tuple[str, ...]


class GrantKeeper:
    """Looks after grants: lapses, voids, reviews, messages. What it ends, it ends with the leases."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._settings = control.settings.grants
        self._messages: set[asyncio.Task[Any]] = set()
        self._soon = asyncio.Event()

    async def run(self) -> None:
        """Look at everything again and again; sooner after what may have changed a grant."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.look()
                if looks % _REVIEWS_EVERY == 0:
                    await self.look_at_emergencies()
                looks += 1
            except RemitError as error:
                _log.warning("grants are looked at later: %s", error)

    async def look(self) -> Sequence[str]:
        """Lapse what is late, and void what is not what was approved, with its leases; returns what was voided."""
        await self._control.grants.lapse()
        voided = await self._control.grants.audit()
        for grant, why in voided:
            self._control.engine.end_surely(grant.id, f"the grant is not what was approved: {why}")
        if voided:
            await self._control.synchronise()
        return [grant.id for grant, _ in voided]

    async def look_at_emergencies(self) -> Sequence[str]:
        """Do what follows an emergency: end its leases, rotate what it could read, and ask for its review.

        Suspends the identities of those that nobody reviewed in time; returns these.
        """
        within = timedelta(days=self._settings.review_days)
        grants = self._control.grants

        def over(unit: Any) -> list[StoredGrant]:
            # Those alone: requests that somebody makes by the thousand push no emergency out of sight.
            asked = unit.access.grants(kind=GrantKind.BREAK_GLASS, limit=_KEPT)
            return [one for one in asked if emergency_over(one.grant, one.ended, unit.now) is not None]

        def work(unit: Any) -> tuple[str, ...]:
            return suspend_unreviewed(unit, over(unit), grants.reviewed, within=within)

        emergencies = await self._control.store.read(over)
        for stored in emergencies:
            if not grants.settled(stored):
                await self._settle(stored.grant)
        if all(grants.reviewed(stored) for stored in emergencies):
            return ()
        suspended = await self._control.store.write(work)
        for identity in suspended:
            await self._control.changed(identity)
        return suspended

    async def _settle(self, grant: Grant) -> None:
        """End its leases, and rotate every planned credential of its identity or on a target that it named."""
        self._control.engine.end_surely(grant.id, "the emergency is over")
        targets = {parse_need(need).target for need in grant.needs}
        rotated = []
        for plan in await self._control.rotations.plans.list():
            if plan.identity == grant.identity or plan.target in targets:
                try:
                    reason = f"after the emergency {grant.id}"
                    await self._control.rotations.begin(plan.name, actor=_ACTOR, reason=reason)
                    rotated.append(plan.name)
                except RemitError as error:
                    _log.warning("the plan `%s` does not rotate after %s: %s", plan.name, grant.id, error)
                except Exception as error:  # a supervisor: one plan's plug-in stops neither the others nor us
                    _log.error("the plan `%s` does not rotate after %s: %s", plan.name, grant.id, type(error).__name__)
        await self._control.grants.settle(grant.id, rotated=rotated)

    async def constant(self) -> tuple[Constant, ...]:
        """Tasks whose elevation is constant: automation to redesign."""
        asked = await self._control.grants.list(asked=True, limit=_KEPT)
        return constant_elevations(asked, self._control.clock.now(), more_than=self._settings.weekly)

    # Messages.

    def messenger(self) -> Messenger:
        """The channels as their file has them now; none without one. Raises `Misconfigured`."""
        file = self._settings.channels_file
        if not file:
            return Messenger(())
        path = Path(file)
        return Messenger(read_channels(path if path.is_absolute() else self._control.settings.data.root / path))

    def link(self, grant_id: str) -> str:
        """Where the request is opened; opening it changes nothing."""
        base = self._settings.console_url or f"http://{self._control.settings.server.listen}"
        return f"{base.rstrip('/')}/requests/{grant_id}"

    def announce(self, grant: Grant) -> None:
        """Tell people of a request that waits for them; nobody waits for the channels."""
        if grant.state is GrantState.REQUESTED and self._settings.channels_file:
            title = f"Remit: {grant.task} asks for {', '.join(grant.needs)}"
            task = asyncio.create_task(self._tell(grant, title), name="remit-message")
            self._messages.add(task)
            task.add_done_callback(self._messages.discard)

    def say(self, title: str, body: str) -> None:
        """Tell people something on every channel; nobody waits for the channels."""

        async def tell() -> None:
            try:
                await self.messenger().tell(title, body)
            except Misconfigured as error:
                _log.error("nobody is told: %s", error)

        if self._settings.channels_file:
            task = asyncio.create_task(tell(), name="remit-message")
            self._messages.add(task)
            task.add_done_callback(self._messages.discard)

    async def alert(self, grant: Grant) -> Heard:
        """Tell everybody that the glass is broken, before it is.

        Raises `Denied` (`access.break_glass.unheard`) when fewer channels took the alert than the settings ask for.
        """
        assert grant.terms is not None
        wanted = self._settings.alert_channels
        names = self.messenger().names
        if len(names) < wanted:
            raise _unheard(f"{len(names)} channels are configured, and {wanted} must hear of it")
        title = f"Remit: BREAK-GLASS by {grant.terms.asker} for {grant.task}"
        heard = await self._tell(grant, title)
        if len(heard.took) < wanted:
            raise _unheard(f"{len(heard.took)} of {len(names)} channels took the alert, and {wanted} must")
        return heard

    async def _tell(self, grant: Grant, title: str) -> Heard:
        assert grant.terms is not None
        body = (
            f"{title}\nidentity: {grant.identity}\nasked by: {grant.terms.asker}\nreason: {grant.reason}\n"
            f"for: {int(grant.terms.life.total_seconds())} s\n{self.link(grant.id)}"
        )
        try:
            answers: Mapping[str, bool] = await self.messenger().tell(title, body)
        except Misconfigured as error:
            _log.error("nobody is told of %s: %s", grant.id, error)
            answers = {}
        took = tuple(name for name, taken in answers.items() if taken)
        failed = tuple(name for name, taken in answers.items() if not taken)
        data: dict[str, Json] = {"took": list(took), "failed": list(failed), "kind": grant.terms.kind.value}
        await self._control.store.write(
            lambda unit: unit.record("access.grant.announced", actor=_ACTOR, subject=grant.id, data=data)
        )
        return Heard(took=took, failed=failed)


def is_emergency(grant: Grant) -> bool:
    return grant.terms is not None and grant.terms.kind is GrantKind.BREAK_GLASS


def _unheard(why: str) -> Denied:
    return Denied(
        "access.break_glass.unheard",
        f"the glass is not broken unheard: {why}",
        next_step="name channels in the file of `grants.channels_file`, or ask with `remit request`",
    )
