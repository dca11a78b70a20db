"""What a principal can make of itself: rights that it may give itself, and refusals that it may take away.

Each step leads to a state with other policies; the states are followed until nothing new comes, `MAX_STATES` at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from remit.inventory.connectors.aws.account import Group, Principal
from remit.inventory.connectors.aws.asking import Held, ask, join, place_of, together
from remit.inventory.connectors.aws.catalogue import WRITING
from remit.inventory.connectors.aws.managed import published
from remit.inventory.connectors.aws.patterns import covers, shared
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.policy import Condition, Policy, Statement
from remit.inventory.connectors.aws.tagging import OF_PRINCIPALS, alike, may_tag, tagging, wanted

if TYPE_CHECKING:
    from remit.inventory.connectors.aws.estate import Estate

MAX_STATES: Final = 24
_ADMINISTRATOR: Final = "policy/AdministratorAccess"
_AWS: Final = ":iam::aws:policy/"
_POLICY: Final = "iam:policyarn"
_NEW: Final = "x0"
"""The name of a policy of which nobody speaks."""
_MAX_POLICIES: Final = 5_000
"""Policies that are weighed where a condition says which may be attached: an account has no more of its own."""
MAX_WEIGHED: Final = 400_000
"""Questions, of one account, of which policies may be attached to what; then none is asked any more, and it is told."""
_MAX_TAGGED: Final = 8
_TAGS_WRITTEN: Final = "tags-written"
_EVERYTHING: Final = Statement(
    allow=True,
    actions=("*",),
    not_actions=False,
    resources=("*",),
    not_resources=False,
    conditions=(),
    shown_actions=("*",),
)
GIVEN: Final = Policy(label="what it gives itself", arn=None, statements=(_EVERYTHING,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a principal does to rights: its id in the catalogue, the actions, why they are allowed."""

    id: str
    actions: tuple[str, ...]
    held: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A principal after some steps."""

    permissions: Permissions
    principal: Principal
    """Its policies and those of its groups in one, without groups."""
    steps: tuple[Step, ...] = ()

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one for step in self.steps for one in step.held.conditions))


def frozen(principal: Principal) -> bool:
    """Tell whether AWS itself keeps the role: nobody in the account can change its policies or its trust."""
    return principal.kind == "role" and principal.path.startswith(("/aws-service-role/", "/aws-reserved/"))


def owns(estate: Estate, permissions: Permissions) -> Right | None:
    """The right to everything: allowed, and where something is denied, enough is left to make an administrator.

    Whoever makes one is free of its own denials then; those of the organisation bind every administrator.
    """
    admin = permissions.admin
    if admin is None or not permissions.denies:
        return admin
    made = min(creating(estate, permissions), key=lambda step: len(step.held.conditions), default=None)
    return None if made is None else Right(why=admin.why, conditions=made.held.conditions)


def creating(estate: Estate, permissions: Permissions) -> Iterator[Step]:
    """Make a new principal of one's own, with every right and no boundary."""
    account = estate.account
    if not permissions.allowing("iam:create*"):
        return
    users, roles = (place_of(account, f"iam:{kind}/*") for kind in ("user", "role"))
    for key in ("iam:CreateAccessKey", "iam:CreateLoginProfile"):
        for write in ("iam:PutUserPolicy", "iam:AttachUserPolicy"):
            actions = ("iam:CreateUser", write, key)
            held = _new(estate, permissions, actions, users, write)
            if held is not None:
                yield Step(id="iam-create-user", actions=actions, held=held)
    for write in ("iam:PutRolePolicy", "iam:AttachRolePolicy"):
        held = _new(estate, permissions, ("iam:CreateRole", write), roles, write)
        limits = permissions.limits("sts:assumerole", roles, bounded=True) if held is not None else None
        if held is not None and limits is not None:
            held = replace(held, conditions=tuple(dict.fromkeys((*held.conditions, *limits))))
            yield Step(id="iam-create-role", actions=("iam:CreateRole", write), held=held)


def _new(estate: Estate, permissions: Permissions, actions: tuple[str, ...], place: str, write: str) -> Held | None:
    # A new principal is made without a boundary and without tags.
    known: dict[str, str | tuple[str, ...]] = {"iam__permissionsboundary": (), "aws__tagkeys": ()}
    if write.startswith("iam:Attach"):
        known["iam__policyarn"] = _administrator(estate)
    return together(permissions, actions, place, **known)


