"""The sample company: an AWS account and its trail, a cluster, a repository with a pipeline, and a Terraform state.

All of it is made up, and lies in the directory of the demo. Its secrets are drawn anew each time, and open nothing.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

ACCOUNT: Final = "111122223333"
LEAKED: Final = "ci-legacy"
PIPELINE_ROLE: Final = "deploy"
EXPORTER: Final = "exporter"
GUARDED: Final = "breakglass"
ISSUER: Final = "oidc.eks.eu-west-1.amazonaws.com/id/5E3A6B7C8D9F"
DAYS: Final = 120
"""So far back reaches the trail."""
_GITHUB: Final = "token.actions.githubusercontent.com"
_ADMINISTRATOR: Final = "arn:aws:iam::aws:policy/AdministratorAccess"
_PROVIDER: Final = 'provider["registry.terraform.io/hashicorp/aws"]'
_SINCE: Final = "2024-01-08T09:00:00Z"

_WORKFLOW: Final = f"""\
name: deploy
on: [push, pull_request]
permissions:
  id-token: write
  contents: read
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: aws-actions/configure-aws-credentials@v4
        with:
          role-to-assume: arn:aws:iam::{ACCOUNT}:role/{PIPELINE_ROLE}
          aws-region: eu-west-1
      - run: ./deploy.sh
"""
_MANIFESTS: Final = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {{environment: prod, pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: exporter
  namespace: shop
  annotations:
    eks.amazonaws.com/role-arn: arn:aws:iam::{ACCOUNT}:role/{EXPORTER}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: exporter
  namespace: shop
  labels: {{team: data}}
spec:
  template:
    spec:
      serviceAccountName: exporter
      containers:
        - {{name: exporter, image: registry.acme.example/exporter:2.1}}
"""


