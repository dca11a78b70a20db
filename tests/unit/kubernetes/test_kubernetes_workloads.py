"""Workloads: as whom they run, what they hold, how they get out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remit.inventory.model import EdgeFact, Fact, FindingFact, IdentityFact, OwnerFact, Relation
from remit.kernel.ids import Name, name

Discover = Callable[..., list[Fact]]


def _pod(spec: str, metadata: str = "") -> str:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop{metadata}}}\nspec: {spec}\n---\n"


def _edges(facts: list[Fact], relation: Relation, source: str = "pod") -> list[Name]:
    start = name("kubernetes", "c1", source, "shop/p")
    return [f.target for f in facts if isinstance(f, EdgeFact) and f.relation is relation and f.source == start]


def _rules(facts: list[Fact]) -> set[str]:
    return {fact.rule for fact in facts if isinstance(fact, FindingFact)}


def _identity(facts: list[Fact], title: str) -> IdentityFact:
    return next(fact for fact in facts if isinstance(fact, IdentityFact) and fact.title == title)


_SECRET = (
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {password: pw1, token: tk1}\n---\n"
)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Deployment", "{template: {spec: {serviceAccountName: a}}}"),
        ("StatefulSet", "{template: {spec: {serviceAccountName: a}}}"),
        ("DaemonSet", "{template: {spec: {serviceAccount: a}}}"),
        ("ReplicaSet", "{template: {spec: {serviceAccountName: a}}}"),
        ("Job", "{template: {spec: {serviceAccountName: a}}}"),
        ("CronJob", "{jobTemplate: {spec: {template: {spec: {serviceAccountName: a}}}}}"),
        ("Pod", "{serviceAccountName: a}"),
    ],
)
def test_every_kind_of_workload_runs_as_its_account(discover: Discover, kind: str, spec: str) -> None:
    facts = discover(f"apiVersion: x/v1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n")
    assert _edges(facts, Relation.RUNS_AS, kind.lower()) == [name("kubernetes", "c1", "serviceaccount", "shop/a")]


def test_without_an_account_it_runs_as_default(discover: Discover) -> None:
    facts = discover(_pod("{containers: []}"))
    assert _edges(facts, Relation.RUNS_AS) == [name("kubernetes", "c1", "serviceaccount", "shop/default")]
    assert _identity(facts, "shop/default").attributes["declared"] is False


def test_a_token_that_is_not_mounted_gives_nothing(discover: Discover) -> None:
    assert _edges(discover(_pod("{automountServiceAccountToken: false}")), Relation.RUNS_AS) == []


def test_the_pod_overrides_its_account_about_the_token(discover: Discover) -> None:
    account = (
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: shop}\n"
        "automountServiceAccountToken: false\n"
    )
    spec = "{serviceAccountName: a, automountServiceAccountToken: true}"
    assert _edges(discover(_pod(spec) + account), Relation.RUNS_AS) != []
    assert _edges(discover(_pod("{serviceAccountName: a}") + account), Relation.RUNS_AS) == []


def test_a_projected_token_counts_as_mounted(discover: Discover) -> None:
    spec = (
        "{automountServiceAccountToken: false, volumes: [{projected: {sources: [{serviceAccountToken: {path: t}}]}}]}"
    )
    assert _edges(discover(_pod(spec)), Relation.RUNS_AS) != []


def test_one_key_holds_one_credential(discover: Discover) -> None:
    env = "{containers: [{name: c, env: [{name: P, valueFrom: {secretKeyRef: {name: s, key: password}}}]}]}"
    assert len(_edges(discover(_SECRET + _pod(env)), Relation.HOLDS)) == 1


@pytest.mark.parametrize(
    "spec",
    [
        "{containers: [{name: c, envFrom: [{secretRef: {name: s}}]}]}",
        "{volumes: [{name: v, secret: {secretName: s}}]}",
        "{volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]}",
        "{imagePullSecrets: [{name: s}]}",
        "{initContainers: [{name: c, envFrom: [{secretRef: {name: s}}]}]}",
    ],
)
def test_a_whole_secret_is_reached(discover: Discover, spec: str) -> None:
    assert name("kubernetes", "c1", "secret", "shop/s") in _edges(discover(_SECRET + _pod(spec)), Relation.CAN_REACH)


def test_pull_secrets_are_reached_only_under_a_condition(discover: Discover) -> None:
    facts = discover(_SECRET + _pod("{imagePullSecrets: [{name: s}]}"))
    (edge,) = [f for f in facts if isinstance(f, EdgeFact) and "imagePullSecrets" in f.evidence]
    assert edge.conditions


def test_a_literal_password_is_found_and_never_shown(discover: Discover) -> None:
    facts = discover(_pod("{containers: [{name: c, env: [{name: DB_PASSWORD, value: hunter2-long}]}]}"))
    assert "kubernetes.plaintext-env" in _rules(facts)
    assert "hunter2-long" not in repr(facts)


@pytest.mark.parametrize(
    "env",
    [
        "{name: TOKEN_FILE, value: some-value}",
        "{name: DB_PASSWORD, value: changeme}",
        "{name: DB_PASSWORD, value: $(FROM_ELSEWHERE)}",
        "{name: LOG_LEVEL, value: debug}",
        "{name: API_URL, value: 'https://api.example.com/v1'}",
    ],
)
def test_what_is_no_credential_is_not_reported(discover: Discover, env: str) -> None:
    assert "kubernetes.plaintext-env" not in _rules(discover(_pod(f"{{containers: [{{name: c, env: [{env}]}}]}}")))


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("{containers: [{name: c, securityContext: {privileged: true}}]}", "kubernetes.privileged-container"),
        (
            "{containers: [{name: c, securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}}]}",
            "kubernetes.dangerous-capability",
        ),
        ("{hostPID: true}", "kubernetes.host-pid"),
        ("{volumes: [{name: v, hostPath: {path: /}}]}", "kubernetes.host-path"),
        ("{volumes: [{name: v, hostPath: {path: /var/run/docker.sock}}]}", "kubernetes.host-path"),
    ],
)
def test_a_way_out_of_the_container_reaches_the_node(discover: Discover, spec: str, rule: str) -> None:
    facts = discover(_pod(spec))
    assert rule in _rules(facts)
    assert name("kubernetes", "c1", "nodes", "*") in _edges(facts, Relation.CAN_REACH)


def test_a_harmless_host_path_does_not_reach_the_node(discover: Discover) -> None:
    facts = discover(_pod("{volumes: [{name: v, hostPath: {path: /var/log/app}}]}"))
    assert name("kubernetes", "c1", "nodes", "*") not in _edges(facts, Relation.CAN_REACH)


def test_an_account_of_several_workloads_is_shared(discover: Discover) -> None:
    facts = discover(_pod("{}") + _pod("{}").replace("name: p", "name: q"))
    assert "kubernetes.shared-account" in _rules(facts)


def test_a_pod_of_a_known_controller_is_not_counted_twice(discover: Discover) -> None:
    owner = ", ownerReferences: [{kind: ReplicaSet, name: r, controller: true}]"
    replicas = (
        "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: r, namespace: shop}\nspec: {template: {spec: {}}}\n"
    )
    assert "kubernetes.shared-account" not in _rules(discover(_pod("{}", owner) + replicas))


def test_owner_is_proposed_from_labels_with_its_evidence(discover: Discover) -> None:
    facts = discover(_pod("{}", ", labels: {example.com/team: payments, app.kubernetes.io/managed-by: Helm}"))
    (owner,) = [fact for fact in facts if isinstance(fact, OwnerFact)]
    assert (owner.owner, owner.method) == ("payments", "label")
    assert "example.com/team" in owner.evidence


def test_environment_comes_from_the_namespace(discover: Discover) -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {env: prod}}\n"
    assert _identity(discover(_pod("{}") + namespace), "pod shop/p").attributes["environment"] == "production"
