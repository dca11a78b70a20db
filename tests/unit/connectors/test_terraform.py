"""Terraform: states of both forms, plans, backends, evaluated configurations; secrets leave as fingerprints alone."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from remit.inventory.connectors.files.keys import public_part, sha256
from remit.inventory.connectors.files.testing import HOST, SCAN, credentials, edges, fingerprint, identities, rules
from remit.inventory.connectors.terraform import TerraformConnector
from remit.inventory.model import Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import credential_name, name

LINEAGE = "0a1b2c3d-1111-2222-3333-444455556666"
PASSWORD = "Tr0ub4dor-and-3-more-9x"
ACCESS_KEY = "AKIAZQ3DRSTUVWXY2345"


def discover(root: Path) -> list[Any]:
    connector = TerraformConnector(root, instance=HOST)
    connector.open()
    facts: list[Any] = []
    for raw in connector.fetch(SCAN):
        facts.extend([raw] if isinstance(raw, Skipped) else connector.translate(raw, SCAN))
    connector.close()
    return facts


def resource(kind: str, named: str, values: dict[str, Any], sensitive: tuple[str, ...] = ()) -> dict[str, Any]:
    paths = [[{"type": "get_attr", "value": key}] for key in sensitive]
    instance = {"schema_version": 0, "attributes": values, "sensitive_attributes": paths}
    return {"mode": "managed", "type": kind, "name": named, "provider": "p", "instances": [instance]}


def state(*resources: dict[str, Any], outputs: dict[str, Any] | None = None) -> str:
    return json.dumps({
        "version": 4, "terraform_version": "1.9.0", "serial": 3, "lineage": LINEAGE, "outputs": outputs or {},
        "resources": list(resources),
    })  # fmt: skip


def put(root: Path, **files: str) -> Path:
    for called, text in files.items():
        (root / called.replace("__", ".")).write_text(text)
    return root


def test_an_access_key_in_a_state_belongs_to_its_user_and_is_held_by_the_state(tmp_path: Path) -> None:
    facts = discover(put(tmp_path, terraform__tfstate=state(
        resource("aws_iam_user", "ci", {"name": "ci", "path": "/bots/", "arn": "arn:aws:iam::111122223333:user/bots/ci"}),
        resource("aws_iam_access_key", "ci", {"id": ACCESS_KEY, "user": "ci", "secret": PASSWORD}),
    )))  # fmt: skip
    key = credential_name(sha256(ACCESS_KEY.encode()))
    assert any(edge.source == key for edge in edges(facts, "secret-of"))
    assert name("terraform", "state", "lineage", LINEAGE) in {
        e.source for e in edges(facts, "holds") if e.target == key
    }
    user = next(fact for fact in identities(facts) if fact.name == name("aws", "111122223333", "user", "bots/ci"))
    assert user.aliases == (name("aws", "111122223333", "arn", "arn:aws:iam::111122223333:user/bots/ci"),)
    assert "terraform.key-in-state" in rules(facts)


def test_no_secret_of_a_state_leaves_it(tmp_path: Path) -> None:
    facts = discover(put(tmp_path, terraform__tfstate=state(
        resource("random_password", "db", {"result": PASSWORD, "length": 23}, ("result",)),
        resource("postgresql_role", "app", {"name": "app", "password": PASSWORD}, ("password",)),
        resource("helm_release", "x", {"name": "x", "values": [f"auth: {PASSWORD}"], "set": [{"value": PASSWORD}]}, ("set",)),
        outputs={"pw": {"value": PASSWORD, "type": "string", "sensitive": True}},
    )))  # fmt: skip
    assert PASSWORD not in json.dumps([asdict(fact) for fact in facts], default=str)
    assert fingerprint(PASSWORD.encode()) in {fact.fingerprint for fact in credentials(facts)}


def test_the_same_password_at_three_places_is_one_credential_of_its_role(tmp_path: Path) -> None:
    facts = discover(put(tmp_path, terraform__tfstate=state(
        resource("random_password", "db", {"result": PASSWORD}),
        resource("aws_db_instance", "d", {"engine": "postgres", "username": "app", "password": PASSWORD,
                                          "address": "db.internal", "port": 5432}),
    )))  # fmt: skip
    known = credential_name(fingerprint(PASSWORD.encode()))
    role = name("postgres", "db.internal:5432", "role", "app")
    assert [(e.source, e.target) for e in edges(facts, "secret-of")] == [(known, role)]


def test_a_key_of_the_tls_provider_has_the_fingerprint_of_its_public_half(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    forms = [
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.OpenSSH)
    ]
    values = {"private_key_pem": forms[0], "private_key_openssh": forms[1]}
    facts = discover(put(tmp_path, terraform__tfstate=state(resource("tls_private_key", "k", values))))
    assert {fact.fingerprint for fact in credentials(facts)} == {public_part(key.public_key()).fingerprint}


def test_a_google_key_in_a_state_is_the_key_that_a_file_would_show(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {"type": "service_account", "project_id": "acme", "client_email": "ci@acme.iam.gserviceaccount.com",
               "private_key": pem, "private_key_id": "abc"}  # fmt: skip
    values = {"private_key": base64.b64encode(json.dumps(account).encode()).decode()}
    facts = discover(put(tmp_path, terraform__tfstate=state(resource("google_service_account_key", "k", values))))
    assert [fact.fingerprint for fact in credentials(facts)] == [public_part(key.public_key()).fingerprint]
    assert name("gcp", "acme", "serviceaccount", "ci@acme.iam.gserviceaccount.com") in {
        f.name for f in identities(facts)
    }


def test_a_role_that_trusts_a_workflow_is_reached_by_its_pipeline(tmp_path: Path) -> None:
    host = "token.actions.githubusercontent.com"
    policy = json.dumps({"Statement": [{
        "Effect": "Allow", "Principal": {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{host}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringLike": {f"{host}:sub": "repo:acme/shop:ref:refs/heads/main"}},
    }]})  # fmt: skip
    role = {"name": "deploy", "arn": "arn:aws:iam::111122223333:role/deploy", "assume_role_policy": policy}
    facts = discover(put(tmp_path, terraform__tfstate=state(resource("aws_iam_role", "r", role))))
    target = name("aws", "111122223333", "role", "deploy")
    assert {e.source for e in edges(facts, "assume") if e.target == target} == {
        name("oidc", host, "subject", "repo:acme/shop:ref:refs/heads/main"),
        name("github", "github.com", "pipeline", "acme/shop"),
    }


def test_a_state_of_version_three_is_read(tmp_path: Path) -> None:
    flat = {"id": ACCESS_KEY, "user": "old", "secret": PASSWORD, "tags.%": "0"}
    old = {"version": 3, "terraform_version": "0.11.0", "lineage": LINEAGE, "modules": [{
        "path": ["root", "a"], "outputs": {},
        "resources": {"aws_iam_access_key.k": {"type": "aws_iam_access_key", "primary": {"id": "x", "attributes": flat}}},
    }]}  # fmt: skip
    facts = discover(put(tmp_path, terraform__tfstate=json.dumps(old)))
    assert credential_name(sha256(ACCESS_KEY.encode())) in {e.source for e in edges(facts, "secret-of")}


def test_a_plan_shows_modules_variables_and_providers(tmp_path: Path) -> None:
    plan = {
        "format_version": "1.2", "terraform_version": "1.9.0",
        "variables": {"db_password": {"value": PASSWORD}},
        "planned_values": {"root_module": {"child_modules": [{"address": "module.a", "resources": [{
            "address": "module.a.aws_iam_user.u", "mode": "managed", "type": "aws_iam_user", "name": "u",
            "values": {"name": "planned", "path": "/"}, "sensitive_values": {},
        }]}]}},
        "configuration": {"provider_config": {"aws": {"expressions": {
            "access_key": {"constant_value": ACCESS_KEY}, "secret_key": {"constant_value": PASSWORD + "2"}}}}},
    }  # fmt: skip
    facts = discover(put(tmp_path, plan__json=json.dumps(plan)))
    assert name("aws", "unknown", "user", "planned") in {fact.name for fact in identities(facts)}
    assert "terraform.inline-credential" in rules(facts)


HCL = """
terraform {
  backend "s3" {
    bucket   = "acme-state"
    key      = "prod/app.tfstate"
    role_arn = "arn:aws:iam::111122223333:role/state"
  }
}
variable "pw" { default = "%s" }
provider "postgresql" {
  host     = "db.internal"
  username = "root"
  password = var.pw
}
module "inner" {
  source = "./inner"
  who    = "made-by-a-module"
}
data "terraform_remote_state" "net" {
  backend = "s3"
  config  = { bucket = "acme-net", key = "n.tfstate" }
}
"""


def test_a_configuration_is_evaluated_with_its_local_modules(tmp_path: Path) -> None:
    pytest.importorskip("tfparse")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/x.tf").write_text('variable "who" {}\nresource "aws_iam_user" "u" { name = var.who }\n')
    facts = discover(put(tmp_path, main__tf=HCL % PASSWORD))
    assert name("aws", "unknown", "user", "made-by-a-module") in {fact.name for fact in identities(facts)}
    reached = {edge.target: edge.actions for edge in edges(facts, "can-reach")}
    assert reached[name("aws", "111122223333", "s3", "acme-state")] == ("read", "write")
    assert reached[name("aws", "unknown", "s3", "acme-net")] == ("read",)
    found = next(fact for fact in credentials(facts) if fact.fingerprint == fingerprint(PASSWORD.encode()))
    assert found.place.line is not None and found.place.path.endswith("main.tf")


def test_a_function_of_a_configuration_reads_no_file_of_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("tfparse")
    (tmp_path / "outside").write_text("Outside-Secret-Value-77")
    inner = tmp_path / "in"
    inner.mkdir()
    escaped = json.dumps({"resource": {"aws_iam_user": {"b": {"name": '${file("../outside")}'}}}})
    (inner / "a.tf").write_text('resource "aws_iam_user" "a" { name = "u-${file /* x */ ("../outside")}" }\n')
    (inner / "b.tf.json").write_text(escaped.replace("file", "\\u0066ile"))
    (inner / "c.tf").symlink_to(tmp_path / "outside")
    assert "Outside-Secret" not in str(discover(inner))


def test_the_place_of_remote_state_holds_what_the_state_holds(tmp_path: Path) -> None:
    (tmp_path / ".terraform").mkdir()
    (tmp_path / ".terraform/terraform.tfstate").write_text(json.dumps({
        "version": 3, "serial": 1, "lineage": "ffffffff-1111", "terraform_version": "1.9.0",
        "backend": {"type": "s3", "config": {"bucket": "acme-state", "key": "k", "secret_key": "Sec-" + PASSWORD}},
    }))  # fmt: skip
    facts = discover(put(tmp_path, pulled__tfstate=state(
        resource("aws_iam_user", "u", {"name": "u", "arn": "arn:aws:iam::111122223333:user/u"}),
        resource("random_password", "p", {"result": PASSWORD}),
    )))  # fmt: skip
    bucket = name("aws", "111122223333", "s3", "acme-state")
    assert bucket in {e.source for e in edges(facts, "holds")}
    assert fingerprint(b"Sec-" + PASSWORD.encode()) in {fact.fingerprint for fact in credentials(facts)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "malformed"), ('{"version": 4, "terraform_version": "1", "resources": ' + "[" * 3000, "malformed"), ("PK\x03", "not-supported")],
    ids=["cut", "deep", "binary"],
)  # fmt: skip
def test_a_broken_document_is_reported_and_hides_no_other(tmp_path: Path, text: str, reason: str) -> None:
    facts = discover(put(tmp_path, a__tfstate=text, b__tfstate=state(resource("aws_iam_user", "u", {"name": "u"}))))
    assert [fact.reason for fact in facts if isinstance(fact, Skipped)] == [reason]
    assert any(fact.title == "u" for fact in identities(facts))


def test_a_resource_nested_without_end_is_left_out_and_counted(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": deep}
    facts = discover(
        put(tmp_path, t__tfstate=state(resource("x", "deep", deep), resource("aws_iam_user", "u", {"name": "u"})))
    )
    assert [fact.reason for fact in facts if isinstance(fact, Skipped)] == ["too-large"]
    assert any(fact.title == "u" for fact in identities(facts))


def test_hcl_that_is_none_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("tfparse")
    facts = discover(put(tmp_path, main__tf='resource "x" {{{{ \x00'))
    assert all(not isinstance(fact, Skipped) or fact.reason == "malformed" for fact in facts)


def test_a_path_that_is_none_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as error:
        TerraformConnector(tmp_path / "none").open()
    assert error.value.code == "inventory.terraform.nothing-there"
