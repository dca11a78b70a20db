"""A leaked secret, tried: read again where it lies, and shown to the one system that it is of. Nothing keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from remit.access.model import Proved, Target, Unproved
from remit.defense.responses.leak import Intent, Leak, Way
from remit.inventory.records import CredentialRecord
from remit.inventory.secrets.found import Attempt, Verdict
from remit.kernel.clock import rfc3339
from remit.kernel.errors import RemitError
from remit.wiring.standing_logins import Admitted, Tried

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_PASSWORDS: Final = ("password", "secret")
_OF_CREDENTIAL: Final = frozenset({
    "status 401", "InvalidClientTokenId", "ExpiredToken", "invalid_auth", "token_revoked", "token_expired",
    "account_inactive", "28P01", "28000",
})  # fmt: skip
"""What issuers say of a credential, and of nothing else: a 403 may be of a limit, or of a missing right."""
_GONE: Final = "it cannot be read again where it was found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one attempt, and the secret with which it was made, for as long as this lives."""

    result: Tried
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """What is known of a leak's credential: its rows, and the target on which it counts."""

    record: CredentialRecord
    target: Target | None
    principal: str


class LeakTrials:
    """Tries leaked secrets, and says how each could be ended."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def footing(self, record: CredentialRecord) -> Footing:
        """The target on which the credential is a login, if one is registered."""
        control = self._control
        if record.kind not in _PASSWORDS:
            return Footing(record=record, target=None, principal="")
        names = await control.store.read(lambda unit: unit.inventory.names_of(record.identity))
        user = record.attributes.get("user")
        found = await control.static.logins.locate(names, user=user if isinstance(user, str) else "")
        return Footing(record=record, target=found[0] if found else None, principal=found[1] if found else "")

    async def attempt(self, leak: Leak, footing: Footing, held: str | None) -> Trial:
        """Try the secret once at its own system; `held` is what an earlier attempt of this drive read."""
        checks, again = self._checks(footing), None
        if footing.target is None and checks is None:
            return Trial(result=_judged(None, leak), secret=held)  # read by nobody for nothing
        if held is None or footing.target is None:
            again = await self._control.static.read_again([footing.record], checks)
        secret = again.secret.decode("utf-8", "replace") if again else held
        if footing.target is not None:
            if secret is None:
                return Trial(result=Unproved(why=_GONE))
            tried = await self._control.static.logins.attempt(footing.target, footing.principal, secret)
            return Trial(result=tried, secret=secret)
        if again is None:
            return Trial(result=Unproved(why=_GONE), secret=secret)
        return Trial(result=_judged(again.verdict, leak), secret=secret)

    async def way(self, footing: Footing, secret: str | None) -> tuple[Intent, str]:
        """How it would be ended, and why not by Remit where its owner has to."""
        target, principal = footing.target, footing.principal
        if target is None:
            return Intent(way=Way.INSTRUCTION), "no registered target is its own: only its issuer can end it"
        for plan in await self._control.rotations.plans.list():
            if (plan.target, plan.principal) != (target.name, principal):
                continue
            if await self._ends(plan, secret):
                return Intent(way=Way.ROTATION, target=target.name, principal=principal, plan=plan.name), ""
            why = f"`{plan.name}` rotates this login, and would not end this secret of it: it knows another"
            return Intent(way=Way.INSTRUCTION, target=target.name, principal=principal), why
        if await self._control.static.logins.can_end(target):
            return Intent(way=Way.BROKER, target=target.name, principal=principal), ""
        why = f"logins of {target.system} are not ended by Remit"
        return Intent(way=Way.INSTRUCTION, target=target.name, principal=principal), why

    async def _ends(self, plan: Any, secret: str | None) -> bool:
        """Whether a rotation would end `secret`: of two secrets of one login it ends the one that it knows."""
        if plan.mode.value != "two-secrets" or secret is None:
            return True
        try:
            old = (await self._control.rotations.engine.preview(plan.name)).old
        except RemitError:
            return False
        return old in (None, secret)

    def _checks(self, footing: Footing) -> Attempt | None:
        """How to ask the issuer: only at endpoints that the operator declared."""
        declared = self._control.settings.defense.verify_endpoints
        if not declared or footing.target is not None:
            return None
        from remit.inventory.secrets.live import Checks, parse_endpoints

        return Checks(parse_endpoints(declared), clock=self._control.clock.now)


def _judged(verdict: Verdict | None, leak: Leak) -> Tried:
    """What an issuer's answer proves."""
    if verdict is None:
        return Unproved(why="no target of Remit knows it, and no endpoint is declared at which it may be tried")
    if verdict.state == "live":
        return Admitted(words=verdict.detail or "admitted")
    of_credential = verdict.detail in _OF_CREDENTIAL or verdict.detail.startswith("WRONGPASS")
    if verdict.state != "refused" or not of_credential:
        return Unproved(why=f"its issuer's answer says nothing of it: {verdict.detail or verdict.state}")
    before = f"the same endpoint admitted it at {rfc3339(leak.admitted)}" if leak.admitted else ""
    return Proved(refusal=verdict.detail, control=before or "none: the endpoint was never seen to admit it")


def account(trial: Tried) -> Mapping[str, str]:
    """For people."""
    match trial:
        case Admitted():
            return {"state": "admitted", "words": trial.words}
        case Proved():
            return {"state": "refused", "words": trial.refusal}
        case Unproved():
            return {"state": "not known", "words": trial.why}
