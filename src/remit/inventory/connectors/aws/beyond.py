"""What IAM leaves out: identity providers, what runs under roles, where secrets are kept. Optional calls, one by one.

Of secrets and parameters only names are listed; the environment of functions, which may hold secrets, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from remit.inventory.connectors.aws.account import Account, Principal, moment
from remit.inventory.connectors.aws.naming import arn_alias, parse_arn, resource_of, role_name
from remit.inventory.connectors.port import Permission
from remit.inventory.model import (
    Attribute,
    Autonomy,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
    Severity,
)
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name, name

Listing = Callable[[Any], list[dict[str, Any]]]


class Call(NamedTuple):
    """One listing: the key of its answer, and what it needs."""

    key: str
    service: str
    operation: str
    grant: str
    why: str
    keeps: tuple[str, ...]
    """The fields that are kept; everything else is dropped as it arrives."""


CALLS: Final = (
    Call("SAMLProviderList", "iam", "list_saml_providers", "iam:ListSAMLProviders",
         "which outside directories are trusted", ("Arn", "CreateDate", "ValidUntil")),
    Call("Functions", "lambda", "list_functions", "lambda:ListFunctions",
         "which functions run under which role", ("FunctionArn", "FunctionName", "Role", "LastModified")),
    Call("Reservations", "ec2", "describe_instances", "ec2:DescribeInstances",
         "which machines run under which role", ("Instances", "OwnerId")),
    Call("SecretList", "secretsmanager", "list_secrets", "secretsmanager:ListSecrets",
         "names of secrets, and when they were rotated and read",
         ("ARN", "Name", "RotationEnabled", "LastRotatedDate", "LastAccessedDate", "CreatedDate")),
    Call("Parameters", "ssm", "describe_parameters", "ssm:DescribeParameters",
         "names of parameters that are secrets", ("Name", "Type", "LastModifiedDate", "ARN")),
)  # fmt: skip
NEEDS: Final = tuple(Permission(grant=call.grant, why=call.why) for call in CALLS)


def translate_beyond(account: Account, roles: Mapping[str, Name], place: Place) -> Iterator[Fact]:
    """The facts of what was listed; `roles`: names by the ARN of the role."""
    told = account.extras.beyond
    yield from _providers(account, roles, place)
    for one in told.get("Functions", ()):
        arn, local = str(one.get("FunctionArn") or ""), str(one.get("FunctionName") or "")
        if (parsed := parse_arn(arn)) is not None and local:
            who = name("aws", account.id, "function", f"{parsed.region}/{local}")
            yield _workload(who, f"function {local}", arn, account, {"runs_on": "lambda"})
            yield from _runs_as(who, str(one.get("Role") or ""), roles, f"function {local}", arn)
    profiles = {profile: role for role in account.roles.values() for profile in role.profiles}
    for reservation in told.get("Reservations", ()):
        for one in reservation.get("Instances") or ():
            yield from _instance(account, one, profiles)
    for one in told.get("SecretList", ()):
        yield from _secret(account, one)
    for one in told.get("Parameters", ()):
        if one.get("Type") == "SecureString" and isinstance(one.get("Name"), str):
            local = one["Name"].lstrip("/")
            arn = str(one.get("ARN") or f"arn:{account.partition}:ssm:*:{account.id}:parameter/{local}")
            node, kind, _ = resource_of(arn, account.id)
            yield _stored(node, kind, one["Name"], arn, {"modified": _when(one.get("LastModifiedDate"))})


def _providers(account: Account, roles: Mapping[str, Name], place: Place) -> Iterator[Fact]:
    """Who controls a provider's issuer becomes every role that trusts it."""
    told = account.extras.beyond
    for key in ("OpenIDConnectProviderList", "SAMLProviderList"):
        for one in told.get(key, ()):
            arn = parse_arn(str(one.get("Arn") or ""))
            if arn is None:
                continue
            kind, _, local = arn.resource.partition("/")
            node = name("aws", account.id, kind, local)
            where = Place(system="aws", path=str(one["Arn"]))
            yield ResourceFact(
                name=node,
                kind="aws-identity-provider",
                title=local,
                place=where,
                sensitivity=Sensitivity.RESTRICTED,
                attributes={"created": _when(one.get("CreateDate")), "valid_until": _when(one.get("ValidUntil"))},
            )
            for role in account.roles.values():
                if _trusts(role, str(one["Arn"])):
                    yield EdgeFact(
                        source=node,
                        relation=Relation.ASSUME,
                        target=roles[role.arn],
                        evidence=f"the trust policy of {role.name} names the provider",
                        place=Place(system="aws", path=role.arn),
                        conditions=("the conditions on `sub` and `aud` of its trust policy",),
                        cut=f"remove the provider from the trust policy of {role.name}",
                    )


