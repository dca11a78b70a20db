"""One small account for each way of the public catalogue pathfinding.cloud (Apache-2.0): ids, categories, actions.

An account has an attacker with the actions of one way, each in a policy of its own, and what the way leads to.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from remit.inventory.connectors.aws import AwsConnector
from remit.inventory.connectors.port import Scan
from remit.inventory.graph import Blast, blast, graph_from_facts
from remit.inventory.model import Fact, Skipped
from remit.kernel.ids import Name, name

A: Final = "111122223333"
ROOT: Final = name("aws", A, "root", "root")
_ADMIN: Final = "arn:aws:iam::aws:policy/AdministratorAccess"
_SERVICES: Final = {
    "apprunner": "tasks.apprunner.amazonaws.com",
    "bedrock": "bedrock-agentcore.amazonaws.com",
    "ec2instanceconnect": "ec2.amazonaws.com",
    "ecs": "ecs-tasks.amazonaws.com",
    "ssm": "ec2.amazonaws.com",
}
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    id: str
    category: str
    actions: tuple[str, ...]

    @property
    def service(self) -> str:
        family = self.id.partition("-")[0]
        return _SERVICES.get(family, f"{family}.amazonaws.com")


def ways() -> list[Way]:
    listed = json.loads((Path(__file__).parent / "escalations.json").read_text())
    return [Way(one["id"], one["category"], tuple(one["all"])) for one in listed]


WAYS: Final = ways()


@dataclass
class Laboratory:
    """What may differ from the open way."""

    way: Way
    without: str = ""
    """An action that the attacker does not have."""
    deny: str = ""
    """An action that another policy denies."""
    outside: str = ""
    """An action that the boundary leaves out."""
    conditions: Mapping[str, Document] = field(default_factory=dict)
    """By action."""
    elsewhere: str = ""
    """An action that is allowed, but on something else."""
    service: str = ""
    """What the role trusts, in place of the service of the way."""
    trust: Document = field(default_factory=dict)
    """The condition of the role's trust policy."""
    refuses: Document = field(default_factory=dict)
    """A statement more of the role's trust policy."""
    above: tuple[Document, ...] = ()
    """Statements of a service control policy; none where there is no organisation."""
    managed: bool = False
    """Whether the half that is not the group's is in a managed policy."""
    found_there: bool = False
    """Whether what runs as the role is listed."""

    def found(self) -> Blast:
        return blast(graph_from_facts(discover(self.details())), self.attacker)

    def outcome(self) -> bool | None:
        """Whether the goal is reached conditionally; `None` where it is not reached."""
        return next((one.conditional for one in self.found() if one.node.name == self.goal), None)

    @property
    def attacker(self) -> Name:
        return name("aws", A, self._kind, "attacker")

    @property
    def goal(self) -> Name:
        if self.way.category == "self-escalation" or self._writes:
            return ROOT
        return name("aws", A, self._victim, "victim")

    @property
    def _writes(self) -> bool:
        return self.way.id in {f"iam-{number:03}" for number in range(14, 22)}

    @property
    def _kind(self) -> str:
        role = self.way.id in ("iam-005", "iam-009")
        return "role" if role else "user"

    @property
    def _victim(self) -> str:
        users = ("iam-002", "iam-003", "iam-004", "iam-006", "iam-015", "iam-018")
        return "user" if self.way.id in users else "role"

    def details(self) -> Document:
        statements = [self._statement(action) for action in self.way.actions if action != self.without]
        group = {"GroupName": "team", "Path": "/", "Arn": f"arn:aws:iam::{A}:group/team", "AttachedManagedPolicies": []}
        group["GroupPolicyList"] = [_inline("shared", statements[:1])]
        attacker = _principal(self._kind, "attacker", statements if self._kind == "role" else statements[1:])
        attacker["AttachedManagedPolicies"] = [_attached(f"arn:aws:iam::{A}:policy/own")]
        if self.managed:
            attacker[f"{self._kind.capitalize()}PolicyList"] = []
            attacker["AttachedManagedPolicies"].append(_attached(f"arn:aws:iam::{A}:policy/rest"))
        if self._kind == "user":
            attacker["GroupList"] = ["team"]
        else:
            attacker["AssumeRolePolicyDocument"] = _trusts({"Service": "config.amazonaws.com"})
        policies = [
            _managed("own", self._denial() or _allow("sts:GetCallerIdentity", "*")),
            _managed("other", _NOTHING),
        ]
        if self.managed:
            policies.append(_managed("rest", *(statements if self._kind == "role" else statements[1:])))
        if self.outside:
            policies.append(_managed("boundary", {"Effect": "Allow", "NotAction": self.outside, "Resource": "*"}))
            attacker["PermissionsBoundary"] = {"PermissionsBoundaryArn": f"arn:aws:iam::{A}:policy/boundary"}
        victims = [self._victim_entry()]
        if self.way.id == "iam-013":
            victims, policies = [], policies
        users = [one for one in (attacker, *victims) if "UserName" in one]
        roles = [one for one in (attacker, *victims) if "RoleName" in one]
        if self.way.id == "iam-013":
            group_admin = {
                **group,
                "GroupName": "admins",
                "Arn": f"arn:aws:iam::{A}:group/admins",
                "GroupPolicyList": [],
            }
            group_admin["AttachedManagedPolicies"] = [_attached(_ADMIN)]
            groups = [group, group_admin]
        else:
            groups = [group]
        details = {"UserDetailList": users, "RoleDetailList": roles, "GroupDetailList": groups, "Policies": policies}
        if self.above:
            details["Organization"] = _organization(self.above)
        if self.found_there:
            details |= things_of(self.way, f"arn:aws:iam::{A}:role/victim")
        if self.way.id == "iam-003":
            keys = [{"UserName": "victim", "AccessKeyId": f"AKIA{n:016}", "Status": "Active"} for n in range(2)]
            details["AccessKeyMetadata"] = keys
        return details

    def _victim_entry(self) -> Document:
        victim = _principal(self._victim, "victim", [])
        attached = [] if self._writes else [_attached(_ADMIN)]
        if self.way.id in ("iam-016", "iam-020"):
            attached = [_attached(f"arn:aws:iam::{A}:policy/other")]
        victim["AttachedManagedPolicies"] = attached
        if self._victim == "role":
            service = self.service or (self.way.service if "passrole" in self.way.category else "config.amazonaws.com")
            trusted: Document = {"Service": service}
            if "sts:AssumeRole" in self.way.actions:
                trusted = {"AWS": f"arn:aws:iam::{A}:root"}
            victim["AssumeRolePolicyDocument"] = _trusts(trusted, self.trust, self.refuses)
            profile = {"InstanceProfileName": "victim", "Roles": []}
            victim["InstanceProfileList"] = [profile] if trusted == {"Service": "ec2.amazonaws.com"} else []
        return victim

    def _statement(self, action: str) -> Document:
        service = action.partition(":")[0]
        resource = "*"
        if service in ("iam", "sts"):
            resource = self._target(action)
        if action == self.elsewhere:
            same = service in ("iam", "sts")
            resource = f"arn:aws:iam::{A}:*/nobody" if same else f"arn:aws:{service}:*:999999999999:*"
        return _allow(action, resource, self.conditions.get(action))

    def _target(self, action: str) -> str:
        if action == "iam:AddUserToGroup":
            return f"arn:aws:iam::{A}:group/admins"
        if "GroupPolicy" in action:
            return f"arn:aws:iam::{A}:group/team"
        if action == "iam:CreatePolicyVersion":
            own = "own" if self.way.id == "iam-001" else "other"
            return f"arn:aws:iam::{A}:policy/{own}"
        if self.way.category == "self-escalation":
            return f"arn:aws:iam::{A}:{self._kind}/attacker"
        return f"arn:aws:iam::{A}:{self._victim}/victim"

    def _denial(self) -> Document:
        return {"Effect": "Deny", "Action": self.deny, "Resource": "*"} if self.deny else {}