def _administrator(estate: Estate) -> str:
    return f"arn:{estate.account.partition}:iam::aws:{_ADMINISTRATOR}"


def attached(estate: Estate, permissions: Permissions, action: str, target: str) -> Held | None:
    """Attach a policy that gives everything: AWS's own, or one of the account."""
    known = _administrator(estate)
    held = ask(permissions, action, target, iam__policyarn=known)
    if held is not None and not held.conditions:
        return held
    whole_of_iam = f"arn:{estate.account.partition}:iam::aws:policy/IAMFullAccess"
    for arn in (whole_of_iam, *estate.powerful):
        held = _easier(held, ask(permissions, action, target, iam__policyarn=arn))
    return _easier(held, _made_and_attached(estate, permissions, action, target)) if _chooses(permissions) else held


def _easier(held: Held | None, other: Held | None) -> Held | None:
    if held is None or other is None:
        return held or other
    return other if len(other.conditions) < len(held.conditions) else held


def _chooses(permissions: Permissions) -> bool:
    """Tell whether statements are about which policy is attached."""
    about = (*permissions.allowing("iam:attach*"), *permissions.denies, *(permissions.bounds or ()))
    return any(test.key.lower() == _POLICY for entry in about for test in entry.statement.conditions)


def _made_and_attached(estate: Estate, permissions: Permissions, action: str, target: str) -> Held | None:
    """Attach a policy of the account that it writes: a new one, or one that is there."""
    best: Held | None = None
    for arn, written in _writable(estate, permissions, action):
        best = _easier(best, join((ask(permissions, action, target, iam__policyarn=arn), written)))
        if best is not None and not best.conditions:
            return best
    return best


def _writable(estate: Estate, permissions: Permissions, action: str) -> list[tuple[str, Held]]:
    """The policies that it may write, and may attach to something: asked once, for there may be many targets."""
    if action not in permissions.writable:
        kind = next(kind for kind in ("user", "role", "group") if kind in action.lower())
        anything = place_of(estate.account, f"iam:{kind}/*")
        permissions.writable[action] = [
            (arn, held)
            for write, arn in _to_write(estate, permissions)
            if (held := ask(permissions, write, arn)) is not None
            and ask(permissions, action, anything, iam__policyarn=arn) is not None
        ]
    return permissions.writable[action]


def _to_write(estate: Estate, permissions: Permissions) -> Iterator[tuple[str, str]]:
    known = estate.account.managed
    if permissions.allowing("iam:createpolicy"):
        about = permissions.allowing("iam:createpolicy")
        named = (one for entry in about if not entry.statement.not_resources for one in entry.statement.resources)
        tests = (test for entry in permissions.allowing("iam:attach*") for test in entry.statement.conditions)
        asked = (value for test in tests if test.key.lower() == _POLICY for value in test.values)
        place = place_of(estate.account, "iam:policy/*")
        fresh = {_fresh(both[0]) for one in (place, *named, *asked) if (both := shared(place, one)) is not None}
        yield from (("iam:CreatePolicy", arn) for arn in islice(sorted(fresh - known.keys()), _MAX_POLICIES))
    if permissions.allowing("iam:createpolicyversion"):
        about = permissions.allowing("iam:createpolicyversion")
        own = (arn for arn in known if _AWS not in arn and any(e.statement.meets_resource(arn) for e in about))
        yield from (("iam:CreatePolicyVersion", arn) for arn in islice(own, _MAX_POLICIES))


def _fresh(pattern: str) -> str:
    return pattern.replace("*", _NEW).replace("?", _NEW[0])


def start(estate: Estate, permissions: Permissions) -> State:
    """A principal as it is."""
    me = permissions.principal
    groups = [group for group in map(estate.account.groups.get, me.groups) if group is not None]
    policies = (*me.policies, *(policy for group in groups for policy in group.policies))
    return State(permissions=permissions, principal=replace(me, policies=policies, groups=()))


