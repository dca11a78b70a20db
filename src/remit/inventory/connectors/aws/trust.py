"""Trust policies → who may become a role.

Within one account, a trust policy that names a principal suffices (unless that principal is denied); one that names the
account needs the principal's own policies too. Across accounts both sides must allow, and we see one: conditional.

Spec: IAM User Guide, "Cross-account policy evaluation logic", "Creating a role for web identity or OIDC".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remit.inventory.connectors.aws.account import Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.estate import Estate
from remit.inventory.connectors.aws.naming import (
    GITHUB,
    account_of,
    parse_arn,
    pipeline_name,
    pipeline_of,
    principal_name,
    principals_name,
    service_name,
    subject_name,
)
from remit.inventory.connectors.aws.patterns import covers
from remit.inventory.connectors.aws.permissions import Right
from remit.inventory.connectors.aws.policy import Statement
from remit.kernel.ids import Name, name

_ASSUME = "sts:assumerole"
_WEB = "sts:assumerolewithwebidentity"
_SAML = "sts:assumerolewithsaml"
ANYONE = name("aws", "*", "principals", "*")
"""Any principal of any account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Somebody who may become the role."""

    source: Name
    why: str
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """A trust that is too wide: `open`, `any-subject`, `wide-subject` or `no-external-id`."""

    what: str
    detail: str


def assumable(estate: Estate, principal: Principal, role: Principal) -> Right | None:
    """Tell whether a principal of the same account may assume the role."""
    permissions = estate.permissions[principal.arn]
    best: Right | None = None
    for statement in role.trust:
        if not statement.allow or not statement.meets_action(_ASSUME):
            continue
        tests = remaining(statement.conditions, permissions.context)
        if tests is None or _denied(role, principal, permissions.context):
            continue
        right = _by_statement(estate, statement, principal, role, tests)
        if right is not None and (best is None or len(right.conditions) < len(best.conditions)):
            best = right
    return best


def _by_statement(
    estate: Estate, statement: Statement, principal: Principal, role: Principal, tests: tuple[str, ...]
) -> Right | None:
    permissions = estate.permissions[principal.arn]
    named, whole = _names(estate, statement, principal)
    if named:
        # A role's session is bound by its boundary even where the role is named; a user is not.
        limits = permissions.limits(_ASSUME, role.arn, bounded=principal.kind == "role")
        if limits is not None:
            return Right(why=f"the trust policy of {role.name} names it", conditions=(*tests, *limits))
    if whole:
        own = permissions.may(_ASSUME, role.arn)
        if own is not None:
            why = f"the trust policy of {role.name} names the account, and {own.why} allows sts:AssumeRole"
            return Right(why=why, conditions=tuple(dict.fromkeys((*tests, *own.conditions))))
    return None


def _names(estate: Estate, statement: Statement, principal: Principal) -> tuple[bool, bool]:
    """Whether the statement names the principal, and whether it names its account."""
    if statement.not_principals:
        return False, principal.arn not in [value for _, value in statement.principals]
    named = whole = False
    for kind, value in statement.principals:
        if kind == "*":
            named = True
        elif kind == "AWS":
            named = named or estate.account.by_arn(value) is principal
            whole = whole or account_of(value) == estate.account.id
    return named, whole


def _denied(role: Principal, principal: Principal, context: dict[str, str]) -> bool:
    for statement in role.trust:
        if statement.allow or not statement.covers_action(_ASSUME) or remaining(statement.conditions, context) != ():
            continue
        named = any(kind == "*" or value == principal.arn for kind, value in statement.principals)
        if named != statement.not_principals:
            return True
    return False


def trusted(estate: Estate, role: Principal) -> Iterator[Trusted | Flaw]:
    """Everybody outside the account's own principals who may become the role, and what is wrong with that."""
    for statement in role.trust:
        if not statement.allow:
            continue
        if statement.not_principals:
            yield Flaw(what="open", detail="it allows everybody but those it names (NotPrincipal)")
            continue
        for kind, value in statement.principals:
            yield from _trusted(estate, role, statement, kind, value)