_NOTHING: Final = {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}


def _allow(action: str, resource: str, condition: Document | None = None) -> Document:
    statement: Document = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def _trusts(principal: Document, condition: Document | None = None, refuses: Document | None = None) -> Document:
    statement: Document = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    listed = [{**statement, "Condition": condition} if condition else statement]
    return {"Statement": [*listed, refuses] if refuses else listed}


def _organization(statements: tuple[Document, ...]) -> Document:
    whole = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policies = [("FullAWSAccess", [whole]), ("guard", list(statements))]
    return {
        "Id": "o-1",
        "Accounts": [{"Id": A, "ParentId": "r-1"}],
        "Policies": [
            {"Type": "SERVICE_CONTROL_POLICY", "Name": local, "Content": {"Statement": content}, "Targets": [A, "r-1"]}
            for local, content in policies
        ],
    }


def things_of(way: Way, role: str) -> Document:
    """What the services' own listings tell of one thing that runs as a role."""

    def at(service: str, rest: str) -> str:
        return f"arn:aws:{service}:us-east-1:{A}:{rest}"

    machine = {"InstanceId": "i-1", "State": {"Name": "running"}, "Placement": {"AvailabilityZone": "us-east-1a"}}
    profile = {"IamInstanceProfile": {"Arn": f"arn:aws:iam::{A}:instance-profile/victim"}}
    app = {"ServiceArn": at("apprunner", "service/x/1"), "ServiceName": "x"}
    listed: dict[str, Document] = {
        "apprunner": {"Services": [{**app, "InstanceConfiguration": {"InstanceRoleArn": role}}]},
        "bedrock": {
            "codeInterpreters": [
                {"codeInterpreterArn": at("bedrock-agentcore", "code-interpreter-custom/x"), "executionRoleArn": role}
            ]
        },
        "cloudformation": {"Stacks": [{"StackId": at("cloudformation", "stack/x/1"), "RoleARN": role}]},
        "codebuild": {"projects": [{"arn": at("codebuild", "project/x"), "name": "x", "serviceRole": role}]},
        "ecs": {
            "tasks": [{"taskArn": at("ecs", "task/c/1"), "taskDefinitionArn": "d", "enableExecuteCommand": True}],
            "taskDefinitions": [{"taskDefinitionArn": "d", "taskRoleArn": role}],
        },
        "glue": {"DevEndpoints": [{"EndpointName": "x", "RoleArn": role}]},
        "lambda": {"Functions": [{"FunctionArn": at("lambda", "function:x"), "FunctionName": "x", "Role": role}]},
        "sagemaker": {
            "NotebookInstances": [{"NotebookInstanceArn": at("sagemaker", "notebook-instance/x"), "RoleArn": role}]
        },
    }
    return listed.get(way.id.partition("-")[0], {"Reservations": [{"Instances": [{**machine, **profile}]}]})


