"""Users, roles and groups → facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from remit.inventory.connectors.aws import findings
from remit.inventory.connectors.aws.account import AccessKey, Principal
from remit.inventory.connectors.aws.escalations import any_role, any_user, escalations
from remit.inventory.connectors.aws.estate import Estate
from remit.inventory.connectors.aws.naming import (
    GITHUB,
    account_name,
    arn_alias,
    group_name,
    pipeline_name,
    root_name,
    service_name,
)
from remit.inventory.connectors.aws.reach import reach_facts, resource_fact
from remit.inventory.connectors.aws.trust import Flaw, assumable, trusted
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
)
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name, name

_OWNER_TAGS = {"owner": 80, "team": 70, "contact": 65}
_SERVICE_TAGS = ("service", "application", "app")
_ENVIRONMENTS = {"prod": "production", "prd": "production", "stage": "staging", "stg": "staging", "dev": "development"}
_MAX_TAG = 256


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
    for resources in estate.resources.values():
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
    permissions = estate.permissions[principal.arn]
    admin = permissions.admin
    ways = [] if admin and not admin.conditions else list(escalations(estate, permissions))
    gains = any(way.target == root_name(account.id) and not way.conditions for way in ways)
    yield _identity(estate, principal, identity, place, privileged=bool((admin and not admin.conditions) or gains))
    yield from _owners(identity, principal, place)
    hub = any_user(account.id) if principal.kind == "user" else any_role(account.id)
    yield _edge(hub, Relation.ASSUME, identity, f"{principal.name} is a {principal.kind} of the account", place)
    root = root_name(account.id)
    yield _edge(root, Relation.ASSUME, identity, "an administrator makes credentials for any principal", place)
    if admin is not None:
        evidence = f"{admin.why} allows every action on every resource"
        yield _edge(identity, Relation.ASSUME, root, evidence, place, ("*",), admin.conditions)
        yield findings.admin_finding(principal, admin, identity, place)
    for way in ways:
        evidence = f"{' + '.join(way.actions)} ({way.id}): {way.why}"
        yield _edge(identity, Relation.ASSUME, way.target, evidence, place, way.actions, way.conditions)
    if admin is None or admin.conditions:
        yield from reach_facts(identity, permissions, estate, place)
    if principal.kind == "user":
        yield from _user(estate, principal, identity, place, now)
    else:
        yield from _role(estate, principal, identity, place, now)


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
        yield _edge(found.source, Relation.ASSUME, identity, found.why, place, ("sts:AssumeRole",), found.conditions)
    for flaw in flaws:
        yield findings.trust_finding(role, flaw, identity, place)
    yield from findings.dormant_finding(role, role.last_used, now, identity, place)
    yield from _assumes(estate, role, identity)


def _assumes(estate: Estate, principal: Principal, identity: Name) -> Iterator[EdgeFact]:
    """The roles of the account that a principal may assume."""
    for role in estate.candidates(principal):
        right = assumable(estate, principal, role)
        if right is not None:
            cut = f"remove {principal.arn} from the trust policy of {role.name}, or sts:AssumeRole from its policies"
            place = place_of(role.arn)
            target = estate.name(role)
            action = ("sts:AssumeRole",)
            yield _edge(identity, Relation.ASSUME, target, right.why, place, action, right.conditions, cut)


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