def states(estate: Estate, first: State, *, certain: bool) -> list[State]:
    """All states that can be reached by steps without conditions (`certain`), or by any."""
    found, seen, waiting = [first], {_key(first.principal)}, [first]
    while waiting and len(found) < MAX_STATES:
        state = waiting.pop(0)
        for step, principal in _steps(estate, state, first.permissions.principal):
            if (certain and step.held.conditions) or _key(principal) in seen:
                continue
            seen.add(_key(principal))
            permissions = Permissions(estate.account, principal)
            after = State(permissions=permissions, principal=principal, steps=(*state.steps, step))
            found.append(after)
            waiting.append(after)
            right = owns(estate, permissions)
            if len(found) >= MAX_STATES or (right is not None and not right.conditions):
                return found
    return found


def _key(principal: Principal) -> tuple[int, ...]:
    boundary = id(principal.boundary) if principal.boundary else 0
    tags = hash(tuple(sorted(principal.tags.items())))
    return (boundary, tags, *sorted({id(policy.statements) for policy in principal.policies}))


def grows(permissions: Permissions) -> bool:
    """Tell whether any statement is about rights at all: most principals have none."""
    return bool(permissions.allowing("iam:*"))


def _steps(estate: Estate, state: State, me: Principal) -> Iterator[tuple[Step, Principal]]:
    if frozen(me):
        return
    permissions, principal = state.permissions, state.principal
    yield from _writing(estate, permissions, principal, me)
    yield from _attaching(estate, permissions, principal, me)
    yield from _unbinding(estate, permissions, principal)
    yield from _undenying(estate, permissions, principal, me)
    yield from _joining(estate, permissions, principal, me)
    yield from _switching(estate, permissions, principal)
    if all(step.id != _TAGS_WRITTEN for step in state.steps):  # all tags are written at once
        yield from _tagging(estate, permissions, principal)


def _writing(
    estate: Estate, permissions: Permissions, principal: Principal, me: Principal
) -> Iterator[tuple[Step, Principal]]:
    """Write rights for oneself: what is written over refuses nothing any more."""
    if any(policy is GIVEN for policy in principal.policies) and not permissions.denies:
        return
    inline = {id(policy) for policy in me.policies if policy.arn is None}
    for way, action, kind in WRITING:
        if not permissions.allowing(action.lower()):
            continue
        for arn in _own(estate, principal, me, kind):
            held = written(estate, permissions, action, arn)
            if held is None:
                continue
            kept = principal.policies
            if action in ("iam:PutUserPolicy", "iam:PutRolePolicy"):
                kept = tuple(policy for policy in kept if id(policy) not in inline)
            elif action == "iam:CreatePolicyVersion":
                kept = tuple(policy for policy in kept if policy.arn != arn)
            elif action == "iam:PutGroupPolicy":
                over = _inline_of(estate, arn)
                kept = tuple(policy for policy in kept if id(policy) not in over)
            actions = tuple(dict.fromkeys((action, *(one[0] for one in held.asked))))
            yield Step(id=way, actions=actions, held=held), replace(principal, policies=(*kept, GIVEN))


def _inline_of(estate: Estate, arn: str) -> set[int]:
    groups = (group for group in estate.account.groups.values() if group.arn == arn)
    return {id(policy) for group in groups for policy in group.policies if policy.arn is None}


def _attaching(
    estate: Estate, permissions: Permissions, principal: Principal, me: Principal
) -> Iterator[tuple[Step, Principal]]:
    """Attach to oneself what conditions leave of the policies that are there: all of them at once."""
    if not permissions.allowing("iam:attach*") or not _chooses(permissions):
        return
    have = {policy.arn for policy in principal.policies}
    for way, action, kind in WRITING:
        if not action.startswith("iam:Attach") or not permissions.allowing(action.lower()):
            continue
        for arn in _own(estate, principal, me, kind):
            held = attached(estate, permissions, action, arn)
            if held is not None and not held.conditions:
                continue
            found = [each for each in _attached_to(estate, permissions, action, arn) if each[0].arn not in have]
            if found:
                more = tuple(policy for policy, _ in found)
                step = Step(id=way, actions=(action,), held=found[0][1])
                yield step, replace(principal, policies=(*principal.policies, *more))


