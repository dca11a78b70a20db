"""GitLab as a source, on an emulator of its API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from github_server import Forge, forge_server
from remit.inventory.connectors.files.keys import public_part
from remit.inventory.connectors.files.testing import SCAN, credentials, edges, fingerprint, identities, rules
from remit.inventory.connectors.gitlab import GitlabConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage
from remit.inventory.model import Skipped
from remit.kernel.errors import Rejected, Unavailable
from remit.kernel.ids import name
from remit.providers.gitlab.client import gitlab

TOKEN = "glpat-" + "a1B2c3D4" * 3
VALUE = "V4riable-Value-of-CI"
KEY = ed25519.Ed25519PrivateKey.generate().public_key()
LINE = KEY.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
CI = "ship:\n  image: alpine:3.20\n  id_tokens: {AWS: {aud: sts.amazonaws.com}}\n  script:\n    - aws sts assume-role-with-web-identity --role-arn arn:aws:iam::111122223333:role/deploy\n"


def acme() -> Forge:
    forge = Forge(token=TOKEN)
    forge.objects["/groups/acme"] = {"id": 1, "full_path": "acme"}
    forge.lists["/groups/acme/descendant_groups"] = ("", [])
    forge.lists["/groups/acme/projects"] = ("", [])
    forge.lists["/groups/acme/service_accounts"] = ("", [{"id": 5, "username": "svc_deploy", "name": "Deployer"}])
    for number, slug in enumerate(("acme/shop", "acme/site"), 21):
        row = {"id": number, "path_with_namespace": slug, "default_branch": "main", "ci_config_path": ""}
        forge.lists["/groups/acme/projects"][1].append(row)
        forge.objects[f"/projects/{slug}"] = row
    for about in ("groups/acme", "projects/acme%2Fshop", "projects/acme%2Fsite"):
        for path in ("access_tokens", "deploy_tokens", "hooks", "runners", "variables", "deploy_keys", "triggers"):
            forge.lists[f"/{about}/{path}"] = ("", [])
    shop = "/projects/acme%2Fshop"
    forge.lists[f"{shop}/deploy_keys"][1].append(
        {"id": 3, "title": "server", "key": LINE, "can_push": True, "created_at": "2025-01-01T00:00:00.000Z"}
    )
    forge.lists[f"{shop}/access_tokens"][1].append(
        {
            "id": 4,
            "name": "ci",
            "scopes": ["api"],
            "expires_at": None,
            "revoked": False,
            "last_used_at": "2026-11-01T00:00:00Z",
        }
    )
    forge.lists[f"{shop}/variables"][1].extend([
        {"key": "DB_PASSWORD", "value": VALUE, "protected": False, "masked": True, "environment_scope": "*"},
        {"key": "REGION", "value": "eu-west-1-plain-value", "protected": False, "masked": False},
    ])  # fmt: skip
    forge.lists[f"{shop}/hooks"][1].append(
        {"id": 8, "url": "http://x.example/hook/Sup3rHookPath9", "enable_ssl_verification": True}
    )
    forge.lists[f"{shop}/triggers"][1].append(
        {"id": 6, "description": "nightly", "token": "6d056f63e50fe6f8c5f8f4aa10edb7", "last_used": None}
    )
    import base64

    forge.objects[f"{shop}/repository/files/.gitlab-ci.yml"] = {"content": base64.b64encode(CI.encode()).decode()}
    return forge


def connector(forge: Forge, source: str = "acme", token: str = TOKEN, **more: Any) -> GitlabConnector:
    client = gitlab(token, endpoint=forge.url.removesuffix("/api/v4"), wait=lambda seconds: None)
    return GitlabConnector(client, source, **more)


def discover(forge: Forge, scan: Any = SCAN, **more: Any) -> list[Any]:
    made = connector(forge, **more)
    made.open()
    try:
        facts: list[Any] = []
        for raw in made.fetch(scan):
            facts.extend([raw] if isinstance(raw, Skipped) else made.translate(raw, scan))
        return facts
    finally:
        made.close()


@pytest.fixture
def forge() -> Iterator[Forge]:
    with forge_server(acme(), "/api/v4") as served:
        yield served


@pytest.fixture(scope="module")
def stage() -> Iterator[ConnectorStage]:
    with forge_server(acme(), "/api/v4") as served:
        yield ConnectorStage(
            connector=lambda: connector(served),
            expected=(
                name("gitlab", "gitlab.com", "deploy-key", f"acme/shop/{public_part(KEY).fingerprint[7:39]}"),
                name("gitlab", "gitlab.com", "user", "svc_deploy"),
                name("gitlab", "gitlab.com", "pipeline", "acme/shop/.gitlab-ci.yml"),
            ),
            secrets=(TOKEN, VALUE, "Sup3rHookPath9", "6d056f63e50fe6f8c5f8f4aa10edb7"),
            refused=lambda: connector(served, token="wrong-5K"),
        )


class TestGitlab(ConnectorContract):
    pass


def test_a_variable_is_known_by_its_name_and_a_fingerprint_of_its_value(forge: Forge) -> None:
    facts = discover(forge)
    (variable,) = [fact for fact in credentials(facts) if fact.attributes.get("setting") == "DB_PASSWORD"]
    assert variable.attributes["secret_fingerprint"] == fingerprint(VALUE.encode())
    assert {"gitlab.unprotected-variable", "gitlab.token-without-end", "gitlab.webhook-unverified"} <= rules(facts)


def test_variables_are_not_asked_for_where_that_was_said(forge: Forge) -> None:
    facts = discover(forge, variables=False)
    assert not [path for path, _ in forge.requests if "variables" in path]
    assert "CI variables of acme/shop" in {fact.what for fact in facts if isinstance(fact, Skipped)}


def test_a_pipeline_has_the_subject_that_clouds_see(forge: Forge) -> None:
    assumes = {(edge.source, edge.target) for edge in edges(discover(forge), "assume")}
    pipeline = name("gitlab", "gitlab.com", "pipeline", "acme/shop")
    definition = name("gitlab", "gitlab.com", "pipeline", "acme/shop/.gitlab-ci.yml")
    subject = name("oidc", "gitlab.com", "subject", "project_path:acme/shop:ref_type:branch:ref:main")
    assert {
        (definition, pipeline),
        (pipeline, subject),
        (definition, name("aws", "111122223333", "role", "deploy")),
    } <= assumes


def test_a_permission_missing_for_one_project_is_said(forge: Forge) -> None:
    forge.denied["/projects/acme%2Fsite/access_tokens"] = 403
    assert [fact.what for fact in discover(forge) if isinstance(fact, Skipped)] == ["access tokens of acme/site"]


def test_a_run_that_fails_half_way_is_resumed_after_the_last_project(forge: Forge) -> None:
    marks: dict[str, str] = {}
    forge.faults += [("/projects/acme%2Fsite/hooks", 503, {})] * 10
    with pytest.raises(Unavailable):
        discover(forge, scan=replace(SCAN, remember=marks.__setitem__))
    assert marks == {"project": "21"}
    forge.faults.clear()
    titles = {fact.title for fact in identities(discover(forge, scan=replace(SCAN, recalled=marks, resumed=True)))}
    assert "pipelines of acme/site" in titles and "pipelines of acme/shop" not in titles


@pytest.mark.parametrize("source", ["", "a b", "a/../b?x", "-"])
def test_a_source_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(Rejected):
        make(source, {}, "")


def test_a_pipeline_that_is_defined_elsewhere_is_reported(forge: Forge) -> None:
    forge.lists["/groups/acme/projects"][1][0]["ci_config_path"] = ".gitlab-ci.yml@other/project"
    assert "not-supported" in {fact.reason for fact in discover(forge) if isinstance(fact, Skipped)}
