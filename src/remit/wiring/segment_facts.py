"""What segments are built from in one installation: grants in force, definitions that policy permits, and places."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remit.access.brokers.principals import PRINCIPAL
from remit.access.grants import lease_request
from remit.access.leases.model import principal_name
from remit.access.model import GrantState, MintOrder, Need, RevokeOrder, Target
from remit.access.policy.obligations import ISSUERS
from remit.access.segments import Permitted, Place, Situation
from remit.access.segments.model import SIGNED_AS
from remit.access.targets import parse_need
from remit.access.tasks.model import Program, TaskDefinition
from remit.kernel.canonical import Json
from remit.kernel.errors import RemitError
from remit.kernel.unit import Attester
from remit.providers.network import HbaFile
from remit.providers.postgres.address import Address

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_MOST_GRANTS = 20_000


def sign_place(place: Place, attester: Attester) -> str:
    return attester.sign(f"{SIGNED_AS}.place", place.content())


def is_genuine(place: Place, attester: Attester) -> bool:
    return attester.verify(f"{SIGNED_AS}.place", place.content(), place.signature)


async def situation(control: ControlPlane, target: Target, *, running: bool) -> Situation:
    """Everything verified; `running`: only what grants in force allow, not what policy would permit a task to ask."""
    definitions = {one.name: one for one in await control.tasks.list()}

    def read(unit: Any) -> tuple[list[Permitted], dict[str, Place]]:
        places = {one.subject: one for one in unit.segments.places() if is_genuine(one, control.witness)}
        return _granted(control, unit, target, definitions), places

    permitted, places = await control.store.read(read)
    if not running:
        permitted += _by_policy(control, target, definitions)
    return Situation(instance=control.instance, target=target, permitted=permitted, places=places, uid=os.geteuid())


def _granted(
    control: ControlPlane, unit: Any, target: Target, definitions: dict[str, TaskDefinition]
) -> list[Permitted]:
    found = []
    for stored in unit.access.grants(states=(GrantState.APPROVED.value,), limit=_MOST_GRANTS):
        grant = stored.grant
        task = definitions.get(grant.task)
        needs = [need for need in map(_read, grant.needs) if need is not None and need.target == target.name]
        if not needs or task is None or task.digest != grant.task_digest or task.identity != grant.identity:
            continue
        if grant.expires <= control.clock.now() or not control.grants.holds(stored):
            continue
        if grant.terms is not None and control.grants.changed(unit, stored):
            continue
        found += [
            Permitted(
                task=task, role=target.roles[need.role], database=need.database or target.database,
                why=f"grant {grant.id}",
            )
            for need in needs
            if need.role in target.roles
        ]  # fmt: skip
    return found


def _read(text: str) -> Need | None:
    try:
        return parse_need(text)
    except RemitError:
        return None


def _by_policy(control: ControlPlane, target: Target, definitions: dict[str, TaskDefinition]) -> list[Permitted]:
    snapshot, now = control.feed.cell.current(), control.clock.now()
    found = []
    for task in definitions.values():
        for role, group in sorted(target.roles.items()):
            need = Need(system=target.system, target=target.name, role=role)
            request = lease_request(task, need, _supposed(task, int(now.timestamp())))
            judged = control.pdp.judge_in(request, snapshot, now, now.timestamp(), ISSUERS, supposed=True)
            if judged.allowed:
                found.append(Permitted(task=task, role=group, database=target.database, why=f"policy permits {role}"))
    return found


def _supposed(task: TaskDefinition, now: int) -> dict[str, Json]:
    """What its attestation would prove, by its signed definition."""
    program = task.program
    if isinstance(program, Program):
        selectors: list[Json] = [f"unix:path:{program.executable}", f"unix:sha256:{program.sha256}"]
        selectors += [] if task.uid is None else [f"unix:uid:{task.uid}"]
        seen: dict[str, Json] = {"attestation_method": "unix", "selectors": selectors, "sha256": program.sha256}
    else:
        seen = {"attestation_method": program.kind, "selectors": list(program.selectors)}
    return {**seen, "attested": True, "attested_at": now, "task": task.name, "task_digest": task.digest}


def postgres_address(target: Target) -> Address:
    """Where the target listens, and our login there."""
    return Address(
        host=target.host, port=target.port, user=target.user, database=target.database,
        ssl_mode=target.options.get("sslmode", ""), ssl_root=target.options.get("sslrootcert", ""),
    )  # fmt: skip


async def server_of(control: ControlPlane, name: str) -> tuple[HbaFile, Address, str]:
    """The PostgreSQL behind a target, as its administrator, with the login's secret."""
    target, secret = await control.targets.credential(name)
    address = postgres_address(target)
    return HbaFile(address, secret), address, secret


async def trial(control: ControlPlane, target: str, database: str, role: str) -> str:
    """Make a credential, which logs in once, and end it; what went wrong, or nothing.

    Its name is one of a lease that there is not: should we die here, the sweep ends it.
    """
    now = control.clock.now()
    principal = principal_name(control.instance, now, os.urandom(10))
    assert PRINCIPAL.fullmatch(principal), "the broker minds names of this pattern alone"
    secret = os.urandom(24).hex()
    order = MintOrder(
        principal=principal, role=role, database=database, secret=secret,
        expires=now + timedelta(minutes=1), label="a trial of network rules",
    )  # fmt: skip
    wrong = ""
    try:
        broker = await control.brokers.broker(target)
        try:
            await broker.mint(order)
        except RemitError as error:
            wrong = error.message
        finally:
            await broker.revoke([RevokeOrder(principal=principal, secret=secret, database=database)])
    except RemitError as error:
        wrong = wrong or error.message
    return wrong
