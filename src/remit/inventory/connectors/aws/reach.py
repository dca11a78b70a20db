"""Permissions → what a principal can reach: one edge for each resource that a policy names, with its actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.cuts import cut_of_statement
from remit.inventory.connectors.aws.estate import Estate
from remit.inventory.connectors.aws.naming import account_name, resource_of
from remit.inventory.connectors.aws.patterns import covers, meets
from remit.inventory.connectors.aws.permissions import Permissions, Said
from remit.inventory.connectors.aws.spread import FEW, Concrete, Spread
from remit.inventory.connectors.aws.suits import suits
from remit.inventory.model import EdgeFact, Fact, Place, Relation, ResourceFact, Sensitivity, Skipped
from remit.kernel.ids import Name, name

MAX_EDGES = 5_000
"""Edges of one principal; what is beyond is reported as skipped."""

_NO_RESOURCE = frozenset({"iam:passrole", "sts:assumerole", "sts:assumerolewithwebidentity", "sts:assumerolewithsaml"})
"""Actions that give a principal, not a resource: trust and escalations show them."""
_LISTING = ("list", "describe")
_SENSITIVE = frozenset({"secretsmanager", "ssm", "kms"})


@dataclass(slots=True)
class _Reach:
    kind: str
    title: str
    actions: dict[tuple[str, ...], dict[str, None]] = field(default_factory=dict)
    """By open conditions."""
    why: dict[tuple[str, ...], dict[str, None]] = field(default_factory=dict)
    said: dict[tuple[str, ...], tuple[Said, str]] = field(default_factory=dict)
    """The first statement that allows one of them, and which."""

    def add(self, conditions: tuple[str, ...], action: str, why: str, entry: Said) -> None:
        self.actions.setdefault(conditions, {})[action] = None
        self.why.setdefault(conditions, {})[why] = None
        self.said.setdefault(conditions, (entry, action))


def reach_facts(source: Name, permissions: Permissions, estate: Estate, place: Place) -> Iterator[Fact]:
    """The resources that a principal (who is no administrator) can reach, and the edges to them."""
    reached: dict[Name, _Reach] = {}
    hubs: dict[Name, tuple[str, str]] = {}
    for entry in permissions.allows:
        tests = remaining(entry.statement.conditions, permissions.context)
        if tests is not None:
            _statement(reached, permissions, entry, (*entry.open, *tests), estate, hubs)
    for hub, (service, pattern) in hubs.items():
        yield from _hub_facts(estate.spread, hub, service, pattern, place)
    count = 0
    for target, reach in reached.items():
        if not estate.knows(target) and target not in hubs:
            yield resource_fact(target, reach.kind, reach.title, place)
        for conditions, actions in reach.actions.items():
            count += 1
            if count > MAX_EDGES:
                detail = f"more than {MAX_EDGES} resources"
                yield Skipped(what=f"reach of {permissions.principal.arn}", reason="too-large", detail=detail)
                return
            yield EdgeFact(
                source=source,
                relation=Relation.CAN_REACH,
                target=target,
                evidence=f"{', '.join(reach.why[conditions])} of {permissions.principal.name}",
                place=place,
                actions=tuple(actions),
                conditions=conditions,
                cut=cut_of_statement(permissions.account, permissions.principal, *reach.said[conditions]),
            )


def resource_fact(target: Name, kind: str, title: str, place: Place) -> ResourceFact:
    """A resource that some policy names."""
    return ResourceFact(name=target, kind=kind, title=title, place=place, sensitivity=sensitivity_of(kind))


def sensitivity_of(kind: str) -> Sensitivity | None:
    """Of a kind of resource as such: what it holds is for its owner to say."""
    if kind == "aws-account":
        return Sensitivity.RESTRICTED
    return Sensitivity.CONFIDENTIAL if kind.removeprefix("aws-") in _SENSITIVE else None


def _statement(
    reached: dict[Name, _Reach],
    permissions: Permissions,
    entry: Said,
    tests: tuple[str, ...],
    estate: Estate,
    hubs: dict[Name, tuple[str, str]],
) -> None:
    statement = entry.statement
    resources = ("*",) if statement.not_resources else statement.resources
    why = entry.label + (f" except {', '.join(statement.resources[:3])}" if statement.not_resources else "")
    for action, note in _actions(entry):
        if action.lower() in _NO_RESOURCE:
            continue
        for pattern in resources:
            label = f"{why}{note}{_exceptions(permissions, action.lower(), pattern)}"
            for asked, place, bounds in permissions.narrowed(entry, action, pattern):
                for actual in _less_allow_lists(permissions, asked):
                    _reach(reached, permissions, entry, estate, actual, place, (*tests, *bounds), label, hubs)


def _reach(
    reached: dict[Name, _Reach],
    permissions: Permissions,
    entry: Said,
    estate: Estate,
    action: str,
    pattern: str,
    tests: tuple[str, ...],
    label: str,
    hubs: dict[Name, tuple[str, str]],
) -> None:
    """Note one action on one resource pattern, and on the resources known by name that it covers."""
    lowered = action.lower()
    if not suits(lowered, pattern):
        return
    service = lowered.partition(":")[0] if ":" in lowered else "*"
    targets = [(pattern, *_target(pattern, service, estate))]
    inside = _inside(entry, lowered, service, pattern, estate)
    if len(inside) > FEW and _for_all(permissions, entry, lowered, pattern):
        hub = estate.spread.hub(service, pattern)
        hubs[hub] = (service, pattern)
        targets.append((pattern, hub, "aws-any-of", f"what {pattern} covers"))
    else:
        targets += [(c.pattern, c.name, c.kind, c.title) for c in inside]
    for asked, target, kind, title in targets:
        limits = permissions.limits(lowered, asked, bounded=False)
        if limits is not None:
            conditions = tuple(dict.fromkeys((*tests, *limits)))
            reached.setdefault(target, _Reach(kind, title)).add(conditions, action, label, entry)


def _actions(entry: Said) -> Iterator[tuple[str, str]]:
    """The actions to show, each with a note; NotAction is everything, but."""
    if not entry.statement.not_actions:
        yield from ((action, "") for action in entry.statement.shown_actions)
    else:
        yield "*", f" (all but {', '.join(entry.statement.shown_actions[:5])})"


def _less_allow_lists(permissions: Permissions, action: str) -> list[str]:
    """What denials of everything but a list leave of an action pattern."""
    left = [action]
    for entry in permissions.denies:
        statement = entry.statement
        if statement.not_actions and not statement.conditions and statement.covers_resource("*"):
            left = [both for one in left for kept in statement.actions if (both := _shared(one.lower(), kept, one))]
    return list(dict.fromkeys(left))


def _shared(one: str, other: str, shown: str | None = None) -> str | None:
    """A pattern for what two have in common: the narrower, or the first (as `shown`) where they merely overlap."""
    if one != other and covers(one, other):
        return other
    return (shown or one) if meets(one, other) else None


def _exceptions(permissions: Permissions, action: str, pattern: str) -> str:
    """A note on denials that take a part away."""
    labels = dict.fromkeys(
        entry.label
        for entry in permissions.denies
        if not entry.statement.conditions
        and not entry.statement.not_actions
        and entry.statement.meets_action(action)
        and entry.statement.meets_resource(pattern)
    )
    return f" less what {', '.join(labels)} denies" if labels else ""


def _target(pattern: str, service: str, estate: Estate) -> tuple[Name, str, str]:
    account = estate.account.id
    if pattern != "*":
        return resource_of(pattern, account)
    if "*" in service or "?" in service:
        return account_name(account), "aws-account", f"account {account}"
    return name("aws", account, service, "*"), f"aws-{service}", f"every {service} resource"


def _for_all(permissions: Permissions, entry: Said, action: str, pattern: str) -> bool:
    """Tell whether the right is the same for everything that the pattern covers: then a hub may stand for it."""
    if permissions.bounds is not None or entry.statement.not_resources or entry.open:
        return False
    return not any(
        denial.statement.covers_action(action) and denial.statement.meets_resource(pattern)
        for denial in permissions.denies
    )


def _hub_facts(spread: Spread, hub: Name, service: str, pattern: str, place: Place) -> Iterator[Fact]:
    """The hub and its edges, once for all who hold the pattern."""
    if hub in spread.told:
        return
    spread.told.add(hub)
    shown = pattern if len(pattern) < 120 else f"{pattern[:119]}…"
    title = f"every {'' if service == '*' else f'{service} '}resource that {shown} covers"
    yield ResourceFact(name=hub, kind="aws-any-of", title=title, place=place, sensitivity=Sensitivity.PUBLIC)
    for concrete in spread.inside(service, pattern):
        yield EdgeFact(
            source=hub,
            relation=Relation.CAN_REACH,
            target=concrete.name,
            evidence=f"{shown} covers {concrete.title}",
            place=place,
        )


def _inside(entry: Said, action: str, service: str, pattern: str, estate: Estate) -> Sequence[Concrete]:
    """The resources known by name that a pattern with wildcards covers.

    Listing what exists is no reach into each thing, so actions that only list or describe are not spread.
    """
    verb = action.partition(":")[2]
    if not any(wild in pattern for wild in "*?") or verb.startswith(_LISTING):
        return ()
    own = resource_of(pattern, estate.account.id)[0]
    found = estate.spread.inside(service, pattern)
    if len(found) > FEW and not entry.statement.not_resources:
        return found  # what the pattern covers, the statement covers that has it
    return [one for one in found if one.name != own and entry.statement.covers_resource(one.pattern)]
