"""Which other principals' rights a principal can gain, beyond what trust policies give it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remit.inventory.connectors.aws.account import Group, Principal
from remit.inventory.connectors.aws.catalogue import EXISTING, PASSING, TAKING, WRITING, Way
from remit.inventory.connectors.aws.estate import Estate
from remit.inventory.connectors.aws.naming import group_name, root_name, service_name
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.trust import assumable
from remit.kernel.ids import Name, name

_PASS = "iam:PassRole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """A way to `target`: its id in the catalogue, the actions, and why they are allowed."""

    id: str
    target: Name
    actions: tuple[str, ...]
    why: str
    conditions: tuple[str, ...] = ()


def any_user(account: str) -> Name:
    return name("aws", account, "any-user", "*")


def any_role(account: str) -> Name:
    return name("aws", account, "any-role", "*")


def escalations(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """The open ways of a principal who is no administrator: for each target the one with the fewest conditions."""
    found = [
        *_writing(estate, permissions),
        *_taking(estate, permissions),
        *_passing(estate, permissions),
        *_existing(estate, permissions),
        *_joining(estate, permissions),
    ]
    best: dict[Name, Escalation] = {}
    for way in found:
        known = best.get(way.target)
        if known is None or len(way.conditions) < len(known.conditions):
            best[way.target] = way
    yield from best.values()


def _all(rights: Sequence[Right | None]) -> tuple[str, tuple[str, ...]] | None:
    """Why all rights are held and under which conditions; `None` where one is missing."""
    held = [right for right in rights if right is not None]
    if len(held) != len(rights):
        return None
    why = ", ".join(dict.fromkeys(right.why for right in held))
    return why, tuple(dict.fromkeys(condition for right in held for condition in right.conditions))


def _taking(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Make a credential for a user, or rewrite whom a role trusts."""
    account, me = estate.account, permissions.principal
    prefix = f"arn:{account.partition}:iam::{account.id}:"
    for way, action, kind in TAKING:
        hub, targets = (any_user, account.users) if kind == "user" else (any_role, account.roles)
        whole = permissions.may(action, f"{prefix}{kind}/*", whole=True)
        if whole is not None:
            yield _one(way, hub(account.id), (action,), (whole,))
            continue
        if permissions.may(action, "*") is None:
            continue
        for target in targets.values():
            right = permissions.may(action, target.arn)
            if target is not me and right is not None:
                yield _one(way, estate.name(target), (action,), (right,))


def _one(way: str, target: Name, actions: tuple[str, ...], rights: Sequence[Right]) -> Escalation:
    held = _all(rights)
    assert held is not None
    return Escalation(id=way, target=target, actions=actions, why=held[0], conditions=held[1])


def _passing(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Start something new that runs as a role."""
    account = estate.account
    everywhere = f"arn:{account.partition}:iam::{account.id}:role/*"
    if permissions.may(_PASS, "*") is None:
        return
    for way in PASSING:
        roles = estate.trusting.get(way.service, [])
        held = _all([permissions.may(action, "*") for action in way.actions]) if roles else None
        if held is None:
            continue
        known = {"iam:passedtoservice": way.service}
        whole = permissions.may(_PASS, everywhere, known, whole=True)
        if whole is not None:
            yield _pass(way, held, whole, service_name(account.id, way.service))
            continue
        for role in roles:
            right = permissions.may(_PASS, role.arn, known)
            if right is not None:
                yield _pass(way, held, right, estate.name(role))


def _pass(way: Way, held: tuple[str, tuple[str, ...]], right: Right, target: Name) -> Escalation:
    return Escalation(
        id=way.id,
        target=target,
        actions=(_PASS, *way.actions),
        why=", ".join(dict.fromkeys((right.why, held[0]))),
        conditions=tuple(dict.fromkeys((*right.conditions, *held[1]))),
    )


def _existing(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Get into something that already runs as a role."""
    for way in EXISTING:
        if way.service not in estate.trusting:
            continue
        held = _all([permissions.may(action, "*") for action in way.actions])
        if held is not None:
            yield Escalation(
                id=way.id,
                target=service_name(estate.account.id, way.service),
                actions=way.actions,
                why=held[0],
                conditions=(f"something in its scope already runs in {way.service} under a role", *held[1]),
            )


def _writing(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Write rights for oneself, or for a principal that one can become."""
    account, me = estate.account, permissions.principal
    root = root_name(account.id)
    for way, action, kind in WRITING:
        if permissions.may(action, "*") is None:
            continue
        for arn in _written(estate, me, kind):
            right = permissions.may(action, arn)
            if right is not None:
                bounded = (f"within its boundary {me.boundary.label}",) if me.boundary else ()
                yield Escalation(
                    id=way,
                    target=root,
                    actions=(action,),
                    why=f"{right.why}, on {'itself' if arn == me.arn else arn.rpartition(':')[2]}",
                    conditions=(*right.conditions, *bounded),
                )
        yield from _writing_others(estate, permissions, way, action, kind)


def _written(estate: Estate, me: Principal, kind: str) -> list[str]:
    """The ARNs of `kind` whose rights are the principal's own."""
    groups = [group for group in map(estate.account.groups.get, me.groups) if group is not None]
    match kind:
        case "group":
            return [group.arn for group in groups]
        case "policy":
            policies = (*me.policies, *(policy for group in groups for policy in group.policies))
            return [policy.arn for policy in policies if policy.arn and ":aws:policy/" not in policy.arn]
        case _:
            return [me.arn] if me.kind == kind else []


def _writing_others(estate: Estate, permissions: Permissions, way: str, action: str, kind: str) -> Iterator[Escalation]:
    account, me = estate.account, permissions.principal
    targets = {"user": account.users, "role": account.roles}.get(kind, {})
    for target in targets.values():
        right = permissions.may(action, target.arn) if target is not me and target.boundary is None else None
        if right is None:
            continue
        for become, how in _becoming(estate, permissions, target):
            held = _all((right, become))
            if held is not None:
                yield Escalation(
                    id=way,
                    target=root_name(account.id),
                    actions=(action, how),
                    why=f"{held[0]}, on {target.name} which it can become",
                    conditions=held[1],
                )


def _becoming(estate: Estate, permissions: Permissions, target: Principal) -> Iterator[tuple[Right | None, str]]:
    if target.kind == "user":
        yield permissions.may("iam:CreateAccessKey", target.arn), "iam:CreateAccessKey"
    else:
        if target in estate.candidates(permissions.principal):
            yield assumable(estate, permissions.principal, target), "sts:AssumeRole"
        yield permissions.may("iam:UpdateAssumeRolePolicy", target.arn), "iam:UpdateAssumeRolePolicy"


def _joining(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Put oneself into a group that is an administrator (iam-013); lesser groups are reached by name."""
    account, me = estate.account, permissions.principal
    if me.kind != "user" or permissions.may("iam:AddUserToGroup", "*") is None:
        return
    for group in account.groups.values():
        right = permissions.may("iam:AddUserToGroup", group.arn) if group.name not in me.groups else None
        if right is None:
            continue
        admin = Permissions(account, me, joining=group.policies).admin
        target = root_name(account.id) if admin else _group_name(estate, group)
        conditions = tuple(dict.fromkeys((*right.conditions, *(admin.conditions if admin else ()))))
        why = f"{right.why}, on group {group.name}"
        yield Escalation(id="iam-013", target=target, actions=("iam:AddUserToGroup",), why=why, conditions=conditions)


def _group_name(estate: Estate, group: Group) -> Name:
    return group_name(estate.account.id, group.path, group.name)
