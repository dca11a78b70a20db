"""From a GitLab deploy key to a cloud role and to CI variables, and what protects them."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from remit.inventory.connectors.aws.naming import role_name, subject_name
from remit.inventory.connectors.files.testing import SCAN
from remit.inventory.connectors.gitlab.connector import GitlabConnector, Raw
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import blast
from remit.inventory.graph.model import Edge
from remit.inventory.model import EdgeFact, Relation
from remit.inventory.oidc_subjects import join_subjects

ROLE = role_name("111122223333", "", "deploy")
KEY = ed25519.Ed25519PrivateKey.generate().public_key()
LINE = KEY.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
OPEN = {"default_branch": "main", "branch_protected": False}


def edges(kind: str, row: dict[str, Any], about: str = "acme/shop") -> list[Edge]:
    connector = GitlabConnector(None, "acme")  # type: ignore[arg-type]
    return [
        Edge(source=e.source, relation=e.relation, target=e.target, evidence=e.evidence, conditions=e.conditions)
        for e in connector.translate(Raw(kind=kind, about=about, row=row), SCAN) if isinstance(e, EdgeFact)
    ]  # fmt: skip


def reached(found: list[Edge]) -> dict[str, bool]:
    """What the deploy key reaches, and whether under conditions."""
    key = edges("key", {"id": 3, "title": "server", "key": LINE, "can_push": True})
    every = [*key, *found]
    every += join_subjects({end for edge in every for end in (edge.source, edge.target)})
    return {each.node.name: each.conditional for each in blast(AccessGraph.build((), every), key[0].source)}


@pytest.mark.parametrize(
    ("pattern", "protected", "conditional"),
    [
        ("project_path:acme/shop:ref_type:branch:ref:main", False, False),
        ("project_path:acme/shop:ref_type:branch:ref:main", True, True),
        ("project_path:acme/shop:ref_type:branch:ref:main", None, True),
        ("project_path:acme/*:ref_type:branch:ref:*", False, False),
        ("project_path:acme/shop:*", True, True),
        ("project_path:acme/other:*", False, None),
        ("project_path:acme/shop:ref_type:tag:ref:v1", False, None),
    ],
)
def test_a_key_that_may_push_reaches_the_role_of_its_subject(
    pattern: str, protected: bool | None, conditional: bool | None
) -> None:
    trust = Edge(source=subject_name("gitlab.com", pattern), relation=Relation.ASSUME, target=ROLE)
    found = reached([*edges("project", {**OPEN, "branch_protected": protected}), trust])
    assert found.get(ROLE) is conditional


@pytest.mark.parametrize(("about", "protected"), [("acme/shop", False), ("acme/shop", True), ("acme", False)])
def test_variables_of_project_and_group_are_given_to_its_jobs(about: str, protected: bool) -> None:
    row = {"key": "DB_PASSWORD", "value": "Very-Secret-9", "protected": protected, "masked": True}
    given = [edge for edge in edges("variable", row, about) if ":variables:" in edge.source]
    found = reached([*edges("project", OPEN), *given])
    assert found[given[0].target] is protected


def test_variables_of_another_group_are_not() -> None:
    row = {"key": "DB_PASSWORD", "value": "Very-Secret-9", "protected": False, "masked": True}
    given = [edge for edge in edges("variable", row, "other") if ":variables:" in edge.source]
    assert given[0].target not in reached([*edges("project", OPEN), *given])


def test_a_runner_for_protected_branches_is_reached_under_a_condition() -> None:
    runner = edges("runner", {"id": 5, "description": "big", "access_level": "ref_protected"})
    found = reached([*edges("project", OPEN), *runner])
    assert next(each for name, each in found.items() if ":runner:" in name) is True
