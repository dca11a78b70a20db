"""What the holders of an OpenBao policy can become: each escalation with what stops it."""

from __future__ import annotations

import pytest

from remit.inventory.connectors.aws.naming import GITHUB, subject_name
from remit.inventory.connectors.files.testing import SCAN
from remit.inventory.connectors.openbao_acl import taken_away
from remit.inventory.connectors.openbao_facts import Role, Translation
from remit.inventory.connectors.openbao_powers import House, Power, merged, powers
from remit.inventory.model import EdgeFact, Relation
from remit.providers.openbao.inventory import statements_of

HOUSE = House(
    methods={"approle": "approle", "userpass": "userpass", "jwt": "jwt"},
    roles=[("approle", "approle", "billing"), ("userpass", "userpass", "robin")],
    engines={"transit": "transit", "pki": "pki", "kv": "kv"},
)


def of(text: str, policy: str = "mine") -> dict[str, Power]:
    found = merged(powers(policy, statements_of(text), HOUSE))
    return {f"{each.target} {each.name}".strip(): each for each in found}


def rule(path: str, *capabilities: str, more: str = "") -> str:
    words = ", ".join(f'"{each}"' for each in capabilities or ("update",))
    return f'path "{path}" {{ capabilities = [{words}] {more} }}\n'


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (rule("sys/policies/acl/mine"), "root"),
        (rule("sys/policies/acl/*", "create"), "root"),
        (rule("sys/policy/+"), "root"),
        (rule("auth/token/create", "update", "sudo"), "policies"),
        (rule("auth/token/roles/*") + rule("auth/token/create/*"), "policies"),
        (rule("auth/userpass/users/*"), "policies"),
        (rule("auth/approle/*", "create", "read", "update"), "policies"),
        (rule("auth/approle/role/billing/*", "read", "update"), "role approle/billing"),
        (rule("auth/userpass/users/robin/password"), "role userpass/robin"),
        (rule("transit/decrypt/cards"), "mount transit"),
        (rule("pki/sign-verbatim/*"), "mount pki"),
        (rule("kv/data/app", "read"), "mount kv"),
    ],
)
def test_an_escalation_is_found_without_conditions(text: str, target: str) -> None:
    assert of(text)[target].conditions == ()
    assert of(text)[target].rules


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (rule("sys/policies/acl/*") + rule("sys/policies/acl/mine", "deny") + rule("sys/policies/acl/any", "deny"), "root"),
        (rule("sys/policies/acl/*", "read", "list"), "root"),
        (rule("auth/token/create"), "policies"),
        (rule("auth/token/create/*"), "policies"),
        (rule("auth/approle/role/*"), "role userpass/robin"),
        (rule("transit/encrypt/cards"), "mount transit"),
        (rule("transit/*") + rule("transit/decrypt/*", "deny") + rule("transit/sign/*", "deny")
         + rule("transit/rewrap/*", "deny") + rule("transit/export/*", "deny"), "mount transit"),
        (rule("sys/raw/*", "read"), "root"),
    ],
)  # fmt: skip
def test_what_is_denied_or_not_enough_gives_nothing(text: str, target: str) -> None:
    assert target not in of(text)


@pytest.mark.parametrize(
    ("text", "target", "word"),
    [
        (rule("sys/policies/acl/other"), "root", ""),
        (rule("identity/entity/id/*"), "policies", "entity"),
        (rule("auth/jwt/role/*"), "policies", "issuer"),
        (rule("auth/approle/role/billing/secret-id"), "role approle/billing", "role id"),
        (rule("sys/raw/*", "read", "sudo"), "root", "raw_storage_endpoint"),
        (rule("auth/token/create", "update", "sudo", more='allowed_parameters = { "policies" = ["a"] }'), "policies",
         "limits"),
    ],
)  # fmt: skip
def test_what_hangs_on_more_is_a_condition(text: str, target: str, word: str) -> None:
    found = of(text)
    if not word:
        assert target not in found  # another policy by its exact name is not the holder's own
    else:
        assert word in found[target].conditions[0]


def sources(
    claims: dict[str, object], issuer: str = "https://token.actions.githubusercontent.com"
) -> dict[str, EdgeFact]:
    described = {"bound_claims": claims, "bound_claims_type": "glob", "token_policies": ["deploy"]}
    role = Role(method="jwt", mount="jwt", name="ci", described=described, config={"bound_issuer": issuer})
    made = Translation("bao", SCAN).facts(role)
    return {each.source: each for each in made if isinstance(each, EdgeFact) and each.relation is Relation.ASSUME}


def test_a_workflow_of_github_signs_in_by_the_subject_that_its_connector_names() -> None:
    edge = sources({"sub": "repo:acme/shop:*"})[subject_name(GITHUB, "repo:acme/shop:*")]
    assert edge.conditions == ()


def test_a_claim_besides_the_subject_is_a_condition() -> None:
    found = sources({"sub": "repo:acme/shop:*", "job_workflow_ref": "acme/ci/.github/workflows/x.yml@refs/heads/main"})
    assert all("job_workflow_ref" in edge.conditions[0] for edge in found.values())


def test_one_policy_may_take_away_what_another_gives() -> None:
    wide, narrow = statements_of(rule("kv/*", "read")), statements_of(rule("kv/+/hr", "deny"))
    assert taken_away(wide, narrow) == ()
    assert taken_away(statements_of(rule("kv/data/hr", "read")), narrow) == ()
    assert taken_away(statements_of(rule("kv/data/*", "read")), statements_of(rule("kv/data/any", "deny"))) == (
        "kv/data/*",
    )
    assert taken_away(wide, statements_of(rule("kv/*", "deny"))) == ("kv/*",)
