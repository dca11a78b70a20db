"""The Kubernetes connector on an API: the same names as from manifests, with exactly the rights that it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_api import ISSUER, KubernetesApi, kubernetes_api
from remit.inventory.connectors.kubernetes import KubernetesConnector, make
from remit.inventory.connectors.kubernetes.server import LISTED, cluster_role
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, ConnectorContract, ConnectorStage, facts_of, fingerprint
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, ResourceFact, Skipped
from remit.kernel.errors import Denied, Misconfigured, Rejected, Unavailable
from remit.kernel.ids import name
from remit.providers.kubernetes import reader

_SHOP = Path(__file__).parents[2] / "data" / "kubernetes" / "shop"
_VALUES = ("s3cr3t-orders", "pull-me-please", "wJalrXUtnFEMI", "7f3a9c1e5b7d2f4a")
_EXTRA = """
apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: front
  namespace: web
  annotations: {iam.gke.io/gcp-service-account: front@proj.iam.gserviceaccount.com}
---
apiVersion: v1
kind: Pod
metadata: {name: front-1, namespace: web}
spec:
  serviceAccountName: front
  nodeName: node-7
  containers: [{name: main, image: "web:1"}]
  volumes:
  - name: aws
    projected:
      sources: [{serviceAccountToken: {audience: pods.eks.amazonaws.com, expirationSeconds: 3600, path: token}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: web}
spec: {podSelector: {}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: gate}
webhooks: [{name: gate.example.com, failurePolicy: Ignore}]
"""


def _populate(api: KubernetesApi) -> None:
    documents = [one for file in sorted(_SHOP.glob("*.y*ml")) for one in yaml.safe_load_all(file.read_text()) if one]
    spaces = {one["metadata"].get("namespace") for one in documents} - {None}
    api.apply(yaml.safe_dump_all([one for one in documents if one["kind"] == "Namespace"]))
    api.namespace(*sorted(spaces))
    for one in documents:
        api.apply(yaml.safe_dump(one))
    api.apply(_EXTRA)


def _token(api: KubernetesApi, role: dict[str, Any]) -> str:
    """Of a new account with this cluster role alone."""
    number = len(api.names("serviceaccounts", "kube-system"))
    account, role = f"reader-{number}", {**role, "metadata": {"name": f"reader-{number}"}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}],
    }
    made = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "kube-system"}}
    api.apply(yaml.safe_dump_all([made, role, binding]))
    return str(api.token_for(account, "kube-system", 3600)["token"])


@pytest.fixture(scope="module")
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as served:
        _populate(served)
        yield served


@pytest.fixture(scope="module")
def token(api: KubernetesApi) -> str:
    return _token(api, cluster_role())


def _connector(api: KubernetesApi, token: str, **options: str) -> KubernetesConnector:
    return make(api.url, {"cluster": "shop", "ca": str(api.ca), **options}, token)


@pytest.fixture(scope="module")
def stage(api: KubernetesApi, token: str) -> ConnectorStage:
    return ConnectorStage(
        connector=lambda: _connector(api, token, secrets="values"),
        expected=(
            name("kubernetes", "shop", "serviceaccount", "web/front"),
            name("kubernetes", "shop", "deployment", "shop/orders-api"),
            name("kubernetes", "shop", "secret", "shop/aws-backup"),
            name("oidc", ISSUER.removeprefix("https://"), "subject", "system:serviceaccount:web:front"),
        ),
        secrets=(*_VALUES, token),
        refused=lambda: _connector(api, "no" + token),
    )


class TestKubernetes(ConnectorContract):
    """On an API server."""


def _names(facts: list[Fact]) -> set[str]:
    return {
        fact.name for fact in facts if isinstance(fact, IdentityFact | ResourceFact) and "/reader-" not in fact.name
    }


def test_manifests_and_api_of_one_cluster_give_the_same_names(api: KubernetesApi, token: str) -> None:
    manifests = _names(facts_of(KubernetesConnector(_SHOP, cluster="shop")))
    assert manifests - _names(facts_of(_connector(api, token))) == set()


def test_manifests_and_api_give_the_same_rights(api: KubernetesApi, token: str) -> None:
    def edges(facts: list[Fact]) -> set[tuple[str, str, str]]:
        return {(one.source, one.relation, one.target) for one in facts if isinstance(one, EdgeFact)}

    live = edges(facts_of(_connector(api, token, secrets="values")))
    assert edges(facts_of(KubernetesConnector(_SHOP, cluster="shop"))) - live == set()


def test_the_whole_cluster_is_seen_with_the_role_that_it_asks_for(api: KubernetesApi, token: str) -> None:
    unseen = [fact.what for fact in facts_of(_connector(api, token)) if isinstance(fact, Skipped)]
    assert [what for what in unseen if "shop/vendor" not in what] == []  # it binds a role that is nowhere


@pytest.mark.parametrize("missing", [one.resource for one in LISTED])
def test_each_right_is_needed_and_the_rest_is_read_without_it(api: KubernetesApi, missing: str) -> None:
    role = cluster_role()
    rules = [
        {**rule, "resources": [one for one in rule["resources"] if one != missing]} if "resources" in rule else rule
        for rule in role["rules"]
    ]
    facts = facts_of(_connector(api, _token(api, {**role, "rules": rules})))
    assert [fact.what for fact in facts if isinstance(fact, Skipped) and fact.reason == "not-permitted"] == [
        f"{missing} of the cluster"
    ]
    assert len(_names(facts)) > 10


def test_values_of_secrets_stay_in_the_cluster_unless_asked_for(api: KubernetesApi, token: str) -> None:
    facts = facts_of(_connector(api, token))
    assert name("kubernetes", "shop", "secret", "shop/aws-backup") in _names(facts)
    assert not [one for one in facts if isinstance(one, CredentialFact) and "secret" in one.attributes]
    asked = facts_of(_connector(api, token, secrets="values"))
    held = [one for one in asked if isinstance(one, CredentialFact) and "secret" in one.attributes]
    assert held and not any(one.exposed for one in held)


def test_pods_tell_their_node_and_for_whom_their_tokens_are(api: KubernetesApi, token: str) -> None:
    pod = next(
        fact
        for fact in facts_of(_connector(api, token))
        if isinstance(fact, IdentityFact) and fact.name.endswith("pod:web/front-1")
    )
    assert pod.attributes["node"] == "node-7"
    assert pod.attributes["token_audiences"] == "pods.eks.amazonaws.com"
    assert pod.attributes["eks_pod_identity"] is True


def test_namespaces_without_a_guard_are_found_and_guarded_ones_are_not(api: KubernetesApi, token: str) -> None:
    titles = {fact.title for fact in facts_of(_connector(api, token)) if isinstance(fact, FindingFact)}
    assert "namespace shop has no NetworkPolicy" in titles
    assert "namespace shop admits privileged pods" in titles
    assert "ValidatingWebhookConfiguration gate lets everything pass while it does not answer" in titles
    assert not [title for title in titles if title.startswith("namespace web ")]


def test_only_reading_is_asked_of_the_server(api: KubernetesApi, token: str) -> None:
    api.seen.clear()
    facts_of(_connector(api, token, secrets="values"))
    assert api.seen and {one.partition(" ")[0] for one in api.seen} == {"GET"}


# --- pages, throttling, and servers that forget


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[KubernetesApi, str]]:
    """A server that a test may disturb; waiting costs nothing."""
    monkeypatch.setattr(reader, "_WAITS", (0.0, 0.0, 0.0))
    with kubernetes_api() as served:
        _populate(served)
        yield served, _token(served, cluster_role())


def test_small_pages_give_the_same(own: tuple[KubernetesApi, str]) -> None:
    whole = _names(facts_of(_connector(*own)))
    own[0].page = 2
    assert _names(facts_of(_connector(*own))) == whole


def test_a_list_that_the_server_forgot_is_read_again(own: tuple[KubernetesApi, str]) -> None:
    whole = _names(facts_of(_connector(*own)))
    own[0].page, own[0].forgets = 2, 2
    assert _names(facts_of(_connector(*own))) == whole


def test_throttling_is_waited_for(own: tuple[KubernetesApi, str]) -> None:
    own[0].fails = [429, 500, 429]
    assert name("kubernetes", "shop", "serviceaccount", "web/front") in _names(facts_of(_connector(*own)))
    assert own[0].fails == []


def test_a_server_that_fails_half_way_ends_the_run_as_a_failed_one(own: tuple[KubernetesApi, str]) -> None:
    connector = _connector(*own)
    connector.open()
    own[0].fails = [500] * 4
    with pytest.raises(Unavailable) as error:
        list(connector.fetch(Scan(now=NOW, fingerprint=fingerprint)))
    connector.close()
    assert error.value.code == "providers.kubernetes.unreachable"


def _run(connector: KubernetesConnector, recalled: dict[str, str]) -> dict[str, str]:
    marks: dict[str, str] = {}
    connector.open()
    try:
        list(connector.fetch(Scan(now=NOW, fingerprint=fingerprint, recalled=recalled, remember=marks.__setitem__)))
    finally:
        connector.close()
    return marks


def test_a_right_that_was_lost_retires_nothing(api: KubernetesApi, token: str) -> None:
    before = _run(_connector(api, token), {})
    role = cluster_role()
    role["rules"] = [
        {**rule, "resources": [one for one in rule["resources"] if one != "pods"]} if "resources" in rule else rule
        for rule in role["rules"]
    ]
    poorer = _token(api, role)
    with pytest.raises(Denied) as error:
        _run(_connector(api, poorer), before)
    assert error.value.code == "inventory.kubernetes.permission-lost"
    assert "pods" not in _run(_connector(api, poorer, without="pods"), before)["kinds read"]


def test_the_version_of_each_list_is_remembered(api: KubernetesApi, token: str) -> None:
    assert f"serviceaccounts={api.version}" in _run(_connector(api, token), {})["resource versions"]


# --- how a cluster is named


def _kubeconfig(api: KubernetesApi, folder: Path, **user: str) -> Path:
    file = folder / "config"
    written = {
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{"name": "c", "cluster": {"server": api.url, "certificate-authority": str(api.ca)}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(written))
    return file


def test_a_kubeconfig_is_a_source_and_the_cluster_is_known_by_its_uid(
    api: KubernetesApi, token: str, tmp_path: Path
) -> None:
    connector = make(str(_kubeconfig(api, tmp_path, token=token)), {}, "")
    connector.open()
    connector.close()
    assert connector.instance == api.find("namespaces", "", "kube-system")["metadata"]["uid"]


def test_programs_of_a_kubeconfig_are_not_run(api: KubernetesApi, tmp_path: Path) -> None:
    file = _kubeconfig(api, tmp_path)
    body = yaml.safe_load(file.read_text())
    body["users"][0]["user"] = {"exec": {"command": "touch", "args": [str(tmp_path / "ran")]}}
    file.write_text(yaml.safe_dump(body))
    with pytest.raises(Misconfigured) as error:
        make(str(file), {}, "").open()
    assert error.value.code == "providers.kubernetes.kubeconfig"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("source", "options", "code"),
    [
        ("http://127.0.0.1:1", {}, "providers.kubernetes.refused"),
        ("https://127.0.0.1:1", {}, "providers.kubernetes.unreachable"),
        ("https://127.0.0.1:1", {"ca": "/nowhere"}, "inventory.source.unreadable"),
        ("https://127.0.0.1:1", {"without": "cats"}, "inventory.kubernetes.kind-unknown"),
    ],
)
def test_what_cannot_be_read_is_told(
    source: str, options: dict[str, str], code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises((Rejected, Unavailable, Misconfigured)) as error:
        make(source, options, "some-token").open()
    assert error.value.code in (code, "providers.kubernetes.kubeconfig")


def test_users_are_joined_with_what_a_kubeconfig_calls_them(api: KubernetesApi, token: str) -> None:
    api.apply(
        json.dumps(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "robot"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "User", "name": "robot"}],
            }
        )
    )
    robot = next(
        fact
        for fact in facts_of(_connector(api, token))
        if isinstance(fact, IdentityFact) and fact.title == "user robot"
    )
    assert robot.aliases == (name("kubernetes", f"127.0.0.1:{api.port}", "user", "robot"),)


def test_a_registered_target_is_read_by_its_address(api: KubernetesApi, token: str) -> None:
    options = {"host": "127.0.0.1", "port": str(api.port), "ca": str(api.ca), "cluster": "shop"}
    assert name("kubernetes", "shop", "serviceaccount", "web/front") in _names(facts_of(make("prod", options, token)))
