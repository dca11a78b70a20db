"""The OpenBao connector on a real server, entered with exactly the policies that its manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from bench.openbao import Bao, available_openbao, dev_openbao

from certificates import root
from joined_stage import joined, scan
from remit.inventory.connectors.openbao import ENGINE_HCL, HCL, OpenBaoConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import CredentialFact, EdgeFact, FindingFact, IdentityFact, Skipped
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.kernel.ids import parse_name

SECRET = "kv-own-word"
ISSUER = "https://token.actions.example"
POLICIES = {
    "app-read": 'path "database/creds/reports" { capabilities = ["read"] } # "never" { capabilities = ["sudo"] }',
    "half": 'path "database/creds/*" { capabilities = ["read"] }\npath "database/creds/reports" { capabilities = ["deny"] }',
    "everything": '{"path": {"*": {"capabilities": ["create", "read", "update", "delete", "list", "sudo"]}}}',
}


@dataclass(frozen=True, slots=True)
class Planted:
    bao: Bao
    tokens: dict[str, str]

    def token(self, *policies: str) -> str:
        body = {"policies": list(policies), "no_parent": True, "no_default_policy": True, "ttl": "10m"}
        return str(self.bao.write("auth/token/create", body)["auth"]["client_token"])

    def reader(self, token: str = "") -> OpenBaoConnector:
        return make(self.bao.address, {}, token or self.tokens["reader"])


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    program = available_openbao()
    if program is None:
        pytest.skip("bao: not installed")
    with dev_openbao(program) as bao:
        made = Planted(bao, {})
        plant(bao)
        made.tokens["reader"] = made.token("remit-reader", "remit-reader-database")
        made.tokens["endless"] = bao.write("auth/token/create", {"policies": ["app-read"], "period": "1h"})["auth"][
            "client_token"
        ]
        yield made


def plant(bao: Bao) -> None:
    for name, text in POLICIES.items():
        bao.write(f"sys/policies/acl/{name}", {"policy": text})
    bao.write("sys/policies/acl/remit-reader", {"policy": HCL})
    bao.write("sys/policies/acl/remit-reader-database", {"policy": ENGINE_HCL})
    for method in ("approle", "userpass", "jwt", "kubernetes"):
        bao.write(f"sys/auth/{method}", {"type": method})
    bao.write("auth/approle/role/billing", {"token_policies": "app-read", "token_ttl": "10m"})
    bao.write("auth/approle/role/billing/secret-id")
    bao.write("auth/approle/role/billing/secret-id", {"ttl": "1h"})
    bao.write("auth/approle/role/bare", {"bind_secret_id": False, "token_bound_cidrs": "127.0.0.1/32"})
    bao.write("auth/userpass/users/robin", {"password": "robin-word", "token_policies": "everything"})
    bao.ask("POST", "auth/userpass/login/robin", {"password": "robin-word"}, token="")
    bao.write("auth/jwt/config", {"jwt_validation_pubkeys": [PUBLIC], "bound_issuer": ISSUER})
    bao.write(
        "auth/jwt/role/deploy",
        {"role_type": "jwt", "user_claim": "sub", "bound_subject": "repo:shop/orders", "token_policies": "half"},
    )
    bao.write("auth/jwt/role/anyone", {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["bao"]})
    bao.write(
        "auth/kubernetes/config",
        {
            "kubernetes_host": "https://10.0.0.1",
            "issuer": "https://kube.example",
            "disable_local_ca_jwt": True,
            "kubernetes_ca_cert": root().pem.decode(),
        },
    )
    bao.write(
        "auth/kubernetes/role/pods",
        {"bound_service_account_names": "api", "bound_service_account_namespaces": "shop", "token_policies": "half"},
    )
    bao.write("secret/data/app", {"data": {"word": SECRET}})
    bao.write("sys/mounts/database", {"type": "database"})
    bao.write(
        "database/config/shop",
        {
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "verify_connection": False,
            "connection_url": "postgresql://{{username}}:{{password}}@localhost:5999/shop",
            "username": "vault_admin", "password": "admin-own-word",
        },
    )  # fmt: skip
    bao.write(
        "database/roles/reports",
        {"db_name": "shop", "creation_statements": 'CREATE ROLE "{{name}}"', "default_ttl": "5m"},
    )
    entity = bao.ask("LIST", "identity/entity/id")[1]["data"]["keys"][0]
    bao.write("identity/group", {"name": "ops\n`x`", "member_entity_ids": [entity], "policies": ["half"]})


PUBLIC = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----"""