def _trusted(estate: Estate, role: Principal, statement: Statement, kind: str, value: str) -> Iterator[Trusted | Flaw]:
    tests = remaining(statement.conditions, {}) or ()
    match kind:
        case "*" if statement.meets_action(_ASSUME):
            yield Trusted(source=ANYONE, why=f"the trust policy of {role.name} names everybody", conditions=tests)
            guarded = any(test.key.lower() in _GUARDS for test in statement.conditions)
            if not guarded:
                yield Flaw(what="open", detail="it names everybody, and no condition limits to whom")
        case "Service" if statement.meets_action(_ASSUME):
            # Conditions here (aws:SourceArn) say for whom the service acts: whoever runs code in it has the role.
            why = f"the trust policy of {role.name} names {value}"
            yield Trusted(source=service_name(estate.account.id, value), why=why)
        case "Federated" if statement.meets_action(_WEB) or statement.meets_action(_SAML):
            yield from _federated(estate, role, statement, value)
        case "AWS" if statement.meets_action(_ASSUME):
            yield from _foreign(estate, role, statement, value, tests)
        case _:
            pass


_GUARDS = frozenset(
    {"aws:principalorgid", "aws:principalorgpaths", "aws:principalaccount", "aws:principalarn", "sts:externalid"}
    | {"aws:sourceaccount", "aws:sourcearn"}
)


def _foreign(
    estate: Estate, role: Principal, statement: Statement, value: str, tests: tuple[str, ...]
) -> Iterator[Trusted | Flaw]:
    whole = account_of(value)
    if whole == estate.account.id or estate.account.by_arn(value) is not None:
        return
    source = principals_name(whole) if whole else principal_name(value)
    arn = parse_arn(value)
    if source is None or (arn is not None and arn.account == estate.account.id):
        # A principal that was deleted (`AIDA…`), or one of this account that no longer exists: nobody.
        return
    other = whole or (arn.account if arn else "?")
    both = f"a policy in account {other} allows sts:AssumeRole on it"
    yield Trusted(source=source, why=f"the trust policy of {role.name} names {value}", conditions=(*tests, both))
    if whole and not any(test.key.lower() in _GUARDS for test in statement.conditions):
        yield Flaw(
            what="no-external-id", detail=f"every principal of account {other} may be let in, without ExternalId"
        )


def _federated(estate: Estate, role: Principal, statement: Statement, provider: str) -> Iterator[Trusted | Flaw]:
    arn = parse_arn(provider)
    issuer = arn.resource.partition("/")[2] if arn and arn.resource.startswith("oidc-provider/") else None
    if issuer is None:
        source = name("aws", arn.account if arn else "*", "identity-provider", arn.resource if arn else provider)
        tests = remaining(statement.conditions, {"saml:aud": "https://signin.aws.amazon.com/saml"}) or ()
        yield Trusted(source=source, why=f"the trust policy of {role.name} names {provider}", conditions=tests)
        return
    subjects = [
        value
        for test in statement.conditions
        if test.key.lower() == f"{issuer}:sub".lower() and "not" not in test.operator.lower()
        for value in test.values
    ]
    others = tuple(
        test.text
        for test in statement.conditions
        if test.key.lower() not in (f"{issuer}:sub".lower(), f"{issuer}:aud".lower())
    )
    if not subjects or any(covers(subject, "repo:*") for subject in subjects):
        yield Flaw(what="any-subject", detail=f"it lets in every subject of {issuer}")
    for subject in subjects or ["*"]:
        yield from _subject(estate, role, issuer, subject, others)


def _subject(
    estate: Estate, role: Principal, issuer: str, subject: str, others: tuple[str, ...]
) -> Iterator[Trusted | Flaw]:
    """The subject itself; for GitHub also its repository, or each repository known that a wildcard lets in."""
    why = f"the trust policy of {role.name} lets in {subject} of {issuer}"
    yield Trusted(source=subject_name(issuer, subject), why=why, conditions=others)
    if issuer != GITHUB:
        return
    repository, rest = pipeline_of(subject) or ("*", "*")
    narrowed = () if rest == "*" else (f"the run is {rest}",)
    if "*" not in repository and "?" not in repository:
        yield Trusted(source=pipeline_name(repository), why=why, conditions=(*others, *narrowed))
        return
    if repository != "*":
        yield Flaw(what="wide-subject", detail=f"it lets in every repository that matches {repository}")
    for known in sorted(estate.pipelines):
        if covers(repository, known):
            yield Trusted(source=pipeline_name(known), why=why, conditions=(*others, *narrowed))
