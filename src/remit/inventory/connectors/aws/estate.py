"""An account with what is computed once for all of its principals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from remit.inventory.connectors.aws.account import Account, Group, Principal
from remit.inventory.connectors.aws.naming import (
    GITHUB,
    account_of,
    parse_arn,
    pipeline_of,
    resource_of,
    role_name,
    root_name,
    user_name,
)
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.policy import Condition, Policy, Statement
from remit.inventory.connectors.aws.running import Thing, things
from remit.inventory.connectors.aws.serving import serves, services_of
from remit.inventory.connectors.aws.spread import Concrete, Sorted, Spread
from remit.kernel.ids import Name

if TYPE_CHECKING:
    from remit.inventory.connectors.aws.plan import Plan

MAX_TRIED: Final = 100_000
"""Requests, of one account, for roles with tags or after steps; then none is tried any more, and it is told."""
NO_PROFILE: Final = "an instance profile holds the role"


@dataclass(slots=True)
class Estate:
    """Permissions by ARN, roles by the service that they trust, and the resources that policies name."""

    account: Account
    permissions: dict[str, Permissions] = field(default_factory=dict)
    trusting: dict[str, list[Principal]] = field(default_factory=dict)
    serving: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """By service and ARN of a role that trusts it: what its trust policy leaves open."""
    running: dict[str, list[Thing]] = field(default_factory=dict)
    """What runs under roles, by kind; a kind that the source does not list is missing."""
    powerful: tuple[str, ...] = ()
    """The policies that allow everything in IAM: who may attach one may attach all."""
    strong_groups: tuple[Group, ...] = ()
    """The groups of which a policy allows everything."""
    full: dict[str, Right | None] = field(default_factory=dict)
    """What a principal has, by its ARN, once every right was given to it."""
    weighed: int = 0
    """Policies of which was asked whether they may be attached to something."""
    tried: int = 0
    """Requests for roles, with tags or after steps, that were tried beyond the plain ones."""
    plan: Plan | None = None
    """Who can become whom, once it has been worked out."""
    spread: Spread = field(init=False)
    assuming: set[str] = field(default_factory=set)
    """ARNs of principals whose own policies allow to assume some role."""
    named_by: dict[str, list[Principal]] = field(default_factory=dict)
    """The roles whose trust policy names a principal, by its ARN; under `*` those that name everybody."""
    asserted: list[tuple[str, Principal, tuple[str, ...]]] = field(default_factory=list)
    """(SAML provider, role that trusts it, what its trust policy leaves open beside the assertion)."""
    assumed: dict[str, dict[str, Right]] = field(default_factory=dict)
    """The roles that a principal may assume as it is, each by its ARN."""
    asking_tags: dict[tuple[Condition, ...], Statement] = field(default_factory=dict)
    """The statements of resources that ask for tags of who comes, one for each of their conditions."""
    letting_account: list[Principal] = field(default_factory=list)
    """The roles whose trust policy names the whole account."""

    _known: set[Name] = field(default_factory=set)
    _titles: dict[Name, str] = field(default_factory=dict)
    _indexes: dict[str, Sorted[Principal]] = field(default_factory=dict)
    pipelines: set[str] = field(default_factory=set)
    """The GitHub repositories that some trust policy names without a wildcard."""

    def spend(self) -> bool:
        """Tell whether one more request may be tried."""
        self.tried += 1
        return self.tried <= MAX_TRIED

    def knows(self, resource: Name) -> bool:
        """Tell whether the account's own facts describe a resource."""
        return resource in self._known

    def candidates(self, permissions: Permissions) -> list[Principal]:
        """The roles that a principal of the account could assume at all."""
        me = permissions.principal.arn
        roles = [*self.named_by.get(me, ()), *self.named_by.get("*", ())]
        roles.extend(self.met("letting", self.letting_account, permissions, "sts:assumerole"))
        return [role for role in {role.arn: role for role in roles}.values() if role.arn != me]

    def met(self, key: str, among: Iterable[Principal], permissions: Permissions, action: str) -> Iterator[Principal]:
        """Those of `among` (always the same for one `key`) about which the principal's own policies allow `action`.

        Whether it may is asked of each: this only leaves out those of which no statement speaks.
        """
        if key not in self._indexes:
            self._indexes[key] = Sorted((each.arn, each) for each in {each.arn: each for each in among}.values())
        found: dict[str, Principal] = {}
        for entry in permissions.allowing(action):
            for pattern in ("*",) if entry.statement.not_resources else entry.statement.resources:
                found.update((each.arn, each) for each in self._indexes[key].met(pattern))
        return iter(found.values())

    def __post_init__(self) -> None:
        self.spread = Spread(self.account.id)

    @property
    def titles(self) -> dict[Name, str]:
        """What principals are called."""
        if not self._titles:
            self._titles.update((self.name(each), f"{each.kind} {each.name}") for each in self.account.principals())
            self._titles[root_name(self.account.id)] = "administrator"
        return self._titles

    def name(self, principal: Principal) -> Name:
        make = user_name if principal.kind == "user" else role_name
        return make(self.account.id, principal.path, principal.name)


