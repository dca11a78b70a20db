"""One answer at a time: what a rule, a binding and a caller mean, in the form of a SubjectAccessReview."""

from __future__ import annotations

from textwrap import dedent

import pytest
import yaml

from remit.inventory.connectors.kubernetes.authorizer import Caller, allowed
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, read_objects
from remit.inventory.connectors.kubernetes.reading import Document
from remit.inventory.connectors.kubernetes.rules import Subject

_BOT = Subject("ServiceAccount", "ci", "bot")
_ANN = Caller(name="ann")


def _cluster(*texts: str) -> Cluster:
    cluster = Cluster()
    for text in texts:
        for body in yaml.safe_load_all(dedent(text)):
            for item in read_objects(Document("all.yaml", 1, {"apiVersion": "rbac.authorization.k8s.io/v1", **body})):
                assert isinstance(item, Object)
                cluster.add(item)
    return cluster


def _role(rule: str, *, namespace: str = "", labels: str = "") -> str:
    kind = "Role" if namespace else "ClusterRole"
    within = f", namespace: {namespace}" if namespace else ""
    return f"kind: {kind}\nmetadata: {{name: r{within}, labels: {{{labels}}}}}\nrules: [{{{rule}}}]\n"


def _binding(whom: str, role: str = "r", *, namespace: str = "", kind: str = "ClusterRole") -> str:
    within = f", namespace: {namespace}" if namespace else ""
    return (
        f"kind: {'RoleBinding' if namespace else 'ClusterRoleBinding'}\nmetadata: {{name: b{within}}}\n"
        f"roleRef: {{kind: {kind}, name: '{role}'}}\nsubjects: [{{{whom}}}]\n"
    )


_TO_BOT = "kind: ServiceAccount, name: bot, namespace: ci"
_TO_ANN = "kind: User, name: ann"
_READ = 'apiGroups: [""], resources: [secrets], verbs: [get]'


def test_an_allowed_request_names_binding_role_and_subject() -> None:
    cluster = _cluster(_role(_READ), _binding(_TO_BOT, namespace="shop"))
    assert allowed(cluster, _BOT, "get", "", "secrets", namespace="shop").status() == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "b/shop" of ClusterRole "r" to ServiceAccount "bot/ci"',
    }


def test_a_refusal_has_no_reason() -> None:
    assert allowed(_cluster(), _ANN, "get", "", "pods").status() == {"allowed": False}


def test_a_binding_to_a_role_that_is_not_there_is_the_reason_of_the_refusal() -> None:
    cluster = _cluster(_binding(_TO_ANN, "gone"))
    assert allowed(cluster, _ANN, "get", "", "pods").status() == {
        "allowed": False,
        "reason": 'RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found',
    }


def test_a_cluster_role_bound_in_a_namespace_ends_there() -> None:
    cluster = _cluster(_role(_READ), _binding(_TO_ANN, namespace="shop"))
    assert allowed(cluster, _ANN, "get", "", "secrets", namespace="shop").allowed
    assert not allowed(cluster, _ANN, "get", "", "secrets", namespace="web").allowed
    assert not allowed(cluster, _ANN, "get", "", "secrets").allowed


@pytest.mark.parametrize(
    ("resources", "resource", "subresource", "expected"),
    [
        ("pods", "pods", "", True),
        ("pods", "pods", "exec", False),
        ("pods/exec", "pods", "exec", True),
        ("'*/exec'", "pods", "exec", True),
        ("'*/exec'", "pods", "", False),
        ("'*/exec'", "pods", "ec", False),
        ("pods/*", "pods", "exec", False),
        ("'*/*'", "pods", "exec", False),
        ("'*'", "pods", "exec", True),
        ("Pods", "pods", "", False),
    ],
)
def test_forms_of_resources(resources: str, resource: str, subresource: str, expected: bool) -> None:
    cluster = _cluster(_role(f'apiGroups: [""], resources: [{resources}], verbs: [get]'), _binding(_TO_ANN))
    assert allowed(cluster, _ANN, "get", "", resource, subresource).allowed is expected


@pytest.mark.parametrize(("name", "expected"), [("db", True), ("other", False), ("", False)])
def test_names_limit_what_names_an_object(name: str, expected: bool) -> None:
    rule = 'apiGroups: [""], resources: [secrets], verbs: [get, list, create], resourceNames: [db]'
    cluster = _cluster(_role(rule), _binding(_TO_ANN))
    for verb in ("get", "list", "create"):
        assert allowed(cluster, _ANN, verb, "", "secrets", name=name).allowed is expected


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("/healthz", "/healthz", True),
        ("/healthz", "/healthz/etcd", False),
        ("/healthz/*", "/healthz/etcd", True),
        ("/healthz/*", "/healthz", False),
        ("*", "/metrics", True),
        ("/a*/b", "/ax/b", False),
    ],
)
def test_paths_that_are_no_resources(url: str, path: str, expected: bool) -> None:
    cluster = _cluster(_role(f"nonResourceURLs: ['{url}'], verbs: [get]"), _binding(_TO_ANN))
    assert allowed(cluster, _ANN, "get", path=path).allowed is expected