def _attached_to(estate: Estate, permissions: Permissions, action: str, arn: str) -> list[tuple[Policy, Held]]:
    """The policies that it certainly may attach to one principal or group."""
    key = (action, arn)
    if key not in permissions.attachable and estate.weighed < MAX_WEIGHED:
        listed = list(_attachable(estate, permissions, action))
        estate.weighed += len(listed)
        permissions.attachable[key] = [
            (policy, held)
            for policy in listed
            if policy.arn
            and (held := ask(permissions, action, arn, iam__policyarn=policy.arn)) is not None
            and not held.conditions
        ]
    return permissions.attachable.get(key, [])


def _attachable(estate: Estate, permissions: Permissions, action: str) -> Iterator[Policy]:
    """The policies of the account, and those of AWS that conditions name; what denies is no gain."""
    about = permissions.allowing(action.lower())
    tests = [[test for test in entry.statement.conditions if _is_of_policies(test)] for entry in about]
    named = (published(arn) for listed in tests for test in listed for arn in test.values)
    known = chain(estate.account.managed.values(), (policy for policy in named if policy is not None))
    gains = (
        policy
        for policy in known
        if any(all(_may_name(test, policy.arn or "") for test in listed) for listed in tests)
        and all(statement.allow for statement in policy.statements)
    )
    return islice(gains, _MAX_POLICIES)


def _is_of_policies(test: Condition) -> bool:
    return test.key.lower() == _POLICY and "not" not in test.operator.lower()


def _may_name(test: Condition, arn: str) -> bool:
    return any("${" in value or covers(value, arn) for value in test.values)


def written(estate: Estate, permissions: Permissions, action: str, arn: str) -> Held | None:
    """Whether `action` gives every right to the principal, group or policy `arn`."""
    if action.startswith("iam:Attach"):
        return attached(estate, permissions, action, arn)
    return ask(permissions, action, arn)


def _own(estate: Estate, principal: Principal, me: Principal, kind: str) -> list[str]:
    """The ARNs of `kind` whose rights are the principal's own."""
    match kind:
        case "group":
            return [group.arn for group in map(estate.account.groups.get, me.groups) if group is not None]
        case "policy":
            return [policy.arn for policy in principal.policies if policy.arn and ":aws:policy/" not in policy.arn]
        case _:
            return [me.arn] if me.kind == kind else []


def _unbinding(estate: Estate, permissions: Permissions, principal: Principal) -> Iterator[tuple[Step, Principal]]:
    if principal.boundary is None:
        return
    held, action = unbound(estate, permissions, principal)
    if held is not None:
        yield Step(id="boundary-removed", actions=(action,), held=held), replace(principal, boundary=None)


def unbound(estate: Estate, permissions: Permissions, target: Principal) -> tuple[Held | None, str]:
    """Take the boundary of a principal away, or put one in its place that allows everything."""
    kind = target.kind.capitalize()
    action = f"iam:Delete{kind}PermissionsBoundary"
    held = ask(permissions, action, target.arn)
    if held is None:
        action = f"iam:Put{kind}PermissionsBoundary"
        held = ask(permissions, action, target.arn, iam__permissionsboundary=_administrator(estate))
    own = target.boundary.arn if target.boundary else None
    if own and _AWS not in own and (held is None or held.conditions):
        written = ask(permissions, "iam:CreatePolicyVersion", own)
        if written is not None and _easier(held, written) is written:
            return written, "iam:CreatePolicyVersion"
    return held, action


def _undenying(
    estate: Estate, permissions: Permissions, principal: Principal, me: Principal
) -> Iterator[tuple[Step, Principal]]:
    """Take policies away that deny."""
    kind = me.kind.capitalize()
    for policy in principal.policies:
        if all(statement.allow for statement in policy.statements):
            continue
        for action, arn in _removals(estate, policy, me, kind):
            held = ask(permissions, action, arn, **({"iam__policyarn": policy.arn} if policy.arn else {}))
            if held is not None:
                kept = tuple(each for each in principal.policies if each is not policy)
                yield Step(id="denial-removed", actions=(action,), held=held), replace(principal, policies=kept)
    yield from _leaving(estate, permissions, principal, me)


def _leaving(
    estate: Estate, permissions: Permissions, principal: Principal, me: Principal
) -> Iterator[tuple[Step, Principal]]:
    """Leave a group that denies: what else it gives goes with it."""
    action = "iam:RemoveUserFromGroup"
    for group in filter(None, map(estate.account.groups.get, me.groups)):
        gone = {id(policy) for policy in group.policies}
        denies = any(not statement.allow for policy in group.policies for statement in policy.statements)
        if not denies or not any(id(policy) in gone for policy in principal.policies):
            continue
        held = ask(permissions, action, group.arn)
        if held is not None:
            kept = tuple(policy for policy in principal.policies if id(policy) not in gone)
            yield Step(id="denial-removed", actions=(action,), held=held), replace(principal, policies=kept)


