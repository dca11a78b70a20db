"""Whatever a forge answers, a reader gives facts in bounds, or says what it could not read; it never raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.connectors.github import connector as github
from remit.inventory.connectors.github.facts import FACTS as GITHUB
from remit.inventory.connectors.gitlab import connector as gitlab
from remit.inventory.connectors.gitlab.facts import FACTS as GITLAB
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, fingerprint
from remit.inventory.model import Fact, IdentityFact, Skipped

KEYS = st.sampled_from([
    "id", "login", "name", "full_name", "path", "title", "key", "read_only", "created_at", "updated_at", "last_used",
    "last_used_at", "expires_at", "token_last_used_at", "token_expires_at", "permissions", "events", "config", "url",
    "active", "app_slug", "app_id", "repository_selection", "account", "owner", "type", "visibility", "labels", "status",
    "os", "protection_rules", "reviewers", "deployment_branch_policy", "environment_scope", "masked", "protected",
    "scopes", "user", "username", "user_id", "revoked", "access_level", "description", "runner_type", "web_url", "data",
    "use_default", "include_claim_keys", "value", "variable_type", "token", "fingerprint", "default_branch", "archived",
])  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=20), st.binary(max_size=40),
    st.sampled_from([
        "2026-13-45T00:00:00Z", "2026-01-01T00:00:00Z", "ssh-ed25519 AAAA", "ssh-rsa !!!", "https://u:p@h:99999/x", "a/b/c",
        "..", "\x00", "on: push\njobs: {a: {steps: [{uses: 3}]}}", "\ud83d\ude00" * 3, "x" * 5_000,
    ]),
)  # fmt: skip
ROWS = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=15
    ),
    max_size=12,
)


def _github(kind: str, row: dict[str, Any]) -> Iterable[Fact]:
    reader = github.GithubConnector(object(), "acme")  # type: ignore[arg-type]  # nothing is asked of it
    return reader.translate(github.Raw(kind=kind, about="acme/shop", row=row), Scan(now=NOW, fingerprint=fingerprint))


def _gitlab(kind: str, row: dict[str, Any]) -> Iterable[Fact]:
    reader = gitlab.GitlabConnector(object(), "acme")  # type: ignore[arg-type]
    if kind == "pipeline":
        data = row.get("data")
        row = {**row, "path": ".gitlab-ci.yml", "data": data if isinstance(data, bytes) else str(data).encode()}
    return reader.translate(gitlab.Raw(kind=kind, about="acme/shop", row=row), Scan(now=NOW, fingerprint=fingerprint))


@pytest.mark.parametrize(
    ("read", "kind"),
    [(_github, each) for each in sorted(GITHUB)] + [(_gitlab, each) for each in sorted(GITLAB)],
)
@settings(max_examples=60, deadline=None)
@given(row=ROWS)
def test_an_answer_of_any_form_is_read_or_reported(read: Any, kind: str, row: dict[str, Any]) -> None:
    facts = list(read(kind, row))
    assert len(facts) < 500
    for fact in facts:
        if isinstance(fact, IdentityFact):
            assert fact.name.startswith("urn:") and len(fact.title) <= 2_000
        if isinstance(fact, Skipped):
            assert fact.reason
