"""Users, roles and groups → facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from remit.inventory.connectors.aws import findings
from remit.inventory.connectors.aws.account import AccessKey, Principal
from remit.inventory.connectors.aws.beyond import translate_beyond
from remit.inventory.connectors.aws.cuts import cut_from, cut_of, trust_cut
from remit.inventory.connectors.aws.escalations import Escalation, any_role, any_user, running_name
from remit.inventory.connectors.aws.estate import MAX_TRIED, Estate
from remit.inventory.connectors.aws.growth import MAX_WEIGHED, owns
from remit.inventory.connectors.aws.naming import (
    GITHUB,
    account_name,
    arn_alias,
    group_name,
    pipeline_name,
    root_name,
    service_name,
)
from remit.inventory.connectors.aws.permissions import Right
from remit.inventory.connectors.aws.plan import MAX_VISITS, Plan, hub_hops, plan_of
from remit.inventory.connectors.aws.reach import reach_facts, resource_fact
from remit.inventory.connectors.aws.trust import Flaw, trusted
from remit.inventory.model import (
    Attribute,
    Autonomy,
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
    Skipped,
)
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name, name

_OWNER_TAGS = {"owner": 80, "team": 70, "contact": 65}
_SERVICE_TAGS = ("service", "application", "app")
_ENVIRONMENTS = {"prod": "production", "prd": "production", "stage": "staging", "stg": "staging", "dev": "development"}
_MAX_TAG = 256
_MAX_STATES: Final = 4
"""States after a principal has changed its own rights, whose reach is shown."""


def place_of(arn: str) -> Place:
    """Facts lie at the ARN that shows them, however it was read."""
    return Place(system="aws", path=arn)


def translate_account(estate: Estate) -> Iterator[Fact]:
    """The account as a whole: its root, the services that act in it, and the nodes that stand for many."""
    account = estate.account
    root, everything = root_name(account.id), account_name(account.id)
    place = place_of(f"arn:{account.partition}:iam::{account.id}:root")
    yield IdentityFact(
        name=root,
        kind=IdentityKind.CLOUD_USER,
        title=f"root of account {account.id}",
        place=place,
        aliases=(arn_alias(account.id, place.path),),
        attributes={"privileged": True, "autonomy": Autonomy.HUMAN_OPERATED.value},
    )
    yield _resource(everything, "aws-account", f"account {account.id}", Sensitivity.RESTRICTED, place)
    yield _edge(root, Relation.CAN_REACH, everything, "an administrator has every right", place, actions=("*",))
    for resources in estate.spread.resources.values():
        for concrete in resources.values():
            yield resource_fact(concrete.name, concrete.kind, concrete.title, place)
            evidence = "an administrator has every right"
            yield _edge(root, Relation.CAN_REACH, concrete.name, evidence, place, actions=("*",))
    hubs = ((any_user(account.id), "any user"), (any_role(account.id), "any role"))
    for hub, title in hubs:
        yield _resource(hub, "aws-scope", f"{title} of account {account.id}", Sensitivity.PUBLIC, place)
    for service in estate.trusting:
        title = f"what runs in {service}"
        yield _resource(service_name(account.id, service), "aws-service", title, Sensitivity.PUBLIC, place)
    for kind in estate.running:
        title = f"any {kind} of account {account.id}"
        yield _resource(running_name(account.id, kind), "aws-scope", title, Sensitivity.PUBLIC, place)
    for hub, principal, why, conditions in hub_hops(estate):
        where = place_of(principal.arn)
        cut = trust_cut(principal, "the service") if "trust policy" in why else ""
        yield _edge(hub, Relation.ASSUME, estate.name(principal), why, where, conditions=conditions, cut=cut)
    if plan_of(estate).cut_short:
        detail = f"ways that take two principals were followed for {MAX_VISITS} steps"
        yield Skipped(what=f"escalations of account {account.id}", reason="too-large", detail=detail)
    if estate.weighed >= MAX_WEIGHED:
        detail = f"of which policies may be attached to what, {MAX_WEIGHED} were weighed"
        yield Skipped(what=f"escalations of account {account.id}", reason="too-large", detail=detail)
    if estate.tried > MAX_TRIED:
        detail = f"roles were asked for with tags, or after other steps, {MAX_TRIED} times"
        yield Skipped(what=f"escalations of account {account.id}", reason="too-large", detail=detail)
    yield from translate_beyond(account, {role.arn: estate.name(role) for role in account.roles.values()}, place)
    for repository in sorted(estate.pipelines):
        yield IdentityFact(
            name=pipeline_name(repository),
            kind=IdentityKind.PIPELINE,
            title=repository,
            place=place,
            attributes={"autonomy": Autonomy.PIPELINE.value},
        )
    for group in account.groups.values():
        yield IdentityFact(
            name=group_name(account.id, group.path, group.name),
            kind=IdentityKind.CLOUD_GROUP,
            title=group.name,
            place=place_of(group.arn),
            aliases=(arn_alias(account.id, group.arn),),
            attributes={"policies": ", ".join(policy.label for policy in group.policies)[:500]},
        )


def translate_principal(estate: Estate, principal: Principal, now: datetime) -> Iterator[Fact]:
    """One user or role: what it is, what proves it, what it can become and reach, and what is wrong with it."""
    account, identity, place = estate.account, estate.name(principal), place_of(principal.arn)
    plan = plan_of(estate)
    admin = plan.owners.get(principal.arn)
    reach = plan.reaches.get(principal.arn)
    privileged = admin is not None and not admin.conditions
    yield _identity(estate, principal, identity, place, privileged=privileged or _makes_itself(estate, principal))
    yield from _owners(identity, principal, place)
    root = root_name(account.id)
    yield _edge(root, Relation.ASSUME, identity, "an administrator makes credentials for any principal", place)
    if admin is not None:
        evidence = f"{admin.why} allows every action on every resource"
        cut = cut_from(account, principal, admin.why, "*")
        yield _edge(identity, Relation.ASSUME, root, evidence, place, ("*",), admin.conditions, cut)
        yield findings.admin_finding(principal, admin, identity, place)
    if not privileged:
        yield from _path(estate, plan, principal, identity, place)
    for way in reach.ways if reach else ():
        yield _escalation(estate, principal, identity, way, place)
    if reach is not None:
        yield from _reached(estate, principal, identity, place)
    if principal.kind == "user":
        yield from _user(estate, principal, identity, place, now)
    else:
        yield from _role(estate, principal, identity, place, now)


def _makes_itself(estate: Estate, principal: Principal) -> bool:
    """Tell whether one step of its own gives it every right, certainly: an administrator by another name.

    A role that AWS keeps cannot write itself; with all of IAM it writes another, or makes one.
    """
    reach = plan_of(estate).reaches.get(principal.arn)
    if reach is None:
        return False
    root = root_name(estate.account.id)
    if not any(way.target == root and not way.conditions for way in reach.ways):
        return False
    return any(
        _holds(owns(estate, state.permissions)) or _holds(state.permissions.may("iam:*", "*", whole=True))
        for state in reach.states
        if not state.conditions and sum(len(step.actions) for step in state.steps) <= 1
    )


def _holds(right: Right | None) -> bool:
    return right is not None and not right.conditions


def _path(estate: Estate, plan: Plan, principal: Principal, identity: Name, place: Place) -> Iterator[Fact]:
    if identity not in plan.ahead or principal.path.startswith("/aws-service-role/"):
        return
    if plan.ahead[identity].id == "administrator":
        return  # under conditions, and told as such
    certain = identity in plan.certain
    yield findings.path_finding(principal, plan.way(identity, estate.titles), identity, place, certain=certain)


def _escalation(estate: Estate, principal: Principal, identity: Name, way: Escalation, place: Place) -> EdgeFact:
    evidence = f"{' + '.join(way.actions)} ({way.id}): {way.why}"
    cut = cut_of(estate.account, principal, way.asked)
    cut = cut or f"take {way.actions[0] if way.actions else 'the right'} away from {principal.name}"
    return _edge(identity, Relation.ASSUME, way.target, evidence, place, way.actions, way.conditions, cut)


def _reached(estate: Estate, principal: Principal, identity: Name, place: Place) -> Iterator[Fact]:
    """The resources it reaches as it is, and once it has changed its own rights."""
    reach = plan_of(estate).reaches[principal.arn]
    root = root_name(estate.account.id)
    grown = () if any(way.target == root and not way.conditions for way in reach.ways) else reach.states[1:_MAX_STATES]
    yield from reach_facts(identity, estate.permissions[principal.arn], estate, place)
    for state in grown:
        steps = "; ".join(f"after {' + '.join(step.actions)} ({step.id})" for step in state.steps)
        for fact in reach_facts(identity, state.permissions, estate, place):
            if isinstance(fact, EdgeFact) and fact.source == identity:
                conditions = tuple(dict.fromkeys((*state.conditions, *fact.conditions)))
                yield replace(fact, evidence=f"{fact.evidence}, {steps}", conditions=conditions)
            else:
                yield fact


def _identity(estate: Estate, principal: Principal, identity: Name, place: Place, *, privileged: bool) -> IdentityFact:
    account, extras = estate.account, estate.account.extras
    attributes: dict[str, Attribute] = {"arn": principal.arn, "privileged": privileged, **_tagged(principal.tags)}
    if principal.created:
        attributes["created"] = rfc3339(principal.created)
    last_used = _last_used(principal, (extras.keys or {}).get(principal.name, []))
    if last_used:
        attributes["last_used"] = rfc3339(last_used)
    if principal.boundary:
        attributes["boundary"] = principal.boundary.arn or principal.boundary.label
    unseen = _unseen(estate, principal)
    if unseen:
        attributes["policies_not_shown"] = ", ".join(unseen)[:500]
    if principal.profiles:
        attributes["instance_profiles"] = ", ".join(principal.profiles)[:500]
    if principal.path.startswith("/aws-service-role/"):
        attributes["service_linked"] = True
    if extras.console is not None and principal.kind == "user":
        attributes["can_login"] = extras.console.get(principal.name, False)
    autonomy = _autonomy(estate, principal)
    if autonomy:
        attributes["autonomy"] = autonomy.value
    return IdentityFact(
        name=identity,
        kind=IdentityKind.CLOUD_USER if principal.kind == "user" else IdentityKind.CLOUD_ROLE,
        title=principal.name,
        place=place,
        aliases=(arn_alias(account.id, principal.arn), name("aws", account.id, principal.kind, principal.arn)),
        attributes=attributes,
    )


def _unseen(estate: Estate, principal: Principal) -> dict[str, None]:
    groups = filter(None, map(estate.account.groups.get, principal.groups))
    return dict.fromkeys((*principal.incomplete, *(arn for group in groups for arn in group.incomplete)))


def _autonomy(estate: Estate, principal: Principal) -> Autonomy | None:
    if principal.kind == "user":
        console = estate.account.extras.console
        return Autonomy.HUMAN_OPERATED if console and console.get(principal.name) else None
    values = [(kind, value) for statement in principal.trust if statement.allow for kind, value in statement.principals]
    if any(kind == "Federated" and value.endswith(f"/{GITHUB}") for kind, value in values):
        return Autonomy.PIPELINE
    return Autonomy.AUTONOMOUS if any(kind == "Service" for kind, _ in values) else None


def _tagged(tags: Mapping[str, str]) -> dict[str, Attribute]:
    lowered = {key.lower(): value for key, value in tags.items() if value}
    found: dict[str, Attribute] = {}
    environment = lowered.get("environment") or lowered.get("env")
    if environment:
        found["environment"] = _ENVIRONMENTS.get(environment.lower(), environment[:_MAX_TAG])
    service = next((lowered[key] for key in _SERVICE_TAGS if key in lowered), None)
    if service:
        found["service"] = service[:_MAX_TAG]
    return found


def _owners(identity: Name, principal: Principal, place: Place) -> Iterator[OwnerFact]:
    for key, value in principal.tags.items():
        confidence = _OWNER_TAGS.get(key.lower().rpartition(":")[2])
        if confidence and value.strip():
            yield OwnerFact(
                identity=identity,
                owner=value.strip()[:_MAX_TAG],
                method="tag",
                evidence=f"tag `{key}` of {principal.kind} {principal.name}",
                confidence=confidence,
                place=place,
            )


def _last_used(principal: Principal, keys: list[AccessKey]) -> datetime | None:
    moments = [principal.last_used, *(key.last_used for key in keys)]
    return max((moment for moment in moments if moment is not None), default=None)


def _user(estate: Estate, user: Principal, identity: Name, place: Place, now: datetime) -> Iterator[Fact]:
    account, extras = estate.account, estate.account.extras
    for group in user.groups:
        known = account.groups.get(group)
        target = group_name(account.id, known.path if known else "/", group)
        cut = f"aws iam remove-user-from-group --user-name {user.name} --group-name {group}"
        yield _edge(identity, Relation.MEMBER_OF, target, f"{user.name} is in group {group}", place, cut=cut)
    keys = (extras.keys or {}).get(user.name, [])
    for key in keys:
        yield CredentialFact(
            fingerprint=findings.fingerprint_of(key.id),
            kind=CredentialKind.ACCESS_KEY,
            title=key.id,
            place=place,
            identity=identity,
            issued=key.created,
            last_used=key.last_used,
            attributes={"active": key.active, "last_service": key.service},
        )
    yield from findings.key_findings(user, keys, now, place)
    console = (extras.console or {}).get(user.name, False)
    factors = extras.mfa.get(user.name, 0) if extras.mfa is not None else None
    active = sum(key.active for key in keys)
    yield from findings.console_findings(user, identity, place, console=console, factors=factors, keys=active)
    yield from _assumes(estate, user, identity)


def _role(estate: Estate, role: Principal, identity: Name, place: Place, now: datetime) -> Iterator[Fact]:
    flaws: dict[Flaw, None] = {}
    for found in trusted(estate, role):
        if isinstance(found, Flaw):
            flaws[found] = None
            continue
        actions, cut = ("sts:AssumeRole",), trust_cut(role, found.names or "it")
        yield _edge(found.source, Relation.ASSUME, identity, found.why, place, actions, found.conditions, cut)
    for flaw in flaws:
        yield findings.trust_finding(role, flaw, identity, place)
    yield from findings.dormant_finding(role, role.last_used, now, identity, place)
    yield from _assumes(estate, role, identity)


def _assumes(estate: Estate, principal: Principal, identity: Name) -> Iterator[EdgeFact]:
    """The roles of the account that a principal may assume."""
    for role, right in plan_of(estate).assumed[principal.arn]:
        cut = trust_cut(role, principal.arn)
        if "names the account" in right.why:
            cut = cut_of(estate.account, principal, _allowing(estate, principal, role)) or cut
        target, action, place = estate.name(role), ("sts:AssumeRole",), place_of(role.arn)
        yield _edge(identity, Relation.ASSUME, target, f"{right.why} (sts-001)", place, action, right.conditions, cut)


def _allowing(estate: Estate, principal: Principal, role: Principal) -> Iterator[tuple[str, str, str]]:
    for entry in estate.permissions[principal.arn].allowing("sts:assumerole"):
        yield "sts:AssumeRole", role.arn, entry.label


def _resource(node: Name, kind: str, title: str, sensitivity: Sensitivity, place: Place) -> ResourceFact:
    return ResourceFact(name=node, kind=kind, title=title, place=place, sensitivity=sensitivity)


def _edge(
    source: Name,
    relation: Relation,
    target: Name,
    evidence: str,
    place: Place,
    actions: tuple[str, ...] = (),
    conditions: tuple[str, ...] = (),
    cut: str = "",
) -> EdgeFact:
    return EdgeFact(
        source=source,
        relation=relation,
        target=target,
        evidence=evidence,
        place=place,
        actions=actions,
        conditions=conditions,
        cut=cut,
    )