def _inline(local: str, statements: list[Document]) -> Document:
    return {"PolicyName": local, "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}


def _attached(arn: str) -> Document:
    return {"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn}


def _managed(local: str, *statements: Document) -> Document:
    version = {"Document": {"Statement": list(statements)}, "VersionId": "v1", "IsDefaultVersion": True}
    return {"PolicyName": local, "Arn": f"arn:aws:iam::{A}:policy/{local}", "PolicyVersionList": [version]}


def _principal(kind: str, local: str, statements: list[Document]) -> Document:
    kept = [_inline(f"p{number}", [statement]) for number, statement in enumerate(statements)]
    title = kind.capitalize()
    return {
        "Path": "/",
        f"{title}Name": local,
        "Arn": f"arn:aws:iam::{A}:{kind}/{local}",
        "CreateDate": "2025-12-01T00:00:00+00:00",
        f"{title}PolicyList": kept,
        "AttachedManagedPolicies": [],
    }


def discover(details: Document) -> list[Fact]:
    """The facts of an account."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(details, file)
        file.flush()
        connector = AwsConnector.at(file.name)
        connector.open()
        scan = Scan(now=datetime(2026, 1, 1, tzinfo=UTC), fingerprint=lambda secret: "hmac:00")
        facts: list[Fact] = []
        for raw in connector.fetch(scan):
            facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
        connector.close()
    return facts