def survey(account: Account) -> Estate:
    """Compute what all principals share."""
    estate = Estate(account)
    estate.running = things(account)
    for principal in account.principals():
        permissions = estate.permissions[principal.arn] = Permissions(account, principal)
        if any(entry.statement.meets_action("sts:assumerole") for entry in permissions.allows):
            estate.assuming.add(principal.arn)
        _index_services(estate, principal)
        _index_trust(estate, principal)
        for policy in principal.policies:
            _collect(estate, policy)
    for group in account.groups.values():
        for policy in group.policies:
            _collect(estate, policy)
    for held in account.held.by_arn.values():
        estate.asking_tags.update((one.conditions, one) for one in held.statements if _asks_tags(one))
    _list(estate)
    estate.powerful = tuple(arn for arn, policy in account.managed.items() if _all_of_iam(policy))
    estate.strong_groups = tuple(g for g in account.groups.values() if any(map(_all_of_iam, g.policies)))
    return estate


def _asks_tags(statement: Statement) -> bool:
    return any(test.key.lower().startswith("aws:principaltag/") for test in statement.conditions)


def _index_services(estate: Estate, role: Principal) -> None:
    if role.path.startswith("/aws-service-role/"):
        return  # only the service itself uses it; nobody can pass it
    for service in services_of(role):
        conditions = serves(estate.account, role, service)
        if conditions is not None:
            estate.trusting.setdefault(service, []).append(role)
            estate.serving.setdefault(service, {})[role.arn] = conditions


def _all_of_iam(policy: Policy) -> bool:
    return any(
        s.allow and not s.conditions and s.covers_action("iam:*") and s.covers_resource("*") for s in policy.statements
    )


def _list(estate: Estate) -> None:
    """What was listed by name is there, whether or not a policy names it."""
    account = estate.account
    for arn in account.held.by_arn:
        _note(estate, f"{arn}/*" if ":s3:" in arn else arn)
    for one in account.extras.beyond.get("Buckets", ()):
        if isinstance(one.get("Name"), str) and one["Name"]:
            _note(estate, f"arn:{account.partition}:s3:::{one['Name']}/*")
    for key, field_name in (("SecretList", "ARN"), ("Parameters", "ARN")):
        for one in account.extras.beyond.get(key, ()):
            arn = str(one.get(field_name) or "")
            if not arn and isinstance(one.get("Name"), str):
                arn = f"arn:{account.partition}:ssm:*:{account.id}:parameter/{one['Name'].lstrip('/')}"
            _note(estate, arn)


def _note(estate: Estate, arn: str) -> None:
    parsed = parse_arn(arn)
    if parsed is None or parsed.service in ("", "iam", "sts") or "*" in parsed.service:
        return
    name, kind, title = resource_of(arn, estate.account.id)
    known = estate.spread.resources.setdefault(parsed.service, {})
    estate._known.add(name)
    if name not in known or len(arn) > len(known[name].pattern):
        known[name] = Concrete(pattern=arn, name=name, kind=kind, title=title)


def _index_trust(estate: Estate, role: Principal) -> None:
    for statement in role.trust:
        for test in statement.conditions if statement.allow else ():
            if test.key.lower() == f"{GITHUB}:sub":
                named = (pipeline_of(value) for value in test.values)
                estate.pipelines.update(p[0] for p in named if p and not any(wild in p[0] for wild in "*?"))
        if statement.not_principals:
            estate.letting_account.append(role)
        for kind, value in statement.principals:
            if kind == "*":
                estate.named_by.setdefault("*", []).append(role)
            elif kind == "AWS" and account_of(value) == estate.account.id:
                estate.letting_account.append(role)
            elif kind == "Federated" and ":saml-provider/" in value and statement.allow:
                tests = (one for one in statement.conditions if not one.key.lower().startswith("saml:"))
                if statement.meets_action("sts:assumerolewithsaml"):
                    estate.asserted.append((value, role, tuple(test.text for test in tests)))
            elif kind == "AWS" and (found := estate.account.by_arn(value)) is not None:
                estate.named_by.setdefault(found.arn, []).append(role)


def _collect(estate: Estate, policy: Policy) -> None:
    for statement in policy.statements:
        for pattern in statement.resources:
            name, kind, title = resource_of(pattern, estate.account.id)
            service = pattern.split(":")[2] if pattern.count(":") >= 5 else "*"
            if service in ("*", "iam", "sts") or any(wild in title for wild in "*?$"):
                continue
            known = estate.spread.resources.setdefault(service, {})
            estate._known.add(name)
            # A bucket is named by itself and by its objects: the longer pattern stands for what is in it.
            if name not in known or len(pattern) > len(known[name].pattern):
                known[name] = Concrete(pattern=pattern, name=name, kind=kind, title=title)
