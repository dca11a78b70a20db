"""Path proof on a real PostgreSQL: an open path is found and cut, what remains is excepted, a certificate is issued.

1. `remit prove` lists who reaches the table without a decision, and how each way is closed.
2. `remit cut` names the statement; it is typed at the server, and the server is read again.
3. Two people except the account that the server runs as: nothing is open, and a certificate verifies offline.
4. The right comes back: the certificate is broken. The exception ends: the path is open again.
5. The server's own log shows a login that nobody decided: a bypass.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import Installation, installation
from postgres_stage import connect
from servers import LocalServer, postgres_server

CARDS = "postgres.public.cards"
SECRET = "kV7pQz3nWm8rTs5yXb2dLc9gHf4j"


@dataclass
class Scene:
    made: Installation
    server: LocalServer
    ben: Path

    def sql(self, *statements: str) -> None:
        async def run() -> None:
            admin = await connect(self.server.address(), self.server.password)
            try:
                for statement in statements:
                    await admin.execute(statement)
            finally:
                await admin.close()

        asyncio.run(run())

    def read(self) -> None:
        self.made.cli("discover", "postgres", "orders", code=None)

    def prove(self) -> dict[str, Any]:
        found: dict[str, Any] = self.made.admin.get("/api/v1/path-proof", resource=CARDS)
        return found

    def openings(self) -> dict[str, dict[str, Any]]:
        (verdict,) = self.prove()["verdicts"]
        return {each["title"]: each for each in verdict["openings"]}

    def certificate(self) -> dict[str, Any]:
        (found,) = self.made.admin.get("/api/v1/path-proof/certificates")
        return dict(found)

    def page(self, path: str) -> str:
        with self.made.http("GET", path, headers={"Cookie": self.made.sign_in()}) as answer:
            assert answer.status == 200
            return str(answer.read().decode())


@pytest.fixture
def scene() -> Iterator[Scene]:
    with postgres_server() as server, installation() as made:
        scene = Scene(made, server, made.root / "ben.json")
        scene.sql(
            "CREATE ROLE app_rw NOLOGIN",
            "CREATE TABLE cards (id int)",
            "GRANT SELECT ON cards TO app_rw",
            f"CREATE ROLE billing LOGIN PASSWORD '{SECRET}' IN ROLE app_rw",
        )
        made.cli("people", "enrol", "ana")
        seed = secrets.token_bytes(32)
        scene.ben.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
        scene.ben.chmod(0o600)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
        made.cli("people", "enrol", "ben", "--public-key", public)
        url = f"postgres://{server.user}@{server.host}:{server.port}/postgres"
        made.cli(
            "target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw", "--password-stdin",
            stdin=server.password,
        )  # fmt: skip
        scene.read()
        yield scene


def test_an_open_path_is_cut_the_rest_is_excepted_and_the_certificate_stands_until_something_changes(
    scene: Scene,
) -> None:
    made, file = scene.made, scene.made.root / "proof.json"

    # 1. What is open, and by which way; the console draws it.
    found = scene.openings()
    assert "billing" in found and scene.server.user not in found, "the target's own login only mints leases"
    assert {each["how"] for each in found["billing"]["close"]} == {"cut", "leases", "exception"}
    page = scene.page(f"/paths?resource={CARDS}")
    assert "billing" in page and "<svg" in page
    made.cli("prove", "--resource", CARDS, "--certificate", file, code=1)
    assert not file.exists()
    shown = made.json("paths", "billing", CARDS)
    assert shown["shortest"][0]["steps"] == 2 and shown["shortest"][0]["edges"][-1]["cut"].startswith("REVOKE")

    # 2. The cheapest cut, typed as it stands.
    cut = made.json("cut", "billing", CARDS)
    assert cut["possible"] and cut["cheapest"] and cut["stated"]
    scene.sql(*dict.fromkeys(each["cut"] for each in cut["edges"]))
    scene.read()
    rest = scene.openings()
    assert "billing" not in rest

    # 3. Whoever has the server's files has its data: that is excepted, by two people.
    for each in rest.values():
        made.cli(
            "exception", "request", "--control", "open-path", "--identity", each["identity"], "--action", "reach",
            "--resource", "urn:remit:postgres:*", "--reason", "the server runs as somebody", "--compensating",
            "nobody logs in as it", "--days", "3",
        )  # fmt: skip
    for asked in made.admin.get("/api/v1/exceptions"):
        made.cli("exception", "approve", asked["id"], REMIT_PERSON_KEY=str(scene.ben))
    assert made.json("prove", "--resource", CARDS, "--certificate", file)["closed"]
    assert "verified" in made.cli("prove", "verify", file).stderr
    assert scene.certificate()["holds"] and "holds" in made.cli("prove", "ls").stdout
    changed = file.read_text().replace('"excepted": 1', '"excepted": 0', 1)
    (made.root / "changed.json").write_text(changed)
    assert "governance.proof.mismatch" in made.cli("prove", "verify", made.root / "changed.json", code=2).stderr

    # 4. The right comes back, and goes; then the exception ends.
    scene.sql("GRANT SELECT ON cards TO billing")
    scene.read()
    assert "graph" in scene.certificate()["broken_by"][0]
    assert "billing" in scene.openings()
    scene.sql("REVOKE SELECT ON cards FROM billing")
    scene.read()
    assert scene.prove()["closed"]
    for each in made.admin.get("/api/v1/exceptions"):
        made.cli("exception", "revoke", each["id"], "--reason", "its time is over")
    assert scene.openings().keys() == rest.keys()
    assert any("exception" in each for each in scene.certificate()["broken_by"])
    made.cli("ledger", "verify")

    # 5. A login in the server's own log that nobody decided.
    log = made.root / "postgresql.csv"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.000 UTC")
    fields = [now, "ghost", "postgres", "7", "10.0.0.9:5000", "1.1", "1", "authentication", now, "1/1", "0", "LOG",
              "00000", "connection authorized: user=ghost database=postgres application_name=psql", "", "", "", "", "",
              "", "", "", "", "client backend", "", "0"]  # fmt: skip
    log.write_text(",".join(f'"{each}"' for each in fields) + "\n")
    place = f"instance={scene.server.host}:{scene.server.port}"
    made.cli("discover", "use", log, "--set", "kind=postgres-csv", "--set", place, code=None)
    seen = scene.prove()
    assert [each["name"].rpartition(":")[2] for each in seen["bypasses"]] == ["ghost"]
    assert any(each["rule"] == "proof.bypass" for each in made.json("findings", code=1))
    assert not any("no log of postgres" in each for each in seen["blind"])


ESTATE: dict[str, Any] = {
    "system": "cardhouse",
    "identities": [{"name": "gateway"}, {"name": "eve"}],
    "resources": [{"name": "cards", "kind": "table", "sensitivity": "restricted"}],
    "entitlements": [
        {"identity": "gateway", "resource": "cards", "actions": ["read"], "cut": "deny gateway"},
        {"identity": "eve", "becomes": "gateway", "relation": "assume", "cut": "untrust eve"},
    ],
}


def test_an_enforcement_point_is_bound_by_a_person_and_whoever_can_become_it_is_still_open() -> None:
    with installation() as made:
        file = made.root / "estate.json"

        def read(estate: dict[str, Any]) -> None:
            file.write_text(json.dumps(estate))
            made.cli("discover", "import", file, code=None)

        def openings() -> list[str]:
            found = made.admin.get("/api/v1/path-proof", **{"class": "restricted"})
            return [each["title"] for verdict in found["verdicts"] for each in verdict["openings"]]

        read(ESTATE)
        assert openings() == ["gateway", "eve"]
        made.cli("people", "enrol", "ana")
        made.cli("enforcer", "add", "gate", "--spiffe-id", "spiffe://remit.local/gate")
        gateway = next(each["id"] for each in made.json("ls") if each["title"] == "gateway")
        made.cli("prove", "bind", "gate", "--identity", gateway, "--resource", "cards", "--reason", "it asks first")
        assert openings() == ["eve"]
        assert [each["cut"] for each in made.json("cut", "--to", "cards")["edges"]] == ["untrust eve"]
        read({**ESTATE, "entitlements": ESTATE["entitlements"][:1]})
        made.cli("prove", "--resource-class", "restricted", "--certificate", made.root / "proof.json")
        made.stop()
        made.start()
        (binding,) = made.json("prove", "bindings")
        assert binding["counts"] and made.admin.get("/api/v1/path-proof/certificates")[0]["holds"], (
            "what was signed outlives a restart"
        )
        made.cli("enforcer", "rm", "gate")
        assert openings() == ["gateway"]
        assert not made.admin.get("/api/v1/path-proof/certificates")[0]["holds"]
        made.cli("prove", "unbind", binding["id"])
        assert made.json("prove", "bindings") == []
