"""A proposal in Cedar on its way into force: as a canary for a share of consumers, then by the policies themselves.

A canary is memory of this control plane's own decision point, and ends with it: at its time, at the first request that
it refuses, or at a restart. Nothing is widened by it: it refuses what policies would allow, never the reverse.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from remit.access.model import Request
from remit.governance.dependencies.share import consumer_of, is_in
from remit.governance.rightsizing.languages.cedar import Decided
from remit.governance.rightsizing.stages import Change
from remit.kernel.clock import parse_rfc3339, rfc3339
from remit.kernel.errors import Conflict, Rejected

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane
    from remit.wiring.rightsizing import Sized

LANGUAGE: Final = "cedar"
USUAL_SHARE: Final = 10
"""Per cent of consumers, where nobody says otherwise."""
_HOLDER: Final = "right-sizing"
_LOOKED_AT: Final = 2000
"""Refused decisions that are looked at for one of a rule's."""


@dataclass(slots=True, kw_only=True)
class _Canary:
    change: Change
    ends: datetime
    pairs: Collection[tuple[str, str]]
    refused: str = field(default="")
    """The first request that it refused; after it, it refuses nothing more."""


class DecisionCanaries:
    """Refuses a share of an identity's consumers what a proposal leaves out, and remembers what it refused."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._canaries: dict[str, _Canary] = {}

    def begin(self, change: Change, sized: Sized) -> None:
        """Refuse from now on, until `change.ends`. `Conflict` (`governance.rightsizing.nothing`) without a proposal."""
        pairs = sized.judge.pairs if isinstance(sized.judge, Decided) else None
        if pairs is None:
            raise Conflict("governance.rightsizing.nothing", "the proposal leaves it everything that policies allow")
        self._canaries[change.identity] = _Canary(change=change, ends=parse_rfc3339(change.ends), pairs=pairs)
        self._control.pdp.hold(_HOLDER, self._holds)

    def end(self, change: Change) -> None:
        """Refuse nothing more for this change; again changes nothing."""
        held = self._canaries.get(change.identity)
        if held is not None and held.change.id == change.id:
            del self._canaries[change.identity]
        if not self._canaries:
            self._control.pdp.hold(_HOLDER, None)

    def over(self, change: Change) -> str:
        """Why the canary of a change is to be taken back now; empty while it goes on."""
        held = self._canaries.get(change.identity)
        if held is None or held.change.id != change.id:
            return "the control plane was started anew"
        if held.refused:
            return f"refused: {held.refused}"
        return "the canary's time is over" if self._control.clock.now() >= held.ends else ""

    def _holds(self, identity: str, request: Request, now: datetime) -> str:
        """Why this request is refused; empty where it is not. On the hot path of those with a canary alone."""
        held = self._canaries.get(identity)
        if held is None or held.refused or now >= held.ends:
            return ""
        view = self._control.feed.cell.current().see_resource(request.resource.type, request.resource.id).view
        if any((request.action[:200], uid.id) in held.pairs for uid in view.ancestors):
            return ""
        consumer = consumer_of(request)
        if not is_in(held.change.id, consumer, held.change.share):
            return ""
        held.refused = f"{request.action[:80]} on {view.uid.id[:120]} by {consumer}"
        return f"it never did so before: a canary of the right-sizing {held.change.id}, which ends with this refusal"


def share_of(language: str, share: int) -> int:
    """The share of a canary, as it is asked for (0: the usual one). `Rejected` (`governance.rightsizing.share`)."""
    if language == LANGUAGE:
        share = share or USUAL_SHARE
        if not 1 <= share <= 100:
            raise Rejected("governance.rightsizing.share", "a share is 1 to 100 per cent")
        return share
    if share not in (0, 100):
        raise Rejected(
            "governance.rightsizing.share", "rights of a login are the same for whoever uses it: no share of them",
            next_step="leave `--share` away, and say how long by `--minutes`",
        )  # fmt: skip
    return 100


def require_in_force(sized: Sized) -> None:
    """`Conflict` (`governance.rightsizing.by-hand`) while the policies in force do not say what is proposed."""
    holding = sized.granted.holding
    if isinstance(holding, Decided) and holding.in_force:
        return
    raise Conflict(
        "governance.rightsizing.by-hand", "policies are put in force by people, and these do not have its rule yet",
        next_step=f"`remit rightsize {sized.record.id} --out DIR`, `remit policy apply DIR/policies.cedar`, then again",
    )  # fmt: skip


async def rule_in_force(control: ControlPlane, identity: str) -> bool:
    """Whether the policies in force narrow this identity."""
    version = await control.store.read(lambda unit: unit.access.active_policy_version())
    return version is not None and Decided(identity, version.text).in_force


async def refused_by_rule(control: ControlPlane, change: Change) -> tuple[str, ...]:
    """What the rule of a change has refused since it is in force: in sentences, at most twenty."""
    rule, since = Decided(change.identity, "").rule, rfc3339(change.moved)
    found: dict[str, None] = {}
    for each in await control.latest_decisions(limit=_LOOKED_AT, denied=True):
        if each["time"] > since and any(reason["id"] == rule for reason in each["reasons"]):
            asked = each["request"]
            found[f"{asked['action'][:80]} on {asked['resource']['id'][:120]}"] = None
    return tuple(found)[:20]