def _trusts(role: Principal, provider: str) -> bool:
    return any(s.allow and ("Federated", provider) in s.principals for s in role.trust)


def _instance(account: Account, one: Mapping[str, Any], profiles: Mapping[str, Principal]) -> Iterator[Fact]:
    local = str(one.get("InstanceId") or "")
    zone = str((one.get("Placement") or {}).get("AvailabilityZone") or "")
    state = str((one.get("State") or {}).get("Name") or "")
    if not local or state == "terminated":
        return
    region = zone.rstrip("abcdefgh")
    arn = f"arn:{account.partition}:ec2:{region}:{account.id}:instance/{local}"
    who = name("aws", account.id, "instance", f"{region}/{local}")
    tags = {str(tag.get("Key")): str(tag.get("Value")) for tag in one.get("Tags") or ()}
    version = (one.get("MetadataOptions") or {}).get("HttpTokens")
    yield _workload(who, f"instance {tags.get('Name') or local}", arn, account, {"runs_on": "ec2", "state": state})
    profile = str((one.get("IamInstanceProfile") or {}).get("Arn") or "").rpartition("/")[2]
    role = profiles.get(profile)
    if role is None:
        return
    target = role_name(account.id, role.path, role.name)
    cut = f"aws ec2 disassociate-iam-instance-profile, for the association of {local} with {profile}"
    yield _edge(who, target, f"instance {local} has the instance profile {profile}", arn, cut)
    if version == "optional":
        yield FindingFact(
            rule="aws.instance-metadata-v1",
            severity=Severity.MEDIUM,
            title=f"instance {tags.get('Name') or local} gives its role to whoever makes it ask",
            detail=f"version 1 of the metadata service is on: one forged request gets the keys of {role.name}",
            next_step=f"aws ec2 modify-instance-metadata-options --instance-id {local} --http-tokens required",
            place=Place(system="aws", path=arn),
            subject=who,
        )


def _secret(account: Account, one: Mapping[str, Any]) -> Iterator[Fact]:
    arn = str(one.get("ARN") or "")
    if parse_arn(arn) is None:
        return
    node, kind, _ = resource_of(arn, account.id)
    rotated = one.get("RotationEnabled") is True
    attributes: dict[str, Attribute] = {
        "rotation": rotated,
        "rotated": _when(one.get("LastRotatedDate")),
        "last_used": _when(one.get("LastAccessedDate")),
        "created": _when(one.get("CreatedDate")),
    }
    yield _stored(node, kind, str(one.get("Name") or arn), arn, attributes)


def _stored(node: Name, kind: str, title: str, arn: str, attributes: Mapping[str, Attribute]) -> ResourceFact:
    known = {key: value for key, value in attributes.items() if value is not None}
    where = Place(system="aws", path=arn)
    return ResourceFact(
        name=node, kind=kind, title=title, place=where, sensitivity=Sensitivity.CONFIDENTIAL, attributes=known
    )


def _workload(who: Name, title: str, arn: str, account: Account, more: Mapping[str, Attribute]) -> IdentityFact:
    return IdentityFact(
        name=who,
        kind=IdentityKind.WORKLOAD,
        title=title,
        place=Place(system="aws", path=arn),
        aliases=(arn_alias(account.id, arn),),
        attributes={"autonomy": Autonomy.AUTONOMOUS.value, "arn": arn, **more},
    )


def _runs_as(who: Name, role: str, roles: Mapping[str, Name], what: str, arn: str) -> Iterator[EdgeFact]:
    if role in roles:
        cut = f"aws lambda update-function-configuration --function-name {arn} --role <a role of its own>"
        yield _edge(who, roles[role], f"{what} runs under {role.rpartition('/')[2]}", arn, cut)


def _edge(who: Name, target: Name, evidence: str, arn: str, cut: str) -> EdgeFact:
    place = Place(system="aws", path=arn)
    return EdgeFact(source=who, relation=Relation.RUNS_AS, target=target, evidence=evidence, place=place, cut=cut)


def _when(value: Any) -> str | None:
    found: datetime | None = moment(value)
    return rfc3339(found) if found is not None else None
