"""An account with what is computed once for all of its principals."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.naming import GITHUB, account_of, pipeline_of, resource_of, role_name, user_name
from remit.inventory.connectors.aws.permissions import Permissions
from remit.inventory.connectors.aws.policy import Policy
from remit.kernel.ids import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Concrete:
    """A resource that some policy names without a wildcard in its name."""

    pattern: str
    name: Name
    kind: str
    title: str


@dataclass(slots=True)
class Estate:
    """Permissions by ARN, roles by the service that they trust, and the resources that policies name."""

    account: Account
    permissions: dict[str, Permissions] = field(default_factory=dict)
    trusting: dict[str, list[Principal]] = field(default_factory=dict)
    resources: dict[str, dict[Name, Concrete]] = field(default_factory=dict)
    assuming: set[str] = field(default_factory=set)
    """ARNs of principals whose own policies allow to assume some role."""
    named_by: dict[str, list[Principal]] = field(default_factory=dict)
    """The roles whose trust policy names a principal, by its ARN; under `*` those that name everybody."""
    letting_account: list[Principal] = field(default_factory=list)
    """The roles whose trust policy names the whole account."""

    _known: set[Name] = field(default_factory=set)
    pipelines: set[str] = field(default_factory=set)
    """The GitHub repositories that some trust policy names without a wildcard."""

    def knows(self, resource: Name) -> bool:
        """Tell whether the account's own facts describe a resource."""
        return resource in self._known

    def candidates(self, principal: Principal) -> list[Principal]:
        """The roles that a principal of the account could assume at all."""
        roles = [*self.named_by.get(principal.arn, ()), *self.named_by.get("*", ())]
        if principal.arn in self.assuming:
            roles.extend(self.letting_account)
        return [role for role in {role.arn: role for role in roles}.values() if role is not principal]

    def name(self, principal: Principal) -> Name:
        make = user_name if principal.kind == "user" else role_name
        return make(self.account.id, principal.path, principal.name)


def survey(account: Account) -> Estate:
    """Compute what all principals share."""
    estate = Estate(account)
    trusting: dict[str, list[Principal]] = defaultdict(list)
    for principal in account.principals():
        permissions = estate.permissions[principal.arn] = Permissions(account, principal)
        if any(entry.statement.meets_action("sts:assumerole") for entry in permissions.allows):
            estate.assuming.add(principal.arn)
        for service in dict.fromkeys(
            value for s in principal.trust if s.allow for kind, value in s.principals if kind == "Service"
        ):
            trusting[service].append(principal)
        _index_trust(estate, principal)
        for policy in principal.policies:
            _collect(estate, policy)
    for group in account.groups.values():
        for policy in group.policies:
            _collect(estate, policy)
    estate.trusting = dict(trusting)
    return estate


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
            elif kind == "AWS" and (found := estate.account.by_arn(value)) is not None:
                estate.named_by.setdefault(found.arn, []).append(role)


def _collect(estate: Estate, policy: Policy) -> None:
    for statement in policy.statements:
        for pattern in statement.resources:
            name, kind, title = resource_of(pattern, estate.account.id)
            service = pattern.split(":")[2] if pattern.count(":") >= 5 else "*"
            if service in ("*", "iam", "sts") or any(wild in title for wild in "*?$"):
                continue
            known = estate.resources.setdefault(service, {})
            estate._known.add(name)
            # A bucket is named by itself and by its objects: the longer pattern stands for what is in it.
            if name not in known or len(pattern) > len(known[name].pattern):
                known[name] = Concrete(pattern=pattern, name=name, kind=kind, title=title)
