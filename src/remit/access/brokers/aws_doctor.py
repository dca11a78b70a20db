"""What `remit doctor` says of an AWS target: reachable, clock, enough rights, not one too many, what is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from remit.access.brokers.aws_settings import EXCESSIVE, WORK, Settings, path_of
from remit.access.brokers.port import Check
from remit.kernel.errors import RemitError
from remit.providers.aws.account import Account
from remit.providers.aws.query import Keys

_SKEW: Final = timedelta(seconds=60)
_MAKING: Final = ("iam:CreateRole", "iam:PutRolePolicy")


async def examine(
    account: Account | None, settings: Settings, target: str, *, unknown: Keys, now: Callable[[], datetime]
) -> Sequence[Check]:
    """All checks; one alone where AWS cannot be asked."""
    try:
        if account is None:
            return [Check(ok=False, title="AWS answers", detail="it is not open")]
        caller = (await account.caller()).judged()
        stranger = await account.caller(unknown)
    except RemitError as error:
        return [Check(ok=False, title="AWS answers", detail=error.message, next_step=error.next_step)]
    return [
        Check(ok=True, title="AWS answers", detail=caller.text("Arn")),
        _clock(caller.date, now()),
        Check(
            ok=stranger.refused,
            title="access keys are checked",
            detail=f"an unknown key was {f'refused: {stranger.code}' if stranger.refused else 'admitted'}",
            next_step="" if stranger.refused else "until then no revocation can be proved",
        ),
        await _policies(account, settings, _apply(target)),
        Check(ok=True, title="leases end when Remit is dead", detail="AWS denies a role everything after its expiry"),
    ]


def _clock(theirs: datetime | None, ours: datetime) -> Check:
    skew = None if theirs is None else abs(theirs - ours)
    return Check(
        ok=skew is not None and skew <= _SKEW,
        title="the clocks agree",
        detail="AWS told no time" if skew is None else f"{skew.total_seconds():.0f} s apart",
        next_step="let this machine's clock be set by NTP: leases end by AWS's clock",
    )


async def _policies(account: Account, settings: Settings, apply: str) -> Check:
    named = [settings.boundary, *sorted({arn for role in settings.roles.values() for arn in role.policies})]
    title = "the boundary and the mapped policies exist"
    try:
        missing = [arn for arn in named if not await account.policy_exists(arn)]
    except RemitError as error:
        return Check(ok=False, title=title, detail=error.message, next_step=apply)
    return Check(ok=not missing, title=title, detail=", ".join(missing)[:400], next_step=apply if missing else "")


async def rights_of(
    account: Account | None, settings: Settings, target: str, *, arn: str, instance: str
) -> Sequence[Check]:
    """By IAM's own simulator; what it cannot say is no pass."""
    titles = "the broker may do its work", "the broker holds no more than it needs"
    apply = _apply(target)
    if account is None or not instance:
        later = "not asked before the target was swept once"
        return [Check(ok=False, title=title, detail=later, next_step="`remit doctor`") for title in titles]
    role = settings.role_arn(f"remit_{instance}_{'0' * 26}", path_of(instance))
    stranger = settings.role_arn("remit-stranger", "/")
    bound = {"iam:PermissionsBoundary": settings.boundary}
    try:
        work = await account.simulate(arn, [*WORK, *_MAKING], role, bound)
        unbound = await account.simulate(arn, _MAKING, role, {})
        elsewhere = await account.simulate(arn, [*_MAKING, "sts:AssumeRole"], stranger, bound)
        excess = await account.simulate(arn, EXCESSIVE, "*", {})
    except RemitError as error:
        said = f"IAM's simulator does not say: {error.message}"
        return [Check(ok=False, title=title, detail=said[:400], next_step=apply) for title in titles]
    lacking = sorted({*WORK, *_MAKING} - {name for name, may in work.items() if may})
    too_much = [f"{name} without the boundary" for name, may in unbound.items() if may]
    too_much += [f"{name} outside {path_of(instance)}" for name, may in elsewhere.items() if may]
    too_much += [name for name, may in excess.items() if may]
    return [
        Check(ok=not lacking, title=titles[0], detail="; ".join(lacking)[:400], next_step=apply if lacking else ""),
        Check(
            ok=not too_much,
            title=titles[1],
            detail="; ".join(too_much)[:400],
            next_step="take it away from the broker's user" if too_much else "",
        ),
    ]


def _apply(target: str) -> str:
    return f"let an administrator deploy what `remit target install {target} --print` shows"
