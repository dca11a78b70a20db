"""Trust policies → who may become a role.

Within one account, a trust policy that names a principal suffices (unless that principal is denied); one that names the
account needs the principal's own policies too. Across accounts both sides must allow, and we see one: conditional.

Spec: IAM User Guide, "Cross-account policy evaluation logic", "Creating a role for web identity or OIDC".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from remit.inventory.connectors.aws.account import Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.context import resource_context
from remit.inventory.connectors.aws.estate import Estate
from remit.inventory.connectors.aws.naming import (
    GITHUB,
    account_of,
    parse_arn,
    pipeline_name,
    pipeline_of,
    principal_name,
    principals_name,
    subject_name,
)
from remit.inventory.connectors.aws.patterns import covers, literal, plain, shared
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.policy import Condition, Statement
from remit.inventory.connectors.aws.resource_policies import match
from remit.inventory.connectors.aws.tagging import (
    OF_PRINCIPALS,
    OF_REQUESTS,
    after,
    alike,
    may_tag,
    retagged,
    tagging,
    wanted,
)
from remit.inventory.connectors.aws.variables import Known, Like, Value
from remit.kernel.ids import Name, name

_ASSUME = "sts:assumerole"
_WEB = "sts:assumerolewithwebidentity"
_SAML = "sts:assumerolewithsaml"
_TAG = "sts:tagsession"
ANYONE = name("aws", "*", "principals", "*")
"""Any principal of any account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Somebody who may become the role."""

    source: Name
    why: str
    conditions: tuple[str, ...] = ()
    names: str = ""
    """The principal, as the trust policy has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """A trust that is too wide: `open`, `any-subject`, `wide-subject` or `no-external-id`."""

    what: str
    detail: str


def assumable(estate: Estate, permissions: Permissions, role: Principal) -> Right | None:
    """Tell whether a principal of the same account may assume the role, if need be once it wrote the tags that are
    asked for, with the session tags and the name of the session that it chooses."""
    best: Right | None = None
    for known, before in _requests(estate, permissions, role):
        right = _assumed(estate, permissions, role, _ASSUME, known)
        if right is None:
            continue
        conditions = tuple(dict.fromkeys((*(before.conditions if before else ()), *right.conditions)))
        if best is None or len(conditions) < len(best.conditions):
            why = f"{right.why}, with the tags that {before.why} lets it give" if before else right.why
            best = Right(why=why, conditions=conditions)
            if not conditions:
                break
    return best


def _requests(
    estate: Estate, permissions: Permissions, role: Principal
) -> Iterator[tuple[dict[str, Value], Right | None]]:
    """What may be known of requests for the role: as it is, with tags of its session, and once its tags are changed."""
    plain = {**permissions.context, **resource_context(permissions.account, _ASSUME, role.arn), **_UNTAGGED}
    yield plain, None
    asking = (*role.trust, *permissions.asking_tags(_ASSUME))
    if not any("tag/" in test.key.lower() for one in asking for test in one.conditions) or not estate.spend():
        return
    yield from _with_session_tags(estate, permissions, role, plain)
    for tagged in retagged(permissions, _ASSUME, role, role.trust):
        estate.spend()
        known = {**plain, **tagged.known}
        yield known, tagged.right
        yield from ((one, tagged.right) for one, _ in _with_session_tags(estate, permissions, role, known))
    if may_tag(permissions, permissions.principal):
        for tags in (*wanted(asking, OF_PRINCIPALS, plain), *alike(asking, role)):
            estate.spend()
            own = tagging(permissions, permissions.principal, tags)
            if own is not None:
                yield after(plain, OF_PRINCIPALS, tags), own.right


_UNTAGGED: Final[dict[str, Value]] = {"aws:requesttag/*": (), "aws:tagkeys": (), "sts:transitivetagkeys": ()}


def _with_session_tags(
    estate: Estate, permissions: Permissions, role: Principal, plain: dict[str, Value]
) -> Iterator[tuple[dict[str, Value], Right | None]]:
    """The session tags that its own statements and the trust policy ask for, where it may pass some."""
    for tags in wanted((*role.trust, *permissions.asking_tags(_ASSUME)), OF_REQUESTS, plain):
        keys = tuple(key for key, value in tags.items() if value)
        known = after(plain, OF_REQUESTS, tags) | {"aws:tagkeys": keys}
        passing = _assumed(estate, permissions, role, _TAG, known) if keys else None
        if passing is not None and not passing.conditions:
            yield known, None


