"""The condition keys that are known before a request is made: of the principal, and of the resource.

Spec: IAM User Guide, "AWS global condition context keys"; Service Authorization Reference, "IAM".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.naming import parse_arn
from remit.inventory.connectors.aws.variables import Like, One, Value

VIA: Final = ("aws:viaawsservice", "aws:calledvia", "aws:calledviafirst", "aws:calledvialast")
"""Keys that differ when a service makes the call for the principal."""
_NUMBER: Final = re.compile(r"\d{12}")
_OF_SERVICES: Final = (
    "aws:sourcearn",
    "aws:sourceaccount",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:principalservicename",
    "aws:principalservicenameslist",
)
_OF_USERS: Final = ("aws:federatedprovider", "aws:sourceidentity", "ec2:sourceinstancearn")
_NEW_BOUNDARY: Final = ("iam:create", "iam:putuserpermissionsboundary", "iam:putrolepermissionsboundary")


def principal_context(account: Account, principal: Principal) -> dict[str, Value]:
    """What a principal carries into each request that it makes itself."""
    user = principal.kind == "user"
    known: dict[str, Value] = {
        "aws:principalaccount": account.id,
        "kms:calleraccount": account.id,
        "aws:principaltype": "User" if user else "AssumedRole",
        "aws:principalarn": principal.arn,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "false",
        "aws:viaawsservice": "false",
        "aws:username": principal.name if user else (),
        **dict.fromkeys((*VIA[1:], *_OF_SERVICES), ()),
    }
    if user:
        known.update(dict.fromkeys(_OF_USERS, ()))
    if principal.id:
        known["aws:userid"] = principal.id if user else _session_id(principal)
    known.update(_tags(principal))
    known.update(_factors(account, principal))
    known.update(_times(account, user))
    if account.guards.organization:
        known["aws:principalorgid"] = account.guards.organization
    if account.guards.path:
        known["aws:principalorgpaths"] = (account.guards.path,)
    return known


def _session_id(role: Principal) -> Value:
    return f"{role.id}:{role.session}" if role.session else Like(f"{role.id}:*")


def _tags(principal: Principal) -> Mapping[str, Value]:
    """Whoever assumes a role may bring tags where its trust lets them: then nothing is known of them."""
    if any(s.allow and s.meets_action("sts:tagsession") for s in principal.trust):
        return {}
    return tag_keys("aws:principaltag", principal)


def tag_keys(head: str, principal: Principal) -> dict[str, Value]:
    """The tags of a principal under a key; where all of them are shown, any other is absent."""
    known: dict[str, Value] = {f"{head}/{key.lower()}": value for key, value in principal.tags.items()}
    if principal.tags_shown:
        known[f"{head}/*"] = ()
    return known


def _factors(account: Account, principal: Principal) -> Mapping[str, Value]:
    """A second factor is absent, or absent or `false`, where the principal has none to show."""
    if principal.kind == "user":
        none = account.extras.mfa is not None and not account.extras.mfa.get(principal.name)
    else:
        kinds = {kind for s in principal.trust if s.allow for kind, _ in s.principals}
        none = bool(kinds) and kinds <= {"Service", "Federated"}
    absent: One = ()
    if not none:
        return {}
    return {"aws:multifactorauthpresent": frozenset({absent, "false"}), "aws:multifactorauthage": absent}


def _times(account: Account, user: bool) -> Mapping[str, Value]:
    """Now is when the account was read; a role's session can always be a new one."""
    if account.now is None:
        return {}
    now, absent = account.now.isoformat(), ()
    return {
        "aws:currenttime": now,
        "aws:epochtime": str(int(account.now.timestamp())),
        "aws:tokenissuetime": frozenset({absent, now}) if user else now,
    }


def resource_context(account: Account, action: str, resource: str) -> dict[str, Value]:
    """What is known of one resource, by its ARN."""
    arn = parse_arn(resource)
    if arn is None:
        return {}
    known: dict[str, Value] = {}
    if _NUMBER.fullmatch(arn.account):
        known["aws:resourceaccount"] = arn.account
        if arn.account == account.id and account.guards.organization:
            known["aws:resourceorgid"] = account.guards.organization
    found = account.by_arn(resource) if arn.service == "iam" else None
    if found is not None:
        known.update(tag_keys("aws:resourcetag", found))
        known.update(tag_keys("iam:resourcetag", found))
        if not action.startswith(_NEW_BOUNDARY):
            known["iam:permissionsboundary"] = (found.boundary.arn or ()) if found.boundary else ()
    return known
