"""Right-sizing a service account: manifests and an audit log through an installation to a proven replay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from installation import installation

_MANIFESTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: everything}
rules:
- {apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: web-everything}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: everything}
subjects:
- {kind: ServiceAccount, name: web, namespace: shop}
"""


def _event(day: int, verb: str, resource: str, local: str, group: str = "") -> str:
    moment = datetime.now(UTC) - timedelta(days=day)
    return json.dumps({
        "stage": "ResponseComplete", "requestReceivedTimestamp": moment.isoformat(), "verb": verb,
        "user": {"username": "system:serviceaccount:shop:web"}, "sourceIPs": ["10.0.0.9"],
        "objectRef": {"apiGroup": group, "resource": resource, "namespace": "shop", "name": local},
        "responseStatus": {"code": 200}, "userAgent": "web/1.0",
    })  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    with installation() as made:
        manifests, log = made.root / "manifests", made.root / "audit.log"
        manifests.mkdir()
        (manifests / "all.yaml").write_text(_MANIFESTS)
        lines = [
            line
            for day in reversed(range(100))
            for line in (
                _event(day, "get", "configmaps", "settings"),
                _event(day, "list", "pods", ""),
                _event(day, "patch", "deployments", "web", "apps"),
            )
        ]
        log.write_text("".join(f"{line}\n" for line in lines))
        made.cli("discover", "kubernetes", str(manifests), "--cluster", "prod", code=None)
        made.cli("discover", "use", str(log), "--set", "kind=kubernetes-audit", "--set", "instance=prod")
        listed = [each for each in made.json("ls") if each["record"] == "identity"]
        web = next(each for each in listed if "serviceaccount" in each["name"] and each["name"].endswith("shop/web"))
        yield made.json("rightsize", web["id"], "--replay")


def test_no_observed_call_would_be_refused(found: dict[str, Any]) -> None:
    assert (found["replay"]["refusals"], found["replay"]["observed"]) == (0, 300)
    assert found["replay"]["proven"]


def test_the_role_is_of_its_namespace_with_what_it_uses(found: dict[str, Any]) -> None:
    documents = list(yaml.safe_load_all(found["texts"][0]["after"]))
    assert [each["kind"] for each in documents] == ["Role", "RoleBinding"]
    assert documents[0]["metadata"]["namespace"] == "shop"
    rules = {
        (rule["resources"][0], tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for rule in documents[0]["rules"]
    }
    assert rules == {
        ("configmaps", ("get",), ("settings",)), ("pods", ("get", "list", "watch"), ()),
        ("deployments", ("patch",), ("web",)),
    }  # fmt: skip
