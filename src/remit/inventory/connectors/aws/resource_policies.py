"""The policies that hang on resources: buckets, keys, queues, topics, secrets, functions, repositories, tables.

Spec: IAM User Guide, "Identity-based policies and resource-based policies", "IAM JSON policy elements: Principal",
"NotPrincipal".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from remit.inventory.connectors.aws.naming import account_of, parse_arn
from remit.inventory.connectors.aws.patterns import meets, shared
from remit.inventory.connectors.aws.policy import MalformedPolicyError, Statement, parse_document

if TYPE_CHECKING:
    from remit.inventory.connectors.aws.account import Principal

_MAX_POLICIES: Final = 200_000
_KEYS: Final = (
    "ResourcePolicies",
    "BucketPolicies",
    "KeyPolicies",
    "QueuePolicies",
    "TopicPolicies",
    "SecretPolicies",
    "FunctionPolicies",
    "RepositoryPolicies",
    "TablePolicies",
)
_ARNS: Final = (
    *("ResourceArn", "resourceArn", "BucketArn", "KeyArn", "QueueArn", "TopicArn", "SecretArn", "FunctionArn"),
    *("RepositoryArn", "repositoryArn", "TableArn", "ARN", "Arn"),
)
_DOCUMENTS: Final = ("Policy", "ResourcePolicy", "PolicyDocument", "policyText", "PolicyText", "Document")
_INSIDE: Final = (("s3", "/*"), ("dynamodb", "/*"), ("lambda", ":*"))
_SESSION: Final = re.compile(r"assumed-role/([^/]+)/(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePolicy:
    """One resource with its policy; the statements speak of nothing else."""

    arn: str
    owner: str
    """The account that it belongs to."""
    statements: tuple[Statement, ...]

    @property
    def label(self) -> str:
        parsed = parse_arn(self.arn)
        return f"the policy of {parsed.service} {parsed.resource}" if parsed else f"the policy of {self.arn}"


@dataclass(slots=True)
class ResourcePolicies:
    """Those of one account."""

    by_arn: dict[str, ResourcePolicy] = field(default_factory=dict)
    naming: dict[str, list[tuple[ResourcePolicy, Statement]]] = field(default_factory=dict)
    """The Allow statements that name a principal, by its ARN or unique id (a session by its role's name)."""
    everyone: list[tuple[ResourcePolicy, Statement]] = field(default_factory=list)
    """The Allow statements for everybody, or for everybody but some."""

    def of(self, resource: str) -> ResourcePolicy | None:
        """The policy that speaks of a resource: of an object it is the bucket's, of an index the table's."""
        found = self.by_arn.get(resource)
        if found is not None or not self.by_arn:
            return found
        parts = resource.split(":", 5)
        if len(parts) < 6:
            return None
        head, local = ":".join(parts[:5]), parts[5]
        match parts[2]:
            case "s3":
                return self.by_arn.get(f"{head}:{local.partition('/')[0]}")
            case "dynamodb":
                return self.by_arn.get(f"{head}:{'/'.join(local.split('/')[:2])}")
            case "lambda":
                return self.by_arn.get(f"{head}:{':'.join(local.split(':')[:2])}")
            case "kms":
                return self.by_arn.get(":".join((*parts[:3], "*", *parts[4:])))
            case _:
                return None

    def add(self, policy: ResourcePolicy) -> None:
        self.by_arn[policy.arn] = policy
        for statement in policy.statements:
            if not statement.allow:
                continue
            pair = (policy, statement)
            if statement.not_principals or any(kind == "*" for kind, _ in statement.principals):
                self.everyone.append(pair)
                continue
            for kind, value in statement.principals:
                if kind == "AWS":
                    self.naming.setdefault(_subject(value), []).append(pair)

    def granting(self, principal: Principal) -> Iterator[tuple[ResourcePolicy, Statement, tuple[str, ...], bool]]:
        """Allow statements that name a principal of the same account: its conditions, and whether no boundary counts.

        A grant to a user or to a session is to whoever asks; one to a role is still within the role's boundary.
        """
        seen: set[int] = set()
        for key in (principal.arn, principal.id, f"role-session/{principal.name}"):
            for policy, statement in self.naming.get(key, ()) if key else ():
                found = match(statement, principal, policy.owner)
                if found is not None and found.how in ("named", "session") and id(statement) not in seen:
                    seen.add(id(statement))
                    yield policy, statement, found.conditions, principal.kind == "user" or found.how == "session"
        for policy, statement in self.everyone:
            found = match(statement, principal, policy.owner)
            if found is not None:
                yield policy, statement, found.conditions, False


@dataclass(frozen=True, slots=True)
class Match:
    """How a statement's principals take in somebody: `named`, `session`, `account` or `everyone`."""

    how: str
    conditions: tuple[str, ...] = ()


def match(statement: Statement, principal: Principal, owner: str) -> Match | None:
    """Tell how the principals of a statement take in a user or role; `None` where they do not."""
    if statement.not_principals:
        return _spared(statement, principal)
    best: Match | None = None
    for kind, value in statement.principals:
        found = _matched(kind, value, principal)
        if found is not None and (best is None or _ORDER.index(found.how) < _ORDER.index(best.how)):
            best = found
    return best


_ORDER: Final = ("named", "everyone", "session", "account")


def _matched(kind: str, value: str, principal: Principal) -> Match | None:
    if kind == "*":
        return Match("everyone")
    if kind != "AWS":
        return None
    if value == principal.arn or (principal.id and value == principal.id):
        return Match("named")
    if account_of(value) == _account(principal):
        return Match("account")
    session = _session(value)
    if session and principal.kind == "role" and session[0] == (_account(principal), principal.name):
        if not principal.session:
            return Match("session", (f"the session is named {session[1]}",))
        return Match("session") if principal.session == session[1] else None
    return None


def _spared(statement: Statement, principal: Principal) -> Match | None:
    """NotPrincipal takes in everybody but those named; with Deny, their account must be named too.

    A role is spared by its ARN, its session's and its account's together; with less it may be denied.
    """
    found = {one.how: one for kind, value in statement.principals if (one := _matched(kind, value, principal))}
    if "everyone" in found:
        return None
    if statement.allow:
        return None if "named" in found or "account" in found else Match("everyone")
    whole = "account" in found and "named" in found and (principal.kind == "user" or "session" in found)
    if whole and (principal.kind == "user" or principal.session):
        return None
    if "named" in found or "session" in found:
        needs = "its session and account are named" if principal.kind == "role" else "its account is named"
        return Match("everyone", (f"NotPrincipal names it, and does not hold where {needs}",))
    return Match("everyone")


def _account(principal: Principal) -> str:
    return principal.arn.split(":", 5)[4]


def _session(value: str) -> tuple[tuple[str, str], str] | None:
    parsed = parse_arn(value)
    found = _SESSION.fullmatch(parsed.resource) if parsed and parsed.service == "sts" else None
    return ((parsed.account, found[1]), found[2]) if parsed and found else None


def _subject(value: str) -> str:
    session = _session(value)
    return f"role-session/{session[0][1]}" if session else value


def read_resource_policies(
    details: Mapping[str, Any], account: str, partition: str
) -> tuple[ResourcePolicies, list[str]]:
    """Read the policies of resources out of the details, in the words of each service's API; and what is unreadable.

    `ResourcePolicies` ([{`ResourceArn`, `Policy`}]) takes any service; a list by service may name a bucket by `Bucket`
    and a key by `KeyId`.
    """
    found, unreadable = ResourcePolicies(), []
    for key in _KEYS:
        entries = details.get(key)
        for entry in entries[:_MAX_POLICIES] if isinstance(entries, list) else ():
            arn = _arn_in(entry, account, partition) if isinstance(entry, dict) else None
            document = next((entry[one] for one in _DOCUMENTS if entry.get(one)), None) if arn else None
            if arn is None:
                unreadable.append(f"{key}: an entry without the ARN of its resource")
                continue
            try:
                statements = parse_document(document) if document is not None else ()
            except MalformedPolicyError as error:
                unreadable.append(f"policy of {arn[:300]}: {error}")
                continue
            owner = parse_arn(arn)
            number = owner.account if owner and owner.account.isdigit() else account
            scoped = tuple(one for s in statements if (one := _scoped(s, arn)) is not None)
            found.add(ResourcePolicy(arn=arn, owner=number, statements=scoped))
    return found, unreadable


def _arn_in(entry: Mapping[str, Any], account: str, partition: str) -> str | None:
    attributes = entry.get("Attributes")
    nested = attributes if isinstance(attributes, dict) else {}
    for key in _ARNS:
        value = entry.get(key) or nested.get(key)
        if isinstance(value, str) and parse_arn(value) is not None:
            return value
    if isinstance(entry.get("Bucket"), str):
        return f"arn:{partition}:s3:::{entry['Bucket']}"
    if isinstance(entry.get("KeyId"), str):
        return f"arn:{partition}:kms:{entry.get('Region', '*')}:{account}:key/{entry['KeyId']}"
    return None


def _scoped(statement: Statement, arn: str) -> Statement | None:
    """The statement, about the resource and what is in it alone; one that names no resource is about all of it."""
    scope = (arn, *(f"{arn}{rest}" for service, rest in _INSIDE if f":{service}:" in arn))
    if statement.not_resources:
        if not statement.allow:
            return statement
        kept = [one for one in scope if not any(meets(pattern, one) for pattern in statement.resources)]
        return replace(statement, resources=tuple(kept), not_resources=False) if kept else None
    resources = dict.fromkeys(
        both[0] for pattern in statement.resources or ("*",) for one in scope if (both := shared(one, pattern))
    )
    return replace(statement, resources=tuple(resources)) if resources else None
