"""Accounts in a few lines, as published laboratories have them, and what is found in them."""

from __future__ import annotations

from typing import Any

from laboratories import A, discover

from remit.inventory.graph import AccessGraph, blast, graph_from_facts
from remit.inventory.model import EdgeFact, Fact, IdentityFact
from remit.kernel.ids import Name, name

Document = dict[str, Any]
IAM = f"arn:aws:iam::{A}"
OTHER = "444455556666"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


def allow(actions: str | list[str], resources: str | list[str] = "*", condition: Document | None = None) -> Document:
    statement: Document = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def deny(actions: str | list[str], resources: str | list[str] = "*", condition: Document | None = None) -> Document:
    return {**allow(actions, resources, condition), "Effect": "Deny"}


def but(actions: str | list[str], effect: str = "Allow") -> Document:
    """Every action but these."""
    return {"Effect": effect, "NotAction": actions, "Resource": "*"}


def trust(principal: Any, condition: Document | None = None, action: str = "sts:AssumeRole") -> Document:
    statement: Document = {"Effect": "Allow", "Principal": principal, "Action": action}
    return {**statement, "Condition": condition} if condition else statement


def service(*names: str) -> Document:
    return trust({"Service": [f"{one}.amazonaws.com" for one in names]})


def document(*statements: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


class Estate:
    """One account; with `beside`, several that are read together."""

    def __init__(self, account: str = A) -> None:
        self.account = account
        self.details: Document = {"UserDetailList": [], "RoleDetailList": [], "GroupDetailList": [], "Policies": []}
        self.beside: list[Estate] = []
        self._graph: AccessGraph | None = None
        self._facts: list[Fact] = []

    def policy(self, local: str, *statements: Document, older: list[Document] | None = None) -> str:
        arn = f"arn:aws:iam::{self.account}:policy/{local}"
        versions = [{"Document": document(*statements), "VersionId": "v2", "IsDefaultVersion": True}]
        if older:
            versions.append({"Document": document(*older), "VersionId": "v1", "IsDefaultVersion": False})
        self.details["Policies"].append({"PolicyName": local, "Arn": arn, "PolicyVersionList": versions})
        return arn

    def user(self, local: str, *statements: Document, groups: tuple[str, ...] = (), **more: Any) -> None:
        entry = self._entry("User", local, statements, **more)
        self.details["UserDetailList"].append({**entry, "GroupList": list(groups), "UserId": f"AIDA{local}"})

    def role(self, local: str, trusted: Document | list[Document], *statements: Document, **more: Any) -> None:
        entry = self._entry("Role", local, statements, **more)
        listed = trusted if isinstance(trusted, list) else [trusted]
        profiles = [{"InstanceProfileName": local}] if more.get("profile") else []
        entry |= {"AssumeRolePolicyDocument": document(*listed), "InstanceProfileList": profiles}
        self.details["RoleDetailList"].append({**entry, "RoleId": f"AROA{local}"})

    def group(self, local: str, *statements: Document, **more: Any) -> None:
        self.details["GroupDetailList"].append(self._entry("Group", local, statements, **more))

    def function(self, local: str, role: str, *grants: Document) -> None:
        arn = f"arn:aws:lambda:us-east-1:{self.account}:function:{local}"
        entry = {"FunctionArn": arn, "FunctionName": local, "Role": f"arn:aws:iam::{self.account}:role/{role}"}
        self.details.setdefault("Functions", []).append(entry)
        if grants:
            listed = self.details.setdefault("FunctionPolicies", [])
            listed.append({"FunctionArn": arn, "Policy": document(*({**one, "Resource": arn} for one in grants))})

    def bucket(self, local: str, *statements: Document) -> None:
        told = {"Bucket": local, "Policy": document(*statements) if statements else None}
        self.details.setdefault("BucketPolicies", []).append(told)

    def _entry(self, kind: str, local: str, statements: tuple[Document, ...], path: str = "/", **more: Any) -> Document:
        attached = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in more.get("attached", ())]
        entry: Document = {
            "Path": path,
            f"{kind}Name": local,
            "Arn": f"arn:aws:iam::{self.account}:{kind.lower()}{path}{local}",
            f"{kind}PolicyList": [
                {"PolicyName": f"p{number}", "PolicyDocument": document(one)} for number, one in enumerate(statements)
            ],
            "AttachedManagedPolicies": attached,
            "Tags": [{"Key": key, "Value": value} for key, value in more.get("tags", {}).items()],
        }
        if more.get("boundary"):
            entry["PermissionsBoundary"] = {"PermissionsBoundaryArn": more["boundary"]}
        return entry

    def facts(self) -> list[Fact]:
        if not self._facts:
            whole = {"Accounts": [one.details for one in (self, *self.beside)]} if self.beside else self.details
            self._facts = discover(whole)
        return self._facts

    def node(self, local: str) -> Name:
        """A user or role by its name, the account's `root`, or a bucket as `s3:NAME`."""
        kind, colon, rest = local.partition(":")
        if colon:
            return name("aws", self.account, kind, rest)
        if local == "root":
            return name("aws", self.account, "root", "root")
        for key, title in (("UserDetailList", "User"), ("RoleDetailList", "Role")):
            for entry in self.details[key]:
                if entry[f"{title}Name"] == local:
                    return name("aws", self.account, title.lower(), f"{entry['Path'].strip('/')}/{local}".lstrip("/"))
        raise KeyError(local)

    def reach(self, start: Name, target: Name) -> str:
        """`yes`, `no`, or `perhaps` where conditions are left open."""
        if self._graph is None:
            self._graph = graph_from_facts(self.facts())
        found = next((one.conditional for one in blast(self._graph, start) if one.node.name == target), None)
        return {None: "no", True: "perhaps", False: "yes"}[found]

    def edges(self, local: str) -> list[EdgeFact]:
        """The edges that leave a user or role."""
        node = self.node(local)
        return [one for one in self.facts() if isinstance(one, EdgeFact) and one.source == node]

    def privileged(self, local: str) -> bool:
        node = self.node(local)
        (fact,) = [one for one in self.facts() if isinstance(one, IdentityFact) and one.name == node]
        return fact.attributes["privileged"] is True
