"""GitHub as a source, on an emulator of its API: contract, permissions, limits, failures half-way, changing rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from github_server import TOKEN, Forge, acme, forge_server
from remit.inventory.connectors.files.keys import public_part
from remit.inventory.connectors.files.testing import SCAN, credentials, edges, identities, rules
from remit.inventory.connectors.github import GithubConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage
from remit.inventory.model import OwnerFact, Skipped
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.kernel.ids import credential_name, name
from remit.providers.forge import ForgeClient
from remit.providers.github.client import github

KEY = ed25519.Ed25519PrivateKey.generate().public_key()
LINE = KEY.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
OIDC = "token.actions.githubusercontent.com"


def client(forge: Forge, **more: Any) -> ForgeClient:
    return github(more.pop("token", TOKEN), endpoint=forge.url, wait=lambda seconds: None, **more)


def discover(forge: Forge, source: str = "acme", scan: Any = SCAN, **more: Any) -> list[Any]:
    connector = GithubConnector(client(forge, **more), source)
    connector.open()
    try:
        facts: list[Any] = []
        for raw in connector.fetch(scan):
            facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, scan))
        return facts
    finally:
        connector.close()


@pytest.fixture
def forge() -> Iterator[Forge]:
    with forge_server(acme(LINE)) as served:
        yield served


@pytest.fixture(scope="module")
def stage() -> Iterator[ConnectorStage]:
    with forge_server(acme(LINE)) as served:
        yield ConnectorStage(
            connector=lambda: GithubConnector(client(served), "acme"),
            expected=(
                name("github", "github.com", "deploy-key", f"acme/shop/{public_part(KEY).fingerprint[7:39]}"),
                name("github", "github.com", "app", "deploybot"),
                name("github", "github.com", "workflow", "acme/shop/.github/workflows/release.yml"),
            ),
            secrets=(TOKEN, "Abc123Secret99"),
            refused=lambda: GithubConnector(client(served, token="wrong-token-5K"), "acme"),
        )


class TestGithub(ConnectorContract):
    pass


def test_a_workflow_reaches_the_cloud_role_by_the_subject_that_the_cloud_trusts(forge: Forge) -> None:
    facts = discover(forge)
    workflow = name("github", "github.com", "workflow", "acme/shop/.github/workflows/release.yml")
    pipeline = name("github", "github.com", "pipeline", "acme/shop")
    assumes = {(edge.source, edge.target) for edge in edges(facts, "assume")}
    assert {
        (workflow, name("aws", "111122223333", "role", "deploy")), (workflow, pipeline),
        (pipeline, name("oidc", OIDC, "subject", "repo:acme/shop:environment:production")),
        (pipeline, name("oidc", OIDC, "subject", "repo:acme/shop:ref:refs/heads/main")),
    } <= assumes  # fmt: skip


def test_a_secret_that_the_workflow_names_is_the_secret_that_the_api_lists(forge: Forge) -> None:
    held: dict[str, set[str]] = {}
    facts = discover(forge)
    for edge in edges(facts, "holds"):
        held.setdefault(edge.target, set()).add(edge.source)
    nodes = {fact.title: credential_name(fact.fingerprint) for fact in credentials(facts)}
    workflow = name("github", "github.com", "workflow", "acme/shop/.github/workflows/release.yml")
    repository = name("github", "github.com", "repository", "acme/shop")
    assert {workflow, repository} <= held[nodes["DEPLOY_TOKEN of github.com/acme/shop"]]
    assert {workflow, name("github", "github.com", "organization", "acme")} <= held[
        nodes["ORG_TOKEN of github.com/acme"]
    ]


def test_keys_tokens_and_apps_come_with_their_use_and_how_to_cut_them(forge: Forge) -> None:
    facts = discover(forge)
    key = next(fact for fact in credentials(facts) if fact.fingerprint == public_part(KEY).fingerprint)
    token = next(fact for fact in credentials(facts) if "nightly" in fact.title)
    assert key.last_used and key.last_used.isoformat() == "2026-11-20T10:00:00+00:00"
    assert token.last_used and token.identity == name("github", "github.com", "user", "ci-bot")
    assert any(edge.cut == "gh repo deploy-key delete 7 --repo acme/shop" for edge in edges(facts, "can-reach"))
    assert {
        "github.app-over-all-repositories", "github.token-without-end", "github.unprotected-environment",
        "github.runner-of-public-repository", "github.webhook-secretless", "github.webhook-unverified", "github.old-secret",
    } <= rules(facts)  # fmt: skip


def test_people_are_left_out_and_machines_and_outsiders_are_not(forge: Forge) -> None:
    titles = " ".join(fact.title for fact in identities(discover(forge)))
    assert "release-bot" in titles and "contractor" in titles and "alice" not in titles


def test_owners_of_a_workflow_come_from_codeowners(forge: Forge) -> None:
    owners = [fact for fact in discover(forge) if isinstance(fact, OwnerFact)]
    assert {fact.owner for fact in owners} == {"@acme/platform"}


@pytest.mark.parametrize("status", [403, 404])
def test_a_permission_missing_for_one_object_is_said_and_hides_no_other(forge: Forge, status: int) -> None:
    forge.denied["/repos/acme/shop/keys"] = status
    facts = discover(forge)
    (skipped,) = [fact for fact in facts if isinstance(fact, Skipped)]
    assert (skipped.what, skipped.reason) == ("deploy keys of acme/shop", "not-permitted")
    assert "Administration: read" in skipped.detail and credentials(facts)


def test_every_page_is_read(forge: Forge) -> None:
    forge.page_size = 3
    for number in range(20):
        forge.repository(f"acme/r{number}", 100 + number)
    pipelines = [fact for fact in identities(discover(forge)) if fact.title.startswith("workflows of")]
    assert len({fact.name for fact in pipelines}) == 22


def test_a_repository_deleted_while_the_list_is_read_moves_no_other_out_of_sight(forge: Forge) -> None:
    forge.page_size = 3
    for number in range(9):
        forge.repository(f"acme/r{number}", 100 + number)

    def vanish(path: str, page: int) -> None:
        if path == "/orgs/acme/repos" and page == 1:
            forge.after = lambda path, page: None
            forge.lists[path][1].pop(0)

    forge.after = vanish
    shown = {fact.title for fact in identities(discover(forge))}
    assert {f"workflows of acme/r{number}" for number in range(9)} <= shown


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"Retry-After": "7"}), (403, {"Retry-After": "7"}), (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}),
     (500, {}), (502, {})],
)  # fmt: skip
def test_a_limit_or_a_failure_is_waited_for_and_said(forge: Forge, status: int, headers: dict[str, str]) -> None:
    said: list[str] = []
    forge.faults.append(("/repos/acme/shop/keys", status, headers))
    facts = discover(forge, scan=replace(SCAN, progress=lambda done, where: said.append(where)))
    assert not [fact for fact in facts if isinstance(fact, Skipped)]
    assert any("waiting" in where for where in said)


def test_a_limit_beyond_the_patience_ends_the_run_unfinished(forge: Forge) -> None:
    forge.faults.append(("/repos/acme/site/keys", 429, {"Retry-After": "3600"}))
    with pytest.raises(Unavailable) as error:
        discover(forge, patience=timedelta(minutes=1))
    assert error.value.retry_after == timedelta(hours=1)


def test_a_server_that_goes_on_failing_ends_the_run_unfinished(forge: Forge) -> None:
    forge.faults += [("/repos/acme/site/keys", 500, {})] * 10
    with pytest.raises(Unavailable):
        discover(forge)


def test_a_resumed_run_goes_on_after_the_last_repository(forge: Forge) -> None:
    marks: dict[str, str] = {}
    forge.faults += [("/repos/acme/site/keys", 500, {})] * 10
    with pytest.raises(Unavailable):
        discover(forge, scan=replace(SCAN, remember=marks.__setitem__))
    assert marks == {"repository": "11"}
    forge.faults.clear()
    titles = {fact.title for fact in identities(discover(forge, scan=replace(SCAN, recalled=marks, resumed=True)))}
    assert "workflows of acme/site" in titles and "workflows of acme/shop" not in titles


def test_the_token_goes_to_no_other_host(forge: Forge) -> None:
    with forge_server(Forge()) as other:
        forge.faults.append(("/repos/acme/shop/keys", 302, {"Location": f"{other.url}/x"}))
        with pytest.raises(Rejected) as error:
            discover(forge)
        assert other.requests == [] and TOKEN not in str(error.value)


@pytest.mark.parametrize("endpoint", ["http://ghe.example/api/v3", "https://u:p@ghe.example", "ftp://x"])
def test_an_address_without_tls_or_with_a_login_is_refused(endpoint: str) -> None:
    with pytest.raises(Rejected):
        make("acme", {"endpoint": endpoint}, TOKEN)


@pytest.mark.parametrize("source", ["", "a b", "../etc", "a/b/c", "acme?x=1", "-x"])
def test_a_source_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(Rejected):
        make(source, {}, "")


def test_a_refused_token_is_said(forge: Forge) -> None:
    with pytest.raises(Misconfigured):
        discover(forge, token="wrong")


def test_rows_that_are_none_hide_no_other(forge: Forge) -> None:
    forge.lists["/repos/acme/shop/keys"][1].insert(0, {"id": 1, "key": "ssh-rsa !!!", "title": "\x00<b>" * 50})
    forge.lists["/repos/acme/shop/environments"][1].insert(0, {"id": "x", "protection_rules": 7})
    facts = discover(forge)
    assert public_part(KEY).fingerprint in {fact.fingerprint for fact in credentials(facts)}
    assert "malformed" in {fact.reason for fact in facts if isinstance(fact, Skipped)}
