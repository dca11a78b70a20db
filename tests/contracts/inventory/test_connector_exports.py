"""Google and Azure from exported JSON: the shapes that `gcloud` and `az` write, joined with files, forges and clusters."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from remit.inventory.connectors.azure import make as azure
from remit.inventory.connectors.files.keys import public_part
from remit.inventory.connectors.files.testing import credentials, edges, identities, rules
from remit.inventory.connectors.google import make as google
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import Skipped
from remit.kernel.ids import name

EMAIL = "ci@acme-prod.iam.gserviceaccount.com"
POOL = "projects/1234/locations/global/workloadIdentityPools/forge"
OIDC = "token.actions.githubusercontent.com"
KEY = rsa.generate_private_key(65537, 2048)


def certificate() -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "1")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(KEY.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + timedelta(days=3650)).sign(KEY, hashes.SHA256())
    )  # fmt: skip
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


GOOGLE: dict[str, Any] = {
    "accounts.json": [{"email": EMAIL, "uniqueId": "1001", "projectId": "acme-prod", "displayName": "CI", "disabled": False,
                       "name": f"projects/acme-prod/serviceAccounts/{EMAIL}"}],
    "keys.json": [{"name": f"projects/acme-prod/serviceAccounts/{EMAIL}/keys/{'ab' * 20}", "keyType": "USER_MANAGED",
                   "validAfterTime": "2024-01-01T00:00:00Z", "validBeforeTime": "9999-12-31T23:59:59Z",
                   "publicKeyData": certificate()}],
    "acme-prod.json": {"version": 1, "bindings": [
        {"role": "roles/editor", "members": [f"serviceAccount:{EMAIL}", "user:alice@acme.example"]},
        {"role": "roles/viewer", "members": ["allUsers"]}]},
    f"{EMAIL}.json": {"bindings": [
        {"role": "roles/iam.workloadIdentityUser", "members": [
            f"principalSet://iam.googleapis.com/{POOL}/attribute.repository/acme/shop",
            "serviceAccount:acme-prod.svc.id.goog[shop/web]"]}]},
    "providers.json": [{"name": f"{POOL}/providers/github", "oidc": {"issuerUri": f"https://{OIDC}"},
                        "attributeMapping": {"google.subject": "assertion.sub"}, "state": "ACTIVE"}],
}  # fmt: skip
TENANT, APP = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-0000-0000-0000-000000000001"
AZURE: dict[str, Any] = {
    "apps.json": [{
        "appId": APP, "id": "obj-1", "displayName": "deployer", "createdDateTime": "2024-01-01T00:00:00Z",
        "passwordCredentials": [{"keyId": "k1", "displayName": "ci", "hint": "abc", "secretText": None,
                                 "startDateTime": "2025-01-01T00:00:00Z", "endDateTime": "2099-01-01T00:00:00Z"}],
        "keyCredentials": [{"keyId": "k2", "usage": "Verify", "endDateTime": "2027-01-01T00:00:00Z", "customKeyIdentifier": "AB12"}],
        "federatedIdentityCredentials": [{"name": "gh", "issuer": f"https://{OIDC}", "subject": "repo:acme/shop:environment:prod"}],
    }],
    "principals.json": {"value": [{"appId": APP, "id": "sp-1", "displayName": "deployer", "servicePrincipalType": "Application",
                                   "appOwnerOrganizationId": TENANT, "accountEnabled": True}]},
    "assignments.json": [
        {"id": "/x/ra1", "principalId": "sp-1", "principalName": APP, "principalType": "ServicePrincipal",
         "roleDefinitionName": "Owner", "scope": "/subscriptions/s1"},
        {"id": "/x/ra2", "principalId": "u-1", "principalType": "User", "roleDefinitionName": "Owner", "scope": "/"}],
}  # fmt: skip


def put(root: Path, files: dict[str, Any]) -> str:
    for called, content in files.items():
        (root / called).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(root)


@pytest.fixture(scope="module", params=["google", "azure"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorStage]:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "google":
        source = put(root, GOOGLE)
        expected = name("gcp", "acme-prod", "serviceaccount", EMAIL)
        yield ConnectorStage(
            connector=lambda: google(source, {}, ""), expected=(expected,), refused=lambda: google("/none", {}, "")
        )
    else:
        source = put(root, AZURE)
        expected = name("azure", TENANT, "application", APP)
        yield ConnectorStage(
            connector=lambda: azure(source, {"tenant": TENANT}, ""),
            expected=(expected,),
            refused=lambda: azure("/none", {}, ""),
        )


class TestExports(ConnectorContract):
    pass


def test_a_key_in_an_export_is_the_key_that_a_file_holds(tmp_path: Path) -> None:
    facts = facts_of(google(put(tmp_path, GOOGLE), {}, ""))
    (key,) = credentials(facts)
    assert key.fingerprint == public_part(KEY.public_key()).fingerprint
    assert key.identity == name("gcp", "acme-prod", "serviceaccount", EMAIL) and key.expires is None


def test_who_may_become_a_service_account_from_outside(tmp_path: Path) -> None:
    facts = facts_of(google(put(tmp_path, GOOGLE), {}, ""))
    principal = name("gcp", "1234", "pool-principal", "forge/attribute.repository/acme/shop")
    account = name("gcp", "acme-prod", "serviceaccount", EMAIL)
    ways = {(edge.source, edge.target) for relation in ("assume", "impersonate") for edge in edges(facts, relation)}
    assert {
        (name("github", "github.com", "pipeline", "acme/shop"), principal), (principal, account),
        (name("kubernetes", "acme-prod", "serviceaccount", "shop/web"), account),
    } <= ways  # fmt: skip
    assert {
        "google.open-to-all",
        "google.strong-role",
        "google.key-without-end",
        "google.provider-without-condition",
    } <= rules(facts)
    assert "alice" not in str(identities(facts))


def test_an_asset_export_is_read_line_by_line(tmp_path: Path) -> None:
    lines = [
        {"name": "//cloudresourcemanager.googleapis.com/projects/acme-prod", "asset_type": "cloudresourcemanager.googleapis.com/Project",
         "iam_policy": GOOGLE["acme-prod.json"]},
        {"name": "//iam.googleapis.com/projects/acme-prod/serviceAccounts/1001", "asset_type": "iam.googleapis.com/ServiceAccount",
         "resource": {"data": GOOGLE["accounts.json"][0]}},
    ]  # fmt: skip
    (tmp_path / "export.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    facts = facts_of(google(str(tmp_path / "export.jsonl"), {}, ""))
    assert name("gcp", "acme-prod", "serviceaccount", EMAIL) in {fact.name for fact in identities(facts)}
    assert any(edge.target == name("gcp", "acme-prod", "project", "acme-prod") for edge in edges(facts, "can-reach"))


def test_an_application_its_principal_and_its_roles_are_joined(tmp_path: Path) -> None:
    facts = facts_of(azure(put(tmp_path, AZURE), {"tenant": TENANT}, ""))
    principal, application = name("azure", TENANT, "principal", "sp-1"), name("azure", TENANT, "application", APP)
    assert any(fact.name == application and principal in fact.aliases for fact in identities(facts))
    assert [edge.actions for edge in edges(facts, "can-reach") if edge.source == principal] == [("Owner",)]
    assert {"azure.strong-role", "azure.long-lived-secret"} <= rules(facts)
    assert (name("github", "github.com", "pipeline", "acme/shop"), application) in {
        (edge.source, edge.target) for edge in edges(facts, "assume")
    }


@pytest.mark.parametrize("make", [google, azure])
def test_what_is_broken_or_unknown_is_reported_and_hides_no_other(tmp_path: Path, make: Any) -> None:
    files = {
        **GOOGLE,
        **AZURE,
        "a.json": "{",
        "b.json": "[" * 5000,
        "c.json": [{"x": 1}],
        "d.json": [{"bindings": 7, "appId": 1, "id": 2}],
    }
    facts = facts_of(make(put(tmp_path, files), {}, ""))
    reasons = {fact.reason for fact in facts if isinstance(fact, Skipped)}
    assert {"malformed", "not-supported"} <= reasons and credentials(facts)
