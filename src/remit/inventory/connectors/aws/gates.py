"""What a resource's own policy must say besides: across accounts always, and for keys of KMS even within one.

Spec: IAM User Guide, "Cross-account policy evaluation logic"; KMS Developer Guide, "Key policies in AWS KMS".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.patterns import covers
from remit.inventory.connectors.aws.policy import Statement
from remit.inventory.connectors.aws.resource_policies import Match, ResourcePolicy, match
from remit.inventory.connectors.aws.variables import Known

_NUMBER: Final = re.compile(r"\d{12}")
_NOT_OF_KEYS: Final = re.compile(
    r"kms:(createkey|list(keys|aliases|\*)?|describecustomkeystores|.*customkeystore.*)?\*?"
)


def gate(
    account: Account, principal: Principal, action: str, resource: str, context: Known, *, granted: bool
) -> tuple[str, ...] | None:
    """What the policy of the resource leaves open; `None` where it does not let the principal in.

    `granted`: the resource's own policy is what allows it. Who may assume a role is told by its trust policy, not here.
    """
    if granted or action.startswith("sts:"):
        return ()
    owner = owner_of(account, resource)
    if owner != account.id:
        return _across(account, principal, owner, action, resource, context)
    if action.startswith("kms:"):
        return _of_key(account, principal, action, resource, context)
    return ()


def granting(account: Account, principal: Principal, resource: str) -> list[tuple[ResourcePolicy, Statement, Match]]:
    """The statements by which a resource of another account lets a principal in, where its policy is shown."""
    owner = owner_of(account, resource)
    other = account.others.get(owner) if owner != account.id else None
    return [
        (policy, statement, found)
        for policy in (_policies(other, resource) if other else ())
        for statement in policy.statements
        if statement.allow and (found := match(statement, principal, policy.owner)) is not None
    ]


def owner_of(account: Account, resource: str) -> str:
    """The account of a resource; where neither its ARN nor the estate says, the one that asks."""
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return account.id
    if _NUMBER.fullmatch(parts[4]):
        return parts[4]
    if not account.homes or parts[2] != "s3":
        return account.id
    return account.homes.get(":".join((*parts[:5], parts[5].partition("/")[0])), account.id)


def _across(
    account: Account, principal: Principal, owner: str, action: str, resource: str, context: Known
) -> tuple[str, ...] | None:
    other = account.others.get(owner)
    policies = _policies(other, resource) if other else []
    if not policies:
        return (f"the policy of the resource in account {owner} allows it",)
    found = _allowed(policies, principal, action, resource, context)
    if found is None and "*" in resource:
        return (f"the policy of the resource in account {owner} allows it",)
    return found


def _of_key(
    account: Account, principal: Principal, action: str, resource: str, context: Known
) -> tuple[str, ...] | None:
    parts = resource.split(":", 5)
    if _NOT_OF_KEYS.fullmatch(action) or (len(parts) == 6 and not covers("key/*", parts[5]) and "*" not in parts[5]):
        return ()
    policies = [policy for policy in _policies(account, resource) if ":kms:" in policy.arn]
    found = _allowed(policies, principal, action, resource, context) if policies else None
    if found is None and (not policies or "*" in resource):
        return ("the policy of the key lets the account's own policies decide",)
    return found


def _policies(account: Account, resource: str) -> list[ResourcePolicy]:
    """The policies of what a pattern stands for."""
    found = account.held.of(resource)
    if found is not None or "*" not in resource:
        return [found] if found else []
    return [policy for arn, policy in account.held.by_arn.items() if covers(resource, arn)]


def _allowed(
    policies: Iterable[ResourcePolicy], principal: Principal, action: str, resource: str, context: Known
) -> tuple[str, ...] | None:
    best: tuple[str, ...] | None = None
    for policy in policies:
        for statement in policy.statements:
            found = match(statement, principal, policy.owner) if statement.allow else None
            if found is None or not statement.meets_action(action) or not statement.meets_resource(resource):
                continue
            tests = remaining(statement.conditions, context)
            if tests is not None and (best is None or len(tests) + len(found.conditions) < len(best)):
                best = (*found.conditions, *tests)
    return best