@pytest.fixture(scope="module")
def facts(planted: Planted) -> list[Any]:
    return facts_of(planted.reader())


@pytest.fixture(scope="module")
def stage(planted: Planted) -> ConnectorStage:
    connector = planted.reader()
    connector.open()
    instance = connector.instance
    connector.close()
    return ConnectorStage(
        connector=planted.reader,
        expected=[
            f"urn:remit:openbao:{instance}:role:approle/billing",
            f"urn:remit:openbao:{instance}:policy:app-read",
            "urn:remit:postgres:localhost%3A5999:role:vault_admin",
        ],
        secrets=[SECRET, "admin-own-word", "robin-word", *planted.tokens.values(), planted.bao.root],
        refused=lambda: planted.reader("s.wrong"),
    )


class TestOpenBao(ConnectorContract):
    """The suite of every connector."""


def local(name: str) -> str:
    parts = parse_name(name)
    assert parts is not None
    return f"{parts[2]}/{parts[3]}"


def test_the_manifests_policies_leave_nothing_unseen(facts: list[Any]) -> None:
    assert [fact for fact in facts if isinstance(fact, Skipped)] == []


def test_the_manifests_policies_read_no_secret(planted: Planted) -> None:
    token = planted.tokens["reader"]
    for method, path in (
        ("GET", "secret/data/app"), ("LIST", "secret/metadata"), ("GET", "database/creds/reports"),
        ("POST", "auth/approle/role/billing/secret-id"), ("POST", "auth/token/create"), ("GET", "sys/raw/x"),
    ):  # fmt: skip
        assert planted.bao.ask(method, path, {} if method == "POST" else None, token=token)[0] == 403, path


def test_what_is_wrong_is_found_at_whom_it_concerns(facts: list[Any]) -> None:
    found = {(f.rule, local(str(f.subject)).partition("/")[2]) for f in facts if isinstance(f, FindingFact)}
    assert found >= {
        ("openbao.no-secret-id", "approle/bare"),
        ("openbao.secret-id-never-expires", "approle/billing"),
        ("openbao.role-for-anyone", "jwt/anyone"),
        ("openbao.powerful-policy", "everything"),
    }
    assert {rule for rule, _ in found} >= {"openbao.no-audit", "openbao.root-token"}


def test_who_may_become_what_is_a_path_of_edges(facts: list[Any]) -> None:
    edges = {(local(e.source), e.relation.value, local(e.target)) for e in facts if isinstance(e, EdgeFact)}
    assert edges >= {
        ("role/approle/billing", "member-of", "policy/app-read"),
        ("policy/app-read", "assume", "database-role/database/reports"),
        ("policy/app-read", "can-reach", "path/database/creds/reports"),
        ("subject/repo:shop/orders", "assume", "role/jwt/deploy"),
        ("subject/system:serviceaccount:shop:api", "assume", "role/kubernetes/pods"),
        ("mount/database", "runs-as", "role/vault_admin"),
    }
    assert ("policy/half", "assume", "database-role/database/reports") not in edges
    [robin] = [e for e in facts if isinstance(e, EdgeFact) and local(e.source) == "role/userpass/robin" and e.actions]
    assert local(robin.target).startswith("entity/")


def test_secret_ids_and_tokens_are_credentials_with_their_ends(facts: list[Any]) -> None:
    mine = [f for f in facts if isinstance(f, CredentialFact)]
    assert sorted(f.expires is None for f in mine if f.kind == "secret") == [False, True]
    assert sum(f.kind == "token" for f in mine) >= 4


