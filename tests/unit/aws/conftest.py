"""An account in a few lines, in the form of GetAccountAuthorizationDetails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remit.inventory.connectors.aws import AwsConnector
from remit.inventory.connectors.port import Scan
from remit.inventory.graph import Blast, blast, graph_from_facts
from remit.inventory.model import EdgeFact, Fact, FindingFact, Relation, Skipped
from remit.kernel.ids import Name, name

ACCOUNT = "111122223333"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
Document = dict[str, Any]


def _document(statements: tuple[Document, ...]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@dataclass
class Builder:
    """Collects principals, then discovers them."""

    path: Path
    details: dict[str, Any] = field(
        default_factory=lambda: {"UserDetailList": [], "RoleDetailList": [], "GroupDetailList": [], "Policies": []}
    )

    def policy(self, local: str, *statements: Document) -> str:
        arn = f"arn:aws:iam::{ACCOUNT}:policy/{local}"
        version = {"Document": _document(statements), "VersionId": "v1", "IsDefaultVersion": True}
        self.details["Policies"].append({"PolicyName": local, "Arn": arn, "PolicyVersionList": [version]})
        return arn

    def user(self, local: str, *statements: Document, **more: Any) -> Name:
        entry = self._principal("User", local, statements, more)
        entry["GroupList"] = list(more.get("groups", ()))
        self.details["UserDetailList"].append(entry)
        return name("aws", ACCOUNT, "user", local)

    def role(self, local: str, trust: Document | list[Document], *statements: Document, **more: Any) -> Name:
        entry = self._principal("Role", local, statements, more)
        entry["AssumeRolePolicyDocument"] = {"Statement": trust}
        self.details["RoleDetailList"].append(entry)
        return name("aws", ACCOUNT, "role", local)

    def group(self, local: str, *statements: Document) -> None:
        self.details["GroupDetailList"].append(self._principal("Group", local, statements, {}))

    @staticmethod
    def _principal(kind: str, local: str, statements: tuple[Document, ...], more: dict[str, Any]) -> Document:
        inline = {"PolicyName": "p", "PolicyDocument": _document(statements)}
        attached = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in more.get("attached", ())]
        entry = {
            "Path": "/",
            f"{kind}Name": local,
            "Arn": f"arn:aws:iam::{ACCOUNT}:{kind.lower()}/{local}",
            "CreateDate": "2025-12-01T00:00:00+00:00",
            f"{kind}PolicyList": [inline] if statements else [],
            "AttachedManagedPolicies": attached,
            "Tags": [{"Key": key, "Value": value} for key, value in more.get("tags", {}).items()],
        }
        if "boundary" in more:
            entry["PermissionsBoundary"] = {"PermissionsBoundaryArn": more["boundary"]}
        if "last_used" in more:
            entry["RoleLastUsed"] = more["last_used"]
        return entry

    def facts(self) -> list[Fact]:
        self.path.write_text(json.dumps(self.details))
        connector = AwsConnector.at(str(self.path))
        connector.open()
        scan = Scan(now=datetime(2026, 1, 1, tzinfo=UTC), fingerprint=lambda secret: "hmac:00")
        facts: list[Fact] = []
        for raw in connector.fetch(scan):
            facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
        connector.close()
        return facts

    def blast(self, start: Name) -> Blast:
        return blast(graph_from_facts(self.facts()), start)

    def edges(self, source: Name, relation: Relation = Relation.CAN_REACH) -> list[EdgeFact]:
        edges = [fact for fact in self.facts() if isinstance(fact, EdgeFact)]
        return [edge for edge in edges if edge.source == source and edge.relation is relation]

    def rules(self) -> set[str]:
        return {fact.rule for fact in self.facts() if isinstance(fact, FindingFact)}


@pytest.fixture
def account(tmp_path: Path) -> Builder:
    return Builder(tmp_path / "account.json")


@pytest.fixture
def allow() -> Callable[..., Document]:
    """`allow(actions, resources, condition)`."""

    def make(actions: str | list[str], resources: str | list[str] = "*", condition: Document | None = None) -> Document:
        statement: Document = {"Effect": "Allow", "Action": actions, "Resource": resources}
        return {**statement, "Condition": condition} if condition else statement

    return make


@pytest.fixture
def deny(allow: Callable[..., Document]) -> Callable[..., Document]:
    """`deny(actions, resources, condition)`."""
    return lambda *parts: {**allow(*parts), "Effect": "Deny"}


@pytest.fixture
def trust() -> Callable[..., Document]:
    """`trust(principal, condition)`."""

    def make(principal: Any, condition: Document | None = None) -> Document:
        federated = isinstance(principal, dict) and "Federated" in principal
        action = "sts:AssumeRoleWithWebIdentity" if federated else "sts:AssumeRole"
        statement: Document = {"Effect": "Allow", "Principal": principal, "Action": action}
        return {**statement, "Condition": condition} if condition else statement

    return make