def _removals(estate: Estate, policy: Policy, me: Principal, kind: str) -> Iterator[tuple[str, str]]:
    if any(policy is own for own in me.policies):
        yield (f"iam:Detach{kind}Policy" if policy.arn else f"iam:Delete{kind}Policy"), me.arn
        return
    for group in filter(None, map(estate.account.groups.get, me.groups)):
        if any(policy is own for own in group.policies):
            yield ("iam:DetachGroupPolicy" if policy.arn else "iam:DeleteGroupPolicy"), group.arn


def _joining(
    estate: Estate, permissions: Permissions, principal: Principal, me: Principal
) -> Iterator[tuple[Step, Principal]]:
    """Put oneself into a group (iam-013)."""
    action = "iam:AddUserToGroup"
    if me.kind != "user" or not permissions.allowing(action.lower()):
        return
    plain: list[tuple[Group, Held]] = []
    have = {id(policy.statements) for policy in principal.policies}
    for group in estate.account.groups.values():
        if group.name in me.groups or all(id(policy.statements) in have for policy in group.policies):
            continue
        held = ask(permissions, action, group.arn)
        if held is None:
            continue
        denies = any(not statement.allow for policy in group.policies for statement in policy.statements)
        if denies or held.conditions or group in estate.strong_groups:
            yield _joined(principal, [(group, held)])
        else:
            plain.append((group, held))
    if plain:
        yield _joined(principal, plain)


def _joined(principal: Principal, groups: list[tuple[Group, Held]]) -> tuple[Step, Principal]:
    """Into groups, all at once: none of them takes anything away."""
    policies = tuple(policy for group, _ in groups for policy in group.policies)
    first = groups[0][1]
    step = Step(id="iam-013", actions=("iam:AddUserToGroup",), held=first)
    return step, replace(principal, policies=(*principal.policies, *policies))


def _switching(estate: Estate, permissions: Permissions, principal: Principal) -> Iterator[tuple[Step, Principal]]:
    """Go back to another version of a policy that is already one's own."""
    action = "iam:SetDefaultPolicyVersion"
    if not permissions.allowing(action.lower()):
        return
    for policy in principal.policies:
        versions = estate.account.versions.get(policy.arn or "", ())
        held = ask(permissions, action, policy.arn or "") if versions else None
        if held is None:
            continue
        step = Step(id="policy-version-switched", actions=(action,), held=held)
        for version in versions:
            kept = tuple(version if each is policy else each for each in principal.policies)
            yield step, replace(principal, policies=kept)
    if principal.boundary is not None and principal.boundary.arn:
        versions = estate.account.versions.get(principal.boundary.arn, ())
        held = ask(permissions, action, principal.boundary.arn) if versions else None
        for version in versions if held is not None else ():
            assert held is not None
            yield Step(id="policy-version-switched", actions=(action,), held=held), replace(principal, boundary=version)


def _tagging(estate: Estate, permissions: Permissions, principal: Principal) -> Iterator[tuple[Step, Principal]]:
    """Give oneself the tags that a statement asks for, one's own or that of a resource."""
    if not may_tag(permissions, principal):
        return
    asking = (*permissions.asking_tags("*"), *estate.asking_tags.values())
    others = (alike(permissions.asking_tags("iam:*"), other) for other in estate.account.principals())
    found = [*wanted(asking, OF_PRINCIPALS, permissions.context), *islice(chain.from_iterable(others), _MAX_TAGGED)]
    for tags in {tuple(sorted(one.items())): one for one in found}.values():
        held = tagging(permissions, principal, tags)
        if held is not None:
            actions = tuple(action for action, _, _ in held.asked)
            right = Held(why=held.right.why, conditions=held.right.conditions, asked=held.asked)
            after = {key: value for key, value in {**principal.tags, **tags}.items() if value}
            yield Step(id=_TAGS_WRITTEN, actions=actions, held=right), replace(principal, tags=after)