def test_the_login_of_an_engine_and_its_dsn_in_a_file_are_one_identity(planted: Planted) -> None:
    dsn = "postgres://vault_admin:admin-own-word@localhost:5999/shop"
    identity, credentials = joined(dsn, "openbao", planted.reader(), files_first=False, user="vault_admin")
    assert [each.exposed for each in credentials] == [True]
    assert identity.system == "postgres"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('path "sys/audit"', "sys/audit"),
        ('path "auth/+/users/+"', "auth/userpass/users/robin"),
        ('path "identity/group/id/+"', "identity/group/id/"),
        ('path "auth/token/lookup-accessor"', "tokens behind accessors"),
    ],
)
def test_a_path_that_may_not_be_read_is_said_and_hides_no_other(planted: Planted, line: str, what: str) -> None:
    policy = "\n".join(each for each in HCL.splitlines() if not each.startswith(line + " "))
    name = "cut-" + line.split('"')[1].replace("/", "-").replace("+", "x")
    planted.bao.write(f"sys/policies/acl/{name}", {"policy": policy})
    found = facts_of(planted.reader(planted.token(name, "remit-reader-database")))
    assert [f.what for f in found if isinstance(f, Skipped) and not f.what.startswith(what)] == []
    assert any(isinstance(f, Skipped) and f.reason == "not-permitted" for f in found)
    assert any(isinstance(f, IdentityFact) and f.title == "billing (approle)" for f in found)


def test_without_the_engines_policy_its_roles_are_said_as_unseen(planted: Planted) -> None:
    found = facts_of(planted.reader(planted.token("remit-reader")))
    assert {f.what for f in found if isinstance(f, Skipped)} == {
        "database/config", "database/roles", "database/static-roles",
    }  # fmt: skip


def test_an_approle_reads_too(planted: Planted) -> None:
    bao = planted.bao
    bao.write("auth/approle/role/remit", {"token_policies": "remit-reader", "token_no_default_policy": True})
    role_id = bao.read("auth/approle/role/remit/role-id")["data"]["role_id"]
    secret_id = bao.write("auth/approle/role/remit/secret-id")["data"]["secret_id"]
    connector = make(bao.address.replace("//", f"//{role_id}@"), {}, secret_id)
    connector.open()
    assert connector.instance
    connector.close()
    wrong = make(bao.address.replace("//", f"//{role_id}@"), {}, "not-it")
    with pytest.raises(Misconfigured):
        wrong.open()
    bao.ask("DELETE", "auth/approle/role/remit")


def test_many_entities_are_read_in_pages_and_one_that_goes_harms_nobody() -> None:
    program = available_openbao()
    assert program is not None
    with dev_openbao(program) as bao:
        bao.write("sys/policies/acl/remit-reader", {"policy": HCL})
        for number in range(700):
            bao.write("identity/entity", {"name": f"e{number}"})
        connector, seen = make(bao.address, {}, bao.root), []
        connector.open()
        gone = False
        for raw in connector.fetch(scan()):
            facts = [raw] if isinstance(raw, Skipped) else list(connector.translate(raw, scan()))
            seen += [fact for fact in facts if isinstance(fact, IdentityFact) and "entity" in fact.name]
            if seen and not gone:
                last = bao.ask("LIST", "identity/entity/id")[1]["data"]["keys"][-1]
                gone = bao.ask("DELETE", f"identity/entity/id/{last}")[0] == 204
        connector.close()
        assert gone and len({fact.name for fact in seen}) == 699


def test_a_wrong_token_a_dead_port_and_plain_http_far_away_are_told_apart(planted: Planted) -> None:
    with pytest.raises(Misconfigured):
        planted.reader("s.wrong").open()
    with pytest.raises(Unavailable):
        make("http://127.0.0.1:1", {}, "s.x").open()
    with pytest.raises(Misconfigured, match="only https"):
        make("http://vault.example:8200", {}, "s.x").open()
    with pytest.raises(Rejected):
        make("https://a:b@vault.example", {}, "s.x")
