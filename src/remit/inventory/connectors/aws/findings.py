"""What is wrong with users, roles and keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from remit.inventory.connectors.aws.account import AccessKey, Principal
from remit.inventory.connectors.aws.permissions import Right
from remit.inventory.connectors.aws.trust import Flaw
from remit.inventory.model import FindingFact, Place, Severity
from remit.kernel.ids import Name, credential_name

MAX_KEY_AGE = timedelta(days=90)
MAX_IDLE = timedelta(days=90)
_TRUST = {
    "open": (Severity.CRITICAL, "anybody may assume role {role}", "name the principals that need it"),
    "any-subject": (
        Severity.CRITICAL,
        "role {role} trusts every subject of an identity provider",
        "add a condition on the provider's `sub`",
    ),
    "wide-subject": (
        Severity.HIGH,
        "role {role} trusts many repositories at once",
        "name the repository, and the branch or environment, in the condition on `sub`",
    ),
    "no-external-id": (
        Severity.MEDIUM,
        "role {role} trusts another account without an external id",
        "add a condition on `sts:ExternalId`, or name the one role that needs it",
    ),
}


def admin_finding(principal: Principal, right: Right, subject: Name, place: Place) -> FindingFact:
    """It can do everything."""
    under = f", under conditions: {'; '.join(right.conditions)}" if right.conditions else ""
    return FindingFact(
        rule="aws.administrator",
        severity=Severity.MEDIUM if right.conditions else Severity.HIGH,
        title=f"{principal.kind} {principal.name} is an administrator",
        detail=f"{right.why} allows every action on every resource{under}",
        next_step="replace it by the actions that it uses; `remit blast` shows what hangs on it",
        place=place,
        subject=subject,
    )


def path_finding(principal: Principal, way: str, subject: Name, place: Place, *, certain: bool) -> FindingFact:
    """It can make itself an administrator."""
    return FindingFact(
        rule="aws.path-to-admin" if certain else "aws.conditional-path-to-admin",
        severity=Severity.HIGH if certain else Severity.MEDIUM,
        title=f"{principal.kind} {principal.name} {'can' if certain else 'may be able to'} become an administrator",
        detail=way[:1000],
        next_step=f"`remit blast` on {principal.name} shows each step, and how to cut it",
        place=place,
        subject=subject,
    )


def trust_finding(role: Principal, flaw: Flaw, subject: Name, place: Place) -> FindingFact:
    """A trust policy lets in too many."""
    severity, title, next_step = _TRUST[flaw.what]
    return FindingFact(
        rule=f"aws.trust-{flaw.what}",
        severity=severity,
        title=title.format(role=role.name),
        detail=flaw.detail,
        next_step=next_step,
        place=place,
        subject=subject,
    )


def key_findings(user: Principal, keys: list[AccessKey], now: datetime, place: Place) -> Iterator[FindingFact]:
    """Access keys that are old, unused, or two at once."""
    active = [key for key in keys if key.active]
    for key in active:
        node = credential_name(fingerprint_of(key.id))
        if key.created is not None and now - key.created > MAX_KEY_AGE:
            yield FindingFact(
                rule="aws.old-access-key",
                severity=Severity.MEDIUM,
                title=f"access key {key.id} of {user.name} is {(now - key.created).days} days old",
                detail=f"longer than {MAX_KEY_AGE.days} days without rotation",
                next_step="replace it by a role; until then rotate it",
                place=place,
                subject=node,
            )
        since = key.last_used or key.created
        if since is not None and now - since > MAX_IDLE:
            used = f"last used {(now - key.last_used).days} days ago" if key.last_used else "never used"
            yield FindingFact(
                rule="aws.unused-access-key",
                severity=Severity.MEDIUM,
                title=f"access key {key.id} of {user.name} is not used",
                detail=used,
                next_step=f"make it inactive: aws iam update-access-key --access-key-id {key.id} --status Inactive",
                place=place,
                subject=node,
            )
    if len(active) > 1:
        yield FindingFact(
            rule="aws.two-active-keys",
            severity=Severity.LOW,
            title=f"{user.name} has {len(active)} active access keys",
            detail="outside a rotation the second key is a copy that nobody watches",
            next_step="finish the rotation: make the older key inactive, then delete it",
            place=place,
        )


def console_findings(
    user: Principal, subject: Name, place: Place, *, console: bool, factors: int | None, keys: int
) -> Iterator[FindingFact]:
    """A person's sign-in without a second factor, and a person and a machine in one user."""
    if console and factors == 0:
        yield FindingFact(
            rule="aws.console-without-mfa",
            severity=Severity.HIGH,
            title=f"{user.name} signs in to the console without a second factor",
            detail="the user has a password and no MFA device",
            next_step="register an MFA device, or move the person to single sign-on",
            place=place,
            subject=subject,
        )
    if console and keys:
        yield FindingFact(
            rule="aws.person-and-machine",
            severity=Severity.LOW,
            title=f"{user.name} is a person and a machine",
            detail=f"the user has a console password and {keys} active access key{'s' if keys > 1 else ''}",
            next_step="give the machine a role of its own",
            place=place,
            subject=subject,
        )


def dormant_finding(
    principal: Principal, last_used: datetime | None, now: datetime, subject: Name, place: Place
) -> Iterator[FindingFact]:
    """A role that nobody has used for long."""
    since = last_used or (principal.created if principal.use_tracked else None)
    if principal.path.startswith("/aws-service-role/") or since is None or now - since <= MAX_IDLE:
        return
    yield FindingFact(
        rule="aws.dormant-role",
        severity=Severity.LOW,
        title=f"role {principal.name} is dormant",
        detail=f"last used {(now - last_used).days} days ago" if last_used else "AWS has recorded no use",
        next_step="deny it with `aws:TokenIssueTime` first, then delete it when nothing breaks",
        place=place,
        subject=subject,
    )


def fingerprint_of(key_id: str) -> str:
    """An access key is known everywhere by the hash of its id, which is no secret."""
    return f"sha256:{hashlib.sha256(key_id.encode()).hexdigest()}"
