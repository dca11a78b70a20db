"""How sensitive a resource is counts by a person's word: not by a source's, and not by a row of the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from installation import Installation, installation

POLICY = (
    '@id("internal")\n@reason("what harms nobody may be read")\npermit (principal, action, resource) '
    'when { resource.sensitivity == "internal" };\n'
)
MASTER, CARDS = "PAY.MASTER", "PAY.CARDS"


def rows(*, sensitivity: str = "internal") -> dict[str, Any]:
    return {
        "system": "mainframe", "instance": "hq-1",
        "identities": [{"name": "PAYSVC", "kind": "service-account"}],
        "resources": [{"name": each, "kind": "dataset", "sensitivity": sensitivity} for each in ("PAY.MASTER", "PAY.CARDS")],
    }  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation() as made:
        folder = tmp_path_factory.mktemp("rows")
        (folder / "policy.cedar").write_text(POLICY)
        made.cli("policy", "apply", folder / "policy.cedar")
        discover(made, folder, rows())
        yield made


def discover(server: Installation, folder: Path, said: dict[str, Any]) -> None:
    (folder / "rows.json").write_text(json.dumps(said))
    server.cli("discover", "import", folder / "rows.json")


def named(server: Installation, title: str) -> str:
    [row] = server.json("resource", "ls", "--text", title)
    return str(row["name"])


def allowed(server: Installation, resource: str) -> bool:
    who = next(str(row["id"]) for row in server.json("ls") if row.get("title") == "PAYSVC")
    asked = {
        "subject": {"type": "identity", "id": who}, "action": {"name": "read"},
        "resource": {"type": "dataset", "id": named(server, resource)},
    }  # fmt: skip
    return bool(server.admin.post("/access/v1/evaluation", asked)["decision"])


def test_only_a_persons_word_counts_and_later_scans_do_not_change_it(server: Installation, tmp_path: Path) -> None:
    assert not allowed(server, MASTER)
    server.cli("resource", "classify", named(server, MASTER), "--as", "internal", "--reason", "test data")
    assert allowed(server, MASTER)
    discover(server, tmp_path, rows(sensitivity="restricted"))
    assert allowed(server, MASTER)
    [row] = server.json("resource", "ls", "--text", "PAY.MASTER")
    assert (row["sensitivity"], row["sensitivity_confirmed"]) == ("internal", True)
    server.cli("resource", "classify", named(server, MASTER), "--as", "unknown", "--reason", "no more")
    assert not allowed(server, MASTER)


def test_a_row_that_somebody_wrote_into_the_database_confirms_nothing(server: Installation) -> None:
    server.stop()
    with closing(sqlite3.connect(server.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute(
            "update inventory_resource set sensitivity = 'internal', sensitivity_confirmed = 1 where title = ?",
            (CARDS,),
        )
    server.start()
    assert not allowed(server, CARDS)


def test_what_is_no_resource_is_told_and_nothing_is_classified(server: Installation) -> None:
    name = named(server, CARDS)
    done = server.cli("resource", "classify", name, f"{name}X", "--as", "public", "--reason", "r", code=2)
    assert "governance.resource.unknown" in done.stderr
    [row] = server.json("resource", "ls", "--text", "PAY.CARDS")
    assert row["sensitivity"] != "public"
