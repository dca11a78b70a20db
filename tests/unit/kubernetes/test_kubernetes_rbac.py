"""What RBAC lets a service account do, judged over all its bindings together."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent, indent

import pytest

from remit.inventory.graph import Blast, blast, graph_from_facts
from remit.inventory.model import Fact, FindingFact, Relation, Skipped
from remit.kernel.ids import name

Discover = Callable[..., list[Fact]]
_BOT = name("kubernetes", "c1", "serviceaccount", "ci/bot")
_VICTIM = name("kubernetes", "c1", "serviceaccount", "shop/victim")
_ADMIN = name("kubernetes", "c1", "admin", "*")
_SECRET = name("kubernetes", "c1", "secret", "shop/db")
_WORKLOAD = name("kubernetes", "c1", "deployment", "shop/api")
_ESTATE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: victim, namespace: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData: {password: pw-of-shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec: {template: {spec: {serviceAccountName: other, containers: [{name: a}]}}}
---
"""


def _binding(rules: str, *, namespace: str = "shop", number: int = 1) -> str:
    kind = "Role" if namespace else "ClusterRole"
    within = f", namespace: {namespace}" if namespace else ""
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r{number}{within}}}\n"
        f"rules:\n{indent(dedent(rules).strip(), '  ')}\n---\n"
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata: {{name: b{number}{within}}}\n"
        f"roleRef: {{kind: {kind}, name: r{number}}}\n"
        "subjects: [{kind: ServiceAccount, name: bot, namespace: ci}]\n---\n"
    )


def _reach(discover: Discover, *bindings: str) -> Blast:
    return blast(graph_from_facts(discover(_ESTATE + "".join(bindings))), _BOT)


def _rule(group: str, resource: str, verbs: str, names: str = "") -> str:
    limited = f", resourceNames: [{names}]" if names else ""
    return f'- {{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{verbs}]{limited}}}'


@pytest.mark.parametrize("verb", ["get", "list", "watch"])
def test_whoever_reads_secrets_reaches_their_credentials(discover: Discover, verb: str) -> None:
    found = _reach(discover, _binding(_rule("", "secrets", verb)))
    assert _SECRET in found
    assert "password" in found.by_kind


@pytest.mark.parametrize("verb", ["create", "delete", "patch"])
def test_whoever_only_writes_secrets_reads_none(discover: Discover, verb: str) -> None:
    assert _SECRET not in _reach(discover, _binding(_rule("", "secrets", verb)))


def test_resource_names_limit_what_is_read(discover: Discover) -> None:
    assert _SECRET not in _reach(discover, _binding(_rule("", "secrets", "get", "another")))
    assert _SECRET in _reach(discover, _binding(_rule("", "secrets", "get", "db")))


def test_rights_end_at_the_namespace_of_the_binding(discover: Discover) -> None:
    assert _SECRET not in _reach(discover, _binding(_rule("", "secrets", "get"), namespace="other"))


def test_a_cluster_role_binding_reaches_every_namespace(discover: Discover) -> None:
    assert _SECRET in _reach(discover, _binding(_rule("", "secrets", "get"), namespace=""))


@pytest.mark.parametrize(
    ("group", "resource", "verb"),
    [
        ("", "pods", "create"),
        ("apps", "deployments", "patch"),
        ("batch", "cronjobs", "update"),
        ("", "serviceaccounts/token", "create"),
        ("", "serviceaccounts", "impersonate"),
    ],
)
def test_ways_to_become_any_service_account_of_a_namespace(
    discover: Discover, group: str, resource: str, verb: str
) -> None:
    assert _VICTIM in _reach(discover, _binding(_rule(group, resource, verb)))


def test_a_pod_that_one_may_create_can_mount_any_secret(discover: Discover) -> None:
    assert _SECRET in _reach(discover, _binding(_rule("", "pods", "create")))


def test_exec_enters_the_workloads_and_not_every_account(discover: Discover) -> None:
    found = _reach(discover, _binding(_rule("", "pods/exec", "create")))
    assert _WORKLOAD in found
    assert _VICTIM not in found


def test_reading_pods_is_harmless(discover: Discover) -> None:
    found = _reach(discover, _binding(_rule("", "pods", "get, list")))
    assert found.becomes == ()


