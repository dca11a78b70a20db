"""What an AWS target can be told, and the least rights with which its broker does its work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured
from remit.providers.aws.account import Document
from remit.providers.documents import require_address

BOUNDARY: Final = "remit-boundary"
BROKER: Final = "remit-broker"
LONGEST_SECONDS: Final = 12 * 3600
SHORTEST_SECONDS: Final = 900
VERSION: Final = "2012-10-17"
PROBE: Final = "iam:ListRoleTags"
"""What every lease may ask of its own role alone: the login that a proof tries."""

_OPTIONS = frozenset({"boundary", "endpoint", "ca"})
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+){1,2}-[0-9]")
_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")
_SECRET = re.compile(r"[A-Za-z0-9/+=]{16,128}")
_POLICY = re.compile(r"arn:aws(?:-cn|-us-gov)?:iam::(?:aws|[0-9]{12}):policy/[A-Za-z0-9+=,.@_/-]{1,512}")
_ACTION = re.compile(r"([a-z0-9-]+):([A-Za-z][A-Za-z0-9]*\*?)")
_RESOURCE = re.compile(r"\*|arn:aws(?:-cn|-us-gov)?:[a-z0-9-]+:[a-z0-9*-]*:[0-9]{0,12}:[^\s,\"]{1,512}")
_BROAD = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess", "SystemAdministrator")
_LONGEST_SESSION_POLICY: Final = 2048
_OUTLIVING: Final = (
    *("iam:Add*", "iam:Attach*", "iam:Create*", "iam:Deactivate*", "iam:Delete*", "iam:Detach*", "iam:Enable*"),
    *("iam:PassRole", "iam:Put*", "iam:Remove*", "iam:Reset*", "iam:Set*", "iam:Tag*", "iam:Untag*", "iam:Update*"),
    *("iam:Upload*", "sts:AssumeRole*", "sts:GetFederationToken", "sts:GetSessionToken", "organizations:*"),
    *("account:*", "sso:*"),
)
"""With these a lease could act on when it is gone, or become somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What a role of the target stands for."""

    policies: tuple[str, ...]
    """ARNs of managed policies, attached to the role of each lease."""
    statements: tuple[Mapping[str, Any], ...]
    """Actions on resources, written into the role of each lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options and roles, decoded: whatever is not known is an error."""

    account: str
    region: str
    partition: str
    boundary: str
    endpoint: str
    ca: str
    roles: Mapping[str, Mapped]
    """By what the target's roles stand for."""

    def role_arn(self, principal: str, path: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role{path}{principal}"


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured`: `access.target.option`, `access.aws.account`, `….role`, `….region`."""
    if unknown := sorted(target.options.keys() - _OPTIONS):
        raise Misconfigured(
            "access.target.option",
            f"the option `{unknown[0][:64]}` of the target is not understood",
            next_step=f"use one of: {', '.join(sorted(_OPTIONS))}",
        )
    if not _ACCOUNT.fullmatch(target.host) or not _KEY_ID.fullmatch(target.user):
        raise Misconfigured(
            "access.aws.account",
            "the target names no account of 12 digits, or no access key id",
            next_step="write its URL as aws://ACCESS-KEY-ID@ACCOUNT/REGION",
        )
    region = check_region(target.database)
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    boundary = target.options.get("boundary", f"arn:{partition}:iam::{target.host}:policy/{BOUNDARY}")
    if not _POLICY.fullmatch(boundary) or f"::{target.host}:" not in boundary:
        raise _bad_role(boundary, "`boundary` is the ARN of a policy of the account")
    endpoint = target.options.get("endpoint", "")
    return Settings(
        account=target.host,
        region=region,
        partition=partition,
        boundary=boundary,
        endpoint=require_address(endpoint) if endpoint else "",
        ca=target.options.get("ca", ""),
        roles={text: decode_role(text) for text in target.roles.values()},
    )


def check_region(region: str) -> str:
    """The region; `Misconfigured`: `access.aws.region`."""
    if not _REGION.fullmatch(region):
        raise Misconfigured(
            "access.aws.region", f"`{region[:64]}` is no region", next_step="write it as `eu-central-1`"
        )
    return region


def decode_secret(key_id: str, secret: str) -> str:
    """The secret access key; `Misconfigured` (`access.aws.secret`), never with it."""
    if not _SECRET.fullmatch(secret.strip()) or key_id.startswith("ASIA"):
        raise Misconfigured(
            "access.aws.secret",
            "the secret of the target is no secret access key of a user",
            next_step=f"give the `SecretAccessKey` that `aws iam create-access-key --user-name {BROKER}` prints",
        )
    return secret.strip()


def decode_role(text: str) -> Mapped:
    """Read `POLICY-ARN[,…] [actions=A,… resources=ARN,…]…`; `Misconfigured`: `access.aws.role`."""
    policies: list[str] = []
    statements: list[Mapping[str, Any]] = []
    actions: list[str] = []
    for word in text.split():
        key, _, value = word.partition("=")
        listed = [one for one in value.split(",") if one]
        if word.startswith("arn:"):
            policies += [_policy(arn) for arn in word.split(",")]
        elif key == "actions" and listed and not actions:
            actions = [_action(one) for one in listed]
        elif key == "resources" and listed and actions:
            resources = [_resource(one) for one in listed]
            statements.append({"Effect": "Allow", "Action": actions, "Resource": resources})
            actions = []
        else:
            raise _bad_role(word, "write a policy's ARN, or actions=SERVICE:NAME,… resources=ARN,…")
    if actions or not (policies or statements) or len(policies) > 9:
        raise _bad_role(text, "name up to 9 policies, or actions and the resources that they are for")
    # The session's policy is these statements and that of the probe, and STS bounds it.
    if len(json.dumps(statements)) > _LONGEST_SESSION_POLICY - 400:
        raise _bad_role(text, "it is too long for a session's policy: make a managed policy of it, and name its ARN")
    return Mapped(policies=tuple(policies), statements=tuple(statements))


def _policy(arn: str) -> str:
    if not _POLICY.fullmatch(arn):
        raise _bad_role(arn, "write the ARN of a managed policy, as arn:aws:iam::ACCOUNT:policy/NAME")
    if arn.rpartition("/")[2] in _BROAD:
        raise _bad_role(arn, "it is far more than a task needs: name a policy of your own, or actions and resources")
    return arn


def _action(action: str) -> str:
    match = _ACTION.fullmatch(action)
    if match is None:
        raise _bad_role(action, "name actions as s3:GetObject or s3:Get*, never all of a service")
    reads = match[2].startswith(("Get", "List", "Simulate", "Generate")) and match[1] == "iam"
    if match[1] in ("iam", "sts", "organizations", "account", "sso") and not reads:
        raise _bad_role(action, "with it a lease could act on when it is gone, or become somebody else")
    return action


def _resource(arn: str) -> str:
    if not _RESOURCE.fullmatch(arn):
        raise _bad_role(arn, "name resources by ARN, as arn:aws:s3:::BUCKET/*")
    return arn


def _bad_role(text: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.aws.role", f"a role cannot be `{text[:80]}`", next_step=next_step)


def path_of(instance: str) -> str:
    """Where the roles of one installation are."""
    return f"/remit/{instance}/"


def boundary_document(settings: Settings) -> Document:
    """The most that any lease may: what the roles say, and nothing that outlives it."""
    said = [statement for role in settings.roles.values() for statement in role.statements]
    if any(role.policies for role in settings.roles.values()):
        said = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    own = f"arn:{settings.partition}:iam::{settings.account}:role/remit/*"
    said = [*said, {"Effect": "Allow", "Action": PROBE, "Resource": own}]
    return {
        "Version": VERSION,
        "Statement": [*said, {"Effect": "Deny", "Action": list(_OUTLIVING), "Resource": "*"}],
    }


def broker_document(settings: Settings, instance: str) -> Document:
    """The broker's least rights: roles of this installation, all of them under the boundary."""
    roles = settings.role_arn("*", path_of(instance))
    bounded = {"StringEquals": {"iam:PermissionsBoundary": settings.boundary}}
    policies = sorted({arn for role in settings.roles.values() for arn in role.policies})
    attached: dict[str, Any] = {"Effect": "Allow", "Action": "iam:AttachRolePolicy", "Resource": roles}
    attached |= {"Condition": {**bounded, "ArnEquals": {"iam:PolicyARN": policies}}}
    return {
        "Version": VERSION,
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["iam:CreateRole", "iam:PutRolePolicy"],
                "Resource": roles,
                "Condition": bounded,
            },
            *([attached] if policies else []),
            # IAM speaks of a role that is not there without its path.
            {
                "Effect": "Allow",
                "Action": list(WORK),
                "Resource": [roles, settings.role_arn(f"remit_{instance}_*", "/")],
            },
            {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*"},
            {"Effect": "Allow", "Action": "iam:GetPolicy", "Resource": [settings.boundary, *policies]},
            {
                "Effect": "Allow",
                "Action": "iam:SimulatePrincipalPolicy",
                "Resource": f"arn:{settings.partition}:iam::{settings.account}:user/*",
            },
        ],
    }


WORK: Final = (
    *("iam:GetRole", "iam:DeleteRole", "iam:TagRole", "iam:ListRoleTags", "iam:UpdateAssumeRolePolicy"),
    *("iam:ListRolePolicies", "iam:DeleteRolePolicy", "iam:ListAttachedRolePolicies", "iam:DetachRolePolicy"),
    *("sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"),
)
EXCESSIVE: Final = (
    *("iam:CreateUser", "iam:CreateAccessKey", "iam:PutUserPolicy", "iam:AttachUserPolicy", "iam:CreatePolicyVersion"),
    *("iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary", "iam:PassRole"),
)
"""What the broker must not be allowed anywhere: with any of it, it could become somebody else."""


def template(settings: Settings, instance: str) -> str:
    """Boundary and rights as a template of CloudFormation: what an administrator deploys."""
    boundary: dict[str, Any] = {
        "ManagedPolicyName": settings.boundary.rpartition("/")[2],
        "PolicyDocument": boundary_document(settings),
    }
    broker = {"PolicyName": BROKER, "PolicyDocument": broker_document(settings, instance)}
    resources = {
        "Boundary": {"Type": "AWS::IAM::ManagedPolicy", "Properties": boundary},
        "Rights": {"Type": "AWS::IAM::UserPolicy", "Properties": broker | {"UserName": {"Ref": "Broker"}}},
    }
    whole = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Parameters": {"Broker": {"Type": "String", "Default": BROKER}},
        "Resources": resources,
    }
    return json.dumps(whole, indent=1) + "\n"


def _needed() -> Sequence[str]:
    account = "ACCOUNT"
    settings = Settings(
        account=account,
        region="us-east-1",
        partition="aws",
        boundary=f"arn:aws:iam::{account}:policy/{BOUNDARY}",
        endpoint="",
        ca="",
        roles={"": Mapped(policies=("POLICY-ARN",), statements=())},
    )
    return [json.dumps(broker_document(settings, "INSTANCE"), indent=1)]


MANIFEST = BrokerManifest(
    id="aws",
    title="AWS (IAM roles and STS sessions)",
    needs=tuple(_needed()),
    fail_safe=True,
    native_expiry=True,
    counts_sessions=False,
    hazards=(
        "IAM settles within seconds, and says so nowhere: a mint waits until the new role can be used, and a service "
        "or a region may heed a revocation some seconds after IAM itself refused the session, which is the proof",
        "the session itself lives as long as the grant, 15 minutes at least and 12 hours at most; it is its role that "
        "ends earlier: by the expiry in a policy of the role, which renewals move, and by its deletion",
        "AWS shows no sessions, so a revocation cannot say how many it ended; a transfer that was admitted goes on",
        "a resource policy (of a bucket, a key, a queue) that names a lease's role by a pattern grants what the "
        "boundary does not bound: name no role under `/remit/` in one",
        "what a lease made in the account stays. Creating principals, passing roles and assuming others is denied by "
        "the boundary; a function or a machine that runs as a role which is its own already is not",
        "an account has at most 1,000 roles unless its quota is raised, and each live lease is one; IAM throttles "
        "changes of all principals of an account together",
        "emulators prove little: moto by itself refuses nobody, which leaves every lease unproved; with authorization "
        "on it evaluates no conditions, and no mint succeeds there",
    ),
)
