"""Service accounts, their cloud identities, and the secrets that prove them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remit.inventory.model import CredentialFact, CredentialKind, EdgeFact, Fact, FindingFact, IdentityFact, Relation
from remit.kernel.ids import Name, name

Discover = Callable[..., list[Fact]]


def _account(annotations: str) -> str:
    metadata = f"{{name: a, namespace: shop, annotations: {{{annotations}}}}}"
    return f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {metadata}\n"


def _secret(kind: str, **values: bytes) -> str:
    data = ", ".join(f"{key}: {base64.b64encode(value).decode()}" for key, value in values.items())
    return f"apiVersion: v1\nkind: Secret\ntype: {kind}\nmetadata: {{name: s, namespace: shop}}\ndata: {{{data}}}\n"


def _credentials(facts: list[Fact]) -> list[CredentialFact]:
    return [fact for fact in facts if isinstance(fact, CredentialFact)]


@pytest.mark.parametrize(
    ("annotations", "target"),
    [
        (
            "eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/apps/orders'",
            name("aws", "111122223333", "role", "apps/orders"),
        ),
        (
            "iam.gke.io/gcp-service-account: bot@proj.iam.gserviceaccount.com",
            name("gcp", "proj", "serviceaccount", "bot@proj.iam.gserviceaccount.com"),
        ),
        ("azure.workload.identity/client-id: c-1", name("azure", "unknown", "application", "c-1")),
    ],
)
def test_a_cloud_identity_is_assumed_if_the_cloud_agrees(discover: Discover, annotations: str, target: Name) -> None:
    edges = [f for f in discover(_account(annotations)) if isinstance(f, EdgeFact) and f.target == target]
    assert [edge.relation for edge in edges] == [Relation.ASSUME]
    assert edges[0].conditions


def test_a_role_annotation_that_is_no_arn_is_a_finding(discover: Discover) -> None:
    facts = discover(_account("eks.amazonaws.com/role-arn: orders"))
    assert "kubernetes.malformed-role-arn" in {fact.rule for fact in facts if isinstance(fact, FindingFact)}


def test_the_oidc_subject_is_an_alias_under_the_issuer(discover: Discover) -> None:
    facts = discover(_account(""), issuer="https://oidc.example.com/id/1")
    (account,) = [fact for fact in facts if isinstance(fact, IdentityFact)]
    assert account.aliases == (name("oidc", "oidc.example.com/id/1", "subject", "system:serviceaccount:shop:a"),)


def test_a_key_pair_is_known_by_its_public_half(discover: Discover) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    forms = serialization
    pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    spki = key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    (found,) = _credentials(discover(_secret("kubernetes.io/tls", **{"tls.key": pem, "tls.crt": b"-----BEGIN X"})))
    assert (found.fingerprint, found.kind) == (f"sha256:{hashlib.sha256(spki).hexdigest()}", CredentialKind.PRIVATE_KEY)


def test_an_access_key_is_one_credential_known_by_its_id(discover: Discover) -> None:
    key_id = b"AKIA" + b"Q" * 16
    facts = discover(_secret("Opaque", AWS_ACCESS_KEY_ID=key_id, AWS_SECRET_ACCESS_KEY=b"wJalrXUtnFEMI"))
    assert {found.fingerprint for found in _credentials(facts)} == {f"sha256:{hashlib.sha256(key_id).hexdigest()}"}


def test_the_same_password_in_a_url_has_the_same_fingerprint(discover: Discover) -> None:
    facts = discover(_secret("Opaque", password=b"pw 1", url=b"postgres://u:pw%201@h/db"))
    assert len({found.fingerprint for found in _credentials(facts)}) == 1


def test_a_static_token_proves_its_account(discover: Discover) -> None:
    body = base64.urlsafe_b64encode(b'{"sub":"system:serviceaccount:shop:a"}').rstrip(b"=")
    facts = discover(_secret("kubernetes.io/service-account-token", token=b"e30." + body + b".c2ln"))
    assert [found.identity for found in _credentials(facts)] == [name("kubernetes", "c1", "serviceaccount", "shop/a")]
    assert "kubernetes.static-token" in {fact.rule for fact in facts if isinstance(fact, FindingFact)}


def test_user_names_and_hosts_are_no_credentials(discover: Discover) -> None:
    assert _credentials(discover(_secret("Opaque", username=b"bob", DB_HOST=b"db.example.com"))) == []


def test_no_fact_shows_a_value(discover: Discover) -> None:
    values = {"password": b"hunter2-x", "api_key": b"zq-9182-xx", "url": b"amqp://u:deep-secret@h"}
    facts = repr(discover(_secret("Opaque", **values)))
    assert not [value for value in ("hunter2-x", "zq-9182-xx", "deep-secret") if value in facts]


def test_a_value_that_is_not_base64_is_reported(discover: Discover) -> None:
    facts = discover("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: '***'}\n")
    assert "malformed" in repr(facts)
