"""Which other principals' rights a principal can gain, beyond what trust policies give it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.asking import (
    Held,
    ask,
    held_all,
    held_of,
    join,
    may_speak,
    place_of,
    spoken_of,
    together,
    with_tags,
)
from remit.inventory.connectors.aws.catalogue import EXISTING, KINDS, PASSING, TAKING, Way
from remit.inventory.connectors.aws.estate import NO_PROFILE, Estate
from remit.inventory.connectors.aws.growth import State, creating, frozen, grows, owns, start, states
from remit.inventory.connectors.aws.naming import group_name, role_name, root_name, service_name
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.running import Thing, exposed
from remit.inventory.connectors.aws.trust import assumable
from remit.inventory.connectors.aws.variables import Like, Value
from remit.kernel.ids import Name, name

_PASS: Final = "iam:PassRole"
_EC2: Final = "ec2.amazonaws.com"
_LAMBDA: Final = "lambda.amazonaws.com"
_ACTIVATE: Final = "iam:UpdateAccessKey"
_MAX_KEYS: Final = 2
_TAGGED: Final = "resourcetag/"
_TAGS: Final = ("iam:Tag", "iam:Untag")
_FEW: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """A way to `target`: its id in the catalogue, the actions, and why they are allowed."""

    id: str
    target: Name
    actions: tuple[str, ...]
    why: str
    conditions: tuple[str, ...] = ()
    asked: tuple[tuple[str, str, str], ...] = ()
    """(action, resource, the words of the statement that allows it)."""


def any_user(account: str) -> Name:
    return name("aws", account, "any-user", "*")


def any_role(account: str) -> Name:
    return name("aws", account, "any-role", "*")


def running_name(account: str, kind: str) -> Name:
    """What stands for everything of a kind that runs under some role."""
    return name("aws", account, "any-running", kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a principal can make of its rights: ways to others, and the states in which it has them."""

    ways: tuple[Escalation, ...]
    states: tuple[State, ...]
    """The first is the principal as it is; those without conditions come before the others."""


def escalations(estate: Estate, permissions: Permissions) -> Reach:
    """The open ways of a principal who is no administrator: for each target the one with the fewest conditions."""
    first = start(estate, permissions)
    found = [first]
    if may_speak(spoken_of(permissions), ("iam:",)) and grows(permissions):
        found = states(estate, first, certain=True)
        if not any(_owner(estate, state) == () for state in found):
            found += [one for one in states(estate, first, certain=False) if one.conditions]
    best: dict[Name, Escalation] = {}
    for state in found:
        for way in _of_state(estate, state):
            known = best.get(way.target)
            if known is None or len(way.conditions) < len(known.conditions):
                best[way.target] = way
    return Reach(ways=tuple(best.values()), states=tuple(found))


def _owner(estate: Estate, state: State) -> tuple[str, ...] | None:
    right = owns(estate, state.permissions)
    return None if right is None else tuple(dict.fromkeys((*state.conditions, *right.conditions)))


def _of_state(estate: Estate, state: State) -> Iterator[Escalation]:
    permissions = state.permissions
    conditions = _owner(estate, state) if state.steps else None
    if conditions is not None:
        held = Held(why=f"then {state.permissions.principal.name} may do everything", conditions=conditions)
        yield _after(state, Escalation(id="", target=root_name(estate.account.id), actions=(), why=held.why,
                                       conditions=conditions))  # fmt: skip
        if not conditions:
            return
    for way in _direct(estate, permissions):
        yield _after(state, way)
    for way in _assuming(estate, state) if state.steps else ():
        yield _after(state, way)


def _assuming(estate: Estate, state: State) -> Iterator[Escalation]:
    """The roles that it may assume only after the steps of a state."""
    permissions = state.permissions
    before = estate.assumed.get(state.principal.arn, {})
    for role in estate.candidates(permissions):
        known = before.get(role.arn)
        if (known is not None and not known.conditions) or not estate.spend():
            continue
        right = assumable(estate, permissions, role)
        if right is not None and (known is None or len(right.conditions) < len(known.conditions)):
            held = Held(why=right.why, conditions=right.conditions)
            yield _way("sts-001", estate.name(role), ("sts:AssumeRole",), held)


