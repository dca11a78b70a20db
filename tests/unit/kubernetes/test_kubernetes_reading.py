"""Hostile, broken and foreign files: bounded, reported, and never in the way of the good ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.inventory.connectors.kubernetes import KubernetesConnector
from remit.inventory.connectors.kubernetes.reading import read_documents
from remit.inventory.model import Fact, IdentityFact, Skipped
from remit.kernel.errors import Rejected

Discover = Callable[..., list[Fact]]
_GOOD = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: good, namespace: shop}\n"


def _reasons(facts: list[Fact]) -> list[str]:
    return [fact.reason for fact in facts if isinstance(fact, Skipped)]


def _titles(facts: list[Fact]) -> list[str]:
    return [fact.title for fact in facts if isinstance(fact, IdentityFact)]


_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
_MERGE_BOMB = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name}\n  <<: [*{before}, *{before}]\n"
    for before, name in zip([f"m{at}" for at in range(40)], [f"m{at}" for at in range(1, 41)], strict=True)
).replace("*m0", "*a")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (_BOMB, "too-large"),
        (_MERGE_BOMB, "too-large"),
        ("a: &a [*a]\n", "too-large"),
        ("a: " + "[" * 200_000 + "\n", "too-large"),
        ("- " * 200_000 + "x\n", "too-large"),
        ("a: [unclosed\n", "malformed"),
        ("a: 2020-13-45\n", "malformed"),
        ("? [a, b]\n: c\n", "malformed"),
        ("a: !!python/object/apply:os.system [id]\n", "malformed"),
        ("name: {{ .Values.name }}\n", "not-supported"),
    ],
    ids=["aliases", "merges", "cycle", "flow-depth", "block-depth", "unclosed", "date", "key", "tag", "template"],
)
def test_a_bad_document_is_reported_and_the_next_one_read(discover: Discover, bad: str, reason: str) -> None:
    facts = discover(f"{bad}---\n{_GOOD}")
    assert _reasons(facts) == [reason]
    assert "shop/good" in _titles(facts)


def test_a_problem_is_told_without_quoting_the_document(discover: Discover) -> None:
    facts = discover("password: [hunter2\n")
    assert "hunter2" not in repr(facts)


def test_what_is_no_kubernetes_object_is_none_of_our_business(discover: Discover) -> None:
    assert _reasons(discover("services:\n  web: {image: nginx}\n")) == []


def test_a_sops_encrypted_secret_is_reported_as_encrypted(discover: Discover) -> None:
    facts = discover("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: ENC}\nsops: {mac: x}\n")
    assert _reasons(facts) == ["encrypted"]


def test_a_sealed_secret_is_reported_as_encrypted(discover: Discover) -> None:
    assert _reasons(discover("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: s}\n")) == [
        "encrypted"
    ]


def test_a_chart_template_is_not_taken_for_a_manifest(discover: Discover, tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("name: x\n")
    facts = discover(_GOOD.replace("good", '"{{ .Values.x }}"'), file="templates/sa.yaml")
    assert _reasons(facts) == ["not-supported"]


def test_braces_inside_a_string_are_no_template(discover: Discover) -> None:
    facts = discover(_GOOD + "secrets: []\nnote: 'uses {{inputs.x}}'\n")
    assert _titles(facts) == ["shop/good"]


def test_lists_of_kubectl_are_unpacked(discover: Discover) -> None:
    item = '{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"a","namespace":"b"}}'
    facts = discover(f'{{"apiVersion":"v1","kind":"List","items":[{item}]}}', file="all.json")
    assert _titles(facts) == ["b/a"]


def test_items_of_a_typed_list_get_its_kind(discover: Discover) -> None:
    facts = discover("apiVersion: v1\nkind: ServiceAccountList\nitems:\n- metadata: {name: a, namespace: b}\n")
    assert _titles(facts) == ["b/a"]


def test_a_pipe_and_a_link_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    reasons = [
        document.reason
        for file in ("pipe.yaml", "link.yaml")
        for document in read_documents(tmp_path / file, file)
        if isinstance(document, Skipped)
    ]
    assert reasons == ["not-supported", "unreadable"]


def test_a_document_knows_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("# note\n---\na: 1\n---\n\nb: 2\n")
    lines = [document.line for document in read_documents(file, "a.yaml") if not isinstance(document, Skipped)]
    assert lines == [3, 6]


def test_a_missing_source_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as error:
        KubernetesConnector(tmp_path / "nowhere").open()
    assert error.value.code == "inventory.source.missing"


def test_wrong_types_everywhere_do_no_harm(discover: Discover) -> None:
    facts = discover(
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: p, labels: [1], annotations: 7, ownerReferences: x}
        spec: {containers: [1, {env: {}, name: 5}], volumes: [null, {secret: 3}], serviceAccountName: [x]}
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata: {name: r}
        rules: [3, {verbs: get, resources: [1]}]
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: RoleBinding
        metadata: {name: b}
        roleRef: []
        subjects: {kind: x}
        """
    )
    assert "pod default/p" in _titles(facts)
