"""Across the border of an account: roles that principals of other accounts may assume, and what resources give away.

Spec: IAM User Guide, "Cross-account policy evaluation logic", "How IAM roles differ from resource-based policies".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Final

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.cuts import trust_cut
from remit.inventory.connectors.aws.estate import Estate
from remit.inventory.connectors.aws.evaluate import assuming
from remit.inventory.connectors.aws.growth import GIVEN, Step
from remit.inventory.connectors.aws.naming import (
    account_of,
    parse_arn,
    principal_name,
    principals_name,
    resource_of,
    root_name,
    service_name,
)
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.plan import plan_of
from remit.inventory.connectors.aws.policy import Statement
from remit.inventory.connectors.aws.resource_policies import ResourcePolicy
from remit.inventory.connectors.aws.tagging import OF_PRINCIPALS, after, may_tag, tagging, wanted
from remit.inventory.connectors.aws.trust import not_chosen
from remit.inventory.connectors.aws.variables import Value
from remit.inventory.model import EdgeFact, Fact, Place, Relation, ResourceFact, Sensitivity, Skipped
from remit.kernel.ids import Name, name

MAX_EDGES: Final = 20_000
"""Edges into one role; what is beyond is reported as skipped."""
_ASSUME: Final = "sts:assumerole"
_ANYONE: Final = name("aws", "*", "principals", "*")
_UNBLOCKED: Final = "public access to the bucket is not blocked"


def crossing_facts(estate: Estate, role: Principal, beside: Mapping[str, Estate], place: Place) -> Iterator[Fact]:
    """The principals of the other accounts of the estate that may assume a role: both sides are weighed."""
    count = 0
    for other in beside.values():
        if other is estate:
            continue
        tried = chain(
            ((one.arn, other.name(one), _let_in(other, estate.account, one, role)) for one in _candidates(other, role)),
            [(other.account.id, root_name(other.account.id), _administrator(other, estate.account, role))],
        )
        for arn, source, right in tried:
            if right is None:
                continue
            count += 1
            if count > MAX_EDGES:
                detail = f"more than {MAX_EDGES} principals of other accounts"
                yield Skipped(what=f"who may assume {role.arn}", reason="too-large", detail=detail)
                return
            yield EdgeFact(
                source=source,
                relation=Relation.ASSUME,
                target=estate.name(role),
                evidence=right.why,
                place=place,
                actions=("sts:AssumeRole",),
                conditions=right.conditions,
                cut=trust_cut(role, arn),
            )


def _let_in(other: Estate, owner: Account, principal: Principal, role: Principal) -> Right | None:
    """Whether a principal may assume the role as it is, with tags that it may write, or after steps of its own."""
    best: Right | None = None
    reach = plan_of(other).reaches.get(principal.arn)
    tries: list[tuple[tuple[Step, ...], Permissions]] = [((), other.permissions[principal.arn])]
    tries += [(state.steps, state.permissions) for state in (reach.states[1:] if reach else ())]
    for steps, permissions in tries:
        for known, before in _known(permissions, role):
            right = assuming(permissions, owner, role, known)
            if right is None:
                continue
            open = (text for step in steps for text in step.held.conditions)
            chosen = not_chosen(permissions, right.conditions)
            conditions = tuple(dict.fromkeys((*open, *(before.conditions if before else ()), *chosen)))
            if best is None or len(conditions) < len(best.conditions):
                words = (*(f"after {' + '.join(step.actions)}" for step in steps), *([before.why] if before else []))
                best = Right(why=", ".join((right.why, *words)), conditions=conditions)
            if not conditions:
                return best
    return best


def _known(permissions: Permissions, role: Principal) -> Iterator[tuple[Mapping[str, Value], Right | None]]:
    yield {}, None
    if may_tag(permissions, permissions.principal):
        for tags in wanted(role.trust, OF_PRINCIPALS, permissions.context):
            own = tagging(permissions, permissions.principal, tags)
            if own is not None:
                yield after({}, OF_PRINCIPALS, tags), own.right


def _administrator(other: Estate, owner: Account, role: Principal) -> Right | None:
    """Whether an administrator of the other account may: it makes a principal for it, or becomes the one named."""
    whole = any(
        kind == "*" or account_of(value) == other.account.id
        for s in role.trust
        if s.allow and not s.not_principals
        for kind, value in s.principals
    )
    tries = [
        other.account.by_arn(value) for s in role.trust if s.allow for kind, value in s.principals if kind == "AWS"
    ]
    if whole:
        arn = f"arn:{other.account.partition}:iam::{other.account.id}:user/{_MADE}"
        made = Principal(kind="user", name=_MADE, arn=arn, path="/", policies=(), boundary=None, tags={}, created=None)
        tries.append(made)
    best: Right | None = None
    for principal in tries:
        if principal is None or (principal.boundary is not None and principal.name != _MADE):
            continue
        permissions = Permissions(other.account, principal, joining=(GIVEN,))
        if principal.name == _MADE:
            for key in _OF_ONE:
                permissions.context.pop(key, None)
        right = assuming(permissions, owner, role)
        if right is not None and (best is None or len(right.conditions) < len(best.conditions)):
            why = f"the trust policy of {role.name} lets in whom an administrator of account {other.account.id} can be"
            best = Right(why=why, conditions=not_chosen(permissions, right.conditions))
    return best


_MADE: Final = "x0"
_OF_ONE: Final = ("aws:principalarn", "aws:username", "aws:userid")


def settled(facts: Iterable[Fact], account: Account) -> Iterator[Fact]:
    """The facts of one account, with what the others of the estate make certain.

    Who of a shown account may assume a role is told one by one, not as a matter that it may allow; and buckets are
    those of the account that has them, which their ARNs do not say.
    """
    both_sides = {f"a policy in account {number} allows sts:AssumeRole on it" for number in account.others}
    homes = {
        resource_of(arn, account.id)[0]: resource_of(arn, other.id)[0]
        for other in account.others.values()
        for arn in other.held.by_arn
        if ":s3:" in arn
    }
    for fact in facts:
        if isinstance(fact, EdgeFact) and not both_sides.isdisjoint(fact.conditions):
            continue
        if homes and isinstance(fact, EdgeFact) and fact.target in homes:
            yield replace(fact, target=homes[fact.target])
        elif homes and isinstance(fact, ResourceFact) and fact.name in homes:
            yield replace(fact, name=homes[fact.name])
        else:
            yield fact


def _candidates(other: Estate, role: Principal) -> Iterable[Principal]:
    """Those whose own policies allow to assume some role, as far as the trust policy could take them in."""
    found: dict[str, Principal] = {}
    for statement in role.trust:
        if not statement.allow or not statement.meets_action(_ASSUME):
            continue
        wide = statement.not_principals or any(
            kind == "*" or (kind == "AWS" and account_of(value) == other.account.id)
            for kind, value in statement.principals
        )
        if wide:
            return [one for one in other.account.principals() if _may_come(other, one)]
        for kind, value in statement.principals:
            named = other.account.by_arn(value) if kind == "AWS" else None
            if named is not None and _may_come(other, named):
                found[named.arn] = named
    return found.values()


def _may_come(other: Estate, principal: Principal) -> bool:
    """Tell whether its own policies allow to assume some role, as they are or after steps."""
    if principal.arn in other.assuming:
        return True
    reach = plan_of(other).reaches.get(principal.arn)
    return reach is not None and any(state.permissions.allowing(_ASSUME) for state in reach.states[1:])


def resource_policy_facts(account: Account, place: Place) -> Iterator[Fact]:
    """What the policies of resources give to everybody, to services, and to accounts and principals not shown."""
    for policy in account.held.by_arn.values():
        node, kind, title = resource_of(policy.arn, account.id)
        told = False
        for statement in policy.statements:
            for source, conditions in _outsiders(account, policy, statement) if statement.allow else ():
                if not told:
                    told = True
                    yield _resource(node, kind, title, place)
                yield EdgeFact(
                    source=source,
                    relation=Relation.CAN_REACH,
                    target=node,
                    evidence=f"{policy.label} allows it",
                    place=place,
                    actions=statement.shown_actions,
                    conditions=conditions,
                    cut=f"remove the statement {statement.sid or ''} from {policy.label}".replace("  ", " "),
                )


def _resource(node: Name, kind: str, title: str, place: Place) -> ResourceFact:
    sensitive = kind.removeprefix("aws-") in ("secretsmanager", "kms")
    level = Sensitivity.CONFIDENTIAL if sensitive else None
    return ResourceFact(name=node, kind=kind, title=title, place=place, sensitivity=level)


def _outsiders(
    account: Account, policy: ResourcePolicy, statement: Statement
) -> Iterator[tuple[Name, tuple[str, ...]]]:
    tests = remaining(statement.conditions, {"aws:securetransport": "true"})
    denied = _denied(policy, statement)
    if tests is None or denied is None:
        return
    held = (*tests, *denied)
    if statement.not_principals:
        yield _ANYONE, ("it is none of those that NotPrincipal names", *held)
        return
    for kind, value in statement.principals:
        if kind == "*":
            yield _ANYONE, (*held, _UNBLOCKED) if ":s3:" in policy.arn else held
        elif kind == "Service":
            yield service_name(account.id, value), ("the service acts for whom the policy means", *held)
        elif kind == "AWS":
            number = account_of(value) or (arn.account if (arn := parse_arn(value)) else "")
            source = principals_name(number) if account_of(value) else principal_name(value)
            if source is not None and number not in ("", account.id) and number not in account.others:
                yield source, (f"a policy in account {number} allows it", *held)


def _denied(policy: ResourcePolicy, statement: Statement) -> tuple[str, ...] | None:
    """What the policy's own denials leave open; `None` where one is about everybody and everything that is allowed."""
    found: list[str] = []
    for denial in policy.statements:
        if denial.allow or not any(denial.meets_action(action) for action in statement.actions):
            continue
        tests = remaining(denial.conditions, {"aws:securetransport": "true"})
        if tests is None:
            continue
        everybody = any(kind == "*" for kind, _ in denial.principals)
        covers = all(denial.covers_action(action) for action in statement.actions)
        if not tests and everybody and covers and all(denial.covers_resource(one) for one in statement.resources):
            return None
        found.append(f"unless {' and '.join(tests) or 'it is what'} ({policy.label} denies)")
    return tuple(dict.fromkeys(found))
