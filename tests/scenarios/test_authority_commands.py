"""Authorities as an operator has them: the commands, who may give them, and a database that somebody writes into."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from installation import REMIT, Installation, installation
from remit.kernel.errors import RemitError


@pytest.fixture
def server() -> Iterator[Installation]:
    with installation() as made:
        yield made


@pytest.fixture(scope="module")
def asked() -> Iterator[Installation]:
    """An installation for tests that change nothing."""
    with installation() as made:
        yield made


def rows(server: Installation, **where: str) -> list[dict[str, Any]]:
    return [
        each for each in server.json("authority", "ls") if all(each[name] == value for name, value in where.items())
    ]


def one(server: Installation, **where: str) -> dict[str, Any]:
    (found,) = rows(server, **where)
    return found


def doctor(server: Installation) -> str:
    return "\n".join(line["detail"] for line in server.admin.get("/api/v1/doctor") if line["outcome"] == "fail")


def stored(server: Installation, authority: str) -> sqlite3.Row:
    with closing(sqlite3.connect(server.data / "remit.db", timeout=60)) as conn:
        conn.row_factory = sqlite3.Row
        return conn.execute("SELECT * FROM trust_authority WHERE id = ?", (authority,)).fetchone()  # type: ignore[no-any-return]


def put_back(server: Installation, row: sqlite3.Row) -> None:
    """What an intruder does who kept a copy of a row: state, signature and sealed key as they were."""
    names = row.keys()
    with closing(sqlite3.connect(server.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute("DELETE FROM trust_authority WHERE id = ?", (row["id"],))
        columns, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" for _ in names)
        conn.execute(f"INSERT INTO trust_authority ({columns}) VALUES ({marks})", tuple(row))


def test_an_authority_goes_through_its_life_by_command(server: Installation) -> None:
    first = one(server, kind="x509", state="active")["id"]
    server.cli("authority", "prepare", "x509")
    prepared = one(server, kind="x509", state="prepared")["id"]
    server.cli("authority", "activate", prepared)
    assert one(server, kind="x509", state="active")["id"] == prepared
    server.cli("authority", "taint", first)
    server.cli("authority", "revoke", first)
    assert one(server, id=first)["state"] == "revoked"
    for kind in ("jwt", "token"):
        server.cli("authority", "rotate", kind)
        assert len(rows(server, kind=kind, state="old")) == 1


def test_a_step_is_in_the_ledger_with_the_person_who_took_it_and_their_own_signature(server: Installation) -> None:
    server.cli("authority", "rotate")
    entries = server.admin.get("/api/v1/ledger/entries", type="trust.authority.activated", limit=1)
    assert entries[0]["actor"].startswith("person:")
    (signed,) = server.admin.get("/api/v1/ledger/entries", type="governance.approval.signed")
    assert signed["actor"] == entries[0]["actor"]


@pytest.mark.parametrize("path", ["x509/rotate", "{active}/activate", "{active}/taint", "{active}/revoke"])
def test_a_step_that_changes_what_is_signed_needs_a_person(asked: Installation, path: str) -> None:
    active = one(asked, kind="x509", state="active")["id"]
    with pytest.raises(RemitError) as refused:
        asked.admin.post(f"/api/v1/authorities/{path.format(active=active)}", {})
    assert refused.value.code == "surface.person.required"


def test_who_allows_an_intermediate_is_a_person(asked: Installation) -> None:
    with pytest.raises(RemitError) as refused:
        asked.admin.post("/api/v1/downstreams", {"spiffe_id": "spiffe://remit.local/below"})
    assert refused.value.code == "surface.person.required"


def test_a_dry_run_says_how_much_hangs_on_an_authority_and_changes_nothing(asked: Installation) -> None:
    before = rows(asked)
    active = one(asked, kind="x509", state="active")
    for step in ("x509/rotate", f"{active['id']}/revoke", f"{active['id']}/taint", "jwt/prepare"):
        found = asked.admin.post(f"/api/v1/authorities/{step}", {"dry_run": True})
        assert found["dry_run"] and found["would"]
    assert asked.json("authority", "revoke", active["id"], "--dry-run")["unexpired"] == active["unexpired"] >= 1
    assert rows(asked) == before


def test_svids_that_hang_on_an_authority_are_counted(server: Installation) -> None:
    server.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/job", "--selector", f"unix:uid:{os.getuid()}")
    active = one(server, kind="x509", state="active")
    server.cli("svid", "fetch")
    assert one(server, id=active["id"])["unexpired"] == active["unexpired"] + 1


@pytest.mark.parametrize("step", ["revoke", "taint", "activate"])
def test_the_one_that_signs_cannot_be_given_up(asked: Installation, step: str) -> None:
    active = one(asked, kind="x509", state="active")["id"]
    assert asked.cli("authority", step, active, code=2).stderr.count("trust.authority.") == 1


def test_an_unknown_authority_or_kind_is_told(asked: Installation) -> None:
    assert "trust.authority.unknown" in asked.cli("authority", "revoke", "au_none", code=None).stderr
    with pytest.raises(RemitError) as refused:
        asked.admin.post("/api/v1/authorities/x400/prepare", {})
    assert refused.value.code == "trust.authority.kind"


@pytest.mark.parametrize("end", ["revoke", "taint"])
def test_an_ended_authority_does_not_come_back_with_its_old_signature(server: Installation, end: str) -> None:
    first = one(server, kind="x509", state="active")["id"]
    kept = stored(server, first)
    server.cli("authority", "rotate")
    second = one(server, kind="x509", state="active")["id"]
    server.cli("authority", end, first)
    server.stop()
    put_back(server, kept)
    server.start()
    assert one(server, kind="x509", state="active")["id"] == second
    assert [each["id"] for each in rows(server, kind="x509")] == [second]
    assert first in doctor(server)


def test_an_authority_put_back_as_the_only_one_signs_nothing(server: Installation) -> None:
    first = one(server, kind="x509", state="active")["id"]
    kept = stored(server, first)
    server.cli("authority", "rotate")
    second = one(server, kind="x509", state="active")["id"]
    server.cli("authority", "revoke", first)
    server.stop()
    put_back(server, kept)
    with closing(sqlite3.connect(server.data / "remit.db")) as conn, conn:
        conn.execute("DELETE FROM trust_authority WHERE id = ?", (second,))
    with pytest.raises(AssertionError, match=r"trust\.authority\.forged"):
        server.start()


def test_a_key_that_somebody_deleted_is_replaced_and_told_in_the_ledger(server: Installation) -> None:
    first = one(server, kind="x509", state="active")["id"]
    server.stop()
    with closing(sqlite3.connect(server.data / "remit.db")) as conn, conn:
        conn.execute("UPDATE trust_authority SET sealed = NULL WHERE id = ?", (first,))
    server.start()
    assert one(server, kind="x509", state="active")["id"] != first
    assert len(server.admin.get("/api/v1/ledger/entries", type="trust.authority.lost")) == 1


def test_a_downstream_that_was_withdrawn_does_not_come_back(server: Installation) -> None:
    server.cli("downstream", "add", "spiffe://remit.local/below")
    (allowed,) = server.json("downstream", "ls")
    with closing(sqlite3.connect(server.data / "remit.db", timeout=60)) as conn:
        kept = conn.execute("SELECT * FROM trust_downstream").fetchone()
    server.cli("downstream", "rm", allowed["id"])
    assert server.json("downstream", "ls") == []
    with closing(sqlite3.connect(server.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute(f"INSERT INTO trust_downstream VALUES ({', '.join('?' for _ in kept)})", kept)
    assert server.json("downstream", "ls") == []


def test_keys_rotate_with_a_server_and_without_one_and_everything_still_opens(server: Installation) -> None:
    signing = one(server, kind="x509", state="active")["id"]
    kek = (server.data / "keys" / "kek").read_bytes()
    first = server.json("keys", "rotate")
    server.stop()
    second = server.json("keys", "rotate")
    assert (server.data / "keys" / "kek").read_bytes() != kek
    assert (first["unreadable"], second["unreadable"], second["data_keys"]) == (0, 0, first["data_keys"] + 1)
    server.start()
    server.cli("authority", "rotate")
    assert one(server, id=signing)["state"] == "old"
    assert len(server.admin.get("/api/v1/ledger/entries", type="storage.key.rotated")) == 2
    server.cli("ledger", "verify")


def test_keys_are_not_rotated_beside_a_server_that_cannot_be_asked(server: Installation) -> None:
    assert server.process is not None
    (server.data / "admin.sock").unlink()
    assert "storage.datadir.locked" in server.cli("keys", "rotate", code=3).stderr


def test_a_server_killed_in_a_rotation_of_keys_starts_again(server: Installation) -> None:
    for wait in (0.0, 0.05):
        beside = subprocess.Popen(
            [*REMIT, "keys", "rotate"], env=server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = 200
            while not (server.data / "keys" / "kek.next").exists() and beside.poll() is None and deadline:
                deadline -= 1
                time.sleep(0.02)
            time.sleep(wait)
            server.stop(signal.SIGKILL)
        finally:
            beside.wait(60)
        server.start()
        assert one(server, kind="x509", state="active")
