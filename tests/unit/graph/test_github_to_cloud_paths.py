"""From a deploy key to a cloud role: GitHub's facts and AWS's trust meet at the subject, and what stops the path."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from remit.inventory.connectors.aws.naming import GITHUB, role_name, subject_name
from remit.inventory.connectors.files.testing import SCAN
from remit.inventory.connectors.github.connector import GithubConnector, Raw
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import blast
from remit.inventory.graph.model import Edge
from remit.inventory.model import EdgeFact, Relation
from remit.inventory.oidc_subjects import MOST, join_subjects

ROLE = role_name("111122223333", "", "deploy")
KEY = ed25519.Ed25519PrivateKey.generate().public_key()
LINE = KEY.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
FREE = {"branch": "main", "protected": False}


def edges(kind: str, row: dict[str, Any], context: dict[str, Any], about: str = "acme/shop") -> list[Edge]:
    connector = GithubConnector(None, "acme")  # type: ignore[arg-type]
    facts = connector.translate(Raw(kind=kind, about=about, row=row, context=context), SCAN)
    return [
        Edge(source=e.source, relation=e.relation, target=e.target, evidence=e.evidence, conditions=e.conditions)
        for e in facts if isinstance(e, EdgeFact)
    ]  # fmt: skip


def key(writes: bool = True) -> list[Edge]:
    return edges("key", {"id": 7, "key": LINE, "title": "server", "read_only": not writes}, FREE)


def to_role(found: list[Edge], pattern: str, start: str | None = None) -> bool | None:
    """Whether the deploy key reaches the role that lets in `pattern`: `None` not at all, else without conditions."""
    trust = Edge(source=subject_name(GITHUB, pattern), relation=Relation.ASSUME, target=ROLE)
    every = [*found, trust]
    every += join_subjects({end for edge in every for end in (edge.source, edge.target)})
    first = start or next(edge.source for edge in found if ":deploy-key:" in edge.source)
    reached = {each.node.name: each for each in blast(AccessGraph.build((), every), first)}
    return None if ROLE not in reached else not reached[ROLE].conditional


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("repo:acme/shop:ref:refs/heads/main", True),
        ("repo:acme/shop:*", True),
        ("repo:acme/*:ref:refs/heads/main", True),
        ("repo:acme/*", True),
        ("repo:acme/shop:pull_request", False),
        ("repo:acme/sho?:*", True),
        ("repo:acme/shop2:*", None),
        ("repo:other/shop:ref:refs/heads/main", None),
        ("repo:acme/shop:ref:refs/heads/release", False),
        ("repo:acme/shop:ref:refs/tags/*", None),
        ("repo:acme/shop:ref:refs/heads/release-*", False),
        ("repo:acme/shop:environment:production", None),
    ],
)
def test_a_deploy_key_reaches_what_the_subject_of_its_repository_reaches(pattern: str, expected: bool | None) -> None:
    assert to_role([*key(), *edges("repository", {}, FREE)], pattern) is expected


def test_a_key_that_only_reads_reaches_no_role() -> None:
    assert to_role([*key(writes=False), *edges("repository", {}, FREE)], "repo:acme/shop:*") is None


@pytest.mark.parametrize("protected", [True, None])
def test_a_protected_or_unseen_branch_is_a_condition(protected: bool | None) -> None:
    guarded = {**FREE, "protected": protected}
    assert to_role([*key(), *edges("repository", {}, guarded)], "repo:acme/shop:ref:refs/heads/main") is False


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"name": "production", "protection_rules": [], "deployment_branch_policy": None}, True),
        ({"name": "production", "protection_rules": [{"type": "wait_timer", "wait_timer": 30}]}, True),
        ({"name": "production", "protection_rules": [{"type": "required_reviewers", "reviewers": [{}]}]}, False),
        ({"name": "production", "deployment_branch_policy": {"protected_branches": True}}, False),
        ({"name": "staging", "protection_rules": []}, None),
    ],
)
def test_an_environment_gives_its_subject_to_whom_its_rules_let_through(row: dict[str, Any], expected: object) -> None:
    found = [*key(), *edges("environment", row, FREE)]
    assert to_role(found, "repo:acme/shop:environment:production") is expected


def test_a_subject_made_of_other_claims_is_not_the_usual_one() -> None:
    made = {**FREE, "subject_keys": ("repository_owner", "context")}
    found = [*key(), *edges("repository", {}, made)]
    assert to_role(found, "repo:acme/shop:ref:refs/heads/main") is None
    assert to_role(found, "repository_owner:acme:ref:refs/heads/other") is False
    assert to_role(found, "repository_owner:acme:ref:refs/heads/main") is True


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        ({"contents": "write", "workflows": "write"}, True),
        ({"contents": "write"}, False),
        ({"contents": "read", "workflows": "write"}, None),
    ],
)
def test_an_app_that_may_push_is_every_pipeline_of_the_organisation(permissions: Any, expected: object) -> None:
    row = {"id": 9, "app_slug": "bot", "repository_selection": "all", "permissions": permissions}
    app = edges("installation", row, {}, about="acme")
    start = next(edge.source for edge in app)
    assert to_role([*app, *edges("repository", {}, FREE)], "repo:acme/shop:*", start) is expected


def test_a_runner_of_the_repository_is_reached_by_who_pushes() -> None:
    runner = edges("runner", {"id": 2, "name": "big", "labels": []}, {**FREE, "private": True})
    found = blast(AccessGraph.build((), [*key(), *runner]), key()[0].source)
    assert any(":runner:" in each.node.name for each in found)


def test_a_million_pairs_are_cut_short_and_said() -> None:
    subjects = [subject_name(GITHUB, f"repo:acme/r{number}:pull_request") for number in range(MOST // 100)]
    patterns = [subject_name(GITHUB, f"repo:acme/*x{number}") for number in range(120)]
    joined = list(join_subjects([*subjects, *patterns]))
    assert len(joined) == 20 * len(subjects) and all(edge.conditions for edge in joined)
