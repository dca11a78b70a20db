"""Plans of rotation: what is rotated, who reads it, how it is known to work. Signed, read from a person's document."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from remit.access.rotation.model import ConsumerSpec, Mode, Plan
from remit.access.rotation.ports import Places, RotationUnit
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected
from remit.kernel.unit import Attester, Sealer, Store

SIGNED_AS: Final = "access.rotation"
RESERVED: Final = frozenset(
    {"define", "due", "ls", "now", "plans", "resume", "rm", "rollback", "show"}
)  # fmt: skip
"""Words of the command line: no plan is called so."""
MAX_CONSUMERS: Final = 32
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEYS: Final = frozenset(
    {"name", "target", "principal", "mode", "consumers", "identity", "health", "deadline_seconds", "observe",
     "automatic", "tier", "max_age_days"}
)  # fmt: skip


class Plans:
    """The verbs on plans."""

    def __init__(
        self, *, store: Store[RotationUnit], sealer: Sealer, attester: Attester, places: Places, clock: Clock,
        lifetimes: Sequence[timedelta], said_tier: Callable[[str], int | None] = lambda identity: None,
    ) -> None:  # fmt: skip
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._places = places
        self._clock = clock
        self._lifetimes = lifetimes
        """The longest life of a credential, by tier."""
        self._said_tier = said_tier

    async def define(
        self, document: Mapping[str, Any], *, system: str, actor: str, approval: Mapping[str, Json], current: str = ""
    ) -> Plan:
        """Keep a plan for a target of `system`; `current` is the present secret, where no consumer can tell it.

        Raises `Rejected` (`access.rotation.malformed`, `.consumer`), `Conflict` (`access.rotation.exists`).
        """
        plan = parse_plan(
            document, modes=self._places.modes(system), now=self._clock.now(), actor=actor, approval=approval
        )
        for spec in plan.consumers:
            self._places.consumer(spec)
        signed = self.sign(plan)
        sealed = self.seal(plan, current) if current else b""

        def work(unit: RotationUnit) -> None:
            known = unit.rotations.plan(plan.name)
            if known is not None and self.is_genuine(known[0]):
                raise Conflict(
                    "access.rotation.exists",
                    f"a rotation is already called `{plan.name}`",
                    next_step=f"choose another name, or `remit rotate rm {plan.name}` first",
                )
            unit.rotations.put_plan(signed, sealed)
            unit.record(
                "access.rotation.defined", actor=actor, subject=f"rotation:{plan.name}", data=plan.as_json()
            )  # fmt: skip

        await self._store.write(work)
        return signed

    async def list(self) -> Sequence[Plan]:
        """Those that count, by name."""
        return [one for one in await self._store.read(lambda unit: unit.rotations.plans()) if self.is_genuine(one)]

    async def get(self, name: str) -> Plan:
        """`NotFound` (`access.rotation.unknown`), `Misconfigured` (`access.rotation.forged`)."""
        return (await self._store.read(lambda unit: self.require(unit, name)))[0]

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget it; `Conflict` (`access.rotation.busy`) while a rotation of it is not ended."""

        def work(unit: RotationUnit) -> None:
            if any(run.plan == name for run in unit.rotations.unfinished()):
                raise Conflict(
                    "access.rotation.busy",
                    f"a rotation of `{name[:64]}` is under way",
                    next_step=f"`remit rotate show {name[:64]}`, then resume it or roll it back",
                )
            if not unit.rotations.remove_plan(name):
                raise unknown(name)
            unit.record("access.rotation.removed", actor=actor, subject=f"rotation:{name}")

        await self._store.write(work)

    def lifetime(self, plan: Plan) -> timedelta:
        """The longest life of its credential: its own, else that of its tier or of its identity's, if stricter."""
        if plan.max_age_days:
            return timedelta(days=plan.max_age_days)
        said = self._said_tier(plan.identity) if plan.identity else None
        return self._lifetimes[plan.tier if said is None else min(plan.tier, said)]

    def due(self, plan: Plan) -> datetime:
        """When it is to be rotated next; a credential that was never rotated is as old as its plan, at least."""
        return (plan.rotated or plan.created) + self.lifetime(plan)

    def sign(self, plan: Plan) -> Plan:
        return replace(plan, signature=self._attester.sign(SIGNED_AS, plan.as_json()))

    def is_genuine(self, plan: Plan) -> bool:
        return self._attester.verify(SIGNED_AS, plan.as_json(), plan.signature)

    def seal(self, plan: Plan, secret: str) -> bytes:
        """The secret that counts, bound to the plan and its version."""
        return self._sealer.seal(secret.encode(), context=f"access_rotation_plan/{plan.name}/{plan.version}")

    def unseal(self, plan: Plan, sealed: bytes) -> str:
        return self._sealer.unseal(sealed, context=f"access_rotation_plan/{plan.name}/{plan.version}").decode()

    def require(self, unit: RotationUnit, name: str) -> tuple[Plan, bytes]:
        """The plan, verified, and its sealed secret."""
        found = unit.rotations.plan(name) if _NAME.fullmatch(name) else None
        if found is None:
            raise unknown(name)
        if not self.is_genuine(found[0]):
            raise Misconfigured(
                "access.rotation.forged",
                f"the record of the rotation `{name}` was changed outside Remit",
                next_step=f"`remit rotate rm {name}`, then define it again",
            )
        return found


