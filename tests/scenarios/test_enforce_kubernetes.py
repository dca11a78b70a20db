"""The authorization webhook, asked as an API server asks: by mutual TLS, with SubjectAccessReviews as kubectl has them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from enforce_stage import FRONT, ORDERS, Reply, Stage, enforce_stage, raw

PATH = "/enforce/v1/kubernetes"
DEPLOYER = "system:serviceaccount:shop:deployer"
POLICY = """
@id("deployer-reads-pods")
permit (principal, action in [Remit::Action::"read", Remit::Action::"list"], resource)
when { principal.name like "urn:remit:kubernetes:*:serviceaccount:shop/deployer" && resource.name like "kubernetes/*/shop/-/pods/*" };
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with enforce_stage('proxy = "kubernetes"\ninstance = "later"\nallows = true') as made:
        cluster = made.know_account("shop/deployer")
        table = made.server.data / "enforcers.toml"
        table.write_text(table.read_text().replace("later", cluster))
        made.apply(POLICY)
        made.until(lambda: status(made, review())["allowed"])
        yield made


def review(user: str = DEPLOYER, **asked: Any) -> dict[str, Any]:
    attributes = {"namespace": "shop", "verb": "get", "version": "v1", "resource": "pods", "name": "web-1", **asked}
    return {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"user": user, "groups": ["system:authenticated"], "uid": "1", "resourceAttributes": attributes},
    }  # fmt: skip


def ask(stage: Stage, body: Any) -> Reply:
    raw_body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return raw(stage.http_socket, PATH, {"Content-Type": "application/json"}, method="POST", body=raw_body)


def status(stage: Stage, body: Any) -> dict[str, Any]:
    reply = ask(stage, body)
    assert reply.status == 200, reply
    assert (reply.json["apiVersion"], reply.json["kind"]) == ("authorization.k8s.io/v1", "SubjectAccessReview")
    found: dict[str, Any] = reply.json["status"]
    return found


def test_what_policy_permits_is_allowed(stage: Stage) -> None:
    assert status(stage, review())["allowed"] is True


def test_what_no_policy_permits_is_denied_with_a_reason(stage: Stage) -> None:
    found = status(stage, review(verb="delete"))
    assert (found["allowed"], found["denied"]) == (False, True) and "dc_" in found["reason"]


def test_getting_into_a_pod_is_no_reading_of_it(stage: Stage) -> None:
    assert status(stage, review(subresource="exec"))["denied"] is True


@pytest.mark.parametrize("user", ["kubernetes-admin", "system:node:n1", "system:serviceaccount:shop:nobody-knows"])
def test_of_anybody_else_there_is_no_opinion(stage: Stage, user: str) -> None:
    found = status(stage, review(user))
    assert found["allowed"] is False and "denied" not in found


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"kind":"SubjectAccessReview"}', b"[" * 100_000,
        {**review(), "apiVersion": "authorization.k8s.io/v1beta1"},
        {**review(), "spec": {"user": DEPLOYER}},
        review(name="a/../../secrets"),
        json.dumps(review())[:-1].encode() + b',"kind":"SubjectAccessReview"}',
    ],
)  # fmt: skip
def test_what_is_no_review_is_an_error_and_no_permit(stage: Stage, body: Any) -> None:
    assert ask(stage, body).status == 400


def test_a_huge_review_is_refused(stage: Stage) -> None:
    assert ask(stage, review(name="x" * 300_000)).status == 400


def test_nobody_but_the_registered_cluster_may_ask(stage: Stage) -> None:
    _, _, port = str(stage.get("/healthz")["agents"]).rpartition(":")
    body = json.dumps(review()).encode()
    reply = raw(int(port), PATH, {"Content-Type": "application/json"}, method="POST", body=body, tls=stage.tls(ORDERS))
    assert reply.status == 403 and reply.json["code"] == "access.enforcer.unregistered"


def test_the_cluster_may_ask_by_mutual_tls(stage: Stage) -> None:
    stage.server.cli("enforcer", "add", "cluster", "--spiffe-id", FRONT)
    table = stage.server.data / "enforcers.toml"
    here = tomllib.loads(table.read_text())["enforcer"]["edge"]["instance"]
    table.write_text(table.read_text() + f'\n[enforcer.cluster]\nproxy = "kubernetes"\ninstance = "{here}"\n')
    _, _, port = str(stage.get("/healthz")["agents"]).rpartition(":")

    def asked() -> Reply:
        return raw(int(port), PATH, {"Content-Type": "application/json"}, method="POST",
                   body=json.dumps(review()).encode(), tls=stage.tls(FRONT))  # fmt: skip

    try:
        stage.until(lambda: asked().status == 200)
        found = asked().json["status"]
    finally:
        stage.server.cli("enforcer", "rm", "cluster")
    assert found["allowed"] is False and "denied" not in found, "a permit leaves the word to RBAC"
