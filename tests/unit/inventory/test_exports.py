"""Exports, judged by the libraries of those who read them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from remit.inventory.exports import csv_table, ocsf, opengraph
from remit.inventory.graph import Category, Edge, Node
from remit.inventory.model import IdentityKind, Relation, Sensitivity, State
from remit.inventory.records import CredentialRecord, IdentityRecord

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def identity(title: str, **more: Any) -> IdentityRecord:
    return IdentityRecord(
        id=f"id_{title[:20]}", name=f"urn:remit:postgres:s:role:{title}", kind=IdentityKind.DATABASE_ROLE, title=title,
        system="postgres", instance="s", state=State.ACTIVE, first_seen=NOW, last_seen=NOW, **more,
    )  # fmt: skip


def credential(of: str) -> CredentialRecord:
    return CredentialRecord(
        fingerprint="hmac:00", identity=of, kind="password", title="password", state="active", first_seen=NOW,
        last_seen=NOW, last_used=NOW,
    )  # fmt: skip


def test_every_event_is_valid_by_the_published_schema() -> None:
    schemas = pytest.importorskip("ocsf_json_schema", reason="ocsf-json-schema: not installed")
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema: not installed")
    schema = schemas.OcsfJsonSchemaEmbedded(schemas.get_ocsf_schema(version=ocsf.VERSION))
    judge = jsonschema.Draft202012Validator(schema.get_class_schema("user_inventory"))
    for kind in IdentityKind:
        record = identity("app", owner="team:x", environment="prod", tier=0, privileged=True)
        event = ocsf.user_inventory(record, [credential(record.id)], NOW, product="0.1.0")
        event["user"]["type"] = kind.value
        assert [error.message for error in judge.iter_errors(json.loads(json.dumps(event)))] == []


def test_the_graph_is_what_bloodhound_takes() -> None:
    bhopengraph = pytest.importorskip("bhopengraph.OpenGraph", reason="bhopengraph: not installed")
    nodes = [
        Node(name="id_1", category=Category.IDENTITY, kind="database-role", title="app"),
        Node(name="urn:remit:x:y:z:t", category=Category.RESOURCE, kind="table", title="cards",
             sensitivity=Sensitivity.RESTRICTED),
        Node(name="gone", category=Category.UNKNOWN, kind="unknown", title='quote " and \\'),
    ]  # fmt: skip
    edges = [
        Edge(
            source="id_1", relation=Relation.CAN_REACH, target="urn:remit:x:y:z:t", actions=("SELECT",), cut="REVOKE …"
        ),
        Edge(source="id_1", relation=Relation.ASSUME, target="gone", conditions=("mfa",)),
    ]
    text = "".join(opengraph.write(nodes, edges))
    graph = bhopengraph.OpenGraph(source_kind="Remit")
    assert graph.import_from_json(text)
    assert (graph.get_node_count(), graph.get_edge_count()) == (3, 2)
    assert graph.validate_graph() == (True, [])
    assert json.loads(text)["graph"]["edges"][0]["kind"] == "RemitCanReach"


def test_an_empty_graph_is_a_document() -> None:
    assert json.loads("".join(opengraph.write([], [])))["graph"] == {"nodes": [], "edges": []}


@pytest.mark.parametrize("title", ["=cmd()", "+1", "-1", "@x", "plain", 'quo"te', "two\nlines", "a,b"])
def test_a_name_is_no_formula_and_survives(title: str) -> None:
    _, line = csv.reader(io.StringIO("".join(csv_table.identities_csv([identity(title)]))))
    cell = line[csv_table.IDENTITY.index("title")]
    assert cell.removeprefix("'") == title and not cell.startswith(("=", "+", "-", "@"))
