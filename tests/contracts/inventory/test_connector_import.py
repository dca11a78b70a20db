"""A file in Remit's own form: contract, every form alike, bad rows told with line and field, no claim on others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.inventory.connectors.files.testing import credentials, edges, identities
from remit.inventory.connectors.import_file import make
from remit.inventory.connectors.import_rows import schema
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import OwnerFact, Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import name

SECRET = "Vault-Of-Legacy-77x"
DOCUMENT = {
    "system": "mainframe", "instance": "lpar1",
    "identities": [
        {"name": "BATCH01", "kind": "service-account", "aliases": ["batch-01"], "attributes": {"environment": "prod", "privileged": True}},
        {"name": "ADMIN", "kind": "group"},
    ],
    "credentials": [{"identity": "BATCH01", "kind": "password", "secret": SECRET, "issued": "2024-01-01T00:00:00Z"}],
    "resources": [{"name": "PAYROLL", "kind": "dataset", "sensitivity": "restricted"}],
    "entitlements": [
        {"identity": "BATCH01", "resource": "PAYROLL", "actions": ["READ"], "cut": "RACF PERMIT DELETE"},
        {"identity": "BATCH01", "becomes": "ADMIN", "relation": "member-of"},
    ],
    "owners": [{"identity": "BATCH01", "owner": "payroll@acme.example", "confidence": 80}],
}  # fmt: skip
BATCH = name("mainframe", "lpar1", "identity", "BATCH01")


def put(root: Path, called: str, content: Any) -> str:
    (root / called).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(root / called)


def skips(facts: Any) -> list[tuple[str, str]]:
    return [(fact.what, fact.detail) for fact in facts if isinstance(fact, Skipped)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorStage]:
    root = tmp_path_factory.mktemp("import")
    path = put(root, "estate.json", DOCUMENT)
    broken = put(root, "broken.json", '{"secret": "' + SECRET)
    yield ConnectorStage(
        connector=lambda: make(path, {}, ""),
        expected=(BATCH, name("mainframe", "lpar1", "resource", "PAYROLL")),
        secrets=(SECRET,),
        refused=lambda: make(broken, {}, ""),
    )


class TestImport(ConnectorContract):
    pass


def test_every_form_says_the_same(tmp_path: Path) -> None:
    import yaml

    singular = {"identities": "identity"}
    lines = [
        json.dumps({"row": singular.get(key, key[:-1]), **row})
        for key, rows in DOCUMENT.items() if isinstance(rows, list) for row in rows
    ]  # fmt: skip
    whole = facts_of(make(put(tmp_path, "a.json", DOCUMENT), {}, ""))
    as_yaml = facts_of(make(put(tmp_path, "a.yaml", yaml.safe_dump(DOCUMENT)), {}, ""))
    assert {fact.name for fact in identities(whole)} == {fact.name for fact in identities(as_yaml)}
    assert [f.fingerprint for f in credentials(whole)] == [f.fingerprint for f in credentials(as_yaml)]
    listed = facts_of(
        make(put(tmp_path, "a.jsonl", "\n".join(lines)), {"system": "mainframe", "instance": "lpar1"}, "")
    )
    assert next(f for f in listed if isinstance(f, OwnerFact)).owner == "payroll@acme.example"
    assert len(edges(listed, "can-reach")) == len(edges(whole, "can-reach")) == 1


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    table = "name,kind,title,aliases,attributes.environment\nSVC1,service-account,First,a;b,prod\nSVC2,,,,\n"
    facts = facts_of(make(put(tmp_path, "t.csv", table), {"system": "cmdb", "kind": "identity"}, ""))
    first, second = identities(facts)
    assert (first.title, first.attributes["environment"], len(first.aliases)) == ("First", "prod", 2)
    assert second.name == name("cmdb", "default", "identity", "SVC2")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"row": "identity", "name": "x", "colour": "red"}, "colour"),
        ({"row": "identity", "name": 5}, "$.name"),
        ({"row": "identity"}, "name"),
        ({"row": "planet", "name": "x"}, "row"),
        ({"row": "entitlement", "identity": "x"}, "resource, becomes"),
        ({"row": "owner", "identity": "x", "owner": "y", "confidence": 900}, "confidence"),
        ([1, 2], "object"),
    ],
    ids=str,
)
def test_a_bad_row_is_told_with_its_line_and_field_and_the_next_is_read(tmp_path: Path, row: Any, said: str) -> None:
    lines = [
        json.dumps({"row": "owner", "identity": "a", "owner": "b"}),
        json.dumps(row),
        json.dumps({"row": "identity", "name": "last"}),
    ]
    source = put(tmp_path, "x.jsonl", "\n".join(lines))
    facts = facts_of(make(source, {"system": "cmdb"}, ""))
    ((what, detail),) = skips(facts)
    assert what == "x.jsonl:2" and said in detail
    assert [fact.title for fact in identities(facts)] == ["last"]


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    text = '{"row":"identity","name":"' + "x" * 3_000_000 + '"}\n' + '{"row":"identity","name":"after"}\n'
    facts = facts_of(make(put(tmp_path, "x.jsonl", text), {"system": "cmdb"}, ""))
    assert [what for what, _ in skips(facts)] == ["x.jsonl:1"]
    assert [fact.title for fact in identities(facts)] == ["after"]


@pytest.mark.parametrize("system", ["aws", "github", "credential", "host", "oidc", "A B", "", "kubernetes"])
def test_a_file_speaks_for_no_system_of_another(tmp_path: Path, system: str) -> None:
    with pytest.raises(Rejected):
        make(put(tmp_path, "x.json", {**DOCUMENT, "system": system}), {}, "").open()


def test_an_alias_names_nothing_of_another_system(tmp_path: Path) -> None:
    rows = {"system": "evil", "identities": [{"name": "x", "aliases": ["urn:remit:aws:111122223333:role:admin"]}]}
    connector = make(put(tmp_path, "x.json", rows), {}, "")
    (fact,) = identities(facts_of(connector))
    assert all(alias.startswith("urn:remit:evil:") for alias in fact.aliases)
    assert connector.manifest.record_of == ("evil",)


def test_a_key_id_of_aws_is_the_key_that_others_see(tmp_path: Path) -> None:
    from remit.inventory.connectors.files.keys import sha256

    row = {"identity": "x", "kind": "access-key", "key_id": "AKIAZQ3DRSTUVWXY2345"}
    facts = facts_of(make(put(tmp_path, "x.json", {"system": "cmdb", "credentials": [row]}), {}, ""))
    assert [fact.fingerprint for fact in credentials(facts)] == [sha256(b"AKIAZQ3DRSTUVWXY2345")]


def test_a_trial_keeps_nothing_but_says_what_is_wrong(tmp_path: Path) -> None:
    broken = {**DOCUMENT, "owners": [{"identity": "x"}]}
    trial = make(put(tmp_path, "x.json", broken), {"dry-run": "true"}, "")
    facts = facts_of(trial)
    assert [type(fact) for fact in facts] == [Skipped] and "trial" in trial.scope


def test_a_file_of_a_million_bytes_of_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        make(put(tmp_path, "x.json", '{"system":' + "[" * 1_000_000), {}, "").open()


def test_the_published_schema_is_that_of_the_structs() -> None:
    published = Path(__file__).parents[3] / "docs/schema/import.schema.json"
    assert json.loads(published.read_text()) == schema()


def test_the_example_of_the_page_is_read_whole(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/import.md").read_text()
    example = page.partition("```json\n")[2].partition("```")[0]
    facts = facts_of(make(put(tmp_path, "example.json", example), {}, ""))
    assert not skips(facts) and identities(facts) and credentials(facts)


def test_a_ticket_and_its_day_are_evidence_for_an_owner(tmp_path: Path) -> None:
    row = {"identity": "BATCH01", "owner": "ann@acme.example", "method": "ticket", "at": "2025-11-03T00:00:00Z"}
    found = facts_of(make(put(tmp_path, "x.json", {**DOCUMENT, "owners": [row]}), {}, ""))
    (owner,) = [fact for fact in found if isinstance(fact, OwnerFact)]
    assert (owner.method, owner.at and owner.at.year) == ("ticket", 2025)


def test_a_method_that_nobody_knows_is_said(tmp_path: Path) -> None:
    row = {"identity": "BATCH01", "owner": "ann@acme.example", "method": "rumour"}
    (skipped,) = skips(facts_of(make(put(tmp_path, "x.json", {**DOCUMENT, "owners": [row]}), {}, "")))
    assert "method" in skipped[1]