def _assumed(estate: Estate, permissions: Permissions, role: Principal, action: str, known: Known) -> Right | None:
    unless = _denied(estate, role, permissions.principal, action, known)
    best: Right | None = None
    for statement in role.trust if unless is not None else ():
        if not statement.allow or not statement.meets_action(action):
            continue
        tests = remaining(statement.conditions, known)
        asked = (action, (*(tests or ()), *(unless or ())), known)
        right = None if tests is None else _by_statement(estate, statement, permissions, role, *asked)
        if right is not None:
            right = replace(right, conditions=not_chosen(permissions, right.conditions))
        if right is not None and (best is None or len(right.conditions) < len(best.conditions)):
            best = right
    return best


def not_chosen(permissions: Permissions, conditions: tuple[str, ...]) -> tuple[str, ...]:
    """Without those on the name of the session, which is chosen; two of them may exclude each other."""
    named = [text for text in conditions if "sts:rolesessionname" in text.lower()]
    own = _OWN_NAME if permissions.principal.kind == "user" else ""
    free = len(named) == 1 and "${" not in named[0].replace(own, "") and " and " not in named[0]
    return tuple(text for text in conditions if text not in named) if free else conditions


_OWN_NAME: Final = "${aws:username}"


def _by_statement(
    estate: Estate,
    statement: Statement,
    permissions: Permissions,
    role: Principal,
    action: str,
    tests: tuple[str, ...],
    known: Known,
) -> Right | None:
    how, whole = _names(estate, statement, permissions.principal)
    if how:
        # A boundary binds where the role of a session is named, or everybody; not where a user or a session is.
        bounded = how in ("everybody", "role")
        limits = permissions.limits(action, role.arn, known, bounded=bounded)
        if limits is not None:
            conditions = tuple(dict.fromkeys((*tests, *limits)))
            return Right(why=f"the trust policy of {role.name} names it", conditions=conditions)
    if whole:
        own = permissions.may(action, role.arn, known)
        if own is not None:
            why = f"the trust policy of {role.name} names the account, and {own.why} allows sts:AssumeRole"
            return Right(why=why, conditions=tuple(dict.fromkeys((*tests, *own.conditions))))
    return None


def _names(estate: Estate, statement: Statement, principal: Principal) -> tuple[str, bool]:
    """How the statement names the principal (`user`, `role`, `session`, `everybody`, or not), and its account."""
    if statement.not_principals:
        excepted = {value for _, value in statement.principals}
        return "", not excepted & {principal.arn, estate.account.id, f"arn:aws:iam::{estate.account.id}:root"}
    how, whole = "", False
    for kind, value in statement.principals:
        if kind == "*":
            how = how or "everybody"
        elif kind == "AWS":
            found = estate.account.by_arn(value)
            if found is not None and found.arn == principal.arn:
                session = ":assumed-role/" in value
                how = "session" if session or how == "session" else principal.kind
            whole = whole or account_of(value) == estate.account.id
    return how, whole


def _denied(estate: Estate, role: Principal, principal: Principal, action: str, known: Known) -> tuple[str, ...] | None:
    """The conditions under which the trust policy does not refuse it; `None` where it always does."""
    found: list[str] = []
    for statement in role.trust:
        tests = remaining(statement.conditions, known)
        if statement.allow or tests is None or not statement.covers_action(action):
            continue
        met = match(statement, principal, estate.account.id)
        if met is not None:
            if not (tests or met.conditions):
                return None
            open = " and ".join((*met.conditions, *tests))
            found.append(f"unless {open} (the trust policy of {role.name} denies)")
    return tuple(found)


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


def _refused(role: Principal, kind: str, value: str, action: str, known: Known) -> tuple[str, ...] | None:
    """What the denials of the trust policy leave open for a principal that it names; `None` where one refuses it."""
    found: list[str] = []
    number = account_of(value) or ((arn := parse_arn(value)) and arn.account)
    for statement in role.trust:
        if statement.allow or not statement.covers_action(action):
            continue
        named = any(
            each == "*" or (each == kind and (one == value or (kind == "AWS" and account_of(one) == number)))
            for each, one in statement.principals
        )
        tests = remaining(statement.conditions, known) if named != statement.not_principals else None
        if tests == ():
            return None
        if tests is not None:
            found.append(f"unless {' and '.join(tests)} (the trust policy of {role.name} denies)")
    return tuple(found)


