"""How to close a way: the statement to change, where it stands, and the command that changes it."""

from __future__ import annotations

from collections.abc import Iterable

from remit.inventory.connectors.aws.account import Account, Group, Principal
from remit.inventory.connectors.aws.policy import Policy
from remit.inventory.connectors.aws.search import Said


def cut_of(account: Account, principal: Principal, asked: Iterable[tuple[str, str, str]]) -> str:
    """The change that takes the first of the actions away from a principal.

    `asked`: (action, resource, the words of the statement that allows it), the action that is best taken first.
    """
    for action, resource, why in asked:
        for owner, policy in _policies(account, principal):
            if policy.label != why:
                continue
            for index, statement in enumerate(policy.statements):
                if statement.allow and statement.meets_action(action.lower()) and statement.meets_resource(resource):
                    return f"take {action} out of Statement[{index}] of {policy.label}: {_command(owner, policy)}"
    return ""


def cut_of_statement(account: Account, principal: Principal, said: Said, action: str) -> str:
    """The change that takes an action out of one statement; `action` as the statement has it, or a part of that."""
    for owner, policy in _policies(account, principal):
        for index, statement in enumerate(policy.statements) if policy.label == said.label else ():
            if statement is said.statement or statement.shown_actions == said.statement.shown_actions:
                return f"take {action} out of Statement[{index}] of {policy.label}: {_command(owner, policy)}"
    return f"take {action} out of {said.label} of {principal.name}"


def cut_from(account: Account, principal: Principal, label: str, action: str) -> str:
    """The change that takes an action out of the policy of this label."""
    return cut_of(account, principal, ((action, "*", label),)) or f"narrow {label} of {principal.name}"


def trust_cut(role: Principal, what: str, index: int = -1) -> str:
    """The change of a trust policy that lets `what` out."""
    where = f"Statement[{index}].Principal of " if index >= 0 else ""
    return f"remove {what} from {where}the trust policy: aws iam update-assume-role-policy --role-name {role.name}"


def _policies(account: Account, principal: Principal) -> Iterable[tuple[Principal | Group, Policy]]:
    yield from ((principal, policy) for policy in principal.policies)
    for group in filter(None, map(account.groups.get, principal.groups)):
        yield from ((group, policy) for policy in group.policies)


def _command(owner: Principal | Group, policy: Policy) -> str:
    if policy.arn:
        if ":iam::aws:policy/" in policy.arn:
            kind = "group" if isinstance(owner, Group) else owner.kind
            return f"aws iam detach-{kind}-policy --{kind}-name {owner.name} --policy-arn {policy.arn}"
        return f"aws iam create-policy-version --policy-arn {policy.arn} --set-as-default"
    kind = "group" if isinstance(owner, Group) else owner.kind
    local = policy.label.removeprefix("inline policy ").removesuffix(f" of group {owner.name}")
    return f"aws iam put-{kind}-policy --{kind}-name {owner.name} --policy-name {local}"
