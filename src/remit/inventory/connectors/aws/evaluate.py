"""One request, decided as IAM would: allowed, denied, or under conditions that only the request could tell.

Spec: IAM User Guide, "Policy evaluation logic", "Cross-account policy evaluation logic".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.context import resource_context
from remit.inventory.connectors.aws.naming import account_of, parse_arn
from remit.inventory.connectors.aws.patterns import literal
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.policy import Policy
from remit.inventory.connectors.aws.resource_policies import match
from remit.inventory.connectors.aws.variables import Known, Value
from remit.kernel.errors import Rejected

_ASSUME = "sts:assumerole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What would become of a request."""

    decision: Literal["allow", "deny", "conditional"]
    explicit: bool = False
    """Whether a statement denies it: nothing that is granted beside changes that."""
    because: tuple[str, ...] = ()
    """The policies that decide: of a denial those that deny, of anything else those that allow."""
    conditions: tuple[str, ...] = ()


def link(accounts: Iterable[Account]) -> None:
    """Let accounts know of each other, so that both sides of a request across accounts are weighed."""
    linked = {account.id: account for account in accounts}
    homes = {arn: each.id for each in linked.values() for arn in each.held.by_arn if ":s3:" in arn}
    for account in linked.values():
        account.homes = homes
        account.others = {number: other for number, other in linked.items() if other is not account}


def simulate(
    accounts: Account | Sequence[Account],
    principal_arn: str,
    action: str,
    resource: str,
    context: Mapping[str, Value] | None = None,
    *,
    session: tuple[Policy, ...] | None = None,
) -> Answer:
    """Decide a request of a user, a role or a role's session; `resource` is one ARN, or `*` where there is none.

    `context`: what is known of the request beyond the principal; keys in any case. Several accounts are linked by
    `link` before. Raises `Rejected` (`inventory.aws.unknown-principal`) for a principal that no account shows.
    """
    known = [accounts] if isinstance(accounts, Account) else accounts
    account, principal = _find(known, principal_arn)
    told: dict[str, Value] = {key.lower(): value for key, value in (context or {}).items()}
    principal = replace(principal, session=_session(principal_arn))
    permissions = Permissions(account, principal, session=session, told=told)
    lowered, asked = action.lower(), literal(resource)
    role = _role(known, resource) if lowered == _ASSUME else None
    right = permissions.may(action, asked, told) if role is None else assuming(permissions, *role, told)
    denials = permissions.refusing(lowered, asked, told)
    if role is not None:
        denials += _trust_denials(permissions, *role, told)
    if denials:
        return Answer(decision="deny", explicit=True, because=denials)
    if right is None:
        return Answer(decision="deny")
    decision: Literal["allow", "conditional"] = "conditional" if right.conditions else "allow"
    return Answer(decision=decision, because=(right.why,), conditions=right.conditions)


def assuming(
    permissions: Permissions, owner: Account, role: Principal, known: Mapping[str, Value] | None = None
) -> Right | None:
    """Whether a principal may assume a role, of its own account or of another: what the role's trust says decides
    first, then, where the trust does not name the principal itself or accounts differ, its own policies."""
    context: Known = {**permissions.context, **resource_context(owner, _ASSUME, role.arn), **(known or {})}
    refused: list[str] = []
    for _, tests in _trusting(permissions, owner, role, context, allow=False):
        if not tests:
            return None
        refused.append(f"unless {' and '.join(tests)} (the trust policy denies)")
    same = owner.id == permissions.account.id
    best: Right | None = None
    for how, tests in _trusting(permissions, owner, role, context, allow=True):
        why, more = f"the trust policy of {role.name} names it", None
        if same and how != "account":
            bounded = permissions.principal.kind == "role" and how != "session"
            more = permissions.limits(_ASSUME, role.arn, context, bounded=bounded)
        elif (own := permissions.may(_ASSUME, role.arn, known)) is not None:
            why, more = f"the trust policy of {role.name} lets it in, and {own.why} allows it", own.conditions
        if more is not None and (best is None or len(tests) + len(more) < len(best.conditions)):
            best = Right(why=why, conditions=tuple(dict.fromkeys((*tests, *more))))
    return None if best is None else Right(why=best.why, conditions=(*best.conditions, *refused))


def _trusting(
    permissions: Permissions, owner: Account, role: Principal, context: Known, *, allow: bool
) -> Iterable[tuple[str, tuple[str, ...]]]:
    """How the statements of a trust policy take in a principal, and what stays open of each."""
    for statement in role.trust:
        if statement.allow is not allow or not statement.meets_action(_ASSUME):
            continue
        found = match(statement, permissions.principal, owner.id)
        tests = remaining(statement.conditions, context) if found else None
        if found is not None and tests is not None:
            yield found.how, (*found.conditions, *tests)


def _trust_denials(
    permissions: Permissions, owner: Account, role: Principal, known: Mapping[str, Value]
) -> tuple[str, ...]:
    context: Known = {**permissions.context, **resource_context(owner, _ASSUME, role.arn), **known}
    denied = any(not tests for _, tests in _trusting(permissions, owner, role, context, allow=False))
    return (f"the trust policy of {role.name}",) if denied else ()


def _find(accounts: Sequence[Account], arn: str) -> tuple[Account, Principal]:
    for account in accounts:
        parsed = parse_arn(arn)
        if parsed is not None and parsed.account == account.id and account_of(arn) is None:
            found = account.by_arn(arn)
            if found is not None:
                return account, found
    raise Rejected(
        "inventory.aws.unknown-principal",
        f"no account shows the user or role `{arn[:200]}`",
        next_step="discover the account that it belongs to",
    )


def _role(accounts: Sequence[Account], arn: str) -> tuple[Account, Principal] | None:
    parsed = parse_arn(arn)
    for account in accounts:
        if parsed is not None and parsed.account == account.id and parsed.resource.startswith("role/"):
            found = account.by_arn(arn)
            if found is not None:
                return account, found
    return None


def _session(arn: str) -> str:
    return arn.split("/", 2)[2] if ":assumed-role/" in arn and arn.count("/") >= 2 else ""
