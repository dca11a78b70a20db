"""Who can become whom in an account, worked out for all of its principals together, and how far it is to everything.

Some ways take two principals: one writes the rights of another, a third becomes it. So what each can become is followed
to the end, and where somebody among them may write the rights of somebody among them, that gives everything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from remit.inventory.connectors.aws.account import Principal
from remit.inventory.connectors.aws.asking import Held, ask, join, may_speak, spoken_of
from remit.inventory.connectors.aws.catalogue import COMBINED, WRITING
from remit.inventory.connectors.aws.escalations import (
    Escalation,
    Reach,
    any_role,
    any_user,
    escalations,
    running_name,
)
from remit.inventory.connectors.aws.estate import NO_PROFILE, Estate
from remit.inventory.connectors.aws.growth import GIVEN, State, frozen, grows, owns, unbound, written
from remit.inventory.connectors.aws.naming import root_name, service_name
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.trust import assumable
from remit.kernel.ids import Name

MAX_VISITS: Final = 2_000_000
"""Steps from principal to principal that are followed for ways that take two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """From one principal (or what stands for many) to another."""

    target: Name
    id: str
    actions: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One writes the rights of another, so that they are everything."""

    id: str
    actions: tuple[str, ...]
    held: Held
    target: Principal


@dataclass(slots=True)
class Plan:
    """By ARN of the principal."""

    owners: dict[str, Right] = field(default_factory=dict)
    """Who has every right as it is, perhaps under conditions."""
    reaches: dict[str, Reach] = field(default_factory=dict)
    assumed: dict[str, list[tuple[Principal, Right]]] = field(default_factory=dict)
    hops: dict[Name, list[Hop]] = field(default_factory=dict)
    ahead: dict[Name, Hop] = field(default_factory=dict)
    """The next step of the shortest way to everything."""
    certain: set[Name] = field(default_factory=set)
    """From where that way is free of conditions."""
    visits: int = 0

    @property
    def cut_short(self) -> bool:
        return self.visits > MAX_VISITS

    def way(self, start: Name, titles: dict[Name, str]) -> str:
        """The shortest way to everything, in words."""
        words, node, seen = [titles.get(start, start)], start, set()
        while (hop := self.ahead.get(node)) is not None and node not in seen:
            seen.add(node)
            words.append(f"({hop.id}) {titles.get(hop.target, hop.target)}")
            node = hop.target
        return " → ".join(words)


def plan_of(estate: Estate) -> Plan:
    """The plan of an account, worked out once."""
    if estate.plan is None:
        estate.plan = _plan(estate)
    return estate.plan


def _plan(estate: Estate) -> Plan:
    plan = Plan()
    for principal in estate.account.principals():
        _principal(estate, plan, principal)
    _hubs(estate, plan)
    _measure(plan, root_name(estate.account.id))
    if _combine(estate, plan):
        _measure(plan, root_name(estate.account.id))
    return plan


def _principal(estate: Estate, plan: Plan, principal: Principal) -> None:
    permissions, me = estate.permissions[principal.arn], estate.name(principal)
    hops = plan.hops[me] = []
    assumed = plan.assumed[principal.arn] = []
    for role in estate.candidates(permissions):
        may = assumable(estate, permissions, role)
        if may is not None:
            assumed.append((role, may))
            hops.append(Hop(target=estate.name(role), id="sts-001", actions=_ASSUME, conditions=may.conditions))
    estate.assumed[principal.arn] = {role.arn: may for role, may in assumed}
    right = owns(estate, permissions)
    if right is not None:
        plan.owners[principal.arn] = right
        hops.append(Hop(target=root_name(estate.account.id), id="administrator", conditions=right.conditions))
    if right is None or right.conditions:
        reach = plan.reaches[principal.arn] = escalations(estate, permissions)
        hops += [_hop(way) for way in reach.ways]


_ASSUME: Final = ("sts:AssumeRole",)


def _hop(way: Escalation) -> Hop:
    return Hop(target=way.target, id=way.id, actions=way.actions, conditions=way.conditions)


def hub_hops(estate: Estate) -> Iterator[tuple[Name, Principal, str, tuple[str, ...]]]:
    """What stands for many → each of them: (hub, principal, why, conditions)."""
    account = estate.account
    for user in account.users.values():
        yield any_user(account.id), user, f"{user.name} is a user of the account", ()
    for role in account.roles.values():
        if not frozen(role):
            yield any_role(account.id), role, f"{role.name} is a role of the account", ()
    for service, roles in estate.trusting.items():
        for role in roles:
            conditions = estate.serving[service][role.arn]
            if service == "ec2.amazonaws.com" and not role.profiles:
                conditions = (*conditions, NO_PROFILE)
            yield (
                service_name(account.id, service),
                role,
                f"the trust policy of {role.name} names {service}",
                conditions,
            )
    for kind, listed in estate.running.items():
        for thing in {thing.role.arn: thing for thing in listed if not thing.open}.values():
            yield running_name(account.id, kind), thing.role, f"{thing.title} runs under {thing.role.name}", ()


def _hubs(estate: Estate, plan: Plan) -> None:
    for hub, principal, _, conditions in hub_hops(estate):
        plan.hops.setdefault(hub, []).append(
            Hop(target=estate.name(principal), id="one of them", conditions=conditions)
        )


def _measure(plan: Plan, root: Name) -> None:
    """From each node the next step towards everything: first by what is certain, then by what is not."""
    plan.ahead.clear()
    plan.certain.clear()
    into: dict[Name, list[tuple[Name, Hop]]] = {}
    for source, hops in plan.hops.items():
        for hop in hops:
            into.setdefault(hop.target, []).append((source, hop))
    _back(plan, into, deque([root]), certain=True)
    plan.certain.update(plan.ahead)
    _back(plan, into, deque([root, *plan.ahead]), certain=False)


def _back(plan: Plan, into: dict[Name, list[tuple[Name, Hop]]], waiting: deque[Name], *, certain: bool) -> None:
    root = waiting[0]
    while waiting:
        node = waiting.popleft()
        for source, hop in into.get(node, ()):
            if source not in plan.ahead and source != root and not (certain and hop.conditions):
                plan.ahead[source] = hop
                waiting.append(source)


# --- ways that take two


def _combine(estate: Estate, plan: Plan) -> bool:
    """Add the ways to everything on which one writes the rights of another; tell whether there are any."""
    writers = _Writers(estate, plan)
    if not writers.states:
        return False
    added = False
    for certain in (True, False):
        for principal in estate.account.principals():
            me = estate.name(principal)
            if me in plan.certain or (not certain and me in plan.ahead):
                continue
            way = _combined(estate, plan, principal, writers, certain=certain)
            if way is not None:
                reach = plan.reaches[principal.arn]
                plan.reaches[principal.arn] = replace(reach, ways=(*reach.ways, way))
                plan.hops[me].append(_hop(way))
                added = True
        if certain and added:
            _measure(plan, root_name(estate.account.id))
    return added


class _Writers:
    """Who may write rights, and of whom: asked for one pair at a time, and remembered."""

    def __init__(self, estate: Estate, plan: Plan) -> None:
        self._estate = estate
        self._plan = plan
        self._known: dict[tuple[Name, Name], Write | None] = {}
        self._about: dict[Name, set[Name] | None] = {}
        self.named = {estate.name(principal): principal for principal in estate.account.principals()}
        self.states: dict[Name, list[State]] = {}
        """After which the principal may write rights of others."""
        for node, principal in self.named.items():
            reach = plan.reaches.get(principal.arn)
            found = [state for state in reach.states if _may_write(state.permissions)] if reach else []
            if found and node not in plan.certain:
                self.states[node] = found

    def candidates(self, writer: Name) -> set[Name] | None:
        """Whose rights it may be about; `None` for all: only a quick look, each is asked for by itself."""
        if writer not in self._about:
            self._about[writer] = self._candidates(writer)
        return self._about[writer]

    def _candidates(self, writer: Name) -> set[Name] | None:
        estate, found = self._estate, set[Name]()
        for state in self.states[writer]:
            for action in _WRITES:
                if not state.permissions.allowing(action):
                    continue
                kind = "user" if "user" in action else "role" if "role" in action else ""
                if not kind or "togroup" in action:
                    return None
                among = estate.account.users if kind == "user" else estate.account.roles
                met = (estate.name(each) for each in estate.met(kind, among.values(), state.permissions, action))
                found.update(islice(met, _MANY))
                if len(found) >= _MANY:
                    return None
        return found

    def write(self, writer: Name, target: Name) -> Write | None:
        """What `writer` may do to the rights of `target` with the fewest conditions, so that they are everything."""
        key = (writer, target)
        if key not in self._known:
            self._plan.visits += _COST
            found = (
                write for state in self.states[writer] for write in _of_state(self._estate, state, self.named[target])
            )
            self._known[key] = min(found, key=lambda write: len(write.held.conditions), default=None)
        return self._known[key]


_MANY: Final = 1_000
_COST: Final = 60
"""What one question of who may write whose rights counts of `MAX_VISITS`."""
_WRITES: Final = (
    *(action.lower() for _, action, _ in WRITING),
    *("iam:addusertogroup", "iam:deleteuserpermissionsboundary", "iam:deleterolepermissionsboundary"),
    *("iam:putuserpermissionsboundary", "iam:putrolepermissionsboundary"),
)


def _may_write(permissions: Permissions) -> bool:
    return (
        may_speak(spoken_of(permissions), ("iam:",))
        and grows(permissions)
        and any(permissions.allowing(action) for action in _WRITES)
    )


def _of_state(estate: Estate, state: State, target: Principal) -> Iterator[Write]:
    if frozen(target):
        return
    permissions = state.permissions
    before = Held(why="", conditions=state.conditions)
    for way, action, kind in WRITING:
        if not permissions.allowing(action.lower()):
            continue
        for arn in _written(estate, kind, target):
            held = written(estate, permissions, action, arn)
            whole = _everything(estate, permissions, target) if held is not None else None
            both = join((held, whole, before)) if whole is not None else None
            if both is not None and held is not None and whole is not None:
                actions = tuple(dict.fromkeys((action, *(one[0] for one in whole.asked))))
                yield Write(id=way, actions=actions, held=replace(both, why=held.why, asked=held.asked), target=target)
    yield from _freeing(estate, permissions, before, target)
    yield from _adding(estate, permissions, before, target)


def _written(estate: Estate, kind: str, target: Principal) -> list[str]:
    """What of a kind holds rights of the target."""
    groups = [group for group in map(estate.account.groups.get, target.groups) if group is not None]
    match kind:
        case "group":
            return [group.arn for group in groups]
        case "policy":
            policies = (*target.policies, *(policy for group in groups for policy in group.policies))
            return [policy.arn for policy in policies if policy.arn and ":aws:policy/" not in policy.arn]
        case _:
            return [target.arn] if kind == target.kind else []


def _everything(estate: Estate, permissions: Permissions, target: Principal) -> Held | None:
    """Whether all rights, given to a principal, are all rights: its boundary must allow, or be taken away, too."""
    right = _full(estate, target)
    if right is not None:
        return Held(why="", conditions=right.conditions)
    if target.boundary is None:
        return None
    held, _ = unbound(estate, permissions, target)
    free = owns(estate, Permissions(estate.account, replace(target, boundary=None, policies=(GIVEN,), groups=())))
    return join((held, Held(why="", conditions=free.conditions))) if held is not None and free is not None else None


def _full(estate: Estate, target: Principal) -> Right | None:
    if target.arn not in estate.full:
        policies = (*target.policies, GIVEN)
        estate.full[target.arn] = owns(estate, Permissions(estate.account, replace(target, policies=policies)))
    return estate.full[target.arn]


def _freeing(estate: Estate, permissions: Permissions, before: Held, target: Principal) -> Iterator[Write]:
    """Take away the boundary of one that is an administrator but for it."""
    if target.boundary is None:
        return
    held, action = unbound(estate, permissions, target)
    right = owns(estate, Permissions(estate.account, replace(target, boundary=None))) if held else None
    if held is not None and right is not None:
        conditions = tuple(dict.fromkeys((*held.conditions, *right.conditions, *before.conditions)))
        yield Write(id="boundary-removed", actions=(action,), held=replace(held, conditions=conditions), target=target)


def _adding(estate: Estate, permissions: Permissions, before: Held, target: Principal) -> Iterator[Write]:
    """Put another user into a group that is an administrator."""
    if target.kind != "user" or not permissions.allowing("iam:addusertogroup"):
        return
    for group in estate.strong_groups:
        held = ask(permissions, "iam:AddUserToGroup", group.arn)
        right = owns(estate, Permissions(estate.account, target, joining=group.policies)) if held else None
        if held is not None and right is not None:
            conditions = tuple(dict.fromkeys((*held.conditions, *right.conditions, *before.conditions)))
            held = replace(held, conditions=conditions)
            yield Write(id="iam-013", actions=("iam:AddUserToGroup",), held=held, target=target)


def _combined(
    estate: Estate, plan: Plan, principal: Principal, writers: _Writers, *, certain: bool
) -> Escalation | None:
    """Follow what a principal can become: does one of them write the rights of one of them?"""
    me = estate.name(principal)
    steps = _closure(plan, me, certain=certain)
    targets = [node for node in steps if node in writers.named]
    for writer in (node for node in steps if node in writers.states):
        about = writers.candidates(writer)
        for target in targets if about is None else [node for node in targets if node in about]:
            if plan.cut_short:
                return None
            if target == me == writer:
                continue  # what one does to oneself is told by the states
            write = writers.write(writer, target)
            if write is not None and not (certain and write.held.conditions):
                return _as_way(estate, me, writer, write, steps)
    return None


def _closure(plan: Plan, start: Name, *, certain: bool) -> dict[Name, tuple[Name, Hop] | None]:
    """What is reached, each with the step that led there."""
    steps: dict[Name, tuple[Name, Hop] | None] = {start: None}
    waiting = deque([start])
    while waiting and not plan.cut_short:
        node = waiting.popleft()
        for hop in plan.hops.get(node, ()):
            plan.visits += 1
            if hop.target not in steps and not (certain and hop.conditions):
                steps[hop.target] = (node, hop)
                waiting.append(hop.target)
    return steps


def _as_way(
    estate: Estate, me: Name, writer: Name, write: Write, steps: dict[Name, tuple[Name, Hop] | None]
) -> Escalation:
    to_target, to_writer = _trail(steps, estate.name(write.target)), _trail(steps, writer)
    become = next((action for hop in to_target for action in hop.actions), "")
    ident = COMBINED.get((write.actions[0], become)) if writer == me and len(to_target) <= 2 else None
    own = (hop for hop in (*to_writer, *to_target) if hop.actions)
    trail = " + ".join(dict.fromkeys((write.id, *(hop.id for hop in own))))
    conditions = (*write.held.conditions, *(one for hop in (*to_writer, *to_target) for one in hop.conditions))
    asker = "" if writer == me else f", as {writer.rpartition(':')[2]}"
    return Escalation(
        id=ident or trail,
        target=root_name(estate.account.id),
        actions=tuple(dict.fromkeys((*write.actions, *(a for hop in (*to_writer, *to_target) for a in hop.actions)))),
        why=f"{write.held.why}{asker}, on {write.target.name} which it can become",
        conditions=tuple(dict.fromkeys(conditions)),
        asked=write.held.asked if writer == me else (),
    )


def _trail(steps: dict[Name, tuple[Name, Hop] | None], node: Name) -> list[Hop]:
    found: list[Hop] = []
    while (step := steps.get(node)) is not None:
        found.append(step[1])
        node = step[0]
    return found[::-1]