def _trusted(estate: Estate, role: Principal, statement: Statement, kind: str, value: str) -> Iterator[Trusted | Flaw]:
    known: dict[str, Value] = {"aws:securetransport": "true", "aws:principalisawsservice": "false"}
    arn = parse_arn(value) if kind == "AWS" else None
    number = account_of(value) if kind == "AWS" else None
    if arn is not None and number is None:
        known["aws:principalarn"] = value
    if number or (arn is not None and arn.account.isdigit()):
        known["aws:principalaccount"] = number or (arn.account if arn else "")
    refused = _refused(role, kind, value, _ASSUME, known) if kind in ("*", "AWS") else ()
    if refused is None:
        return
    tests = remaining(statement.conditions, known)
    if tests is None:
        return
    match kind:
        case "*" if statement.meets_action(_ASSUME):
            why = f"the trust policy of {role.name} names everybody"
            yield Trusted(source=ANYONE, why=why, conditions=(*tests, *refused))
            guarded = any(test.key.lower() in _GUARDS for test in statement.conditions)
            if not guarded:
                yield Flaw(what="open", detail="it names everybody, and no condition limits to whom")
        case "Federated" if statement.meets_action(_WEB) or statement.meets_action(_SAML):
            yield from _federated(estate, role, statement, value)
        case "AWS" if statement.meets_action(_ASSUME):
            yield from _foreign(estate, role, statement, value, (*tests, *refused))
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
    why = f"the trust policy of {role.name} names {value}"
    yield Trusted(source=source, why=why, conditions=(*tests, both), names=value)
    if whole and not any(test.key.lower() in _GUARDS for test in statement.conditions):
        yield Flaw(
            what="no-external-id", detail=f"every principal of account {other} may be let in, without ExternalId"
        )


def _federated(estate: Estate, role: Principal, statement: Statement, provider: str) -> Iterator[Trusted | Flaw]:
    arn = parse_arn(provider)
    issuer = arn.resource.partition("/")[2] if arn and arn.resource.startswith("oidc-provider/") else None
    if issuer is None:
        source = name("aws", arn.account if arn else "*", "identity-provider", arn.resource if arn else provider)
        known: Known = {"saml:aud": "https://signin.aws.amazon.com/saml"}
        tests = remaining(statement.conditions, known)
        refused = _refused(role, "Federated", provider, _SAML, known)
        if tests is not None and refused is not None:
            why = f"the trust policy of {role.name} names {provider}"
            yield Trusted(source=source, why=why, conditions=(*tests, *refused), names=provider)
        return
    key = f"{issuer}:sub".lower()
    named = [t for t in statement.conditions if t.key.lower() == key and _positive(t)]
    subjects = _subjects(named)
    # A token always has a subject and an audience.
    present = (f"{issuer}:sub".lower(), f"{issuer}:aud".lower())
    others = tuple(
        test.text
        for test in statement.conditions
        if test not in named
        and not (test.operator.lower() == "null" and test.key.lower() in present and test.values == ("false",))
        and not (test.key.lower() == f"{issuer}:aud".lower() and _positive(test))
    )
    if not named or any(covers(subject, "repo:*") for subject in subjects):
        yield Flaw(what="any-subject", detail=f"it lets in every subject of {issuer}")
    for subject in subjects if named else ["*"]:
        for found, exact in _subject(estate, role, issuer, subject, others):
            if isinstance(found, Flaw):
                yield found
                continue
            refused = _refused(role, "Federated", provider, _WEB, {key: Like(exact)})
            if refused is not None:
                yield replace(found, conditions=(*found.conditions, *refused))


def _positive(test: Condition) -> bool:
    """Tell whether a test is of equality or likeness."""
    operator = test.operator.lower()
    return "not" not in operator and ("equals" in operator or "like" in operator)


def _subjects(tests: list[Condition]) -> list[str]:
    """The patterns of subjects that all tests let in; a value to which something must be equal has no wildcards."""
    found: list[str] | None = None
    for test in tests:
        like = "like" in test.operator.lower()
        values = [value if like else literal(value) for value in test.values]
        if found is not None:
            values = [both[0] for one in found for value in values if (both := shared(one, value)) is not None]
        found = list(dict.fromkeys(values))
    return found or []


def _subject(
    estate: Estate, role: Principal, issuer: str, subject: str, others: tuple[str, ...]
) -> Iterator[tuple[Trusted | Flaw, str]]:
    """The subject itself; for GitHub also its repository, or each repository known that a wildcard lets in; each with
    the pattern of its subjects."""
    why = f"the trust policy of {role.name} lets in {plain(subject)} of {issuer}"
    names = f"the subject {plain(subject)}"
    yield Trusted(source=subject_name(issuer, plain(subject)), why=why, conditions=others, names=names), subject
    if issuer != GITHUB:
        return
    repository, rest = pipeline_of(subject) or ("*", "*")
    narrowed = () if rest == "*" else (f"the run is {rest}",)
    if "*" not in repository and "?" not in repository:
        source = pipeline_name(repository)
        yield Trusted(source=source, why=why, conditions=(*others, *narrowed), names=names), subject
        return
    if repository != "*":
        yield Flaw(what="wide-subject", detail=f"it lets in every repository that matches {repository}"), subject
    for known in sorted(estate.pipelines):
        if covers(repository, known):
            found = Trusted(source=pipeline_name(known), why=why, conditions=(*others, *narrowed), names=names)
            yield found, f"repo:{known}:{rest}"