def _after(state: State, way: Escalation) -> Escalation:
    """A way that comes after the steps of a state."""
    if not state.steps:
        return way
    steps = state.steps
    return Escalation(
        id=" + ".join(filter(None, (*(step.id for step in steps), way.id))),
        target=way.target,
        actions=tuple(dict.fromkeys((*(action for step in steps for action in step.actions), *way.actions))),
        why="; ".join((*(f"{step.held.why}, on {_local(step.held)}" for step in steps), way.why)),
        conditions=tuple(dict.fromkeys((*state.conditions, *way.conditions))),
        asked=tuple(one for step in steps for one in step.held.asked),
    )


def _local(held: Held) -> str:
    return held.asked[0][1].rpartition(":")[2] if held.asked else "itself"


def _direct(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    spoken = spoken_of(permissions)
    yield from _existing(estate, permissions, spoken)
    if may_speak(spoken, ("iam:",)) and grows(permissions):
        yield from _taking(estate, permissions)
        yield from _passing(estate, permissions, spoken)
        for step in creating(estate, permissions):
            yield _way(step.id, root_name(estate.account.id), step.actions, step.held)
        yield from _groups(estate, permissions)
        yield from _forging(estate, permissions)


def _way(ident: str, target: Name, actions: tuple[str, ...], held: Held) -> Escalation:
    done = tuple(dict.fromkeys((*actions, *(action for action, _, _ in held.asked if action.startswith(_TAGS)))))
    return Escalation(id=ident, target=target, actions=done, why=held.why, conditions=held.conditions, asked=held.asked)


def _groups(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """The groups into which one can put oneself; what that gives is told by the states."""
    account, me = estate.account, permissions.principal
    if me.kind != "user" or not permissions.allowing("iam:addusertogroup"):
        return
    mine = account.users[me.name].groups if me.name in account.users else ()
    for group in account.groups.values():
        held = ask(permissions, "iam:AddUserToGroup", group.arn) if group.name not in mine else None
        if held is not None:
            target = group_name(account.id, group.path, group.name)
            held = replace(held, why=f"{held.why}, on group {group.name}")
            yield _way("iam-013", target, ("iam:AddUserToGroup",), held)


def _taking(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Make a credential for a user, or rewrite whom a role trusts."""
    account, me = estate.account, permissions.principal
    extras = account.extras
    for way, action, kind in TAKING:
        if not permissions.allowing(action.lower()):
            continue
        hub, targets = (any_user, account.users) if kind == "user" else (any_role, account.roles)
        everything = place_of(account, f"iam:{kind}/*")
        alike = kind == "role" or (extras.keys is None and extras.console is None and action != _ACTIVATE)
        whole = _for_all(permissions.may(action, everything, whole=True)) if alike else None
        if whole is not None and kind == "role":
            limits = permissions.limits("sts:assumerole", everything, bounded=me.kind == "role")
            alike = limits is not None and not permissions.denying("sts:assumerole")
            whole = replace(whole, conditions=(*whole.conditions, *(limits or ()))) if alike else None
        held = held_of(action, everything, whole)
        if held is not None:
            yield _way(way, hub(account.id), (action,), held)
            continue
        for target in estate.met(kind, targets.values(), permissions, action.lower()):
            found = None if target.arn == me.arn or frozen(target) else taken(estate, permissions, action, target)
            if found is not None:
                ident, actions, held = found
                yield _way(ident or way, estate.name(target), actions, held)


def _for_all(right: Right | None) -> Right | None:
    """A right to all of a kind; what depends on the tags of each is asked of each."""
    return None if right is not None and any(_TAGGED in text.lower() for text in right.conditions) else right


def _forging(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """Rewrite a SAML provider: then its assertions, and the roles that trust them, are one's own."""
    action = "iam:UpdateSAMLProvider"
    if not permissions.allowing(action.lower()):
        return
    asked: dict[str, Held | None] = {}
    for provider, role, tests in estate.asserted:
        if provider not in asked:
            asked[provider] = ask(permissions, action, provider)
        held = asked[provider]
        if held is not None:
            yield _way("saml-provider-rewritten", estate.name(role), (action,), _more(held, tests))


def taken(
    estate: Estate, permissions: Permissions, action: str, target: Principal
) -> tuple[str, tuple[str, ...], Held] | None:
    """Whether one action gives a principal: its own id where it differs, the actions, and why."""
    held = ask(permissions, action, target.arn)
    if held is None:
        return None
    extras = estate.account.extras
    match action:
        case "iam:UpdateAssumeRolePolicy":
            # It names itself then, so that only what refuses it counts.
            limits = permissions.limits("sts:assumerole", target.arn, bounded=permissions.principal.kind == "role")
            held = None if limits is None else _more(held, limits)
        case "iam:CreateAccessKey" if len((extras.keys or {}).get(target.name, ())) >= _MAX_KEYS:
            room = join((held, ask(permissions, "iam:DeleteAccessKey", target.arn)))
            return None if room is None else ("iam-003", (action, "iam:DeleteAccessKey"), room)
        case "iam:CreateLoginProfile" if (extras.console or {}).get(target.name):
            free = join((held, ask(permissions, "iam:DeleteLoginProfile", target.arn)))
            return None if free is None else ("", (action, "iam:DeleteLoginProfile"), free)
        case "iam:UpdateAccessKey":
            if all(key.active for key in (extras.keys or {}).get(target.name, ())):
                return None
            held = _more(held, (f"somebody kept the secret of an inactive key of {target.name}",))
        case "iam:UpdateLoginProfile" if extras.console is not None and not extras.console.get(target.name):
            return None
        case _:
            pass
    if held is not None and action.endswith("LoginProfile") and (extras.mfa or {}).get(target.name):
        off = ask(permissions, "iam:DeactivateMFADevice", target.arn)
        held = join((held, off)) if off else _more(held, (f"the second factor of {target.name} is at hand",))
    return None if held is None else ("", (action,), held)


def _more(held: Held, conditions: Iterable[str]) -> Held:
    return replace(held, conditions=tuple(dict.fromkeys((*held.conditions, *conditions))))


def _passing(estate: Estate, permissions: Permissions, spoken: frozenset[str] | None) -> Iterator[Escalation]:
    """Start something new that runs as a role."""
    account = estate.account
    everywhere = place_of(account, "iam:role/*")
    if not permissions.allowing(_PASS.lower()):
        return
    for way in PASSING:
        roles = estate.trusting.get(way.service, [])
        if not roles or not may_speak(spoken, way.actions):
            continue
        held = _with_thing(estate, permissions, way)
        if held is None:
            continue
        known: dict[str, Value] = {
            "iam:passedtoservice": way.service,
            "iam:associatedresourcearn": Like(_association(account, way.service)),
        }
        profiled = way.service == _EC2 and _profiles(estate, permissions)
        whole = None if profiled else _for_all(permissions.may(_PASS, everywhere, known, whole=True))
        if whole is not None:
            everyone = Held(why=whole.why, conditions=whole.conditions, asked=((_PASS, everywhere, whole.why),))
            yield _pass(way, held, everyone, service_name(account.id, way.service))
            continue
        for role in estate.met(f"trusting {way.service}", roles, permissions, _PASS.lower()):
            right = permissions.may(_PASS, role.arn, known)
            passed = held_of(_PASS, role.arn, right)
            if right is None or right.conditions:
                passed = with_tags(permissions, _PASS, role.arn, known, right)
            if passed is not None:
                open = estate.serving[way.service][role.arn]
                open += (NO_PROFILE,) if way.service == _EC2 and not (role.profiles or profiled) else ()
                yield _pass(way, _more(held, open), passed, estate.name(role))


def _association(account: Account, service: str) -> str:
    """The ARN of what a role is passed to, as far as the service tells it."""
    short = "ec2" if service == _EC2 else service.partition(".")[0].removesuffix("-tasks")
    short = "apprunner" if service.endswith("apprunner.amazonaws.com") else short
    return f"arn:{account.partition}:{short}:*:{account.id}:{'instance/*' if service == _EC2 else '*'}"


def _profiles(estate: Estate, permissions: Permissions) -> bool:
    """Tell whether it can put any role into an instance profile: a new one, or one whose role it takes out."""
    place = place_of(estate.account, "iam:instance-profile/*")
    there = [
        f"arn:{estate.account.partition}:iam::{estate.account.id}:instance-profile{role.path}{profile}"
        for role in estate.trusting.get(_EC2, ())
        for profile in role.profiles[:1]
    ]
    tries = [
        ("iam:CreateInstanceProfile", place),
        *(("iam:RemoveRoleFromInstanceProfile", one) for one in there[:_FEW]),
    ]
    for first, where in tries:
        held = together(permissions, (first, "iam:AddRoleToInstanceProfile"), where)
        if held is not None and not held.conditions:
            return True
    return False


def _with_thing(estate: Estate, permissions: Permissions, way: Way) -> Held | None:
    """The actions of a way that passes a role; where it needs something that exists, on one that is listed."""
    account = estate.account
    if not way.kind:
        return held_all(account, permissions, way.actions)
    listed = estate.running.get(way.kind)
    place = place_of(account, KINDS[way.kind])
    if listed is None:
        held = held_all(account, permissions, way.actions)
        return None if held is None else _more(held, (f"there is a {way.kind} in its scope", *way.open))
    best: Held | None = None
    for thing in listed:
        held = held_all(account, permissions, way.actions, place, thing.arn)
        if held is not None and (best is None or len(held.conditions) < len(best.conditions)):
            best = held
            if not best.conditions:
                break
    return best


def _pass(way: Way, held: Held, passed: Held, target: Name) -> Escalation:
    return Escalation(
        id=way.id,
        target=target,
        actions=tuple(dict.fromkeys((*(action for action, _, _ in passed.asked), *way.actions))),
        why=", ".join(dict.fromkeys((passed.why, held.why))),
        conditions=tuple(dict.fromkeys((*passed.conditions, *held.conditions))),
        asked=(*passed.asked, *held.asked),
    )


def _existing(estate: Estate, permissions: Permissions, spoken: frozenset[str] | None) -> Iterator[Escalation]:
    """Get into something that already runs as a role."""
    account = estate.account
    if account.others and may_speak(spoken, ("lambda:",)):
        yield from _foreign(estate, permissions)
    for way in EXISTING:
        listed = estate.running.get(way.kind)
        if listed is None and way.service not in estate.trusting:
            continue
        if not may_speak(spoken, way.actions):
            continue
        if listed is not None:
            yield from _listed(estate, permissions, way, listed)
            continue
        held = held_all(account, permissions, way.actions)
        if held is not None:
            seen = f"a {way.kind} in its scope already runs under a role that trusts {way.service}"
            yield _way(
                way.id,
                service_name(account.id, way.service),
                way.actions,
                _more(held, (seen, *way.open, *way.unlisted)),
            )


def _foreign(estate: Estate, permissions: Permissions) -> Iterator[Escalation]:
    """The functions of other accounts whose own policies let it change them."""
    if not permissions.allowing("lambda:updatefunctioncode"):
        return
    account, place = estate.account, place_of(estate.account, KINDS["function"])
    ways = [way for way in EXISTING if way.service == _LAMBDA]
    for other in account.others.values():
        for thing in exposed(other):
            for way in ways:
                held = held_all(account, permissions, way.actions, place, thing.arn)
                if held is not None:
                    held = _more(replace(held, why=f"{held.why}, on {thing.title} of account {other.id}"), way.open)
                    yield _way(way.id, role_name(other.id, thing.role.path, thing.role.name), way.actions, held)


def _listed(estate: Estate, permissions: Permissions, way: Way, listed: Sequence[Thing]) -> Iterator[Escalation]:
    """Exactly the roles of the things that it may get into."""
    account, place = estate.account, place_of(estate.account, KINDS[way.kind])
    if len(listed) > _FEW and not way.open and way.service != _EC2 and _all_alike(estate, permissions, way, place):
        held = held_all(account, permissions, way.actions)
        if held is not None:
            yield _way(way.id, running_name(account.id, way.kind), way.actions, held)
            return
    best: dict[str, tuple[Held, Thing]] = {}
    for thing in listed:
        known = best.get(thing.role.arn)
        if known is not None and not known[0].conditions:
            continue
        held = held_all(account, permissions, way.actions, place, thing.arn)
        if held is None:
            continue
        held = _more(held, (*way.open, *thing.open, *_managed(estate, way, thing)))
        if known is None or len(held.conditions) < len(known[0].conditions):
            best[thing.role.arn] = (held, thing)
    for held, thing in best.values():
        held = replace(held, why=f"{held.why}, on {thing.title}")
        yield _way(way.id, estate.name(thing.role), way.actions, held)


def _all_alike(estate: Estate, permissions: Permissions, way: Way, place: str) -> bool:
    return all(permissions.may(action, place, whole=True) is not None for action in way.actions)


def _managed(estate: Estate, way: Way, thing: Thing) -> tuple[str, ...]:
    """Systems Manager reaches a machine whose role lets its agent answer."""
    if not way.id.startswith("ssm-"):
        return ()
    channel = "ssmmessages:CreateControlChannel" if way.id == "ssm-001" else "ssm:UpdateInstanceInformation"
    right = estate.permissions[thing.role.arn].may(channel, "*")
    return () if right is not None and not right.conditions else (f"Systems Manager manages {thing.title}",)
