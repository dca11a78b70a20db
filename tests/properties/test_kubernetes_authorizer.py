"""The authorizer against a small oracle that follows upstream's `rbac.go` line by line, on thousands of requests.

The oracle reads plain manifests and shares no code with the product. Provenance of its functions: `VerbMatches`,
`APIGroupMatches`, `ResourceMatches`, `ResourceNameMatches` and `NonResourceURLMatches` of
`pkg/apis/rbac/v1/evaluation_helpers.go`; `appliesTo` and `VisitRulesFor` of `pkg/registry/rbac/validation/rule.go`; the
aggregation controller's loop.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from remit.inventory.connectors.kubernetes.authorizer import Authorizer, Caller, allowed
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, read_objects
from remit.inventory.connectors.kubernetes.reading import Document

_RBAC = "rbac.authorization.k8s.io"
_SPACES = ("shop", "web", "kube-system")
_ACCOUNTS = ("bot", "api", "default")
_GROUPS = ("", "apps", _RBAC, "x.io")
_RESOURCES = ("pods", "secrets", "nodes", "deployments", "serviceaccounts")
_SUBRESOURCES = ("", "", "exec", "token", "proxy", "ec")
_SPOKEN = (*_RESOURCES, "*", "*/exec", "*/token", "pods/exec", "pods/*", "*/*", "serviceaccounts/token", "nodes/proxy")
_VERBS = ("get", "list", "create", "update", "impersonate", "escalate", "bind", "deletecollection")
_NAMES = ("a", "b", "*", "")
_URLS = ("/healthz", "/healthz/*", "/api*", "*", "/metrics", "/api/**", "/", "healthz*")
_PATHS = ("/healthz", "/healthz/etcd", "/api", "/apis", "/api/v1", "/metrics", "/", "/metricsx")
_LABELS = {"to": ("x", "y", "z"), "tier": ("one", "two")}


class Oracle:
    """What the API server would answer."""

    def __init__(self, manifests: list[dict[str, Any]]) -> None:
        self.objects = manifests
        self.roles = {
            (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]): m
            for m in manifests
            if m["kind"] in ("Role", "ClusterRole")
        }
        self.aggregate()

    def aggregate(self) -> None:
        changed = True
        while changed:
            changed = False
            for role in self.roles.values():
                if "aggregationRule" not in role:
                    continue
                rules: list[Any] = []
                for other in self.roles.values():
                    if other is not role and other["kind"] == "ClusterRole" and self.chosen(role, other):
                        rules += [rule for rule in other["rules"] if rule not in rules]
                if len(rules) != len(role["rules"]):
                    role["rules"], changed = rules, True

    @staticmethod
    def chosen(role: Any, other: Any) -> bool:
        labels = other["metadata"].get("labels", {})
        for selector in role["aggregationRule"]["clusterRoleSelectors"]:
            good = all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())
            for entry in selector.get("matchExpressions", []):
                key, operator, values = entry["key"], entry["operator"], entry.get("values", [])
                if operator == "In":
                    good = good and key in labels and labels[key] in values
                elif operator == "NotIn":
                    good = good and not (key in labels and labels[key] in values)
                elif operator == "Exists":
                    good = good and key in labels
                else:
                    good = good and key not in labels
            if good:
                return True
        return False

    def authorize(self, user: str, groups: list[str], request: dict[str, str]) -> bool:
        if "system:masters" in groups:
            return True
        for kind in ("ClusterRoleBinding", "RoleBinding"):
            for binding in self.objects:
                if binding["kind"] != kind:
                    continue
                space = binding["metadata"].get("namespace", "")
                if kind == "RoleBinding" and (not request["namespace"] or space != request["namespace"]):
                    continue
                if not any(self.applies(user, groups, s, space) for s in binding["subjects"]):
                    continue
                ref = binding["roleRef"]
                role = self.roles.get((ref["kind"], space if ref["kind"] == "Role" else "", ref["name"]))
                if role is not None and any(self.matches(rule, request) for rule in role["rules"]):
                    return True
        return False

    @staticmethod
    def applies(user: str, groups: list[str], subject: dict[str, str], space: str) -> bool:
        if subject["kind"] == "User":
            return user == subject["name"]
        if subject["kind"] == "Group":
            return subject["name"] in groups
        space = subject.get("namespace") or space
        return bool(space) and user == "system:serviceaccount:" + space + ":" + subject["name"]

    @staticmethod
    def matches(rule: dict[str, list[str]], request: dict[str, str]) -> bool:
        verbs = rule["verbs"]
        if "*" not in verbs and request["verb"] not in verbs:
            return False
        if request["path"]:
            for url in rule.get("nonResourceURLs", []):
                if url == "*" or url == request["path"]:
                    return True
                if url[-1:] == "*" and request["path"].startswith(url.rstrip("*")):
                    return True
            return False
        groups = rule.get("apiGroups", [])
        if "*" not in groups and request["group"] not in groups:
            return False
        names = rule.get("resourceNames", [])
        if names and request["name"] not in names:
            return False
        subresource = request["subresource"]
        combined = request["resource"] + ("/" + subresource if subresource else "")
        for spoken in rule.get("resources", []):
            if spoken == "*" or spoken == combined:
                return True
            if subresource and len(spoken) == len(subresource) + 2 and spoken[:2] == "*/" and spoken[2:] == subresource:
                return True
        return False


def _some(dice: random.Random, choices: tuple[str, ...], most: int = 3) -> list[str]:
    return dice.sample(choices, dice.randint(1, min(most, len(choices))))


def _rule(dice: random.Random, *, cluster: bool) -> dict[str, list[str]]:
    verbs = ["*"] if dice.random() < 0.4 else _some(dice, _VERBS)
    if cluster and dice.random() < 0.2:
        return {"verbs": verbs, "nonResourceURLs": _some(dice, _URLS)}
    groups = ["*"] if dice.random() < 0.4 else _some(dice, _GROUPS)
    rule = {"verbs": verbs, "apiGroups": groups, "resources": _some(dice, _SPOKEN, 5)}
    return {**rule, "resourceNames": _some(dice, _NAMES)} if dice.random() < 0.3 else rule


def _selector(dice: random.Random) -> dict[str, Any]:
    key = dice.choice(tuple(_LABELS))
    if dice.random() < 0.5:
        return {"matchLabels": {key: dice.choice(_LABELS[key])}}
    operator = dice.choice(("In", "NotIn", "Exists", "DoesNotExist"))
    values = {"values": _some(dice, _LABELS[key])} if operator in ("In", "NotIn") else {}
    return {"matchExpressions": [{"key": key, "operator": operator, **values}]}


def _manifests(dice: random.Random) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number in range(dice.randint(3, 8)):
        labels = {key: dice.choice(values) for key, values in _LABELS.items() if dice.random() < 0.5}
        role: dict[str, Any] = {"kind": "ClusterRole", "metadata": {"name": f"c{number}", "labels": labels}}
        if dice.random() < 0.35:
            selectors = [_selector(dice) for _ in range(dice.randint(1, 2))]
            made.append({**role, "aggregationRule": {"clusterRoleSelectors": selectors}, "rules": []})
        else:
            made.append({**role, "rules": [_rule(dice, cluster=True) for _ in range(dice.randint(0, 3))]})
    for space in _SPACES:
        for number in range(dice.randint(0, 3)):
            rules = [_rule(dice, cluster=False) for _ in range(dice.randint(1, 3))]
            made.append({"kind": "Role", "metadata": {"name": f"r{number}", "namespace": space}, "rules": rules})
    for number in range(dice.randint(5, 16)):
        space = dice.choice(("", *_SPACES))
        kind, local = ("ClusterRole", f"c{dice.randint(0, 8)}")
        if space and dice.random() < 0.5:
            kind, local = "Role", f"r{dice.randint(0, 3)}"
        made.append(
            {
                "kind": "RoleBinding" if space else "ClusterRoleBinding",
                "metadata": {"name": f"b{number}", **({"namespace": space} if space else {})},
                "roleRef": {"kind": kind, "name": local},
                "subjects": [_subject(dice) for _ in range(dice.randint(1, 3))],
            }
        )
    return made


def _subject(dice: random.Random) -> dict[str, str]:
    match dice.randint(0, 2):
        case 0:
            named = {"kind": "ServiceAccount", "name": dice.choice(_ACCOUNTS)}
            return {**named, "namespace": dice.choice(_SPACES)} if dice.random() < 0.8 else named
        case 1:
            users = ("ann", "system:anonymous", "system:serviceaccount:shop:bot", "system:node:n1")
            return {"kind": "User", "name": dice.choice(users)}
        case _:
            groups = ("devs", "system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")
            return {"kind": "Group", "name": dice.choice((*groups, "system:unauthenticated", "system:nodes"))}


def _user(dice: random.Random) -> tuple[str, list[str], list[str]]:
    """A name, the groups that the caller gives, and all that the API server makes of them."""
    match dice.randint(0, 3):
        case 0:
            space = dice.choice(_SPACES)
            name = f"system:serviceaccount:{space}:{dice.choice(_ACCOUNTS)}"
            return name, [], ["system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated"]
        case 1:
            return "system:anonymous", [], ["system:unauthenticated"]
        case 2:
            return "system:node:n1", ["system:nodes"], ["system:nodes", "system:authenticated"]
        case _:
            given = dice.choice(([], ["devs"], ["devs", "ops"], ["system:masters"] if dice.random() < 0.1 else []))
            return "ann", given, [*given, "system:authenticated"]


def _request(dice: random.Random) -> dict[str, str]:
    asked = dict.fromkeys(("group", "resource", "subresource", "name", "namespace", "path"), "")
    asked["verb"] = dice.choice(_VERBS)
    if dice.random() < 0.15:
        return {**asked, "path": dice.choice(_PATHS)}
    return {
        **asked,
        "group": dice.choice(_GROUPS),
        "resource": dice.choice(_RESOURCES),
        "subresource": dice.choice(_SUBRESOURCES),
        "name": dice.choice(("", "a", "b", "c")),
        "namespace": dice.choice(("", *_SPACES)),
    }


def cluster_of(manifests: list[dict[str, Any]]) -> Cluster:
    cluster = Cluster()
    for body in manifests:
        for item in read_objects(Document("all.yaml", 1, {"apiVersion": f"{_RBAC}/v1", **body})):
            assert isinstance(item, Object)
            cluster.add(item)
    return cluster


def _answers(seed: int, questions: int) -> Counter[bool]:
    dice = random.Random(seed)
    manifests = _manifests(dice)
    authorizer = Authorizer(cluster_of(manifests))
    oracle = Oracle(manifests)
    told: Counter[bool] = Counter()
    for _ in range(questions):
        name, given, groups = _user(dice)
        request = _request(dice)
        answer = authorizer.ask(Caller(name=name, groups=tuple(given)), **request)
        assert answer.allowed is oracle.authorize(name, groups, request), (seed, name, given, request, answer)
        told[answer.allowed] += 1
    return told


@pytest.mark.parametrize("block", range(10))
def test_every_answer_is_that_of_the_oracle(block: int) -> None:
    told: Counter[bool] = Counter()
    for seed in range(block * 40, block * 40 + 40):
        told += _answers(seed, 100)
    assert told[True] > 200, "the cases must not all be refusals"
    assert told[False] > 500


def test_the_function_and_the_class_say_the_same() -> None:
    dice = random.Random(7)
    manifests = _manifests(dice)
    cluster = cluster_of(manifests)
    authorizer = Authorizer(cluster)
    for _ in range(30):
        name, given, _ = _user(dice)
        request, who = _request(dice), Caller(name=name, groups=tuple(given))
        assert allowed(cluster, who, **request) == authorizer.ask(who, **request)