def parse_plan(
    document: Mapping[str, Any], *, modes: Sequence[Mode], now: datetime, actor: str, approval: Mapping[str, Json]
) -> Plan:
    """Read a person's document strictly; `Rejected` (`access.rotation.malformed`) names what is wrong."""
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED or name.startswith("ro_"):
        raise malformed("its `name` is 1 to 63 of a-z, 0-9, `.`, `_`, `-`, and no word of the command line")
    if unknown_keys := sorted(set(document) - _KEYS):
        raise malformed(f"it has the unknown key `{unknown_keys[0][:40]}`")
    mode = _mode(document.get("mode"), modes)
    return Plan(
        name=name,
        target=_text(document, "target"),
        principal=_text(document, "principal"),
        mode=mode,
        consumers=_consumers(document.get("consumers")),
        identity=_text(document, "identity", needed=False),
        health=_argv(document.get("health", [])),
        deadline_seconds=_number(document, "deadline_seconds", 60, 0, 86_400),
        observe=_flag(document, "observe", True),
        automatic=_flag(document, "automatic", False),
        tier=_number(document, "tier", 2, 0, 3),
        max_age_days=_number(document, "max_age_days", 0, 0, 3650),
        created=now,
        created_by=actor,
        approval=dict(approval),
    )


def _mode(given: object, modes: Sequence[Mode]) -> Mode:
    if given is None:
        return modes[0]
    for mode in modes:
        if mode.value == given:
            return mode
    raise malformed("its `mode` is one of: " + ", ".join(mode.value for mode in modes))


def _consumers(given: object) -> tuple[ConsumerSpec, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_CONSUMERS:
        raise malformed(f"it has 1 to {MAX_CONSUMERS} `consumers`")
    found = []
    for each in given:
        if not isinstance(each, dict) or not isinstance(each.get("kind"), str):
            raise malformed("each consumer is a table with a `kind`")
        found.append(ConsumerSpec(kind=each["kind"], options={k: v for k, v in each.items() if k != "kind"}))
    return tuple(found)


def _argv(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or len(given) > 64 or not all(isinstance(each, str) for each in given):
        raise malformed("`health` is a list: a program and its arguments")
    if given and not str(given[0]).startswith("/"):
        raise malformed("the program of `health` is an absolute path")
    return tuple(given)


def _text(document: Mapping[str, Any], key: str, *, needed: bool = True) -> str:
    given = document.get(key, "")
    if not isinstance(given, str) or len(given) > 200 or not given.isprintable() or (needed and not given):
        raise malformed(f"its `{key}` is a text of 1 to 200 characters")
    return given


def _number(document: Mapping[str, Any], key: str, default: int, least: int, most: int) -> int:
    given = document.get(key, default)
    if type(given) is not int or not least <= given <= most:
        raise malformed(f"its `{key}` is a whole number from {least} to {most}")
    return given


def _flag(document: Mapping[str, Any], key: str, default: bool) -> bool:
    given = document.get(key, default)
    if not isinstance(given, bool):
        raise malformed(f"its `{key}` is true or false")
    return given


def malformed(why: str) -> Rejected:
    return Rejected(
        "access.rotation.malformed", f"the plan is not well formed: {why}", next_step="see docs/rotation.md"
    )


def unknown(name: str) -> NotFound:
    return NotFound(
        "access.rotation.unknown",
        f"no rotation is called `{name[:64]}`",
        next_step="`remit rotate ls`, or `remit rotate define FILE`",
    )