def test_rules_for_resources_say_nothing_of_paths() -> None:
    cluster = _cluster(_role("apiGroups: ['*'], resources: ['*'], verbs: ['*']"), _binding(_TO_ANN))
    assert not allowed(cluster, _ANN, "get", path="/metrics").allowed


@pytest.mark.parametrize(
    ("group", "who", "expected"),
    [
        ("system:serviceaccounts", _BOT, True),
        ("system:serviceaccounts:ci", _BOT, True),
        ("system:serviceaccounts:web", _BOT, False),
        ("system:authenticated", _BOT, True),
        ("system:authenticated", _ANN, True),
        ("system:serviceaccounts", _ANN, False),
        ("system:unauthenticated", Caller(name="system:anonymous"), True),
        ("system:authenticated", Caller(name="system:anonymous"), False),
        ("system:nodes", Caller(name="system:node:n1", groups=("system:nodes",)), True),
        ("system:nodes", Caller(name="system:node:n1"), False),
    ],
)
def test_groups_that_the_server_gives(group: str, who: Subject | Caller, expected: bool) -> None:
    cluster = _cluster(_role(_READ), _binding(f"kind: Group, name: '{group}'"))
    assert allowed(cluster, who, "get", "", "secrets").allowed is expected


def test_masters_pass_without_any_binding() -> None:
    assert allowed(_cluster(), Caller(name="root", groups=("system:masters",)), "delete", "", "nodes").allowed


def test_a_service_account_without_a_namespace_is_nobody_in_a_cluster_role_binding() -> None:
    cluster = _cluster(_role(_READ), _binding("kind: ServiceAccount, name: bot"))
    assert not allowed(cluster, Subject("ServiceAccount", "default", "bot"), "get", "", "secrets").allowed


def test_a_user_name_of_a_service_account_is_that_account() -> None:
    cluster = _cluster(_role(_READ), _binding("kind: User, name: 'system:serviceaccount:ci:bot'"))
    assert allowed(cluster, _BOT, "get", "", "secrets").allowed


_SUM = """
kind: ClusterRole
metadata: {name: sum, labels: {to: more}}
aggregationRule: {clusterRoleSelectors: [SELECTOR]}
rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]
"""


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("{matchLabels: {to: sum}}", "to: sum", True),
        ("{matchLabels: {to: sum}}", "to: other", False),
        ("{matchExpressions: [{key: to, operator: In, values: [a, sum]}]}", "to: sum", True),
        ("{matchExpressions: [{key: to, operator: NotIn, values: [sum]}]}", "to: sum", False),
        ("{matchExpressions: [{key: to, operator: NotIn, values: [sum]}]}", "", True),
        ("{matchExpressions: [{key: to, operator: Exists}]}", "to: x", True),
        ("{matchExpressions: [{key: to, operator: DoesNotExist}]}", "to: x", False),
        ("{matchLabels: {to: sum}, matchExpressions: [{key: at, operator: Exists}]}", "to: sum", False),
    ],
)
def test_aggregation_chooses_by_labels_and_expressions(selector: str, labels: str, expected: bool) -> None:
    cluster = _cluster(_SUM.replace("SELECTOR", selector), _role(_READ, labels=labels), _binding(_TO_ANN, "sum"))
    assert allowed(cluster, _ANN, "get", "", "secrets").allowed is expected
    assert not allowed(cluster, _ANN, "delete", "", "nodes").allowed, "rules beside selectors are overwritten"


def test_aggregation_in_chains_and_circles_ends() -> None:
    chain = _SUM.replace("SELECTOR", "{matchLabels: {to: middle}}")
    middle = (
        "kind: ClusterRole\nmetadata: {name: middle, labels: {to: middle}}\nrules: []\n"
        "aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: leaf}}, {matchLabels: {to: more}}]}\n"
    )
    cluster = _cluster(chain, middle, _role(_READ, labels="to: leaf"), _binding(_TO_ANN, "sum"))
    assert allowed(cluster, _ANN, "get", "", "secrets").allowed


def test_a_role_labelled_for_it_extends_the_built_in_ones() -> None:
    custom = _role(
        "apiGroups: [x.io], resources: [things], verbs: [get]",
        labels="'rbac.authorization.k8s.io/aggregate-to-view': 'true'",
    )
    for built_in in ("view", "edit", "admin"):
        cluster = _cluster(custom, _binding(_TO_ANN, built_in, namespace="shop"))
        assert allowed(cluster, _ANN, "get", "x.io", "things", namespace="shop").allowed
    assert not allowed(cluster, _ANN, "bind", "rbac.authorization.k8s.io", "clusterroles", namespace="shop").allowed