class Estate:
    """Where the sample lies, and what is done to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.account = root / "aws" / "account.json"
        self.trail = root / "aws" / "cloudtrail"
        self.cluster = root / "cluster"
        self.repository = root / "shop"
        self.terraform = root / "infra"

    def plant(self, now: datetime) -> int:
        """Write everything; returns how many calls the trail tells of."""
        key = "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
        _put(self.account, json.dumps(_details(key), indent=1))
        _put(self.cluster / "shop.yaml", _MANIFESTS)
        _put(self.repository / ".github/workflows/deploy.yml", _WORKFLOW)
        _put(self.repository / ".github/CODEOWNERS", "* @acme/platform\n")
        _put(self.repository / ".git/config", '[remote "origin"]\n\turl = https://github.com/acme/shop.git\n')
        _put(self.repository / ".git/HEAD", "ref: refs/heads/main\n")
        _put(self.terraform / "terraform.tfstate", json.dumps(_state(key)))
        records = _trail(now)
        _put(self.trail / "0001.json", json.dumps({"Records": records}))
        return len(records)

    def sources(self) -> tuple[tuple[str, Path, dict[str, str]], ...]:
        """What is read, in order: connector, place, options."""
        return (
            ("files", self.repository, {}),
            ("terraform", self.terraform, {}),
            ("kubernetes", self.cluster, {"cluster": "acme", "issuer": f"https://{ISSUER}"}),
            ("aws", self.account, {}),
            ("use", self.trail, {"kind": "cloudtrail"}),
        )

    def change(self, what: Callable[[dict[str, Any]], None]) -> None:
        """Change the account, as an administrator would by the API, and export it again."""
        details = json.loads(self.account.read_text())
        what(details)
        _put(self.account, json.dumps(details, indent=1))


def principal(details: dict[str, Any], called: str) -> dict[str, Any]:
    """A role or user of an export."""
    every = [*details["RoleDetailList"], *details["UserDetailList"]]
    found: dict[str, Any] = next(each for each in every if called in (each.get("RoleName"), each.get("UserName")))
    return found


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# AWS


def _document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": list(resources) or "*"}


def _federated(provider: str, **equals: str) -> dict[str, Any]:
    conditions = {f"{provider}:{key}": value for key, value in equals.items()}
    return {
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Condition": {"StringLike": conditions},
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"},
    }  # fmt: skip


def _role(called: str, trust: list[dict[str, Any]], *attached: str, **policies: dict[str, Any]) -> dict[str, Any]:
    return {
        "RoleName": called, "RoleId": f"AROA{called.upper()}", "Path": "/", "CreateDate": _SINCE,
        "Arn": f"arn:aws:iam::{ACCOUNT}:role/{called}", "AssumeRolePolicyDocument": _document(*trust),
        "RolePolicyList": [{"PolicyName": key, "PolicyDocument": value} for key, value in policies.items()],
        "AttachedManagedPolicies": [{"PolicyName": each.rpartition("/")[2], "PolicyArn": each} for each in attached],
        "InstanceProfileList": [],
    }  # fmt: skip


def _details(key: str) -> dict[str, Any]:
    legacy = f"arn:aws:iam::{ACCOUNT}:user/{LEAKED}"
    by_legacy = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": legacy}}
    rescue = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
    user = {
        "UserName": LEAKED, "UserId": "AIDALEGACY", "Path": "/", "Arn": legacy, "CreateDate": _SINCE, "GroupList": [],
        "AttachedManagedPolicies": [],
        "UserPolicyList": [{"PolicyName": "releases", "PolicyDocument": _document(
            _allow("Releases", ["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::acme-releases/*"))}],
    }  # fmt: skip
    deploy = _document(
        _allow("Ship", ["s3:PutObject", "s3:GetObject"], "arn:aws:s3:::acme-releases/*"),
        _allow("Comfort", ["iam:AttachRolePolicy"], f"arn:aws:iam::{ACCOUNT}:role/{PIPELINE_ROLE}"),
    )
    wide = _document(
        _allow("Data", ["s3:*"]),
        _allow("Machines", ["ec2:*"]),
        _allow("Settings", ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]),
    )
    subject = {"sub": "system:serviceaccount:shop:exporter", "aud": "sts.amazonaws.com"}
    return {
        "UserDetailList": [user],
        "GroupDetailList": [],
        "RoleDetailList": [
            _role(PIPELINE_ROLE, [
                _federated(_GITHUB, sub="repo:acme/shop:*", aud="sts.amazonaws.com"), by_legacy,
            ], deploy=deploy),
            _role(EXPORTER, [_federated(ISSUER, **subject)], wide=wide),
            _role(GUARDED, [rescue], _ADMINISTRATOR),
        ],
        "Policies": [{
            "PolicyName": "AdministratorAccess", "Arn": _ADMINISTRATOR, "Path": "/", "DefaultVersionId": "v1",
            "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": True,
                                   "Document": _document({"Effect": "Allow", "Action": "*", "Resource": "*"})}],
        }],
        "AccessKeyMetadata": [{"UserName": LEAKED, "AccessKeyId": key, "Status": "Active", "CreateDate": _SINCE}],
        "SecretList": [{"Name": "payments/stripe", "ARN":
                        f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:payments/stripe-AbCdEf"}],
        "OpenIDConnectProviderList": [
            {"Arn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{each}", "CreateDate": _SINCE} for each in (_GITHUB, ISSUER)
        ],
    }  # fmt: skip


def _event(moment: datetime, service: str, event: str, asked: dict[str, Any]) -> dict[str, Any]:
    role = f"arn:aws:iam::{ACCOUNT}:role/{EXPORTER}"
    issuer = {"type": "Role", "arn": role, "accountId": ACCOUNT, "userName": EXPORTER}
    return {
        "eventVersion": "1.08", "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "eventName": event,
        "eventSource": f"{service}.amazonaws.com", "awsRegion": "eu-west-1", "sourceIPAddress": "10.0.0.7",
        "userAgent": "exporter/2.1", "recipientAccountId": ACCOUNT, "requestParameters": asked,
        "userIdentity": {
            "type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{EXPORTER}/pod-1",
            "accountId": ACCOUNT, "sessionContext": {"sessionIssuer": issuer},
        },
    }  # fmt: skip


def _trail(now: datetime) -> list[dict[str, Any]]:
    """Each day the exporter lists and reads one bucket, writes another, and looks at its machines."""
    found = []
    for day in range(DAYS):
        moment = now - timedelta(days=DAYS - day, minutes=7)
        found.append(_event(moment, "s3", "ListObjects", {"bucketName": "acme-exports"}))
        found.append(_event(moment, "s3", "GetObject", {"bucketName": "acme-exports", "key": f"in/{day}.csv"}))
        found.append(_event(moment, "s3", "PutObject", {"bucketName": "acme-reports", "key": f"out/{day}.csv"}))
        found.append(_event(moment, "ec2", "DescribeInstances", {}))
    return found


# Terraform


def _state(key: str) -> dict[str, Any]:
    """A state as Terraform writes one: the key of the pipeline's user is in it, in clear."""
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    known = {"id": key, "user": LEAKED, "secret": secret, "status": "Active"}
    return {
        "version": 4, "terraform_version": "1.9.5", "serial": 41, "lineage": "8b6b6a2e-0c36-7c63-9ad4-3d2f1f0b7c55",
        "outputs": {},
        "resources": [
            {"mode": "managed", "type": kind, "name": "ci", "provider": _PROVIDER,
             "instances": [{"schema_version": 0, "attributes": attributes}]}
            for kind, attributes in (
                ("aws_iam_user", {"arn": f"arn:aws:iam::{ACCOUNT}:user/{LEAKED}", "name": LEAKED, "id": LEAKED}),
                ("aws_iam_access_key", known),
            )
        ],
    }  # fmt: skip


def utc_now() -> datetime:
    """Now, in UTC: the trail ends today."""
    return datetime.now(UTC)
