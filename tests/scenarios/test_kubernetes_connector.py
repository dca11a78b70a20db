"""A small shop in manifests: what one compromised workload reaches, from the files to the drawn picture.

1. `kubectl`-style manifests of two namespaces are read.
2. The graph is built from the facts alone.
3. The blast radius of each workload is what RBAC and the mounted secrets give it.
4. Joined with an AWS account in the registry, the paths cross from the cluster into the cloud.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remit.inventory.connectors.aws import AwsConnector
from remit.inventory.connectors.kubernetes import KubernetesConnector
from remit.inventory.connectors.port import Scan
from remit.inventory.graph import AccessGraph, Category, blast, graph_from_facts, graph_from_rows, render_svg
from remit.inventory.model import EdgeFact, Fact, FindingFact, IdentityFact, ResourceFact, Skipped
from remit.inventory.registry import begin_run, finish_run, reconcile
from remit.kernel.clock import SystemClock
from remit.kernel.ids import name
from remit.storage.database import open_database

_DATA = Path(__file__).parents[1] / "data" / "kubernetes" / "shop"


def _facts() -> list[Fact]:
    connector = KubernetesConnector(_DATA, cluster="shop")
    connector.open()
    scan = Scan(
        now=datetime(2026, 1, 1, tzinfo=UTC),
        fingerprint=lambda secret: "hmac:" + hmac.digest(b"key", secret, "sha256").hex(),
    )
    facts: list[Fact] = []
    for raw in connector.fetch(scan):
        facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
    connector.close()
    return facts


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return _facts()


@pytest.fixture(scope="module")
def graph(facts: list[Fact]) -> AccessGraph:
    return graph_from_facts(facts)


def test_the_api_reaches_the_secrets_of_its_namespace_through_its_account(graph: AccessGraph) -> None:
    path = blast(graph, name("kubernetes", "shop", "deployment", "shop/orders-api")).path(
        name("kubernetes", "shop", "secret", "shop/aws-backup")
    )
    assert [edge.relation.value for edge in path] == ["runs-as", "can-reach", "can-reach"]


def test_the_api_becomes_its_cloud_role_only_if_the_cloud_agrees(graph: AccessGraph) -> None:
    role = name("aws", "111122223333", "role", "apps/orders-api")
    found = blast(graph, name("kubernetes", "shop", "deployment", "shop/orders-api"))
    assert [r.conditional for r in found if r.node.name == role] == [True]


def test_the_deployer_reaches_every_resource_of_the_cluster(facts: list[Fact], graph: AccessGraph) -> None:
    found = blast(graph, name("kubernetes", "shop", "serviceaccount", "ci/deployer"))
    secrets = [fact.name for fact in facts if isinstance(fact, ResourceFact) and fact.kind == "kubernetes-secret"]
    assert len(secrets) == 3
    assert all(secret in found for secret in secrets)


def test_a_privileged_job_takes_every_other_pod_of_its_node(graph: AccessGraph) -> None:
    found = blast(graph, name("kubernetes", "shop", "cronjob", "shop/backup"))
    assert name("kubernetes", "shop", "deployment", "shop/orders-api") in found


def test_the_account_of_two_workloads_is_reported_as_shared(facts: list[Fact]) -> None:
    assert "kubernetes.shared-account" in {fact.rule for fact in facts if isinstance(fact, FindingFact)}


def test_no_value_of_a_secret_is_in_any_fact(facts: list[Fact]) -> None:
    shown = repr(facts)
    for value in ("s3cr3t-orders", "pull-me-please", "wJalrXUtnFEMI", "7f3a9c1e5b7d2f4a"):
        assert value not in shown


def test_two_runs_say_the_same() -> None:
    assert _facts() == _facts()


def test_every_edge_has_its_evidence(facts: list[Fact]) -> None:
    assert all(fact.evidence and fact.place.path for fact in facts if isinstance(fact, EdgeFact))


def test_each_identity_can_be_drawn(facts: list[Fact], graph: AccessGraph) -> None:
    for fact in facts:
        if isinstance(fact, IdentityFact):
            assert render_svg(blast(graph, fact.name)).startswith("<svg")


# --- joined with the cloud, in the registry

_AWS = Path(__file__).parents[1] / "data" / "aws" / "account.json"
_ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"


async def _joined(folder: Path) -> AccessGraph:
    """Both connectors into one registry on SQLite, and the graph from its rows."""
    store = await open_database(f"sqlite:///{folder / 'remit.db'}", clock=SystemClock(), published=lambda events: None)
    try:
        for connector in (
            KubernetesConnector(_DATA, cluster="shop", issuer=_ISSUER),
            AwsConnector.at(str(_with_key(folder))),
        ):
            await _reconcile(store, connector)
        return await store.read(lambda unit: graph_from_rows(unit.inventory))
    finally:
        await store.close()


def _with_key(folder: Path) -> Path:
    """The account of the fixture, with the access key that lies in the cluster's Secret."""
    details = json.loads(_AWS.read_text())
    key = {"UserName": "ci-legacy", "AccessKeyId": "AKIA5555555555555555", "Status": "Active"}
    details["AccessKeyMetadata"] = [key]
    file = folder / "account.json"
    file.write_text(json.dumps(details))
    return file


async def _reconcile(store: Any, connector: Any) -> None:
    connector.open()
    scan = Scan(
        now=datetime(2026, 1, 1, tzinfo=UTC), fingerprint=lambda secret: "hmac:" + hashlib.sha256(secret).hexdigest()
    )
    facts: list[Fact] = []
    for raw in connector.fetch(scan):
        facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
    run = await store.write(
        lambda unit: begin_run(
            unit,
            connector.manifest.id,
            connector.instance,
            connector.scope,
            record_of=connector.manifest.record_of,
        )
    )
    await store.write(lambda unit: reconcile(unit, run, facts))
    await store.write(lambda unit: finish_run(unit, run, {}, ()))


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> AccessGraph:
    return asyncio.run(_joined(tmp_path_factory.mktemp("joined")))


def _start(graph: AccessGraph, title: str) -> str:
    return next(node.name for node in graph.nodes if node.title == title)


def test_a_key_in_a_cluster_secret_leads_into_the_cloud_account(joined: AccessGraph) -> None:
    found = blast(joined, _start(joined, "cronjob shop/backup"))
    path = found.path(name("aws", "111122223333", "s3", "orders-data"))
    assert [edge.relation.value for edge in path] == ["can-reach", "holds", "secret-of", "can-reach"]


def test_a_service_account_is_one_identity_in_cluster_and_cloud(joined: AccessGraph) -> None:
    found = blast(joined, _start(joined, "deployment shop/orders-api"))
    (role,) = [r for r in found if r.node.title == "orders-api" and r.node.kind == "cloud-role"]
    assert role.conditional is False


def test_nodes_of_identities_are_named_by_their_ids(joined: AccessGraph) -> None:
    identities = [node for node in joined.nodes if node.category is Category.IDENTITY]
    assert identities
    assert all(node.name.startswith("id_") for node in identities)