def test_create_limited_to_names_never_matches(discover: Discover) -> None:
    assert _VICTIM not in _reach(discover, _binding(_rule("", "pods", "create", "p1")))


def test_impersonation_is_its_own_relation(discover: Discover) -> None:
    path = _reach(discover, _binding(_rule("", "serviceaccounts", "impersonate", "victim"))).path(_VICTIM)
    assert [edge.relation for edge in path] == [Relation.IMPERSONATE]


def test_impersonating_any_group_is_to_be_administrator(discover: Discover) -> None:
    group = _binding(_rule("", "groups", "impersonate"), namespace="")
    somebody = _binding(_rule("", "serviceaccounts", "impersonate", "victim"), number=2)
    assert _ADMIN in _reach(discover, group, somebody)
    assert _ADMIN not in _reach(discover, group), "the API server refuses groups without a user"


def test_bind_needs_a_binding_that_can_be_changed(discover: Discover) -> None:
    rbac = "rbac.authorization.k8s.io"
    alone = _binding(_rule(rbac, "clusterroles", "bind"), namespace="")
    pair = _binding(_rule(rbac, "rolebindings", "create"), number=2)
    assert _SECRET not in _reach(discover, alone)
    assert _SECRET in _reach(discover, alone, pair)


def test_escalate_needs_a_role_that_can_be_changed(discover: Discover) -> None:
    rbac = "rbac.authorization.k8s.io"
    alone = _binding(_rule(rbac, "roles", "escalate"))
    assert _SECRET not in _reach(discover, alone)
    assert _SECRET in _reach(discover, alone, _binding(_rule(rbac, "roles", "patch"), number=2))


def test_reading_everything_is_not_administration(discover: Discover) -> None:
    found = _reach(discover, _binding(_rule("*", "*", "get, list")))
    assert name("kubernetes", "c1", "admin", "shop") not in found
    assert _SECRET in found
    assert _VICTIM not in found


def test_cluster_admin_is_known_without_its_manifest(discover: Discover) -> None:
    text = (
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n"
        "roleRef: {kind: ClusterRole, name: cluster-admin}\n"
        "subjects: [{kind: ServiceAccount, name: bot, namespace: ci}]\n"
    )
    facts = discover(_ESTATE + text)
    assert _VICTIM in blast(graph_from_facts(facts), _BOT)
    assert "kubernetes.wildcard-rights" in [fact.rule for fact in facts if isinstance(fact, FindingFact)]


def test_an_aggregated_role_has_the_rules_of_those_it_selects(discover: Discover) -> None:
    rbac = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole"
    text = (
        f"{rbac}\nmetadata: {{name: sum}}\naggregationRule: {{clusterRoleSelectors: [{{matchLabels: {{to: sum}}}}]}}\n"
        f"---\n{rbac}\nmetadata: {{name: part, labels: {{to: sum}}}}\nrules:\n{_rule('', 'secrets', 'get')}\n---\n"
        f"{rbac}Binding\nmetadata: {{name: b}}\nroleRef: {{kind: ClusterRole, name: sum}}\n"
        "subjects: [{kind: ServiceAccount, name: bot, namespace: ci}]\n"
    )
    assert _SECRET in _reach(discover, text)


def test_rights_of_the_group_of_all_accounts_reach_each_of_them(discover: Discover) -> None:
    text = _binding(_rule("", "secrets", "get")).replace(
        "{kind: ServiceAccount, name: bot, namespace: ci}", "{kind: Group, name: system:serviceaccounts}"
    )
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: bot, namespace: ci}\n"
    assert _SECRET in _reach(discover, text, account)


def test_a_binding_to_an_unknown_role_is_reported(discover: Discover) -> None:
    text = (
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b}\n"
        "roleRef: {kind: ClusterRole, name: vendor}\nsubjects: [{kind: User, name: v}]\n"
    )
    assert [fact.reason for fact in discover(text) if isinstance(fact, Skipped)] == ["not-supported"]


def test_rights_of_anonymous_callers_are_critical(discover: Discover) -> None:
    text = _binding(_rule("", "secrets", "get")).replace(
        "{kind: ServiceAccount, name: bot, namespace: ci}", "{kind: User, name: system:anonymous}"
    )
    assert "kubernetes.anonymous-rights" in [f.rule for f in discover(text) if isinstance(f, FindingFact)]
