"""Somebody writes into the database by hand: it can take rights away, and it can give none."""

from __future__ import annotations

import json
import secrets
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import Installation, installation
from remit.governance.signatures import encode_signed, sign_command
from remit.kernel.errors import RemitError

STRICT = (
    '@id("known")\n@reason("what is asked for here")\npermit (principal, action == Remit::Action::"read", resource);\n'
)
WIDE = '@id("wide")\n@reason("everything")\npermit (principal, action, resource);\n'
OWNED = (
    '@id("owned")\n@reason("somebody answers for it")\npermit (principal, action, resource) '
    "when { principal.owner_active };\n"
)


@pytest.fixture
def server() -> Iterator[Installation]:
    with installation() as made:
        made.cli("task", "add", "nightly", "--", "/bin/sleep")
        yield made


def write(server: Installation, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """What an intruder types into sqlite3."""
    with closing(sqlite3.connect(server.data / "remit.db", timeout=60)) as conn, conn:
        for statement, values in statements:
            conn.execute(statement, values)


def restarted(server: Installation, meanwhile: Callable[[], None]) -> None:
    server.stop()
    meanwhile()
    server.start()


def apply(server: Installation, tmp_path: Path, text: str) -> str:
    path = tmp_path / "policy.cedar"
    path.write_text(text)
    server.cli("policy", "apply", path)
    return str(server.admin.get("/api/v1/policies")["id"])


def identity(server: Installation) -> str:
    return next(str(row["id"]) for row in server.json("ls") if row.get("title") == "nightly")


def decide(server: Installation, action: str = "read") -> tuple[bool, list[str]]:
    asked = {
        "subject": {"type": "identity", "id": identity(server)},
        "action": {"name": action},
        "resource": {"type": "page", "id": "1"},
    }
    answer = server.admin.post("/access/v1/evaluation", asked)
    return answer["decision"], [each["id"] for each in answer["context"]["reason"]["policies"]]


def doctor(server: Installation) -> str:
    return "\n".join(line["detail"] for line in server.admin.get("/api/v1/doctor") if line["outcome"] == "fail")


def test_a_quarantine_that_is_undone_in_the_database_stands(server: Installation, tmp_path: Path) -> None:
    apply(server, tmp_path, STRICT)
    assert decide(server)[0]
    who = identity(server)
    server.cli("quarantine", who, "--reason", "it went rogue")
    restarted(server, lambda: write(server, ("UPDATE inventory_identity SET state = 'active' WHERE id = ?", (who,))))
    assert decide(server) == (False, ["remit:quarantined"]) or decide(server) == (False, ["remit:state"])
    assert who in doctor(server)


def test_a_person_can_still_release_it(server: Installation, tmp_path: Path) -> None:
    apply(server, tmp_path, STRICT)
    server.cli("quarantine", identity(server), "--reason", "it went rogue")
    server.cli("release", identity(server), "--reason", "it was a drill")
    restarted(server, lambda: None)
    assert decide(server)[0]


def test_a_state_that_takes_rights_away_is_believed(server: Installation, tmp_path: Path) -> None:
    apply(server, tmp_path, STRICT)
    who = identity(server)
    restarted(server, lambda: write(server, ("UPDATE inventory_identity SET state = 'suspended' WHERE id = ?", (who,))))
    assert decide(server) == (False, ["remit:state"])


def test_an_owner_who_was_written_in_answers_for_nothing(server: Installation, tmp_path: Path) -> None:
    apply(server, tmp_path, OWNED)
    assert decide(server)[0]
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    add = "INSERT INTO governance_person VALUES ('eve', 'eve@example.test', ?, 1, 0, 'system:local-owner', NULL)"
    give = "UPDATE inventory_identity SET owner = 'person:eve'"
    drop = "DELETE FROM governance_person WHERE name <> 'eve'"
    restarted(server, lambda: write(server, (add, (key,)), (give, ()), (drop, ())))
    assert decide(server) == (False, ["remit:default-deny"])


def signed_by_eve(server: Installation, key: Ed25519PrivateKey, path: str, body: dict[str, Any]) -> str:
    """The header of a command that `eve` signs."""
    return encode_signed(
        sign_command(
            key.private_bytes_raw(), person="eve", method="POST", path=path, body=json.dumps(body).encode(),
            audience=server.admin.get("/api/v1/people/about")["instance"], now=datetime.now(UTC),
            nonce=secrets.token_urlsafe(18),
        )
    )  # fmt: skip


def test_a_person_whom_nobody_enrolled_signs_nothing(server: Installation) -> None:
    from test_server import over_admin, problem

    key = Ed25519PrivateKey.generate()
    row = "INSERT INTO governance_person VALUES ('eve', 'eve@example.test', ?, 1, 0, 'system:local-owner', NULL)"
    write(server, (row, (key.public_key().public_bytes_raw().hex(),)))
    path, body = "/api/v1/policies", {"text": WIDE}
    headers = {"remit-signature": signed_by_eve(server, key, path, body), "Content-Type": "application/json"}
    status, _, raw = over_admin(server, "POST", path, json.dumps(body).encode(), headers)
    assert (status, problem(raw)["code"]) == (400, "governance.signature.refused")


def test_emptying_the_register_makes_nobody_the_first_person_again(server: Installation) -> None:
    write(server, ("DELETE FROM governance_person", ()))
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    with pytest.raises(RemitError) as refused:
        server.admin.post("/api/v1/people", {"name": "eve", "email": "eve@example.test", "public_key": key})
    assert refused.value.code == "surface.person.required"


def test_policies_that_were_replaced_do_not_come_back_with_their_old_signature(
    server: Installation, tmp_path: Path
) -> None:
    old = apply(server, tmp_path, WIDE)
    apply(server, tmp_path, STRICT)
    drop = "DELETE FROM access_policy_version WHERE id <> ?"
    revive = "UPDATE access_policy_version SET state = 'active' WHERE id = ?"
    restarted(server, lambda: write(server, (drop, (old,)), (revive, (old,))))
    assert decide(server, "delete")[0] is False
    assert decide(server)[0] is False
    assert old in doctor(server)


@pytest.mark.parametrize(("table", "add", "remove"), [
    ("access_task", ("task", "add", "brief", "--", "/bin/true"), ("task", "rm", "brief")),
    ("trust_entry", ("entry", "create", "--spiffe-id", "spiffe://remit.local/w", "--selector", "unix:uid:4711"), None),
])  # fmt: skip
def test_what_was_removed_does_not_come_back_with_its_old_signature(
    server: Installation, table: str, add: tuple[str, ...], remove: tuple[str, ...] | None
) -> None:
    path = "/api/v1/tasks" if table == "access_task" else "/api/v1/entries"
    before = len(server.admin.get(path))
    server.cli(*add)
    with closing(sqlite3.connect(server.data / "remit.db")) as conn:
        row = conn.execute(f"SELECT * FROM {table} ORDER BY created DESC").fetchone()
    server.cli(*(remove or ("entry", "rm", row[0])))
    put_back = f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})"
    restarted(server, lambda: write(server, (put_back, row)))
    assert len(server.admin.get(path)) == before


@pytest.mark.parametrize(
    "tamper",
    [
        "DELETE FROM authority_journal WHERE serial = (SELECT max(serial) FROM authority_journal)",
        "DELETE FROM authority_journal WHERE serial = 1",
        "DELETE FROM authority_journal",
        "UPDATE authority_journal SET leaf = CAST(replace(CAST(leaf AS TEXT), 'trust.', 'trusT.') AS BLOB) WHERE serial = 2",
        "INSERT INTO authority_journal SELECT serial + 100, leaf, mac FROM authority_journal",
    ],
)
def test_a_journal_that_was_written_by_another_hand_stops_the_start(server: Installation, tamper: str) -> None:
    server.stop()
    write(server, (tamper, ()))
    said = server.cli("up", "--listen", "127.0.0.1:0", code=4)
    assert "storage.authority.broken" in said.stderr


def test_the_journal_survives_a_kill(server: Installation, tmp_path: Path) -> None:
    apply(server, tmp_path, STRICT)
    server.cli("quarantine", identity(server), "--reason", "it went rogue")
    server.stop(signal.SIGKILL)
    server.start()
    assert decide(server)[0] is False
