"""What one person may not do alone: two people with their own keys, on one installation."""

from __future__ import annotations

import json
import secrets
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import Installation, installation, plant

GUARDED = """
@id("owner-required") @reason("somebody answers for it")
forbid (principal, action, resource)
unless { principal.owner_active || context.exceptions.contains("owner-required") };
@id("read") @reason("reading is fine")
permit (principal, action == Remit::Action::"read", resource);
"""


@dataclass
class Person:
    """Somebody at a terminal, with a key of their own."""

    installation: Installation
    key: Path

    def types(self, *args: str | Path, code: int = 0) -> str:
        """What a command says to this person."""
        done = self.installation.cli(*args, code=code, REMIT_PERSON_KEY=str(self.key))
        return done.stdout + done.stderr


@pytest.fixture
def people() -> Iterator[tuple[Person, Person]]:
    """Ana, who came first, and Ben, whom she enrolled; the estate has been read."""
    with installation() as made:
        made.cli("discover", "files", plant(made.root / "tree"))
        ana, ben = Person(made, made.root / "ana.json"), Person(made, made.root / "ben.json")
        ana.types("people", "enrol", "ana")
        seed = secrets.token_bytes(32)
        ben.key.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
        ben.key.chmod(0o600)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
        ana.types("people", "enrol", "ben", "--public-key", public)
        (made.root / "p.cedar").write_text(GUARDED)
        yield ana, ben


def identity(made: Installation) -> dict[str, Any]:
    return next(each for each in made.json("ls") if each["record"] == "identity" and "shop_app" in each["name"])


def allowed(made: Installation) -> bool:
    body = {"subject": {"type": "identity", "id": identity(made)["id"]}, "action": {"name": "read"},
            "resource": {"type": "thing", "id": "r"}}  # fmt: skip
    return bool(made.admin.post("/access/v1/evaluation", body)["decision"])


def in_force(ana: Person, ben: Person) -> None:
    """Put the policies in force, as two people do."""
    ana.types("policy", "apply", ana.installation.root / "p.cedar")
    version = next(word for word in ana.types("policy", "activate").split() if word.startswith("pv_"))
    ben.types("policy", "activate", version)


def test_who_stages_policies_does_not_put_them_in_force(people: tuple[Person, Person]) -> None:
    ana, ben = people
    assert "pv_" in ana.types("policy", "apply", ana.installation.root / "p.cedar")
    version = next(word for word in ana.types("policy", "activate").split() if word.startswith("pv_"))
    assert "everything is denied" in ana.types("policy", "show")
    assert "access.policy.same-person" in ana.types("policy", "activate", version, code=2)
    assert "in force" in ben.types("policy", "activate", version)
    assert "owner-required" in ana.types("policy", "show")


def test_a_row_that_says_that_nobody_else_is_there_lets_nobody_act_alone(people: tuple[Person, Person]) -> None:
    ana, _ = people
    with closing(sqlite3.connect(ana.installation.data / "remit.db", timeout=60)) as conn, conn:
        conn.execute("update governance_person set active = 0 where name = 'ben'")
    ana.types("policy", "apply", ana.installation.root / "p.cedar")
    assert "everything is denied" in ana.types("policy", "show")


def test_whoever_joins_makes_their_own_key_and_another_registers_it(people: tuple[Person, Person]) -> None:
    ana, _ = people
    cora = Person(ana.installation, ana.installation.root / "cora.json")
    told = cora.types("people", "enrol", "cora", "--email", "o'hara@example.org")
    [line] = [each for each in told.splitlines() if each.startswith("remit people enrol")]
    assert json.loads(cora.key.read_text())["seed"] not in told
    ana.types(*shlex.split(line)[1:])
    assert "in force" not in cora.types("policy", "apply", ana.installation.root / "p.cedar")


def test_an_exception_is_asked_for_by_one_and_approved_by_another(people: tuple[Person, Person]) -> None:
    ana, ben = people
    made = ana.installation
    in_force(ana, ben)
    assert not allowed(made)
    ana.types(
        "exception", "request", "--control", "owner-required", "--identity", identity(made)["id"], "--action", "read",
        "--resource", "thing/r", "--reason", "until Monday", "--compensating", "read only", "--days", "3",
    )  # fmt: skip
    (asked,) = made.json("exception", "ls")
    assert asked["status"] == "requested" and not allowed(made)
    assert "next" in ana.types("exception", "approve", asked["id"], code=1)
    assert not allowed(made)
    ben.types("exception", "approve", asked["id"])
    assert allowed(made)
    ana.types("exception", "revoke", asked["id"], "--reason", "the owner is back")
    assert not allowed(made)


def test_a_quarantined_identity_is_denied_until_a_person_releases_it(people: tuple[Person, Person]) -> None:
    ana, ben = people
    made = ana.installation
    in_force(ana, ben)
    one = identity(made)["id"]
    ana.types("claim", one)
    assert allowed(made)
    assert "nothing was changed" in ana.types("quarantine", one, "--dry-run")
    assert allowed(made)
    ana.types("quarantine", one, "--reason", "looks odd")
    assert not allowed(made)
    assert "quarantined" in made.cli("show", one).stdout
    assert made.json("ls", "--state", "quarantined")[0]["id"] == one
    ben.types("release", one, "--reason", "it was the deploy")
    assert allowed(made)
    told = {each["type"] for each in made.json("show", one)["timeline"]}
    assert len(told) >= 3


def test_a_stranger_with_a_key_is_nobody(people: tuple[Person, Person]) -> None:
    ana, _ = people
    made = ana.installation
    eve = Person(made, made.root / "eve.json")
    eve.key.write_text(json.dumps({"name": "ben", "seed": secrets.token_hex(32)}))
    eve.key.chmod(0o600)
    assert "governance.signature.refused" in eve.types("claim", identity(made)["id"], code=2)
    eve.key.chmod(0o644)
    assert "surface.person.key_mode" in eve.types("claim", identity(made)["id"], code=4)


def test_a_signed_command_cannot_be_sent_again(people: tuple[Person, Person]) -> None:
    from remit.kernel.errors import RemitError
    from remit.surface.cli.person import PersonKey, signed_headers

    ana, _ = people
    made = ana.installation
    about = made.admin.get("/api/v1/people/about")
    key = PersonKey(**json.loads(ana.key.read_text()))
    path = f"/api/v1/identities/{identity(made)['id']}/claim"
    headers = signed_headers(key, about["instance"], "POST", path, b"{}")
    admin = made.admin

    def send(target: str, body: bytes) -> int:
        import http.client
        import socket

        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(made.data / "admin.sock"))
        connection.request("POST", target, body=body, headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert send(path, b'{"x": 1}') == 400
    assert send(path.replace("/claim", "/owner"), b"{}") == 400
    assert send(path, b"{}") == 200
    assert send(path, b"{}") == 400
    with pytest.raises(RemitError):
        admin.post(path, {})


def test_who_is_not_registered_gets_a_key_and_the_line_that_registers_it() -> None:
    with installation() as made:
        ana, ben = Person(made, made.root / "ana.json"), Person(made, made.root / "ben.json")
        ana.types("people", "enrol", "ana")
        line = ben.types("people", "enrol", "ben", "--email", "ben@x.example").partition("\n")[0].split()
        assert line[:6] == ["remit", "people", "enrol", "ben", "--email", "ben@x.example"] and ben.key.exists()
        assert [each["name"] for each in made.json("people", "ls")] == ["ana"]
        ana.types(*line[1:])
        assert [each["name"] for each in made.json("people", "ls")] == ["ana", "ben"]
